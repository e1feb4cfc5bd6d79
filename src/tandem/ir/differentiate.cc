#include "tandem/ir/differentiate.h"

#include <algorithm>

#include "tandem/ir/op.h"

namespace tandem::ir {
namespace {

std::size_t ix(ValueId v) { return static_cast<std::size_t>(v); }

Tensor filled_like(const Graph& g, ValueId v, double k) {
  const TensorType& t = g.values[ix(v)].type;
  if (!t.dims || !all_known(*t.dims))
    throw bad_input("the extents of '{}' are not known", printable(g.values[ix(v)].name)).fix("bind the symbolic extents of the graph's inputs to numbers first");
  Shape s;
  for (const Dim& d : *t.dims) s.push_back(d.n);
  Tensor r(t.dtype, s);
  for (std::int64_t i = 0; k != 0 && i < r.size(); ++i) r.set(i, k);
  return r;
}

}  // namespace

Joint differentiate(const Graph& forward, ValueId loss, const std::vector<ValueId>& wrt, ValueId seed) {
  Joint joint;
  Graph& g = joint.graph;
  g = forward;
  const std::size_t count = g.nodes.size();

  // Values that depend on `wrt`: only these carry gradients.
  std::vector<char> varies(g.values.size(), 0);
  for (ValueId v : wrt) varies[ix(v)] = 1;
  for (const Node& n : g.nodes) {
    const bool any = std::any_of(n.inputs.begin(), n.inputs.end(), [&](ValueId v) { return v != kNone && varies[ix(v)]; });
    for (ValueId o : n.outputs)
      if (any && o != kNone) varies[ix(o)] = 1;
  }

  std::vector<ValueId> grad(g.values.size(), kNone);
  auto accumulate = [&](ValueId v, ValueId d) {
    if (v == kNone || d == kNone || !varies[ix(v)]) return;
    ValueId& slot = grad[ix(v)];
    slot = slot == kNone ? d : g.add_node("Add", {slot, d}, {}, g.unique_name(g.values[ix(v)].name + "/grad_sum"));
  };
  accumulate(loss, seed != kNone ? seed : g.add_constant(g.unique_name("grad_seed"), filled_like(g, loss, 1)));

  for (std::size_t i = count; i-- > 0;) {
    const Node n = g.nodes[i];
    std::vector<ValueId> dy;
    bool reached = false, needed = false;
    for (ValueId o : n.outputs) {
      dy.push_back(o == kNone ? kNone : grad[ix(o)]);
      reached = reached || dy.back() != kNone;
    }
    for (ValueId v : n.inputs) needed = needed || (v != kNone && varies[ix(v)]);
    const bool contraction = n.domain.empty() && (n.op == "Conv" || n.op == "MatMul" || n.op == "Gemm");
    if (!reached || !needed) {
      if (contraction) joint.products.push_back({n.name, n.name, "", ""});
      continue;
    }
    const OpDef& def = op_of(g, n);
    if (!def.adjoint)
      throw bad_input("{} has no adjoint, so no gradient passes it", g.describe(n)).fix("a rule that needs none, or take the value in front of it as the loss");
    const std::vector<ValueId> d = def.adjoint(g, n, dy);
    TANDEM_CHECK(d.size() == n.inputs.size(), "{}: its adjoint returned {} gradients for {} inputs", g.describe(n), d.size(), n.inputs.size());
    grad.resize(std::max(grad.size(), g.values.size()), kNone);
    for (std::size_t k = 0; k < d.size(); ++k) accumulate(n.inputs[k], d[k]);
    if (contraction) {
      const std::string base = n.name.empty() ? g.values[ix(n.outputs[0])].name : n.name;
      g.nodes[i].name = base + "/fwd";
      joint.products.push_back({n.name, base + "/fwd", base + "/dX", base + "/dW"});
    }
  }
  std::reverse(joint.products.begin(), joint.products.end());

  std::vector<std::string> names;
  for (ValueId v : wrt) {
    ValueId d = grad[ix(v)];
    if (d == kNone) d = g.add_constant(g.unique_name(g.values[ix(v)].name + "/grad_zero"), filled_like(g, v, 0));
    // A node of its own, so that every gradient has its own name whatever it is shared with.
    g.outputs.push_back(g.add_node("Identity", {d}, {}, g.unique_name("grad/" + g.values[ix(v)].name)));
    names.push_back(g.values[ix(g.outputs.back())].name);
  }
  sort_nodes(g);
  remove_dead(g);
  infer_shapes(g);
  verify(g);
  for (const std::string& n : names) joint.gradients.push_back(g.find(n));
  for (Products& p : joint.products) {
    auto exists = [&](const std::string& s) { return std::any_of(g.nodes.begin(), g.nodes.end(), [&](const Node& n) { return n.name == s; }); };
    if (!exists(p.to_data)) p.to_data.clear();
    if (!exists(p.to_weight)) p.to_weight.clear();
    if (!exists(p.forward)) p.forward.clear();
  }
  return joint;
}

}  // namespace tandem::ir
