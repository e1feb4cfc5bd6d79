// Normalisations, softmax's relatives, and the linear quantisers of ONNX.
#include "tandem/ir/ops/expansions.h"
#include "tandem/ir/ops/adjoints.h"
#include "tandem/ir/ops/cascade.h"
#include "tandem/ir/ops/kit.h"

namespace tandem::ir {
namespace {

using Args = EvalArgs<double>;
using Attrs = std::map<std::string, Attribute>;

struct Moments {
  double mean, variance;
};
// Of n values value(0), value(1), ...; twice over them: no cancellation.
template <class F>
Moments moments(std::int64_t n, F value) {
  double sum = 0, squares = 0;
  for (std::int64_t i = 0; i < n; ++i) sum += value(i);
  const double mean = sum / static_cast<double>(n);
  for (std::int64_t i = 0; i < n; ++i) squares += (value(i) - mean) * (value(i) - mean);
  return {mean, squares / static_cast<double>(n)};
}
double epsilon(const Node& n) { return n.attr_float("epsilon", 1e-5); }
void channels(InferContext& c, std::initializer_list<std::size_t> vectors) {
  const Dims& x = c.dims(0);
  if (x.size() < 3) c.fail(fmt::format("input has rank {}", x.size()), "[batch, channels, ...]");
  for (std::size_t i : vectors) {
    const Dims& v = c.dims(i);
    if (v.size() != 1) c.fail(fmt::format("parameter {} has rank {}", i, v.size()), "one number per channel");
    if (v[0].known() && x[1].known() && v[0].n != x[1].n) c.fail(fmt::format("input has {} channels, parameter {} has {}", x[1].n, i, v[0].n));
  }
  infer_first(c);
}
void infer_instance(InferContext& c) { channels(c, {1, 2}); }
void instance_eval(Args& e) {
  const Array<double>& x = *e.in[0];
  const std::int64_t C = x.shape[1], inner = element_count(Shape(x.shape.begin() + 2, x.shape.end()));
  Array<double> y(x.shape);
  for (std::int64_t k = 0; k < x.shape[0] * C; ++k) {
    const double* p = x.v.data() + k * inner;
    const Moments m = moments(inner, [&](std::int64_t i) { return p[i]; });
    const double f = e.in[1]->v[k % C] / std::sqrt(m.variance + epsilon(e.node));
    for (std::int64_t i = 0; i < inner; ++i) y.v[k * inner + i] = (p[i] - m.mean) * f + e.in[2]->v[k % C];
  }
  e.out[0] = std::move(y);
}
void sample_instance(const OpDef& op, Sample& s) {
  const Shape x{s.r.range(1, 2), s.r.range(1, 3), s.r.range(1, 4), s.r.range(1, 4)};
  const ValueId v = s.input(x), scale = s.constant({x[1]}, 0.5, 2);
  s.node(op, {v, scale, s.constant({x[1]}, -1, 1)}, {{"epsilon", 0.0078125}});
}

void infer_group(InferContext& c) {
  channels(c, {});
  const std::int64_t groups = c.node.attr_int("num_groups", 0);
  const Dim& n = c.dims(0)[1];
  if (groups < 1 || (n.known() && n.n % groups)) c.fail(fmt::format("{} groups", groups), "a divisor of the number of channels");
}
void group_eval(Args& e) {
  const Array<double>& x = *e.in[0];
  const std::int64_t C = x.shape[1], groups = e.node.attr_int("num_groups", 1), inner = element_count(Shape(x.shape.begin() + 2, x.shape.end())), n = C / groups * inner;
  // Opset 21 has a scale and bias per channel, opset 18 one per group.
  const auto parameter = [&](std::size_t i, std::int64_t g, std::int64_t c) {
    const auto& v = e.in[i]->v;
    if (static_cast<std::int64_t>(v.size()) == C) return v[static_cast<std::size_t>(c)];
    if (static_cast<std::int64_t>(v.size()) == groups) return v[static_cast<std::size_t>(g)];
    throw node_error(e.graph, e.node, fmt::format("{} scales for {} channels in {} groups", v.size(), C, groups));
  };
  Array<double> y(x.shape);
  for (std::int64_t k = 0; k < x.shape[0] * groups; ++k) {
    const double* p = x.v.data() + k * n;
    const Moments m = moments(n, [&](std::int64_t i) { return p[i]; });
    for (std::int64_t i = 0; i < n; ++i) {
      const std::int64_t g = k % groups, c = g * (C / groups) + i / inner;
      y.v[k * n + i] = (p[i] - m.mean) / std::sqrt(m.variance + epsilon(e.node)) * parameter(1, g, c) + parameter(2, g, c);
    }
  }
  e.out[0] = std::move(y);
}
void sample_group(const OpDef& op, Sample& s) {
  const std::int64_t groups = s.r.range(1, 3), c = groups * s.r.range(1, 2);
  const ValueId x = s.input({2, c, 2, 3}), scale = s.constant({c}, 0.5, 2);
  s.node(op, {x, scale, s.constant({c}, -1, 1)}, {{"num_groups", groups}, {"epsilon", 0.0078125}});
}

// Over the axes from `axis` on.
void infer_layer(InferContext& c) {
  const Dims& x = c.dims(0);
  const auto a = static_cast<std::size_t>(axis_of(c, c.node.attr_int("axis", -1), x.size()));
  if (c.node.attr_int("stash_type", 1) != 1) c.fail(fmt::format("stash_type {}", c.node.attr_int("stash_type", 1)), "1: f32");
  Dims rows = x;
  for (std::size_t i = a; i < rows.size(); ++i) rows[i] = 1;
  c.out = {*c.in[0]};
  if (c.node.op == "LayerNormalization") c.out.resize(3, TensorType{DType::f32, rows});
}
void layer_eval(Args& e) {
  const Array<double>& x = *e.in[0];
  const auto a = static_cast<std::size_t>(axis_of(e, e.node.attr_int("axis", -1), x.shape.size()));
  const bool centred = e.node.op == "LayerNormalization";
  const Shape inner_shape(x.shape.begin() + static_cast<std::ptrdiff_t>(a), x.shape.end());
  const std::int64_t inner = element_count(inner_shape), outer = inner ? static_cast<std::int64_t>(x.v.size()) / inner : 0;
  Array<double> y(x.shape), mean, inverse;
  Shape rows = x.shape;
  for (std::size_t i = a; i < rows.size(); ++i) rows[i] = 1;
  mean = inverse = Array<double>(rows);
  if (broadcast(e.in[1]->shape, inner_shape) != inner_shape) throw node_error(e.graph, e.node, fmt::format("scale {} for {}", to_string(e.in[1]->shape), to_string(inner_shape)));
  const Broadcaster scale(e.in[1]->shape, inner_shape), bias(has(e, 2) ? e.in[2]->shape : Shape{}, inner_shape);
  for (std::int64_t o = 0; o < outer; ++o) {
    const double* p = x.v.data() + o * inner;
    Moments m = moments(inner, [&](std::int64_t i) { return p[i]; });
    if (!centred) m = {0, m.variance + m.mean * m.mean};
    mean.v[o] = m.mean;
    inverse.v[o] = 1 / std::sqrt(m.variance + epsilon(e.node));
    for (std::int64_t i = 0; i < inner; ++i) y.v[o * inner + i] = (p[i] - m.mean) * inverse.v[o] * e.in[1]->v[scale(i)] + (has(e, 2) ? e.in[2]->v[bias(i)] : 0);
  }
  e.out[0] = std::move(y);
  if (e.out.size() > 1) e.out[1] = std::move(mean);
  if (e.out.size() > 2) e.out[2] = std::move(inverse);
}
void sample_layer(const OpDef& op, Sample& s) {
  const Shape x = s.shape(1, 4);
  const std::int64_t axis = s.axis(x.size());
  const Shape inner(x.begin() + (axis < 0 ? axis + static_cast<std::int64_t>(x.size()) : axis), x.end());
  std::vector<ValueId> in{s.input(x), s.constant(inner, 0.5, 2)};
  const bool layer = op.name == "LayerNormalization";
  if (layer && s.r.chance(0.7)) in.push_back(s.constant(inner, -1, 1));
  s.node(op, in, {{"axis", axis}, {"epsilon", 0.0078125}}, layer ? static_cast<std::size_t>(s.r.range(1, 3)) : 1);
}

void infer_lrn(InferContext& c) {
  if (c.dims(0).size() < 2) c.fail("input needs a channel axis");
  if (c.node.attr_int("size", 0) < 1) c.fail(fmt::format("a size of {}", c.node.attr_int("size", 0)));
  infer_first(c);
}
void lrn_eval(Args& e) {
  const Array<double>& x = *e.in[0];
  const Around a(x.shape, 1);
  const std::int64_t size = e.node.attr_int("size", 1);
  const double alpha = e.node.attr_float("alpha", 1e-4), beta = e.node.attr_float("beta", 0.75), bias = e.node.attr_float("bias", 1);
  Array<double> y(x.shape);
  for (std::int64_t o = 0; o < a.outer; ++o)
    for (std::int64_t k = 0; k < a.n; ++k)
      for (std::int64_t i = 0; i < a.inner; ++i) {
        double sum = 0;
        for (std::int64_t j = std::max<std::int64_t>(0, k - (size - 1) / 2); j <= std::min(a.n - 1, k + size / 2); ++j) sum += x.v[a.at(o, j, i)] * x.v[a.at(o, j, i)];
        y.v[a.at(o, k, i)] = x.v[a.at(o, k, i)] / std::pow(bias + alpha / static_cast<double>(size) * sum, beta);
      }
  e.out[0] = std::move(y);
}
void sample_lrn(const OpDef& op, Sample& s) { s.node(op, {s.input({2, s.r.range(1, 6), 2, 2})}, {{"size", s.r.range(1, 5)}, {"alpha", 0.5}}); }

void mvn_eval(Args& e) {
  const Array<double>& x = *e.in[0];
  const Ints axes = e.node.attr_ints("axes", {0, 2, 3});
  Shape kept = x.shape;
  for (std::int64_t a : axes) kept[static_cast<std::size_t>(axis_of(e, a, x.shape.size()))] = 1;
  const Broadcaster to(kept, x.shape);
  std::vector<double> mean(static_cast<std::size_t>(element_count(kept))), square(mean.size());
  const double n = static_cast<double>(x.v.size()) / static_cast<double>(mean.size());
  for (std::size_t i = 0; i < x.v.size(); ++i) mean[to(static_cast<std::int64_t>(i))] += x.v[i] / n;
  for (std::size_t i = 0; i < x.v.size(); ++i) {
    const double d = x.v[i] - mean[to(static_cast<std::int64_t>(i))];
    square[to(static_cast<std::int64_t>(i))] += d * d / n;
  }
  Array<double> y(x.shape);
  for (std::size_t i = 0; i < x.v.size(); ++i) y.v[i] = (x.v[i] - mean[to(static_cast<std::int64_t>(i))]) / (std::sqrt(square[to(static_cast<std::int64_t>(i))]) + 1e-9);
  e.out[0] = std::move(y);
}
void sample_mvn(const OpDef& op, Sample& s) { s.node(op, {s.input({2, 3, 3, 2})}); }

void infer_axis(InferContext& c) {
  axis_of(c, c.node.attr_int("axis", -1), c.dims(0).size());
  infer_first(c);
}
template <void (*f)(const Args&, std::vector<double>&)>
void along_eval(Args& e) {
  e.out[0] = along(*e.in[0], axis_of(e, e.node.attr_int("axis", -1), e.in[0]->shape.size()), [&](std::vector<double>& v) { f(e, v); });
}
void softmax(const Args&, std::vector<double>& v) {
  if (v.empty()) return;
  const double m = *std::max_element(v.begin(), v.end());
  double sum = 0;
  for (double& x : v) sum += x = std::exp(x - m);
  for (double& x : v) x /= sum;
}
void log_softmax_of(const Args&, std::vector<double>& v) { log_softmax(v); }
void hardmax(const Args&, std::vector<double>& v) {
  const auto best = std::max_element(v.begin(), v.end()) - v.begin();
  for (std::size_t i = 0; i < v.size(); ++i) v[i] = static_cast<std::ptrdiff_t>(i) == best;
}
void lp_norm(const Args& e, std::vector<double>& v) {
  const std::int64_t p = e.node.attr_int("p", 2);
  if (p != 1 && p != 2) throw node_error(e.graph, e.node, fmt::format("p = {}", p)).expected("1 or 2");
  double sum = 0;
  for (double x : v) sum += p == 1 ? std::abs(x) : x * x;
  const double norm = p == 1 ? sum : std::sqrt(sum);
  for (double& x : v) x = norm == 0 ? 0 : x / norm;
}
void sample_along(const OpDef& op, Sample& s) {
  const Shape x = s.shape();
  s.node(op, {s.input(x)}, {{"axis", s.axis(x.size())}});
}

// ---- as Einsums -------------------------------------------------------------------------------------
using Names = std::vector<std::string>;
// D = X - mean and R = 1 / sqrt(variance + epsilon) over the ranks in `from` that `to` lacks, `count` elements.
void normalise(Cascade& c, const std::string& x, const Names& from, const Names& to, std::int64_t count, double eps, bool centred = true) {
  const auto per = [&](const char* name) { return at(name, to); };
  std::string d = x;
  if (centred) {
    d = at("D", from);
    c.line("{} += {}", per("S"), x);
    c.line("{} = {} / {}", per("M"), per("S"), count);
    c.line("{} = {} - {}", d, x, per("M"));
  }
  c.line("{} += {} * {}", per("Q"), d, d);
  c.line("{} = {} / {}", per("V"), per("Q"), count);
  c.line("{} = {} + {}", per("E"), per("V"), eps);
  c.line("{} = sqrt({})", per("T"), per("E"));
  c.line("{} = 1 / {}", per("R"), per("T"));
}
Einsum layer_einsum(const Graph& g, const Node& n) {
  const Shape x = shape_of(g, n.in(0));
  const auto a = static_cast<std::size_t>(normal_axis(n.attr_int("axis", -1), static_cast<std::int64_t>(x.size()), g, n));
  Cascade c(g, n);
  const Names from = c.ranks(x), to(from.begin(), from.begin() + static_cast<std::ptrdiff_t>(a)), inner(from.begin() + static_cast<std::ptrdiff_t>(a), from.end());
  const Shape last(x.begin() + static_cast<std::ptrdiff_t>(a), x.end());
  const bool centred = n.op == "LayerNormalization";
  normalise(c, at("X", from), from, to, element_count(last), epsilon(n), centred);
  Names rows = to;
  rows.resize(x.size(), "0");
  if (n.outputs.size() > 1) c.line("{} = {}", at(c.out(1), rows), at("M", to));
  if (n.outputs.size() > 2) c.line("{} = {}", at(c.out(2), rows), at("R", to));
  c.line("{} = {} * {}", at("N", from), at(centred ? "D" : "X", from), at("R", to));
  const std::string product = fmt::format("{} * {}", at("N", from), broadcast_at(c.in(1), shape_of(g, n.in(1)), last, inner));
  if (n.in(2) == kNone) {
    c.line("{} = {}", at(c.out(), from), product);
  } else {
    c.line("{} = {}", at("P", from), product);
    c.line("{} = {} + {}", at(c.out(), from), at("P", from), broadcast_at(c.in(2), shape_of(g, n.in(2)), last, inner));
  }
  return c.done();
}
// Instance and group normalisation: an instance is a group of one channel.
Einsum group_einsum(const Graph& g, const Node& n) {
  const Shape x = shape_of(g, n.in(0));
  const std::int64_t groups = n.op == "InstanceNormalization" ? x[1] : n.attr_int("num_groups", 1), each = x[1] / groups;
  const std::int64_t parameters = element_count(shape_of(g, n.in(1)));
  Cascade c(g, n);
  c.rank("n", x[0]), c.rank("g", groups), c.rank("c", each);
  const Names inner = c.ranks(spatial(x), "hwd");
  const std::string channel = fmt::format("{}*g+c", each), parameter = parameters == x[1] ? channel : "g";
  Names split{"n", "g", "c"}, joined{"n", channel};
  split.insert(split.end(), inner.begin(), inner.end());
  joined.insert(joined.end(), inner.begin(), inner.end());
  normalise(c, at(c.in(0), joined), split, {"n", "g"}, each * element_count(spatial(x)), epsilon(n));
  c.line("{} = {} * {}", at("N", split), at("D", split), at("R", {"n", "g"}));
  c.line("{} = {} * {}", at("P", split), at("N", split), at(c.in(1), {parameter}));
  c.line("{} = {} + {}", at(c.out(), joined), at("P", split), at(c.in(2), {parameter}));
  return c.done();
}
Einsum lrn_einsum(const Graph& g, const Node& n) {
  const Shape x = shape_of(g, n.in(0));
  const std::int64_t size = n.attr_int("size", 1);
  Cascade c(g, n);
  const Names all = c.ranks(x);
  Names near = all;
  near[1] = fmt::format("{}+{}-{}", all[1], c.rank("r", size), (size - 1) / 2);
  const auto each = [&](const char* name) { return at(name, all); };
  c.line("{} += {} * {}", each("S"), at("X", near), at("X", near));
  c.line("{} = {} * {}", each("A"), n.attr_float("alpha", 1e-4) / static_cast<double>(size), each("S"));
  c.line("{} = {} + {}", each("B"), each("A"), n.attr_float("bias", 1));
  c.line("{} = pow({},{})", each("P"), each("B"), n.attr_float("beta", 0.75));
  c.line("{} = {} / {}", each("Y"), each("X"), each("P"));
  return c.done();
}
Einsum mvn_einsum(const Graph& g, const Node& n) {
  const Shape x = shape_of(g, n.in(0));
  Cascade c(g, n);
  const Names from = c.ranks(x);
  std::vector<bool> over(x.size());
  for (std::int64_t a : n.attr_ints("axes", {0, 2, 3})) over[static_cast<std::size_t>(normal_axis(a, static_cast<std::int64_t>(x.size()), g, n))] = true;
  Names to;
  std::int64_t count = 1;
  for (std::size_t d = 0; d < x.size(); ++d) {
    if (over[d]) count *= x[d];
    else to.push_back(from[d]);
  }
  normalise(c, at("X", from), from, to, count, 0);
  c.line("{} = {} + 1e-9", at("U", to), at("T", to));
  c.line("{} = {} / {}", at("Y", from), at("D", from), at("U", to));
  return c.done();
}
// Along one axis: Softmax, LogSoftmax, LpNormalization.
Einsum along_einsum(const Graph& g, const Node& n) {
  const Shape x = shape_of(g, n.in(0));
  const auto a = static_cast<std::ptrdiff_t>(normal_axis(n.attr_int("axis", -1), static_cast<std::int64_t>(x.size()), g, n));
  Cascade c(g, n);
  const Names from = c.ranks(x);
  Names to = from;
  to.erase(to.begin() + a);
  const std::string X = at("X", from), Y = at("Y", from), S = at("S", to), D = at("D", from), E = at("E", from), M = at("M", to), L = at("L", to);
  if (n.op == "LpNormalization") {
    const bool one = n.attr_int("p", 2) == 1;
    if (one) c.line("{} += abs({})", S, X);
    else c.line("{} += {} * {}", M, X, X), c.line("{} = sqrt({})", S, M);
    c.line("{} = {} / {}", Y, X, S);
    return c.done();
  }
  c.line("{} max= {}", M, X);
  c.line("{} = {} - {}", D, X, M);
  c.line("{} = exp({})", E, D);
  c.line("{} += {}", S, E);
  if (n.op == "Softmax") {
    c.line("{} = {} / {}", Y, E, S);
  } else {
    c.line("{} = log({})", L, S);
    c.line("{} = {} - {}", Y, D, L);
  }
  return c.done();
}
Einsum linear_quantiser_einsum(const Graph& g, const Node& n) {
  const Shape x = shape_of(g, n.in(0));
  Cascade c(g, n);
  const Names all = c.ranks(x);
  std::string operands = at(c.in(0), all);
  for (std::size_t i = 1; i < n.inputs.size(); ++i) {
    if (n.inputs[i] == kNone) continue;
    const Shape s = shape_of(g, n.inputs[i]);
    const bool each = element_count(s) != 1;
    operands += ", " + one_or_each(c.in(i), s, each ? all.at(static_cast<std::size_t>(normal_axis(n.attr_int("axis", 1), static_cast<std::int64_t>(x.size()), g, n))) : "");
  }
  c.line("{} = {}({})", at(c.out(), all), n.op == "QuantizeLinear" ? "quantizelinear" : "dequantizelinear", operands);
  return c.done();
}

// ---- from older operators ---------------------------------------------------------------------------
ValueId constant_like(Graph& g, const Node& n, const Shape& s, double v) {
  Tensor t(g.values[static_cast<std::size_t>(n.inputs[0])].type.dtype, s);
  for (std::int64_t i = 0; i < t.size(); ++i) t.set(i, v);
  return g.add_constant(g.unique_name("number"), std::move(t));
}
ValueId list(Graph& g, const Ints& v) { return g.add_constant(g.unique_name("list"), Tensor::of<std::int64_t>({static_cast<std::int64_t>(v.size())}, v)); }
ValueId reshaped(Graph& g, ValueId v, const Shape& s) { return g.add_node("Reshape", {v, list(g, s)}); }
struct Normal {
  ValueId centred, mean, inverse;
};
// Over `axes`: X - mean, the mean, and 1 / sqrt(mean of squares + epsilon).
Normal normal(Graph& g, const Node& n, ValueId x, const Ints& axes, double eps, bool centred) {
  const auto mean = [&](ValueId v) { return g.add_node("ReduceMean", {v}, {{"axes", axes}, {"keepdims", std::int64_t{1}}}); };
  const ValueId m = centred ? mean(x) : kNone, d = centred ? g.add_node("Sub", {x, m}) : x;
  ValueId v = mean(g.add_node("Mul", {d, d}));
  v = g.add_node("Add", {v, constant_like(g, n, {}, eps)});
  return {d, m, g.add_node("Reciprocal", {g.add_node("Sqrt", {v})})};
}
std::vector<ValueId> expand_layer(Graph& g, const Node& node) {
  const Node n = node;
  const auto& dims = g.values[static_cast<std::size_t>(n.inputs[0])].type.dims;
  if (!dims) return {};
  const auto rank = static_cast<std::int64_t>(dims->size());
  Ints axes;
  for (std::int64_t a = normal_axis(n.attr_int("axis", -1), rank, g, n); a < rank; ++a) axes.push_back(a);
  const Normal z = normal(g, n, n.inputs[0], axes, epsilon(n), n.op == "LayerNormalization");
  ValueId y = g.add_node("Mul", {g.add_node("Mul", {z.centred, z.inverse}), n.inputs[1]});
  if (n.in(2) != kNone) y = g.add_node("Add", {y, n.inputs[2]});
  std::vector<ValueId> out{y};
  const auto f32 = [&](ValueId v) { return g.add_node("Cast", {v}, {{"to", onnx_number(DType::f32)}}); };
  if (n.outputs.size() > 1) out.push_back(f32(z.mean));
  if (n.outputs.size() > 2) out.push_back(f32(z.inverse));
  return out;
}
std::vector<ValueId> expand_group(Graph& g, const Node& node) {
  const Node n = node;
  const auto& dims = g.values[static_cast<std::size_t>(n.inputs[0])].type.dims;
  const auto& scale = g.values[static_cast<std::size_t>(n.inputs[1])].type.dims;
  if (!dims || !all_known(*dims) || !scale || !all_known(*scale)) return {};
  Shape x;
  for (const Dim& d : *dims) x.push_back(d.n);
  const std::int64_t groups = n.op == "InstanceNormalization" ? x[1] : n.attr_int("num_groups", 1), each = x[1] / groups, count = scale->at(0).n;
  Shape split{x[0], groups, each}, parameter{groups, count == groups ? 1 : each};
  Ints axes{2};
  for (std::size_t d = 2; d < x.size(); ++d) split.push_back(x[d]), parameter.push_back(1), axes.push_back(static_cast<std::int64_t>(d) + 1);
  const Normal z = normal(g, n, reshaped(g, n.inputs[0], split), axes, epsilon(n), true);
  const ValueId y = g.add_node("Add", {g.add_node("Mul", {g.add_node("Mul", {z.centred, z.inverse}), reshaped(g, n.inputs[1], parameter)}), reshaped(g, n.inputs[2], parameter)});
  return {reshaped(g, y, x)};
}
std::vector<ValueId> expand_mvn(Graph& g, const Node& node) {
  const Node n = node;
  const Ints axes = n.attr_ints("axes", {0, 2, 3});
  const auto mean = [&](ValueId v) { return g.add_node("ReduceMean", {v}, {{"axes", axes}, {"keepdims", std::int64_t{1}}}); };
  const ValueId d = g.add_node("Sub", {n.inputs[0], mean(n.inputs[0])});
  const ValueId deviation = g.add_node("Sqrt", {mean(g.add_node("Mul", {d, d}))});
  return {g.add_node("Div", {d, g.add_node("Add", {deviation, constant_like(g, n, {}, 1e-9)})})};
}
std::vector<ValueId> expand_lp_norm(Graph& g, const Node& node) {  // of 0 it is 0
  const Node n = node;
  const ValueId size = g.add_node(n.attr_int("p", 2) == 1 ? "ReduceL1" : "ReduceL2", {n.inputs[0]}, {{"axes", Ints{n.attr_int("axis", -1)}}, {"keepdims", std::int64_t{1}}});
  return {g.add_node("Div", {n.inputs[0], g.add_node("Max", {size, constant_like(g, n, {}, std::numeric_limits<float>::min())})})};
}

// ---- ONNX's linear quantisers -----------------------------------------------------------------------
bool small_integer(DType t) { return t == DType::i8 || t == DType::u8 || t == DType::i16 || t == DType::u16; }
// The scale's place per element: a scalar, or one number per slice along `axis`.
struct PerAxis {
  std::int64_t inner = 1, n = 1;
  template <class T>
  PerAxis(const EvalArgs<T>& e) {
    const Shape& x = e.in[0]->shape;
    if (e.in[1]->v.size() == 1) return;
    const std::int64_t a = axis_of(e, e.node.attr_int("axis", 1), x.size());
    n = x[static_cast<std::size_t>(a)];
    inner = Around(x, a).inner;
    if (e.in[1]->shape.size() != 1 || e.in[1]->shape[0] != n || (e.in.size() > 2 && e.in[2] && e.in[2]->v.size() != e.in[1]->v.size()))
      throw node_error(e.graph, e.node, fmt::format("{} scales for an axis of {}", e.in[1]->v.size(), n));
  }
  std::size_t operator()(std::int64_t i) const { return static_cast<std::size_t>(i / inner % n); }
};
void infer_quantize(InferContext& c) {
  const DType t = has(c, 2) ? c.in[2]->dtype : DType::u8;
  if (!small_integer(t)) c.fail(fmt::format("it quantises to {}", to_string(t)), "8 or 16 bits");
  if (c.node.attr_int("block_size", 0)) c.fail("scales by block");
  c.out = {TensorType{t, c.in[0]->dims}};
}
void quantize_eval(Args& e) {
  const Array<double>& x = *e.in[0];
  const PerAxis at(e);
  const auto [lo, hi] = integer_range(out_type(e));
  Array<double> y(x.shape);
  for (std::size_t i = 0; i < x.v.size(); ++i) {
    const std::size_t k = at(static_cast<std::int64_t>(i));
    const double q = std::nearbyint(static_cast<float>(x.v[i]) / static_cast<float>(e.in[1]->v[k]));  // the quotient is one of f32, half to even
    y.v[i] = std::clamp(q + (has(e, 2) ? e.in[2]->v[k] : 0), lo, hi);
  }
  e.out[0] = std::move(y);
}
void quantize_exactly(EvalArgs<Rational>& e) {
  const Array<Rational>& x = *e.in[0];
  const QuantiserCasts s = quant_spec(e.graph, e.node, x.shape);
  const Broadcaster group(s.group, x.shape);
  Array<Rational> y(x.shape);
  for (std::size_t i = 0; i < x.v.size(); ++i) y.v[i] = Rational(static_cast<long>(cast_code(s.casts[static_cast<std::size_t>(group(static_cast<std::int64_t>(i)))], x.v[i])));
  e.out[0] = std::move(y);
}
void infer_dequantize(InferContext& c) {
  if (!small_integer(c.in[0]->dtype) && c.in[0]->dtype != DType::i32) c.fail(fmt::format("its input holds {}", to_string(c.in[0]->dtype)), "integers of at most 32 bits");
  if (has(c, 2) && c.in[2]->dtype != c.in[0]->dtype) c.fail("input and zero point have different element types");
  if (c.node.attr_int("block_size", 0)) c.fail("scales by block");
  c.out = {TensorType{c.in[1]->dtype, c.in[0]->dims}};
}
struct DequantizeEval {
  template <class T>
  static void run(EvalArgs<T>& e) {
    const Array<T>& x = *e.in[0];
    const PerAxis at(e);
    const bool zero = e.in.size() > 2 && e.in[2];
    Array<T> y(x.shape);
    for (std::size_t i = 0; i < x.v.size(); ++i) {
      const std::size_t k = at(static_cast<std::int64_t>(i));
      y.v[i] = zero ? T((x.v[i] - e.in[2]->v[k]) * e.in[1]->v[k]) : T(x.v[i] * e.in[1]->v[k]);
    }
    e.out[0] = std::move(y);
  }
};
void infer_dynamic(InferContext& c) { c.out = {TensorType{DType::u8, c.in[0]->dims}, TensorType{DType::f32, Dims{}}, TensorType{DType::u8, Dims{}}}; }
void dynamic_eval(Args& e) {
  const Array<double>& x = *e.in[0];
  float lo = 0, hi = 0;
  for (double v : x.v) lo = std::min(lo, static_cast<float>(v)), hi = std::max(hi, static_cast<float>(v));
  const float scale = (hi - lo) / 255;
  const double zero = scale == 0 ? 0 : std::clamp<double>(std::nearbyint(-lo / scale), 0, 255) + 0.0;  // an integer has no -0
  Array<double> y(x.shape), s{Shape{}}, z{Shape{}};
  for (std::size_t i = 0; i < x.v.size(); ++i) y.v[i] = scale == 0 ? zero : std::clamp<double>(std::nearbyint(static_cast<float>(x.v[i]) / scale) + zero, 0, 255);
  s.v[0] = scale;
  z.v[0] = zero;
  e.out[0] = std::move(y);
  if (e.out.size() > 1) e.out[1] = std::move(s);
  if (e.out.size() > 2) e.out[2] = std::move(z);
}
void sample_quantize(const OpDef& op, Sample& s) {
  const Shape x = s.shape(2, 4);
  const bool each = s.r.chance(0.5), back = op.name == "DequantizeLinear";
  const DType t = s.r.chance(0.5) ? DType::i8 : DType::u8;
  const Shape n = each ? Shape{x[1]} : Shape{};
  const ValueId v = back ? s.input(x, 0, 100, t) : s.input(x, -20, 20), scale = s.constant(n, 0.125, 0.5);
  s.node(op, {v, scale, s.constant(n, 0, 9, t)}, {{"axis", std::int64_t{1}}});
}
void sample_dynamic(const OpDef& op, Sample& s) { s.node(op, {s.input(s.shape())}, {}, 3); }

const std::vector<PortDef> kX{{"X", "any shape"}}, kY{{"Y", "shape of X"}}, kChannels{{"X", "[batch, channels, ...]"}, {"scale", "[channels]"}, {"B", "[channels]"}};
const AttrDef kEpsilon{"epsilon", AttrType::real, "1e-05", "added to the variance"}, kAxis{"axis", AttrType::integer, "-1", "the axis"},
    kStash{"stash_type", AttrType::integer, "1", "only 1: mean and deviation in f32"};

const OpDef kOps[] = {
    OpDef{.domain = "", .name = "InstanceNormalization", .summary = "Normalises each channel of each sample.", .doc = "Y = scale * (X - mean) / sqrt(variance + epsilon) + B, statistics over the positions of a channel.",
          .source = "ONNX InstanceNormalization-6", .inputs = kChannels, .outputs = kY, .attributes = {kEpsilon}, .infer = infer_instance, .eval = {instance_eval, nullptr}, .einsum = group_einsum, .adjoint = adjoint_expanded, .expansion = expand_group, .sample = sample_instance},
    OpDef{.domain = "", .name = "GroupNormalization", .summary = "Normalises groups of channels.", .doc = "Y = scale * (X - mean) / sqrt(variance + epsilon) + B, statistics over the channels of a group and their positions.",
          .source = "ONNX GroupNormalization-21 and -18", .inputs = kChannels, .outputs = kY,
          .attributes = {kEpsilon, {"num_groups", AttrType::integer, "required", "groups of channels"}, kStash}, .infer = infer_group, .eval = {group_eval, nullptr}, .einsum = group_einsum, .adjoint = adjoint_expanded, .expansion = expand_group, .sample = sample_group},
    OpDef{.domain = "", .name = "LayerNormalization", .summary = "Normalises the last axes.", .doc = "Y = scale * (X - mean) / sqrt(variance + epsilon) + B, statistics over the axes from `axis` on.",
          .source = "ONNX LayerNormalization-17", .inputs = {{"X", "any shape"}, {"scale", "broadcasts to the last axes"}, {"B", "as scale", true}},
          .outputs = {{"Y", "shape of X"}, {"Mean", "f32, last axes 1", true}, {"InvStdDev", "f32: 1 / sqrt(variance + epsilon)", true}}, .attributes = {kAxis, kEpsilon, kStash},
          .infer = infer_layer, .eval = {layer_eval, nullptr}, .einsum = layer_einsum, .adjoint = adjoint_expanded, .expansion = expand_layer, .sample = sample_layer},
    OpDef{.domain = "", .name = "RMSNormalization", .summary = "Divides the last axes by their root mean square.", .doc = "Y = scale * X / sqrt(mean(X^2) + epsilon) over the axes from `axis` on.",
          .source = "ONNX RMSNormalization-23", .inputs = {{"X", "any shape"}, {"scale", "broadcasts to the last axes"}}, .outputs = kY, .attributes = {kAxis, kEpsilon, kStash},
          .infer = infer_layer, .eval = {layer_eval, nullptr}, .einsum = layer_einsum, .adjoint = adjoint_expanded, .expansion = expand_layer, .sample = sample_layer},
    OpDef{.domain = "", .name = "LRN", .summary = "Local response normalisation across channels.", .doc = "Y[c] = X[c] / (bias + alpha/size * sum of X[j]^2 over j from c-(size-1)/2 to c+size/2) ^ beta.", .source = "ONNX LRN-13",
          .inputs = {{"X", "[batch, channels, ...]"}}, .outputs = kY,
          .attributes = {{"alpha", AttrType::real, "0.0001", "weight of the squares"}, {"beta", AttrType::real, "0.75", "exponent"}, {"bias", AttrType::real, "1", "added"}, {"size", AttrType::integer, "required", "channels summed over"}},
          .infer = infer_lrn, .eval = {lrn_eval, nullptr}, .einsum = lrn_einsum, .adjoint = adjoint_expanded, .expansion = expand_lrn, .sample = sample_lrn},
    OpDef{.domain = "", .name = "MeanVarianceNormalization", .summary = "Mean 0 and variance 1 over axes.", .doc = "Y = (X - mean) / (sqrt(variance) + 1e-9).", .source = "ONNX MeanVarianceNormalization-13", .inputs = kX, .outputs = kY,
          .attributes = {{"axes", AttrType::integers, "[0, 2, 3]", "the axes of the statistics"}}, .infer = infer_first, .eval = {mvn_eval, nullptr}, .einsum = mvn_einsum, .adjoint = adjoint_expanded, .expansion = expand_mvn, .sample = sample_mvn},
    OpDef{.domain = "", .name = "LogSoftmax", .summary = "Logarithm of Softmax.", .doc = "Y = X - m - ln(sum exp(X - m)), m = max X.", .source = "ONNX LogSoftmax-13", .inputs = kX, .outputs = kY, .attributes = {kAxis},
          .infer = infer_axis, .eval = {along_eval<log_softmax_of>, nullptr}, .einsum = along_einsum, .adjoint = adjoint_logsoftmax, .sample = sample_along},
    OpDef{.domain = "", .name = "Hardmax", .summary = "1 at the largest element along an axis, 0 elsewhere.", .doc = "The first one of equal ones.", .source = "ONNX Hardmax-13", .inputs = kX, .outputs = kY, .attributes = {kAxis},
          .infer = infer_axis, .eval = {along_eval<hardmax>, nullptr}, .sample = sample_along},
    OpDef{.domain = "", .name = "LpNormalization", .summary = "Divides by the norm along an axis.", .doc = "Y = X / (sum |X|^p)^(1/p); 0 where the norm is 0.", .source = "ONNX LpNormalization-1", .inputs = kX, .outputs = kY,
          .attributes = {kAxis, {"p", AttrType::integer, "2", "1 or 2"}}, .infer = infer_axis, .eval = {along_eval<lp_norm>, nullptr}, .einsum = along_einsum, .adjoint = adjoint_expanded, .expansion = expand_lp_norm, .sample = sample_along},
    OpDef{.domain = "", .name = "QuantizeLinear", .summary = "Integers by a scale and a zero point.", .doc = "Y = saturate(round(X / scale) + zero), half to even: the quotient of f32 in float, the exact one of exact values, with which it is a quantiser whose value is the code.", .source = "ONNX QuantizeLinear-19",
          .inputs = {{"X", "any shape"}, {"scale", "scalar, or one per slice along axis"}, {"zero", "as scale; its type is that of Y; default 0 of u8", true}}, .outputs = kY,
          .attributes = {{"axis", AttrType::integer, "1", "the axis of several scales"}, {"saturate", AttrType::integer, "1", "of the 8-bit floats only"}, {"block_size", AttrType::integer, "0", "only 0"}},
          .closure = Closure::quantiser, .infer = infer_quantize, .eval = {quantize_eval, quantize_exactly}, .einsum = linear_quantiser_einsum, .sample = sample_quantize},
    OpDef{.domain = "", .name = "DequantizeLinear", .summary = "Numbers from integers, a scale and a zero point.", .doc = "Y = (X - zero) * scale.", .source = "ONNX DequantizeLinear-19",
          .inputs = {{"X", "integers"}, {"scale", "scalar, or one per slice along axis"}, {"zero", "as scale, of the type of X; default 0", true}}, .outputs = kY,
          .attributes = {{"axis", AttrType::integer, "1", "the axis of several scales"}, {"block_size", AttrType::integer, "0", "only 0"}}, .closure = Closure::affine, .infer = infer_dequantize, .eval = both<DequantizeEval>(), .einsum = linear_quantiser_einsum, .sample = sample_quantize},
    OpDef{.domain = "", .name = "DynamicQuantizeLinear", .summary = "Integers by a scale and a zero point that fit the data.", .doc = "scale = (max(X, 0) - min(X, 0)) / 255, zero = saturate(round(-min(X, 0) / scale)); Y as QuantizeLinear.",
          .source = "ONNX DynamicQuantizeLinear-11", .inputs = kX, .outputs = {{"Y", "u8, shape of X"}, {"scale", "f32 scalar", true}, {"zero", "u8 scalar", true}}, .infer = infer_dynamic, .eval = {dynamic_eval, nullptr}, .sample = sample_dynamic},
};

}  // namespace

void log_softmax(std::vector<double>& v) {
  if (v.empty()) return;
  const double m = *std::max_element(v.begin(), v.end());
  double sum = 0;
  for (double x : v) sum += std::exp(x - m);
  for (double& x : v) x = x - m - std::log(sum);
}

const OpDef kSoftmax{.domain = "", .name = "Softmax", .summary = "Normalised exponentials along an axis.",
                     .doc = "Y = exp(X - max X) / sum exp(X - max X), computed in float on the host.", .source = "ONNX Softmax-13", .inputs = kX, .outputs = kY,
                     .attributes = {kAxis}, .infer = infer_axis, .eval = {along_eval<softmax>, nullptr}, .einsum = along_einsum, .adjoint = adjoint_softmax,
                     .sample = sample_along};

std::span<const OpDef> norm_ops() { return kOps; }

}  // namespace tandem::ir
