#include <charconv>
#include <limits>

#include "tandem/base/file.h"
#include "tandem/ir/onnx_private.h"

namespace tandem::ir {
using namespace onnx_file;
namespace {

void put(onnx::TensorProto& p, const Tensor& t) {
  p.set_data_type(static_cast<int>(onnx_number(t.dtype())));
  for (std::int64_t d : t.shape()) p.add_dims(d);
  p.set_raw_data(t.size() ? t.raw() : "", t.bytes());
}

void put(onnx::ValueInfoProto& p, const Value& v) {
  p.set_name(v.name);
  auto& t = *p.mutable_type()->mutable_tensor_type();
  t.set_elem_type(static_cast<int>(onnx_number(v.type.dtype)));
  if (!v.type.dims) return;
  auto& s = *t.mutable_shape();
  for (const Dim& d : *v.type.dims) {
    auto& x = *s.add_dim();
    if (d.known()) x.set_dim_value(d.n);
    else if (!d.symbol.empty()) x.set_dim_param(d.symbol);
  }
}

void put(onnx::AttributeProto& p, const std::string& key, const Attribute& a) {
  using A = onnx::AttributeProto;
  p.set_name(key);
  if (const auto* i = std::get_if<std::int64_t>(&a)) p.set_type(A::INT), p.set_i(*i);
  else if (const auto* f = std::get_if<double>(&a)) p.set_type(A::FLOAT), p.set_f(static_cast<float>(*f));
  else if (const auto* s = std::get_if<std::string>(&a)) p.set_type(A::STRING), p.set_s(*s);
  else if (const auto* t = std::get_if<Tensor>(&a)) p.set_type(A::TENSOR), put(*p.mutable_t(), *t);
  else if (const auto* is = std::get_if<std::vector<std::int64_t>>(&a)) {
    p.set_type(A::INTS);
    for (std::int64_t x : *is) p.add_ints(x);
  } else if (const auto* fs = std::get_if<std::vector<double>>(&a)) {
    p.set_type(A::FLOATS);
    for (double x : *fs) p.add_floats(static_cast<float>(x));
  } else if (const auto* ss = std::get_if<std::vector<std::string>>(&a)) {
    p.set_type(A::STRINGS);
    for (const std::string& x : *ss) p.add_strings(x);
  }
}

std::string unescaped(std::string_view s) {
  std::string r;
  for (std::size_t i = 0; i < s.size(); ++i) {
    unsigned c = 0;
    if (s[i] == '%' && i + 2 < s.size() && std::from_chars(s.data() + i + 1, s.data() + i + 3, c, 16).ptr == s.data() + i + 3) r += static_cast<char>(c), i += 2;
    else r += s[i];
  }
  return r;
}

// One graph of the file; the sub-graphs know the graphs around them.
struct Writer {
  const Graph& g;
  const Writer* outer;
  const Node* at;                  // the node whose attribute this graph is
  std::vector<std::string> names;  // as written: captured values bear the name that they have outside
  std::unordered_map<std::string_view, ValueId> by_name;  // without the captured ones

  Writer(const Graph& graph, const Writer* around, const Node* node) : g(graph), outer(around), at(node) {
    for (const Value& v : g.values) names.push_back(v.name);
    if (captures() > 0) rename();
    const std::unordered_set<ValueId> outside(g.inputs.end() - static_cast<std::ptrdiff_t>(captures()), g.inputs.end());
    for (std::size_t v = 0; v < names.size(); ++v)
      if (!outside.count(static_cast<ValueId>(v))) by_name.emplace(names[v], static_cast<ValueId>(v));
  }
  void rename() {
    const std::size_t captured = captures();
    std::unordered_set<std::string> taken;
    std::vector<bool> fixed(names.size(), false);
    for (std::size_t i = 0; i < captured; ++i) {
      const auto v = static_cast<std::size_t>(g.inputs[g.inputs.size() - captured + i]);
      names[v] = outer->name(at->inputs[at->inputs.size() - captured + i]);
      taken.insert(names[v]);
      fixed[v] = true;
    }
    for (std::size_t v = 0; v < names.size(); ++v) {
      if (fixed[v]) continue;
      const std::string base = names[v];
      for (std::int64_t k = 1; !taken.insert(names[v]).second; ++k) names[v] = fmt::format("{}_{}", base, k);
    }
  }
  std::size_t captures() const { return at ? static_cast<std::size_t>(at->attr_int("captured", 0)) : 0; }
  std::string name(ValueId v) const { return v == kNone ? std::string() : names[static_cast<std::size_t>(v)]; }
  // The initialiser of that name in the graphs around, where it is the nearest value of that name.
  const Tensor* around(const std::string& s) const {
    for (const Writer* w = outer; w; w = w->outer)
      if (const auto it = w->by_name.find(s); it != w->by_name.end()) return w->g.constant(it->second);
    return nullptr;
  }

  void put_value(onnx::ValueInfoProto& p, ValueId v) const {
    const TensorType& t = g.values[static_cast<std::size_t>(v)].type;
    if (!outer || t.dims || t.dtype != DType::f32) put(p, g.values[static_cast<std::size_t>(v)]);  // in a sub-graph a type may be left open
    p.set_name(name(v));
  }
  void write(onnx::GraphProto& p, const Limits& limits) const {
    for (const Value& v : g.values) checked_name(v.name, "name", limits);
    for (const Node& n : g.nodes) checked_name(n.name, "name", limits), checked_name(n.op, "operator", limits);
    p.set_name(g.name);
    std::unordered_set<ValueId> listed(g.outputs.begin(), g.outputs.end());
    const std::size_t own = g.inputs.size() - captures();
    for (std::size_t i = 0; i < g.inputs.size(); ++i) {
      if (i < own) put_value(*p.add_input(), g.inputs[i]);
      listed.insert(g.inputs[i]);
    }
    for (const auto& [v, t] : g.initialisers) {
      listed.insert(v);
      if (const Tensor* o = around(name(v)); o && (o->raw() == t.raw() || o->same(t)) && o->shape() == t.shape()) continue;
      auto& x = *p.add_initializer();
      x.set_name(name(v));
      put(x, t);
    }
    for (const Node& n : g.nodes) {
      auto& x = *p.add_node();
      x.set_name(n.name);
      x.set_op_type(n.op);
      x.set_domain(n.domain);
      const bool nested = std::any_of(n.attrs.begin(), n.attrs.end(), [](const auto& a) { return std::holds_alternative<GraphPtr>(a.second); });
      const std::size_t inputs = n.inputs.size() - (nested ? static_cast<std::size_t>(n.attr_int("captured", 0)) : 0);
      for (std::size_t i = 0; i < inputs; ++i) x.add_input(name(n.inputs[i]));
      for (ValueId v : n.outputs) {
        x.add_output(name(v));
        if (v == kNone || !listed.insert(v).second) continue;
        const Value& value = g.values[static_cast<std::size_t>(v)];
        if (value.type.dims || value.type.dtype != DType::f32) put_value(*p.add_value_info(), v);
      }
      for (const auto& [k, a] : n.attrs) {
        if (nested && k == "captured") continue;
        auto& to = *x.add_attribute();
        if (const auto* sub = std::get_if<GraphPtr>(&a)) {
          to.set_name(k);
          to.set_type(onnx::AttributeProto::GRAPH);
          Writer(**sub, this, &n).write(*to.mutable_g(), limits);
        } else {
          put(to, k, a);
        }
      }
    }
    for (ValueId v : g.outputs) put_value(*p.add_output(), v);
    for (std::size_t i = 0; i < g.values.size(); ++i) {
      const Value& v = g.values[i];
      if (v.quant.empty()) continue;
      auto& q = *p.add_quantization_annotation();
      q.set_tensor_name(names[i]);
      for (std::size_t k = 0; k <= v.quant.size();) {
        const std::size_t end = std::min(v.quant.find(';', k), v.quant.size());
        const std::string_view entry = std::string_view(v.quant).substr(k, end - k);
        const std::size_t eq = std::min(entry.find('='), entry.size());
        auto* e = q.add_quant_parameter_tensor_names();
        e->set_key(unescaped(entry.substr(0, eq)));
        e->set_value(unescaped(eq < entry.size() ? entry.substr(eq + 1) : std::string_view()));
        k = end + 1;
      }
    }
  }
};

// Domains and their versions.
void domains_of(const Graph& g, std::map<std::string, int>& to) {
  for (const Node& n : g.nodes) {
    if (!n.domain.empty()) to.emplace(n.domain, n.domain == "ai.onnx.ml" ? 3 : 1);
    if (n.domain == "ai.onnx.ml" && (n.op == "TreeEnsemble" || n.has_attr("keys_tensor"))) to[n.domain] = 5;
    if (n.domain == kQonnx && n.op == "Trunc" && n.inputs.size() > 5) to[n.domain] = 2;
    for (const auto& [k, a] : n.attrs)
      if (const auto* sub = std::get_if<GraphPtr>(&a)) domains_of(**sub, to);
  }
}

}  // namespace

std::string onnx_bytes(const Graph& g, int opset) {
  if (opset == 0) opset = std::min(least_opset(g), kNewest);
  if (opset < kOldest || opset > kNewest)
    throw bad_input("export to opset {}", opset).expected(fmt::format("{} to {}", kOldest, kNewest));
  verify_structure(g);
  onnx::ModelProto m;
  m.set_ir_version(8);
  m.set_producer_name("tandem");
  m.set_producer_version(TANDEM_VERSION);
  auto* standard = m.add_opset_import();
  standard->set_domain("");
  standard->set_version(opset);
  std::map<std::string, int> domains;
  domains_of(g, domains);
  for (const auto& [d, version] : domains) {
    auto* o = m.add_opset_import();
    o->set_domain(d);
    o->set_version(version);
  }
  for (const auto& [k, v] : g.metadata) {
    auto* e = m.add_metadata_props();
    e->set_key(k);
    e->set_value(v);
  }
  const Graph written = to_opset(g, opset);
  Writer(written, nullptr, nullptr).write(*m.mutable_graph(), Limits());
  if (m.ByteSizeLong() > static_cast<std::size_t>(std::numeric_limits<int>::max()))
    throw Error(Exit::limit, fmt::format("the model takes {} bytes; an ONNX file holds at most 2 GiB", m.ByteSizeLong()));
  std::string bytes;
  TANDEM_CHECK(m.SerializeToString(&bytes), "protobuf could not write the model");
  return bytes;
}

void write_onnx(const Graph& g, const std::filesystem::path& path, const OnnxOptions& options) {
  write_file(path, onnx_bytes(g, options.opset), options.overwrite);
}

}  // namespace tandem::ir
