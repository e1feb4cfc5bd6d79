#include "tandem/proof/shrink.h"

#include <algorithm>
#include <set>

#include "tandem/ir/exact.h"
#include "tandem/ir/op.h"

namespace tandem::proof {
namespace {
using namespace ir;

std::size_t ix(ValueId v) { return static_cast<std::size_t>(v); }

std::optional<Shape> shape_of(const Graph& g, ValueId v) {
  const auto& d = g.values[ix(v)].type.dims;
  if (!d || !all_known(*d)) return {};
  Shape s;
  for (const Dim& x : *d) s.push_back(x.n);
  return s;
}
// Inputs that nothing reads go, with their data.
void tidy(Failing& f) {
  remove_dead(f.graph);
  std::set<ValueId> read(f.graph.outputs.begin(), f.graph.outputs.end());
  for (const Node& n : f.graph.nodes) read.insert(n.inputs.begin(), n.inputs.end());
  for (std::size_t i = f.graph.inputs.size(); i-- > 0;) {
    if (read.contains(f.graph.inputs[i])) continue;
    f.graph.inputs.erase(f.graph.inputs.begin() + static_cast<std::ptrdiff_t>(i));
    for (auto& t : f.inputs) t.erase(t.begin() + static_cast<std::ptrdiff_t>(i));
  }
}
void replace_uses(Graph& g, ValueId from, ValueId to) {
  for (Node& n : g.nodes) std::replace(n.inputs.begin(), n.inputs.end(), from, to);
  std::replace(g.outputs.begin(), g.outputs.end(), from, to);
}

// What every value is, for each of the inputs; empty where the literal evaluator cannot.
std::vector<std::vector<Tensor>> values_of(const Failing& f) {
  std::vector<std::vector<Tensor>> r;
  LiteralState state;
  for (const auto& in : f.inputs) {
    std::vector<LiteralValue> all;
    evaluate_literal(f.graph, in, &state, &all);
    r.emplace_back(all.size());
    for (std::size_t v = 0; v < all.size(); ++v) {
      if (f.graph.values[v].type.dtype != DType::f32) continue;
      Tensor t(DType::f32, all[v].shape);
      const std::size_t n = all[v].exact ? all[v].q.size() : all[v].f.size();
      if (static_cast<std::int64_t>(n) != t.size()) continue;
      for (std::size_t i = 0; i < n; ++i) t.set(static_cast<std::int64_t>(i), all[v].exact ? all[v].q[i].get_d() : all[v].f[i]);
      r.back()[v] = std::move(t);
    }
  }
  return r;
}

std::vector<Failing> candidates(const Failing& f) {
  std::vector<Failing> out;
  const Graph& g = f.graph;
  std::vector<std::vector<Tensor>> values;
  try {
    values = values_of(f);
  } catch (const Error&) {
  }
  const auto add = [&](Failing c) {
    try {
      tidy(c);
      infer_shapes(c.graph);
    } catch (const Error&) {
      return;
    }
    if (c.graph.inputs.empty() || c.graph.nodes.empty()) return;
    out.push_back(std::move(c));
  };
  std::set<ValueId> constant;
  for (const auto& [v, t] : g.initialisers) constant.insert(v);
  for (const Node& n : g.nodes) {
    const bool folds = !n.inputs.empty() && std::all_of(n.inputs.begin(), n.inputs.end(), [&](ValueId v) { return v == kNone || constant.contains(v); });
    if (folds) {
      constant.insert(n.outputs.begin(), n.outputs.end());
      if (!values.empty() && values[0].size() > ix(n.outputs[0]) && values[0][ix(n.outputs[0])].size() > 0) {
        Failing c = f;
        replace_uses(c.graph, n.outputs[0], c.graph.add_constant(c.graph.unique_name("folded"), values[0][ix(n.outputs[0])]));
        add(std::move(c));
      }
      continue;
    }
    for (ValueId v : n.outputs)
      if (v != kNone && g.outputs != std::vector<ValueId>{v}) {  // everything behind goes
        Failing c = f;
        c.graph.outputs = {v};
        add(std::move(c));
      }
    for (ValueId v : n.inputs) {  // everything in front goes
      if (v == kNone || constant.contains(v) || std::find(g.inputs.begin(), g.inputs.end(), v) != g.inputs.end()) continue;
      const auto s = shape_of(g, v);
      if (!s || values.empty() || std::any_of(values.begin(), values.end(), [&](const auto& t) { return t.size() <= ix(v) || t[ix(v)].shape() != *s; })) continue;
      Failing c = f;
      const ValueId x = c.graph.add_input(c.graph.unique_name("x"), DType::f32, dims_of(*s));
      replace_uses(c.graph, v, x);
      for (std::size_t t = 0; t < c.inputs.size(); ++t) c.inputs[t].push_back(values[t][ix(v)]);
      add(std::move(c));
    }
    for (ValueId v : n.inputs)  // around it
      if (v != kNone && !constant.contains(v) && shape_of(g, v) && shape_of(g, v) == shape_of(g, n.outputs[0]) && g.values[ix(v)].type.dtype == g.values[ix(n.outputs[0])].type.dtype) {
        Failing c = f;
        replace_uses(c.graph, n.outputs[0], v);
        add(std::move(c));
      }
    const bool bias = (n.op == "Conv" || n.op == "Gemm") && n.inputs.size() > 2 && n.inputs[2] != kNone;
    if (bias) {
      Failing c = f;
      for (Node& m : c.graph.nodes)
        if (m.outputs == n.outputs) m.inputs.resize(2);
      add(std::move(c));
    }
  }
  std::stable_sort(out.begin(), out.end(), [](const Failing& a, const Failing& b) { return a.graph.nodes.size() < b.graph.nodes.size(); });
  return out;
}

std::size_t weight(const Failing& f) {
  std::size_t n = 0;
  for (const Node& x : f.graph.nodes) n += 1 + x.inputs.size();
  return n;
}

}  // namespace

Failing shrink(Failing start, const StillFails& fails, std::size_t at_once, int most_rounds) {
  for (int round = 0; round < most_rounds; ++round) {
    std::vector<Failing> all = candidates(start);
    std::erase_if(all, [&](const Failing& c) { return weight(c) >= weight(start); });
    bool smaller = false;
    for (std::size_t i = 0; i < all.size() && !smaller; i += at_once) {
      const std::span<const Failing> some(all.data() + i, std::min(at_once, all.size() - i));
      const std::vector<bool> f = fails(some);
      for (std::size_t k = 0; k < some.size(); ++k)
        if (f[k]) {
          start = some[k];
          smaller = true;
          break;
        }
    }
    if (!smaller) break;
  }
  return start;
}

}  // namespace tandem::proof
