#include <google/protobuf/io/coded_stream.h>
#include <google/protobuf/stubs/logging.h>

#include <limits>

#include "tandem/base/file.h"
#include "tandem/ir/onnx_private.h"

namespace tandem::ir {
using namespace onnx_file;
namespace {

// What all graphs of a file share.
struct File {
  TensorReader tensors;
  const Limits& limits;
  std::int64_t opset = 1;
  NodeOpsets opsets;
};

struct Reader {
  File& file;
  const Reader* outer = nullptr;  // of a sub-graph
  int depth = 0;
  Graph g;
  std::unordered_map<std::string, ValueId> ids;
  std::unordered_set<std::string> node_names;
  std::unordered_set<ValueId> written;
  std::vector<ValueId> captured;  // of the values, those that the outer graph makes; in order of their use
  const Limits& limits = file.limits;

  ValueId value(const std::string& name) {
    const auto [it, fresh] = ids.emplace(name, static_cast<ValueId>(g.values.size()));
    if (fresh) {
      Value v;
      v.name = checked_name(name, "name", limits);
      g.values.push_back(std::move(v));
    }
    return it->second;
  }
  std::string free_value_name(const std::string& base) const {
    if (!ids.count(base)) return base;
    for (std::int64_t k = 1;; ++k)
      if (std::string s = fmt::format("{}_{}", base, k); !ids.count(s)) return s;
  }

  // The message's copy of data that we hold now.
  static void release(onnx::TensorProto& t) {
    if (t.has_raw_data()) delete t.release_raw_data();
  }

  Attribute attribute(onnx::AttributeProto& a, const std::string& where) {
    const std::string what = fmt::format("attribute '{}' of {}", a.name(), where);
    using A = onnx::AttributeProto;
    if (a.has_ref_attr_name() && !a.ref_attr_name().empty()) throw bad_input("{} refers to an attribute of a function", what);
    int t = a.type();
    if (t == A::UNDEFINED)  // files of the first version say it only by what is there
      t = a.has_f() ? A::FLOAT : a.has_i() ? A::INT : a.has_s() ? A::STRING : a.has_t() ? A::TENSOR : a.has_g() ? A::GRAPH
          : a.floats_size() ? A::FLOATS : a.ints_size() ? A::INTS : a.strings_size() ? A::STRINGS : a.graphs_size() ? A::GRAPHS : 0;
    switch (t) {
      case A::FLOAT: return static_cast<double>(a.f());
      case A::INT: return static_cast<std::int64_t>(a.i());
      case A::STRING: return a.s();
      case A::TENSOR: {
        Tensor x = file.tensors.tensor(a.t(), what);
        release(*a.mutable_t());
        return x;
      }
      case A::FLOATS: return std::vector<double>(a.floats().begin(), a.floats().end());
      case A::INTS: return std::vector<std::int64_t>(a.ints().begin(), a.ints().end());
      case A::STRINGS: return std::vector<std::string>(a.strings().begin(), a.strings().end());
      case A::GRAPHS: throw bad_input("{} is a list of sub-graphs", what).at(where).expected("one sub-graph");
      default: throw bad_input("{} has a type that is not supported", what).expected("numbers, strings or a tensor");
    }
  }

  static std::string describe(const onnx::NodeProto& n) {
    if (!n.name().empty()) return fmt::format("node '{}' ({})", printable(n.name()), printable(n.op_type()));
    for (const std::string& o : n.output())
      if (!o.empty()) return fmt::format("{} node of value '{}'", printable(n.op_type()), printable(o));
    return fmt::format("{} node", printable(n.op_type()));
  }

  void write(ValueId v, const std::string& where) {
    if (!written.insert(v).second)
      throw bad_input("the value '{}' has two producers", g.values[static_cast<std::size_t>(v)].name).at(where).expected("one node, input or initialiser per name");
  }

  bool constant_node(const Node& n, const std::string& where) {
    if (n.op != "Constant" || !n.domain.empty() || n.outputs.size() != 1 || !n.inputs.empty()) return false;
    if (n.attrs.size() != 1) throw bad_input("a Constant has {} attributes", n.attrs.size()).at(where).expected("one of value, value_float, value_int, ...");
    const auto& [key, a] = *n.attrs.begin();
    Tensor t;
    if (const auto* x = std::get_if<Tensor>(&a); x && key == "value") t = *x;
    else if (const auto* f = std::get_if<double>(&a); f && key == "value_float") t = Tensor::scalar(static_cast<float>(*f));
    else if (const auto* i = std::get_if<std::int64_t>(&a); i && key == "value_int") t = Tensor::scalar(*i);
    else if (const auto* is = std::get_if<std::vector<std::int64_t>>(&a); is && key == "value_ints") t = Tensor::of<std::int64_t>({static_cast<std::int64_t>(is->size())}, *is);
    else if (const auto* fs = std::get_if<std::vector<double>>(&a); fs && key == "value_floats") {
      std::vector<float> v(fs->begin(), fs->end());
      t = Tensor::of<float>({static_cast<std::int64_t>(v.size())}, v);
    } else {
      throw bad_input("a Constant with the attribute '{}'", key).at(where).expected("a tensor or numbers");
    }
    const ValueId v = n.outputs[0];
    g.values[static_cast<std::size_t>(v)].type = TensorType{t.dtype(), dims_of(t.shape())};
    g.initialisers.emplace(v, std::move(t));
    return true;
  }

  // ---- sub-graphs ----
  void body(onnx::AttributeProto& a, const std::string& where, std::map<std::string, Reader>& bodies) {
    if (depth >= kMostNested) throw bad_input("sub-graphs are nested more than {} deep", kMostNested).at(where);
    Reader r{file, this, depth + 1, {}, {}, {}, {}, {}};
    try {
      r.graph(*a.mutable_g());
    } catch (Error& e) {
      e.at(where + (e.where().empty() ? "" : ": " + e.where()));
      throw;
    }
    bodies.emplace(a.name(), std::move(r));
  }
  // What the sub-graphs read from outside becomes inputs, the same ones for all of them.
  void capture(Node& n, std::map<std::string, Reader>& bodies, const std::string& where) {
    if (n.has_attr("captured")) throw bad_input("unknown attribute 'captured'").at(where);
    std::vector<std::string> names;
    std::unordered_set<std::string> seen;
    for (auto& [key, r] : bodies)
      for (ValueId v : r.captured)
        if (const std::string& s = r.g.values[static_cast<std::size_t>(v)].name; seen.insert(s).second) names.push_back(s);
    for (const std::string& s : names) n.inputs.push_back(value(s));
    for (auto& [key, r] : bodies) {
      const std::unordered_set<ValueId> captures(r.captured.begin(), r.captured.end());
      for (const std::string& s : names) {
        const auto it = r.ids.find(s);
        const bool own = it != r.ids.end() && captures.count(it->second);
        if (!own && it != r.ids.end()) {  // a value of its own hides it: that one gets another name, as the writer gives it
          const ValueId hides = it->second;
          const std::string other = r.free_value_name(s);
          r.ids.erase(it);
          r.ids.emplace(other, hides);
          r.g.values[static_cast<std::size_t>(hides)].name = other;
        }
        r.g.inputs.push_back(own ? it->second : r.value(s));
      }
      verify_structure(r.g);
      n.attrs[key] = std::make_shared<const Graph>(std::move(r.g));
    }
    if (!names.empty()) n.attrs["captured"] = static_cast<std::int64_t>(names.size());
  }
  // The initialiser that a name stands for in the graphs around; nullptr where it stands for another value.
  const Tensor* outer_constant(const std::string& name) const {
    for (const Reader* r = outer; r; r = r->outer)
      if (const auto it = r->ids.find(name); it != r->ids.end()) {
        if (const Tensor* t = r->g.constant(it->second)) return t;
        if (r->written.count(it->second)) return nullptr;
      }
    return nullptr;
  }
  // A value that nobody in this graph makes: the outer graph's. Its constants are copied (the storage is shared), so that the body
  // can be understood alone.
  void from_outside(ValueId v) {
    if (!written.insert(v).second) return;
    if (const Tensor* t = outer_constant(g.values[static_cast<std::size_t>(v)].name)) {
      g.values[static_cast<std::size_t>(v)].type = TensorType{t->dtype(), dims_of(t->shape())};
      g.initialisers.emplace(v, *t);
    } else {
      captured.push_back(v);
    }
  }

  void node(onnx::NodeProto& p) {
    const std::string where = describe(p);
    Node n;
    n.op = checked_name(p.op_type(), "operator", limits);
    n.domain = checked_name(p.domain(), "domain", limits);
    if (n.op.empty()) throw bad_input("a node names no operator").at(where);
    if (n.domain == "ai.onnx") n.domain.clear();
    n.name = checked_name(p.name(), "name", limits);
    if (!n.name.empty() && !node_names.insert(n.name).second) {  // names of nodes are for people: made unique
      std::int64_t k = 1;
      while (!node_names.insert(fmt::format("{}_{}", n.name, k)).second) ++k;
      n.name = fmt::format("{}_{}", n.name, k);
    }
    std::map<std::string, Reader> bodies;
    for (auto& a : *p.mutable_attribute()) {
      checked_name(a.name(), "attribute", limits);
      const bool graph = a.type() == onnx::AttributeProto::GRAPH || (a.type() == onnx::AttributeProto::UNDEFINED && a.has_g());
      if (!n.attrs.emplace(a.name(), graph ? Attribute(GraphPtr()) : attribute(a, where)).second) throw bad_input("the attribute '{}' is given twice", a.name()).at(where);
      if (graph) body(a, where, bodies);
    }
    for (const std::string& i : p.input()) n.inputs.push_back(i.empty() ? kNone : value(i));
    if (!bodies.empty()) capture(n, bodies, where);
    int outputs = p.output_size();
    while (outputs > 0 && p.output(outputs - 1).empty()) --outputs;
    if (outputs == 0) throw bad_input("a node without outputs").at(where);
    for (int i = 0; i < outputs; ++i) {
      const ValueId v = value(p.output(i).empty() ? free_value_name(fmt::format("{}_output_{}", p.op_type(), i)) : p.output(i));
      write(v, where);
      n.outputs.push_back(v);
    }
    if (!constant_node(n, where)) g.nodes.push_back(std::move(n));
  }

  static std::string escaped(const std::string& s) {
    std::string r;
    for (char c : s)
      if (c == '%' || c == ';' || c == '=') r += fmt::format("%{:02X}", static_cast<unsigned>(c));
      else r += c;
    return r;
  }

  void model(onnx::ModelProto& m) {
    if (!m.has_graph()) throw bad_input("the file holds no graph").expected("an ONNX model");
    if (m.training_info_size()) throw bad_input("the model holds training information").expected("an inference model");
    for (const auto& o : m.opset_import())
      if (o.domain().empty() || o.domain() == "ai.onnx") file.opset = std::max<std::int64_t>(file.opset, o.version());
    if (file.opset > kNewest)
      throw bad_input("the model is written in opset {}", file.opset).expected(fmt::format("at most {}", kNewest)).fix("export it in opset 17");
    inline_functions(m, file.opset, limits, file.opsets);
    for (const auto& e : m.metadata_props())
      if (!g.metadata.emplace(e.key(), e.value()).second) throw bad_input("the metadata key '{}' is given twice", printable(e.key()));
    graph(*m.mutable_graph());
    verify_structure(g);
    if (file.opset != least_opset(g)) g.metadata["onnx.opset"] = fmt::format("{}", file.opset);
  }

  void graph(onnx::GraphProto& p) {
    if (static_cast<std::uint64_t>(p.node_size()) > limits.nodes)
      throw Error(Exit::limit, fmt::format("the model has {} nodes, the limit is {}", p.node_size(), limits.nodes));
    g.name = checked_name(p.name(), "graph name", limits);
    g.opset = kOpset;
    if (p.sparse_initializer_size()) throw bad_input("the initialiser '{}' is sparse", printable(p.sparse_initializer(0).values().name())).expected("dense tensors");

    std::unordered_set<std::string> constants;
    for (const auto& t : p.initializer())
      if (!constants.insert(t.name()).second) throw bad_input("two initialisers are called '{}'", printable(t.name()));
    for (const auto& v : p.input()) {
      if (v.name().empty()) throw bad_input("a graph input has no name");
      if (constants.count(v.name())) continue;  // an initialiser that older files also list as input
      const ValueId id = value(v.name());
      write(id, fmt::format("graph input '{}'", v.name()));
      if (!outer || v.type().value_case() != onnx::TypeProto::VALUE_NOT_SET)  // the node around it gives the type
        g.values[static_cast<std::size_t>(id)].type = file.tensors.type(v);
      g.inputs.push_back(id);
    }
    for (auto& t : *p.mutable_initializer()) {
      if (t.name().empty()) throw bad_input("an initialiser has no name");
      const ValueId id = value(t.name());
      write(id, fmt::format("initialiser '{}'", t.name()));
      Tensor x = file.tensors.tensor(t, fmt::format("initialiser '{}'", t.name()));
      g.values[static_cast<std::size_t>(id)].type = TensorType{x.dtype(), dims_of(x.shape())};
      g.initialisers.emplace(id, std::move(x));
      release(t);
    }
    // Constants first: a sub-graph may read them.
    for (const bool first : {true, false})
      for (auto& n : *p.mutable_node())
        if ((n.op_type() == "Constant") == first) node(n);
    const auto declare = [&](const onnx::ValueInfoProto& v) {
      const auto it = ids.find(v.name());
      if (it == ids.end() || !v.has_type() || (outer && v.type().value_case() == onnx::TypeProto::VALUE_NOT_SET)) return;
      const TensorType t = file.tensors.type(v);
      Value& to = g.values[static_cast<std::size_t>(it->second)];
      if (const Tensor* c = g.constant(it->second)) {
        bool same = t.dtype == c->dtype() && (!t.dims || t.dims->size() == c->shape().size());
        for (std::size_t i = 0; same && t.dims && i < t.dims->size(); ++i) same = !(*t.dims)[i].known() || (*t.dims)[i].n == c->shape()[i];
        if (!same)
          throw bad_input("the initialiser '{}' is {}{}", v.name(), to_string(c->dtype()), to_string(c->shape()))
              .expected(fmt::format("{}{}, as the graph declares it", to_string(t.dtype), t.dims ? to_string(*t.dims) : std::string()));
        return;
      }
      if (std::find(g.inputs.begin(), g.inputs.end(), it->second) == g.inputs.end()) to.type = t;
    };
    for (const auto& v : p.input())
      if (constants.count(v.name())) declare(v);
    for (const auto& v : p.value_info()) declare(v);
    for (const auto& v : p.output()) declare(v);
    for (const auto& v : p.output()) {
      const auto it = ids.find(v.name());
      if (!outer && it == ids.end()) throw bad_input("the graph output '{}' comes from nowhere", printable(v.name())).expected("the output of a node");
      if (v.name().empty()) throw bad_input("a graph output has no name");
      g.outputs.push_back(value(v.name()));
    }
    for (const auto& q : p.quantization_annotation()) {
      const auto it = ids.find(q.tensor_name());
      if (it == ids.end()) continue;
      std::string& s = g.values[static_cast<std::size_t>(it->second)].quant;
      for (const auto& e : q.quant_parameter_tensor_names()) {
        checked_name(e.key(), "annotation", limits);
        checked_name(e.value(), "annotation", limits);
        s += (s.empty() ? "" : ";") + escaped(e.key()) + "=" + escaped(e.value());
      }
    }
    // What nobody makes: before nodes are sorted, so that the node is named.
    if (outer)
      for (const Node& n : g.nodes)
        for (ValueId v : n.inputs)
          if (v != kNone) from_outside(v);
    if (outer)
      for (ValueId v : g.outputs) from_outside(v);
    for (const Node& n : g.nodes)
      for (ValueId v : n.inputs)
        if (v != kNone && !written.count(v))
          throw bad_input("the input '{}' comes from nowhere", g.values[static_cast<std::size_t>(v)].name)
              .at(g.describe(n))
              .expected("a graph input, an initialiser or the output of a node");
    sort_nodes(g);
    from_qonnx(g);
    to_form_17(g, file.opset, file.opsets);
  }
};

// `owned`: the bytes, to be given back as soon as they are parsed.
Graph import(std::string_view bytes, const Limits& limits, const std::filesystem::path* folder, Absent absent, std::string* owned = nullptr) {
  static const bool quiet = [] { google::protobuf::SetLogHandler(nullptr); return true; }();
  (void)quiet;
  if (bytes.empty()) throw bad_input("the file is empty").expected("an ONNX model");
  if (bytes.size() > static_cast<std::size_t>(std::numeric_limits<int>::max()))
    throw Error(Exit::limit, "an ONNX file cannot be larger than 2 GiB").fix("store the weights as external data");
  count_before_parsing(bytes, false, limits);
  onnx::ModelProto model;
  google::protobuf::io::CodedInputStream in(reinterpret_cast<const std::uint8_t*>(bytes.data()), static_cast<int>(bytes.size()));
  in.SetRecursionLimit(100);
  in.SetTotalBytesLimit(std::numeric_limits<int>::max());
  if (!model.ParseFromCodedStream(&in) || !in.ConsumedEntireMessage())
    throw bad_input("the bytes are no ONNX model").expected("an ONNX file (a protobuf message)");
  if (owned) std::string().swap(*owned);
  File file{{limits, folder, absent}, limits, 1, {}};
  Reader r{file, nullptr, 0, {}, {}, {}, {}, {}};
  r.model(model);
  std::string names;
  for (const std::string& f : file.tensors.invented) names += (names.empty() ? "" : ", ") + f;
  if (!names.empty()) r.g.metadata["onnx.invented"] = names;
  return std::move(r.g);
}

}  // namespace

Tensor parse_onnx_tensor(std::string_view bytes, const Limits& limits) {
  count_before_parsing(bytes, true, limits);
  onnx::TensorProto p;
  if (!p.ParseFromArray(bytes.data(), static_cast<int>(bytes.size()))) throw bad_input("the bytes are no ONNX tensor").expected("a TensorProto message");
  return TensorReader{limits, nullptr, Absent::refuse}.tensor(p, "the tensor");
}

Graph parse_onnx(std::string_view bytes, const Limits& limits) { return import(bytes, limits, nullptr, Absent::refuse); }

Graph read_onnx(const std::filesystem::path& path, const Limits& limits, Absent absent) {
  std::string bytes = read_file(path, limits);
  const std::filesystem::path folder = path.parent_path();
  try {
    return import(bytes, limits, &folder, absent, &bytes);
  } catch (Error& e) {
    e.at(path.string() + (e.where().empty() ? "" : ": " + e.where()));
    throw;
  }
}

}  // namespace tandem::ir
