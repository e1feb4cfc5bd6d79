// The table of operators: one line each.
#include <mutex>

#include "tandem/base/nearest.h"
#include "tandem/ir/ops/adjoints.h"
#include "tandem/ir/ops/by_table.h"
#include "tandem/ir/ops/kit.h"

namespace tandem::ir {

std::string_view to_string(Closure c) {
  switch (c) {
    case Closure::linear: return "linear";
    case Closure::affine: return "affine";
    case Closure::piecewise: return "piecewise";
    case Closure::join: return "join";
    case Closure::pool: return "pool";
    case Closure::move: return "move";
    case Closure::quantiser: return "quantiser";
    case Closure::index: return "index";
    case Closure::state: return "state";
    case Closure::constant: return "constant";
    case Closure::open: return "open";
  }
  return "?";
}

std::span<const OpDef* const> all_ops() {
  static const std::vector<const OpDef*> table = [] {
    std::vector<const OpDef*> t{
        &kConv, &kConvTranspose, &kMatMul, &kGemm,
        &kAdd, &kSub, &kMul, &kDiv, &kPow, &kBatchNormalization,
        &kRelu, &kClip, &kIdentity, &kDropout, &kSoftmax, &kArgMax, &kArgMin,
        &kMaxPool, &kAveragePool, &kLpPool, &kGlobalAveragePool, &kGlobalMaxPool, &kGlobalLpPool, &kMaxUnpool,
        &kFlatten, &kReshape, &kSqueeze, &kUnsqueeze, &kTranspose, &kConcat, &kGather, &kShape,
        &kQuant, &kBipolarQuant, &kThreshold, &kDelay,
    };
    for (const auto family : {unary_ops(), binary_ops(), reduce_ops(), move_ops(), norm_ops(), loss_ops(), image_ops(), integer_ops(), recurrent_ops(), signal_ops(), algebra_ops(), control_ops(), tflite_ops(), tflite_recent_ops(), open_quant_ops(), ml_ops(), random_ops(), training_ops(), arrange_ops(), attention_ops(), contrib_ops(), contrib_matmul_ops(), by_table_ops()})
      for (const OpDef& o : family) t.push_back(&o);
    auto more = grad_ops();
    t.insert(t.end(), more.begin(), more.end());
    return t;
  }();
  return table;
}

const OpDef* find_op(std::string_view domain, std::string_view name) {
  if (domain == "ai.onnx") domain = "";
  if (domain == "onnx.brevitas" || domain == "finn.custom_op.general") domain = "qonnx.custom_op.general";
  static const std::map<std::pair<std::string_view, std::string_view>, const OpDef*> index = [] {
    std::map<std::pair<std::string_view, std::string_view>, const OpDef*> m;
    for (const OpDef* o : all_ops()) m[{o->domain, o->name}] = o;
    return m;
  }();
  auto it = index.find({domain, name});
  return it == index.end() ? nullptr : it->second;
}

const OpDef& op_of(const Graph& g, const Node& n) {
  if (const OpDef* o = find_op(n.domain, n.op)) return *o;
  std::vector<std::string> names;
  for (const OpDef* o : all_ops()) names.emplace_back(o->name);
  std::string near = nearest(n.op, names);
  throw Error(Exit::bad_input, fmt::format("operator '{}{}{}' is not known", n.domain, n.domain.empty() ? "" : "::", n.op))
      .at(g.describe(n))
      .expected(near.empty() ? "an operator listed by `tandem ops`" : fmt::format("an operator listed by `tandem ops`; nearest: {}", near));
}

}  // namespace tandem::ir
