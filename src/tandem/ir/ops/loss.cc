// Losses over class scores.
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
          .outputs = {{"loss", "as target, or a scalar"}}, .attributes = kAttributes, .infer = infer_loss, .eval = {nll_eval, nullptr}, .sample = sample_loss},
    OpDef{.domain = "", .name = "SoftmaxCrossEntropyLoss", .summary = "Cross entropy of scores against classes.",
          .doc = "NegativeLogLikelihoodLoss of log_prob = LogSoftmax of the scores along axis 1.", .source = "ONNX SoftmaxCrossEntropyLoss-13", .inputs = kInputs,
          .outputs = {{"loss", "as target, or a scalar"}, {"log_prob", "shape of the scores", true}}, .attributes = kAttributes, .infer = infer_loss,
          .eval = {cross_entropy_eval, nullptr}, .sample = sample_loss},
};

}  // namespace

std::span<const OpDef> loss_ops() { return kOps; }

}  // namespace tandem::ir
