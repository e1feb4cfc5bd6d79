// ONNX's optimisers: one step each, over any number of tensors.
#include "tandem/ir/ops/kit.h"

namespace tandem::ir {
namespace {

using Args = EvalArgs<double>;

// Inputs: rate, step, then `lists` lists of n tensors (values, gradients, states); outputs: the values and states.
void infer_step(InferContext& c, std::size_t lists) {
  const std::size_t n = (c.in.size() - std::min<std::size_t>(c.in.size(), 2)) / lists;
  if (n == 0 || c.in.size() != 2 + n * lists) c.fail(fmt::format("{} inputs", c.in.size()), fmt::format("rate, step and {} per tensor", lists));
  if (c.node.outputs.size() != n * (lists - 1)) c.fail(fmt::format("{} outputs for {} tensors", c.node.outputs.size(), n), fmt::format("{}", n * (lists - 1)));
  for (std::size_t i = 0; i < c.in.size(); ++i) {
    if (!has(c, i)) c.fail(fmt::format("input {} is missing", i));
    const TensorType &t = *c.in[i], &first = *c.in[i < 2 ? i : 2 + (i - 2) % n];
    if (t.dims && first.dims && all_known(*t.dims) && all_known(*first.dims) && *t.dims != *first.dims) c.fail(fmt::format("input {} has the shape {}, its tensor {}", i, to_string(*t.dims), to_string(*first.dims)));
  }
  for (std::size_t l = 0; l < lists; ++l)
    if (l != 1)
      for (std::size_t i = 0; i < n; ++i) c.out.push_back(*c.in[2 + l * n + i]);
}
struct Step {
  double rate;
  std::int64_t count;
  std::size_t n;
};
Step step_of(const Args& e, std::size_t lists) {
  if (e.in[0]->v.size() != 1 || e.in[1]->v.size() != 1) throw node_error(e.graph, e.node, "rate and step must be single numbers");
  const Step s{e.in[0]->v[0], to_int(e.in[1]->v[0]), (e.in.size() - 2) / lists};
  for (std::size_t i = 2; i < e.in.size(); ++i)
    if (e.in[i]->shape != e.in[2 + (i - 2) % s.n]->shape) throw node_error(e.graph, e.node, fmt::format("input {} has the shape {}, its tensor {}", i, to_string(e.in[i]->shape), to_string(e.in[2 + (i - 2) % s.n]->shape)));
  return s;
}
// f(value, gradient with its decay, state...) changes values and states in place.
template <std::size_t lists, class F>
void each(Args& e, F f) {
  const Step s = step_of(e, lists);
  const double decay = e.node.attr_float("norm_coefficient", 0);
  for (std::size_t i = 0; i < s.n; ++i) {
    Array<double> x = *e.in[2 + i], a = *e.in[2 + 2 * s.n + i], b = lists > 3 ? *e.in[2 + 3 * s.n + i] : Array<double>();
    for (std::size_t k = 0; k < x.v.size(); ++k) {
      double none = 0;
      f(s, x.v[k], e.in[2 + s.n + i]->v[k] + decay * x.v[k], a.v[k], lists > 3 ? b.v[k] : none);
    }
    e.out[i] = std::move(x), e.out[s.n + i] = std::move(a);
    if (lists > 3) e.out[2 * s.n + i] = std::move(b);
  }
}
void infer_three(InferContext& c) { infer_step(c, 3); }
void infer_four(InferContext& c) { infer_step(c, 4); }

void adagrad(Args& e) {
  const double decay = e.node.attr_float("decay_factor", 0), epsilon = e.node.attr_float("epsilon", 1e-6);
  each<3>(e, [&](const Step& s, double& x, double g, double& h, double&) {
    h += g * g;
    x -= s.rate / (1 + static_cast<double>(s.count) * decay) * g / (std::sqrt(h) + epsilon);
  });
}
void adam(Args& e) {
  const double a = e.node.attr_float("alpha", 0.9), b = e.node.attr_float("beta", 0.999), epsilon = e.node.attr_float("epsilon", 1e-6), shrink = 1 - e.node.attr_float("norm_coefficient_post", 0);
  each<4>(e, [&](const Step& s, double& x, double g, double& v, double& h) {
    const auto t = static_cast<double>(s.count);
    v = a * v + (1 - a) * g, h = b * h + (1 - b) * g * g;
    const double rate = s.count > 0 ? s.rate * std::sqrt(1 - std::pow(b, t)) / (1 - std::pow(a, t)) : s.rate;
    x = shrink * (x - rate * v / (std::sqrt(h) + epsilon));
  });
}
void infer_momentum(InferContext& c) {
  const std::string mode = c.node.attr_string("mode", "");
  if (mode != "standard" && mode != "nesterov") c.fail(fmt::format("mode '{}' is unknown", printable(mode)), "standard or nesterov");
  infer_three(c);
}
void momentum(Args& e) {
  const double a = e.node.attr_float("alpha", 0), b = e.node.attr_float("beta", 0);
  const bool nesterov = e.node.attr_string("mode", "") == "nesterov";
  each<3>(e, [&](const Step& s, double& x, double g, double& v, double&) {
    v = a * v + (s.count > 0 ? b : 1) * g;
    x -= s.rate * (nesterov ? g + a * v : v);
  });
}
void sample_step(const OpDef& op, Sample& s) {
  const std::size_t lists = op.name == "Adam" ? 4 : 3;
  std::vector<Shape> shapes;
  for (std::int64_t i = s.r.range(1, 3); i > 0; --i) shapes.push_back(s.shape(1, 3));
  std::vector<ValueId> in{s.scalar(0.125), s.input({}, 0, 5, DType::i64)};
  for (std::size_t l = 0; l < lists; ++l)
    for (const Shape& x : shapes) in.push_back(s.input(x, l < 2 ? -2 : 0.25, 2));
  std::map<std::string, Attribute> a{{"norm_coefficient", 0.0625}};
  if (op.name == "Adagrad") a["decay_factor"] = 0.25, a["epsilon"] = 0.0078125;
  if (op.name == "Adam") a["alpha"] = 0.5, a["beta"] = 0.75, a["epsilon"] = 0.0078125, a["norm_coefficient_post"] = 0.125;
  if (op.name == "Momentum") a["alpha"] = 0.5, a["beta"] = 0.75, a["mode"] = std::string(s.r.chance(0.5) ? "standard" : "nesterov");
  s.node(op, in, a, shapes.size() * (lists - 1));
}
[[noreturn]] void refuse_gradient(const Graph& g, const Node& n) {
  throw node_error(g, n, "it stands for the gradient of the graph around it").expected("the operators that compute it").fix("export the model without training; `tandem train` makes gradients itself");
}
void infer_gradient(InferContext& c) { refuse_gradient(c.graph, c.node); }
void gradient(Args& e) { refuse_gradient(e.graph, e.node); }

constexpr std::string_view kTraining = "ai.onnx.preview.training";
std::vector<PortDef> step_inputs(std::string_view lists) { return {{"R", "the rate"}, {"T", "i64: steps taken before"}, {"tensors", lists, false, true}}; }
const AttrDef kDecay{"norm_coefficient", AttrType::real, "0", "times X is added to the gradients"}, kStepEpsilon{"epsilon", AttrType::real, "1e-06", "added to the root"};
const OpDef kOps[] = {
    OpDef{.domain = kTraining, .name = "Adagrad", .summary = "One step of Adagrad.", .doc = "G' = G + norm_coefficient X; H' = H + G'^2; X' = X - R / (1 + T decay_factor) G' / (sqrt(H') + epsilon).", .source = "ONNX preview Adagrad-1; Duchi et al. 2011",
          .inputs = step_inputs("the values X, then the gradients G, then the states H"), .outputs = {{"Y", "the values X', then the states H'", false, true}}, .attributes = {{"decay_factor", AttrType::real, "0", "of the rate"}, kStepEpsilon, kDecay},
          .infer = infer_three, .eval = {adagrad, nullptr}, .sample = sample_step},
    OpDef{.domain = kTraining, .name = "Adam", .summary = "One step of Adam.",
          .doc = "G' = G + norm_coefficient X; V' = alpha V + (1 - alpha) G'; H' = beta H + (1 - beta) G'^2; X' = (1 - norm_coefficient_post) (X - R' V' / (sqrt(H') + epsilon)), R' = R sqrt(1 - beta^T) / (1 - alpha^T), or R where T is 0.",
          .source = "ONNX preview Adam-1; Kingma, Ba 2015", .inputs = step_inputs("the values X, then G, V and H"), .outputs = {{"Y", "the values X', then V' and H'", false, true}},
          .attributes = {{"alpha", AttrType::real, "0.9", "of V"}, {"beta", AttrType::real, "0.999", "of H"}, kStepEpsilon, kDecay, {"norm_coefficient_post", AttrType::real, "0", "shrinks the result"}}, .infer = infer_four, .eval = {adam, nullptr}, .sample = sample_step},
    OpDef{.domain = kTraining, .name = "Momentum", .summary = "One step of gradient descent with momentum.", .doc = "G' = G + norm_coefficient X; V' = alpha V + (T > 0 ? beta : 1) G'; X' = X - R V', nesterov: X - R (G' + alpha V').", .source = "ONNX preview Momentum-1",
          .inputs = step_inputs("the values X, then the gradients G, then the momenta V"), .outputs = {{"Y", "the values X', then the momenta V'", false, true}},
          .attributes = {{"alpha", AttrType::real, "required", "of the momentum"}, {"beta", AttrType::real, "required", "of the gradient"}, {"mode", AttrType::string, "required", "standard or nesterov"}, kDecay}, .infer = infer_momentum, .eval = {momentum, nullptr},
          .sample = sample_step},
    OpDef{.domain = kTraining, .name = "Gradient", .summary = "Refused: the gradient of the graph around it.", .doc = "What it means is no function of its inputs.", .source = "ONNX preview Gradient-1", .inputs = {{"X", "inputs of the graph", false, true}}, .outputs = {{"Y", "gradients", false, true}},
          .attributes = {{"xs", AttrType::strings, "", "to these values"}, {"y", AttrType::string, "", "of this one"}, {"zs", AttrType::strings, "", "others held fixed"}}, .infer = infer_gradient, .eval = {gradient, nullptr}},
};

}  // namespace

std::span<const OpDef> training_ops() { return kOps; }

}  // namespace tandem::ir
