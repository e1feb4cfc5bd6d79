// Element-wise functions of one tensor: activations, rounding, trigonometry, tests.
#include "tandem/ir/ops/adjoints.h"
#include "tandem/ir/ops/kit.h"

namespace tandem::ir {
namespace {

double real(const Node& n, const char* key, double fallback) { return n.attr_float(key, fallback); }
double sigmoid(double x) { return x >= 0 ? 1 / (1 + std::exp(-x)) : std::exp(x) / (1 + std::exp(x)); }
double softplus(double x) { return std::max(x, 0.0) + std::log1p(std::exp(-std::abs(x))); }

// One function per operator: from its node and the type of its result to the function of a number.
template <double (*f)(double)>
auto plain(const Node&, DType) { return [](double x) { return f(x); }; }

auto f_neg(const Node&, DType) { return [](double x) { return -x; }; }
auto f_abs(const Node&, DType) { return [](double x) { return std::abs(x); }; }
auto f_sign(const Node&, DType) { return [](double x) { return x > 0 ? 1.0 : x < 0 ? -1.0 : x; }; }
auto f_not(const Node&, DType) { return [](double x) { return x == 0 ? 1.0 : 0.0; }; }
auto f_bitwise_not(const Node&, DType t) {
  return [t](double x) { return t == DType::u8 || t == DType::u16 || t == DType::u32 ? std::ldexp(1.0, static_cast<int>(8 * size_of(t))) - 1 - x : -1 - x; };
}
auto f_reciprocal(const Node&, DType) { return [](double x) { return 1 / x; }; }
auto f_isnan(const Node&, DType) { return [](double x) { return std::isnan(x) ? 1.0 : 0.0; }; }
auto f_isinf(const Node& n, DType) {
  const bool negative = n.attr_int("detect_negative", 1), positive = n.attr_int("detect_positive", 1);
  return [=](double x) { return std::isinf(x) && (x < 0 ? negative : positive) ? 1.0 : 0.0; };
}
auto f_sigmoid(const Node&, DType) { return [](double x) { return sigmoid(x); }; }
auto f_hard_sigmoid(const Node& n, DType) {
  return [a = real(n, "alpha", 0.2), b = real(n, "beta", 0.5)](double x) { return std::clamp(a * x + b, 0.0, 1.0); };
}
auto f_hard_swish(const Node&, DType) { return [](double x) { return x * std::clamp(x / 6 + 0.5, 0.0, 1.0); }; }
auto f_softplus(const Node&, DType) { return [](double x) { return softplus(x); }; }
auto f_softsign(const Node&, DType) { return [](double x) { return x / (1 + std::abs(x)); }; }
auto f_elu(const Node& n, DType) { return [a = real(n, "alpha", 1)](double x) { return x < 0 ? a * std::expm1(x) : x; }; }
auto f_celu(const Node& n, DType) { return [a = real(n, "alpha", 1)](double x) { return std::max(0.0, x) + std::min(0.0, a * std::expm1(x / a)); }; }
auto f_selu(const Node& n, DType) {
  return [a = real(n, "alpha", 1.67326319217681884765625), s = real(n, "gamma", 1.05070102214813232421875)](double x) { return s * (x > 0 ? x : a * std::expm1(x)); };
}
auto f_leaky(const Node& n, DType) { return [a = real(n, "alpha", 0.01)](double x) { return x < 0 ? a * x : x; }; }
auto f_thresholded(const Node& n, DType) { return [a = real(n, "alpha", 1)](double x) { return x > a ? x : 0.0; }; }
auto f_shrink(const Node& n, DType) {
  return [b = real(n, "bias", 0), l = real(n, "lambd", 0.5)](double x) { return x < -l ? x + b : x > l ? x - b : 0.0; };
}
auto f_gelu(const Node& n, DType) {
  return [tanh = n.attr_string("approximate", "none") == "tanh"](double x) {
    return tanh ? 0.5 * x * (1 + std::tanh(std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x))) : 0.5 * x * (1 + std::erf(x / std::sqrt(2.0)));
  };
}
auto f_mish(const Node&, DType) { return [](double x) { return x * std::tanh(softplus(x)); }; }
auto f_swish(const Node& n, DType) { return [a = real(n, "alpha", 1)](double x) { return x * sigmoid(a * x); }; }
auto f_round(const Node&, DType) { return [](double x) { return std::nearbyint(x); }; }  // the rounding mode is never changed: half to even

void leaky_exactly(EvalArgs<Rational>& e) {
  const Rational a = exact(static_cast<float>(e.node.attr_float("alpha", 0.01)));
  Array<Rational> y = *e.in[0];
  for (Rational& x : y.v)
    if (x < 0) x *= a;
  e.out[0] = std::move(y);
}

// A number as another type holds it: floats to integers truncate.
void cast_eval(EvalArgs<double>& e) {
  const DType from = in_type(e), to = out_type(e);
  Array<double> y = *e.in[0];
  if (to == DType::boolean)
    for (double& x : y.v) x = x != 0;
  else if (is_float(from) && !is_float(to)) y = array_of(tensor_of(y, to));
  e.out[0] = std::move(y);
}

void infer_float(InferContext& c) {
  if (!is_float(c.in[0]->dtype)) c.fail(fmt::format("its input holds {}", to_string(c.in[0]->dtype)), "floats");
  infer_first(c);
}
void infer_truth(InferContext& c) {
  if (c.in[0]->dtype != DType::boolean) c.fail(fmt::format("its input holds {}", to_string(c.in[0]->dtype)), "booleans");
  infer_first(c);
}
void infer_whole(InferContext& c) {
  if (is_float(c.in[0]->dtype) || c.in[0]->dtype == DType::boolean) c.fail(fmt::format("its input holds {}", to_string(c.in[0]->dtype)), "integers");
  infer_first(c);
}
void infer_cast(InferContext& c) {
  const std::int64_t to = c.node.attr_int("to", 0);
  const auto t = onnx_dtype(to);
  if (!t) c.fail(fmt::format("it casts to the type number {} of ONNX", to), "a type of floats, integers or booleans");
  c.out = {TensorType{*t, c.in[0]->dims}};
}
void infer_cast_like(InferContext& c) { c.out = {TensorType{c.in[1]->dtype, c.in[0]->dims}}; }

template <int lo, int hi>
void sample_on(const OpDef& op, Sample& s) { s.node(op, {s.input(s.shape(0), lo, hi)}); }
void sample_truth(const OpDef& op, Sample& s) { s.node(op, {s.input(s.shape(0), 0, 1, DType::boolean)}); }
void sample_whole(const OpDef& op, Sample& s) { s.node(op, {s.input(s.shape(0), 0, 100, DType::u8)}); }
void sample_cast(const OpDef& op, Sample& s) {
  static constexpr std::int64_t to[] = {1, 2, 3, 6, 7, 9, 10, 11, 16};
  s.node(op, {s.input(s.shape(0), 0, 100)}, {{"to", to[s.r.range(0, 8)]}});
}
void sample_cast_like(const OpDef& op, Sample& s) {
  const ValueId x = s.input(s.shape(0), 0, 100);
  s.node(op, {x, s.input({1}, 0, 1, DType::f16)});
}

const std::vector<PortDef> kX{{"X", "any shape"}}, kFloatX{{"X", "floats of any shape"}}, kY{{"Y", "shape of X"}};
AttrDef alpha(std::string_view fallback, std::string_view doc) { return {"alpha", AttrType::real, fallback, doc}; }

// ---- functions that are young in ONNX, from older operators -------------------------------------------
// A number of the type of n's input.
ValueId number(Graph& g, const Node& n, double v) {
  Tensor t(g.values[static_cast<std::size_t>(n.inputs[0])].type.dtype, Shape{});
  t.set(0, v);
  return g.add_constant(g.unique_name("number"), std::move(t));
}
std::vector<ValueId> expand_gelu(Graph& g, const Node& node) {
  const Node n = node;
  const ValueId x = n.inputs[0];
  ValueId inner;
  if (n.attr_string("approximate", "none") == "tanh") {
    const ValueId cube = g.add_node("Mul", {g.add_node("Mul", {x, x}), x});
    const ValueId sum = g.add_node("Add", {x, g.add_node("Mul", {cube, number(g, n, 0.044715)})});
    inner = g.add_node("Tanh", {g.add_node("Mul", {sum, number(g, n, std::sqrt(2 / M_PI))})});
  } else {
    inner = g.add_node("Erf", {g.add_node("Mul", {x, number(g, n, std::sqrt(0.5))})});
  }
  return {g.add_node("Mul", {g.add_node("Mul", {x, number(g, n, 0.5)}), g.add_node("Add", {inner, number(g, n, 1)})})};
}
std::vector<ValueId> expand_hard_swish(Graph& g, const Node& node) {
  const Node n = node;
  return {g.add_node("Mul", {n.inputs[0], g.add_node("HardSigmoid", {n.inputs[0]}, {{"alpha", 1.0 / 6}, {"beta", 0.5}})})};
}
std::vector<ValueId> expand_mish(Graph& g, const Node& node) {
  const Node n = node;
  return {g.add_node("Mul", {n.inputs[0], g.add_node("Tanh", {g.add_node("Softplus", {n.inputs[0]})})})};
}
std::vector<ValueId> expand_swish(Graph& g, const Node& node) {
  const Node n = node;
  const double a = n.attr_float("alpha", 1);
  const ValueId inner = a == 1 ? n.inputs[0] : g.add_node("Mul", {n.inputs[0], number(g, n, a)});
  return {g.add_node("Mul", {n.inputs[0], g.add_node("Sigmoid", {inner})})};
}
std::vector<ValueId> expand_celu(Graph& g, const Node& node) {  // alpha * Elu(X / alpha), for alpha above 0
  const Node n = node;
  const double a = n.attr_float("alpha", 1);
  if (!(a > 0)) return {};
  return {g.add_node("Mul", {g.add_node("Elu", {g.add_node("Mul", {n.inputs[0], number(g, n, 1 / a)})}), number(g, n, a)})};
}
std::vector<ValueId> expand_shrink(Graph& g, const Node& node) {
  const Node n = node;
  const double bias = n.attr_float("bias", 0), l = n.attr_float("lambd", 0.5);
  if (l < 0 || !is_float(g.values[static_cast<std::size_t>(n.inputs[0])].type.dtype)) return {};
  const ValueId below = g.add_node("Less", {n.inputs[0], number(g, n, -l)}), above = g.add_node("Greater", {n.inputs[0], number(g, n, l)});
  const ValueId down = g.add_node("Sub", {n.inputs[0], number(g, n, bias)}), up = g.add_node("Add", {n.inputs[0], number(g, n, bias)});
  return {g.add_node("Where", {below, up, g.add_node("Where", {above, down, number(g, n, 0)})})};
}
std::vector<ValueId> expand_thresholded(Graph& g, const Node& node) {
  const Node n = node;
  return {g.add_node("Where", {g.add_node("Greater", {n.inputs[0], number(g, n, n.attr_float("alpha", 1))}), n.inputs[0], number(g, n, 0)})};
}
DecomposeFn expansion_of(std::string_view op) {
  return op == "Gelu" ? expand_gelu : op == "HardSwish" ? expand_hard_swish : op == "Mish" ? expand_mish : op == "Swish" ? expand_swish : op == "Celu" ? expand_celu : op == "Shrink" ? expand_shrink
         : op == "ThresholdedRelu" ? expand_thresholded : nullptr;
}

#define UNARY(op_name, says, formula, from, f, rule, draw, ...)                                                                   \
  OpDef {                                                                                                                         \
    .domain = "", .name = op_name, .summary = says, .doc = formula, .source = from, .inputs = kX, .outputs = kY,                 \
    .attributes = {__VA_ARGS__}, .infer = rule, .eval = {map_eval<f>, nullptr}, .einsum = elementwise_einsum,                 \
    .adjoint = has_slope(op_name) ? adjoint_unary : nullptr, .expansion = expansion_of(op_name), .sample = draw                   \
  }
const OpDef kOps[] = {
    UNARY("Abs", "Magnitude.", "Y = |X|.", "ONNX Abs-13", f_abs, infer_first, (sample_on<-2, 2>)),
    UNARY("Acos", "Arc cosine.", "Y = acos(X), in radians.", "ONNX Acos-7", plain<std::acos>, infer_float, (sample_on<-1, 1>)),
    UNARY("Acosh", "Inverse hyperbolic cosine.", "Y = acosh(X).", "ONNX Acosh-9", plain<std::acosh>, infer_float, (sample_on<1, 9>)),
    UNARY("Asin", "Arc sine.", "Y = asin(X), in radians.", "ONNX Asin-7", plain<std::asin>, infer_float, (sample_on<-1, 1>)),
    UNARY("Asinh", "Inverse hyperbolic sine.", "Y = asinh(X).", "ONNX Asinh-9", plain<std::asinh>, infer_float, (sample_on<-2, 2>)),
    UNARY("Atan", "Arc tangent.", "Y = atan(X), in radians.", "ONNX Atan-7", plain<std::atan>, infer_float, (sample_on<-2, 2>)),
    UNARY("Atanh", "Inverse hyperbolic tangent.", "Y = atanh(X).", "ONNX Atanh-9", plain<std::atanh>, infer_float, (sample_on<-1, 1>)),
    UNARY("BitwiseNot", "Inverts every bit.", "Y = -1 - X for signed integers, 2^bits - 1 - X for unsigned ones.", "ONNX BitwiseNot-18", f_bitwise_not, infer_whole, sample_whole),
    UNARY("Ceil", "Rounds up.", "Y = the smallest integer not below X.", "ONNX Ceil-13", plain<std::ceil>, infer_float, (sample_on<-9, 9>)),
    UNARY("Celu", "Continuously differentiable exponential linear unit.", "Y = max(0, X) + min(0, alpha * (exp(X / alpha) - 1)).", "ONNX Celu-12", f_celu, infer_float,
          (sample_on<-2, 2>), alpha("1", "scale of the negative part")),
    UNARY("Cos", "Cosine.", "Y = cos(X), X in radians.", "ONNX Cos-7", plain<std::cos>, infer_float, (sample_on<-9, 9>)),
    UNARY("Cosh", "Hyperbolic cosine.", "Y = cosh(X).", "ONNX Cosh-9", plain<std::cosh>, infer_float, (sample_on<-2, 2>)),
    UNARY("Elu", "Exponential linear unit.", "Y = X where X >= 0, else alpha * (exp(X) - 1).", "ONNX Elu-6", f_elu, infer_float, (sample_on<-2, 2>),
          alpha("1", "scale of the negative part")),
    UNARY("Erf", "Gauss error function.", "Y = erf(X).", "ONNX Erf-13", plain<std::erf>, infer_float, (sample_on<-2, 2>)),
    UNARY("Exp", "Exponential.", "Y = exp(X).", "ONNX Exp-13", plain<std::exp>, infer_float, (sample_on<-2, 2>)),
    UNARY("Floor", "Rounds down.", "Y = the largest integer not above X.", "ONNX Floor-13", plain<std::floor>, infer_float, (sample_on<-9, 9>)),
    UNARY("Gelu", "Gaussian error linear unit.", "Y = X/2 * (1 + erf(X / sqrt 2)); approximate = tanh: X/2 * (1 + tanh(sqrt(2/pi) * (X + 0.044715 * X^3))).", "ONNX Gelu-20", f_gelu,
          infer_float, (sample_on<-2, 2>), {"approximate", AttrType::string, "none", "none or tanh"}),
    UNARY("HardSigmoid", "Piecewise linear sigmoid.", "Y = min(max(alpha * X + beta, 0), 1).", "ONNX HardSigmoid-6", f_hard_sigmoid, infer_float, (sample_on<-9, 9>),
          alpha("0.2", "slope"), {"beta", AttrType::real, "0.5", "offset"}),
    UNARY("HardSwish", "X times its piecewise linear sigmoid.", "Y = X * min(max(X / 6 + 1/2, 0), 1).", "ONNX HardSwish-14", f_hard_swish, infer_float, (sample_on<-9, 9>)),
    OpDef{.domain = "", .name = "IsInf", .summary = "Finds infinities.", .doc = "Y = 1 where X is infinite with a sign that is asked for.", .source = "ONNX IsInf-20",
          .inputs = kFloatX, .outputs = kY,
          .attributes = {{"detect_negative", AttrType::integer, "1", "1: minus infinity counts"}, {"detect_positive", AttrType::integer, "1", "1: plus infinity counts"}},
          .infer = infer_first_as<DType::boolean>, .eval = {map_eval<f_isinf>, nullptr}, .einsum = elementwise_einsum, .sample = sample_on<-2, 2>},
    UNARY("IsNaN", "Finds what is not a number.", "Y = 1 where X is NaN.", "ONNX IsNaN-20", f_isnan, infer_first_as<DType::boolean>, (sample_on<-2, 2>)),
    OpDef{.domain = "", .name = "LeakyRelu", .summary = "Rectifier with a slope below zero.", .doc = "Y = X where X >= 0, else alpha * X.", .source = "ONNX LeakyRelu-16",
          .inputs = kX, .outputs = kY, .attributes = {alpha("0.01", "slope of the negative part")}, .closure = Closure::piecewise, .infer = infer_float,
          .eval = {map_eval<f_leaky>, leaky_exactly}, .einsum = elementwise_einsum, .adjoint = adjoint_unary, .sample = sample_on<-2, 2>},
    UNARY("Log", "Natural logarithm.", "Y = ln X.", "ONNX Log-13", plain<std::log>, infer_float, (sample_on<1, 9>)),
    UNARY("Mish", "X times the tanh of its softplus.", "Y = X * tanh(ln(1 + exp X)).", "ONNX Mish-18", f_mish, infer_float, (sample_on<-2, 2>)),
    UNARY("Neg", "Opposite.", "Y = -X.", "ONNX Neg-13", f_neg, infer_first, (sample_on<-2, 2>)),
    UNARY("Not", "Logical negation.", "Y = 1 where X is 0, else 0.", "ONNX Not-1", f_not, infer_truth, sample_truth),
    UNARY("Reciprocal", "One over X.", "Y = 1 / X.", "ONNX Reciprocal-13", f_reciprocal, infer_float, (sample_on<1, 9>)),
    UNARY("Round", "Rounds to the nearest integer.", "Half rounds to the even integer.", "ONNX Round-11", f_round, infer_float, (sample_on<-9, 9>)),
    UNARY("Selu", "Scaled exponential linear unit.", "Y = gamma * X where X > 0, else gamma * alpha * (exp(X) - 1).", "ONNX Selu-6", f_selu, infer_float, (sample_on<-2, 2>),
          alpha("1.67326", "scale of the negative part"), {"gamma", AttrType::real, "1.0507", "scale"}),
    UNARY("Shrink", "Moves towards zero.", "Y = X + bias where X < -lambd, X - bias where X > lambd, else 0.", "ONNX Shrink-9", f_shrink, infer_first, (sample_on<-2, 2>),
          {"bias", AttrType::real, "0", "by how much"}, {"lambd", AttrType::real, "0.5", "what lies within becomes 0"}),
    UNARY("Sigmoid", "Logistic function.", "Y = 1 / (1 + exp(-X)).", "ONNX Sigmoid-13", f_sigmoid, infer_float, (sample_on<-9, 9>)),
    UNARY("Sign", "Sign.", "Y = 1, 0 or -1.", "ONNX Sign-13", f_sign, infer_first, (sample_on<-2, 2>)),
    UNARY("Sin", "Sine.", "Y = sin(X), X in radians.", "ONNX Sin-7", plain<std::sin>, infer_float, (sample_on<-9, 9>)),
    UNARY("Sinh", "Hyperbolic sine.", "Y = sinh(X).", "ONNX Sinh-9", plain<std::sinh>, infer_float, (sample_on<-2, 2>)),
    UNARY("Softplus", "Smooth rectifier.", "Y = ln(1 + exp X).", "ONNX Softplus-1", f_softplus, infer_float, (sample_on<-9, 9>)),
    UNARY("Softsign", "X over one plus its magnitude.", "Y = X / (1 + |X|).", "ONNX Softsign-1", f_softsign, infer_float, (sample_on<-9, 9>)),
    UNARY("Sqrt", "Square root.", "Y = sqrt X; NaN below 0.", "ONNX Sqrt-13", plain<std::sqrt>, infer_float, (sample_on<0, 9>)),
    UNARY("Swish", "X times its sigmoid (SiLU).", "Y = X / (1 + exp(-alpha * X)).", "ONNX Swish-24", f_swish, infer_float, (sample_on<-9, 9>), alpha("1", "slope inside the sigmoid")),
    UNARY("Tan", "Tangent.", "Y = tan(X), X in radians.", "ONNX Tan-7", plain<std::tan>, infer_float, (sample_on<-1, 1>)),
    UNARY("Tanh", "Hyperbolic tangent.", "Y = tanh(X).", "ONNX Tanh-13", plain<std::tanh>, infer_float, (sample_on<-9, 9>)),
    UNARY("ThresholdedRelu", "Rectifier with a threshold.", "Y = X where X > alpha, else 0.", "ONNX ThresholdedRelu-10", f_thresholded, infer_float, (sample_on<-2, 2>),
          alpha("1", "the threshold")),
    OpDef{.domain = "", .name = "Cast", .summary = "The same numbers in another type.",
          .doc = "Floats to integers truncate towards zero and saturate, NaN becomes 0; integers keep their low bits; anything but 0 is true.", .source = "ONNX Cast-19",
          .inputs = kX, .outputs = kY,
          .attributes = {{"to", AttrType::integer, "required", "number of the type in ONNX"}, {"saturate", AttrType::integer, "1", "of the 8-bit floats only, which are not supported"}},
          .infer = infer_cast, .eval = {cast_eval, nullptr}, .einsum = elementwise_einsum, .adjoint = adjoint_cast, .sample = sample_cast},
    OpDef{.domain = "", .name = "CastLike", .summary = "The same numbers in the type of another tensor.", .doc = "As Cast, to the type of `target`.", .source = "ONNX CastLike-19",
          .inputs = {{"X", "any shape"}, {"target", "only its type is read"}}, .outputs = kY, .attributes = {{"saturate", AttrType::integer, "1", "of the 8-bit floats only"}},
          .infer = infer_cast_like, .eval = {cast_eval, nullptr}, .einsum = elementwise_einsum, .adjoint = adjoint_cast, .sample = sample_cast_like},
};
#undef UNARY

}  // namespace

std::span<const OpDef> unary_ops() { return kOps; }

}  // namespace tandem::ir
