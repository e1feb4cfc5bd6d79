// If, Loop, Scan: operators whose attributes are graphs.
#include "tandem/ir/exact.h"
#include "tandem/ir/ops/kit.h"

namespace tandem::ir {
namespace {

using Args = EvalArgs<double>;
constexpr std::int64_t kMostTurns = 10'000'000;

std::size_t captured(const Node& n) { return static_cast<std::size_t>(n.attr_int("captured", 0)); }

template <class E>
const Graph& body_of(const E& e, std::string_view key, std::size_t inputs, std::size_t outputs) {
  const Graph& b = e.node.attr_graph(key);
  if (b.inputs.size() != inputs)
    throw node_error(e.graph, e.node, fmt::format("its {} has {} inputs", key, b.inputs.size())).expected(fmt::format("{}, {} of them captured", inputs, captured(e.node)));
  if (b.outputs.size() < outputs || b.outputs.empty()) throw node_error(e.graph, e.node, fmt::format("its {} has {} outputs", key, b.outputs.size())).expected(fmt::format("at least {}", std::max<std::size_t>(outputs, 1)));
  return b;
}

// ---- shapes ----
// The body with its inputs typed, constants in their place; what is known of the values between is left to inference.
Graph typed(const Graph& body, const std::vector<TensorType>& in, const std::vector<const Tensor*>& constants) {
  Graph b = body;
  for (Value& v : b.values) v.type.dims.reset();
  for (const auto& [v, t] : b.initialisers) b.values[static_cast<std::size_t>(v)].type = {t.dtype(), dims_of(t.shape())};
  for (std::size_t i = 0; i < in.size(); ++i) b.values[static_cast<std::size_t>(body.inputs[i])].type = in[i];
  for (std::size_t i = in.size(); i-- > 0;)
    if (i < constants.size() && constants[i]) {
      b.initialisers.insert_or_assign(body.inputs[i], *constants[i]);
      b.inputs.erase(b.inputs.begin() + static_cast<std::ptrdiff_t>(i));
    }
  return b;
}
std::vector<TensorType> output_types(const Graph& g) {
  std::vector<TensorType> t;
  for (ValueId v : g.outputs) t.push_back(g.values[static_cast<std::size_t>(v)].type);
  return t;
}
// Bodies within bodies: a loop's is inferred several times, which must not multiply.
thread_local int nested = 0;
struct Nested {
  Nested() { ++nested; }
  ~Nested() { --nested; }
};
std::vector<TensorType> body_types(const InferContext& c, const Graph& body, const std::vector<TensorType>& in, const std::vector<const Tensor*>& constants = {}) {
  Graph b = typed(body, in, constants);
  const Nested here;
  try {
    infer_shapes(b);
  } catch (Error& e) {
    if (std::all_of(in.begin(), in.end(), [](const TensorType& t) { return t.dims.has_value(); })) {
      e.at(c.graph.describe(c.node) + (e.where().empty() ? "" : ": " + e.where()));
      throw;
    }
    return output_types(typed(body, in, {}));  // ranks are missing: the element types are those that the body declares
  }
  return output_types(b);
}
// What holds of both.
TensorType merged(const InferContext& c, const TensorType& a, const TensorType& b, std::string_view what) {
  if (a.dtype != b.dtype) c.fail(fmt::format("{} is {} and {}", what, to_string(a.dtype), to_string(b.dtype)), "one element type");
  if (!a.dims || !b.dims || a.dims->size() != b.dims->size()) return {a.dtype, std::nullopt};
  TensorType t = a;
  for (std::size_t i = 0; i < t.dims->size(); ++i)
    if (!((*t.dims)[i] == (*b.dims)[i])) (*t.dims)[i] = Dim();
  return t;
}
std::vector<TensorType> types(const InferContext& c, std::size_t from) {
  std::vector<TensorType> t;
  for (std::size_t i = from; i < c.in.size(); ++i) {
    if (!c.in[i]) c.fail(fmt::format("input {} is missing", i));
    t.push_back(*c.in[i]);
  }
  return t;
}

void infer_if(InferContext& c) {
  const std::size_t outputs = c.node.outputs.size();
  if (captured(c.node) + 1 != c.in.size()) c.fail(fmt::format("{} inputs with {} captured values", c.in.size(), captured(c.node)));
  const std::vector<TensorType> in = types(c, 1);
  const std::vector<const Tensor*> constants(c.in_constant.begin() + 1, c.in_constant.end());
  std::optional<std::vector<TensorType>> y;
  for (const char* branch : {"then_branch", "else_branch"}) {
    const Graph& b = body_of(c, branch, in.size(), outputs);
    if (c.in_constant[0] && c.in_constant[0]->size() == 1 && (c.in_constant[0]->at(0) != 0) != (std::string_view(branch) == "then_branch")) continue;
    const std::vector<TensorType> t = body_types(c, b, in, constants);
    if (!y) y = t;
    else
      for (std::size_t i = 0; i < std::min(y->size(), t.size()); ++i) (*y)[i] = merged(c, (*y)[i], t[i], fmt::format("output {}", i));
  }
  c.out = *y;
  c.out.resize(std::max(outputs, std::size_t{1}));
}

TensorType scalar_like(const Graph& body, std::size_t input, DType t) {
  const auto& d = body.values[static_cast<std::size_t>(body.inputs[input])].type.dims;
  return {t, d && d->size() == 1 ? Dims{Dim(1)} : Dims{}};
}
// A condition that the body only hands on.
bool hands_on(const Graph& b) {
  ValueId v = b.outputs[0];
  const UseMap uses(b);
  for (int k = 0; k < 8 && v != b.inputs[1]; ++k) {
    if (const Tensor* t = b.constant(v)) return t->size() == 1 && t->at(0) != 0;
    const int p = uses.producer[static_cast<std::size_t>(v)];
    if (p < 0 || b.nodes[static_cast<std::size_t>(p)].op != "Identity") return false;
    v = b.nodes[static_cast<std::size_t>(p)].in(0);
  }
  return v == b.inputs[1];
}

struct LoopPorts {
  std::size_t states, scans, caps;
  template <class E>
  LoopPorts(const E& e, const Graph& body, std::size_t inputs) : caps(captured(e.node)) {
    if (inputs < 2 + caps || body.outputs.size() + 1 + caps < inputs)
      throw node_error(e.graph, e.node, fmt::format("{} inputs ({} captured) and a body of {} outputs", inputs, caps, body.outputs.size())).expected("the trip count, the condition, the states; the body returns the condition and the states");
    states = inputs - 2 - caps;
    scans = body.outputs.size() - 1 - states;
    if (e.node.outputs.size() > states + scans) throw node_error(e.graph, e.node, fmt::format("{} outputs, its body makes {}", e.node.outputs.size(), states + scans));
  }
};
void infer_loop(InferContext& c) {
  const std::size_t n = std::max(c.in.size(), std::size_t{2});
  const Graph& body = body_of(c, "body", n, 1);
  const LoopPorts p(c, body, n);
  const std::vector<TensorType> given = types(c, 2);
  std::vector<TensorType> state(given.begin(), given.begin() + static_cast<std::ptrdiff_t>(p.states)), out;
  std::vector<const Tensor*> constants(n, nullptr);
  for (std::size_t i = 2 + p.states; i < n; ++i) constants[i] = c.in_constant[i];
  if (nested > 3)
    for (TensorType& t : state) t.dims.reset();
  for (int round = 0; round < 4; ++round) {
    std::vector<TensorType> in{scalar_like(body, 0, DType::i64), scalar_like(body, 1, DType::boolean)};
    in.insert(in.end(), state.begin(), state.end());
    in.insert(in.end(), given.begin() + static_cast<std::ptrdiff_t>(p.states), given.end());
    out = body_types(c, body, in, constants);
    bool same = true;
    for (std::size_t i = 0; i < p.states; ++i) {
      const TensorType t = round == 3 ? TensorType{state[i].dtype, std::nullopt} : merged(c, state[i], out[1 + i], fmt::format("state {}", i));
      same &= t.dims == state[i].dims;
      state[i] = t;
    }
    if (same) break;
  }
  Dim turns;
  const auto number = [&](std::size_t i) { return i < c.in.size() && c.in_constant[i] && c.in_constant[i]->size() == 1 ? std::optional(c.in_constant[i]->int_at(0)) : std::nullopt; };
  if (const auto m = number(0); m && hands_on(body) && (!has(c, 1) || number(1).value_or(0) != 0)) turns = Dim(std::max<std::int64_t>(*m, 0));
  c.out = state;
  for (std::size_t i = 0; i < p.scans; ++i) {
    TensorType t = out[1 + p.states + i];
    if (t.dims) t.dims->insert(t.dims->begin(), turns);
    c.out.push_back(t);
  }
}

struct ScanPorts {
  std::size_t states, scans, caps, outs;
  Ints in_axes, out_axes, in_back, out_back;
  template <class E>
  ScanPorts(const E& e, const Graph& body, std::size_t inputs) : caps(captured(e.node)) {
    const std::int64_t m = e.node.attr_int("num_scan_inputs", 0);
    if (m < 1 || inputs < caps + static_cast<std::size_t>(m) || body.outputs.size() + caps + static_cast<std::size_t>(m) < inputs)
      throw node_error(e.graph, e.node, fmt::format("{} inputs, {} of them scanned, {} captured, and a body of {} outputs", inputs, m, caps, body.outputs.size())).expected("states, then scanned inputs; the body returns the states first");
    scans = static_cast<std::size_t>(m);
    states = inputs - caps - scans;
    outs = body.outputs.size() - states;
    if (e.node.outputs.size() > states + outs) throw node_error(e.graph, e.node, fmt::format("{} outputs, its body makes {}", e.node.outputs.size(), states + outs));
    const auto list = [&](const char* key, std::size_t n) {
      Ints v = e.node.attr_ints(key, Ints(n, 0));
      if (v.size() != n) throw node_error(e.graph, e.node, fmt::format("{} {}", v.size(), key)).expected(fmt::format("{}", n));
      return v;
    };
    in_axes = list("scan_input_axes", scans), in_back = list("scan_input_directions", scans);
    out_axes = list("scan_output_axes", outs), out_back = list("scan_output_directions", outs);
  }
};
void infer_scan(InferContext& c) {
  const Graph& body = body_of(c, "body", c.in.size(), c.node.outputs.size());
  const ScanPorts p(c, body, c.in.size());
  std::vector<TensorType> in = types(c, 0);
  std::vector<const Tensor*> constants(c.in.size(), nullptr);
  for (std::size_t i = p.states + p.scans; i < c.in.size(); ++i) constants[i] = c.in_constant[i];
  Dim turns;
  for (std::size_t i = 0; i < p.scans; ++i) {
    TensorType& t = in[p.states + i];
    if (!t.dims) continue;
    const std::int64_t a = axis_of(c, p.in_axes[i], t.dims->size());
    const Dim d = (*t.dims)[static_cast<std::size_t>(a)];
    if (d.known() && turns.known() && !(d == turns)) c.fail(fmt::format("scanned inputs of {} and {} elements", turns.n, d.n), "as many of each");
    if (!turns.known()) turns = d;
    t.dims->erase(t.dims->begin() + a);
  }
  const std::vector<TensorType> y = body_types(c, body, in, constants);
  for (std::size_t i = 0; i < p.states; ++i) c.out.push_back(merged(c, in[i], y[i], fmt::format("state {}", i)));
  for (std::size_t i = 0; i < p.outs; ++i) {
    TensorType t = y[p.states + i];
    if (t.dims) t.dims->insert(t.dims->begin() + axis_of(c, p.out_axes[i], t.dims->size() + 1), turns);
    c.out.push_back(t);
  }
}

// ---- values ----
// A body that runs many times: typed once per shapes of its inputs.
class Body {
 public:
  explicit Body(const Graph& g) : body_(g) {}
  std::vector<Tensor> operator()(const std::vector<Tensor>& in) {
    std::vector<TensorType> now;
    for (const Tensor& t : in) now.push_back({t.dtype(), dims_of(t.shape())});
    const auto same = [](const TensorType& a, const TensorType& b) { return a.dtype == b.dtype && a.dims == b.dims; };
    if (!ready_ || !std::equal(now.begin(), now.end(), types_.begin(), types_.end(), same)) {
      types_ = now;
      ready_ = typed(body_, now, {});
      try {
        infer_shapes(*ready_);
      } catch (const Error&) {  // shapes that depend on values: found out on the way
        ready_ = typed(body_, now, {});
      }
    }
    return evaluate_float(*ready_, in);
  }

 private:
  const Graph& body_;
  std::optional<Graph> ready_;
  std::vector<TensorType> types_;
};
std::vector<Tensor> tensors(const Args& e, std::size_t from) {
  std::vector<Tensor> t;
  for (std::size_t i = from; i < e.in.size(); ++i) {
    if (!e.in[i]) throw node_error(e.graph, e.node, fmt::format("input {} is missing", i));
    t.push_back(tensor_of(*e.in[i], in_type(e, i)));
  }
  return t;
}
void give(Args& e, std::size_t i, const Tensor& t) {
  if (i < e.out.size()) e.out[i] = array_of(t);
}
// Tensors of one shape along a new axis.
Tensor stacked(const Args& e, const std::vector<Tensor>& parts, std::int64_t axis, const TensorType& none) {
  Shape s;
  if (parts.empty()) {  // no turn was taken: unknown extents are 0
    if (none.dims)
      for (const Dim& d : *none.dims) s.push_back(d.known() ? d.n : 0);
  } else {
    s = parts[0].shape();
  }
  const auto a = static_cast<std::size_t>(axis_of(e, axis, s.size() + 1));
  const Shape one = s;
  s.insert(s.begin() + static_cast<std::ptrdiff_t>(a), static_cast<std::int64_t>(parts.size()));
  Tensor y(parts.empty() ? none.dtype : parts[0].dtype(), s);
  const Around w(s, static_cast<std::int64_t>(a));
  const std::size_t size = size_of(y.dtype());
  auto* to = static_cast<char*>(y.raw_mutable());
  for (std::size_t k = 0; k < parts.size(); ++k) {
    if (parts[k].shape() != one || parts[k].dtype() != y.dtype())
      throw node_error(e.graph, e.node, fmt::format("turn {} gives {}, the first {}", k, to_string(parts[k].shape()), to_string(one))).expected("one shape in every turn");
    for (std::int64_t o = 0; o < w.outer; ++o)
      std::copy_n(static_cast<const char*>(parts[k].raw()) + static_cast<std::size_t>(o * w.inner) * size, static_cast<std::size_t>(w.inner) * size, to + static_cast<std::size_t>(w.at(o, static_cast<std::int64_t>(k), 0)) * size);
  }
  return y;
}

void if_eval(Args& e) {
  if (e.in[0]->v.size() != 1) throw node_error(e.graph, e.node, fmt::format("a condition of {} elements", e.in[0]->v.size())).expected("one");
  const std::vector<Tensor> in = tensors(e, 1);
  const std::vector<Tensor> y = Body(body_of(e, e.in[0]->v[0] != 0 ? "then_branch" : "else_branch", in.size(), e.out.size()))(in);
  for (std::size_t i = 0; i < y.size(); ++i) give(e, i, y[i]);
}

template <class T>
Tensor scalar_as(const Graph& body, std::size_t input, T v) {
  return Tensor::scalar(v).reshaped(scalar_like(body, input, dtype_of<T>()).dims->empty() ? Shape{} : Shape{1});
}
void loop_eval(Args& e) {
  const std::size_t n = std::max(e.in.size(), std::size_t{2});
  const Graph& body = body_of(e, "body", n, 1);
  const LoopPorts p(e, body, n);
  std::vector<Tensor> in = tensors(e, 2);
  Body run(body);
  const std::int64_t most = has(e, 0) && !e.in[0]->v.empty() ? to_int(e.in[0]->v[0]) : std::numeric_limits<std::int64_t>::max();
  bool go = !has(e, 1) || e.in[1]->v.empty() || e.in[1]->v[0] != 0;
  std::vector<std::vector<Tensor>> kept(p.scans);
  for (std::int64_t k = 0; k < most && go; ++k) {
    if (k == kMostTurns) throw node_error(e.graph, e.node, fmt::format("more than {} turns", kMostTurns));
    std::vector<Tensor> now{scalar_as(body, 0, k), scalar_as(body, 1, go)};
    now.insert(now.end(), in.begin(), in.end());
    std::vector<Tensor> y = run(now);
    if (y[0].size() != 1) throw node_error(e.graph, e.node, fmt::format("its body gives a condition of {} elements", y[0].size())).expected("one");
    go = y[0].at(0) != 0;
    for (std::size_t i = 0; i < p.states; ++i) in[i] = y[1 + i];
    for (std::size_t i = 0; i < p.scans; ++i) kept[i].push_back(y[1 + p.states + i]);
  }
  for (std::size_t i = 0; i < p.states; ++i) give(e, i, in[i]);
  for (std::size_t i = 0; i < p.scans; ++i) {
    if (p.states + i >= e.node.outputs.size()) break;
    TensorType none = e.graph.values[static_cast<std::size_t>(e.node.outputs[p.states + i])].type;
    if (none.dims && !none.dims->empty()) none.dims->erase(none.dims->begin());
    give(e, p.states + i, stacked(e, kept[i], 0, none));
  }
}

void scan_eval(Args& e) {
  const Graph& body = body_of(e, "body", e.in.size(), e.out.size());
  const ScanPorts p(e, body, e.in.size());
  const std::vector<Tensor> all = tensors(e, 0);
  std::vector<Tensor> state(all.begin(), all.begin() + static_cast<std::ptrdiff_t>(p.states));
  std::int64_t turns = -1;
  std::vector<std::int64_t> axis(p.scans);
  for (std::size_t i = 0; i < p.scans; ++i) {
    const Shape& s = all[p.states + i].shape();
    axis[i] = axis_of(e, p.in_axes[i], s.size());
    const std::int64_t d = s[static_cast<std::size_t>(axis[i])];
    if (turns >= 0 && d != turns) throw node_error(e.graph, e.node, fmt::format("scanned inputs of {} and {} elements", turns, d)).expected("as many of each");
    turns = d;
  }
  Body run(body);
  std::vector<std::vector<Tensor>> kept(p.outs);
  for (std::int64_t k = 0; k < turns; ++k) {
    std::vector<Tensor> now = state;
    for (std::size_t i = 0; i < p.scans; ++i) {
      const Array<double>& x = *e.in[p.states + i];
      const Around w(x.shape, axis[i]);
      Shape s = x.shape;
      s.erase(s.begin() + axis[i]);
      Array<double> slice(s);
      for (std::int64_t o = 0; o < w.outer; ++o)
        for (std::int64_t j = 0; j < w.inner; ++j) slice.v[static_cast<std::size_t>(o * w.inner + j)] = x.v[static_cast<std::size_t>(w.at(o, p.in_back[i] ? turns - 1 - k : k, j))];
      now.push_back(tensor_of(slice, in_type(e, p.states + i)));
    }
    now.insert(now.end(), all.end() - static_cast<std::ptrdiff_t>(p.caps), all.end());
    std::vector<Tensor> y = run(now);
    for (std::size_t i = 0; i < p.states; ++i) state[i] = y[i];
    for (std::size_t i = 0; i < p.outs; ++i) kept[i].push_back(y[p.states + i]);
  }
  for (std::size_t i = 0; i < p.states; ++i) give(e, i, state[i]);
  for (std::size_t i = 0; i < p.outs; ++i) {
    if (p.states + i >= e.node.outputs.size()) break;
    if (p.out_back[i]) std::reverse(kept[i].begin(), kept[i].end());
    TensorType none = e.graph.values[static_cast<std::size_t>(e.node.outputs[p.states + i])].type;
    if (none.dims && !none.dims->empty()) none.dims->erase(none.dims->begin() + axis_of(e, p.out_axes[i], none.dims->size()));
    give(e, p.states + i, stacked(e, kept[i], p.out_axes[i], none));
  }
}

// ---- samples ----
GraphPtr shared(Graph g) { return std::make_shared<const Graph>(std::move(g)); }
// The outer value under its own name, as an importer reads it.
ValueId capture(Graph& body, const Graph& outer, ValueId v) {
  const ValueId in = body.add_value(outer.values[static_cast<std::size_t>(v)].name);
  body.inputs.push_back(in);
  return in;
}
void sample_if(const OpDef& op, Sample& s) {
  const Shape x = s.shape();
  s.inputs.push_back(Tensor::scalar(s.r.chance(0.5)));
  const ValueId cond = s.g.add_input("cond", DType::boolean, {}), a = s.input(x), b = s.input(x);
  std::map<std::string, Attribute> attrs{{"captured", std::int64_t{2}}};
  for (const char* branch : {"then_branch", "else_branch"}) {
    Graph g;
    g.name = branch;
    const ValueId p = capture(g, s.g, a), q = capture(g, s.g, b);
    const bool first = std::string_view(branch) == "then_branch";
    g.outputs = {g.add_node(first ? "Add" : "Mul", {p, q}, {}, std::string(branch) + "_node")};
    if (s.r.chance(0.5)) g.outputs[0] = g.add_node("Relu", {g.outputs[0]}, {}, std::string(branch) + "_relu");
    attrs[branch] = shared(std::move(g));
  }
  s.node(op, {cond, a, b}, attrs);
}
void sample_loop(const OpDef& op, Sample& s) {
  const Shape x = s.shape(0, 3);
  const ValueId state = s.input(x), by = s.input(x);
  const ValueId turns = s.scalar(static_cast<double>(s.r.range(0, 4)), DType::i64);
  Graph g;
  g.name = "body";
  const ValueId i = g.add_input("turn", DType::i64, {}), go = g.add_input("go", DType::boolean, {}), v = g.add_input("state", DType::f32, dims_of(x));
  const ValueId c = capture(g, s.g, by);
  const ValueId next = g.add_node("Add", {v, c}, {}, "next");
  const ValueId k = g.add_node("Cast", {i}, {{"to", std::int64_t{1}}}, "count");
  g.outputs = {g.add_node("Identity", {go}, {}, "hand_on"), next, g.add_node("Mul", {next, k}, {}, "seen")};
  s.node(op, {turns, kNone, state, by}, {{"body", shared(std::move(g))}, {"captured", std::int64_t{1}}}, 2);
}
void sample_scan(const OpDef& op, Sample& s) {
  const std::int64_t rows = s.r.range(1, 3), turns = s.r.range(1, 4), axis = s.r.range(0, 1);
  const ValueId state = s.input({rows}), x = s.input(axis == 0 ? Shape{turns, rows} : Shape{rows, turns});
  Graph g;
  g.name = "body";
  const ValueId v = g.add_input("state", DType::f32, {Dim(rows)}), e = g.add_input("element", DType::f32, {Dim(rows)});
  const ValueId sum = g.add_node("Add", {v, e}, {}, "sum");
  g.outputs = {sum, g.add_node("Neg", {sum}, {}, "seen")};
  s.node(op, {state, x}, {{"body", shared(std::move(g))}, {"num_scan_inputs", std::int64_t{1}}, {"scan_input_axes", Ints{axis}}, {"scan_input_directions", Ints{s.r.range(0, 1)}},
                          {"scan_output_axes", Ints{s.r.range(-1, 1)}}, {"scan_output_directions", Ints{s.r.range(0, 1)}}}, 2);
}

constexpr std::string_view kCaptured = "how many of the last inputs the sub-graph reads from outside (an ONNX file says it by names)";

const OpDef kOps[] = {
    {.domain = "", .name = "If", .summary = "One of two graphs.", .doc = "Y = then_branch(captured) where cond is true, else else_branch(captured). Only the chosen branch is computed.", .source = "ONNX If",
     .inputs = {{"cond", "one boolean"}, {"captured", "values of the outer graph that the branches read", true, true}}, .outputs = {{"Y", "the outputs of the branch", false, true}},
     .attributes = {{"then_branch", AttrType::graph, "required", "its inputs are the captured values"}, {"else_branch", AttrType::graph, "required", "its inputs are the captured values"}, {"captured", AttrType::integer, "0", kCaptured}},
     .closure = Closure::open, .infer = infer_if, .eval = {&if_eval, nullptr}, .sample = sample_if},
    {.domain = "", .name = "Loop", .summary = "A graph repeated.",
     .doc = "(go, state, seen[k]) = body(k, go, state, captured) for k = 0, 1, ... while k < M and go; the states of the last turn, then the seen values of all turns along a new first axis.", .source = "ONNX Loop",
     .inputs = {{"M", "i64, most turns; absent: no bound", true}, {"cond", "boolean; absent: true", true}, {"states", "the initial states, then the captured values", true, true}},
     .outputs = {{"Y", "the final states, then what was seen", false, true}},
     .attributes = {{"body", AttrType::graph, "required", "inputs: turn, condition, states, captured; outputs: condition, states, seen values"}, {"captured", AttrType::integer, "0", kCaptured}},
     .closure = Closure::open, .infer = infer_loop, .eval = {&loop_eval, nullptr}, .sample = sample_loop},
    {.domain = "", .name = "Scan", .summary = "A graph over the slices of tensors, with states.",
     .doc = "(state, seen[k]) = body(state, slices k of the scanned inputs, captured) for all k; the states of the last turn, then the seen values along a new axis. As Einsum with a rank of time k: S[k] = body(S[k-1], X[k]).",
     .source = "ONNX Scan",
     .inputs = {{"inputs", "initial states, scanned inputs, captured values", false, true}}, .outputs = {{"Y", "the final states, then what was seen", false, true}},
     .attributes = {{"body", AttrType::graph, "required", "inputs: states, slices, captured; outputs: states, seen values"}, {"num_scan_inputs", AttrType::integer, "required", "how many inputs are scanned"},
                    {"scan_input_axes", AttrType::integers, "", "axis that is scanned, per scanned input; 0"}, {"scan_input_directions", AttrType::integers, "", "1: from the end, per scanned input; 0"},
                    {"scan_output_axes", AttrType::integers, "", "place of the new axis, per seen value; 0"}, {"scan_output_directions", AttrType::integers, "", "1: the last turn first, per seen value; 0"},
                    {"captured", AttrType::integer, "0", kCaptured}},
     .closure = Closure::open, .infer = infer_scan, .eval = {&scan_eval, nullptr}, .sample = sample_scan},
};

}  // namespace

std::span<const OpDef> control_ops() { return kOps; }

}  // namespace tandem::ir
