#include "tandem/ir/quantize.h"

#include <algorithm>
#include <cmath>
#include <set>

#include "tandem/ir/op.h"

namespace tandem::ir {
namespace {

std::size_t ix(ValueId v) { return static_cast<std::size_t>(v); }
bool contraction(const Node& n) { return n.domain.empty() && (n.op == "Conv" || n.op == "MatMul" || n.op == "Gemm"); }
bool quantiser(const Node& n) { return n.op == "Quant" || n.op == "BipolarQuant" || n.op == "Threshold"; }
// Operators that hand their operand's values on: a quantiser in front of them serves behind them too.
bool passes(const Node& n) {
  static const std::set<std::string> ops{"MaxPool", "AveragePool", "GlobalAveragePool", "Flatten", "Reshape", "Squeeze", "Unsqueeze",
                                         "Transpose", "Gather", "Identity", "Dropout", "Concat"};
  return n.domain.empty() && ops.count(n.op) != 0;
}

QuantRule parse_rule(const Config& c, QuantRule r) {
  c.only({"bits", "per", "narrow", "scale", "signed"});
  r.bits = static_cast<int>(c.integer("bits", 0, 32, r.bits));
  r.per_channel = c.choice("per", {"channel", "tensor"}, r.per_channel ? "channel" : "tensor") == "channel";
  r.narrow = c.optional_or<bool>("narrow", r.narrow);
  r.is_signed = c.optional_or<bool>("signed", r.is_signed);
  if (auto s = c.find("scale")) {
    const std::string word = s->as<std::string>();
    if (auto v = parse_double(word)) {
      if (!(*v > 0)) throw s->error("a scale must be positive");
      r.scale = "fixed";
      r.value = *v;
    } else {
      r.scale = c.choice("scale", {"absmax", "learned"});
    }
  }
  return r;
}

class Rewriter {
 public:
  Rewriter(const Graph& g, const QuantRecipe& spec) : g_(g), spec_(spec) {}

  Graph run() {
    const std::size_t count = g_.nodes.size();
    for (std::size_t i = 0; i < count; ++i) {
      const Node n = g_.nodes[i];
      if (!contraction(n)) continue;
      for (std::size_t k = 0; k < 2; ++k)
        if (g_.constant(n.in(k))) weight(i, k);
    }
    const UseMap uses(g_);
    std::set<ValueId> wanted;
    for (std::size_t i = 0; i < count; ++i) {
      const Node& n = g_.nodes[i];
      if (contraction(n))
        for (std::size_t k = 0; k < 2; ++k) source(n.in(k), uses, wanted);
      if (n.domain.empty() && (n.op == "Relu" || n.op == "Clip")) wanted.insert(n.outputs[0]);
    }
    if (spec_.last_activation)
      for (ValueId v : g_.outputs) source(v, uses, wanted);
    for (ValueId v : wanted) activation(v, uses);
    sort_nodes(g_);
    infer_shapes(g_);
    return std::move(g_);
  }

 private:
  // Values that carry numbers into a contraction, in front of everything that only hands them on.
  void source(ValueId v, const UseMap& uses, std::set<ValueId>& wanted) {
    if (v == kNone || g_.constant(v)) return;
    const int p = uses.producer[ix(v)];
    if (p < 0) {
      wanted.insert(v);
      return;
    }
    const Node& n = g_.nodes[static_cast<std::size_t>(p)];
    if (quantiser(n)) return;
    if (passes(n)) {
      const std::size_t data = n.op == "Concat" ? n.inputs.size() : 1;
      for (std::size_t i = 0; i < data; ++i) source(n.inputs[i], uses, wanted);
    } else {
      wanted.insert(v);
    }
  }

  const QuantOverride* override_of(const std::string& node, bool weights) const {
    const QuantOverride* found = nullptr;
    for (const auto& o : spec_.layers)
      if (name_matches(o.nodes, node) && (weights ? o.weights.has_value() : o.activations.has_value())) found = &o;
    return found;
  }

  ValueId quant(ValueId x, const QuantRule& r, const Shape& scale_shape, const std::vector<float>& scales, std::string base) {
    const ValueId s = g_.add_constant(g_.unique_name(base + "_scale"), Tensor::of<float>(scale_shape, scales));
    g_.metadata["scale:" + g_.values[ix(s)].name] = r.scale;
    if (r.bits == 1 && r.is_signed)
      return g_.add_node("BipolarQuant", {x, s}, {}, g_.unique_name(base + "_quant"), "qonnx.custom_op.general");
    const ValueId z = g_.add_constant(g_.unique_name(base + "_zero"), Tensor::scalar<float>(0));
    const ValueId b = g_.add_constant(g_.unique_name(base + "_bits"), Tensor::scalar<float>(static_cast<float>(r.bits)));
    return g_.add_node("Quant", {x, s, z, b},
                       {{"signed", std::int64_t{r.is_signed}}, {"narrow", std::int64_t{r.narrow}}, {"rounding_mode", std::string("ROUND")}},
                       g_.unique_name(base + "_quant"), "qonnx.custom_op.general");
  }

  void weight(std::size_t node, std::size_t operand) {
    const Node n = g_.nodes[node];
    QuantRule r = spec_.weights;
    if (auto* o = override_of(n.name, true)) r = *o->weights;
    if (r.bits == 0) return;
    const ValueId w = n.in(operand);
    const Tensor& t = *g_.constant(w);
    if (t.dtype() != DType::f32 && t.dtype() != DType::f64) return;
    const std::int64_t rank = t.rank();
    if (rank < 1) throw bad_input("a weight without axes cannot be quantised").at(g_.describe(n));
    // The axis of output channels.
    std::int64_t axis = n.op == "Conv" ? 0 : operand == 0 ? std::max<std::int64_t>(rank - 2, 0) : rank - 1;
    if (n.op == "Gemm") {
      const bool transposed = n.attr_int(operand == 0 ? "transA" : "transB", 0) != 0;
      axis = (operand == 0) != transposed ? 0 : 1;
    }
    const bool per_channel = r.per_channel && rank >= 2;
    Shape shape;
    if (per_channel) {
      shape.assign(static_cast<std::size_t>(rank), 1);
      shape[static_cast<std::size_t>(axis)] = t.shape()[static_cast<std::size_t>(axis)];
    }
    std::int64_t inner = 1;
    for (std::int64_t d = axis + 1; d < rank; ++d) inner *= t.shape()[static_cast<std::size_t>(d)];
    const std::int64_t channels = per_channel ? t.shape()[static_cast<std::size_t>(axis)] : 1;
    const bool bipolar = r.bits == 1 && r.is_signed;
    std::vector<double> peak(static_cast<std::size_t>(channels), 0);
    for (std::int64_t i = 0; i < t.size(); ++i) {
      double& p = peak[static_cast<std::size_t>(per_channel ? (i / inner) % channels : 0)];
      const double a = std::abs(t.at(i));
      p = bipolar ? p + a * static_cast<double>(channels) / static_cast<double>(t.size()) : std::max(p, a);
    }
    const double kmax = bipolar ? 1 : r.is_signed ? std::ldexp(1, r.bits - 1) - 1 : std::ldexp(1, r.bits) - 1 - r.narrow;
    std::vector<float> scales;
    for (double p : peak) scales.push_back(r.scale == "fixed" ? static_cast<float>(r.value) : p > 0 ? static_cast<float>(p / std::max(kmax, 1.0)) : 1.0f);
    const ValueId q = quant(w, r, shape, scales, g_.values[ix(w)].name);
    g_.nodes[node].inputs[operand] = q;
  }

  void activation(ValueId v, const UseMap& uses) {
    const int p = uses.producer[ix(v)];
    QuantRule r = spec_.activations;
    std::string base = g_.values[ix(v)].name;
    if (p < 0) {
      if (!spec_.input) return;
      r = *spec_.input;
    } else {
      const Node& n = g_.nodes[static_cast<std::size_t>(p)];
      if (!n.name.empty()) base = n.name;
      bool negative = true;
      if (n.op == "Relu") negative = false;
      if (n.op == "Clip") {
        const Tensor* lo = g_.constant(n.in(1));
        negative = lo ? lo->at(0) < 0 : n.attr_float("min", -1) < 0;
      }
      if (auto* o = override_of(n.name, false)) r = *o->activations;
      if (negative) r.is_signed = true;
    }
    if (r.bits == 0) return;
    for (int u : uses.users[ix(v)])
      if (quantiser(g_.nodes[static_cast<std::size_t>(u)])) return;  // has one already
    Shape shape;
    std::int64_t channels = 1;
    if (r.per_channel) {
      const auto& dims = g_.values[ix(v)].type.dims;
      if (!dims || dims->size() < 2 || !(*dims)[1].known())
        throw bad_input("a scale per channel needs the channels of '{}'", printable(g_.values[ix(v)].name)).fix("use 'per: tensor'");
      shape.assign(dims->size(), 1);
      channels = shape[1] = (*dims)[1].n;
    }
    const ValueId q = quant(v, r, shape, std::vector<float>(static_cast<std::size_t>(channels), static_cast<float>(r.value)), base);
    for (int u : uses.users[ix(v)])
      for (ValueId& in : g_.nodes[static_cast<std::size_t>(u)].inputs)
        if (in == v) in = q;
    for (ValueId& out : g_.outputs)
      if (out == v) out = q;
  }

  Graph g_;
  const QuantRecipe& spec_;
};

}  // namespace

QuantRecipe parse_quant_spec(const Config& c) {
  c.only({"input", "weights", "activations", "last_activation", "layers"});
  QuantRecipe s;
  if (auto w = c.find("weights")) s.weights = parse_rule(*w, s.weights);
  if (auto a = c.find("activations")) s.activations = parse_rule(*a, s.activations);
  if (auto i = c.find("input")) s.input = parse_rule(*i, QuantRule{8, false, false, "fixed", 1, false});
  s.last_activation = c.optional_or<bool>("last_activation", false);
  if (auto l = c.find("layers"))
    for (const Config& e : l->items()) {
      e.only({"nodes", "weights", "activations"});
      QuantOverride o;
      o.nodes = e.required<std::string>("nodes");
      if (auto w = e.find("weights")) o.weights = parse_rule(*w, s.weights);
      if (auto a = e.find("activations")) o.activations = parse_rule(*a, s.activations);
      s.layers.push_back(std::move(o));
    }
  return s;
}

Graph insert_quantisers(const Graph& g, const QuantRecipe& spec) {
  for (const auto& o : spec.layers)
    if (std::none_of(g.nodes.begin(), g.nodes.end(), [&](const Node& n) { return name_matches(o.nodes, n.name); }))
      throw bad_input("no node matches the pattern '{}'", printable(o.nodes)).at("quantisation.layers").fix("list the nodes with 'tandem show'");
  return Rewriter(g, spec).run();
}

std::string scale_source(const Graph& g, const std::string& initialiser) {
  const auto it = g.metadata.find("scale:" + initialiser);
  return it == g.metadata.end() ? "fixed" : it->second.substr(0, it->second.find(';'));
}

bool name_matches(std::string_view p, std::string_view s) {
  // Greedy with one point of return: linear in practice, never exponential.
  std::size_t i = 0, j = 0, star = std::string_view::npos, mark = 0;
  while (j < s.size()) {
    if (i < p.size() && (p[i] == '?' || p[i] == s[j]) && p[i] != '*') { ++i; ++j; }
    else if (i < p.size() && p[i] == '*') { star = i++; mark = j; }
    else if (star != std::string_view::npos) { i = star + 1; j = ++mark; }
    else return false;
  }
  while (i < p.size() && p[i] == '*') ++i;
  return i == p.size();
}

}  // namespace tandem::ir
