// Local functions: every call is replaced by the nodes of the function.
#include <google/protobuf/unknown_field_set.h>

#include "tandem/ir/onnx_private.h"

namespace tandem::ir::onnx_file {
namespace {

using Names = std::unordered_map<std::string, std::string>;
using Key = std::pair<std::string, std::string>;

std::string domain_of(const std::string& d) { return d == "ai.onnx" ? "" : d; }

struct Function {
  const onnx::FunctionProto* proto;
  std::map<std::string, onnx::AttributeProto> defaults;
  std::int64_t opset = 0;  // of the standard operators; 0: the model's
};

// The defaults of attributes came into the format later than the messages that we parse with: field 11.
std::map<std::string, onnx::AttributeProto> defaults_of(const onnx::FunctionProto& f) {
  std::map<std::string, onnx::AttributeProto> r;
  const auto& more = f.unknown_fields();
  for (int i = 0; i < more.field_count(); ++i) {
    if (more.field(i).number() != 11 || more.field(i).type() != google::protobuf::UnknownField::TYPE_LENGTH_DELIMITED) continue;
    onnx::AttributeProto a;
    if (!a.ParseFromString(more.field(i).length_delimited())) throw bad_input("the function '{}' has damaged attributes", printable(f.name()));
    r[a.name()] = a;
  }
  return r;
}

struct Inliner {
  onnx::ModelProto& m;
  const Limits& limits;
  NodeOpsets& opsets;
  std::int64_t model_opset;
  std::map<Key, Function> functions;
  std::unordered_set<std::string> used;
  std::uint64_t nodes = 0, memory = 0;

  void collect(const onnx::GraphProto& g) {
    for (const auto& v : g.input()) used.insert(v.name());
    for (const auto& t : g.initializer()) used.insert(t.name());
    for (const auto& n : g.node()) {
      for (const auto& s : n.input()) used.insert(s);
      for (const auto& s : n.output()) used.insert(s);
      for (const auto& a : n.attribute())
        if (a.has_g()) collect(a.g());
    }
  }
  std::string fresh(const std::string& base) {
    std::string s = base;
    for (std::int64_t k = 1; !used.insert(s).second; ++k) s = fmt::format("{}_{}", base, k);
    return s;
  }

  void spend(const onnx::NodeProto& n) {
    memory += 160 + 2 * n.ByteSizeLong();
    if (++nodes > limits.nodes) throw Error(Exit::limit, fmt::format("the model has more than {} nodes once its functions are inlined", limits.nodes));
    if (memory > limits.memory_bytes) throw Error(Exit::limit, fmt::format("the model takes more than {} MiB once its functions are inlined", limits.memory_bytes >> 20)).fix("raise --memory");
  }

  // Every name that a sub-graph defines is new as well: a function may be called twice.
  void rename(onnx::GraphProto& g, Names names, const std::string& prefix, const onnx::NodeProto& call, const Function& f) {
    const auto define = [&](const std::string& s) { names[s] = fresh(prefix + s); };
    for (const auto& v : g.input()) define(v.name());
    for (const auto& t : g.initializer())
      if (std::none_of(g.input().begin(), g.input().end(), [&](const auto& v) { return v.name() == t.name(); })) define(t.name());
    for (const auto& n : g.node())
      for (const auto& o : n.output())
        if (!o.empty()) define(o);
    const auto renamed = [&](const std::string& s) {
      const auto it = names.find(s);
      return it == names.end() ? s : it->second;
    };
    for (auto& v : *g.mutable_input()) v.set_name(renamed(v.name()));
    for (auto& t : *g.mutable_initializer()) t.set_name(renamed(t.name()));
    for (auto& v : *g.mutable_value_info()) v.set_name(renamed(v.name()));
    for (auto& v : *g.mutable_output()) v.set_name(renamed(v.name()));
    for (auto& q : *g.mutable_quantization_annotation()) q.set_tensor_name(renamed(q.tensor_name()));
    for (auto& n : *g.mutable_node()) rename(n, names, prefix, call, f);
  }
  void rename(onnx::NodeProto& n, const Names& names, const std::string& prefix, const onnx::NodeProto& call, const Function& f) {
    const auto renamed = [&](const std::string& s) {
      if (s.empty()) return s;
      const auto it = names.find(s);
      if (it == names.end()) throw bad_input("the function '{}' reads '{}', which it does not make", printable(f.proto->name()), printable(s)).at(fmt::format("its node '{}' ({})", printable(n.name()), printable(n.op_type())));
      return it->second;
    };
    for (auto& s : *n.mutable_input()) s = renamed(s);
    for (auto& s : *n.mutable_output()) s = renamed(s);
    if (!n.name().empty()) n.set_name(prefix + n.name());
    if (f.opset && f.opset != model_opset && domain_of(n.domain()).empty())
      for (const auto& s : n.output())
        if (!s.empty()) opsets[s] = f.opset;
    for (int i = 0; i < n.attribute_size();) {
      onnx::AttributeProto& a = *n.mutable_attribute(i);
      if (!a.ref_attr_name().empty()) {
        const std::string name = a.name();
        const auto given = std::find_if(call.attribute().begin(), call.attribute().end(), [&](const auto& c) { return c.name() == a.ref_attr_name(); });
        const auto fallback = f.defaults.find(a.ref_attr_name());
        if (given == call.attribute().end() && fallback == f.defaults.end()) {
          n.mutable_attribute()->DeleteSubrange(i, 1);
          continue;
        }
        const onnx::AttributeProto value = given != call.attribute().end() ? *given : fallback->second;
        a = value;
        a.set_name(name);
      } else if (a.has_g()) {
        rename(*a.mutable_g(), names, prefix, call, f);
      }
      ++i;
    }
  }

  void call(const onnx::NodeProto& n, const Key& key, std::vector<Key>& stack, google::protobuf::RepeatedPtrField<onnx::NodeProto>& to) {
    const Function& f = functions.at(key);
    const std::string where = fmt::format("node '{}' ({})", printable(n.name()), printable(n.op_type()));
    if (std::find(stack.begin(), stack.end(), key) != stack.end()) throw bad_input("the function '{}' calls itself", printable(f.proto->name())).at(where).expected("functions that can be inlined");
    if (stack.size() >= kMostNested) throw bad_input("functions call each other more than {} deep", kMostNested).at(where);
    if (n.input_size() > f.proto->input_size() || n.output_size() > f.proto->output_size())
      throw bad_input("a call with {} inputs and {} outputs", n.input_size(), n.output_size()).at(where).expected(fmt::format("at most {} and {}, as the function has", f.proto->input_size(), f.proto->output_size()));
    const std::string prefix = (n.name().empty() ? f.proto->name() : n.name()) + "/";
    Names names;
    for (int i = 0; i < f.proto->input_size(); ++i) names[f.proto->input(i)] = i < n.input_size() ? n.input(i) : "";
    std::vector<std::pair<std::string, std::string>> same;  // outputs that need an Identity: from, to
    std::unordered_set<std::string> made;
    for (int i = 0; i < f.proto->output_size(); ++i) {
      const std::string& o = f.proto->output(i);
      const std::string to_name = i < n.output_size() && !n.output(i).empty() ? n.output(i) : "";
      if (names.count(o)) {
        if (!to_name.empty()) same.emplace_back(names[o], to_name);
      } else {
        names[o] = to_name.empty() ? fresh(prefix + o) : to_name;
      }
    }
    for (const auto& x : f.proto->node())
      for (const auto& o : x.output())
        if (!o.empty()) made.insert(o), names.emplace(o, "");
    for (const std::string& o : f.proto->output())
      if (!made.count(o) && std::find(f.proto->input().begin(), f.proto->input().end(), o) == f.proto->input().end())
        throw bad_input("the output '{}' of the function '{}' comes from nowhere", printable(o), printable(f.proto->name())).at(where);
    for (const auto& x : f.proto->node())
      for (const auto& o : x.output())
        if (!o.empty() && names[o].empty() && std::find(f.proto->input().begin(), f.proto->input().end(), o) == f.proto->input().end()) names[o] = fresh(prefix + o);
    stack.push_back(key);
    for (const auto& x : f.proto->node()) {
      onnx::NodeProto copy = x;
      spend(copy);
      rename(copy, names, prefix, n, f);
      place(std::move(copy), stack, to);
    }
    stack.pop_back();
    for (const auto& [from, at] : same) {
      onnx::NodeProto& id = *to.Add();
      id.set_op_type("Identity");
      id.add_input(from);
      id.add_output(at);
    }
  }
  void place(onnx::NodeProto&& n, std::vector<Key>& stack, google::protobuf::RepeatedPtrField<onnx::NodeProto>& to) {
    for (auto& a : *n.mutable_attribute())
      if (a.has_g()) graph(*a.mutable_g(), stack);
    const Key key{domain_of(n.domain()), n.op_type()};
    if (functions.count(key)) call(n, key, stack, to);
    else *to.Add() = std::move(n);
  }
  void graph(onnx::GraphProto& g, std::vector<Key>& stack) {
    google::protobuf::RepeatedPtrField<onnx::NodeProto> before;
    before.Swap(g.mutable_node());
    for (auto& n : before) place(std::move(n), stack, *g.mutable_node());
  }
};

}  // namespace

void inline_functions(onnx::ModelProto& m, std::int64_t opset, const Limits& limits, NodeOpsets& opsets) {
  if (!m.functions_size()) return;
  Inliner i{m, limits, opsets, opset, {}, {}, 0, 0};
  for (const auto& f : m.functions()) {
    checked_name(f.name(), "function name", limits);
    Function x{&f, defaults_of(f), 0};
    for (const auto& o : f.opset_import())
      if (domain_of(o.domain()).empty()) x.opset = o.version();
    if (!i.functions.emplace(Key{domain_of(f.domain()), f.name()}, std::move(x)).second)
      throw bad_input("two functions are called '{}'", printable(f.name())).expected("one definition per domain and name");
  }
  i.collect(m.graph());
  std::vector<Key> stack;
  i.graph(*m.mutable_graph(), stack);
  m.clear_functions();
}

}  // namespace tandem::ir::onnx_file
