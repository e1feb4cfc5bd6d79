// Descriptors of what the learning library offers, without opening it.
#include <algorithm>

#include "tandem/base/nearest.h"
#include "tandem/train/learn.h"

namespace tandem::train {
namespace {

const Descriptor kOptimisers[] = {
    {"sgd", "stochastic gradient descent with momentum and weight decay", "Sutskever et al., ICML 2013",
     {{"rate", 0.05, 0, 1e3, "learning rate"},
      {"momentum", 0.9, 0, 0.9999, "velocity kept per step"},
      {"weight_decay", 1e-4, 0, 10, "L2 penalty, added to the gradient of weights"}}},
    {"adam", "Adam with decoupled weight decay", "Kingma and Ba, ICLR 2015; Loshchilov and Hutter, ICLR 2019",
     {{"rate", 0.003, 0, 1e3, "learning rate"},
      {"beta1", 0.9, 0, 0.9999, "decay of the first moment"},
      {"beta2", 0.999, 0, 0.999999, "decay of the second moment"},
      {"epsilon", 1e-8, 1e-20, 1, "added to the root of the second moment"},
      {"weight_decay", 1e-4, 0, 10, "decoupled shrinking of weights, times the rate"}}},
};

const Descriptor kSchedules[] = {
    {"constant", "the same learning rate throughout", "", {}},
    {"cosine", "half a cosine from the rate to its floor", "Loshchilov and Hutter, ICLR 2017",
     {{"floor", 0, 0, 1, "last rate as a fraction of the first"}}},
    {"step", "multiplied by a factor every so many epochs", "",
     {{"every", 10, 1, 1e6, "epochs"}, {"factor", 0.1, 0, 1, "multiplier"}}},
};

const Descriptor kRules[] = {
    {"autograd", "libtorch differentiates the forward graph (eager route)", "", {}},
    {"straight_through", "a quantiser passes the gradient inside its range and stops it outside", "Bengio et al., 2013", {}},
    {"lsq", "quantiser scales are learned: d/ds = level - x/s inside, the end level outside, times 1/sqrt(N kmax)",
     "Esser et al., ICLR 2020", {}},
};

}  // namespace

std::span<const Descriptor> optimisers() { return kOptimisers; }
std::span<const Descriptor> schedules() { return kSchedules; }
std::span<const Descriptor> rules() { return kRules; }

const Descriptor& find_descriptor(std::span<const Descriptor> table, std::string_view name, std::string_view what) {
  std::vector<std::string_view> names;
  for (const Descriptor& d : table) {
    if (d.name == name) return d;
    names.push_back(d.name);
  }
  std::string known, near = nearest(name, std::span<const std::string_view>(names));
  for (auto n : names) known += (known.empty() ? "" : ", ") + std::string(n);
  throw bad_input("unknown {} '{}'", what, printable(name)).expected(known).fix(near.empty() ? "" : "did you mean '" + near + "'?");
}

double Choice::operator[](std::string_view parameter) const {
  for (auto table : {optimisers(), schedules()})
    for (const Descriptor& d : table)
      if (d.name == name)
        for (std::size_t i = 0; i < d.parameters.size(); ++i)
          if (d.parameters[i].name == parameter) return i < values.size() ? values[i] : d.parameters[i].fallback;
  TANDEM_CHECK(false, "'{}' has no parameter '{}'", name, parameter);
  return 0;
}

bool is_trained(std::string_view domain, std::string_view op) {
  static constexpr std::string_view kOnnx[] = {
      "Conv", "MatMul", "Gemm", "Add", "Sub", "Mul", "Div", "Pow", "BatchNormalization", "Relu", "Clip", "MaxPool", "AveragePool", "GlobalAveragePool",
      "Flatten", "Reshape", "Squeeze", "Unsqueeze", "Shape", "Gather", "Transpose", "Concat", "ArgMax", "Softmax", "Identity", "Dropout"};
  if (op == "Quant" || op == "BipolarQuant") return domain == "qonnx.custom_op.general";
  return (domain.empty() || domain == "ai.onnx") && std::find(std::begin(kOnnx), std::end(kOnnx), op) != std::end(kOnnx);
}

std::string why_not_trainable(const ir::Graph& g, const ir::Node& n) {
  const auto fixed = [&](std::size_t i) { return n.in(i) == ir::kNone || g.constant(n.in(i)) != nullptr; };
  if (n.op == "Quant" || n.op == "BipolarQuant") {
    if (n.op == "Quant") {
      const Tensor* width = g.constant(n.in(3));
      if (!width || width->size() != 1) return "the bit width is not one constant";
      if (const std::int64_t bits = width->int_at(0); bits < 1 || bits > 32) return fmt::format("a bit width of {}; 1 to 32 can be trained", bits);
      if (!g.constant(n.in(2))) return "the zero point is not constant";
    }
    return g.constant(n.in(1)) ? "" : "the scale is not constant";
  }
  if (!is_trained(n.domain, n.op)) return "this operator cannot be trained";
  if (n.op == "Clip" && !(fixed(1) && fixed(2))) return "the bounds are not constant";
  if (n.op == "Dropout" && !fixed(1)) return "the ratio is not constant";
  if ((n.op == "Squeeze" || n.op == "Unsqueeze") && !fixed(1)) return "its axes are not constant";
  if (n.op == "MaxPool" || n.op == "AveragePool")
    if (const std::size_t k = n.attr_ints("kernel_shape", {}).size(); k != 2) return fmt::format("a pool over {} axes; two can be trained", k);
  return "";
}

FitParams::FitParams() : optimiser{"adam", {}}, schedule{"cosine", {}} {}

}  // namespace tandem::train
