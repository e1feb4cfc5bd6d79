// Convolutions and matrix products in f32, without a library: one micro-kernel of six rows by thirty-two columns.
#include <cstring>

#include "tandem/exec/kernels.h"
#include "tandem/ir/ops/common.h"

namespace tandem::exec {
namespace {

using namespace ir;
constexpr std::int64_t kRows = 6, kColumns = 32;
typedef float Vector __attribute__((vector_size(64), aligned(4)));

// c[rows, 0..width) = a[rows, k] * panel[k, 32] (+ what c holds); a's elements lie `row` and `step` apart.
TANDEM_WIDEST void micro(const float* a, std::int64_t row, std::int64_t step, std::int64_t rows, const float* panel, std::int64_t k, float* c, std::int64_t ldc, std::int64_t width, bool add) {
  const float* p[kRows];
  for (std::int64_t r = 0; r < kRows; ++r) p[r] = a + std::min(r, rows - 1) * row;
  Vector s[kRows][2] = {};
  for (std::int64_t i = 0; i < k; ++i, panel += kColumns) {
    const Vector x = *reinterpret_cast<const Vector*>(panel), y = *reinterpret_cast<const Vector*>(panel + 16);
#pragma GCC unroll 6
    for (int r = 0; r < kRows; ++r) {
      const float v = p[r][i * step];
      s[r][0] += v * x, s[r][1] += v * y;
    }
  }
  for (std::int64_t r = 0; r < rows; ++r) {
    float t[kColumns];
    *reinterpret_cast<Vector*>(t) = s[r][0], *reinterpret_cast<Vector*>(t + 16) = s[r][1];
    float* to = c + r * ldc;
    if (add)
      for (std::int64_t j = 0; j < width; ++j) to[j] += t[j];
    else
      std::memcpy(to, t, static_cast<std::size_t>(width) * sizeof(float));
  }
}
void panel_times(const float* a, std::int64_t row, std::int64_t step, std::int64_t n, const float* panel, std::int64_t k, float* c, std::int64_t ldc, std::int64_t width, bool add) {
  for (std::int64_t r = 0; r < n; r += kRows) micro(a + r * row, row, step, std::min(kRows, n - r), panel, k, c + r * ldc, ldc, width, add);
}

std::int64_t panels(std::int64_t m) { return (m + kColumns - 1) / kColumns; }
// Columns [32 p, 32 p + 32) of b[k, m], whose elements lie `row` and `step` apart; zeros behind the last.
void pack(const float* b, std::int64_t row, std::int64_t step, std::int64_t k, std::int64_t m, std::int64_t p, float* to) {
  const std::int64_t at = p * kColumns, width = std::min(kColumns, m - at);
  for (std::int64_t i = 0; i < k; ++i, to += kColumns) {
    for (std::int64_t j = 0; j < width; ++j) to[j] = b[i * row + (at + j) * step];
    for (std::int64_t j = width; j < kColumns; ++j) to[j] = 0;
  }
}

// ---- convolution --------------------------------------------------------------------------------------
// As Windows::taps, in half the memory, and shared by what copies the kernel.
std::shared_ptr<const std::vector<std::int32_t>> small_taps(const ConvolutionSpec& s, const Shape& in, const Shape& kernel) {
  const Shape out = Windows{kernel, s.stride, s.dilation, s.before, s.after}.out(in);
  const std::int64_t positions = element_count(out), window = element_count(kernel);
  auto t = std::make_shared<std::vector<std::int32_t>>(static_cast<std::size_t>(positions * window));
  std::int32_t* to = t->data();
  for (std::int64_t p = 0; p < positions; ++p)
    for (std::int64_t k = 0; k < window; ++k) {
      std::int64_t at = 0, stride = 1, rp = p, rk = k;
      for (std::size_t d = in.size(); d-- > 0 && at >= 0; stride *= in[d]) {
        const std::int64_t x = rp % out[d] * s.stride[d] - s.before[d] + rk % kernel[d] * s.dilation[d];
        rp /= out[d], rk /= kernel[d];
        at = x < 0 || x >= in[d] ? -1 : at + x * stride;
      }
      *to++ = static_cast<std::int32_t>(at);
    }
  return t;
}

Kernel convolution(const ConvolutionSpec& s, const std::vector<const Tensor*>& constant, int threads) {
  const Shape in = spatial(s.x), kernel = spatial(s.w);
  const std::int64_t N = s.x[0], C = s.x[1], O = s.y[1], Cg = C / s.group, Og = O / s.group;
  const std::int64_t size = element_count(in), positions = element_count(spatial(s.y)), window = element_count(kernel), K = Cg * window;
  Kernel k;
  const auto taps = small_taps(s, in, kernel);
  k.held = taps->size() * 4;
  const Tensor weights = *constant[1], bias = s.bias ? *constant[2] : Tensor();
  if (Cg == 1 && Og == 1) {  // depthwise
    k.run = [=](const void* const* i, void* const* o, std::byte*) {
      ranges(threads, N * C, 1, [&](std::int64_t from, std::int64_t to) {
        for (std::int64_t c = from; c < to; ++c) {
          const float *x = static_cast<const float*>(i[0]) + c * size, *w = weights.data<float>() + c % C * window;
          float* y = static_cast<float*>(o[0]) + c * positions;
          const std::int32_t* t = taps->data();
          const float b = bias.size() ? bias.data<float>()[c % C] : 0;
          for (std::int64_t p = 0; p < positions; ++p) {
            float sum = b;
            for (std::int64_t q = 0; q < window; ++q, ++t)
              if (*t >= 0) sum += x[*t] * w[q];
            y[p] = sum;
          }
        }
      });
    };
    return k;
  }
  const std::int64_t blocks = panels(positions), jobs = N * s.group * blocks;
  k.scratch = static_cast<std::size_t>((threads == 1 ? 1 : jobs) * K * kColumns) * sizeof(float);
  k.run = [=](const void* const* i, void* const* o, std::byte* scratch) {
    ranges(threads, jobs, 1, [&](std::int64_t from, std::int64_t to) {
      float* panel = reinterpret_cast<float*>(scratch) + (threads == 1 ? 0 : from * K * kColumns);
      for (std::int64_t job = from; job < to; ++job) {
        const std::int64_t n = job / (s.group * blocks), g = job / blocks % s.group, at = job % blocks * kColumns, width = std::min(kColumns, positions - at);
        const float* x = static_cast<const float*>(i[0]) + (n * C + g * Cg) * size;
        float* q = panel;
        for (std::int64_t c = 0; c < Cg; ++c)
          for (std::int64_t t = 0; t < window; ++t, q += kColumns)
            for (std::int64_t j = 0; j < kColumns; ++j) {
              const std::int32_t e = j < width ? (*taps)[static_cast<std::size_t>((at + j) * window + t)] : -1;
              q[j] = e < 0 ? 0.f : x[c * size + e];
            }
        float* y = static_cast<float*>(o[0]) + (n * O + g * Og) * positions + at;
        panel_times(weights.data<float>() + g * Og * K, K, 1, Og, panel, K, y, positions, width, false);
        if (bias.size())
          for (std::int64_t c = 0; c < Og; ++c)
            for (std::int64_t j = 0; j < width; ++j) y[c * positions + j] += bias.data<float>()[g * Og + c];
      }
    });
  };
  return k;
}

// Each position of the input times the weights, added where its window lies in the output.
Kernel transposed(const ConvolutionSpec& s, const std::vector<const Tensor*>& constant, int threads) {
  const Shape out = spatial(s.y), kernel = spatial(s.w);
  const std::int64_t N = s.x[0], C = s.x[1], O = s.y[1], Cg = C / s.group, Og = O / s.group;
  const std::int64_t size = element_count(out), positions = element_count(spatial(s.x)), window = element_count(kernel), rows = Og * window;
  Kernel k;
  const auto taps = small_taps(s, out, kernel);
  k.held = taps->size() * 4;
  const Tensor weights = *constant[1], bias = s.bias ? *constant[2] : Tensor();
  const std::int64_t jobs = N * s.group, each = Cg * kColumns + rows * kColumns;
  k.scratch = static_cast<std::size_t>((threads == 1 ? 1 : jobs) * each) * sizeof(float);
  k.run = [=](const void* const* i, void* const* o, std::byte* scratch) {
    ranges(threads, jobs, 1, [&](std::int64_t from, std::int64_t to) {
      float *panel = reinterpret_cast<float*>(scratch) + (threads == 1 ? 0 : from * each), *columns = panel + Cg * kColumns;
      for (std::int64_t job = from; job < to; ++job) {
        const std::int64_t n = job / s.group, g = job % s.group;
        float* y = static_cast<float*>(o[0]) + (n * O + g * Og) * size;
        for (std::int64_t c = 0; c < Og; ++c) std::fill(y + c * size, y + (c + 1) * size, bias.size() ? bias.data<float>()[g * Og + c] : 0.f);
        for (std::int64_t p = 0; p < panels(positions); ++p) {
          const std::int64_t width = std::min(kColumns, positions - p * kColumns);
          pack(static_cast<const float*>(i[0]) + (n * C + g * Cg) * positions, positions, 1, Cg, positions, p, panel);
          panel_times(weights.data<float>() + g * Cg * rows, 1, rows, rows, panel, Cg, columns, kColumns, kColumns, false);
          for (std::int64_t c = 0; c < Og; ++c)
            for (std::int64_t j = 0; j < width; ++j)
              for (std::int64_t t = 0; t < window; ++t)
                if (const std::int32_t e = (*taps)[static_cast<std::size_t>((p * kColumns + j) * window + t)]; e >= 0) y[c * size + e] += columns[(c * window + t) * kColumns + j];
        }
      }
    });
  };
  return k;
}

// ---- matrix products ------------------------------------------------------------------------------------
Kernel matmul(const MatMulSpec& s, const std::vector<const Tensor*>& constant, int threads) {
  const std::size_t r = s.a.size();
  const std::int64_t n = s.y[r - 2], m = s.y[r - 1], k = s.trans_a ? s.a[r - 2] : s.a[r - 1];
  const Shape batch(s.y.begin(), s.y.end() - 2);
  const std::int64_t batches = element_count(batch), blocks = panels(m), each = k * kColumns;
  std::vector<std::int64_t> at_a, at_b;  // the matrices of each batch
  const Broadcaster ia(Shape(s.a.begin(), s.a.end() - 2), batch), ib(Shape(s.b.begin(), s.b.end() - 2), batch);
  for (std::int64_t i = 0; i < batches; ++i) at_a.push_back(ia(i) * n * k), at_b.push_back(ib(i) * k * m);
  const std::int64_t row_a = s.trans_a ? 1 : k, step_a = s.trans_a ? n : 1, row_b = s.trans_b ? 1 : m, step_b = s.trans_b ? k : 1;
  Kernel out;
  std::shared_ptr<std::vector<float>> packed;
  const std::int64_t matrices = element_count(Shape(s.b.begin(), s.b.end() - 2));
  if (s.weights) {
    packed = std::make_shared<std::vector<float>>(static_cast<std::size_t>(matrices * blocks * each));
    for (std::int64_t i = 0; i < matrices; ++i)
      for (std::int64_t p = 0; p < blocks; ++p) pack(s.weights + i * k * m, row_b, step_b, k, m, p, packed->data() + (i * blocks + p) * each);
    out.held = packed->size() * sizeof(float);
  } else {
    out.scratch = static_cast<std::size_t>((threads == 1 ? 1 : batches * blocks) * each) * sizeof(float);
  }
  const Tensor bias = s.bias ? *constant[2] : Tensor();
  out.run = [=, alpha = s.alpha](const void* const* i, void* const* o, std::byte* scratch) {
    ranges(threads, batches * blocks, 1, [&](std::int64_t from, std::int64_t to) {
      for (std::int64_t job = from; job < to; ++job) {
        const std::int64_t b = job / blocks, p = job % blocks, width = std::min(kColumns, m - p * kColumns);
        const float* panel;
        if (packed) {
          panel = packed->data() + (at_b[static_cast<std::size_t>(b)] / std::max<std::int64_t>(k * m, 1) * blocks + p) * each;
        } else {
          float* mine = reinterpret_cast<float*>(scratch) + (threads == 1 ? 0 : job * each);
          pack(static_cast<const float*>(i[1]) + at_b[static_cast<std::size_t>(b)], row_b, step_b, k, m, p, mine);
          panel = mine;
        }
        float* y = static_cast<float*>(o[0]) + b * n * m + p * kColumns;
        panel_times(static_cast<const float*>(i[0]) + at_a[static_cast<std::size_t>(b)], row_a, step_a, n, panel, k, y, m, width, false);
        if (alpha != 1 || bias.size())
          for (std::int64_t q = 0; q < n; ++q)
            for (std::int64_t j = 0; j < width; ++j) y[q * m + j] = alpha * y[q * m + j] + (bias.size() ? bias.data<float>()[p * kColumns + j] : 0.f);
      }
    });
  };
  return out;
}

bool plain_f32(const NodeView& v, std::size_t inputs) {
  if (!v.node.domain.empty() || v.in.size() < inputs || v.out.empty()) return false;
  for (std::size_t i = 0; i < v.in.size(); ++i)
    if (v.has(i) && v.in_type[i] != DType::f32) return false;
  return element_count(v.out[0]) > 0 && element_count(v.in[0]) > 0 && element_count(v.in[1]) > 0;
}

}  // namespace

std::optional<ConvolutionSpec> convolution_spec(const NodeView& v) {
  const Node& n = v.node;
  if ((n.op != "Conv" && n.op != "ConvTranspose") || !plain_f32(v, 2) || v.in[0].size() < 3 || v.in[0].size() > 5) return {};
  if (!v.constant[1] || (v.has(2) && !v.constant[2])) return {};
  ConvolutionSpec s;
  s.x = v.in[0], s.w = v.in[1], s.y = v.out[0];
  s.transposed = n.op == "ConvTranspose";
  s.weights = v.constant[1]->data<float>();
  s.bias = v.has(2) ? v.constant[2]->data<float>() : nullptr;
  const Shape in = spatial(s.x), out = spatial(s.y), kernel = spatial(s.w);
  const std::size_t rank = in.size();
  if (!s.transposed) {
    s.group = s.x[1] / s.w[1];
    const Windows w = windows_of(v.graph, n, in, kernel);
    s.stride = w.stride, s.dilation = w.dilation, s.before = w.before, s.after = w.after;
  } else {
    if (n.attr_string("auto_pad", "NOTSET") != "NOTSET" || n.has_attr("output_shape")) return {};
    s.group = n.attr_int("group", 1);
    s.stride = n.attr_ints("strides", Shape(rank, 1)), s.dilation = n.attr_ints("dilations", Shape(rank, 1));
    const Shape pads = n.attr_ints("pads", Shape(2 * rank, 0));
    s.before.assign(pads.begin(), pads.begin() + static_cast<std::ptrdiff_t>(rank));
    for (std::size_t d = 0; d < rank; ++d) s.after.push_back(s.stride[d] * (in[d] - 1) + s.dilation[d] * (kernel[d] - 1) + 1 - out[d] - s.before[d]);
  }
  const std::int64_t taps = element_count(kernel) * element_count(s.transposed ? in : out);
  if (taps > INT32_MAX || element_count(in) > INT32_MAX || element_count(out) > INT32_MAX) return {};
  return s;
}

std::optional<MatMulSpec> matmul_spec(const NodeView& v) {
  const Node& n = v.node;
  if ((n.op != "MatMul" && n.op != "Gemm") || !plain_f32(v, 2)) return {};
  MatMulSpec s;
  s.a = v.in[0], s.b = v.in[1], s.y = v.out[0];
  if (v.constant[1]) s.weights = v.constant[1]->data<float>();
  if (n.op == "Gemm") {
    s.trans_a = n.attr_int("transA", 0), s.trans_b = n.attr_int("transB", 0);
    s.alpha = static_cast<float>(n.attr_float("alpha", 1));
    if (v.has(2)) {
      if (!v.constant[2] || n.attr_float("beta", 1) != 1 || v.in[2].empty() || v.in[2].back() != s.y[1] || element_count(v.in[2]) != s.y[1]) return {};
      s.bias = v.constant[2]->data<float>();
    }
    return s;
  }
  const MatMulShape shape = matmul_shape(v.graph, n, s.a, s.b);
  if (shape.a_vector) s.a.insert(s.a.begin(), 1);
  if (shape.b_vector) s.b.push_back(1);
  while (s.a.size() < s.b.size()) s.a.insert(s.a.begin(), 1);
  while (s.b.size() < s.a.size()) s.b.insert(s.b.begin(), 1);
  s.y = shape.batch;
  s.y.push_back(shape.n), s.y.push_back(shape.m);
  // Rows of several matrices against one matrix are rows of one matrix.
  if (s.a.size() > 2 && element_count(Shape(s.b.begin(), s.b.end() - 2)) == 1) {
    s.a = {element_count(Shape(s.a.begin(), s.a.end() - 1)), shape.k};
    s.b = {shape.k, shape.m};
    s.y = {s.a[0], shape.m};
  }
  return s;
}

std::optional<Kernel> contraction_kernel(const NodeView& v) {
  if (const auto s = convolution_spec(v)) return s->transposed ? transposed(*s, v.constant, v.threads) : convolution(*s, v.constant, v.threads);
  if (const auto s = matmul_spec(v)) return matmul(*s, v.constant, v.threads);
  return {};
}

}  // namespace tandem::exec
