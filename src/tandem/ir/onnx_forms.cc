// The forms that operators had in other opsets.
#include <cmath>

#include "tandem/ir/onnx_private.h"

namespace tandem::ir::onnx_file {
namespace {

struct Forms : Fresh {
  const std::int64_t written;
  const NodeOpsets& own;
  std::int64_t opset = written;  // of the node at hand

  Forms(Graph& graph, std::int64_t opset_of_file, const NodeOpsets& of_nodes) : Fresh(graph), written(opset_of_file), own(of_nodes) {}

  void drop_unused_outputs(Node& n, const UseMap& uses) {
    while (n.outputs.size() > 1) {
      const ValueId v = n.outputs.back();
      if (!uses.users[static_cast<std::size_t>(v)].empty() || std::find(g.outputs.begin(), g.outputs.end(), v) != g.outputs.end()) return;
      n.outputs.pop_back();
    }
  }
  ValueId ints_input(Node& n, std::string_view attr) {
    const std::vector<std::int64_t> x = n.attr_ints(attr, {});
    const ValueId v = constant(fmt::format("{}_{}", base(n), attr), Tensor::of<std::int64_t>({static_cast<std::int64_t>(x.size())}, x));
    n.attrs.erase(std::string(attr));
    return v;
  }
  ValueId float_input(Node& n, std::string_view attr) {
    const ValueId v = constant(fmt::format("{}_{}", base(n), attr), Tensor::scalar(static_cast<float>(n.attr_float(attr, 0))));
    n.attrs.erase(std::string(attr));
    return v;
  }

  // Batch normalisation by the statistics of the batch itself, and the running ones it leaves behind.
  bool training(Node& n, std::vector<Node>& to) {
    const ValueId x = n.in(0);
    const auto& d = g.values[static_cast<std::size_t>(x)].type.dims;
    if (n.inputs.size() != 5 || std::count(n.inputs.begin(), n.inputs.end(), kNone) || n.outputs.size() > 3 || !d || d->size() < 2) return false;
    const std::size_t rank = d->size();
    std::vector<std::int64_t> axes{0}, per_channel{-1};
    for (std::size_t i = 2; i < rank; ++i) axes.push_back(static_cast<std::int64_t>(i)), per_channel.push_back(1);
    const auto step = [&](const char* op, std::vector<ValueId> in, const char* suffix, std::map<std::string, Attribute> attrs = {}, ValueId out = kNone) {
      if (out == kNone) out = value(base(n) + suffix);
      to.push_back(part(n, op, std::move(in), out, suffix, std::move(attrs)));
      return out;
    };
    const auto real = [&](const char* suffix, double v) { return constant(base(n) + suffix, Tensor::scalar(static_cast<float>(v))); };
    const ValueId mean = step("ReduceMean", {x}, "_mean", {{"axes", axes}}), off = step("Sub", {x, mean}, "_off");
    const ValueId var = step("ReduceMean", {step("Mul", {off, off}, "_square")}, "_var", {{"axes", axes}});
    const ValueId unit = step("Div", {off, step("Sqrt", {step("Add", {var, real("_epsilon", n.attr_float("epsilon", 1e-5))}, "_sum")}, "_deviation")}, "_unit");
    const ValueId shape = constant(base(n) + "_channels", Tensor::of<std::int64_t>({static_cast<std::int64_t>(per_channel.size())}, per_channel));
    const ValueId scaled = step("Mul", {unit, step("Reshape", {n.inputs[1], shape}, "_scale")}, "_scaled");
    step("Add", {scaled, step("Reshape", {n.inputs[2], shape}, "_offset")}, "", {}, n.outputs[0]);
    const double keep = static_cast<float>(n.attr_float("momentum", 0.9));
    const ValueId vector = constant(base(n) + "_vector", Tensor::of<std::int64_t>({1}, std::vector<std::int64_t>{-1}));
    for (std::size_t i = 1; i < n.outputs.size(); ++i) {
      const char* names[2][4] = {{"_old_mean", "_new_mean", "_mean_vector", "_running_mean"}, {"_old_var", "_new_var", "_var_vector", "_running_var"}};
      const auto& s = names[i - 1];
      const ValueId before = step("Mul", {n.inputs[2 + i], real("_momentum", keep)}, s[0]);
      const ValueId now = step("Mul", {step("Reshape", {i == 1 ? mean : var, vector}, s[2]), real("_rest", 1 - keep)}, s[1]);
      step("Add", {before, now}, s[3], {}, n.outputs[i]);
    }
    return true;
  }
  void trained() {
    if (std::none_of(g.nodes.begin(), g.nodes.end(), [](const Node& n) { return n.domain.empty() && n.op == "BatchNormalization" && n.has_attr("training_mode"); })) return;
    std::vector<Node> nodes;
    for (Node& n : g.nodes)
      if (!n.domain.empty() || n.op != "BatchNormalization" || n.outputs.empty() || n.attr_int("training_mode", 0) != 1 || !training(n, nodes)) nodes.push_back(std::move(n));
    g.nodes = std::move(nodes);
  }

  // Scan of opset 8 ran over axis 1 for each element of axis 0: a Scan over the batch whose body is the Scan of today.
  void scan_over_batch(Node& n) {
    const std::string where = g.describe(n);
    if (n.inputs.empty() || n.in(0) != kNone) throw bad_input("Scan of opset 8 with lengths per sequence").at(where).expected("sequences of one length (no sequence_lens)").fix("convert the model to opset 9 or later");
    n.inputs.erase(n.inputs.begin());
    const auto captured = static_cast<std::size_t>(n.attr_int("captured", 0));
    Graph b;
    b.name = "batch";
    Node inner = n;
    inner.name.clear();
    inner.inputs.clear();
    inner.outputs.clear();
    if (n.has_attr("directions")) {
      inner.attrs["scan_input_directions"] = inner.attrs.at("directions");
      inner.attrs.erase("directions");
    }
    for (std::size_t i = 0; i < n.inputs.size(); ++i) {
      const bool outer = i >= n.inputs.size() - captured;
      inner.inputs.push_back(b.add_value(outer && n.inputs[i] != kNone ? g.values[static_cast<std::size_t>(n.inputs[i])].name : fmt::format("batch_input_{}", i)));
    }
    b.inputs = inner.inputs;
    for (std::size_t i = 0; i < n.outputs.size(); ++i) inner.outputs.push_back(b.add_value(fmt::format("batch_output_{}", i), {g.values[static_cast<std::size_t>(n.outputs[i])].type.dtype, std::nullopt}));
    b.outputs = inner.outputs;
    b.nodes.push_back(std::move(inner));
    std::map<std::string, Attribute> attrs{{"body", std::make_shared<const Graph>(std::move(b))}, {"num_scan_inputs", static_cast<std::int64_t>(n.inputs.size() - captured)}};
    if (captured) attrs["captured"] = static_cast<std::int64_t>(captured);
    n.attrs = std::move(attrs);
  }

  std::int64_t opset_of(const Node& n) const {
    if (own.empty() || n.outputs.empty()) return written;
    const auto it = own.find(g.values[static_cast<std::size_t>(n.outputs[0])].name);
    return it == own.end() ? written : it->second;
  }

  // The second operand of n with axes of extent 1 behind its own, which begin at `axis` of the first operand.
  ValueId along(const Node& n, const std::optional<Dims>& first, std::int64_t axis, std::vector<std::pair<std::size_t, Node>>& spread, std::size_t at) {
    const Value& second = g.values[static_cast<std::size_t>(n.in(1))];
    const Tensor* b = g.constant(n.in(1));
    if (first && axis < 0) axis += static_cast<std::int64_t>(first->size());
    const std::optional<std::size_t> rank = b ? b->shape().size() : second.type.dims ? std::optional(second.type.dims->size()) : std::nullopt;
    if (!first || !rank || axis < 0 || axis + static_cast<std::int64_t>(*rank) > static_cast<std::int64_t>(first->size()))
      throw bad_input("{} of opset {} broadcasts along axis {}", n.op, opset, axis).at(g.describe(n)).expected("operands of known rank, the second within the first").fix("convert the model to opset 17");
    const std::size_t behind = first->size() - static_cast<std::size_t>(axis) - *rank;
    if (behind == 0) return n.in(1);
    const std::string name = second.name;
    if (b) {
      Shape s = b->shape();
      s.resize(s.size() + behind, 1);
      return constant(name, b->reshaped(s));
    }
    const DType t = second.type.dtype;
    std::vector<std::int64_t> axes;
    for (std::size_t i = 0; i < behind; ++i) axes.push_back(static_cast<std::int64_t>(*rank + i));
    const ValueId list = constant(name + "_axes", Tensor::of<std::int64_t>({static_cast<std::int64_t>(axes.size())}, axes)), y = value(name + "_spread", t);
    Node u;
    u.op = "Unsqueeze";
    u.inputs = {n.in(1), list}, u.outputs = {y};
    spread.emplace_back(at, std::move(u));
    return y;
  }

  void normalise() {
    const UseMap uses(g);
    const std::vector<Node> before = g.nodes;
    std::vector<std::pair<std::size_t, Node>> spread;  // nodes to come before the one of that number
    for (std::size_t k = 0; k < g.nodes.size(); ++k) {
      Node& n = g.nodes[k];
      opset = opset_of(n);
      if (n.domain == "com.microsoft" && (n.op == "QuantizeLinear" || n.op == "DequantizeLinear")) n.domain.clear();  // the same, for types that ONNX took up later
      if (!n.domain.empty()) continue;
      if (n.op == "Scan" && opset < 9) {
        scan_over_batch(n);
        continue;
      }
      if (n.in(0) == kNone || n.outputs.empty() || n.outputs[0] == kNone) continue;  // nothing to bring into form; verify judges it
      const std::string where = g.describe(n);
      if (opset < 6) n.attrs.erase("consumed_inputs");
      if (n.op == "Clip" && opset < 11) {
        const bool lo = n.has_attr("min"), hi = n.has_attr("max");
        if (lo || hi) n.inputs.resize(1);
        if (lo) n.inputs.push_back(float_input(g.nodes[k], "min"));
        else if (hi) n.inputs.push_back(kNone);
        if (hi) n.inputs.push_back(float_input(g.nodes[k], "max"));
      } else if (n.op == "Dropout") {
        if (opset < 7) n.attrs.erase("is_test");
        if (opset < 12 && n.has_attr("ratio")) n.inputs.resize(1), n.inputs.push_back(float_input(g.nodes[k], "ratio"));
        drop_unused_outputs(n, uses);
      } else if ((n.op == "Squeeze" || n.op == "Unsqueeze") && opset < 13) {
        if (n.has_attr("axes")) n.inputs.resize(1), n.inputs.push_back(ints_input(g.nodes[k], "axes"));
      } else if (n.op == "Reshape" && opset < 5) {
        if (n.has_attr("shape")) n.inputs.resize(1), n.inputs.push_back(ints_input(g.nodes[k], "shape"));
      } else if (n.op == "Split" && opset < 13) {
        if (n.has_attr("split")) n.inputs.resize(1), n.inputs.push_back(ints_input(g.nodes[k], "split"));
      } else if (n.op == "Split" && opset >= 18 && n.in(1) == kNone && n.has_attr("num_outputs")) {
        // Where the parts are equal, the number of outputs says it all.
        const auto& d = g.values[static_cast<std::size_t>(n.in(0))].type.dims;
        const auto parts = static_cast<std::int64_t>(n.outputs.size());
        std::int64_t axis = n.attr_int("axis", 0);
        if (d && axis < 0) axis += static_cast<std::int64_t>(d->size());
        const bool known = d && axis >= 0 && axis < static_cast<std::int64_t>(d->size()) && (*d)[static_cast<std::size_t>(axis)].known();
        if (known && n.attr_int("num_outputs", 0) == parts && (*d)[static_cast<std::size_t>(axis)].n % parts == 0) n.attrs.erase("num_outputs");
      } else if (n.op == "Slice" && opset < 10) {
        if (!n.has_attr("starts") || !n.has_attr("ends")) continue;  // verify says what is missing
        n.inputs.resize(1);
        for (const char* a : {"starts", "ends", "axes"})
          if (n.has_attr(a)) n.inputs.push_back(ints_input(g.nodes[k], a));
      } else if (n.op == "Pad" && opset < 11) {
        if (opset < 2 && n.has_attr("paddings")) n.attrs["pads"] = n.attrs.at("paddings"), n.attrs.erase("paddings");
        if (!n.has_attr("pads")) continue;
        n.inputs.resize(1), n.inputs.push_back(ints_input(g.nodes[k], "pads"));
        if (n.has_attr("value")) n.inputs.push_back(float_input(g.nodes[k], "value"));
      } else if (n.op == "ReduceSum" && n.has_attr("axes")) {
        n.inputs.resize(1), n.inputs.push_back(ints_input(g.nodes[k], "axes"));
      } else if (n.op.rfind("Reduce", 0) == 0 && n.op != "ReduceSum" && n.in(1) != kNone) {  // an input from opset 18 on
        if (const Tensor* axes = g.constant(n.in(1)); axes && axes->dtype() == DType::i64 && axes->size() > 0) {
          n.attrs["axes"] = std::vector<std::int64_t>(axes->data<std::int64_t>(), axes->data<std::int64_t>() + axes->size());
          n.attrs.erase("noop_with_empty_axes");
          n.inputs.resize(1);
        }
      } else if (n.op == "Upsample" && opset < 7 && n.has_attr("height_scale") && n.has_attr("width_scale")) {
        n.attrs["scales"] = std::vector<double>{1, 1, n.attr_float("height_scale", 1), n.attr_float("width_scale", 1)};
        n.attrs.erase("height_scale"), n.attrs.erase("width_scale");
        --k;  // now as of opset 7
      } else if ((n.op == "Upsample" && opset < 10) || (n.op == "Resize" && opset < 11)) {  // they divided by the scale and rounded down
        if (n.has_attr("scales")) {
          const auto* scales = std::get_if<std::vector<double>>(&n.attrs.at("scales"));
          if (!scales) throw bad_input("the scales of {} are no numbers", n.op).at(where).expected("one number per axis");
          n.inputs.resize(1);
          n.inputs.push_back(constant(fmt::format("{}_scales", g.values[static_cast<std::size_t>(n.outputs[0])].name),
                                      Tensor::of<float>({static_cast<std::int64_t>(scales->size())}, std::vector<float>(scales->begin(), scales->end()))));
          g.nodes[k].attrs.erase("scales");
        }
        if (n.inputs.size() != 2) throw bad_input("{} of opset {} with {} inputs", n.op, opset, n.inputs.size()).at(where).expected("X and scales");
        n.inputs = {n.inputs[0], kNone, n.inputs[1]};
        if (n.attr_string("mode", "nearest") == "bilinear") n.attrs["mode"] = std::string("linear");
        n.op = "Resize";
        n.attrs["coordinate_transformation_mode"] = std::string("asymmetric");
        n.attrs["nearest_mode"] = std::string("floor");
      } else if (n.op == "Resize" && opset < 13) {  // what is absent was an empty tensor
        for (std::size_t i = 1; i < n.inputs.size(); ++i)
          if (const Tensor* t = n.inputs[i] == kNone ? nullptr : g.constant(n.inputs[i]); t && t->size() == 0) n.inputs[i] = kNone;
        while (n.inputs.size() > 1 && n.inputs.back() == kNone) n.inputs.pop_back();
      } else if (n.op == "TopK" && opset < 10) {
        if (n.has_attr("k")) n.attrs["k"] = std::vector<std::int64_t>{n.attr_int("k", 1)}, n.inputs.resize(1), n.inputs.push_back(ints_input(g.nodes[k], "k"));
      } else if (n.op == "RoiAlign" && opset < 16) {
        n.attrs["coordinate_transformation_mode"] = std::string("output_half_pixel");
      } else if (n.op == "GridSample") {
        const std::string mode = n.attr_string("mode", "linear");
        if (mode == "bilinear") n.attrs["mode"] = std::string("linear");
        if (mode == "bicubic") n.attrs["mode"] = std::string("cubic");
      } else if (n.op == "DFT" && opset >= 20) {
        if (n.in(2) == kNone) n.attrs["axis"] = std::int64_t{-2};
      } else if (n.op == "Scatter" && opset < 11) {
        n.op = "ScatterElements";
      } else if (n.op == "Cast" && opset < 6) {
        if (const auto it = n.attrs.find("to"); it != n.attrs.end())
          if (const auto* s = std::get_if<std::string>(&it->second)) {
            onnx::TensorProto::DataType t;
            if (!onnx::TensorProto::DataType_Parse(*s, &t)) throw bad_input("the type '{}'", printable(*s)).at(where).expected("FLOAT, INT64, ...");
            it->second = static_cast<std::int64_t>(t);
          }
      } else if (n.op == "Selu" && opset < 6) {
        n.attrs.emplace("alpha", static_cast<double>(1.6732f));
        n.attrs.emplace("gamma", static_cast<double>(1.0507f));
      } else if ((n.op == "LSTM" || n.op == "GRU" || n.op == "RNN") && opset < 7) {
        n.attrs.erase("output_sequence");
      } else if (n.op == "PRelu" && opset < 7 && n.in(1) != kNone) {
        const auto& x = g.values[static_cast<std::size_t>(n.in(0))].type.dims;
        if (const Tensor* slope = g.constant(n.in(1)); !slope || slope->size() != 1) {  // one slope per channel
          const ValueId v = along(n, x, 1, spread, k);
          g.nodes[k].inputs[1] = v;
        }
      } else if (n.op == "Concat" && opset < 4) {
        n.attrs.emplace("axis", std::int64_t{1});
      } else if (n.op == "BatchNormalization") {
        if (opset < 7) n.attrs.erase("is_test");
        if (opset < 9 && n.has_attr("spatial")) {
          if (n.attr_int("spatial", 1) != 1) throw bad_input("BatchNormalization with spatial=0").at(where).expected("statistics per channel");
          n.attrs.erase("spatial");
        }
        drop_unused_outputs(n, uses);
      } else if (n.op == "MaxPool") {
        drop_unused_outputs(n, uses);
        if (n.attr_int("storage_order", 0) == 0) n.attrs.erase("storage_order");  // of the indices, which nobody reads
      } else if (n.op == "Gemm" && opset < 7) {
        n.attrs.erase("broadcast");
      } else if ((n.op == "Add" || n.op == "Sub" || n.op == "Mul" || n.op == "Div" || n.op == "Pow" || n.op == "And" || n.op == "Or" || n.op == "Xor" || n.op == "Equal" || n.op == "Less" || n.op == "Greater") && opset < 7) {
        const bool broadcast = n.attr_int("broadcast", 0) != 0;
        n.attrs.erase("broadcast");
        if (n.has_attr("axis")) {
          const std::int64_t axis = n.attr_int("axis", 0);
          n.attrs.erase("axis");
          const auto& a = g.values[static_cast<std::size_t>(n.in(0))].type.dims;
          if (broadcast && n.in(1) != kNone) {
            const ValueId v = along(n, a, axis, spread, k);
            g.nodes[k].inputs[1] = v;
          }
        }
      }
    }
    for (std::size_t i = spread.size(); i-- > 0;) g.nodes.insert(g.nodes.begin() + static_cast<std::ptrdiff_t>(spread[i].first), std::move(spread[i].second));
    trained();
    old_softmax();
    drop_unread(before);
  }

  // Before opset 13 Softmax and its relatives flattened their input to a matrix at `axis` (default 1).
  bool softmax_like(const Node& n) const { return n.domain.empty() && (n.op == "Softmax" || n.op == "LogSoftmax" || n.op == "Hardmax") && opset_of(n) < 13; }
  void old_softmax() {
    if (std::none_of(g.nodes.begin(), g.nodes.end(), [&](const Node& n) { return softmax_like(n); })) return;
    Graph typed = g;  // as far as shapes can be inferred: an unknown operator ends it
    try {
      infer_shapes(typed);
    } catch (const Error&) {
    }
    std::vector<Node> nodes;
    for (Node& n : g.nodes) {
      if (!softmax_like(n) || n.inputs.size() != 1 || n.inputs[0] == kNone) {
        nodes.push_back(std::move(n));
        continue;
      }
      const std::int64_t axis = n.attr_int("axis", 1);
      const auto& dims = typed.values[static_cast<std::size_t>(n.inputs[0])].type.dims;
      const bool last = axis == -1 || (dims && axis == static_cast<std::int64_t>(dims->size()) - 1);
      const ValueId x = n.inputs[0], y = n.outputs[0];
      if (last) {
        n.attrs["axis"] = std::int64_t{-1};
        nodes.push_back(std::move(n));
        continue;
      }
      const DType dtype = g.values[static_cast<std::size_t>(y)].type.dtype;
      const ValueId shape = value(base(n) + "_shape", DType::i64), flat = value(base(n) + "_flat", dtype), soft = value(base(n) + "_rows", dtype);
      const Node old = n;
      nodes.push_back(part(old, "Shape", {x}, shape, "_shape"));
      nodes.push_back(part(old, "Flatten", {x}, flat, "_flat", {{"axis", axis}}));
      Node s = std::move(n);
      s.inputs = {flat};
      s.outputs = {soft};
      s.attrs["axis"] = std::int64_t{-1};
      nodes.push_back(std::move(s));
      nodes.push_back(part(old, "Reshape", {soft, shape}, y, "_back"));
    }
    g.nodes = std::move(nodes);
  }
};

}  // namespace

Fresh::Fresh(Graph& graph) : g(graph) {
  for (const Value& v : g.values) names.insert(v.name);
  for (const Node& n : g.nodes) node_names.insert(n.name);
}
ValueId Fresh::value(const std::string& base, DType t) {
  std::string s = base;
  for (std::int64_t k = 1; !names.insert(s).second; ++k) s = fmt::format("{}_{}", base, k);
  g.values.push_back({std::move(s), {t, std::nullopt}, {}});
  return static_cast<ValueId>(g.values.size() - 1);
}
ValueId Fresh::constant(const std::string& base, Tensor t) {
  const ValueId v = value(base);
  g.values[static_cast<std::size_t>(v)].type = TensorType{t.dtype(), dims_of(t.shape())};
  g.initialisers.emplace(v, std::move(t));
  return v;
}
void Fresh::drop_unread(const std::vector<Node>& before) {
  std::unordered_set<ValueId> then, now(g.outputs.begin(), g.outputs.end());
  for (const Node& n : before) then.insert(n.inputs.begin(), n.inputs.end());
  for (const Node& n : g.nodes) now.insert(n.inputs.begin(), n.inputs.end());
  std::erase_if(g.initialisers, [&](const auto& e) { return then.count(e.first) && !now.count(e.first); });
}
std::string Fresh::base(const Node& n) const { return n.name.empty() ? g.values[static_cast<std::size_t>(n.outputs[0])].name : n.name; }
Node Fresh::part(const Node& n, const char* op, std::vector<ValueId> in, ValueId out, const char* suffix, std::map<std::string, Attribute> attrs) {
  Node m;
  m.op = op;
  m.inputs = std::move(in);
  m.outputs = {out};
  m.attrs = std::move(attrs);
  if (n.name.empty()) return m;
  m.name = n.name + suffix;
  if (*suffix)
    for (int k = 1; !node_names.insert(m.name).second; ++k) m.name = fmt::format("{}{}_{}", n.name, suffix, k);
  return m;
}

void to_form_17(Graph& g, std::int64_t opset, const NodeOpsets& own) { Forms(g, opset, own).normalise(); }

}  // namespace tandem::ir::onnx_file
