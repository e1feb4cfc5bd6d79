// Element-wise operators: Add, Sub, Mul, Div, Pow, Relu, Clip, BatchNormalization, Identity, Dropout.
#include "tandem/ir/ops/adjoints.h"
#include "tandem/ir/ops/cascade.h"

namespace tandem::ir {
namespace {

void infer_binary(InferContext& c) {
  DType t = c.in[0]->dtype;
  if (c.in[1]->dtype != t)
    c.fail(fmt::format("operands have different element types: {} and {}", to_string(t), to_string(c.in[1]->dtype)));
  c.out = {TensorType{t, broadcast_dims(c, c.dims(0), c.dims(1))}};
}
void infer_pow(InferContext& c) { c.out = {TensorType{c.in[0]->dtype, broadcast_dims(c, c.dims(0), c.dims(1))}}; }
void infer_same(InferContext& c) {
  c.out.assign(1, *c.in[0]);
}

template <class T, class F>
void binary(EvalArgs<T>& e, F f) {
  const Array<T>&a = *e.in[0], &b = *e.in[1];
  Array<T> y(broadcast(a.shape, b.shape));
  Broadcaster ia(a.shape, y.shape), ib(b.shape, y.shape);
  for (std::int64_t i = 0; i < static_cast<std::int64_t>(y.v.size()); ++i) y.v[i] = f(a.v[ia(i)], b.v[ib(i)]);
  e.out[0] = std::move(y);
}
struct AddEval {
  template <class T> static void run(EvalArgs<T>& e) { binary(e, [](const T& a, const T& b) { return T(a + b); }); }
};
struct SubEval {
  template <class T> static void run(EvalArgs<T>& e) { binary(e, [](const T& a, const T& b) { return T(a - b); }); }
};
struct MulEval {
  template <class T> static void run(EvalArgs<T>& e) { binary(e, [](const T& a, const T& b) { return T(a * b); }); }
};
bool integer_type(const EvalArgs<double>& e) {
  const auto& v = e.graph.values[e.node.outputs[0]].type.dtype;
  return v != DType::f32 && v != DType::f64 && v != DType::f16 && v != DType::bf16;
}
struct DivEval {
  static double divide(EvalArgs<double>& e, double a, double b) {
    if (!integer_type(e)) return a / b;
    if (b == 0) throw node_error(e.graph, e.node, "integer division by zero");
    return std::trunc(a / b);
  }
  static Rational divide(EvalArgs<Rational>& e, const Rational& a, const Rational& b) {
    if (b == 0) throw node_error(e.graph, e.node, "division by zero in an exact value");
    return a / b;
  }
  template <class T> static void run(EvalArgs<T>& e) { binary(e, [&](const T& a, const T& b) { return divide(e, a, b); }); }
};
struct PowEval {
  static double power(EvalArgs<double>& e, double a, double b) {
    const double y = std::pow(a, b);
    return is_float(e.graph.values[static_cast<std::size_t>(e.node.outputs[0])].type.dtype) ? y : std::trunc(y);
  }
  static Rational power(EvalArgs<Rational>& e, const Rational& a, const Rational& b) {
    if (!is_integer(b) || abs(b) > 64) throw node_error(e.graph, e.node, "Pow is exact for integer exponents only");
    long n = b.get_num().get_si();
    if (n < 0 && a == 0) throw node_error(e.graph, e.node, "division by zero in an exact value");
    Rational r = 1;
    for (long i = 0; i < std::labs(n); ++i) r *= a;
    return n < 0 ? Rational(1 / r) : r;
  }
  template <class T> static void run(EvalArgs<T>& e) { binary(e, [&](const T& a, const T& b) { return power(e, a, b); }); }
};
struct ReluEval {
  template <class T>
  static void run(EvalArgs<T>& e) {
    Array<T> y = *e.in[0];
    for (T& v : y.v)
      if (v < 0) v = 0;
    e.out[0] = std::move(y);
  }
};
void infer_clip(InferContext& c) {
  for (std::size_t i = 1; i < c.in.size(); ++i)
    if (c.in[i] && c.in[i]->dims && !c.in[i]->dims->empty() && !(c.in[i]->dims->size() == 1 && (*c.in[i]->dims)[0].n == 1))
      c.fail("min and max must be scalars");
  infer_same(c);
}
struct ClipEval {
  template <class T>
  static void run(EvalArgs<T>& e) {
    Array<T> y = *e.in[0];
    const T* lo = e.in.size() > 1 && e.in[1] ? &e.in[1]->v[0] : nullptr;
    const T* hi = e.in.size() > 2 && e.in[2] ? &e.in[2]->v[0] : nullptr;
    for (T& v : y.v) {
      if (lo && v < *lo) v = *lo;
      if (hi && v > *hi) v = *hi;  // ONNX: max wins where min > max
    }
    e.out[0] = std::move(y);
  }
};

void infer_batchnorm(InferContext& c) {
  const Dims& x = c.dims(0);
  if (x.size() < 2) c.fail("input needs a channel axis (rank >= 2)");
  if (c.node.attr_int("training_mode", 0)) c.fail("training_mode = 1", "an inference BatchNormalization; training is tandem's own");
  for (int i = 1; i < 5; ++i) {
    const Dims& p = c.dims(i);
    if (p.size() != 1) c.fail("scale, bias, mean and variance must be vectors");
    if (p[0].known() && x[1].known() && p[0].n != x[1].n)
      c.fail(fmt::format("input has {} channels, parameter {} has {}", x[1].n, i, p[0].n));
  }
  infer_same(c);
}
float as_float(double v) { return static_cast<float>(v); }
float as_float(const Rational& q) { return nearest_float(q); }
struct BatchNormEval {
  template <class T>
  static void run(EvalArgs<T>& e) {
    const Array<T>& x = *e.in[0];
    float eps = static_cast<float>(e.node.attr_float("epsilon", 1e-5));
    std::int64_t C = x.shape[1], inner = element_count(Shape(x.shape.begin() + 2, x.shape.end()));
    std::vector<T> A(C), B(C);
    for (std::int64_t c = 0; c < C; ++c) {
      A[c] = number_from<T>(batchnorm_factor(as_float(e.in[1]->v[c]), as_float(e.in[4]->v[c]), eps));
      B[c] = e.in[2]->v[c] - A[c] * e.in[3]->v[c];
    }
    Array<T> y(x.shape);
    for (std::int64_t i = 0; i < static_cast<std::int64_t>(x.v.size()); ++i) {
      std::int64_t c = (i / inner) % C;
      y.v[i] = x.v[i] * A[c] + B[c];
    }
    e.out[0] = std::move(y);
  }
};
void infer_dropout(InferContext& c) {
  c.out = {*c.in[0], TensorType{DType::boolean, c.in[0]->dims}};
}
struct DropoutEval {
  template <class T>
  static void run(EvalArgs<T>& e) {
    const auto given = [&](std::size_t i) { return i < e.in.size() && e.in[i] && !e.in[i]->v.empty() && e.in[i]->v[0] != 0; };
    if (given(2) && (e.in.size() < 2 || !e.in[1] || given(1))) throw node_error(e.graph, e.node, "training_mode is true: its zeros are random").expected("an inference graph");
    e.out[0] = *e.in[0];
    if (e.out.size() > 1) {
      e.out[1] = Array<T>(e.in[0]->shape);
      for (T& v : e.out[1].v) v = T(1);
    }
  }
};
struct CopyEval {
  template <class T> static void run(EvalArgs<T>& e) { e.out[0] = *e.in[0]; }
};

std::vector<PortDef> ab(std::string_view a, std::string_view b) { return {{"A", a}, {"B", b}}; }
const std::vector<PortDef> kY{{"Y", "broadcast shape of the inputs"}};

}  // namespace

Einsum elementwise_einsum(const Graph& g, const Node& n) {
  const OpDef& def = op_of(g, n);
  const Shape y = shape_of(g, n.outputs[0]);
  Cascade c(g, n);
  const std::vector<std::string> ranks = c.ranks(y);
  std::vector<std::string> operands;
  for (std::size_t i = 0; i < n.inputs.size(); ++i) {
    if (n.inputs[i] == kNone) continue;
    const Shape s = shape_of(g, n.inputs[i]);
    if (i > 0 && n.op == "BatchNormalization") operands.push_back(at(c.in(i), {ranks.at(1)}));  // one number per channel
    else if (s.size() <= y.size()) operands.push_back(broadcast_at(c.in(i), s, y, ranks));
  }
  std::string low;
  for (char ch : n.op) low += static_cast<char>(ch >= 'A' && ch <= 'Z' ? ch + 32 : ch);
  c.line("{} = {}({})", at(operand_name(def.outputs, 0), ranks), low, fmt::join(operands, ","));
  return c.done();
}

const OpDef kAdd{.domain = "", .name = "Add", .summary = "Element-wise sum with broadcasting.", .doc = "Y = A + B.", .source = "ONNX Add-14",
                 .inputs = ab("any shape", "broadcasts with A"), .outputs = kY, .closure = Closure::join, .infer = infer_binary,
                 .eval = both<AddEval>(), .einsum = elementwise_einsum, .adjoint = adjoint_add};
const OpDef kSub{.domain = "", .name = "Sub", .summary = "Element-wise difference with broadcasting.", .doc = "Y = A - B.", .source = "ONNX Sub-14",
                 .inputs = ab("any shape", "broadcasts with A"), .outputs = kY, .closure = Closure::join, .infer = infer_binary,
                 .eval = both<SubEval>(), .einsum = elementwise_einsum, .adjoint = adjoint_sub};
const OpDef kMul{.domain = "", .name = "Mul", .summary = "Element-wise product with broadcasting.", .doc = "Y = A * B.", .source = "ONNX Mul-14",
                 .inputs = ab("any shape", "broadcasts with A"), .outputs = kY, .closure = Closure::join, .infer = infer_binary,
                 .eval = both<MulEval>(), .einsum = elementwise_einsum, .adjoint = adjoint_mul};
const OpDef kDiv{.domain = "", .name = "Div", .summary = "Element-wise quotient with broadcasting.",
                 .doc = "Y = A / B; exact where B is constant; integers truncate towards zero.", .source = "ONNX Div-14",
                 .inputs = ab("any shape", "broadcasts with A; never 0 in an exact graph"), .outputs = kY, .closure = Closure::affine,
                 .infer = infer_binary, .eval = both<DivEval>(), .einsum = elementwise_einsum, .adjoint = adjoint_div};
const OpDef kPow{.domain = "", .name = "Pow", .summary = "Element-wise power.",
                 .doc = "Y = A ^ B; exact for the constant exponents 1 and 2, float otherwise.", .source = "ONNX Pow-15",
                 .inputs = ab("base", "exponent, of any type"), .outputs = kY, .closure = Closure::join, .infer = infer_pow,
                 .eval = both<PowEval>(), .einsum = elementwise_einsum, .adjoint = adjoint_pow};
const OpDef kRelu{.domain = "", .name = "Relu", .summary = "Rectifier.", .doc = "Y = max(X, 0).", .source = "ONNX Relu-14",
                  .inputs = {{"X", "any shape"}}, .outputs = {{"Y", "shape of X"}}, .closure = Closure::piecewise, .infer = infer_same,
                  .eval = both<ReluEval>(), .einsum = elementwise_einsum, .adjoint = adjoint_relu};
const OpDef kClip{.domain = "", .name = "Clip", .summary = "Limits values to an interval.", .doc = "Y = min(max(X, min), max); max wins where min > max.",
                  .source = "ONNX Clip-13",
                  .inputs = {{"X", "any shape"}, {"min", "scalar", true}, {"max", "scalar", true}}, .outputs = {{"Y", "shape of X"}},
                  .closure = Closure::piecewise, .infer = infer_clip, .eval = both<ClipEval>(), .einsum = elementwise_einsum, .adjoint = adjoint_clip};
const OpDef kBatchNormalization{
    .domain = "", .name = "BatchNormalization", .summary = "Batch normalisation with stored statistics (inference).",
    .doc = "A = scale / sqrt(var + epsilon), correctly rounded once to f32; Y = A * (X - mean) + B, exact.", .source = "ONNX BatchNormalization-15",
    .inputs = {{"X", "[batch, channels, ...]"}, {"scale", "[channels]"}, {"B", "[channels]"}, {"mean", "[channels]"}, {"var", "[channels]"}},
    .outputs = {{"Y", "shape of X"}},
    .attributes = {{"epsilon", AttrType::real, "1e-05", "added to the variance"},
                   {"momentum", AttrType::real, "0.9", "of the running statistics; used by training only"},
                   {"training_mode", AttrType::integer, "0", "only 0"}},
    .closure = Closure::affine, .infer = infer_batchnorm, .eval = both<BatchNormEval>(), .einsum = elementwise_einsum, .adjoint = adjoint_batchnorm};
const OpDef kIdentity{.domain = "", .name = "Identity", .summary = "The input.", .doc = "Y = X.", .source = "ONNX Identity-16",
                      .inputs = {{"X", "any shape"}}, .outputs = {{"Y", "shape of X"}}, .closure = Closure::move, .infer = infer_same,
                      .eval = both<CopyEval>(), .einsum = elementwise_einsum, .adjoint = adjoint_identity};
const OpDef kDropout{.domain = "", .name = "Dropout", .summary = "The input (inference); random zeros only while training.",
                     .doc = "Y = X. While training, elements become 0 with probability `ratio` and the rest is scaled by 1/(1-ratio).",
                     .source = "ONNX Dropout-13",
                     .inputs = {{"X", "any shape"}, {"ratio", "scalar", true}, {"training_mode", "scalar, only false", true}},
                     .outputs = {{"Y", "shape of X"}, {"mask", "booleans: what was kept", true}},
                     .attributes = {{"seed", AttrType::integer, "", "ignored: random numbers are keyed by node name"}},
                     .closure = Closure::move, .infer = infer_dropout, .eval = both<DropoutEval>(), .einsum = elementwise_einsum, .adjoint = adjoint_identity};

}  // namespace tandem::ir
