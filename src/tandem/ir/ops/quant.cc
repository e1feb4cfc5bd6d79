// Quantisers: Quant and BipolarQuant (QONNX), Threshold. The only places where a number is rounded.
#include "tandem/ir/ops/adjoints.h"
#include "tandem/ir/ops/kit.h"

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

double rounded(double r, Rounding mode) {
  const double fl = std::floor(r);
  switch (mode) {
    case Rounding::half_even: return std::nearbyint(r);
    case Rounding::half_up: return std::floor(r + 0.5);
    case Rounding::half_down: return std::ceil(r - 0.5);
    case Rounding::half_away: return std::round(r);
    case Rounding::half_zero: return r - fl == 0.5 ? std::trunc(r) : std::round(r);
    case Rounding::floor: return fl;
    case Rounding::ceil: return std::ceil(r);
    case Rounding::to_zero: return std::trunc(r);
    case Rounding::away: return r < 0 ? fl : std::ceil(r);
  }
  return r;
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
      const double r = rounded(q, s.casts[g].rounding);
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

// ---- quantisers without codes of one step ----
Rounding rounding_of(const Node& n, std::string_view fallback) { return parse_rounding(n.attr_string("rounding_mode", fallback)); }
void infer_like_first(InferContext& c) {
  c.out = {*c.in[0]};
  if (c.in.size() > 1 && c.in[1] && c.in[1]->dims && c.in[0]->dims && broadcast_dims(c, *c.in[0]->dims, *c.in[1]->dims).size() != c.in[0]->dims->size())
    c.fail("the scale has more axes than the input");
}
double one_number(const EvalArgs<double>& e, std::size_t i, std::string_view what) {
  if (e.in[i]->v.size() != 1) throw node_error(e.graph, e.node, fmt::format("{} numbers as {}", e.in[i]->v.size(), what)).expected("one");
  return e.in[i]->v[0];
}
double whole_number(const EvalArgs<double>& e, std::size_t i, std::string_view what, double least, double most) {
  const double v = one_number(e, i, what);
  if (v != std::floor(v) || !(v >= least && v <= most)) throw node_error(e.graph, e.node, fmt::format("{} is {}", what, v)).expected(fmt::format("a whole number from {} to {}", least, most));
  return v;
}

// f32 at every operation, as float runtimes compute it; the exponent is that of the exact quotient.
void float_quant_eval(EvalArgs<double>& e) {
  const Array<double>&x = *e.in[0], &scale = *e.in[1];
  const int exponent = static_cast<int>(whole_number(e, 2, "exponent_bitwidth", 1, 8)), mantissa = static_cast<int>(whole_number(e, 3, "mantissa_bitwidth", 0, 23));
  const int bias = has(e, 4) ? static_cast<int>(whole_number(e, 4, "exponent_bias", -256, 256)) : (1 << (exponent - 1)) - 1;
  double most = std::ldexp(2 - std::ldexp(1, -mantissa), (1 << exponent) - 1 - bias);
  if (has(e, 5)) most = std::min(most, one_number(e, 5, "max_val"));
  const Rounding mode = rounding_of(e.node, "ROUND");
  const bool saturate = e.node.attr_int("saturation", 1) != 0, inf = e.node.attr_int("has_inf", 0) != 0, nan = e.node.attr_int("has_nan", 0) != 0;
  if (!saturate && !inf && !nan) throw node_error(e.graph, e.node, "values beyond the largest neither saturate nor become infinities or NaN").expected("saturation, has_inf or has_nan");
  const Broadcaster at(scale.shape, x.shape);
  Array<double> y(x.shape);
  for (std::size_t i = 0; i < x.v.size(); ++i) {
    const auto s = static_cast<float>(scale.v[static_cast<std::size_t>(at(static_cast<std::int64_t>(i)))]);
    const float v = static_cast<float>(x.v[i]) / s;
    double q = v;
    if (std::isfinite(v)) {
      int power = 0;
      std::frexp(v == 0 ? std::numeric_limits<float>::min() : v, &power);  // |v| in [2^(power-1), 2^power)
      const int step = std::max(power - 1 - mantissa, 1 - bias - mantissa);
      q = std::ldexp(rounded(std::ldexp(v, -step), mode), step);
    }
    const bool above = q > most, below = q < -most;
    if (above || below) {
      const double limit = above ? most : -most;
      q = saturate ? limit : inf ? std::copysign(std::numeric_limits<double>::infinity(), limit) : std::numeric_limits<double>::quiet_NaN();
    }
    y.v[i] = static_cast<float>(q) * s;
  }
  e.out[0] = std::move(y);
}

// Two forms: (X, scale, zeropt, in_bits, out_bits) and (X, scale, zeropt, in_bits, out_scale, out_bits), which also clamps.
void trunc_eval(EvalArgs<double>& e) {
  const Array<double>&x = *e.in[0], &scale = *e.in[1], &zero = *e.in[2];
  const bool clamps = e.in.size() > 5 && e.in[5];
  const double in_bits = whole_number(e, 3, "the bit width of the input", 1, 64), out_bits = whole_number(e, clamps ? 5 : 4, "the bit width of the output", 1, 32);
  if (!clamps && out_bits > in_bits) throw node_error(e.graph, e.node, fmt::format("from {} bits to {}", in_bits, out_bits)).expected("no more bits than before");
  const Rounding mode = rounding_of(e.node, "FLOOR");
  const Cast c = int_cast(static_cast<int>(out_bits), e.node.attr_int("signed", 1) != 0, e.node.attr_int("narrow", 0) != 0);
  const Broadcaster at(scale.shape, x.shape), zero_at(zero.shape, x.shape), out_at(clamps ? e.in[4]->shape : Shape{}, x.shape);
  Array<double> y(x.shape);
  for (std::size_t i = 0; i < x.v.size(); ++i) {
    const auto k = static_cast<std::int64_t>(i);
    const auto s = static_cast<float>(scale.v[static_cast<std::size_t>(at(k))]), z = static_cast<float>(zero.v[static_cast<std::size_t>(zero_at(k))]);
    auto v = static_cast<float>(std::nearbyint(static_cast<float>(x.v[i]) / s + z));
    if (!clamps) {
      v = static_cast<float>(rounded(std::ldexp(v, static_cast<int>(out_bits - in_bits)), mode));
      y.v[i] = (v - z) * s;
      continue;
    }
    const auto out_scale = static_cast<float>(e.in[4]->v[static_cast<std::size_t>(out_at(k))]);
    const auto step = static_cast<float>(std::exp2(std::nearbyint(std::log2(out_scale / s))));
    v = std::clamp(v / step, static_cast<float>(c.kmin), static_cast<float>(c.kmax));
    y.v[i] = (static_cast<float>(rounded(v, mode)) - z / step) * out_scale;
  }
  e.out[0] = std::move(y);
}

void sample_float_quant(const OpDef& op, Sample& s) {
  const Shape x = s.shape();
  const std::int64_t e = s.r.range(2, 5), m = s.r.range(0, 4);
  const double bias = static_cast<double>((1 << (e - 1)) - 1);
  const ValueId v = s.input(x, -8, 8);
  s.node(op, {v, s.scalar(s.r.chance(0.5) ? 1 : 0.25), s.scalar(static_cast<double>(e)), s.scalar(static_cast<double>(m)), s.r.chance(0.5) ? s.scalar(bias) : kNone, s.r.chance(0.5) ? s.scalar(3) : kNone},
         {{"rounding_mode", std::string(s.r.chance(0.5) ? "ROUND" : "FLOOR")}});
  while (s.g.nodes.back().inputs.back() == kNone) s.g.nodes.back().inputs.pop_back();
}
void sample_trunc(const OpDef& op, Sample& s) {
  const ValueId x = s.input(s.shape(), -8, 8), scale = s.scalar(0.25), zero = s.scalar(0), bits = s.scalar(8);
  const std::map<std::string, Attribute> attrs{{"rounding_mode", std::string(s.r.chance(0.5) ? "FLOOR" : "ROUND")}};
  if (s.r.chance(0.5)) s.node(op, {x, scale, zero, bits, s.scalar(static_cast<double>(s.r.range(2, 8)))}, attrs);
  else s.node(op, {x, scale, zero, bits, s.scalar(1), s.scalar(static_cast<double>(s.r.range(2, 6)))}, attrs);
}

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

std::span<const OpDef> open_quant_ops() {
  static const OpDef ops[] = {
      {.domain = "qonnx.custom_op.general", .name = "FloatQuant", .summary = "Quantiser to a small float format.",
       .doc = "v = X / scale; u = 2^max(floor(log2 |v|) - mantissa_bitwidth, 1 - exponent_bias - mantissa_bitwidth); Y = scale * clip(u * round(v / u), -max, max), max the smaller of max_val and the format's largest number.",
       .source = "QONNX FloatQuant",
       .inputs = {{"X", "any shape"}, {"scale", "positive, broadcasts to X"}, {"exponent_bitwidth", "scalar"}, {"mantissa_bitwidth", "scalar"}, {"exponent_bias", "scalar; absent: 2^(exponent_bitwidth - 1) - 1", true}, {"max_val", "scalar", true}},
       .outputs = {{"Y", "shape of X"}},
       .attributes = {{"rounding_mode", AttrType::string, "ROUND", "as of Quant"}, {"has_inf", AttrType::integer, "0", "without saturation: what is too large becomes infinite"},
                      {"has_nan", AttrType::integer, "0", "without saturation: what is too large becomes NaN"}, {"has_subnormal", AttrType::integer, "0", "of the format; the result does not depend on it"},
                      {"saturation", AttrType::integer, "1", "what is too large becomes the largest number"}, {"signed", AttrType::integer, "1", "of the format; the result does not depend on it"}},
       .closure = Closure::open, .infer = infer_like_first, .eval = {&float_quant_eval, nullptr}, .sample = sample_float_quant},
      {.domain = "qonnx.custom_op.general", .name = "Trunc", .summary = "Rounds to a grid, then drops low bits.",
       .doc = "n = round_half_even(X / scale + zeropt). Five inputs: Y = scale * (round(n / 2^(in_bits - out_bits)) - zeropt). Six: t = the power of two nearest to out_scale / scale; Y = out_scale * (round(clip(n / t, out_bits)) - zeropt / t).",
       .source = "QONNX Trunc, versions 1 and 2",
       .inputs = {{"X", "any shape"}, {"scale", "positive, broadcasts to X"}, {"zeropt", "broadcasts to X"}, {"in_bits", "scalar"}, {"out_bits or out_scale", "scalar; with six inputs the scale of the output"}, {"out_bits", "scalar", true}},
       .outputs = {{"Y", "shape of X"}},
       .attributes = {{"rounding_mode", AttrType::string, "FLOOR", "of the second rounding, as of Quant"}, {"signed", AttrType::integer, "1", "codes of the output (six inputs)"}, {"narrow", AttrType::integer, "0", "codes of the output (six inputs)"}},
       .closure = Closure::open, .infer = infer_like_first, .eval = {&trunc_eval, nullptr}, .sample = sample_trunc},
  };
  return ops;
}

}  // namespace tandem::ir
