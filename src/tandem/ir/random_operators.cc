// Random graphs of all registered operators: samples of their literals, joined by adapters.
#include <cmath>

#include "tandem/ir/exact.h"
#include "tandem/ir/ops/kit.h"
#include "tandem/ir/random_graph.h"

namespace tandem::ir {
namespace {

class Joiner {
 public:
  Joiner(const RandomGraphOptions& o, std::uint64_t seed) : o_(o), r_(seed, "random_operators") {
    for (const OpDef* op : all_ops())
      if (op->sample) ops_.push_back(op);
  }

  RandomGraph run() {
    g_.name = "random";
    for (std::int64_t i = 0, n = r_.range(2, std::max(2, o_.max_layers)); i < n; ++i) {
      graft(*r_.pick(ops_));
      refresh();
    }
    const UseMap uses(g_);
    for (ValueId v : made_)
      if (uses.users[static_cast<std::size_t>(v)].empty()) g_.outputs.push_back(v);
    infer_shapes(g_);
    return {std::move(g_), std::move(inputs_)};
  }

 private:
  // One sample of an operator: its float inputs come from values made before, where there are any that serve.
  void graft(const OpDef& op) {
    Graph s;
    std::vector<Tensor> tensors;
    Sample sample{r_, s, tensors};
    op.sample(op, sample);
    std::vector<ValueId> to(s.values.size(), kNone);
    for (std::size_t i = 0; i < s.inputs.size(); ++i) {
      const Value& v = s.values[static_cast<std::size_t>(s.inputs[i])];
      ValueId& at = to[static_cast<std::size_t>(s.inputs[i])];
      if (v.type.dtype == DType::f32 && !ready_.empty() && tensors[i].size() > 0 && r_.chance(0.8)) {
        at = adapted(r_.pick(ready_), tensors[i]);
      } else {
        at = g_.add_input(g_.unique_name("x"), v.type.dtype, dims_of(tensors[i].shape()));
        inputs_.push_back(tensors[i]);
      }
    }
    for (const auto& [v, t] : s.initialisers) to[static_cast<std::size_t>(v)] = g_.add_constant(g_.unique_name("c"), t);
    for (Node n : s.nodes) {
      for (ValueId& v : n.inputs)
        if (v != kNone) v = to[static_cast<std::size_t>(v)];
      for (ValueId& v : n.outputs) {
        if (v == kNone) continue;
        v = to[static_cast<std::size_t>(v)] = g_.add_value(g_.unique_name("y"));
        made_.push_back(v);
      }
      // A sub-graph calls what it captures by the names outside.
      const auto captured = static_cast<std::size_t>(n.attr_int("captured", 0));
      for (auto& [key, a] : n.attrs) {
        const GraphPtr* body = std::get_if<GraphPtr>(&a);
        if (!body || !captured) continue;
        Graph b = **body;
        for (std::size_t i = 1; i <= captured; ++i)
          b.values[static_cast<std::size_t>(b.inputs[b.inputs.size() - i])].name = g_.values[static_cast<std::size_t>(n.inputs[n.inputs.size() - i])].name;
        a = std::make_shared<const Graph>(std::move(b));
      }
      n.name.clear();
      g_.nodes.push_back(std::move(n));
    }
  }

  ValueId node(const char* op, std::vector<ValueId> in, std::map<std::string, Attribute> attrs = {}, const char* domain = "") {
    made_.push_back(g_.add_node(op, std::move(in), std::move(attrs), "", domain));
    return made_.back();
  }
  ValueId ints(const Ints& v) { return g_.add_constant(g_.unique_name("i"), Tensor::of<std::int64_t>({static_cast<std::int64_t>(v.size())}, v)); }
  ValueId scalar(double v) { return g_.add_constant(g_.unique_name("s"), Tensor::scalar(static_cast<float>(v))); }

  // The value as f32 of the shape of `like` and within its range: an operator's domain is what its sample draws.
  ValueId adapted(ValueId v, const Tensor& like) {
    const Tensor& t = values_[static_cast<std::size_t>(v)];
    const std::int64_t have = t.size(), want = like.size();
    double lo = like.at(0), hi = lo;
    for (std::int64_t i = 1; i < want; ++i) lo = std::min(lo, like.at(i)), hi = std::max(hi, like.at(i));
    if (t.dtype() != DType::f32) v = node("Cast", {v}, {{"to", onnx_number(DType::f32)}});
    if (t.shape() != like.shape()) {
      v = node("Reshape", {v, ints({-1})});
      if (have < want) v = r_.chance(0.5) ? node("Tile", {v, ints({(want + have - 1) / have})}) : node("Pad", {v, ints({0, want - have})});
      if (have != want) v = node("Slice", {v, ints({0}), ints({want})});
      v = node("Reshape", {v, ints(like.shape())});
    }
    if (r_.chance(0.5)) v = node("Add", {node("Mul", {node("Sigmoid", {v}), scalar(hi - lo)}), scalar(lo)});
    // Islands of quantised values: codes whose steps are a power of two.
    if (r_.chance(0.3)) v = node("Quant", {v, scalar(std::ldexp(1.0, static_cast<int>(r_.range(-5, -2)))), scalar(0), scalar(static_cast<double>(r_.range(3, 8)))}, {}, "qonnx.custom_op.general");
    return node("Clip", {v, scalar(lo), scalar(hi)});
  }

  // What later operators may read: finite numbers of known shape.
  void refresh() {
    infer_shapes(g_);
    Graph all = g_;
    all.outputs = made_;
    values_.assign(g_.values.size(), Tensor());
    const std::vector<Tensor> y = evaluate_float(all, inputs_);
    ready_.clear();
    for (std::size_t i = 0; i < made_.size(); ++i) {
      const auto& dims = g_.values[static_cast<std::size_t>(made_[i])].type.dims;
      if (!dims || !all_known(*dims) || y[i].size() == 0 || y[i].size() > 4096) continue;
      bool finite = true;
      for (std::int64_t k = 0; k < y[i].size(); ++k) finite = finite && std::isfinite(y[i].at(k));
      if (!finite) continue;
      values_[static_cast<std::size_t>(made_[i])] = y[i];
      ready_.push_back(made_[i]);
    }
  }

  RandomGraphOptions o_;
  Rng r_;
  Graph g_;
  std::vector<const OpDef*> ops_;
  std::vector<Tensor> inputs_, values_;
  std::vector<ValueId> made_, ready_;
};

}  // namespace

RandomGraph random_operators(const RandomGraphOptions& options, std::uint64_t seed) { return Joiner(options, seed).run(); }

}  // namespace tandem::ir
