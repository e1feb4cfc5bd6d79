#include <unordered_set>

#include "tandem/base/nearest.h"
#include "tandem/ir/op.h"

namespace tandem::ir {
namespace {

std::string count_of(const std::vector<PortDef>& ports) {
  std::size_t least = 0;
  for (const PortDef& p : ports)
    if (!p.optional && !p.variadic) ++least;
  if (!ports.empty() && ports.back().variadic) return fmt::format("at least {}", std::max<std::size_t>(least, 1));
  if (least == ports.size()) return fmt::format("{}", least);
  return fmt::format("{} to {}", least, ports.size());
}

void check_ports(const Graph& g, const Node& n, const std::vector<PortDef>& ports, const std::vector<ValueId>& given,
                 const char* what) {
  const bool variadic = !ports.empty() && ports.back().variadic;
  const auto names = [&] {
    std::string s;
    for (const PortDef& p : ports) s += fmt::format("{}{}{}", s.empty() ? "" : ", ", p.name, p.optional ? "?" : p.variadic ? "..." : "");
    return s;
  };
  if (!variadic && given.size() > ports.size())
    throw bad_input("{} {} given", given.size(), what).at(g.describe(n)).expected(fmt::format("{} ({})", count_of(ports), names()));
  if (variadic && given.size() + (ports.back().optional ? 1 : 0) < ports.size())
    throw bad_input("{} {} given", given.size(), what).at(g.describe(n)).expected(fmt::format("{} ({})", count_of(ports), names()));
  for (std::size_t i = 0; i < std::max(given.size(), ports.size()); ++i) {
    const PortDef& p = i < ports.size() ? ports[i] : ports.back();
    if ((i >= given.size() || given[i] == kNone) && !p.optional)
      throw bad_input("{} '{}' is missing", what[0] == 'i' ? "input" : "output", p.name)
          .at(g.describe(n))
          .expected(fmt::format("{} {} ({})", count_of(ports), what, names()));
  }
}

std::string_view type_name(const Attribute& a) {
  static constexpr std::string_view names[] = {"an integer", "a number", "a string", "a list of integers",
                                               "a list of numbers", "a list of strings", "a tensor", "a sub-graph"};
  return names[a.index()];
}

std::string_view type_name(AttrType t) {
  switch (t) {
    case AttrType::integer: return "an integer";
    case AttrType::real: return "a number";
    case AttrType::string: return "a string";
    case AttrType::integers: return "a list of integers";
    case AttrType::reals: return "a list of numbers";
    case AttrType::strings: return "a list of strings";
    case AttrType::tensor: return "a tensor";
    case AttrType::graph: return "a sub-graph";
  }
  return "";
}

void check_attributes(const Graph& g, const Node& n, const OpDef& def) {
  for (const auto& [key, value] : n.attrs) {
    const AttrDef* found = nullptr;
    std::vector<std::string> known;
    for (const AttrDef& a : def.attributes) {
      known.emplace_back(a.name);
      if (a.name == key) found = &a;
    }
    if (!found) throw bad_input("unknown attribute '{}'", key).at(g.describe(n)).fix(suggest(key, known));
    if (type_name(found->type) != type_name(value))
      throw bad_input("attribute '{}' is {}", key, type_name(value)).at(g.describe(n)).expected(std::string(type_name(found->type)));
  }
  for (const AttrDef& a : def.attributes)
    if (a.fallback == "required" && !n.has_attr(a.name))
      throw bad_input("attribute '{}' is missing", a.name).at(g.describe(n)).expected(fmt::format("{}: {}", type_name(a.type), a.doc));
}

void check_id(const Graph& g, ValueId v, std::string_view where) {
  if (v < 0 || static_cast<std::size_t>(v) >= g.values.size())
    throw bad_input("value number {} does not exist", v).at(std::string(where)).expected(fmt::format("0 to {}", g.values.size()));
}

// `check` on the sub-graphs of g, with the node named before what it finds.
template <class F>
void inside(const Graph& g, F check) {
  for (const Node& n : g.nodes)
    for (const auto& [key, a] : n.attrs)
      if (const auto* sub = std::get_if<GraphPtr>(&a)) {
        if (!*sub) throw bad_input("the sub-graph '{}' is missing", key).at(g.describe(n));
        const std::int64_t captured = n.attr_int("captured", 0);
        const auto own = static_cast<std::int64_t>(std::min((*sub)->inputs.size(), n.inputs.size()));
        if (captured < 0 || captured > own)
          throw bad_input("{} captured values with {} inputs of the sub-graph '{}' and {} of the node", captured, (*sub)->inputs.size(), key, n.inputs.size()).at(g.describe(n));
        for (std::size_t i = n.inputs.size() - static_cast<std::size_t>(captured); i < n.inputs.size(); ++i)
          if (n.inputs[i] == kNone) throw bad_input("a captured value is missing").at(g.describe(n));
        try {
          check(**sub);
        } catch (Error& e) {
          e.at(g.describe(n) + (e.where().empty() ? "" : ": " + e.where()));
          throw;
        }
      }
}

void verify_structure_at(const Graph& g, int depth);

}  // namespace

void verify_structure(const Graph& g) { verify_structure_at(g, 0); }

namespace {
void verify_structure_at(const Graph& g, int depth) {
  if (depth > 0)
    for (const Node& n : g.nodes)
      if (n.op == "Delay" && n.domain == "tandem") throw bad_input("a Delay within a sub-graph").at(g.describe(n)).expected("state in the outer graph only");
  if (depth > kMostNested) throw bad_input("sub-graphs are nested more than {} deep", kMostNested).at(fmt::format("graph '{}'", g.name));
  std::unordered_set<std::string_view> names;
  for (const Value& v : g.values) {
    if (v.name.empty()) throw bad_input("a value has no name").at(fmt::format("graph '{}'", g.name));
    if (!names.insert(v.name).second)
      throw bad_input("two values are called '{}'", v.name).at(fmt::format("graph '{}'", g.name)).expected("names used once");
  }
  std::unordered_set<std::string_view> node_names;
  for (const Node& n : g.nodes) {
    if (n.op.empty()) throw bad_input("a node names no operator").at(g.describe(n));
    if (!n.name.empty() && !node_names.insert(n.name).second)
      throw bad_input("two nodes are called '{}'", n.name).at(g.describe(n)).expected("names used once");
  }

  // 0: nobody, 1: an input or initialiser, 2: a node
  std::vector<char> made(g.values.size(), 0);
  for (ValueId v : g.inputs) {
    check_id(g, v, "graph inputs");
    if (made[static_cast<std::size_t>(v)])
      throw bad_input("the graph input '{}' is listed twice", g.values[static_cast<std::size_t>(v)].name);
    made[static_cast<std::size_t>(v)] = 1;
  }
  for (const auto& [v, t] : g.initialisers) {
    check_id(g, v, "initialisers");
    const Value& value = g.values[static_cast<std::size_t>(v)];
    if (made[static_cast<std::size_t>(v)])
      throw bad_input("'{}' is both an input and an initialiser", value.name).fix("list it only once");
    made[static_cast<std::size_t>(v)] = 1;
    if (t.dtype() != value.type.dtype)
      throw bad_input("the initialiser '{}' holds {}", value.name, to_string(t.dtype()))
          .expected(std::string(to_string(value.type.dtype)));
    bool same = !value.type.dims || value.type.dims->size() == t.shape().size();
    if (same && value.type.dims)
      for (std::size_t i = 0; i < t.shape().size(); ++i) {
        const Dim& d = (*value.type.dims)[i];
        same &= !d.known() || d.n == t.shape()[i];
      }
    if (!same)
      throw bad_input("the initialiser '{}' has the shape {}", value.name, to_string(t.shape())).expected(to_string(*value.type.dims));
  }
  for (const Node& n : g.nodes)
    for (ValueId o : n.outputs) {
      if (o == kNone) continue;
      check_id(g, o, g.describe(n));
      char& m = made[static_cast<std::size_t>(o)];
      const std::string& name = g.values[static_cast<std::size_t>(o)].name;
      if (m == 2) throw bad_input("the value '{}' has two producers", name).at(g.describe(n)).expected("one node writes a value");
      if (m == 1) throw bad_input("'{}' is an input or initialiser and cannot be written", name).at(g.describe(n));
      m = 2;
    }
  for (const Node& n : g.nodes)
    for (ValueId v : n.inputs) {
      if (v == kNone) continue;
      check_id(g, v, g.describe(n));
      if (!made[static_cast<std::size_t>(v)])
        throw bad_input("the input '{}' comes from nowhere", g.values[static_cast<std::size_t>(v)].name)
            .at(g.describe(n))
            .expected("a graph input, an initialiser or the output of a node");
    }
  for (ValueId v : g.outputs) {
    check_id(g, v, "graph outputs");
    if (!made[static_cast<std::size_t>(v)])
      throw bad_input("the graph output '{}' comes from nowhere", g.values[static_cast<std::size_t>(v)].name);
  }

  // Order: an input must be made before, except that of a Delay; else look whether it is a cycle.
  std::vector<char> ready(g.values.size(), 0);
  for (ValueId v : g.inputs) ready[static_cast<std::size_t>(v)] = 1;
  for (const auto& [v, t] : g.initialisers) ready[static_cast<std::size_t>(v)] = 1;
  for (const Node& n : g.nodes)
    if (n.op == "Delay")
      for (ValueId o : n.outputs)
        if (o != kNone) ready[static_cast<std::size_t>(o)] = 1;
  for (const Node& n : g.nodes) {
    if (n.op != "Delay")
      for (ValueId v : n.inputs)
        if (v != kNone && !ready[static_cast<std::size_t>(v)]) {
          Graph copy = g;
          sort_nodes(copy);  // throws on a cycle
          throw bad_input("'{}' is read before it is made", g.values[static_cast<std::size_t>(v)].name)
              .at(g.describe(n))
              .expected("nodes in topological order")
              .fix("call sort_nodes");
        }
    for (ValueId o : n.outputs)
      if (o != kNone) ready[static_cast<std::size_t>(o)] = 1;
  }
  inside(g, [&](const Graph& sub) { verify_structure_at(sub, depth + 1); });
}

void verify_operators(const Graph& g) {
  for (const Node& n : g.nodes) {
    const OpDef& def = op_of(g, n);
    check_ports(g, n, def.inputs, n.inputs, "inputs");
    check_ports(g, n, def.outputs, n.outputs, "outputs");
    check_attributes(g, n, def);
  }
  inside(g, verify_operators);
}

}  // namespace

void verify(const Graph& g) {
  verify_structure(g);
  verify_operators(g);
}

}  // namespace tandem::ir
