// Quantisers as float runtimes have them: f32 at every operation, so that the results are those of the reference evaluators.
#include <cmath>

#include "tandem/exec/kernels.h"
#include "tandem/ir/ops/common.h"

namespace tandem::exec {
namespace {

using namespace ir;
constexpr std::int64_t kGrain = 1 << 14;

// [outer, n, inner]: a parameter per slice along one axis, or n = 1.
struct PerAxis { std::int64_t outer = 1, n = 1, inner = 1; };
std::optional<PerAxis> per_axis(const Shape& x, const Shape& group) {
  PerAxis p;
  const std::size_t lead = x.size() - std::min(group.size(), x.size());
  std::optional<std::size_t> axis;
  for (std::size_t d = lead; d < x.size(); ++d)
    if (group[d - lead] != 1) {
      if (axis) return {};
      axis = d;
    }
  if (!axis) return PerAxis{1, 1, element_count(x)};
  for (std::size_t d = 0; d < x.size(); ++d) (d < *axis ? p.outer : d == *axis ? p.n : p.inner) *= x[d];
  return p;
}
// f(from, count, parameter) over runs of one parameter.
template <class F>
void over_runs(int threads, const PerAxis& p, F f) {
  if (p.outer * p.n == 1) return ranges(threads, p.inner, kGrain, [&](std::int64_t a, std::int64_t b) { f(a, b - a, std::int64_t{0}); });
  ranges(threads, p.outer * p.n, std::max<std::int64_t>(1, kGrain / std::max<std::int64_t>(p.inner, 1)), [&](std::int64_t a, std::int64_t b) {
    for (std::int64_t r = a; r < b; ++r) f(r * p.inner, p.inner, r % p.n);
  });
}

struct Level { float scale, zero, lo, hi; };
TANDEM_WIDEST void quant_row(const float* x, float* y, std::int64_t n, Level l) {
  for (std::int64_t i = 0; i < n; ++i) {
    float q = x[i] / l.scale + l.zero;
    q = q < l.lo ? l.lo : q > l.hi ? l.hi : q;
    y[i] = (std::nearbyint(q) - l.zero) * l.scale;
  }
}
TANDEM_WIDEST void sign_row(const float* x, float* y, std::int64_t n, Level l) {
  for (std::int64_t i = 0; i < n; ++i) y[i] = x[i] >= 0.f ? l.scale : -l.scale;
}
TANDEM_WIDEST std::int64_t count_nan(const float* x, std::int64_t n) {
  std::int64_t c = 0;
  for (std::int64_t i = 0; i < n; ++i) c += x[i] != x[i];
  return c;
}

std::optional<Kernel> quant(const NodeView& v) {
  for (std::size_t i = 1; i < v.in.size(); ++i)
    if (!v.constant[i]) return {};
  const QuantiserCasts s = quant_spec(v.graph, v.node, v.in[0]);
  const auto axis = per_axis(v.in[0], s.group);
  if (!axis || axis->n != static_cast<std::int64_t>(s.casts.size())) return {};
  std::vector<Level> levels;
  for (const Cast& c : s.casts) {
    if (c.bipolar != s.casts[0].bipolar || (!c.bipolar && c.rounding != Rounding::half_even)) return {};
    levels.push_back({nearest_float(c.scale), static_cast<float>(c.zero.get_d()), static_cast<float>(c.kmin), static_cast<float>(c.kmax)});
  }
  Kernel k;
  k.in_place = true;
  k.held = levels.size() * sizeof(Level);
  k.run = [p = *axis, levels = std::move(levels), row = s.casts[0].bipolar ? sign_row : quant_row, where = v.graph.describe(v.node), threads = v.threads](const void* const* in, void* const* out, std::byte*) {
    over_runs(threads, p, [&](std::int64_t from, std::int64_t n, std::int64_t c) {
      const float* x = static_cast<const float*>(in[0]) + from;
      if (count_nan(x, n)) {
        std::int64_t at = 0;
        while (!std::isnan(x[at])) ++at;
        throw bad_input("NaN at element {}: an integer format has no code for it", from + at).at(where);
      }
      row(x, static_cast<float*>(out[0]) + from, n, levels[static_cast<std::size_t>(c)]);
    });
  };
  return k;
}

template <class T>
inline __attribute__((always_inline)) void to_integers(const float* x, T* y, std::int64_t n, float scale, float zero) {
  constexpr float lo = static_cast<float>(std::numeric_limits<T>::min()), hi = static_cast<float>(std::numeric_limits<T>::max());
  for (std::int64_t i = 0; i < n; ++i) {
    float q = std::nearbyint(x[i] / scale) + zero;
    q = q < lo ? lo : q > hi ? hi : q;
    y[i] = q == q ? static_cast<T>(static_cast<std::int32_t>(q)) : T(0);
  }
}
template <class T>
inline __attribute__((always_inline)) void to_floats(const T* x, float* y, std::int64_t n, float scale, std::int64_t zero) {
  for (std::int64_t i = 0; i < n; ++i) y[i] = static_cast<float>(static_cast<double>(x[i] - zero) * static_cast<double>(scale));
}
#define TANDEM_INTEGER(T, NAME)                                                                                                                  \
  TANDEM_WIDEST void quantize_##NAME(const float* x, T* y, std::int64_t n, float scale, float zero) { to_integers(x, y, n, scale, zero); }       \
  TANDEM_WIDEST void dequantize_##NAME(const T* x, float* y, std::int64_t n, float scale, std::int64_t zero) { to_floats(x, y, n, scale, zero); } \
  void quantize(const float* x, T* y, std::int64_t n, float scale, float zero) { quantize_##NAME(x, y, n, scale, zero); }                        \
  void dequantize(const T* x, float* y, std::int64_t n, float scale, std::int64_t zero) { dequantize_##NAME(x, y, n, scale, zero); }
TANDEM_INTEGER(std::int8_t, i8)
TANDEM_INTEGER(std::uint8_t, u8)
TANDEM_INTEGER(std::int16_t, i16)
TANDEM_INTEGER(std::uint16_t, u16)
#undef TANDEM_INTEGER

template <class T>
Kernel linear(const PerAxis& p, std::vector<float> scale, std::vector<std::int64_t> zero, bool back, int threads) {
  Kernel k;
  k.held = scale.size() * 12;
  k.run = [=, scale = std::move(scale), zero = std::move(zero)](const void* const* in, void* const* out, std::byte*) {
    over_runs(threads, p, [&](std::int64_t from, std::int64_t n, std::int64_t c) {
      const auto i = static_cast<std::size_t>(c);
      if (back) dequantize(static_cast<const T*>(in[0]) + from, static_cast<float*>(out[0]) + from, n, scale[i], zero[i]);
      else quantize(static_cast<const float*>(in[0]) + from, static_cast<T*>(out[0]) + from, n, scale[i], static_cast<float>(zero[i]));
    });
  };
  return k;
}
// QuantizeLinear and DequantizeLinear.
std::optional<Kernel> linear(const NodeView& v) {
  const bool back = v.node.op == "DequantizeLinear";
  if (!v.constant[1] || v.constant[1]->dtype() != DType::f32 || (v.has(2) && !v.constant[2]) || v.node.attr_int("block_size", 0)) return {};
  if ((back ? v.out_type[0] : v.in_type[0]) != DType::f32) return {};
  const auto n = static_cast<std::size_t>(v.constant[1]->size());
  PerAxis p{1, 1, element_count(v.in[0])};
  if (n != 1) {
    const std::int64_t axis = normal_axis(v.node.attr_int("axis", 1), static_cast<std::int64_t>(v.in[0].size()), v.graph, v.node);
    Shape group(v.in[0].size(), 1);
    group[static_cast<std::size_t>(axis)] = v.in[0][static_cast<std::size_t>(axis)];
    if (v.in[1].size() != 1 || static_cast<std::int64_t>(n) != group[static_cast<std::size_t>(axis)]) return {};
    const auto one = per_axis(v.in[0], group);
    if (!one) return {};
    p = *one;
  }
  if (v.has(2) && v.constant[2]->size() != static_cast<std::int64_t>(n)) return {};
  std::vector<float> scale;
  std::vector<std::int64_t> zero;
  for (std::size_t i = 0; i < n; ++i) {
    scale.push_back(v.constant[1]->data<float>()[i]);
    zero.push_back(v.has(2) ? v.constant[2]->int_at(static_cast<std::int64_t>(i)) : 0);
  }
  switch (back ? v.in_type[0] : v.out_type[0]) {
    case DType::i8: return linear<std::int8_t>(p, scale, zero, back, v.threads);
    case DType::u8: return linear<std::uint8_t>(p, scale, zero, back, v.threads);
    case DType::i16: return linear<std::int16_t>(p, scale, zero, back, v.threads);
    case DType::u16: return linear<std::uint16_t>(p, scale, zero, back, v.threads);
    default: return {};
  }
}

}  // namespace

std::optional<Kernel> quantiser_kernel(const NodeView& v) {
  const Node& n = v.node;
  if (v.in.size() < 2 || v.out.empty() || element_count(v.in[0]) == 0) return {};
  if (n.domain.empty() && (n.op == "QuantizeLinear" || n.op == "DequantizeLinear")) return linear(v);
  if (n.domain == "qonnx.custom_op.general" && (n.op == "Quant" || n.op == "BipolarQuant") && v.in_type[0] == DType::f32 && v.out_type[0] == DType::f32) return quant(v);
  return {};
}

}  // namespace tandem::exec
