#include "tandem/ir/graph.h"

#include <charconv>
#include <queue>

#include "tandem/ir/bind.h"
#include "tandem/ir/op.h"

namespace tandem::ir {
namespace {

// "base", or "base_<k>" with the smallest k above every suffix in use: one pass over the names.
template <class Names>
std::string free_name(std::string_view base, const Names& for_each_name) {
  bool taken = false;
  std::int64_t largest = 0;
  for_each_name([&](const std::string& n) {
    if (n.size() < base.size() || n.compare(0, base.size(), base) != 0) return;
    if (n.size() == base.size()) { taken = true; return; }
    if (n[base.size()] != '_') return;
    std::int64_t k = 0;
    const char* end = n.data() + n.size();
    const auto r = std::from_chars(n.data() + base.size() + 1, end, k);
    if (r.ec == std::errc() && r.ptr == end && k < (std::int64_t(1) << 60)) largest = std::max(largest, k);
  });
  return taken ? fmt::format("{}_{}", base, largest + 1) : std::string(base);
}

const Attribute* find_attr(const Node& n, std::string_view key) {
  const auto it = n.attrs.find(std::string(key));
  return it == n.attrs.end() ? nullptr : &it->second;
}

[[noreturn]] void wrong_type(const Node& n, std::string_view key, const char* expected) {
  throw bad_input("attribute '{}' has the wrong type", key)
      .at(fmt::format("node '{}' ({})", n.name, n.op))
      .expected(expected);
}

}  // namespace

Dims dims_of(const Shape& s) { return Dims(s.begin(), s.end()); }

bool all_known(const Dims& d) {
  return std::all_of(d.begin(), d.end(), [](const Dim& x) { return x.known(); });
}

std::string to_string(const Dims& d) {
  std::string s = "[";
  for (std::size_t i = 0; i < d.size(); ++i) {
    if (i) s += ", ";
    s += d[i].known() ? fmt::format("{}", d[i].n) : d[i].symbol.empty() ? std::string("?") : d[i].symbol;
  }
  return s + "]";
}

std::int64_t Node::attr_int(std::string_view key, std::int64_t fallback) const {
  const Attribute* a = find_attr(*this, key);
  if (!a) return fallback;
  if (const auto* v = std::get_if<std::int64_t>(a)) return *v;
  wrong_type(*this, key, "an integer");
}

double Node::attr_float(std::string_view key, double fallback) const {
  const Attribute* a = find_attr(*this, key);
  if (!a) return fallback;
  if (const auto* v = std::get_if<double>(a)) return *v;
  if (const auto* v = std::get_if<std::int64_t>(a)) return static_cast<double>(*v);
  wrong_type(*this, key, "a number");
}

std::string Node::attr_string(std::string_view key, std::string_view fallback) const {
  const Attribute* a = find_attr(*this, key);
  if (!a) return std::string(fallback);
  if (const auto* v = std::get_if<std::string>(a)) return *v;
  wrong_type(*this, key, "a string");
}

std::vector<std::int64_t> Node::attr_ints(std::string_view key, std::vector<std::int64_t> fallback) const {
  const Attribute* a = find_attr(*this, key);
  if (!a) return fallback;
  if (const auto* v = std::get_if<std::vector<std::int64_t>>(a)) return *v;
  wrong_type(*this, key, "a list of integers");
}

const Graph& Node::attr_graph(std::string_view key) const {
  const Attribute* a = find_attr(*this, key);
  const auto* v = a ? std::get_if<GraphPtr>(a) : nullptr;
  if (!v || !*v) wrong_type(*this, key, "a sub-graph");
  return **v;
}

ValueId Graph::add_value(std::string n, TensorType type) {
  Value v;
  v.name = unique_name(n.empty() ? "value" : n);
  v.type = std::move(type);
  values.push_back(std::move(v));
  return static_cast<ValueId>(values.size() - 1);
}

ValueId Graph::add_input(std::string n, DType dtype, Dims dims) {
  const ValueId v = add_value(std::move(n), TensorType{dtype, std::move(dims)});
  inputs.push_back(v);
  return v;
}

ValueId Graph::add_constant(std::string n, Tensor t) {
  const ValueId v = add_value(std::move(n), TensorType{t.dtype(), dims_of(t.shape())});
  initialisers.emplace(v, std::move(t));
  return v;
}

ValueId Graph::add_node(std::string op, std::vector<ValueId> in, std::map<std::string, Attribute> attrs, std::string n,
                        std::string domain) {
  Node node;
  if (!n.empty())
    node.name = free_name(n, [&](auto&& f) { for (const Node& m : nodes) f(m.name); });
  const ValueId out = add_value(n.empty() ? op : n);
  node.op = std::move(op);
  node.domain = std::move(domain);
  node.inputs = std::move(in);
  node.outputs = {out};
  node.attrs = std::move(attrs);
  nodes.push_back(std::move(node));
  return out;
}

std::string Graph::unique_name(std::string_view base) const {
  return free_name(base, [&](auto&& f) { for (const Value& v : values) f(v.name); });
}

ValueId Graph::find(std::string_view n) const {
  for (std::size_t i = 0; i < values.size(); ++i)
    if (values[i].name == n) return static_cast<ValueId>(i);
  return kNone;
}

const Tensor* Graph::constant(ValueId v) const {
  const auto it = initialisers.find(v);
  return it == initialisers.end() ? nullptr : &it->second;
}

int Graph::producer(ValueId v) const {
  if (v == kNone) return -1;
  for (std::size_t i = 0; i < nodes.size(); ++i)
    for (ValueId o : nodes[i].outputs)
      if (o == v) return static_cast<int>(i);
  return -1;
}

std::vector<int> Graph::consumers(ValueId v) const {
  std::vector<int> r;
  if (v == kNone) return r;
  for (std::size_t i = 0; i < nodes.size(); ++i)
    if (std::find(nodes[i].inputs.begin(), nodes[i].inputs.end(), v) != nodes[i].inputs.end())
      r.push_back(static_cast<int>(i));
  return r;
}

std::string Graph::describe(const Node& n) const {
  if (!n.name.empty()) return fmt::format("node '{}' ({})", n.name, n.op);
  for (ValueId o : n.outputs)
    if (o >= 0 && static_cast<std::size_t>(o) < values.size())
      return fmt::format("{} node of value '{}'", n.op, values[static_cast<std::size_t>(o)].name);
  return fmt::format("{} node", n.op);
}

UseMap::UseMap(const Graph& g) : producer(g.values.size(), -1), users(g.values.size()) {
  for (std::size_t i = 0; i < g.nodes.size(); ++i) {
    for (ValueId o : g.nodes[i].outputs)
      if (o != kNone) producer[static_cast<std::size_t>(o)] = static_cast<int>(i);
    for (ValueId v : g.nodes[i].inputs) {
      if (v == kNone) continue;
      std::vector<int>& u = users[static_cast<std::size_t>(v)];
      if (u.empty() || u.back() != static_cast<int>(i)) u.push_back(static_cast<int>(i));
    }
  }
}

namespace {
template <class F>
void change_subgraphs(Graph& g, F change) {
  for (Node& n : g.nodes)
    for (auto& [key, a] : n.attrs)
      if (auto* sub = std::get_if<GraphPtr>(&a)) {
        Graph copy = **sub;
        change(copy);
        *sub = std::make_shared<const Graph>(std::move(copy));
      }
}
void bind_inside(Graph& g, const std::map<std::string, std::int64_t>& symbols) {
  for (Value& v : g.values)
    if (v.type.dims)
      for (Dim& d : *v.type.dims)
        if (const auto it = symbols.find(d.symbol); !d.known() && it != symbols.end()) d = Dim(it->second);
  change_subgraphs(g, [&](Graph& sub) { bind_inside(sub, symbols); });
}
}  // namespace

Graph bind(const Graph& g, const std::map<std::string, std::int64_t>& symbols) {
  for (const auto& [name, n] : symbols)
    if (n < 0) throw bad_input("the extent '{}' is {}", name, n).expected("a number of at least 0");
  Graph r = g;
  const auto put = [&](Dim& d) {
    if (d.known() || d.symbol.empty()) return;
    if (const auto it = symbols.find(d.symbol); it != symbols.end()) d = Dim(it->second);
  };
  std::vector<bool> given(r.values.size(), false);
  for (ValueId v : r.inputs) given[static_cast<std::size_t>(v)] = true;
  for (const auto& [v, t] : r.initialisers) given[static_cast<std::size_t>(v)] = true;
  for (std::size_t i = 0; i < r.values.size(); ++i) {
    std::optional<Dims>& dims = r.values[i].type.dims;
    if (!dims) continue;
    for (Dim& d : *dims) {
      put(d);
      // Between nodes a symbol says nothing that inference does not find again, now as a number.
      if (!given[i] && !d.known()) d = Dim();
    }
  }
  change_subgraphs(r, [&](Graph& sub) { bind_inside(sub, symbols); });
  infer_shapes(r);
  return r;
}

Graph bind_inputs(const Graph& g, const std::map<std::string, Shape>& shapes) {
  Graph r = g;
  std::map<std::string, std::int64_t> symbols;
  std::map<std::string, std::string> set_by;
  for (const auto& [name, shape] : shapes) {
    const ValueId v = g.find(name);
    if (std::find(g.inputs.begin(), g.inputs.end(), v) == g.inputs.end() || v == kNone) continue;
    std::optional<Dims>& dims = r.values[static_cast<std::size_t>(v)].type.dims;
    const auto refuse = [&](const std::string& why) {
      throw bad_input("the data do not fit the input '{}': {}", name, why)
          .expected(fmt::format("{}, got {}", to_string(*g.values[static_cast<std::size_t>(v)].type.dims), to_string(shape)));
    };
    if (!dims) { dims = dims_of(shape); continue; }
    if (dims->size() != shape.size()) refuse(fmt::format("rank {} instead of {}", shape.size(), dims->size()));
    for (std::size_t i = 0; i < shape.size(); ++i) {
      Dim& d = (*dims)[i];
      if (d.known()) {
        if (d.n != shape[i]) refuse(fmt::format("axis {} is {} instead of {}", i, shape[i], d.n));
      } else if (d.symbol.empty()) {
        d = Dim(shape[i]);
      } else if (const auto [it, fresh] = symbols.emplace(d.symbol, shape[i]); fresh) {
        set_by[d.symbol] = name;
      } else if (it->second != shape[i]) {
        refuse(fmt::format("axis {} is {}, but '{}' is {} in the input '{}'", i, shape[i], d.symbol, it->second,
                           set_by[d.symbol]));
      }
    }
  }
  const std::map<std::string, Bound> bounds = bounds_of(g);
  for (const auto& [s, n] : symbols)
    if (const auto b = bounds.find(s); b != bounds.end() && n > b->second.most)
      throw bad_input("the data do not fit the input '{}': '{}' is {}", set_by[s], s, n).expected(fmt::format("at most {}, as the model is bounded", b->second.most)).fix(fmt::format("--dim '{}<={}'", s, n));
  return ir::bind(r, symbols);  // not std::bind
}

void sort_nodes(Graph& g) {
  const UseMap uses(g);
  const std::size_t n = g.nodes.size();
  const auto is_delay = [&](std::size_t i) { return g.nodes[i].op == "Delay"; };
  std::vector<int> waits(n, 0);
  for (std::size_t i = 0; i < n; ++i) {
    if (is_delay(i)) continue;
    std::vector<int> from;
    for (ValueId v : g.nodes[i].inputs)
      if (v != kNone && uses.producer[static_cast<std::size_t>(v)] >= 0) from.push_back(uses.producer[static_cast<std::size_t>(v)]);
    std::sort(from.begin(), from.end());
    waits[i] = static_cast<int>(std::unique(from.begin(), from.end()) - from.begin());
  }
  // Smallest index first: a sorted graph stays as it is.
  std::priority_queue<int, std::vector<int>, std::greater<>> ready;
  for (std::size_t i = 0; i < n; ++i)
    if (waits[i] == 0) ready.push(static_cast<int>(i));
  std::vector<int> order;
  order.reserve(n);
  while (!ready.empty()) {
    const int i = ready.top();
    ready.pop();
    order.push_back(i);
    std::vector<int> after;
    for (ValueId o : g.nodes[static_cast<std::size_t>(i)].outputs)
      if (o != kNone)
        for (int u : uses.users[static_cast<std::size_t>(o)]) after.push_back(u);
    std::sort(after.begin(), after.end());
    after.erase(std::unique(after.begin(), after.end()), after.end());
    for (int u : after)
      if (!is_delay(static_cast<std::size_t>(u)) && --waits[static_cast<std::size_t>(u)] == 0) ready.push(u);
  }
  if (order.size() < n) {
    // Every waiting node has a waiting producer: walking back from one of them ends in a cycle.
    std::size_t at = 0;
    while (waits[at] == 0) ++at;
    std::vector<int> seen(n, -1), path;
    while (seen[at] < 0) {
      seen[at] = static_cast<int>(path.size());
      path.push_back(static_cast<int>(at));
      for (ValueId v : g.nodes[at].inputs) {
        const int p = v == kNone ? -1 : uses.producer[static_cast<std::size_t>(v)];
        if (p >= 0 && waits[static_cast<std::size_t>(p)] > 0) { at = static_cast<std::size_t>(p); break; }
      }
    }
    std::string names;
    const std::size_t first = static_cast<std::size_t>(seen[at]);
    for (std::size_t k = path.size(); k-- > first;) {
      if (path.size() - k > 6) { names += " -> ..."; break; }
      names += (names.empty() ? "" : " -> ") + g.describe(g.nodes[static_cast<std::size_t>(path[k])]);
    }
    throw bad_input("the graph has a cycle without a Delay: {}", names)
        .at(g.describe(g.nodes[at]))
        .expected("every cycle passes a Delay")
        .fix("cut the cycle with a Delay, or correct the input that closes it");
  }
  std::vector<Node> sorted;
  sorted.reserve(n);
  for (int i : order) sorted.push_back(std::move(g.nodes[static_cast<std::size_t>(i)]));
  g.nodes = std::move(sorted);
}

void remove_dead(Graph& g) {
  const UseMap uses(g);
  std::vector<bool> alive(g.nodes.size(), false), read(g.values.size(), false);
  std::vector<ValueId> work(g.outputs.begin(), g.outputs.end());
  while (!work.empty()) {
    const ValueId v = work.back();
    work.pop_back();
    if (v == kNone || read[static_cast<std::size_t>(v)]) continue;
    read[static_cast<std::size_t>(v)] = true;
    const int p = uses.producer[static_cast<std::size_t>(v)];
    if (p < 0 || alive[static_cast<std::size_t>(p)]) continue;
    alive[static_cast<std::size_t>(p)] = true;
    const std::vector<ValueId>& in = g.nodes[static_cast<std::size_t>(p)].inputs;
    work.insert(work.end(), in.begin(), in.end());
  }
  std::size_t k = 0;
  for (std::size_t i = 0; i < g.nodes.size(); ++i)
    if (alive[i]) {
      if (k != i) g.nodes[k] = std::move(g.nodes[i]);
      ++k;
    }
  g.nodes.resize(k);
  std::erase_if(g.initialisers, [&](const auto& e) { return !read[static_cast<std::size_t>(e.first)]; });
  change_subgraphs(g, remove_dead);
}

void compact_values(Graph& g) {
  std::vector<bool> used(g.values.size(), false);
  const auto mark = [&](const std::vector<ValueId>& vs) {
    for (ValueId v : vs)
      if (v != kNone) used[static_cast<std::size_t>(v)] = true;
  };
  mark(g.inputs);
  mark(g.outputs);
  for (const Node& n : g.nodes) mark(n.inputs), mark(n.outputs);
  for (const auto& [v, t] : g.initialisers) used[static_cast<std::size_t>(v)] = true;
  std::vector<ValueId> to(g.values.size(), kNone);
  std::vector<Value> kept;
  for (std::size_t i = 0; i < g.values.size(); ++i)
    if (used[i]) {
      to[i] = static_cast<ValueId>(kept.size());
      kept.push_back(std::move(g.values[i]));
    }
  g.values = std::move(kept);
  const auto move = [&](std::vector<ValueId>& vs) {
    for (ValueId& v : vs)
      if (v != kNone) v = to[static_cast<std::size_t>(v)];
  };
  move(g.inputs);
  move(g.outputs);
  for (Node& n : g.nodes) move(n.inputs), move(n.outputs);
  std::map<ValueId, Tensor> init;
  for (auto& [v, t] : g.initialisers) init.emplace(to[static_cast<std::size_t>(v)], std::move(t));
  g.initialisers = std::move(init);
}

}  // namespace tandem::ir
