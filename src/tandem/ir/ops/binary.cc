// Element-wise operators of several tensors with broadcasting: comparisons, logic, bits, minima, choices.
#include "tandem/ir/ops/adjoints.h"
#include "tandem/ir/ops/kit.h"

namespace tandem::ir {
namespace {

void same_types(InferContext& c, std::size_t from = 0) {
  for (std::size_t i = from + 1; i < c.in.size(); ++i)
    if (c.in[i] && c.in[i]->dtype != c.in[from]->dtype)
      c.fail(fmt::format("operands have different element types: {} and {}", to_string(c.in[from]->dtype), to_string(c.in[i]->dtype)));
}
TensorType broadcast_all(InferContext& c, DType t) {
  Dims d;
  for (std::size_t i = 0; i < c.in.size(); ++i) {
    if (!c.in[i]->dims) return unknown_rank(t);
    d = broadcast_dims(c, d, *c.in[i]->dims);
  }
  return {t, d};
}
void infer_numbers(InferContext& c) {
  same_types(c);
  c.out = {broadcast_all(c, c.in[0]->dtype)};
}
void infer_comparison(InferContext& c) {
  same_types(c);
  c.out = {broadcast_all(c, DType::boolean)};
}
void infer_logic(InferContext& c) {
  for (const TensorType* t : c.in)
    if (t->dtype != DType::boolean) c.fail(fmt::format("an operand holds {}", to_string(t->dtype)), "booleans");
  c.out = {broadcast_all(c, DType::boolean)};
}
void infer_bits(InferContext& c) {
  same_types(c);
  if (is_float(c.in[0]->dtype) || c.in[0]->dtype == DType::boolean) c.fail(fmt::format("an operand holds {}", to_string(c.in[0]->dtype)), "integers");
  c.out = {broadcast_all(c, c.in[0]->dtype)};
}
void infer_where(InferContext& c) {
  if (c.in[0]->dtype != DType::boolean) c.fail(fmt::format("the condition holds {}", to_string(c.in[0]->dtype)), "booleans");
  same_types(c, 1);
  c.out = {broadcast_all(c, c.in[1]->dtype)};
}
void infer_prelu(InferContext& c) {
  same_types(c);
  c.out = {TensorType{c.in[0]->dtype, c.in[0]->dims}};
}

// y = f(a, b), where `make(args)` gives f; more operands are folded from the left.
template <auto make>
void fold_eval(EvalArgs<double>& e) {
  const auto f = make(e);
  Array<double> y = *e.in[0];
  for (std::size_t k = 1; k < e.in.size(); ++k) {
    const Array<double>& b = *e.in[k];
    Array<double> z(broadcast(y.shape, b.shape));
    const Broadcaster ia(y.shape, z.shape), ib(b.shape, z.shape);
    for (std::int64_t i = 0; i < static_cast<std::int64_t>(z.v.size()); ++i) z.v[i] = f(y.v[ia(i)], b.v[ib(i)]);
    y = std::move(z);
  }
  e.out[0] = std::move(y);
}
using Args = const EvalArgs<double>&;
auto f_and(Args) { return [](double a, double b) { return a != 0 && b != 0 ? 1.0 : 0.0; }; }
auto f_or(Args) { return [](double a, double b) { return a != 0 || b != 0 ? 1.0 : 0.0; }; }
auto f_xor(Args) { return [](double a, double b) { return (a != 0) != (b != 0) ? 1.0 : 0.0; }; }
auto f_equal(Args) { return [](double a, double b) { return a == b ? 1.0 : 0.0; }; }
auto f_greater(Args) { return [](double a, double b) { return a > b ? 1.0 : 0.0; }; }
auto f_greater_equal(Args) { return [](double a, double b) { return a >= b ? 1.0 : 0.0; }; }
auto f_less(Args) { return [](double a, double b) { return a < b ? 1.0 : 0.0; }; }
auto f_less_equal(Args) { return [](double a, double b) { return a <= b ? 1.0 : 0.0; }; }
auto f_max(Args) { return [](double a, double b) { return std::isnan(a) || a > b ? a : b; }; }
auto f_min(Args) { return [](double a, double b) { return std::isnan(a) || a < b ? a : b; }; }
auto f_sum(Args) { return [](double a, double b) { return a + b; }; }
auto f_prelu(Args) { return [](double a, double b) { return a < 0 ? a * b : a; }; }
// Division with the sign of the divisor; fmod = 1: of the dividend, as C's fmod.
auto f_mod(Args e) {
  const bool fmod = e.node.attr_int("fmod", 0) != 0, whole = !is_float(out_type(e));
  if (!fmod && !whole) throw node_error(e.graph, e.node, "Mod of floats with fmod = 0").expected("fmod = 1: the sign of the dividend");
  return [&e, fmod, whole](double a, double b) {
    if (whole && b == 0) throw node_error(e.graph, e.node, "integer division by zero");
    const double r = std::fmod(a, b);
    return fmod || r == 0 || (r < 0) == (b < 0) ? r : r + b;
  };
}
enum class Bits { land, lor, lxor, left, right };
template <Bits b>
auto f_bits(Args e) {
  bool right = false;
  if constexpr (b == Bits::left) {
    const std::string d = e.node.attr_string("direction", "");
    if (d != "LEFT" && d != "RIGHT") throw node_error(e.graph, e.node, fmt::format("direction '{}'", d)).expected("LEFT or RIGHT");
    right = d == "RIGHT";
  }
  const int width = static_cast<int>(8 * size_of(out_type(e)));
  return [right, width](double x, double y) -> double {
    const std::int64_t i = to_int(x), j = to_int(y);
    if constexpr (b == Bits::land) return static_cast<double>(i & j);
    if constexpr (b == Bits::lor) return static_cast<double>(i | j);
    if constexpr (b == Bits::lxor) return static_cast<double>(i ^ j);
    if (j < 0 || j >= width) return 0;
    const std::uint64_t u = static_cast<std::uint64_t>(x < 0 ? 0 : x);
    const std::uint64_t mask = width == 64 ? ~std::uint64_t{0} : (std::uint64_t{1} << width) - 1;
    return static_cast<double>(right ? u >> j : (u << j) & mask);
  };
}
void mean_eval(EvalArgs<double>& e) {
  fold_eval<f_sum>(e);
  for (double& v : e.out[0].v) v /= static_cast<double>(e.in.size());
}
void where_eval(EvalArgs<double>& e) {
  const Array<double>&c = *e.in[0], &a = *e.in[1], &b = *e.in[2];
  Array<double> y(broadcast(broadcast(c.shape, a.shape), b.shape));
  const Broadcaster ic(c.shape, y.shape), ia(a.shape, y.shape), ib(b.shape, y.shape);
  for (std::int64_t i = 0; i < static_cast<std::int64_t>(y.v.size()); ++i) y.v[i] = c.v[ic(i)] != 0 ? a.v[ia(i)] : b.v[ib(i)];
  e.out[0] = std::move(y);
}

// Two shapes that broadcast: one of them has some extents 1, or fewer axes.
std::pair<Shape, Shape> two_shapes(Sample& s) {
  Shape a = s.shape(), b = a;
  for (auto& d : b)
    if (s.r.chance(0.3)) d = 1;
  if (s.r.chance(0.3)) b.erase(b.begin());
  return {a, b};
}
template <DType t, int lo, int hi>
void sample_two(const OpDef& op, Sample& s) {
  const auto [a, b] = two_shapes(s);
  const ValueId x = s.input(a, lo, hi, t);
  std::map<std::string, Attribute> attrs;
  if (op.name == "BitShift") attrs["direction"] = std::string(s.r.chance(0.5) ? "LEFT" : "RIGHT");
  s.node(op, {x, s.input(b, lo, hi, t)}, attrs);
}
void sample_many(const OpDef& op, Sample& s) {
  const auto [a, b] = two_shapes(s);
  std::vector<ValueId> in{s.input(a)};
  for (std::int64_t i = s.r.range(0, 2); i > 0; --i) in.push_back(s.input(b));
  s.node(op, in);
}
void sample_where(const OpDef& op, Sample& s) {
  const auto [a, b] = two_shapes(s);
  const ValueId c = s.input(b, 0, 1, DType::boolean), x = s.input(a);
  s.node(op, {c, x, s.input(b)});
}

const std::vector<PortDef> kAB{{"A", "any shape"}, {"B", "broadcasts with A"}}, kMany{{.name = "data", .doc = "shapes that broadcast", .variadic = true}},
    kY{{"Y", "broadcast shape of the inputs"}};

AdjointFn adjoint_of(std::string_view op) {
  return op == "Max" || op == "Min" ? adjoint_extreme : op == "Sum" || op == "Mean" ? adjoint_sum : op == "PRelu" ? adjoint_prelu : op == "Where" ? adjoint_where : nullptr;
}
#define BINARY(op_name, says, formula, from, ins, rule, f, draw, ...)                                                       \
  OpDef {                                                                                                                   \
    .domain = "", .name = op_name, .summary = says, .doc = formula, .source = from, .inputs = ins, .outputs = kY,           \
    .attributes = {__VA_ARGS__}, .infer = rule, .eval = {f, nullptr}, .einsum = elementwise_einsum,                         \
    .adjoint = adjoint_of(op_name), .sample = draw                                                                           \
  }
const OpDef kOps[] = {
    BINARY("And", "Logical and.", "Y = A and B.", "ONNX And-7", kAB, infer_logic, fold_eval<f_and>, (sample_two<DType::boolean, 0, 1>)),
    BINARY("Or", "Logical or.", "Y = A or B.", "ONNX Or-7", kAB, infer_logic, fold_eval<f_or>, (sample_two<DType::boolean, 0, 1>)),
    BINARY("Xor", "Exclusive or.", "Y = 1 where A and B differ.", "ONNX Xor-7", kAB, infer_logic, fold_eval<f_xor>, (sample_two<DType::boolean, 0, 1>)),
    BINARY("Equal", "Compares for equality.", "Y = 1 where A = B; NaN equals nothing.", "ONNX Equal-13", kAB, infer_comparison, fold_eval<f_equal>, (sample_two<DType::i32, 0, 2>)),
    BINARY("Greater", "Compares.", "Y = 1 where A > B.", "ONNX Greater-13", kAB, infer_comparison, fold_eval<f_greater>, (sample_two<DType::f32, -2, 2>)),
    BINARY("GreaterOrEqual", "Compares.", "Y = 1 where A >= B.", "ONNX GreaterOrEqual-16", kAB, infer_comparison, fold_eval<f_greater_equal>, (sample_two<DType::f32, -2, 2>)),
    BINARY("Less", "Compares.", "Y = 1 where A < B.", "ONNX Less-13", kAB, infer_comparison, fold_eval<f_less>, (sample_two<DType::f32, -2, 2>)),
    BINARY("LessOrEqual", "Compares.", "Y = 1 where A <= B.", "ONNX LessOrEqual-16", kAB, infer_comparison, fold_eval<f_less_equal>, (sample_two<DType::f32, -2, 2>)),
    BINARY("BitShift", "Shifts unsigned integers.", "Y = A * 2^B or A / 2^B rounded down; bits shifted out are lost.", "ONNX BitShift-11", kAB, infer_bits, fold_eval<f_bits<Bits::left>>,
           (sample_two<DType::u8, 0, 7>), {"direction", AttrType::string, "required", "LEFT or RIGHT"}),
    BINARY("BitwiseAnd", "And of every bit.", "Y = A & B.", "ONNX BitwiseAnd-18", kAB, infer_bits, fold_eval<f_bits<Bits::land>>, (sample_two<DType::i16, -99, 99>)),
    BINARY("BitwiseOr", "Or of every bit.", "Y = A | B.", "ONNX BitwiseOr-18", kAB, infer_bits, fold_eval<f_bits<Bits::lor>>, (sample_two<DType::i16, -99, 99>)),
    BINARY("BitwiseXor", "Exclusive or of every bit.", "Y = A ^ B.", "ONNX BitwiseXor-18", kAB, infer_bits, fold_eval<f_bits<Bits::lxor>>, (sample_two<DType::i16, -99, 99>)),
    BINARY("Mod", "Remainder.", "The remainder with the sign of B (integers); fmod = 1: with the sign of A.", "ONNX Mod-13", kAB, infer_numbers, fold_eval<f_mod>,
           (sample_two<DType::i32, 1, 9>), {"fmod", AttrType::integer, "0", "1: as C's fmod; required for floats"}),
    BINARY("Max", "Largest of several tensors.", "Y = max of the inputs; NaN wins.", "ONNX Max-13", kMany, infer_numbers, fold_eval<f_max>, sample_many),
    BINARY("Min", "Smallest of several tensors.", "Y = min of the inputs; NaN wins.", "ONNX Min-13", kMany, infer_numbers, fold_eval<f_min>, sample_many),
    BINARY("Sum", "Sum of several tensors.", "Y = the sum of the inputs.", "ONNX Sum-13", kMany, infer_numbers, fold_eval<f_sum>, sample_many),
    BINARY("Mean", "Mean of several tensors.", "Y = the sum of the inputs over their number.", "ONNX Mean-13", kMany, infer_numbers, mean_eval, sample_many),
    BINARY("PRelu", "Rectifier with learned slopes below zero.", "Y = X where X >= 0, else slope * X.", "ONNX PRelu-16",
           (std::vector<PortDef>{{"X", "any shape"}, {"slope", "broadcasts to X"}}), infer_prelu, fold_eval<f_prelu>, (sample_two<DType::f32, -2, 2>)),
    BINARY("Where", "Chooses between two tensors.", "Y = X where the condition holds, else Z.", "ONNX Where-16",
           (std::vector<PortDef>{{"condition", "booleans"}, {"X", "broadcasts"}, {"Z", "broadcasts"}}), infer_where, where_eval, sample_where),
};
#undef BINARY

}  // namespace

std::span<const OpDef> binary_ops() { return kOps; }

}  // namespace tandem::ir
