// Operators of onnxruntime (com.microsoft) that optimised and quantised exports contain.
#include "tandem/ir/ops/adjoints.h"
#include "tandem/ir/ops/expansions.h"
#include "tandem/ir/ops/kit.h"

namespace tandem::ir {
namespace {

using Args = EvalArgs<double>;
using Attrs = std::map<std::string, Attribute>;
constexpr std::string_view kMicrosoft = "com.microsoft";

// What another operator's literal makes of some of the inputs.
void infer_as(InferContext& c, const OpDef& op, std::vector<const TensorType*> in, std::vector<const Tensor*> constants = {}) {
  constants.resize(in.size());
  InferContext sub{c.graph, c.node, std::move(in), std::move(constants), {}};
  op.infer(sub);
  c.out = std::move(sub.out);
}
Array<double> eval_as(const Args& e, const OpDef& op, std::vector<const Array<double>*> in) {
  std::vector<Array<double>> out(1);
  EvalArgs<double> sub{e.graph, e.node, std::move(in), out};
  op.eval.as_double(sub);
  return std::move(out[0]);
}
double gelu(double x) { return 0.5 * x * (1 + std::erf(x / std::sqrt(2.0))); }
double fast_gelu(double x) { return 0.5 * x * (1 + std::tanh(std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x))); }
double logistic(double x) { return x >= 0 ? 1 / (1 + std::exp(-x)) : std::exp(x) / (1 + std::exp(x)); }

// ---- FusedMatMul ------------------------------------------------------------------------------------
bool turned(const Node& n, const char* which) { return n.attr_int(which, 0) != 0; }
void infer_fused_matmul(InferContext& c) {
  for (const char* key : {"transBatchA", "transBatchB"})
    if (turned(c.node, key)) c.fail(fmt::format("{} is 1", key), "0");
  TensorType a = *c.in[0], b = *c.in[1];
  const Dims &x = c.dims(0), &y = c.dims(1);
  if (turned(c.node, "transA") && x.size() > 1) std::swap((*a.dims)[x.size() - 1], (*a.dims)[x.size() - 2]);
  if (turned(c.node, "transB") && y.size() > 1) std::swap((*b.dims)[y.size() - 1], (*b.dims)[y.size() - 2]);
  infer_as(c, kMatMul, {&a, &b});
}
Array<double> transposed(const Array<double>& x) {
  if (x.shape.size() < 2) return x;
  Shape s = x.shape;
  std::swap(s[s.size() - 1], s[s.size() - 2]);
  const std::int64_t n = s[s.size() - 1], m = s[s.size() - 2];  // of the result: m rows of n
  Array<double> y(s);
  for (std::size_t i = 0; i < y.v.size(); ++i) {
    const auto k = static_cast<std::int64_t>(i);
    y.v[i] = x.v[static_cast<std::size_t>(k / (n * m) * (n * m) + k % n * m + k / n % m)];
  }
  return y;
}
void fused_matmul(Args& e) {
  const Array<double> a = turned(e.node, "transA") ? transposed(*e.in[0]) : *e.in[0], b = turned(e.node, "transB") ? transposed(*e.in[1]) : *e.in[1];
  const double alpha = e.node.attr_float("alpha", 1);
  Array<double> y = eval_as(e, kMatMul, {&a, &b});
  for (double& v : y.v) v *= alpha;
  e.out[0] = std::move(y);
}
void sample_fused_matmul(const OpDef& op, Sample& s) {
  const std::int64_t ta = s.r.range(0, 1), tb = s.r.range(0, 1), n = s.r.range(1, 4), k = s.r.range(1, 4), m = s.r.range(1, 4);
  Shape a = s.shape(0, 2), b = s.r.chance(0.5) ? Shape{} : a;
  a.insert(a.end(), {ta ? k : n, ta ? n : k}), b.insert(b.end(), {tb ? m : k, tb ? k : m});
  const ValueId x = s.input(a);
  s.node(op, {x, s.input(b)}, {{"alpha", 0.5}, {"transA", ta}, {"transB", tb}});
}

// ---- activations ------------------------------------------------------------------------------------
void infer_biased(InferContext& c) {
  if (has(c, 1)) {
    const Dims &x = c.dims(0), &b = c.dims(1);
    if (b.size() != 1 || x.empty() || (b[0].known() && x.back().known() && b[0].n != x.back().n)) c.fail(fmt::format("a bias {} for {}", to_string(b), to_string(x)), "one number per column");
  }
  infer_first(c);
}
template <double (*f)(double)>
void biased(Args& e) {
  Array<double> y = *e.in[0];
  const std::vector<double>* b = has(e, 1) ? &e.in[1]->v : nullptr;
  if (b && static_cast<std::int64_t>(b->size()) != y.shape.back()) throw node_error(e.graph, e.node, fmt::format("a bias of {} for {}", b->size(), to_string(y.shape)));
  for (std::size_t i = 0; i < y.v.size(); ++i) y.v[i] = f(b ? y.v[i] + (*b)[i % b->size()] : y.v[i]);
  e.out[0] = std::move(y);
}
void sample_biased(const OpDef& op, Sample& s) {
  const Shape x = s.shape();
  std::vector<ValueId> in{s.input(x)};
  if (op.name == "BiasGelu" || (op.name == "FastGelu" && s.r.chance(0.5))) in.push_back(s.constant({x.back()}, -1, 1));
  s.node(op, in);
}
void quick_gelu(Args& e) {
  const double a = e.node.attr_float("alpha", 1.702);
  Array<double> y = *e.in[0];
  for (double& v : y.v) v *= logistic(a * v);
  e.out[0] = std::move(y);
}
void sample_quick(const OpDef& op, Sample& s) { s.node(op, {s.input(s.shape())}, {{"alpha", 1.5}}); }

// ---- normalisations ---------------------------------------------------------------------------------
struct SkipPorts {
  bool centred, skip;
  std::size_t gamma, beta, bias;  // 9: none
  explicit SkipPorts(const Node& n) : centred(n.op == "SkipLayerNormalization"), skip(n.op != "SimplifiedLayerNormalization"), gamma(skip ? 2 : 1), beta(centred ? 3 : 9), bias(centred ? 4 : skip ? 3 : 9) {}
};
std::size_t first_axis(const Graph& g, const Node& n, std::size_t rank) {
  return static_cast<std::size_t>(normal_axis(SkipPorts(n).skip ? -1 : n.attr_int("axis", -1), static_cast<std::int64_t>(rank), g, n));
}
void infer_skip(InferContext& c) {
  const SkipPorts p(c.node);
  const Dims& x = c.dims(0);
  const std::size_t axis = first_axis(c.graph, c.node, x.size());
  Dims rows = x;
  for (std::size_t i = axis; i < rows.size(); ++i) rows[i] = 1;
  if (p.skip) {
    const Dims b = broadcast_dims(c, x, c.dims(1));
    if (all_known(x) && all_known(b) && b != x) c.fail(fmt::format("a skip {} for {}", to_string(c.dims(1)), to_string(x)));
  }
  const TensorType moment{DType::f32, rows};
  if (p.skip) c.out = {*c.in[0], moment, moment, *c.in[0]};
  else c.out = {*c.in[0], moment};
}
void skip_eval(Args& e) {
  const SkipPorts p(e.node);
  Array<double> x = *e.in[0];
  const std::size_t axis = first_axis(e.graph, e.node, x.shape.size());
  const Shape inner(x.shape.begin() + static_cast<std::ptrdiff_t>(axis), x.shape.end());
  const std::int64_t width = element_count(inner), rows = width ? static_cast<std::int64_t>(x.v.size()) / width : 0;
  const auto parameter = [&](std::size_t i) -> const std::vector<double>* {
    if (!has(e, i)) return nullptr;
    if (static_cast<std::int64_t>(e.in[i]->v.size()) != width) throw node_error(e.graph, e.node, fmt::format("input {} has {} elements for {} columns", i, e.in[i]->v.size(), width));
    return &e.in[i]->v;
  };
  const auto *gamma = parameter(p.gamma), *beta = parameter(p.beta), *bias = parameter(p.bias);
  if (p.skip) {
    if (broadcast(e.in[1]->shape, x.shape) != x.shape) throw node_error(e.graph, e.node, fmt::format("a skip {} for {}", to_string(e.in[1]->shape), to_string(x.shape)));
    const Broadcaster at(e.in[1]->shape, x.shape);
    for (std::size_t i = 0; i < x.v.size(); ++i) x.v[i] += e.in[1]->v[static_cast<std::size_t>(at(static_cast<std::int64_t>(i)))] + (bias ? (*bias)[i % bias->size()] : 0);
  }
  Shape reduced = x.shape;
  for (std::size_t i = axis; i < reduced.size(); ++i) reduced[i] = 1;
  Array<double> y(x.shape), mean(reduced), inverse(reduced);
  const double epsilon = e.node.attr_float("epsilon", p.skip ? 1e-12 : 1e-5);
  for (std::int64_t r = 0; r < rows; ++r) {
    const double* v = x.v.data() + r * width;
    double m = 0, q = 0;
    if (p.centred)
      for (std::int64_t i = 0; i < width; ++i) m += v[i] / static_cast<double>(width);
    for (std::int64_t i = 0; i < width; ++i) q += (v[i] - m) * (v[i] - m) / static_cast<double>(width);
    const double f = 1 / std::sqrt(q + epsilon);
    mean.v[static_cast<std::size_t>(r)] = m, inverse.v[static_cast<std::size_t>(r)] = f;
    for (std::int64_t i = 0; i < width; ++i) y.v[static_cast<std::size_t>(r * width + i)] = (v[i] - m) * f * (gamma ? (*gamma)[static_cast<std::size_t>(i)] : 1) + (beta ? (*beta)[static_cast<std::size_t>(i)] : 0);
  }
  e.out[0] = std::move(y);
  if (!p.skip) {
    if (e.out.size() > 1) e.out[1] = std::move(inverse);
    return;
  }
  if (e.out.size() > 1) e.out[1] = std::move(mean);
  if (e.out.size() > 2) e.out[2] = std::move(inverse);
  if (e.out.size() > 3) e.out[3] = std::move(x);
}
void sample_skip(const OpDef& op, Sample& s) {
  const bool skip = op.name != "SimplifiedLayerNormalization", centred = op.name == "SkipLayerNormalization";
  Shape x{s.r.range(1, 2), s.r.range(1, 3), s.r.range(1, 4)};
  const std::int64_t axis = skip ? 2 : s.r.range(1, 2), width = axis == 2 ? x[2] : x[1] * x[2];
  std::vector<ValueId> in{s.input(x)};
  if (skip) in.push_back(s.input(s.r.chance(0.5) ? x : Shape{x[1], x[2]}));
  in.push_back(s.constant(axis == 2 ? Shape{width} : Shape{x[1], x[2]}, 0.5, 2));
  if (centred) in.push_back(s.r.chance(0.5) ? s.constant({width}, -1, 1) : kNone);
  if (skip && s.r.chance(0.5)) in.push_back(s.constant({width}, -1, 1));
  Attrs a{{"epsilon", 0.0078125}};
  if (!skip) a["axis"] = axis - (s.r.chance(0.5) ? 3 : 0);
  s.node(op, in, a, static_cast<std::size_t>(s.r.range(1, skip ? 4 : 2)));
}

// ---- FusedConv --------------------------------------------------------------------------------------
std::vector<double> parameters(const Graph& g, const Node& n, std::size_t need) {
  std::vector<double> v;
  if (const auto at = n.attrs.find("activation_params"); at != n.attrs.end()) v = std::get<std::vector<double>>(at->second);
  if (v.size() != need) throw node_error(g, n, fmt::format("{} activation_params", v.size())).expected(fmt::format("{}", need));
  return v;
}
std::function<double(double)> fused_activation(const Graph& g, const Node& n) {
  const std::string s = n.attr_string("activation", "");
  if (s == "Relu") return [](double x) { return std::max(x, 0.0); };
  if (s == "Tanh") return [](double x) { return std::tanh(x); };
  if (s == "Sigmoid") return logistic;
  if (s == "LeakyRelu") return [a = parameters(g, n, 1)[0]](double x) { return x < 0 ? a * x : x; };
  if (s == "Clip") return [p = parameters(g, n, 2)](double x) { return std::min(std::max(x, p[0]), p[1]); };
  if (s == "HardSigmoid") return [p = parameters(g, n, 2)](double x) { return std::clamp(p[0] * x + p[1], 0.0, 1.0); };
  if (s.empty()) return [](double x) { return x; };
  throw node_error(g, n, fmt::format("activation '{}' is unknown", printable(s))).expected("Relu, Tanh, Sigmoid, LeakyRelu, Clip or HardSigmoid");
}
void infer_fused_conv(InferContext& c) {
  infer_as(c, kConv, {c.in[0], c.in[1], has(c, 2) ? c.in[2] : nullptr});
  if (has(c, 3) && c.in[3]->dims && all_known(*c.in[3]->dims) && all_known(*c.out[0].dims) && *c.in[3]->dims != *c.out[0].dims) c.fail(fmt::format("Z is {}, the convolution {}", to_string(*c.in[3]->dims), to_string(*c.out[0].dims)));
  fused_activation(c.graph, c.node);
}
void fused_conv(Args& e) {
  Array<double> y = eval_as(e, kConv, {e.in[0], e.in[1], has(e, 2) ? e.in[2] : nullptr});
  if (has(e, 3) && e.in[3]->shape != y.shape) throw node_error(e.graph, e.node, fmt::format("Z is {}, the convolution {}", to_string(e.in[3]->shape), to_string(y.shape)));
  const auto f = fused_activation(e.graph, e.node);
  for (std::size_t i = 0; i < y.v.size(); ++i) y.v[i] = f(has(e, 3) ? y.v[i] + e.in[3]->v[i] : y.v[i]);
  e.out[0] = std::move(y);
}
void sample_fused_conv(const OpDef& op, Sample& s) {
  static const std::pair<const char*, std::vector<double>> names[] = {{"Relu", {}}, {"Tanh", {}}, {"Sigmoid", {}}, {"LeakyRelu", {0.25}}, {"Clip", {-0.5, 1}}, {"HardSigmoid", {0.25, 0.5}}};
  const auto& [name, p] = names[s.r.range(0, 5)];
  const std::int64_t c = s.r.range(1, 3), o = s.r.range(1, 3);
  const ValueId x = s.input({2, c, 5, 4}), w = s.constant({o, c, 2, 2}, -1, 1), b = s.r.chance(0.5) ? s.constant({o}, -1, 1) : kNone;
  std::vector<ValueId> in{x, w, b};
  if (s.r.chance(0.5)) in.push_back(s.input({2, o, 4, 3}));
  Attrs a{{"activation", std::string(name)}};
  if (!p.empty()) a["activation_params"] = p;
  s.node(op, in, a);
}

// ---- quantised --------------------------------------------------------------------------------------
bool eight_bits(DType t) { return t == DType::i8 || t == DType::u8; }
void quantised_input(const InferContext& c, std::size_t i) {
  if (!has(c, i) || !eight_bits(c.in[i]->dtype)) c.fail(fmt::format("input {} holds {}", i, has(c, i) ? to_string(c.in[i]->dtype) : "nothing"), "i8 or u8");
}
double one_number(const Args& e, std::size_t i, double absent) {
  if (!has(e, i)) return absent;
  if (e.in[i]->v.size() != 1) throw node_error(e.graph, e.node, fmt::format("input {} has {} elements", i, e.in[i]->v.size())).expected("one");
  return e.in[i]->v[0];
}
// (x - zero) * scale, of the inputs from `at` on: values, scale, zero.
Array<double> real_values(const Args& e, std::size_t at) {
  const double scale = one_number(e, at + 1, 1), zero = one_number(e, at + 2, 0);
  Array<double> y = *e.in[at];
  for (double& v : y.v) v = (v - zero) * scale;
  return y;
}
// round(v / scale) + zero, saturated, by the inputs from `at` on; the quotient in f32, half to even.
void store(Args& e, Array<double> y, std::size_t at) {
  const auto scale = static_cast<float>(one_number(e, at, 1));
  if (!(scale > 0)) throw node_error(e.graph, e.node, fmt::format("a scale of {}", scale)).expected("a positive number");
  const double zero = one_number(e, at + 1, 0);
  const auto [lo, hi] = integer_range(out_type(e));
  for (double& v : y.v) v = std::clamp(static_cast<double>(std::nearbyint(static_cast<float>(v) / scale)) + zero, lo, hi);
  e.out[0] = std::move(y);
}
void infer_qbinary(InferContext& c) {
  quantised_input(c, 0), quantised_input(c, 3);
  if (c.in[0]->dtype != c.in[3]->dtype) c.fail(fmt::format("inputs of {} and {}", to_string(c.in[0]->dtype), to_string(c.in[3]->dtype)), "one type");
  c.out = {TensorType{c.in[0]->dtype, broadcast_dims(c, c.dims(0), c.dims(3))}};
}
void qbinary(Args& e) {
  const Array<double> a = real_values(e, 0), b = real_values(e, 3);
  Array<double> y(broadcast(a.shape, b.shape));
  const Broadcaster x(a.shape, y.shape), z(b.shape, y.shape);
  const bool product = e.node.op == "QLinearMul";
  for (std::size_t i = 0; i < y.v.size(); ++i) {
    const double u = a.v[static_cast<std::size_t>(x(static_cast<std::int64_t>(i)))], v = b.v[static_cast<std::size_t>(z(static_cast<std::int64_t>(i)))];
    y.v[i] = product ? u * v : u + v;
  }
  store(e, std::move(y), 6);
}
void sample_qbinary(const OpDef& op, Sample& s) {
  const DType t = s.r.chance(0.5) ? DType::u8 : DType::i8;
  const double lo = t == DType::u8 ? 0 : -128, hi = lo + 255;
  const Shape a = s.shape();
  const ValueId x = s.input(a, lo, hi, t), y = s.input(s.r.chance(0.5) ? a : Shape{a.back()}, lo, hi, t);
  const auto zero = [&] { return s.r.chance(0.7) ? s.scalar(static_cast<double>(s.r.range(0, 9)), t) : kNone; };
  const ValueId sx = s.scalar(0.25), zx = zero(), sy = s.scalar(0.125), zy = zero(), sc = s.scalar(0.5);
  std::vector<ValueId> in{x, sx, zx, y, sy, zy, sc};
  if (s.r.chance(0.7)) in.push_back(s.scalar(3, t));
  s.node(op, in);
}
void no_channels_last(InferContext& c) {
  quantised_input(c, 0);
  if (c.node.attr_int("channels_last", 0)) c.fail("channels_last is 1", "channels in front");
}
void infer_qpool(InferContext& c) {
  no_channels_last(c);
  infer_as(c, c.node.op == "QLinearAveragePool" ? kAveragePool : kGlobalAveragePool, {c.in[0]});
}
void qpool(Args& e) {
  const Array<double> x = real_values(e, 0);
  store(e, eval_as(e, e.node.op == "QLinearAveragePool" ? kAveragePool : kGlobalAveragePool, {&x}), 3);
}
void infer_qmap(InferContext& c) {
  quantised_input(c, 0);
  infer_first(c);
}
void qmap(Args& e) {
  Array<double> y = real_values(e, 0);
  const bool leaky = e.node.op == "QLinearLeakyRelu";
  const double a = e.node.attr_float("alpha", 0.01);
  for (double& v : y.v) v = leaky ? (v < 0 ? a * v : v) : logistic(v);
  store(e, std::move(y), 3);
}
void sample_quantised(const OpDef& op, Sample& s) {
  const bool pool = op.name.ends_with("Pool");
  Attrs a;
  if (op.name == "QLinearLeakyRelu") a["alpha"] = 0.25;
  if (op.name == "QLinearAveragePool") a["kernel_shape"] = Shape{2, 2}, a["pads"] = Shape{1, 0, 0, 1};
  const ValueId x = s.input(pool ? Shape{2, 3, 4, 5} : s.shape(), 0, 255, DType::u8), sx = s.scalar(0.0625), zx = s.scalar(128, DType::u8), sy = s.scalar(op.name == "QLinearSigmoid" ? 0.00390625 : 0.125);
  s.node(op, {x, sx, zx, sy, s.scalar(7, DType::u8)}, a);
}
void infer_qconcat(InferContext& c) {
  if (c.in.size() < 5 || (c.in.size() - 2) % 3) c.fail(fmt::format("{} inputs", c.in.size()), "scale, zero point, then a tensor, its scale and zero point each");
  std::vector<const TensorType*> in;
  for (std::size_t i = 2; i < c.in.size(); i += 3) {
    quantised_input(c, i);
    if (c.in[i]->dtype != c.in[2]->dtype) c.fail(fmt::format("inputs of {} and {}", to_string(c.in[2]->dtype), to_string(c.in[i]->dtype)), "one type");
    in.push_back(c.in[i]);
  }
  infer_as(c, kConcat, in);
}
void qconcat(Args& e) {
  std::vector<Array<double>> parts;
  for (std::size_t i = 2; i + 2 < e.in.size(); i += 3) parts.push_back(real_values(e, i));
  std::vector<const Array<double>*> in;
  for (const Array<double>& p : parts) in.push_back(&p);
  store(e, eval_as(e, kConcat, in), 0);
}
void sample_qconcat(const OpDef& op, Sample& s) {
  Shape x = s.shape();
  const std::int64_t axis = s.axis(x.size());
  std::vector<ValueId> in{s.scalar(0.25), s.scalar(5, DType::u8)};
  for (std::int64_t i = s.r.range(1, 3); i > 0; --i) {
    x[static_cast<std::size_t>(axis < 0 ? axis + static_cast<std::int64_t>(x.size()) : axis)] = s.r.range(1, 3);
    in.push_back(s.input(x, 0, 255, DType::u8)), in.push_back(s.scalar(0.125 * static_cast<double>(i))), in.push_back(s.scalar(static_cast<double>(i), DType::u8));
  }
  s.node(op, in, {{"axis", axis}});
}

const std::vector<PortDef> kAny{{"X", "any shape"}}, kSame{{"Y", "shape of X"}};
std::vector<PortDef> one_quantised() { return {{"X", "i8 or u8"}, {"X_scale", "one"}, {"X_zero_point", "one; default 0", true}, {"Y_scale", "one"}, {"Y_zero_point", "one; default 0", true}}; }
std::vector<PortDef> two_quantised() { return {{"A", "i8 or u8"}, {"A_scale", "one"}, {"A_zero_point", "one; default 0", true}, {"B", "type of A; broadcasts"}, {"B_scale", "one"}, {"B_zero_point", "one; default 0", true}, {"C_scale", "one"}, {"C_zero_point", "one; default 0", true}}; }
const AttrDef kSmall{"epsilon", AttrType::real, "1e-12", "added to the variance"}, kSmallSimple{"epsilon", AttrType::real, "1e-05", "added to the mean square"}, kFirstAxis{"axis", AttrType::integer, "-1", "first of the axes normalised"}, kStash{"stash_type", AttrType::integer, "1", "not read"},
    kChannelsLast{"channels_last", AttrType::integer, "0", "only 0"};
std::vector<AttrDef> with(std::vector<AttrDef> a, std::initializer_list<AttrDef> more) {
  a.insert(a.end(), more);
  return a;
}
constexpr std::string_view kStored = " All of real values x = (X - zero) * scale; the result is saturate(round(y / Y_scale) + Y_zero), the quotient in f32, half to even.";
std::string stored(std::string_view formula) { return fmt::format("{}{}", formula, kStored); }
const std::string kQAdd = stored("y = a + b."), kQMul = stored("y = a * b."), kQPool = stored("y = the mean, as AveragePool."), kQGlobal = stored("y = the mean over the spatial axes."), kQLeaky = stored("y = x, or alpha x where x < 0."), kQSigmoid = stored("y = 1 / (1 + exp(-x))."), kQConcat = stored("The tensors behind each other.");

}  // namespace

std::span<const OpDef> contrib_ops() {
  static const OpDef ops[] = {  // not before kConv and kAveragePool, whose attributes some take
      OpDef{.domain = kMicrosoft, .name = "FusedMatMul", .summary = "MatMul of transposed operands, scaled.", .doc = "Y = alpha * A' B', A' = A^T where transA is 1.", .source = "onnxruntime com.microsoft.FusedMatMul", .inputs = {{"A", "[..., n, k]"}, {"B", "[..., k, m]"}}, .outputs = {{"Y", "[..., n, m]"}},
            .attributes = {{"alpha", AttrType::real, "1", "factor"}, {"transA", AttrType::integer, "0", "1: the last two axes of A swapped"}, {"transB", AttrType::integer, "0", "the same of B"}, {"transBatchA", AttrType::integer, "0", "only 0"}, {"transBatchB", AttrType::integer, "0", "only 0"}},
            .infer = infer_fused_matmul, .eval = {fused_matmul, nullptr}, .sample = sample_fused_matmul},
      OpDef{.domain = kMicrosoft, .name = "Gelu", .summary = "Gaussian error linear unit.", .doc = "Y = X/2 * (1 + erf(X / sqrt 2)).", .source = "onnxruntime com.microsoft.Gelu", .inputs = kAny, .outputs = kSame, .infer = infer_first, .eval = {biased<gelu>, nullptr}, .sample = sample_biased},
      OpDef{.domain = kMicrosoft, .name = "BiasGelu", .summary = "Gelu of a sum.", .doc = "Y = Gelu(X + B).", .source = "onnxruntime com.microsoft.BiasGelu", .inputs = {{"X", "any shape"}, {"B", "one per column"}}, .outputs = kSame, .infer = infer_biased, .eval = {biased<gelu>, nullptr}, .sample = sample_biased},
      OpDef{.domain = kMicrosoft, .name = "FastGelu", .summary = "Gelu by tanh, of a sum.", .doc = "Y = z/2 * (1 + tanh(sqrt(2/pi) (z + 0.044715 z^3))), z = X + bias.", .source = "onnxruntime com.microsoft.FastGelu", .inputs = {{"X", "any shape"}, {"bias", "one per column", true}}, .outputs = kSame,
            .infer = infer_biased, .eval = {biased<fast_gelu>, nullptr}, .sample = sample_biased},
      OpDef{.domain = kMicrosoft, .name = "QuickGelu", .summary = "Gelu by a sigmoid.", .doc = "Y = X / (1 + exp(-alpha X)).", .source = "onnxruntime com.microsoft.QuickGelu", .inputs = kAny, .outputs = kSame, .attributes = {{"alpha", AttrType::real, "1.702", "slope"}}, .infer = infer_first, .eval = {quick_gelu, nullptr}, .sample = sample_quick},
      OpDef{.domain = kMicrosoft, .name = "SkipLayerNormalization", .summary = "LayerNormalization of a residual sum.", .doc = "s = input + skip + bias; Y = gamma (s - mean) / sqrt(variance + epsilon) + beta, over the last axis.", .source = "onnxruntime com.microsoft.SkipLayerNormalization",
            .inputs = {{"input", "any shape"}, {"skip", "broadcasts to input"}, {"gamma", "one per column"}, {"beta", "one per column", true}, {"bias", "one per column", true}}, .outputs = {{"Y", "shape of input"}, {"mean", "f32", true}, {"inv_std_var", "f32", true}, {"input_skip_bias_sum", "s", true}}, .attributes = {kSmall},
            .infer = infer_skip, .eval = {skip_eval, nullptr}, .sample = sample_skip},
      OpDef{.domain = kMicrosoft, .name = "SkipSimplifiedLayerNormalization", .summary = "RMSNormalization of a residual sum.", .doc = "s = input + skip + bias; Y = gamma s / sqrt(mean(s^2) + epsilon), over the last axis.", .source = "onnxruntime com.microsoft.SkipSimplifiedLayerNormalization",
            .inputs = {{"input", "any shape"}, {"skip", "broadcasts to input"}, {"gamma", "one per column"}, {"bias", "one per column", true}}, .outputs = {{"Y", "shape of input"}, {"mean", "f32: zeros", true}, {"inv_std_var", "f32", true}, {"input_skip_bias_sum", "s", true}}, .attributes = {kSmall}, .infer = infer_skip,
            .eval = {skip_eval, nullptr}, .sample = sample_skip},
      OpDef{.domain = "", .name = "SimplifiedLayerNormalization", .summary = "RMSNormalization, as onnxruntime names it.", .doc = "Y = scale X / sqrt(mean(X^2) + epsilon), over the axes from `axis` on.", .source = "onnxruntime SimplifiedLayerNormalization", .inputs = {{"X", "any shape"}, {"scale", "one per element of the last axes"}},
            .outputs = {{"Y", "shape of X"}, {"inv_std_var", "f32", true}}, .attributes = {kFirstAxis, kSmallSimple, kStash}, .infer = infer_skip, .eval = {skip_eval, nullptr}, .adjoint = adjoint_expanded, .expansion = expand_simplified_layer, .sample = sample_skip},
      OpDef{.domain = kMicrosoft, .name = "SimplifiedLayerNormalization", .summary = "RMSNormalization, as onnxruntime names it.", .doc = "Y = scale X / sqrt(mean(X^2) + epsilon), over the axes from `axis` on.", .source = "onnxruntime SimplifiedLayerNormalization", .inputs = {{"X", "any shape"}, {"scale", "one per element of the last axes"}},
            .outputs = {{"Y", "shape of X"}, {"inv_std_var", "f32", true}}, .attributes = {kFirstAxis, kSmallSimple, kStash}, .infer = infer_skip, .eval = {skip_eval, nullptr}, .adjoint = adjoint_expanded, .expansion = expand_simplified_layer, .sample = sample_skip},
      OpDef{.domain = kMicrosoft, .name = "FusedConv", .summary = "Conv, a sum and an activation.", .doc = "Y = activation(Conv(X, W, B) + Z).", .source = "onnxruntime com.microsoft.FusedConv", .inputs = {{"X", "[N, C, spatial]"}, {"W", "[out, C/group, taps]"}, {"B", "[out]", true}, {"Z", "shape of Y", true}}, .outputs = {{"Y", "as of Conv"}},
            .attributes = with(kConv.attributes, {{"activation", AttrType::string, "none", "Relu, Tanh, Sigmoid, LeakyRelu, Clip or HardSigmoid"}, {"activation_params", AttrType::reals, "", "alpha of LeakyRelu, bounds of Clip, alpha and beta of HardSigmoid"}}), .infer = infer_fused_conv, .eval = {fused_conv, nullptr}, .sample = sample_fused_conv},
      OpDef{.domain = kMicrosoft, .name = "QLinearAdd", .summary = "Sum of quantised tensors, quantised again.", .doc = kQAdd, .source = "onnxruntime com.microsoft.QLinearAdd", .inputs = two_quantised(), .outputs = {{"C", "type of A"}}, .infer = infer_qbinary, .eval = {qbinary, nullptr}, .sample = sample_qbinary},
      OpDef{.domain = kMicrosoft, .name = "QLinearMul", .summary = "Product of quantised tensors, quantised again.", .doc = kQMul, .source = "onnxruntime com.microsoft.QLinearMul", .inputs = two_quantised(), .outputs = {{"C", "type of A"}}, .infer = infer_qbinary, .eval = {qbinary, nullptr}, .sample = sample_qbinary},
      OpDef{.domain = kMicrosoft, .name = "QLinearAveragePool", .summary = "AveragePool of a quantised tensor.", .doc = kQPool, .source = "onnxruntime com.microsoft.QLinearAveragePool", .inputs = one_quantised(), .outputs = {{"Y", "type of X"}}, .attributes = with(kAveragePool.attributes, {kChannelsLast}), .infer = infer_qpool, .eval = {qpool, nullptr},
            .sample = sample_quantised},
      OpDef{.domain = kMicrosoft, .name = "QLinearGlobalAveragePool", .summary = "GlobalAveragePool of a quantised tensor.", .doc = kQGlobal, .source = "onnxruntime com.microsoft.QLinearGlobalAveragePool", .inputs = one_quantised(), .outputs = {{"Y", "type of X"}}, .attributes = {kChannelsLast}, .infer = infer_qpool, .eval = {qpool, nullptr},
            .sample = sample_quantised},
      OpDef{.domain = kMicrosoft, .name = "QLinearLeakyRelu", .summary = "LeakyRelu of a quantised tensor.", .doc = kQLeaky, .source = "onnxruntime com.microsoft.QLinearLeakyRelu", .inputs = one_quantised(), .outputs = {{"Y", "type of X"}}, .attributes = {{"alpha", AttrType::real, "0.01", "slope below 0"}}, .infer = infer_qmap, .eval = {qmap, nullptr},
            .sample = sample_quantised},
      OpDef{.domain = kMicrosoft, .name = "QLinearSigmoid", .summary = "Sigmoid of a quantised tensor.", .doc = kQSigmoid, .source = "onnxruntime com.microsoft.QLinearSigmoid", .inputs = one_quantised(), .outputs = {{"Y", "type of X"}}, .infer = infer_qmap, .eval = {qmap, nullptr}, .sample = sample_quantised},
      OpDef{.domain = kMicrosoft, .name = "QLinearConcat", .summary = "Quantised tensors behind each other, quantised again.", .doc = kQConcat, .source = "onnxruntime com.microsoft.QLinearConcat", .inputs = {{"Y_scale", "one"}, {"Y_zero_point", "one"}, {"inputs", "a tensor, its scale and its zero point, again and again", false, true}}, .outputs = {{"Y", "type of the tensors"}},
            .attributes = {{"axis", AttrType::integer, "required", "along which"}}, .infer = infer_qconcat, .eval = {qconcat, nullptr}, .sample = sample_qconcat},
  };
  return ops;
}

}  // namespace tandem::ir
