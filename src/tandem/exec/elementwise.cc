// Element-wise kernels: one plain loop per function, which the compiler turns into the widest vectors.
#include <cmath>
#include <cstring>

#include "tandem/base/parallel.h"
#include "tandem/exec/kernels.h"
#include "tandem/exec/vector_math.h"
#include "tandem/ir/ops/common.h"

namespace tandem::exec {

void ranges(int threads, std::int64_t n, std::int64_t grain, const std::function<void(std::int64_t, std::int64_t)>& body) {
  if (threads == 1 || n <= grain) body(0, n);
  else parallel_ranges(n, grain, body);
}

namespace {

using namespace ir;
constexpr std::int64_t kGrain = 1 << 14;

// y[i] = EXPR of v = x[i] and the parameters a, b.
#define UNARY_LOOP(NAME, ...)                                                                  \
  TANDEM_WIDEST void NAME(const float* x, float* y, std::int64_t n, float a, float b) {        \
    (void)a, (void)b;                                                                          \
    for (std::int64_t i = 0; i < n; ++i) {                                                     \
      const float v = x[i];                                                                    \
      y[i] = __VA_ARGS__;                                                                      \
    }                                                                                          \
  }
UNARY_LOOP(relu, v < 0.f ? 0.f : v)
UNARY_LOOP(clip, (v < a ? a : v) > b ? b : (v < a ? a : v))
UNARY_LOOP(leaky, v < 0.f ? a * v : v)
UNARY_LOOP(sigmoid, sigmoid_(v))
UNARY_LOOP(tanh, tanh_(v))
UNARY_LOOP(exp, exp_(v))
UNARY_LOOP(swish, v / (1.f + exp_(-a * v)))
UNARY_LOOP(hard_sigmoid, a * v + b < 0.f ? 0.f : a * v + b > 1.f ? 1.f : a * v + b)
UNARY_LOOP(hard_swish, v * (v * (1.f / 6.f) + 0.5f < 0.f ? 0.f : v * (1.f / 6.f) + 0.5f > 1.f ? 1.f : v * (1.f / 6.f) + 0.5f))
UNARY_LOOP(elu, v < 0.f ? a * std::expm1(v) : v)
UNARY_LOOP(selu, b * (v > 0.f ? v : a * std::expm1(v)))
UNARY_LOOP(softplus, (v > 0.f ? v : 0.f) + std::log1p(std::exp(-std::abs(v))))
UNARY_LOOP(softsign, v / (1.f + std::abs(v)))
UNARY_LOOP(thresholded, v > a ? v : 0.f)
UNARY_LOOP(gelu, 0.5f * v * (1.f + std::erf(v * 0.707106781f)))
UNARY_LOOP(gelu_tanh, 0.5f * v * (1.f + tanh_(0.797884561f * (v + 0.044715f * v * v * v))))
UNARY_LOOP(erf, std::erf(v))
UNARY_LOOP(log, std::log(v))
UNARY_LOOP(sqrt, std::sqrt(v))
UNARY_LOOP(abs, std::abs(v))
UNARY_LOOP(neg, -v)
UNARY_LOOP(reciprocal, 1.f / v)
UNARY_LOOP(floor, std::floor(v))
UNARY_LOOP(ceil, std::ceil(v))
UNARY_LOOP(round, std::nearbyint(v))
UNARY_LOOP(sin, std::sin(v))
UNARY_LOOP(cos, std::cos(v))
UNARY_LOOP(affine, v * a + b)
#undef UNARY_LOOP

using UnaryLoop = void (*)(const float*, float*, std::int64_t, float, float);
struct UnaryRow {
  const char* op;
  UnaryLoop loop;
  const char *a, *b;  // attributes, "" where there is none
  double a_default, b_default;
};
const UnaryRow kUnary[] = {
    {"Relu", relu, "", "", 0, 0}, {"LeakyRelu", leaky, "alpha", "", 0.01, 0}, {"Sigmoid", sigmoid, "", "", 0, 0}, {"Tanh", tanh, "", "", 0, 0},
    {"Exp", exp, "", "", 0, 0}, {"Swish", swish, "alpha", "", 1, 0}, {"HardSigmoid", hard_sigmoid, "alpha", "beta", 0.2, 0.5}, {"HardSwish", hard_swish, "", "", 0, 0},
    {"Elu", elu, "alpha", "", 1, 0}, {"Selu", selu, "alpha", "gamma", 1.67326319217681884765625, 1.05070102214813232421875},
    {"Softplus", softplus, "", "", 0, 0}, {"Softsign", softsign, "", "", 0, 0}, {"ThresholdedRelu", thresholded, "alpha", "", 1, 0},
    {"Erf", erf, "", "", 0, 0}, {"Log", log, "", "", 0, 0}, {"Sqrt", sqrt, "", "", 0, 0}, {"Abs", abs, "", "", 0, 0}, {"Neg", neg, "", "", 0, 0},
    {"Reciprocal", reciprocal, "", "", 0, 0}, {"Floor", floor, "", "", 0, 0}, {"Ceil", ceil, "", "", 0, 0}, {"Round", round, "", "", 0, 0},
    {"Sin", sin, "", "", 0, 0}, {"Cos", cos, "", "", 0, 0},
};

Kernel unary(const NodeView& v, UnaryLoop loop, float a, float b) {
  const std::int64_t n = element_count(v.out[0]);
  Kernel k;
  k.in_place = true;
  k.run = [=, threads = v.threads](const void* const* in, void* const* out, std::byte*) {
    const auto* x = static_cast<const float*>(in[0]);
    auto* y = static_cast<float*>(out[0]);
    ranges(threads, n, kGrain, [=](std::int64_t from, std::int64_t to) { loop(x + from, y + from, to - from, a, b); });
  };
  return k;
}

// y[i] = EXPR of p and q, each a row or one number.
#define BINARY_LOOP(NAME, T, ...)                                                                         \
  TANDEM_WIDEST void NAME(const float* a, bool whole_a, const float* b, bool whole_b, T* y, std::int64_t n) { \
    if (whole_a && whole_b) {                                                                             \
      for (std::int64_t i = 0; i < n; ++i) {                                                              \
        const float p = a[i], q = b[i];                                                                   \
        y[i] = __VA_ARGS__;                                                                               \
      }                                                                                                   \
    } else if (whole_a) {                                                                                 \
      const float q = *b;                                                                                 \
      for (std::int64_t i = 0; i < n; ++i) {                                                              \
        const float p = a[i];                                                                             \
        y[i] = __VA_ARGS__;                                                                               \
      }                                                                                                   \
    } else {                                                                                              \
      const float p = *a;                                                                                 \
      for (std::int64_t i = 0; i < n; ++i) {                                                              \
        const float q = b[whole_b ? i : 0];                                                               \
        y[i] = __VA_ARGS__;                                                                               \
      }                                                                                                   \
    }                                                                                                     \
  }
BINARY_LOOP(add, float, p + q)
BINARY_LOOP(sub, float, p - q)
BINARY_LOOP(mul, float, p* q)
BINARY_LOOP(div, float, p / q)
BINARY_LOOP(power, float, q == 2.f ? p * p : std::pow(p, q))
BINARY_LOOP(largest, float, p != p || p > q ? p : q)
BINARY_LOOP(smallest, float, p != p || p < q ? p : q)
BINARY_LOOP(prelu, float, p < 0.f ? p * q : p)
BINARY_LOOP(equal, std::uint8_t, p == q)
BINARY_LOOP(greater, std::uint8_t, p > q)
BINARY_LOOP(greater_equal, std::uint8_t, p >= q)
BINARY_LOOP(less, std::uint8_t, p < q)
BINARY_LOOP(less_equal, std::uint8_t, p <= q)
#undef BINARY_LOOP

template <class T>
using BinaryLoop = void (*)(const float*, bool, const float*, bool, T*, std::int64_t);
struct BinaryRow {
  const char* op;
  BinaryLoop<float> number;
  BinaryLoop<std::uint8_t> truth;
};
const BinaryRow kBinary[] = {
    {"Add", add, nullptr}, {"Sub", sub, nullptr}, {"Mul", mul, nullptr}, {"Div", div, nullptr}, {"Pow", power, nullptr},
    {"Max", largest, nullptr}, {"Min", smallest, nullptr}, {"Sum", add, nullptr}, {"PRelu", prelu, nullptr},
    {"Equal", nullptr, equal}, {"Greater", nullptr, greater}, {"GreaterOrEqual", nullptr, greater_equal}, {"Less", nullptr, less}, {"LessOrEqual", nullptr, less_equal},
};

// Operands over the output as rows: neighbouring axes that broadcast alike become one, the last of them is the row.
struct Rows {
  std::int64_t row = 1, count = 1;
  std::vector<bool> whole;                           // per operand: it varies along the row
  std::vector<std::int64_t> extent;                  // of the outer axes
  std::vector<std::vector<std::int64_t>> stride;     // [operand][axis]
  Rows(const std::vector<Shape>& in, const Shape& out) {
    struct Axis { std::int64_t n; std::vector<bool> varies; };
    std::vector<Axis> axes;
    for (std::size_t d = 0; d < out.size(); ++d) {
      if (out[d] == 1) continue;
      Axis a{out[d], {}};
      for (const Shape& s : in) {
        const std::size_t lead = out.size() - s.size();
        a.varies.push_back(d >= lead && s[d - lead] != 1);
      }
      if (!axes.empty() && axes.back().varies == a.varies) axes.back().n *= a.n;
      else axes.push_back(a);
    }
    if (axes.empty()) axes.push_back({1, std::vector<bool>(in.size(), true)});
    row = axes.back().n;
    whole = axes.back().varies;
    stride.resize(in.size());
    for (std::size_t d = 0; d + 1 < axes.size(); ++d) extent.push_back(axes[d].n), count *= axes[d].n;
    for (std::size_t k = 0; k < in.size(); ++k) {
      std::int64_t step = whole[k] ? row : 1;
      stride[k].assign(extent.size(), 0);
      for (std::size_t d = extent.size(); d-- > 0;)
        if (axes[d].varies[k]) stride[k][d] = step, step *= extent[d];
    }
  }
  std::int64_t at(std::size_t k, std::int64_t r) const {
    std::int64_t i = 0;
    for (std::size_t d = extent.size(); d-- > 0; r /= extent[d]) i += r % extent[d] * stride[k][d];
    return i;
  }
};

// f(operand offsets, offset of the output, length) for parts of rows.
template <class F>
void over_rows(int threads, const Rows& r, F f) {
  if (r.count == 1) return ranges(threads, r.row, kGrain, [&](std::int64_t from, std::int64_t to) { f(std::int64_t{0}, from, to - from); });
  ranges(threads, r.count, std::max<std::int64_t>(1, kGrain / r.row), [&](std::int64_t from, std::int64_t to) {
    for (std::int64_t i = from; i < to; ++i) f(i, std::int64_t{0}, r.row);
  });
}

template <class T>
Kernel binary(const NodeView& v, BinaryLoop<T> loop) {
  Kernel k;
  std::vector<Rows> rows;  // one per further operand, folded from the left
  const bool two = v.in.size() == 2;
  rows.emplace_back(std::vector<Shape>{v.in[0], v.in[1]}, v.out[0]);
  for (std::size_t i = 2; i < v.in.size(); ++i) rows.emplace_back(std::vector<Shape>{v.out[0], v.in[i]}, v.out[0]);
  k.in_place = two && v.in[0] == v.out[0] && sizeof(T) == sizeof(float);
  k.run = [rows = std::move(rows), loop, threads = v.threads](const void* const* in, void* const* out, std::byte*) {
    auto* y = static_cast<T*>(out[0]);
    for (std::size_t i = 0; i < rows.size(); ++i) {
      const Rows& r = rows[i];
      const auto* a = i == 0 ? static_cast<const float*>(in[0]) : reinterpret_cast<const float*>(y);
      const auto* b = static_cast<const float*>(in[i + 1]);
      over_rows(threads, r, [&](std::int64_t row, std::int64_t from, std::int64_t n) {
        loop(a + r.at(0, row) + (r.whole[0] ? from : 0), r.whole[0], b + r.at(1, row) + (r.whole[1] ? from : 0), r.whole[1], y + row * r.row + from, n);
      });
    }
  };
  return k;
}

template <class T>
Kernel where_kernel(const NodeView& v) {
  Kernel k;
  k.run = [r = Rows({v.in[0], v.in[1], v.in[2]}, v.out[0]), threads = v.threads](const void* const* in, void* const* out, std::byte*) {
    over_rows(threads, r, [&](std::int64_t row, std::int64_t from, std::int64_t n) {
      const auto* c = static_cast<const std::uint8_t*>(in[0]) + r.at(0, row) + (r.whole[0] ? from : 0);
      const auto* a = static_cast<const T*>(in[1]) + r.at(1, row) + (r.whole[1] ? from : 0);
      const auto* b = static_cast<const T*>(in[2]) + r.at(2, row) + (r.whole[2] ? from : 0);
      T* y = static_cast<T*>(out[0]) + row * r.row + from;
      for (std::int64_t i = 0; i < n; ++i) y[i] = c[r.whole[0] ? i : 0] ? a[r.whole[1] ? i : 0] : b[r.whole[2] ? i : 0];
    });
  };
  return k;
}

}  // namespace

std::optional<Kernel> elementwise_kernel(const NodeView& v) {
  const Node& n = v.node;
  if (!n.domain.empty() || v.out.empty()) return {};
  const bool f32 = std::all_of(v.in_type.begin(), v.in_type.end(), [](DType t) { return t == DType::f32; });
  if (n.op == "Where") {
    if (v.in_type[1] != v.out_type[0] || v.in_type[2] != v.out_type[0]) return {};
    switch (size_of(v.out_type[0])) {
      case 1: return where_kernel<std::uint8_t>(v);
      case 2: return where_kernel<std::uint16_t>(v);
      case 4: return where_kernel<std::uint32_t>(v);
      default: return where_kernel<std::uint64_t>(v);
    }
  }
  if (n.op == "Clip" && v.in_type[0] == DType::f32) {
    float bound[2] = {-INFINITY, INFINITY};
    for (std::size_t i = 1; i < 3; ++i)
      if (v.has(i)) {
        if (!v.constant[i]) return {};
        bound[i - 1] = static_cast<float>(v.constant[i]->at(0));
      }
    return unary(v, clip, bound[0], bound[1]);
  }
  if (!f32) return {};
  if (n.op == "Gelu") return unary(v, n.attr_string("approximate", "none") == "tanh" ? gelu_tanh : gelu, 0, 0);
  for (const UnaryRow& r : kUnary)
    if (n.op == r.op)
      return unary(v, r.loop, static_cast<float>(*r.a ? n.attr_float(r.a, r.a_default) : 0), static_cast<float>(*r.b ? n.attr_float(r.b, r.b_default) : 0));
  if (v.in.size() >= 2)
    for (const BinaryRow& r : kBinary)
      if (n.op == r.op && (v.in.size() == 2 || n.op == "Max" || n.op == "Min" || n.op == "Sum"))
        return r.number ? binary(v, r.number) : binary(v, r.truth);
  if (n.op == "BatchNormalization") {
    for (std::size_t i = 1; i < 5; ++i)
      if (!v.constant[i]) return {};
    const std::int64_t channels = v.in[0][1], inner = element_count(Shape(v.in[0].begin() + 2, v.in[0].end())), rows = v.in[0][0] * channels;
    std::vector<float> a(static_cast<std::size_t>(channels)), b(a.size());
    const auto epsilon = static_cast<float>(n.attr_float("epsilon", 1e-5));
    for (std::int64_t c = 0; c < channels; ++c) {
      const float factor = batchnorm_factor(static_cast<float>(v.constant[1]->at(c)), static_cast<float>(v.constant[4]->at(c)), epsilon);
      a[static_cast<std::size_t>(c)] = factor;
      b[static_cast<std::size_t>(c)] = static_cast<float>(v.constant[2]->at(c) - static_cast<double>(factor) * v.constant[3]->at(c));
    }
    Kernel k;
    k.in_place = true;
    k.held = 2 * a.size() * sizeof(float);
    k.run = [=, a = std::move(a), b = std::move(b), threads = v.threads](const void* const* in, void* const* out, std::byte*) {
      ranges(threads, rows, std::max<std::int64_t>(1, kGrain / std::max<std::int64_t>(inner, 1)), [&](std::int64_t from, std::int64_t to) {
        for (std::int64_t r = from; r < to; ++r)
          affine(static_cast<const float*>(in[0]) + r * inner, static_cast<float*>(out[0]) + r * inner, inner, a[static_cast<std::size_t>(r % channels)], b[static_cast<std::size_t>(r % channels)]);
      });
    };
    return k;
  }
  return {};
}

}  // namespace tandem::exec
