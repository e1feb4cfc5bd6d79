// Shape inference and constant folding.
#include "tandem/ir/arrays.h"
#include "tandem/ir/ops/common.h"

namespace tandem::ir {

void InferContext::fail(std::string what, std::string expected) const {
  Error e = node_error(graph, node, std::move(what));
  if (!expected.empty()) e.expected(std::move(expected));
  throw e;
}
const Dims& InferContext::dims(std::size_t i) const {
  if (i >= in.size() || !in[i]) fail(fmt::format("input {} is missing", i));
  if (!in[i]->dims) fail(fmt::format("the rank of input {} is unknown", i));
  return *in[i]->dims;
}

namespace {

// Shape rules compute with products and sums of extents and attributes: bounded here once, they fit 64 bits.
constexpr std::int64_t kExtent = std::int64_t{1} << 31, kElements = std::int64_t{1} << 40;
void bounded(const TensorType& t, const std::string& where) {
  if (!t.dims) return;
  std::int64_t n = 1;
  for (const Dim& d : *t.dims) {
    if (d.known() && d.n > kExtent) throw bad_input("an extent of {}", d.n).at(where).expected(fmt::format("at most {}", kExtent));
    if (d.known() && __builtin_mul_overflow(n, std::max<std::int64_t>(d.n, 1), &n)) n = kElements + 1;
    if (n > kElements) throw bad_input("the shape {} has too many elements", to_string(*t.dims)).at(where).expected(fmt::format("at most {}", kElements));
  }
}
void bounded(const InferContext& c) {
  for (const auto& [key, a] : c.node.attrs) {
    const auto check = [&, &key = key](std::int64_t v) {
      if (v > kExtent || v < -kExtent) c.fail(fmt::format("attribute '{}' is {}", key, v), fmt::format("at most {} in magnitude", kExtent));
    };
    if (const auto* i = std::get_if<std::int64_t>(&a); i && key != "seed" && key != "end" && key != "default_int64" && key != "replaced_value_int64") check(*i);
    if (const auto* l = std::get_if<std::vector<std::int64_t>>(&a))
      if (c.node.domain != "ai.onnx.ml" && key != "pool_int64s")  // labels and words are no extents
        for (std::int64_t v : *l) check(v);
  }
}

bool is_quantiser(const OpDef& o) { return o.closure == Closure::quantiser; }
// A constant behind these stays code and scale.
bool keeps_codes(const OpDef& o) { return is_quantiser(o) || o.name == "DequantizeLinear"; }

// Small integer tensors through which shapes travel.
constexpr std::int64_t kShapeElements = 1024;
bool is_integer_type(DType t) { return t == DType::i64 || t == DType::i32; }

}  // namespace

Array<double> array_of(const Tensor& t) {
  Array<double> a(t.shape());
  for (std::int64_t i = 0; i < t.size(); ++i) a.v[i] = t.at(i);
  return a;
}
Array<Rational> exact_array_of(const Tensor& t) {
  Array<Rational> a(t.shape());
  bool integers = t.dtype() != DType::f32 && t.dtype() != DType::f64 && t.dtype() != DType::f16 && t.dtype() != DType::bf16;
  for (std::int64_t i = 0; i < t.size(); ++i) {
    if (integers) a.v[i] = Rational(Integer(static_cast<long>(t.int_at(i))));
    else a.v[i] = exact(t.at(i));
  }
  return a;
}
Tensor tensor_of(const Array<double>& a, DType t) {
  Tensor y(t, a.shape);
  if (t == DType::f32) {
    float* p = y.data<float>();
    for (std::size_t i = 0; i < a.v.size(); ++i) p[i] = static_cast<float>(a.v[i]);
  } else {
    for (std::int64_t i = 0; i < y.size(); ++i) y.set(i, a.v[i]);
  }
  return y;
}
Tensor tensor_of(const Array<Rational>& a, DType t) {
  Tensor y(t, a.shape);
  for (std::int64_t i = 0; i < y.size(); ++i) {
    if (t == DType::f32) y.data<float>()[i] = nearest_float(a.v[i]);
    else if (t == DType::i64) y.data<std::int64_t>()[i] = Integer(a.v[i].get_num() / a.v[i].get_den()).get_si();
    else y.set(i, nearest_double(a.v[i]));
  }
  return y;
}

void infer_shapes(Graph& g) {
  std::map<ValueId, Tensor> known;  // values of shape arithmetic
  for (auto& [v, t] : g.initialisers) g.values[v].type = TensorType{t.dtype(), dims_of(t.shape())};
  for (ValueId v : g.inputs) bounded(g.values[v].type, fmt::format("input '{}'", g.values[v].name));
  auto constant = [&](ValueId v) -> const Tensor* {
    if (v == kNone) return nullptr;
    if (const Tensor* t = g.constant(v)) return t;
    auto it = known.find(v);
    return it == known.end() ? nullptr : &it->second;
  };
  for (std::size_t pass = 0; pass < 2; ++pass) {  // twice: a Delay's input may come later
    for (const Node& n : g.nodes) {
      const OpDef& op = op_of(g, n);
      InferContext c{g, n, {}, {}, {}};
      for (ValueId v : n.inputs) {
        bool later = pass == 0 && op.closure == Closure::state && v != kNone && !g.values[v].type.dims;
        c.in.push_back(v == kNone || later ? nullptr : &g.values[v].type);
        c.in_constant.push_back(constant(v));
      }
      for (std::size_t i = 0; i < op.inputs.size(); ++i)
        if (!op.inputs[i].optional && (i >= c.in.size() || (!c.in[i] && op.closure != Closure::state)))
          c.fail(fmt::format("input '{}' is missing", op.inputs[i].name));
      bounded(c);
      if (n.outputs.empty() || n.outputs[0] == kNone) c.fail("its first output has no name");
      op.infer(c);
      for (const TensorType& t : c.out) bounded(t, g.describe(n));
      if (n.outputs.size() > c.out.size())
        c.fail(fmt::format("{} outputs are named, {} has {}", n.outputs.size(), op.name, c.out.size()));
      for (std::size_t i = 0; i < n.outputs.size(); ++i)
        if (n.outputs[i] != kNone) g.values[n.outputs[i]].type = c.out[i];
      // Values of shape arithmetic: every input constant (or, for Shape, every extent known).
      ValueId y = n.outputs[0];
      const TensorType& t = g.values[y].type;
      if (op.closure == Closure::open || op.closure == Closure::state || is_quantiser(op) || !op.eval.as_double) continue;
      if (!is_integer_type(t.dtype) || !t.dims || !all_known(*t.dims)) continue;
      std::int64_t count = 1;
      for (const Dim& d : *t.dims) count *= d.n;
      if (count > kShapeElements) continue;
      bool all = true;
      std::vector<Array<double>> store(n.inputs.size());
      for (std::size_t i = 0; i < n.inputs.size() && all; ++i) {
        if (n.inputs[i] == kNone) continue;
        if (op.closure == Closure::constant && i == 0) {
          all = c.in[0]->dims && all_known(*c.in[0]->dims);
          if (all)
            for (const Dim& d : *c.in[0]->dims) store[0].shape.push_back(d.n);
        } else if (const Tensor* k = constant(n.inputs[i])) {
          store[i] = array_of(*k);
        } else {
          all = false;
        }
      }
      if (!all) continue;
      std::vector<Array<double>> out(n.outputs.size());
      EvalArgs<double> e{g, n, {}, out};
      for (std::size_t i = 0; i < n.inputs.size(); ++i) e.in.push_back(n.inputs[i] == kNone ? nullptr : &store[i]);
      op.eval.as_double(e);
      known[y] = tensor_of(out[0], t.dtype);
    }
    bool has_delay = std::any_of(g.nodes.begin(), g.nodes.end(), [&](const Node& n) { return op_of(g, n).closure == Closure::state; });
    if (!has_delay) break;
  }
  // Shape arithmetic that came out constant is stored, so that no engine needs to run it.
  for (auto& [v, t] : known) {
    auto producer = std::find_if(g.nodes.begin(), g.nodes.end(), [v = v](const Node& n) { return !n.outputs.empty() && n.outputs[0] == v; });
    if (producer != g.nodes.end() && producer->outputs.size() == 1 &&
        std::find(g.outputs.begin(), g.outputs.end(), v) == g.outputs.end()) {
      g.initialisers[v] = t;
      g.nodes.erase(producer);
    }
  }
}

void fold_constants(Graph& g) {
  std::vector<Node> kept;
  for (Node& n : g.nodes) {
    const OpDef& op = op_of(g, n);
    bool foldable = !keeps_codes(op) && op.closure != Closure::state && op.closure != Closure::constant && !n.inputs.empty() &&
                    std::all_of(n.inputs.begin(), n.inputs.end(), [&](ValueId v) { return v == kNone || g.constant(v); }) &&
                    std::none_of(n.outputs.begin(), n.outputs.end(), [&](ValueId v) {
                      return std::find(g.outputs.begin(), g.outputs.end(), v) != g.outputs.end();
                    });
    if (!foldable) {
      kept.push_back(std::move(n));
      continue;
    }
    DType t = g.values[n.outputs[0]].type.dtype;
    bool integers = t != DType::f32 && t != DType::f64;
    // Rounded once per node: the exact result where it is rational, else the float evaluator's.
    bool exact_power = n.op != "Pow" || [&] {
      for (double v : array_of(*g.constant(n.inputs[1])).v)
        if (v != std::floor(v) || std::abs(v) > 64) return false;
      return true;
    }();
    if (op.eval.as_rational && !integers && exact_power) {
      std::vector<Array<Rational>> in(n.inputs.size()), out(n.outputs.size());
      EvalArgs<Rational> e{g, n, {}, out};
      for (std::size_t i = 0; i < n.inputs.size(); ++i) {
        if (n.inputs[i] != kNone) in[i] = exact_array_of(*g.constant(n.inputs[i]));
        e.in.push_back(n.inputs[i] == kNone ? nullptr : &in[i]);
      }
      op.eval.as_rational(e);
      for (std::size_t i = 0; i < n.outputs.size(); ++i) g.initialisers[n.outputs[i]] = tensor_of(out[i], t);
    } else {
      std::vector<Array<double>> in(n.inputs.size()), out(n.outputs.size());
      EvalArgs<double> e{g, n, {}, out};
      for (std::size_t i = 0; i < n.inputs.size(); ++i) {
        if (n.inputs[i] != kNone) in[i] = array_of(*g.constant(n.inputs[i]));
        e.in.push_back(n.inputs[i] == kNone ? nullptr : &in[i]);
      }
      op.eval.as_double(e);
      for (std::size_t i = 0; i < n.outputs.size(); ++i) g.initialisers[n.outputs[i]] = tensor_of(out[i], t);
    }
  }
  g.nodes = std::move(kept);
}

}  // namespace tandem::ir
