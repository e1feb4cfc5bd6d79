// Kernels along axes: reductions, softmax, normalisations, pooling. Sums are held in double.
#include <cmath>
#include <cstring>

#include "tandem/exec/kernels.h"
#include "tandem/exec/vector_math.h"
#include "tandem/ir/ops/common.h"

namespace tandem::exec {
namespace {

using namespace ir;
constexpr std::int64_t kGrain = 1 << 14;
std::int64_t grain_of(std::int64_t work) { return std::max<std::int64_t>(1, kGrain / std::max<std::int64_t>(work, 1)); }

struct Moments { double mean, variance; };
// Eight running sums, so that the additions overlap.
TANDEM_WIDEST double sum_of(const float* x, std::int64_t n) {
  double s[8] = {};
  std::int64_t i = 0;
  for (; i + 8 <= n; i += 8)
    for (int k = 0; k < 8; ++k) s[k] += static_cast<double>(x[i + k]);
  double r = ((s[0] + s[1]) + (s[2] + s[3])) + ((s[4] + s[5]) + (s[6] + s[7]));
  for (; i < n; ++i) r += static_cast<double>(x[i]);
  return r;
}
TANDEM_WIDEST double squares_of(const float* x, std::int64_t n, double mean) {
  double s[8] = {};
  std::int64_t i = 0;
  for (; i + 8 <= n; i += 8)
    for (int k = 0; k < 8; ++k) {
      const double d = static_cast<double>(x[i + k]) - mean;
      s[k] += d * d;
    }
  double r = ((s[0] + s[1]) + (s[2] + s[3])) + ((s[4] + s[5]) + (s[6] + s[7]));
  for (; i < n; ++i) r += (static_cast<double>(x[i]) - mean) * (static_cast<double>(x[i]) - mean);
  return r;
}
Moments moments(const float* x, std::int64_t n) {
  const double mean = sum_of(x, n) / static_cast<double>(n);
  return {mean, squares_of(x, n, mean) / static_cast<double>(n)};
}

// The reduced axes are neighbours: [outer, n, inner].
struct Span { std::int64_t outer = 1, n = 1, inner = 1; };
std::optional<Span> span_of(const Shape& s, const std::vector<bool>& over) {
  Span r;
  int phase = 0;
  for (std::size_t d = 0; d < s.size(); ++d) {
    if (s[d] == 1) continue;
    if (over[d]) {
      if (phase == 2) return {};
      phase = 1, r.n *= s[d];
    } else {
      if (phase == 1) phase = 2;
      (phase == 0 ? r.outer : r.inner) *= s[d];
    }
  }
  return r;
}
Span around(const Shape& s, std::int64_t axis) {
  Span r;
  for (std::size_t d = 0; d < s.size(); ++d) (static_cast<std::int64_t>(d) < axis ? r.outer : static_cast<std::int64_t>(d) == axis ? r.n : r.inner) *= s[d];
  return r;
}

struct Fold {
  const char* op;
  double start;
  double (*join)(double, float);
  double (*finish)(double, double);
};
double keep(double v, double) { return v; }
const Fold kFolds[] = {
    {"ReduceSum", 0, nullptr, keep},
    {"ReduceMean", 0, nullptr, [](double v, double n) { return v / n; }},
    {"ReduceMax", -INFINITY, [](double a, float b) { return std::isnan(a) || a > b ? a : b; }, keep},
    {"ReduceMin", INFINITY, [](double a, float b) { return std::isnan(a) || a < b ? a : b; }, keep},
    {"ReduceProd", 1, [](double a, float b) { return a * b; }, keep},
    {"ReduceL1", 0, [](double a, float b) { return a + std::abs(b); }, keep},
    {"ReduceL2", 0, [](double a, float b) { return a + static_cast<double>(b) * b; }, [](double v, double) { return std::sqrt(v); }},
    {"ReduceSumSquare", 0, [](double a, float b) { return a + static_cast<double>(b) * b; }, keep},
    {"ReduceLogSum", 0, nullptr, [](double v, double) { return std::log(v); }},
};

std::optional<Kernel> fold(const NodeView& v, const Fold& f) {
  std::vector<std::int64_t> axes = v.node.attr_ints("axes", {});
  if (v.has(1)) {
    if (!v.constant[1]) return {};
    axes = int_list(*v.constant[1]);
  }
  const std::size_t rank = v.in[0].size();
  std::vector<bool> over(rank, axes.empty() && v.node.attr_int("noop_with_empty_axes", 0) == 0);
  for (std::int64_t a : axes) over[static_cast<std::size_t>(normal_axis(a, static_cast<std::int64_t>(rank), v.graph, v.node))] = true;
  const auto span = span_of(v.in[0], over);
  if (!span) return {};
  Kernel k;
  k.run = [s = *span, f, threads = v.threads](const void* const* in, void* const* out, std::byte*) {
    const auto* x = static_cast<const float*>(in[0]);
    auto* y = static_cast<float*>(out[0]);
    const auto n = static_cast<double>(s.n);
    if (s.inner == 1) {
      ranges(threads, s.outer, grain_of(s.n), [&](std::int64_t from, std::int64_t to) {
        for (std::int64_t o = from; o < to; ++o) {
          const float* row = x + o * s.n;
          double acc = f.start;
          if (!f.join) acc = sum_of(row, s.n);
          else
            for (std::int64_t i = 0; i < s.n; ++i) acc = f.join(acc, row[i]);
          y[o] = static_cast<float>(f.finish(acc, n));
        }
      });
      return;
    }
    // Columns a block at a time.
    constexpr std::int64_t block = 64;
    const std::int64_t blocks = (s.inner + block - 1) / block;
    ranges(threads, s.outer * blocks, grain_of(s.n * block), [&](std::int64_t from, std::int64_t to) {
      for (std::int64_t t = from; t < to; ++t) {
        const std::int64_t o = t / blocks, at = t % blocks * block, width = std::min(block, s.inner - at);
        double acc[block];
        std::fill(acc, acc + width, f.start);
        for (std::int64_t i = 0; i < s.n; ++i) {
          const float* row = x + (o * s.n + i) * s.inner + at;
          if (!f.join)
            for (std::int64_t c = 0; c < width; ++c) acc[c] += static_cast<double>(row[c]);
          else
            for (std::int64_t c = 0; c < width; ++c) acc[c] = f.join(acc[c], row[c]);
        }
        for (std::int64_t c = 0; c < width; ++c) y[o * s.inner + at + c] = static_cast<float>(f.finish(acc[c], n));
      }
    });
  };
  return k;
}

// ---- softmax ----------------------------------------------------------------------------------------
using RowFn = void (*)(float*, std::int64_t);
TANDEM_WIDEST void exp_row(const float* x, float* y, std::int64_t n, float m) {
  for (std::int64_t i = 0; i < n; ++i) y[i] = exp_(x[i] - m);
}
void softmax_row(float* v, std::int64_t n) {
  if (n == 0) return;
  const float m = *std::max_element(v, v + n);
  exp_row(v, v, n, m);
  const auto f = static_cast<float>(1 / sum_of(v, n));
  for (std::int64_t i = 0; i < n; ++i) v[i] *= f;
}
void log_softmax_row(float* v, std::int64_t n) {
  if (n == 0) return;
  const float m = *std::max_element(v, v + n);
  double sum = 0;
  for (std::int64_t i = 0; i < n; ++i) sum += static_cast<double>(std::exp(v[i] - m));
  const double l = std::log(sum);
  for (std::int64_t i = 0; i < n; ++i) v[i] = static_cast<float>(static_cast<double>(v[i] - m) - l);
}
Kernel rows_along(const NodeView& v, RowFn f) {
  const Span s = around(v.in[0], normal_axis(v.node.attr_int("axis", -1), static_cast<std::int64_t>(v.in[0].size()), v.graph, v.node));
  Kernel k;
  k.in_place = true;
  const std::int64_t lanes = s.outer * s.inner, grain = grain_of(s.n * 8), parts = lanes / std::max<std::int64_t>(grain, 1) + 1;
  if (s.inner > 1) k.scratch = static_cast<std::size_t>(parts * s.n) * sizeof(float);
  k.run = [=, threads = v.threads](const void* const* in, void* const* out, std::byte* scratch) {
    const auto* x = static_cast<const float*>(in[0]);
    auto* y = static_cast<float*>(out[0]);
    ranges(threads, lanes, grain, [&](std::int64_t from, std::int64_t to) {
      for (std::int64_t l = from; l < to; ++l) {
        if (s.inner == 1) {
          if (y != x) std::memcpy(y + l * s.n, x + l * s.n, static_cast<std::size_t>(s.n) * sizeof(float));
          f(y + l * s.n, s.n);
          continue;
        }
        float* row = reinterpret_cast<float*>(scratch) + from / grain * s.n;
        const std::int64_t at = l / s.inner * s.n * s.inner + l % s.inner;
        for (std::int64_t i = 0; i < s.n; ++i) row[i] = x[at + i * s.inner];
        f(row, s.n);
        for (std::int64_t i = 0; i < s.n; ++i) y[at + i * s.inner] = row[i];
      }
    });
  };
  return k;
}

// ---- normalisations: groups of neighbouring elements ----------------------------------------------------
std::optional<Kernel> normalisation(const NodeView& v) {
  const std::string& op = v.node.op;
  const Shape& x = v.in[0];
  const double epsilon = v.node.attr_float("epsilon", 1e-5);
  const std::int64_t size = element_count(x);
  std::int64_t group = 1;   // elements of one group of statistics
  std::int64_t inner = 1;   // neighbouring elements with one parameter
  std::int64_t count = 1;   // parameters
  if (op == "LayerNormalization" || op == "RMSNormalization") {
    if (v.has_out(1) || v.has_out(2)) return {};
    const std::int64_t axis = normal_axis(v.node.attr_int("axis", -1), static_cast<std::int64_t>(x.size()), v.graph, v.node);
    group = count = element_count(Shape(x.begin() + axis, x.end()));
    if (element_count(v.in[1]) != count || (v.has(2) && element_count(v.in[2]) != count)) return {};
  } else {
    if (x.size() < 3) return {};
    inner = element_count(Shape(x.begin() + 2, x.end()));
    count = x[1];
    const std::int64_t groups = op == "InstanceNormalization" ? count : v.node.attr_int("num_groups", 1);
    if (element_count(v.in[1]) != count || element_count(v.in[2]) != count || groups < 1) return {};
    group = count / groups * inner;
  }
  if (group == 0) return {};
  Kernel k;
  k.in_place = true;
  k.run = [=, rms = op == "RMSNormalization", biased = v.has(2), threads = v.threads](const void* const* in, void* const* out, std::byte*) {
    const auto *scale = static_cast<const float*>(in[1]), *bias = biased ? static_cast<const float*>(in[2]) : nullptr;
    ranges(threads, size / group, grain_of(group), [&](std::int64_t from, std::int64_t to) {
      for (std::int64_t g = from; g < to; ++g) {
        const float* p = static_cast<const float*>(in[0]) + g * group;
        float* q = static_cast<float*>(out[0]) + g * group;
        const Moments m = rms ? Moments{0, squares_of(p, group, 0) / static_cast<double>(group)} : moments(p, group);
        const auto mean = static_cast<float>(m.mean), factor = static_cast<float>(1 / std::sqrt(m.variance + epsilon));
        if (inner == 1) {
          const float* s = scale + g * group % count;
          const float* b = bias ? bias + g * group % count : nullptr;
          if (b)
            for (std::int64_t i = 0; i < group; ++i) q[i] = (p[i] - mean) * factor * s[i] + b[i];
          else
            for (std::int64_t i = 0; i < group; ++i) q[i] = (p[i] - mean) * factor * s[i];
          continue;
        }
        for (std::int64_t at = 0; at < group; at += inner) {
          const std::int64_t c = (g * group + at) / inner % count;
          const float s = factor * scale[c], b = bias[c];
          for (std::int64_t i = at; i < at + inner; ++i) q[i] = (p[i] - mean) * s + b;
        }
      }
    });
  };
  return k;
}

// LRN: squares of neighbouring channels.
TANDEM_WIDEST void square_row(const float* x, double* y, std::int64_t n) {
  for (std::int64_t i = 0; i < n; ++i) y[i] += static_cast<double>(x[i]) * static_cast<double>(x[i]);
}
std::optional<Kernel> response(const NodeView& v) {
  const Shape& x = v.in[0];
  if (x.size() < 2) return {};
  const std::int64_t channels = x[1], inner = element_count(Shape(x.begin() + 2, x.end())), size = v.node.attr_int("size", 1);
  const double alpha = v.node.attr_float("alpha", 1e-4) / static_cast<double>(size), beta = v.node.attr_float("beta", 0.75), bias = v.node.attr_float("bias", 1);
  constexpr std::int64_t block = 256;
  const std::int64_t blocks = (inner + block - 1) / block, before = (size - 1) / 2, after = size / 2;
  Kernel k;
  k.run = [=, threads = v.threads](const void* const* in, void* const* out, std::byte*) {
    ranges(threads, x[0] * blocks, grain_of(channels * block), [&](std::int64_t from, std::int64_t to) {
      for (std::int64_t t = from; t < to; ++t) {
        const std::int64_t at = t / blocks * channels * inner + t % blocks * block, width = std::min(block, inner - t % blocks * block);
        const float* p = static_cast<const float*>(in[0]) + at;
        float* q = static_cast<float*>(out[0]) + at;
        double sum[block];
        for (std::int64_t c = 0; c < channels; ++c) {
          std::fill(sum, sum + width, 0.0);  // summed anew: what is taken off again would leave its rounding
          for (std::int64_t j = std::max<std::int64_t>(0, c - before); j <= std::min(channels - 1, c + after); ++j) square_row(p + j * inner, sum, width);
          for (std::int64_t i = 0; i < width; ++i) {
            const double s = bias + alpha * sum[i];
            // x^-3/4 is the usual one: two square roots.
            const double f = beta == 0.75 ? 1 / (std::sqrt(s) * std::sqrt(std::sqrt(s))) : std::pow(s, -beta);
            q[c * inner + i] = static_cast<float>(static_cast<double>(p[c * inner + i]) * f);
          }
        }
      }
    });
  };
  return k;
}

// ---- pooling ----------------------------------------------------------------------------------------
std::optional<Kernel> pool(const NodeView& v) {
  const std::string& op = v.node.op;
  const bool global = op.starts_with("Global"), largest = op.ends_with("MaxPool");
  if (v.has_out(1) || v.in[0].size() < 3) return {};
  const Shape in = spatial(v.in[0]);
  const std::int64_t size = element_count(in), channels = v.in[0][0] * v.in[0][1];
  if (size == 0) return {};
  Kernel k;
  if (global) {
    k.run = [=, threads = v.threads](const void* const* i, void* const* o, std::byte*) {
      const auto* x = static_cast<const float*>(i[0]);
      auto* y = static_cast<float*>(o[0]);
      ranges(threads, channels, grain_of(size), [&](std::int64_t from, std::int64_t to) {
        for (std::int64_t c = from; c < to; ++c)
          y[c] = largest ? *std::max_element(x + c * size, x + (c + 1) * size) : static_cast<float>(sum_of(x + c * size, size) / static_cast<double>(size));
      });
    };
    return k;
  }
  const Windows w = windows_of(v.graph, v.node, in, v.node.attr_ints("kernel_shape", {}));
  // For each position the elements of its window, and over how many the mean is taken.
  std::vector<std::int32_t> taps, first;
  std::vector<float> share;
  const std::int64_t window = element_count(w.kernel), positions = element_count(spatial(v.out[0]));
  if (size > INT32_MAX || positions * window > INT32_MAX) return {};
  const std::vector<std::int64_t> all = w.taps(in), counts = largest ? std::vector<std::int64_t>() : window_counts(v.graph, v.node, w, in);
  for (std::int64_t p = 0; p < positions; ++p) {
    first.push_back(static_cast<std::int32_t>(taps.size()));
    for (std::int64_t t = p * window; t < (p + 1) * window; ++t)
      if (all[static_cast<std::size_t>(t)] >= 0) taps.push_back(static_cast<std::int32_t>(all[static_cast<std::size_t>(t)]));
    if (largest && first.back() == static_cast<std::int32_t>(taps.size())) return {};  // refused by the reference evaluator
    if (!largest) share.push_back(static_cast<float>(counts[static_cast<std::size_t>(p) % counts.size()]));
  }
  first.push_back(static_cast<std::int32_t>(taps.size()));
  k.held = (taps.size() + first.size() + share.size()) * 4;
  k.run = [=, taps = std::move(taps), first = std::move(first), share = std::move(share), threads = v.threads](const void* const* i, void* const* o, std::byte*) {
    ranges(threads, channels, grain_of(positions * window), [&](std::int64_t from, std::int64_t to) {
      for (std::int64_t c = from; c < to; ++c) {
        const float* x = static_cast<const float*>(i[0]) + c * size;
        float* y = static_cast<float*>(o[0]) + c * positions;
        for (std::int64_t p = 0; p < positions; ++p) {
          const std::int32_t *t = taps.data() + first[static_cast<std::size_t>(p)], *end = taps.data() + first[static_cast<std::size_t>(p) + 1];
          if (largest) {
            float best = x[*t];
            for (++t; t < end; ++t) best = x[*t] > best ? x[*t] : best;
            y[p] = best;
          } else {
            float sum = 0;
            for (; t < end; ++t) sum += x[*t];
            y[p] = sum / share[static_cast<std::size_t>(p)];
          }
        }
      }
    });
  };
  return k;
}

}  // namespace

std::optional<PoolSpec> pool_spec(const NodeView& v) {
  const std::string& op = v.node.op;
  if (!v.node.domain.empty() || v.in_type.empty() || v.in_type[0] != DType::f32 || v.has_out(1) || v.in[0].size() < 3 || v.in[0].size() > 5) return {};
  if (element_count(v.in[0]) == 0) return {};
  PoolSpec s;
  s.x = v.in[0], s.y = v.out[0];
  const Shape in = spatial(v.in[0]);
  if (op == "GlobalAveragePool" || op == "GlobalMaxPool") {
    s.kernel = in, s.stride = Shape(in.size(), 1), s.before = s.after = Shape(in.size(), 0);
    s.kind = op == "GlobalMaxPool" ? PoolSpec::max : PoolSpec::mean_inside;
    return s;
  }
  if (op != "MaxPool" && op != "AveragePool") return {};
  const Windows w = windows_of(v.graph, v.node, in, v.node.attr_ints("kernel_shape", {}));
  for (std::size_t d = 0; d < in.size(); ++d)
    if (w.dilation[d] != 1 || w.before[d] >= w.kernel[d] || w.after[d] >= w.kernel[d]) return {};
  s.kernel = w.kernel, s.stride = w.stride, s.before = w.before, s.after = w.after;
  if (op == "AveragePool") {
    const bool all = v.node.attr_int("count_include_pad", 0) != 0;
    if (all && v.node.attr_int("ceil_mode", 0)) return {};  // padding that ceil_mode adds does not count
    s.kind = all ? PoolSpec::mean_all : PoolSpec::mean_inside;
  }
  return s;
}

std::optional<Kernel> reduction_kernel(const NodeView& v) {
  const Node& n = v.node;
  if (!n.domain.empty() || v.in_type.empty() || v.in_type[0] != DType::f32 || v.out_type[0] != DType::f32) return {};
  if (element_count(v.in[0]) == 0 || element_count(v.out[0]) == 0) return {};
  if (n.op == "Softmax") return rows_along(v, softmax_row);
  if (n.op == "LogSoftmax") return rows_along(v, log_softmax_row);
  if (n.op == "LayerNormalization" || n.op == "RMSNormalization" || n.op == "InstanceNormalization" || n.op == "GroupNormalization") return normalisation(v);
  if (n.op == "LRN") return response(v);
  if (n.op == "MaxPool" || n.op == "AveragePool" || n.op == "GlobalAveragePool" || n.op == "GlobalMaxPool") return pool(v);
  for (const Fold& f : kFolds)
    if (n.op == f.op) return fold(v, f);
  return {};
}

}  // namespace tandem::exec
