// The literal evaluator: one rational per element, docs/semantics.md word for word; and the float one.
#include <cmath>

#include "tandem/ir/arrays.h"
#include "tandem/ir/exact.h"
#include "tandem/ir/ops/common.h"
#include "tandem/ir/ops/sources.h"

namespace tandem::ir {

std::pair<double, double> integer_range(DType t) {
  if (t == DType::boolean) return {0, 1};
  const double span = std::ldexp(1.0, static_cast<int>(8 * size_of(t)));
  return is_signed_integer(t) || size_of(t) == 8 ? std::pair(-span / 2, span / 2 - 1) : std::pair(0.0, span - 1);
}
double held_as(DType t, double v) {
  if (t == DType::f32) return static_cast<float>(v);
  if (t == DType::f16) return half_to_float(float_to_half(static_cast<float>(v)));
  if (t == DType::bf16) return bf16_to_float(float_to_bf16(static_cast<float>(v)));
  if (t == DType::f64 || t == DType::boolean || size_of(t) == 8) return v;
  const auto [least, most] = integer_range(t);
  const double span = most - least + 1;
  return v >= least && v <= most ? v : v - span * std::floor((v - least) / span);
}

namespace {
// Windows of three and more axes, and pools that also tell where their maximum was, are not closed.
bool open_window(const Graph& g, const Node& n) {
  const auto& x = g.values[n.in(0)].type.dims;
  return (x && x->size() > 4) || (n.outputs.size() > 1 && n.outputs[1] != kNone);
}
}  // namespace

std::vector<Kind> classify(const Graph& g) {
  std::vector<Kind> k(g.values.size(), Kind::constant);
  for (ValueId v : g.inputs) k[v] = is_float(g.values[v].type.dtype) ? Kind::floating : Kind::exact;
  for (const Node& n : g.nodes)
    if (op_of(g, n).closure == Closure::state) k[n.outputs[0]] = Kind::exact;  // refuted below where it is not
  for (bool changed = true; changed;) {
    changed = false;
    for (const Node& n : g.nodes) {
      const OpDef& op = op_of(g, n);
      bool varying = false, floating = false;
      auto is_constant = [&](std::size_t i) { return n.in(i) == kNone || k[n.in(i)] == Kind::constant; };
      for (std::size_t i = 0; i < n.inputs.size(); ++i) {
        if (is_constant(i)) continue;
        varying = true;
        floating |= k[n.inputs[i]] == Kind::floating;
      }
      Kind out = Kind::exact;
      if (op.closure == Closure::state) {
        out = floating ? Kind::floating : Kind::exact;
      } else if (!varying) {
        out = Kind::constant;
      } else if (op.closure == Closure::quantiser) {
        out = Kind::exact;
      } else if ((op.closure == Closure::pool || n.op == "Conv") && open_window(g, n)) {
        out = Kind::floating;
      } else if (op.closure == Closure::open || floating || !op.eval.as_rational) {
        out = Kind::floating;
      } else if (n.op == "Pow") {
        out = Kind::floating;
        if (is_constant(1) && !is_constant(0))
          if (const Tensor* t = g.constant(n.in(1))) {
            out = Kind::exact;
            for (std::int64_t i = 0; i < t->size(); ++i)
              if (t->at(i) != t->at(0) || (t->at(i) != 1 && t->at(i) != 2)) out = Kind::floating;
          }
      } else if (n.op == "Div") {
        out = is_constant(1) && is_float(g.values[n.outputs[0]].type.dtype) ? Kind::exact : Kind::floating;
      } else if (op.closure == Closure::affine || op.closure == Closure::piecewise || op.closure == Closure::index) {
        for (std::size_t i = 1; i < n.inputs.size(); ++i)
          if (!is_constant(i)) out = Kind::floating;
      } else if (op.closure == Closure::move && n.op != "Concat") {
        for (std::size_t i = 1; i < n.inputs.size(); ++i)
          if (!is_constant(i)) out = Kind::floating;
        if (!only_moves(g, n)) out = Kind::floating;
      }
      for (ValueId y : n.outputs)
        if (k[y] != out) {
          // Kinds only move from constant to exact to floating: the loop ends.
          k[y] = std::max(k[y], out);
          changed |= k[y] == out;
        }
    }
  }
  return k;
}

namespace {

LiteralValue exact_value(Array<Rational> a) { return {true, std::move(a.shape), std::move(a.v), {}}; }
LiteralValue float_value(Array<double> a) { return {false, std::move(a.shape), {}, std::move(a.v)}; }
// Rounded once to f32 where the value is a real number; integers stay what they are.
Array<double> to_double(const LiteralValue& v, DType t) {
  Array<double> a(v.shape);
  for (std::size_t i = 0; i < a.v.size(); ++i) a.v[i] = !v.exact ? v.f[i] : is_float(t) ? static_cast<double>(nearest_float(v.q[i])) : nearest_double(v.q[i]);
  return a;
}
Array<Rational> to_exact(const Graph& g, const Node& n, const LiteralValue& v) {
  Array<Rational> a(v.shape);
  if (v.exact) {
    a.v = v.q;
    return a;
  }
  for (std::size_t i = 0; i < a.v.size(); ++i) {
    if (!std::isfinite(v.f[i])) throw node_error(g, n, fmt::format("element {} of its input is not finite: an integer format has no code for it", i));
    a.v[i] = exact(v.f[i]);
  }
  return a;
}
LiteralValue from_tensor(const Tensor& t, bool as_exact) {
  return as_exact ? exact_value(exact_array_of(t)) : float_value(array_of(t));
}

}  // namespace

std::vector<LiteralValue> evaluate_literal(const Graph& g, const std::vector<Tensor>& inputs, LiteralState* state,
                                           std::vector<LiteralValue>* all_values) {
  auto kind = classify(g);
  std::vector<LiteralValue> v(g.values.size());
  for (auto& [id, t] : g.initialisers) v[id] = from_tensor(t, true);
  if (inputs.size() != g.inputs.size()) throw bad_input("the graph has {} inputs, {} were given", g.inputs.size(), inputs.size());
  for (std::size_t i = 0; i < inputs.size(); ++i) v[g.inputs[i]] = from_tensor(inputs[i], kind[g.inputs[i]] == Kind::exact);
  auto slot = [&](const Node& n, std::int64_t i) { return fmt::format("{}@{}", g.values[n.outputs[0]].name, i); };
  auto stored = [&](const std::string& key) -> LiteralValue* {
    if (!state) return nullptr;
    for (auto& [k, x] : state->values)
      if (k == key) return &x;
    return nullptr;
  };
  auto initial = [&](const Node& n) {
    Shape s = n.attr_ints("shape", {});
    if (n.in(1) != kNone) return v[n.in(1)];
    LiteralValue z{kind[n.outputs[0]] != Kind::floating, s, {}, {}};
    if (z.exact) z.q.assign(element_count(s), Rational(0));
    else z.f.assign(element_count(s), 0.0);
    return z;
  };
  for (const Node& n : g.nodes)
    if (op_of(g, n).closure == Closure::state) {
      LiteralValue* x = stored(slot(n, 0));
      v[n.outputs[0]] = x ? *x : initial(n);
      if (!x && kind[n.outputs[0]] == Kind::floating && v[n.outputs[0]].exact) v[n.outputs[0]] = float_value(to_double(v[n.outputs[0]], g.values[n.outputs[0]].type.dtype));
    }
  for (const Node& n : g.nodes) {
    const OpDef& op = op_of(g, n);
    if (op.closure == Closure::state) continue;
    bool as_exact = kind[n.outputs[0]] != Kind::floating && op.eval.as_rational;
    if (as_exact) {
      std::vector<Array<Rational>> in(n.inputs.size()), out(n.outputs.size());
      EvalArgs<Rational> e{g, n, {}, out};
      for (std::size_t i = 0; i < n.inputs.size(); ++i) {
        if (n.inputs[i] != kNone) in[i] = to_exact(g, n, v[n.inputs[i]]);
        e.in.push_back(n.inputs[i] == kNone ? nullptr : &in[i]);
      }
      op.eval.as_rational(e);
      for (std::size_t i = 0; i < n.outputs.size(); ++i) v[n.outputs[i]] = exact_value(std::move(out[i]));
    } else {
      std::vector<Array<double>> in(n.inputs.size()), out(n.outputs.size());
      EvalArgs<double> e{g, n, {}, out};
      for (std::size_t i = 0; i < n.inputs.size(); ++i) {
        if (n.inputs[i] != kNone) in[i] = to_double(v[n.inputs[i]], g.values[n.inputs[i]].type.dtype);
        e.in.push_back(n.inputs[i] == kNone ? nullptr : &in[i]);
      }
      op.eval.as_double(e);
      for (std::size_t i = 0; i < n.outputs.size(); ++i) {
        for (double& x : out[i].v) x = held_as(g.values[n.outputs[i]].type.dtype, x);
        v[n.outputs[i]] = float_value(std::move(out[i]));
      }
    }
  }
  if (state) {
    LiteralState next;
    for (const Node& n : g.nodes)
      if (op_of(g, n).closure == Closure::state) {
        std::int64_t depth = n.attr_int("depth", 1);
        for (std::int64_t i = 0; i + 1 < depth; ++i) {
          LiteralValue* x = stored(slot(n, i + 1));
          next.values.emplace_back(slot(n, i), x ? *x : initial(n));
        }
        LiteralValue x = v[n.in(0)];
        if (kind[n.outputs[0]] == Kind::floating && x.exact) x = float_value(to_double(x, g.values[n.outputs[0]].type.dtype));
        next.values.emplace_back(slot(n, depth - 1), std::move(x));
      }
    *state = std::move(next);
  }
  std::vector<LiteralValue> out;
  for (ValueId y : g.outputs) out.push_back(v[y]);
  if (all_values) *all_values = std::move(v);
  return out;
}

std::vector<Tensor> to_tensors(const Graph& g, const std::vector<LiteralValue>& outputs) {
  std::vector<Tensor> t;
  for (std::size_t i = 0; i < outputs.size(); ++i) {
    const LiteralValue& o = outputs[i];
    DType d = g.values[g.outputs[i]].type.dtype;
    if (o.exact) {
      Array<Rational> a;
      a.shape = o.shape;
      a.v = o.q;
      t.push_back(tensor_of(a, d));
    } else {
      Array<double> a;
      a.shape = o.shape;
      a.v = o.f;
      t.push_back(tensor_of(a, d));
    }
  }
  return t;
}

void infer_node(Graph& g, const Node& n, const OpDef& op, const std::vector<const Array<double>*>& in) {
  InferContext c{g, n, {}, {}, {}};
  std::vector<TensorType> types;
  std::vector<Tensor> values;
  types.reserve(n.inputs.size());
  values.reserve(n.inputs.size());
  for (std::size_t k = 0; k < n.inputs.size(); ++k) {
    if (n.inputs[k] == kNone) {
      c.in.push_back(nullptr), c.in_constant.push_back(nullptr);
      continue;
    }
    const DType t = g.values[n.inputs[k]].type.dtype;
    types.push_back({t, dims_of(in[k]->shape)});
    c.in.push_back(&types.back());
    const bool small = in[k]->v.size() <= 1024;  // what a shape can depend on
    values.push_back(small ? tensor_of(*in[k], t) : Tensor());
    c.in_constant.push_back(small ? &values.back() : nullptr);
  }
  op.infer(c);
  for (std::size_t k = 0; k < n.outputs.size() && k < c.out.size(); ++k)
    if (n.outputs[k] != kNone) g.values[n.outputs[k]].type = c.out[k];
}

std::vector<Tensor> evaluate_float(const Graph& graph, const std::vector<Tensor>& inputs, std::vector<Tensor>* all_values) {
  std::vector<Array<double>> v(graph.values.size());
  for (auto& [id, t] : graph.initialisers) v[id] = array_of(t);
  if (inputs.size() != graph.inputs.size()) throw bad_input("the graph has {} inputs, {} were given", graph.inputs.size(), inputs.size());
  for (std::size_t i = 0; i < inputs.size(); ++i) v[graph.inputs[i]] = array_of(inputs[i]);
  // Shapes that depend on data become known as the data do.
  std::optional<Graph> typed;
  if (std::any_of(graph.values.begin(), graph.values.end(), [](const Value& x) { return !x.type.dims || !all_known(*x.type.dims); })) typed = graph;
  const Graph& g = typed ? *typed : graph;
  for (const Node& n : g.nodes) {
    const OpDef& op = op_of(g, n);
    if (op.closure == Closure::state) throw node_error(g, n, "the float evaluator runs one tick only; a Delay needs `step`");
    std::vector<Array<double>> out(n.outputs.size());
    EvalArgs<double> e{g, n, {}, out};
    for (ValueId i : n.inputs) e.in.push_back(i == kNone ? nullptr : &v[i]);
    if (typed && std::any_of(n.outputs.begin(), n.outputs.end(), [&](ValueId y) { const auto& d = g.values[y].type.dims; return y != kNone && (!d || !all_known(*d)); }))
      infer_node(*typed, n, op, e.in);
    op.eval.as_double(e);
    for (std::size_t i = 0; i < n.outputs.size(); ++i) {
      if (n.outputs[i] == kNone) continue;
      if (typed) typed->values[n.outputs[i]].type.dims = dims_of(out[i].shape);
      for (double& x : out[i].v) x = held_as(g.values[n.outputs[i]].type.dtype, x);
      v[n.outputs[i]] = std::move(out[i]);
    }
  }
  std::vector<Tensor> out;
  for (ValueId y : g.outputs) out.push_back(tensor_of(v[y], g.values[y].type.dtype));
  if (all_values) {
    all_values->clear();
    for (std::size_t i = 0; i < v.size(); ++i) all_values->push_back(tensor_of(v[i], g.values[i].type.dtype));
  }
  return out;
}

}  // namespace tandem::ir
