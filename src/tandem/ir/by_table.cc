#include "tandem/ir/by_table.h"

#include <set>

#include "tandem/ir/ops/by_table.h"
#include "tandem/ir/ops/common.h"

namespace tandem::ir {
namespace {

constexpr int kMostBits = 12, kRootAddress = 9, kRootBits = 15, kNormalBits = 10;

const Node* producer(const Graph& g, ValueId v) {
  for (const Node& n : g.nodes)
    if (std::find(n.outputs.begin(), n.outputs.end(), v) != n.outputs.end()) return &n;
  return nullptr;
}
float number(const Graph& g, const Node& n, std::size_t i, float absent) {
  const Tensor* t = n.in(i) == kNone ? nullptr : g.constant(n.in(i));
  return !t ? absent : t->size() == 1 ? static_cast<float>(t->at(0)) : 0.f;
}
// The scale in which v counts; 0, and why, where no quantiser says.
float scale_of(const Graph& g, ValueId v, std::string& why) {
  static const std::set<std::string> moves{"Identity", "Dropout", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose"};
  const Node* n = producer(g, v);
  while (n && n->domain.empty() && moves.count(n->op)) n = producer(g, n->in(0));
  if (!n || n->op != "Quant") {
    why = "no quantiser stands right before it";
    return 0;
  }
  const float scale = number(g, *n, 1, 0), bits = number(g, *n, 3, 0);
  if (!(scale > 0)) why = "the quantiser before it has a scale per channel";
  else if (!(bits >= 1 && bits <= kMostBits)) why = fmt::format("the quantiser before it has {} bits; at most {}", bits, kMostBits);
  return why.empty() ? scale : 0;
}

std::vector<ValueId> softmax(Graph& g, const Node& n) {
  std::string why;
  const float scale = scale_of(g, n.in(0), why);
  const std::vector<std::int32_t> t = tflite_exponentials(scale, 1, kMostExponentials);
  // Behind the last one that counts there are only zeros.
  const auto end = std::find(t.begin(), t.end(), 0);
  const ValueId table = g.add_constant(g.unique_name("exponentials"), Tensor::of<std::int32_t>({end - t.begin()}, std::vector<std::int32_t>(t.begin(), end)));
  return {g.add_node("TableSoftmax", {n.in(0), table}, {{"axis", n.attr_int("axis", -1)}, {"x_scale", static_cast<double>(scale)}, {"bits", n.attr_int("tandem_bits", 8)}}, n.name, "tandem")};
}
std::vector<ValueId> normalization(Graph& g, const Node& n) {
  std::string why;
  const float scale = scale_of(g, n.in(0), why);
  const ValueId table = g.add_constant(g.unique_name("roots"), Tensor::of<std::int32_t>({std::int64_t{1} << kRootAddress}, root_table(kRootAddress, kRootBits)));
  ValueId y = g.add_node("TableNormalize", {n.in(0), table},
                         {{"axis", std::int64_t{-1}}, {"x_scale", static_cast<double>(scale)}, {"epsilon", n.attr_float("epsilon", 1e-5)}, {"root_bits", std::int64_t{kRootBits}}, {"bits", std::int64_t{kNormalBits}}}, n.name, "tandem");
  y = g.add_node("Mul", {y, n.in(1)}, {}, n.name + "/scale");
  if (n.in(2) != kNone) y = g.add_node("Add", {y, n.in(2)}, {}, n.name + "/bias");
  std::vector<ValueId> all(n.outputs.size(), y);
  return all;
}

}  // namespace

Graph by_table(const Graph& given, ByTable* stats, bool normalisations) {
  Graph g = given;
  sort_nodes(g);
  infer_shapes(g);
  ByTable s;
  std::set<std::string> taken;
  const Graph before = g;
  auto read = [&](ValueId v) {
    return std::count(before.outputs.begin(), before.outputs.end(), v) > 0 || std::any_of(before.nodes.begin(), before.nodes.end(), [&](const Node& m) { return std::count(m.inputs.begin(), m.inputs.end(), v) > 0; });
  };
  for (Node& n : g.nodes) {
    const bool is_softmax = n.domain.empty() && n.op == "Softmax", is_norm = normalisations && n.domain.empty() && n.op == "LayerNormalization";
    if (!is_softmax && !is_norm) continue;
    std::string why;
    scale_of(before, n.in(0), why);
    const auto& dims = before.values[static_cast<std::size_t>(n.in(0))].type.dims;
    const std::int64_t rank = dims ? static_cast<std::int64_t>(dims->size()) : 0;
    if (why.empty() && rank == 0) why = "its operand's rank is unknown";
    if (why.empty() && is_softmax) {
      const std::int64_t axis = n.attr_int("axis", -1);
      const Dim& extent = (*dims)[static_cast<std::size_t>(axis < 0 ? axis + rank : axis)];
      if (extent.known() && extent.n > kMostSoftmax) why = fmt::format("{} elements; at most {}", extent.n, kMostSoftmax);
      std::int64_t bits = 8;
      for (const Node& m : before.nodes)
        if (m.op == "Quant" && m.in(0) == n.outputs[0] && number(before, m, 3, 0) > 8) bits = 16;
      n.attrs["tandem_bits"] = bits;
    }
    if (why.empty() && is_norm) {
      const std::int64_t axis = n.attr_int("axis", -1);
      if (axis != -1 && axis != rank - 1) why = "it runs over several axes";
      else if (!before.constant(n.in(1)) || (n.in(2) != kNone && !before.constant(n.in(2)))) why = "its scale or bias is no constant";
      for (std::size_t o = 1; o < n.outputs.size(); ++o)
        if (n.outputs[o] != kNone && read(n.outputs[o])) why = "its mean or deviation is read";
    }
    if (why.empty()) ++s.rewritten, taken.insert(g.describe(n));
    else s.left.push_back(fmt::format("{}: {}", g.describe(n), why));
  }
  if (s.rewritten > 0) {
    replace_nodes(g, [&](const Node& n) -> DecomposeFn {
      if (!taken.count(before.describe(n))) return nullptr;
      return n.op == "Softmax" ? softmax : normalization;
    });
    sort_nodes(g);
    remove_dead(g);
    infer_shapes(g);
  }
  for (Node& n : g.nodes) n.attrs.erase("tandem_bits");
  if (stats) *stats = std::move(s);
  return g;
}

}  // namespace tandem::ir
