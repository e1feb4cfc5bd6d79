// Quantisers: Quant and BipolarQuant (QONNX), Threshold. The only places where a number is rounded.
#include "tandem/ir/ops/adjoints.h"
#include "tandem/ir/ops/common.h"

namespace tandem::ir {
namespace {

const Tensor& constant_input(const Graph& g, const Node& n, std::size_t i, std::string_view what) {
  const Tensor* t = n.in(i) == kNone ? nullptr : g.constant(n.in(i));
  if (!t)
    throw node_error(g, n, fmt::format("{} is not constant", what))
        .fix("only constant scales, zero points and widths have an exact meaning here; fold or export them as initialisers");
  return *t;
}

// `s` right-aligned to rank r: leading extents of 1.
Shape align(const Shape& s, std::size_t r) {
  Shape o(s);
  while (o.size() < r) o.insert(o.begin(), 1);
  return o;
}

Cast int_cast(int bits, bool is_signed, bool narrow) {
  Cast c;
  if (is_signed) {
    c.kmax = (std::int64_t{1} << (bits - 1)) - 1;
    c.kmin = narrow ? -c.kmax : -c.kmax - 1;
  } else {
    c.kmin = 0;
    c.kmax = (std::int64_t{1} << bits) - 1 - (narrow ? 1 : 0);
  }
  return c;
}

void infer_quant(InferContext& c) {
  c.out = {*c.in[0]};
  if (c.in[0]->dims)
    for (std::size_t i = 1; i < 3 && i < c.in.size(); ++i) {
      if (!c.in[i] || !c.in[i]->dims) continue;
      Dims b = broadcast_dims(c, *c.in[0]->dims, *c.in[i]->dims);
      if (b.size() != c.in[0]->dims->size()) c.fail("scale or zero point has more axes than the input");
    }
}

struct QuantEval {
  // As float runtimes do it: f32 at every operation.
  static void run_double(EvalArgs<double>& e) {
    const Array<double>& x = *e.in[0];
    QuantiserCasts s = quant_spec(e.graph, e.node, x.shape);
    Broadcaster group(s.group, x.shape);
    Array<double> y(x.shape);
    struct Float { float scale, zero, lo, hi; };
    std::vector<Float> f;
    for (const Cast& c : s.casts)
      f.push_back({nearest_float(c.scale), static_cast<float>(c.zero.get_d()), static_cast<float>(c.kmin), static_cast<float>(c.kmax)});
    for (std::size_t i = 0; i < x.v.size(); ++i) {
      std::int64_t g = group(static_cast<std::int64_t>(i));
      float v = static_cast<float>(x.v[i]);
      if (std::isnan(v)) throw node_error(e.graph, e.node, fmt::format("NaN at element {}: an integer format has no code for it", i));
      if (s.casts[g].bipolar) {
        y.v[i] = v >= 0 ? f[g].scale : -f[g].scale;
        continue;
      }
      float q = std::clamp(v / f[g].scale + f[g].zero, f[g].lo, f[g].hi);
      double r = q, fl = std::floor(r), frac = r - fl;
      switch (s.casts[g].rounding) {
        case Rounding::half_even: r = std::nearbyint(r); break;
        case Rounding::half_up: r = std::floor(r + 0.5); break;
        case Rounding::half_down: r = std::ceil(r - 0.5); break;
        case Rounding::half_away: r = std::round(r); break;
        case Rounding::half_zero: r = frac == 0.5 ? std::trunc(r) : std::round(r); break;
        case Rounding::floor: r = fl; break;
        case Rounding::ceil: r = std::ceil(r); break;
        case Rounding::to_zero: r = std::trunc(r); break;
        case Rounding::away: r = r < 0 ? fl : std::ceil(r); break;
      }
      y.v[i] = (static_cast<float>(r) - f[g].zero) * f[g].scale;
    }
    e.out[0] = std::move(y);
  }
  static void run_rational(EvalArgs<Rational>& e) {
    const Array<Rational>& x = *e.in[0];
    QuantiserCasts s = quant_spec(e.graph, e.node, x.shape);
    Broadcaster group(s.group, x.shape);
    Array<Rational> y(x.shape);
    for (std::size_t i = 0; i < x.v.size(); ++i) y.v[i] = cast_value(s.casts[group(static_cast<std::int64_t>(i))], x.v[i]);
    e.out[0] = std::move(y);
  }
};

void infer_threshold(InferContext& c) {
  const Dims& t = c.dims(1);
  if (t.size() != 2) c.fail(fmt::format("thresholds have rank {}", t.size()), "a matrix [channels or 1, levels - 1]");
  const Dims& x = c.dims(0);
  if (t[0].known() && t[0].n != 1 && (x.size() < 2 || (x[1].known() && x[1].n != t[0].n)))
    c.fail(fmt::format("{} rows of thresholds do not match the channels of {}", t[0].n, to_string(x)));
  c.out = {*c.in[0]};
}
struct ThresholdEval {
  template <class T>
  static void run(EvalArgs<T>& e) {
    const Array<T>&x = *e.in[0], &t = *e.in[1];
    std::int64_t rows = t.shape[0], L = t.shape[1];
    std::int64_t inner = x.shape.size() > 2 ? element_count(Shape(x.shape.begin() + 2, x.shape.end())) : 1;
    T scale = number_from<T>(e.node.attr_float("scale", 1));
    std::int64_t base = e.node.attr_int("base", 0);
    Array<T> y(x.shape);
    for (std::int64_t i = 0; i < static_cast<std::int64_t>(x.v.size()); ++i) {
      std::int64_t r = rows == 1 ? 0 : (i / inner) % rows, n = 0;
      for (std::int64_t j = 0; j < L; ++j) n += x.v[i] >= t.v[r * L + j];
      y.v[i] = scale * T(static_cast<long>(base + n));
    }
    e.out[0] = std::move(y);
  }
};

}  // namespace

QuantiserCasts quant_spec(const Graph& g, const Node& n, const Shape& x) {
  QuantiserCasts q;
  if (n.op == "Threshold") {
    const Tensor& t = constant_input(g, n, 1, "thresholds");
    if (t.rank() != 2) throw node_error(g, n, "thresholds must be a matrix");
    for (std::int64_t r = 0; r < t.shape()[0]; ++r)
      for (std::int64_t j = 1; j < t.shape()[1]; ++j)
        if (!(t.at(r * t.shape()[1] + j - 1) <= t.at(r * t.shape()[1] + j)))
          throw node_error(g, n, fmt::format("thresholds of row {} are not ascending", r));
    Cast c;
    c.scale = exact(static_cast<float>(n.attr_float("scale", 1)));
    if (c.scale <= 0) throw node_error(g, n, "scale must be positive");
    c.kmin = n.attr_int("base", 0);
    c.kmax = c.kmin + t.shape()[1];
    q.is_signed = c.kmin < 0;
    q.bits = signed_bits(c.kmin, c.kmax);
    q.casts = {c};
    q.group = Shape(x.size(), 1);
    q.format = fmt::format("{}int{}", q.is_signed ? "" : "u", q.bits);
    return q;
  }
  if (n.op == "QuantizeLinear") {
    const Tensor& scale = constant_input(g, n, 1, "scale");
    const Tensor zero = n.in(2) == kNone ? Tensor(DType::u8, scale.shape()) : constant_input(g, n, 2, "zero point");
    q.is_signed = is_signed_integer(zero.dtype());
    q.bits = static_cast<int>(8 * size_of(zero.dtype()));
    q.format = fmt::format("{}int{}", q.is_signed ? "" : "u", q.bits);
    q.group = Shape(x.size(), 1);
    if (scale.size() != 1) {
      const auto axis = static_cast<std::size_t>(normal_axis(n.attr_int("axis", 1), static_cast<std::int64_t>(x.size()), g, n));
      if (scale.size() != x[axis] || zero.size() != scale.size()) throw node_error(g, n, fmt::format("{} scales and {} zero points for an axis of {}", scale.size(), zero.size(), x[axis]));
      q.group[axis] = scale.size();
    }
    for (std::int64_t i = 0; i < scale.size(); ++i) {
      Cast c = int_cast(q.bits, q.is_signed, false);
      if (!(scale.at(i) > 0) || !std::isfinite(scale.at(i))) throw node_error(g, n, fmt::format("scale {} of group {} is not a positive number", scale.at(i), i));
      c.scale = exact(scale.at(i));
      c.zero = Integer(static_cast<long>(zero.int_at(i)));
      c.zero_after = true;
      q.casts.push_back(std::move(c));
    }
    return q;
  }
  bool bipolar = n.op == "BipolarQuant";
  const Tensor& scale = constant_input(g, n, 1, "scale");
  std::int64_t bits = 1;
  bool is_signed = true, narrow = false;
  Tensor zero = Tensor::scalar(0.f);
  if (!bipolar) {
    zero = constant_input(g, n, 2, "zero point");
    const Tensor& width = constant_input(g, n, 3, "bit width");
    if (width.size() != 1) throw node_error(g, n, "one bit width per quantiser").expected("a scalar");
    double b = width.at(0);
    if (b != std::floor(b) || !(b >= 1) || b > 32) throw node_error(g, n, fmt::format("bit width {} is not an integer in [1, 32]", b));
    bits = static_cast<std::int64_t>(b);
    is_signed = n.attr_int("signed", 1) != 0;
    narrow = n.attr_int("narrow", 0) != 0;
    bipolar = is_signed && bits == 1;
  }
  q.bits = static_cast<int>(bits);
  q.is_signed = is_signed;
  q.format = bipolar ? "bipolar" : fmt::format("{}int{}{}", is_signed ? "" : "u", bits, narrow ? ";narrow" : "");
  Shape ss = align(scale.shape(), x.size()), zs = align(zero.shape(), x.size());
  if (ss.size() > x.size() || zs.size() > x.size()) throw node_error(g, n, "scale has more axes than the input");
  q.group = broadcast(ss, zs);
  for (std::size_t d = 0; d < x.size(); ++d)
    if (q.group[d] != 1 && q.group[d] != x[d])
      throw node_error(g, n, fmt::format("scale of shape {} does not broadcast to {}", to_string(scale.shape()), to_string(x)));
  Broadcaster is(ss, q.group), iz(zs, q.group);
  std::int64_t groups = element_count(q.group);
  Rounding mode = bipolar && n.op == "BipolarQuant" ? Rounding::half_even : parse_rounding(n.attr_string("rounding_mode", "ROUND"));
  for (std::int64_t i = 0; i < groups; ++i) {
    Cast c = bipolar ? Cast{} : int_cast(static_cast<int>(bits), is_signed, narrow);
    double s = scale.at(is(i)), z = zero.at(iz(i));
    if (!(s > 0) || !std::isfinite(s)) throw node_error(g, n, fmt::format("scale {} of group {} is not a positive number", s, i));
    if (z != std::floor(z) || std::abs(z) > 9007199254740992.0)
      throw node_error(g, n, fmt::format("zero point {} of group {} is not an integer", z, i));
    c.scale = exact(s);
    c.zero = Integer(z);
    c.rounding = mode;
    if (bipolar) {
      if (z != 0) throw node_error(g, n, "a bipolar quantiser has no zero point");
      c.bipolar = true;
      c.kmin = 0;
      c.kmax = 1;
    }
    q.casts.push_back(std::move(c));
  }
  return q;
}

const OpDef kQuant{
    .domain = "qonnx.custom_op.general", .name = "Quant", .summary = "Uniform quantiser: the cast to an integer format.",
    .doc = "Y = scale * (clip(round(X / scale + zeropt), min, max) - zeropt), one rounding of the exact X; signed 1-bit is bipolar (X >= 0 gives +scale).",
    .source = "QONNX Quant (Pappalardo et al., arXiv 2206.07527)",
    .inputs = {{"X", "any shape"}, {"scale", "positive, broadcasts to X, constant"}, {"zeropt", "integer, broadcasts to X, constant"},
               {"bitwidth", "scalar, constant"}},
    .outputs = {{"Y", "shape of X"}},
    .attributes = {{"signed", AttrType::integer, "1", "two's complement or unsigned codes"},
                   {"narrow", AttrType::integer, "0", "1: drops the most negative (signed) or the largest (unsigned) code"},
                   {"rounding_mode", AttrType::string, "ROUND", "ROUND (half to even), CEIL, FLOOR, UP, DOWN, HALF_UP, HALF_DOWN"}},
    .closure = Closure::quantiser, .infer = infer_quant, .eval = {&QuantEval::run_double, &QuantEval::run_rational},
    .einsum = elementwise_einsum, .adjoint = adjoint_quant};

const OpDef kBipolarQuant{
    .domain = "qonnx.custom_op.general", .name = "BipolarQuant", .summary = "Sign quantiser.", .doc = "Y = scale where X >= 0, else -scale.",
    .source = "QONNX BipolarQuant",
    .inputs = {{"X", "any shape"}, {"scale", "positive, broadcasts to X, constant"}}, .outputs = {{"Y", "shape of X"}},
    .closure = Closure::quantiser, .infer = infer_quant, .eval = {&QuantEval::run_double, &QuantEval::run_rational},
    .einsum = elementwise_einsum, .adjoint = adjoint_quant};

const OpDef kThreshold{
    .domain = "tandem", .name = "Threshold", .summary = "Quantiser given by its steps, per channel.",
    .doc = "Y = scale * (base + number of T[c, j] with X >= T[c, j]); rows ascending.", .source = "FINN MultiThreshold (Umuroglu et al., FPGA 2017)",
    .inputs = {{"X", "[batch, channels, ...]"}, {"T", "[channels or 1, levels - 1], constant"}}, .outputs = {{"Y", "shape of X"}},
    .attributes = {{"scale", AttrType::real, "1.0", "of the output codes"}, {"base", AttrType::integer, "0", "code below the first threshold"}},
    .closure = Closure::quantiser, .infer = infer_threshold, .eval = both<ThresholdEval>(), .einsum = elementwise_einsum};

}  // namespace tandem::ir
