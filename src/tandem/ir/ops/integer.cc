// Integer contractions with zero points: MatMulInteger, ConvInteger, and their requantised forms.
#include "tandem/ir/ops/cascade.h"
#include "tandem/ir/ops/kit.h"

namespace tandem::ir {
namespace {

using Args = EvalArgs<double>;

void whole(const InferContext& c, std::initializer_list<std::size_t> inputs) {
  for (std::size_t i : inputs)
    if (has(c, i) && c.in[i]->dtype != DType::i8 && c.in[i]->dtype != DType::u8) c.fail(fmt::format("input {} holds {}", i, to_string(c.in[i]->dtype)), "i8 or u8");
}
// x - zero, where `zero` is one number or one per slice along `axis`.
Array<double> centred(const Args& e, const Array<double>& x, const Array<double>* zero, std::int64_t axis) {
  if (!zero) return x;
  Array<double> y = x;
  std::int64_t inner = 1, n = 1;
  if (zero->v.size() != 1) {
    const Around a(x.shape, axis);
    inner = a.inner, n = a.n;
    if (static_cast<std::int64_t>(zero->v.size()) != n) throw node_error(e.graph, e.node, fmt::format("{} zero points for an axis of {}", zero->v.size(), n));
  }
  for (std::size_t i = 0; i < y.v.size(); ++i) y.v[i] -= zero->v[static_cast<std::size_t>(static_cast<std::int64_t>(i) / inner % n)];
  return y;
}
Array<double> product(Args& e, const Array<double>& a, const Array<double>& b) {
  std::vector<Array<double>> out(1);
  EvalArgs<double> m{e.graph, e.node, {&a, &b}, out};
  kMatMul.eval.as_double(m);
  return std::move(out[0]);
}
// round(y * scale) + zero, saturated: in f32, half to even. `scale` is one number or one per slice along `axis`.
Array<double> requantised(const Args& e, Array<double> y, const std::vector<float>& scale, std::int64_t axis, double zero) {
  const auto [lo, hi] = integer_range(out_type(e));
  std::int64_t inner = 1, n = 1;
  if (scale.size() != 1) {
    const Around a(y.shape, axis);
    inner = a.inner, n = a.n;
    if (static_cast<std::int64_t>(scale.size()) != n) throw node_error(e.graph, e.node, fmt::format("{} scales for an axis of {}", scale.size(), n));
  }
  for (std::size_t i = 0; i < y.v.size(); ++i) {
    const float s = scale[static_cast<std::size_t>(static_cast<std::int64_t>(i) / inner % n)];
    y.v[i] = std::clamp(static_cast<double>(std::nearbyint(static_cast<float>(y.v[i]) * s)) + zero, lo, hi);
  }
  return y;
}
std::vector<float> scales(const Array<double>& a, const Array<double>& b, const Array<double>& y) {
  std::vector<float> s;
  for (std::size_t i = 0; i < std::max(a.v.size(), b.v.size()); ++i)
    s.push_back(static_cast<float>(a.v[a.v.size() == 1 ? 0 : i]) * static_cast<float>(b.v[b.v.size() == 1 ? 0 : i]) / static_cast<float>(y.v[0]));
  return s;
}
void infer_product(InferContext& c, std::size_t a, std::size_t b, DType t) {
  const Dims &x = c.dims(a), &w = c.dims(b);
  if (!all_known(x) || !all_known(w)) {
    c.out = {unknown_rank(t)};
    return;
  }
  Shape xs, ws;
  for (const Dim& d : x) xs.push_back(d.n);
  for (const Dim& d : w) ws.push_back(d.n);
  c.out = {typed(t, matmul_shape(c.graph, c.node, xs, ws).out)};
}

void infer_matmul_integer(InferContext& c) {
  whole(c, {0, 1, 2, 3});
  infer_product(c, 0, 1, DType::i32);
}
void matmul_integer_eval(Args& e) {
  const auto rows = static_cast<std::int64_t>(e.in[0]->shape.size()) - 2, columns = static_cast<std::int64_t>(e.in[1]->shape.size()) - 1;
  e.out[0] = product(e, centred(e, *e.in[0], has(e, 2) ? e.in[2] : nullptr, rows), centred(e, *e.in[1], has(e, 3) ? e.in[3] : nullptr, columns));
}
void infer_conv_integer(InferContext& c) {
  whole(c, {0, 1, 2, 3});
  infer_convolution(c, 1);
  c.out[0].dtype = DType::i32;
}
void conv_integer_eval(Args& e) {
  const Windows w = windows_of(e.graph, e.node, spatial(e.in[0]->shape), spatial(e.in[1]->shape));
  e.out[0] = convolve(centred(e, *e.in[0], has(e, 2) ? e.in[2] : nullptr, 0), centred(e, *e.in[1], has(e, 3) ? e.in[3] : nullptr, 0), static_cast<const Array<double>*>(nullptr), w);
}
void infer_qlinear_matmul(InferContext& c) {
  whole(c, {0, 3, 7});
  infer_product(c, 0, 3, c.in[7]->dtype);
}
void qlinear_matmul_eval(Args& e) {
  const auto rows = static_cast<std::int64_t>(e.in[0]->shape.size()) - 2, columns = static_cast<std::int64_t>(e.in[3]->shape.size()) - 1;
  Array<double> y = product(e, centred(e, *e.in[0], e.in[2], rows), centred(e, *e.in[3], e.in[5], columns));
  const bool by_row = e.in[1]->v.size() > 1;
  if (by_row && e.in[4]->v.size() > 1) throw node_error(e.graph, e.node, "scales by row of A and by column of B");
  const auto axis = static_cast<std::int64_t>(y.shape.size()) - (by_row ? 2 : 1);
  e.out[0] = requantised(e, std::move(y), scales(*e.in[1], *e.in[4], *e.in[6]), axis, e.in[7]->v.at(0));
}
void infer_qlinear_conv(InferContext& c) {
  whole(c, {0, 3, 7});
  infer_convolution(c, 3);
  c.out[0].dtype = c.in[7]->dtype;
}
void qlinear_conv_eval(Args& e) {
  const Windows w = windows_of(e.graph, e.node, spatial(e.in[0]->shape), spatial(e.in[3]->shape));
  Array<double> y = convolve(centred(e, *e.in[0], e.in[2], 0), centred(e, *e.in[3], e.in[5], 0), has(e, 8) ? e.in[8] : nullptr, w);
  e.out[0] = requantised(e, std::move(y), scales(*e.in[1], *e.in[4], *e.in[6]), 1, e.in[7]->v.at(0));
}

// The exact meaning: the integers of both operands, one product of all scales, one cast. Where scales or zero points are not constant there is none.
std::vector<ValueId> decompose_qlinear(Graph& g, const Node& n) {
  const bool conv = n.op == "QLinearConv";
  for (std::size_t i : {1, 2, 4, 5, 6, 7})
    if (n.in(i) == kNone || !g.constant(n.in(i))) return {};
  // Copies: values are added below.
  const std::optional<Dims> x = g.values[static_cast<std::size_t>(n.in(0))].type.dims, w = g.values[static_cast<std::size_t>(n.in(3))].type.dims;
  if (!x || !w || x->size() < 2 || w->size() < 2) return {};
  const std::string base = n.name.empty() ? g.values[static_cast<std::size_t>(n.outputs[0])].name : n.name;
  const auto rank = static_cast<std::int64_t>(x->size());
  const auto codes = [&](ValueId v, ValueId zero, std::int64_t axis, const char* suffix) {
    Tensor ones(DType::f32, g.constant(zero)->shape());
    for (std::int64_t i = 0; i < ones.size(); ++i) ones.set(i, 1);
    return g.add_node("DequantizeLinear", {v, g.add_constant(base + "_one", ones), zero}, {{"axis", axis}}, base + suffix);
  };
  // A scale of its own for each slice along an axis, counted from the end.
  const auto scaled = [&](ValueId v, ValueId scale, std::int64_t behind, const char* suffix) {
    const Tensor& s = *g.constant(scale);
    Shape shape;
    if (s.size() > 1) {
      shape.assign(static_cast<std::size_t>(behind) + 1, 1);
      shape[0] = s.size();
    }
    return g.add_node("Mul", {v, g.add_constant(base + suffix, s.reshaped(shape))}, {}, base + suffix);
  };
  std::vector<ValueId> in{codes(n.in(0), n.in(2), conv ? 1 : rank - 2, "_x"), codes(n.in(3), n.in(5), conv ? 0 : static_cast<std::int64_t>(w->size()) - 1, "_w")};
  if (conv && n.in(8) != kNone) in.push_back(g.add_node("DequantizeLinear", {n.in(8), g.add_constant(base + "_one", Tensor::scalar(1.0f))}, {}, base + "_bias"));
  ValueId y = g.add_node(conv ? "Conv" : "MatMul", in, n.attrs, base + "_sums");
  y = scaled(y, n.in(1), 1, "_x_scale");
  y = scaled(y, n.in(4), conv ? rank - 2 : 0, "_w_scale");
  return {g.add_node("QuantizeLinear", {y, n.in(6), n.in(7)}, {}, base + "_codes")};
}

// The operands less their zero points, their contraction, and what the quantised forms do to its sums.
Einsum integer_einsum(const Graph& g, const Node& n) {
  const bool conv = n.op.ends_with("Conv") || n.op == "ConvInteger", quantised = n.op.starts_with("QLinear");
  const std::size_t a = 0, b = quantised ? 3 : 1, a_zero = 2, b_zero = quantised ? 5 : 3;
  const Shape as = shape_of(g, n.in(a)), bs = shape_of(g, n.in(b)), y = shape_of(g, n.outputs[0]);
  Node plain = n;
  plain.op = conv ? "Conv" : "MatMul";
  plain.inputs = {n.in(a), n.in(b)};
  Cascade c(g, n);
  const auto centred = [&](std::size_t i, std::size_t zero, const Shape& s, std::size_t axis, std::string_view names) {
    const std::vector<std::string> all = c.ranks(s, names);
    const std::string name = c.in(i) + "_centred";
    if (n.in(zero) == kNone) c.line("{} = {}", at(name, all), at(c.in(i), all));
    else c.line("{} = {} - {}", at(name, all), at(c.in(i), all), one_or_each(c.in(zero), shape_of(g, n.in(zero)), all.at(axis)));
    return name;
  };
  const std::string A = centred(a, a_zero, as, conv ? 0 : as.size() < 2 ? 0 : as.size() - 2, "ijklmnop"), B = centred(b, b_zero, bs, conv ? 0 : bs.size() - 1, "abcdefgh");
  Einsum product = (conv ? kConv : kMatMul).einsum(g, plain);
  product.inputs[0].operand = A, product.inputs[1].operand = B;
  product.output.operand = quantised ? "acc" : c.out();
  const std::vector<std::string> all = c.ranks(y, "tuvwxyz");
  std::string sums = at("acc", all);
  if (quantised) {
    if (conv && n.in(8) != kNone) {
      c.line("{} = {}", at("acc", all), at(c.in(8), {all[1]}));
    }
    // Rows of A or columns of B may have a scale each.
    const std::size_t last = y.size() - 1;
    const auto scale = [&](std::size_t i, std::size_t axis) { return one_or_each(c.in(i), shape_of(g, n.in(i)), all.at(axis)); };
    Cascade after(g, n);
    after.ranks(y, "tuvwxyz");
    after.line("{} = requantise({},{},{},{},{})", at(c.out(), all), sums, scale(1, conv ? 1 : last - 1), scale(4, conv ? 1 : last), scale(6, 0), scale(7, 0));
    Einsum e = after.done(), before = c.done();
    for (const Einsum* s : before.statements()) {
      e.before.push_back(*s);
      e.before.back().before.clear();
    }
    e.before.push_back(std::move(product));
    return e;
  }
  Einsum before = c.done();
  for (const Einsum* s : before.statements()) {
    product.before.push_back(*s);
    product.before.back().before.clear();
  }
  return product;
}
void sample_integer(const OpDef& op, Sample& s) {
  const bool conv = op.name == "ConvInteger" || op.name == "QLinearConv", requant = op.name.starts_with("QLinear");
  const std::int64_t n = s.r.range(1, 3), k = s.r.range(1, 3), m = s.r.range(1, 3);
  const ValueId x = s.input(conv ? Shape{1, k, 4, 4} : Shape{n, k}, 0, 255, DType::u8);
  const ValueId w = s.constant(conv ? Shape{m, k, 2, 2} : Shape{k, m}, -128, 127, DType::i8);
  const Shape each = s.r.chance(0.5) ? Shape{m} : Shape{};
  if (!requant) {
    s.node(op, {x, w, s.scalar(static_cast<double>(s.r.range(0, 255)), DType::u8), s.constant(each, -9, 9, DType::i8)});
    return;
  }
  std::vector<ValueId> in{x, s.scalar(0.25), s.scalar(7, DType::u8), w, s.constant(each, 0.25, 0.5), s.constant(each, -9, 9, DType::i8), s.scalar(16), s.scalar(3, DType::i8)};
  if (conv && s.r.chance(0.5)) in.push_back(s.constant({m}, -99, 99, DType::i32));
  s.node(op, in);
}
std::vector<AttrDef> window_attributes() { return kConv.attributes; }

const std::vector<PortDef> kQuantisedMatMul{{"a", "i8 or u8"}, {"a_scale", "one, or one per row"}, {"a_zero_point", "as a_scale"}, {"b", "i8 or u8"},
                                            {"b_scale", "one, or one per column"}, {"b_zero_point", "as b_scale"}, {"y_scale", "one"}, {"y_zero_point", "one"}};
const std::vector<PortDef> kQuantisedConv{{"x", "i8 or u8"}, {"x_scale", "one"}, {"x_zero_point", "one"}, {"w", "i8 or u8"}, {"w_scale", "one, or one per output channel"},
                                          {"w_zero_point", "as w_scale"}, {"y_scale", "one"}, {"y_zero_point", "one"}, {"B", "i32, of scale x_scale * w_scale", true}};

}  // namespace

std::span<const OpDef> integer_ops() {
  static const OpDef ops[] = {  // not before kConv, whose attributes they take
      OpDef{.domain = "", .name = "MatMulInteger", .summary = "Matrix product of 8-bit integers.", .doc = "Y = (A - a_zero) * (B - b_zero), in i32.", .source = "ONNX MatMulInteger-10",
            .inputs = {{"A", "i8 or u8"}, {"B", "i8 or u8"}, {"a_zero_point", "one, or one per row", true}, {"b_zero_point", "one, or one per column", true}}, .outputs = {{"Y", "i32"}},
            .infer = infer_matmul_integer, .eval = {matmul_integer_eval, nullptr}, .einsum = integer_einsum, .sample = sample_integer},
      OpDef{.domain = "", .name = "ConvInteger", .summary = "Convolution of 8-bit integers.", .doc = "Conv of X - x_zero with W - w_zero, in i32; padding is x_zero.", .source = "ONNX ConvInteger-10",
            .inputs = {{"X", "i8 or u8"}, {"W", "i8 or u8"}, {"x_zero_point", "one", true}, {"w_zero_point", "one, or one per output channel", true}}, .outputs = {{"Y", "i32"}},
            .attributes = window_attributes(), .infer = infer_conv_integer, .eval = {conv_integer_eval, nullptr}, .einsum = integer_einsum, .sample = sample_integer},
      OpDef{.domain = "", .name = "QLinearMatMul", .summary = "Matrix product of quantised matrices, quantised again.",
            .doc = "Y = saturate(round(acc * (a_scale * b_scale / y_scale)) + y_zero), acc = (A - a_zero) * (B - b_zero); in f32, half to even. Exactly: with one product of the three scales.", .source = "ONNX QLinearMatMul-10",
            .inputs = kQuantisedMatMul, .outputs = {{"Y", "type of y_zero_point"}}, .infer = infer_qlinear_matmul, .eval = {qlinear_matmul_eval, nullptr}, .einsum = integer_einsum, .decompose = decompose_qlinear, .sample = sample_integer},
      OpDef{.domain = "", .name = "QLinearConv", .summary = "Convolution of quantised tensors, quantised again.",
            .doc = "Y = saturate(round(acc * (x_scale * w_scale / y_scale)) + y_zero), acc = Conv(X - x_zero, W - w_zero) + B; in f32, half to even. Exactly: with one product of the three scales.", .source = "ONNX QLinearConv-10",
            .inputs = kQuantisedConv, .outputs = {{"Y", "type of y_zero_point"}}, .attributes = window_attributes(), .infer = infer_qlinear_conv, .eval = {qlinear_conv_eval, nullptr}, .einsum = integer_einsum, .decompose = decompose_qlinear,
            .sample = sample_integer},
  };
  return ops;
}

}  // namespace tandem::ir
