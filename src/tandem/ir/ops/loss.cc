// Losses over class scores.
#include "tandem/ir/ops/adjoints.h"
#include "tandem/ir/ops/cascade.h"
#include "tandem/ir/ops/kit.h"

namespace tandem::ir {
namespace {

using Args = EvalArgs<double>;

// Scores [N, C, d...], targets [N, d...], weights [C].
void infer_loss(InferContext& c) {
  const Dims &x = c.dims(0), &t = c.dims(1);
  if (x.size() < 2 || t.size() + 1 != x.size()) c.fail(fmt::format("scores of rank {}, targets of rank {}", x.size(), t.size()), "[N, C, ...] and [N, ...]");
  for (std::size_t d = 0; d < t.size(); ++d) {
    const Dim& s = x[d ? d + 1 : 0];
    if (s.known() && t[d].known() && s.n != t[d].n) c.fail(fmt::format("scores {} and targets {} differ", to_string(x), to_string(t)));
  }
  if (has(c, 2) && (c.dims(2).size() != 1 || (c.dims(2)[0].known() && x[1].known() && c.dims(2)[0].n != x[1].n))) c.fail("weights do not fit the classes", "one per class");
  const std::string how = c.node.attr_string("reduction", "mean");
  if (how != "none" && how != "mean" && how != "sum") c.fail(fmt::format("reduction '{}'", how), "none, mean or sum");
  c.out = {TensorType{c.in[0]->dtype, how == "none" ? t : Dims{}}};
  if (c.node.op == "SoftmaxCrossEntropyLoss") c.out.push_back(*c.in[0]);
}
Array<double> loss_of(const Args& e, const Array<double>& log_p) {
  const Array<double>& target = *e.in[1];
  const Around a(log_p.shape, 1);
  const bool ignores = e.node.has_attr("ignore_index");
  const std::int64_t ignored = e.node.attr_int("ignore_index", 0);
  Array<double> y(target.shape);
  double sum = 0, total = 0;
  for (std::int64_t o = 0; o < a.outer; ++o)
    for (std::int64_t i = 0; i < a.inner; ++i) {
      const auto at = static_cast<std::size_t>(o * a.inner + i);
      const std::int64_t k = to_int(target.v[at]);
      if (ignores && k == ignored) continue;
      if (k < 0 || k >= a.n) throw node_error(e.graph, e.node, fmt::format("target {} of {} classes", k, a.n));
      const double w = has(e, 2) ? e.in[2]->v[static_cast<std::size_t>(k)] : 1;
      y.v[at] = -w * log_p.v[static_cast<std::size_t>(a.at(o, k, i))];
      sum += y.v[at], total += w;
    }
  const std::string how = e.node.attr_string("reduction", "mean");
  if (how == "none") return y;
  Array<double> scalar{Shape{}};
  scalar.v[0] = how == "sum" ? sum : sum / total;
  return scalar;
}
void nll_eval(Args& e) { e.out[0] = loss_of(e, *e.in[0]); }
void cross_entropy_eval(Args& e) {
  Array<double> log_p = along(*e.in[0], 1, [](std::vector<double>& v) { log_softmax(v); });
  e.out[0] = loss_of(e, log_p);
  if (e.out.size() > 1) e.out[1] = std::move(log_p);
}
Einsum loss_einsum(const Graph& g, const Node& n) {
  if (n.has_attr("ignore_index")) return {};
  const Shape x = shape_of(g, n.in(0));
  const std::string how = n.attr_string("reduction", "mean");
  Cascade c(g, n);
  const std::vector<std::string> all = c.ranks(x);
  std::vector<std::string> place = all, picked = all;
  place.erase(place.begin() + 1);
  const std::string T = at("target", place), L = at("L", place);
  std::string scores = c.in(0);
  if (n.op == "SoftmaxCrossEntropyLoss") {
    scores = "logp";
    const std::string X = at(c.in(0), all), M = at("M", place), D = at("D", all), E = at("E", all), S = at("S", place), Z = at("Z", place);
    c.line("{} max= {}", M, X);
    c.line("{} = {} - {}", D, X, M);
    c.line("{} = exp({})", E, D);
    c.line("{} += {}", S, E);
    c.line("{} = log({})", Z, S);
    c.line("{} = {} - {}", at(scores, all), D, Z);
    if (n.outputs.size() > 1) c.line("{} = {}", at(c.out(1), all), at(scores, all));
  }
  picked[1] = fmt::format("floor({})", T);
  c.line("{} = neg({})", at("P", place), at(scores, picked));
  const std::string weight = n.in(2) == kNone ? "1" : fmt::format("{}[floor({})]", c.in(2), T);
  c.line("{} = {}", at("V", place), weight);
  c.line("{} = {} * {}", how == "none" ? at(c.out(), place) : L, at("P", place), at("V", place));
  if (how == "sum") c.line("{} += {}", c.out(), L);
  if (how == "mean") {
    c.line("total += {}", L);
    c.line("weights += {}", at("V", place));
    c.line("{} = total / weights", c.out());
  }
  return c.done();
}
std::vector<ValueId> expand_loss(Graph& g, const Node& node) {
  const Node n = node;
  if (n.has_attr("ignore_index")) return {};
  const auto list = [&](std::int64_t v) { return g.add_constant(g.unique_name("list"), Tensor::of<std::int64_t>({1}, Ints{v})); };
  ValueId scores = n.inputs[0];
  if (n.op == "SoftmaxCrossEntropyLoss") scores = g.add_node("LogSoftmax", {scores}, {{"axis", std::int64_t{1}}});
  const ValueId picked = g.add_node("GatherElements", {scores, g.add_node("Unsqueeze", {n.inputs[1], list(1)})}, {{"axis", std::int64_t{1}}});
  ValueId loss = g.add_node("Neg", {g.add_node("Squeeze", {picked, list(1)})}), weight = kNone;
  if (n.in(2) != kNone) {
    weight = g.add_node("Gather", {n.inputs[2], n.inputs[1]}, {{"axis", std::int64_t{0}}});
    loss = g.add_node("Mul", {loss, weight});
  }
  const auto total = [&](const char* op, ValueId v) { return g.add_node(op, {v}, {{"keepdims", std::int64_t{0}}}); };
  const std::string how = n.attr_string("reduction", "mean");
  if (how == "sum") loss = total("ReduceSum", loss);
  if (how == "mean") loss = weight == kNone ? total("ReduceMean", loss) : g.add_node("Div", {total("ReduceSum", loss), total("ReduceSum", weight)});
  std::vector<ValueId> out{loss};
  if (n.outputs.size() > 1) out.push_back(g.add_node("Identity", {scores}));
  return out;
}
void sample_loss(const OpDef& op, Sample& s) {
  Shape x = s.shape(2, 4), t = x;
  t.erase(t.begin() + 1);
  std::vector<ValueId> in{s.input(x, -4, 0), s.g.add_constant("target", s.random(t, 0, static_cast<double>(x[1] - 1), DType::i64))};
  if (s.r.chance(0.5)) in.push_back(s.constant({x[1]}, 0.5, 2));
  static const char* how[] = {"none", "mean", "sum"};
  s.node(op, in, {{"reduction", std::string(how[s.r.range(0, 2)])}}, op.name == "SoftmaxCrossEntropyLoss" ? static_cast<std::size_t>(s.r.range(1, 2)) : 1);
}
const std::vector<PortDef> kInputs{{"scores", "[N, C, ...]"}, {"target", "class of each, [N, ...]"}, {"weight", "[C]; default 1", true}};
const std::vector<AttrDef> kAttributes{{"ignore_index", AttrType::integer, "", "targets of this class count nothing"}, {"reduction", AttrType::string, "mean", "none, mean or sum"}};
const OpDef kOps[] = {
    OpDef{.domain = "", .name = "NegativeLogLikelihoodLoss", .summary = "Loss of log-probabilities against classes.",
          .doc = "L = -weight[t] * X[n, t, ...]; mean: the sum over the sum of the weights.", .source = "ONNX NegativeLogLikelihoodLoss-13", .inputs = kInputs,
          .outputs = {{"loss", "as target, or a scalar"}}, .attributes = kAttributes, .infer = infer_loss, .eval = {nll_eval, nullptr}, .einsum = loss_einsum, .adjoint = adjoint_expanded, .expansion = expand_loss, .sample = sample_loss},
    OpDef{.domain = "", .name = "SoftmaxCrossEntropyLoss", .summary = "Cross entropy of scores against classes.",
          .doc = "NegativeLogLikelihoodLoss of log_prob = LogSoftmax of the scores along axis 1.", .source = "ONNX SoftmaxCrossEntropyLoss-13", .inputs = kInputs,
          .outputs = {{"loss", "as target, or a scalar"}, {"log_prob", "shape of the scores", true}}, .attributes = kAttributes, .infer = infer_loss,
          .eval = {cross_entropy_eval, nullptr}, .einsum = loss_einsum, .adjoint = adjoint_expanded, .expansion = expand_loss, .sample = sample_loss},
};

}  // namespace

std::span<const OpDef> loss_ops() { return kOps; }

}  // namespace tandem::ir
