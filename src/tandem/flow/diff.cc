#include "tandem/flow/diff.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <set>

#include "tandem/base/config.h"
#include "tandem/base/file.h"
#include "tandem/base/json.h"
#include "tandem/ir/bind.h"
#include "tandem/ir/dump.h"
#include "tandem/ir/kinds.h"
#include "tandem/ir/model_file.h"
#include "tandem/ir/onnx.h"
#include "tandem/ir/op.h"

namespace tandem::flow {
namespace {
using namespace ir;
namespace fs = std::filesystem;

std::size_t ix(ValueId v) { return static_cast<std::size_t>(v); }

// Keys of both in order: those of a first, then what only b has.
template <class T>
std::vector<std::string> all_keys(const std::vector<std::pair<std::string, T>>& a, const std::vector<std::pair<std::string, T>>& b) {
  std::vector<std::string> r;
  std::set<std::string> seen;
  for (const auto* l : {&a, &b})
    for (const auto& [k, v] : *l)
      if (seen.insert(k).second) r.push_back(k);
  return r;
}
// Tells what differs in two lists of named texts.
void compare(const std::string& kind, const std::vector<std::pair<std::string, std::string>>& a, const std::vector<std::pair<std::string, std::string>>& b,
             std::vector<Difference>& to) {
  const std::map<std::string, std::string> ma(a.begin(), a.end()), mb(b.begin(), b.end());
  for (const std::string& k : all_keys(a, b)) {
    const auto x = ma.find(k), y = mb.find(k);
    const std::string tx = x == ma.end() ? "" : x->second, ty = y == mb.end() ? "" : y->second;
    if (tx != ty) to.push_back({kind, k, tx, ty});
  }
}
using Named = std::vector<std::pair<std::string, std::string>>;

std::string names(const Graph& g, const std::vector<ValueId>& vs) {
  std::string r;
  for (ValueId v : vs) r += (r.empty() ? "" : ", ") + (v == kNone ? std::string("-") : g.values[ix(v)].name);
  return r;
}

// "17 of 64 elements, by at most 0.25", or what differs in type and shape.
Difference weights(const std::string& name, const Tensor* a, const Tensor* b) {
  const auto form = [](const Tensor* t) { return t ? fmt::format("{} {}", to_string(t->dtype()), to_string(t->shape())) : std::string(); };
  Difference d{"weights", name, form(a), form(b)};
  if (!a || !b || d.a != d.b) return d;
  std::int64_t count = 0;
  double most = 0;
  for (std::int64_t i = 0; i < a->size(); ++i) {
    const double x = a->at(i), y = b->at(i);
    if (x == y || (std::isnan(x) && std::isnan(y))) continue;
    ++count;
    if (const double e = std::abs(x - y); e > most) most = e;
  }
  d.b = count ? fmt::format("{} of {} elements differ, by at most {}", count, a->size(), most) : "the same values, other bits (zeros of either sign, NaN)";
  return d;
}

Named node_list(const Graph& g) {
  Named r;
  for (const Node& n : g.nodes) r.emplace_back(g.describe(n), fmt::format("({}) -> ({})", names(g, n.inputs), names(g, n.outputs)));
  return r;
}

struct Design {
  Named head, layers, metrics;
};
Design read_design(const fs::path& folder, const Limits& limits) {
  const fs::path file = folder / "build.json";
  if (!fs::exists(file)) throw bad_input("there is no build.json").at(folder.string()).expected("a folder written by `tandem build`").fix("tandem build MODEL --out " + folder.string());
  const Config c = Config::read(file, limits);
  if (!c.has("format") || c.required<std::string>("format") != "tandem.build") throw c.error("this is no document of `tandem build`");
  Design d;
  const auto text = [](const Config& x) -> std::string {
    if (x.is_null()) return "null";
    if (x.is_scalar()) return x.as<std::string>();
    std::string s;
    if (x.is_list())
      for (const Config& i : x.items()) s += (s.empty() ? "" : "; ") + (i.is_scalar() ? i.as<std::string>() : std::string("..."));
    return s;
  };
  static const std::set<std::string> kTimes{"generate_s", "verify_s", "synthesis_s"};
  for (const auto& [k, v] : c.entries())
    if (k != "layers" && k != "metrics" && !kTimes.count(k)) d.head.emplace_back(k, text(v));
  for (const Config& l : c.at("layers").items()) {
    const std::string name = l.required<std::string>("name");
    for (const auto& [k, v] : l.entries())
      if (k != "name") d.layers.emplace_back(name + "." + k, text(v));
  }
  for (const Config& m : c.at("metrics").items())
    d.metrics.emplace_back(fmt::format("{} ({})", m.required<std::string>("name"), m.optional_or<std::string>("fidelity", "")),
                           fmt::format("{} {}", text(m.at("value")), m.optional_or<std::string>("unit", "")));
  return d;
}

}  // namespace

DiffReport diff_models(const Graph& a, const Graph& b) {
  DiffReport r{"models", {}};
  auto& d = r.differences;
  const std::string first = first_difference(a, b);
  if (first.empty()) return r;
  compare("graph", {{"name", a.name}, {"inputs", names(a, a.inputs)}, {"outputs", names(a, a.outputs)}}, {{"name", b.name}, {"inputs", names(b, b.inputs)}, {"outputs", names(b, b.outputs)}}, d);
  compare("graph", node_list(a), node_list(b), d);
  std::map<std::string, const Node*> nodes;
  for (const Node& n : b.nodes) nodes[b.describe(n)] = &n;
  for (const Node& n : a.nodes) {
    const auto it = nodes.find(a.describe(n));
    if (it == nodes.end()) continue;
    Named x, y;
    for (const auto& [k, v] : n.attrs) x.emplace_back(a.describe(n) + " " + k, to_text(v));
    for (const auto& [k, v] : it->second->attrs) y.emplace_back(a.describe(n) + " " + k, to_text(v));
    compare("attribute", x, y, d);
  }
  // Shapes and formats, where both can be inferred.
  try {
    const Graph ba = bind_free(a), bb = bind_free(b);
    const auto list = [](const Graph& g, bool formats) {
      const std::vector<std::string> kinds = kinds_of(g);
      Named l;
      for (std::size_t v = 0; v < g.values.size(); ++v)
        if (!g.initialisers.count(static_cast<ValueId>(v)))
          l.emplace_back(g.values[v].name, formats ? kinds[v] : g.values[v].type.dims ? fmt::format("{} {}", to_string(g.values[v].type.dtype), to_string(*g.values[v].type.dims)) : "?");
      return l;
    };
    Named xs = list(ba, false), ys = list(bb, false);
    compare("shape", xs, ys, d);
    compare("format", list(ba, true), list(bb, true), d);
  } catch (const Error& e) {
    if (e.code() == Exit::bug) throw;
    d.push_back({"shape", "shapes and formats", "not compared: " + e.message(), ""});
  }
  Named wa, wb;
  for (const auto& [v, t] : a.initialisers) wa.emplace_back(a.values[ix(v)].name, "");
  for (const auto& [v, t] : b.initialisers) wb.emplace_back(b.values[ix(v)].name, "");
  for (const std::string& k : all_keys(wa, wb)) {
    const ValueId va = a.find(k), vb = b.find(k);
    const Tensor *x = va == kNone ? nullptr : a.constant(va), *y = vb == kNone ? nullptr : b.constant(vb);
    if (x && y && x->same(*y)) continue;
    d.push_back(weights(k, x, y));
  }
  if (d.empty()) d.push_back({"graph", "order, metadata or annotation", "", first});
  return r;
}

DiffReport diff_designs(const fs::path& a, const fs::path& b, const Limits& limits) {
  DiffReport r{"designs", {}};
  const Design x = read_design(a, limits), y = read_design(b, limits);
  compare("design", x.head, y.head, r.differences);
  if (fs::exists(a / "model.onnx") && fs::exists(b / "model.onnx"))
    if (const std::string s = first_difference(read_onnx(a / "model.onnx", limits), read_onnx(b / "model.onnx", limits)); !s.empty())
      r.differences.push_back({"design", "model.onnx", "", s});
  compare("layer", x.layers, y.layers, r.differences);
  compare("metric", x.metrics, y.metrics, r.differences);
  return r;
}

DiffReport diff(const fs::path& a, const fs::path& b, const Limits& limits) {
  const bool da = fs::is_directory(a), db = fs::is_directory(b);
  if (da != db && fs::exists(a) && fs::exists(b))
    throw bad_input("one is a folder, the other a file").at(fmt::format("{}, {}", a.string(), b.string())).expected("two models, or two folders written by `tandem build`").fix("compare with the model.onnx in the folder");
  if (da && db) return diff_designs(a, b, limits);
  const auto read = [&](const fs::path& p) {
    Graph g = read_model(p, {.limits = limits});
    verify_structure(g);
    return g;
  };
  const Graph x = read(a), y = read(b);
  return diff_models(x, y);
}

std::string to_json(const DiffReport& r, std::string_view a, std::string_view b) {
  JsonWriter j;
  j.object().field("kind", r.kind).field("a", a).field("b", b).field("equal", r.differences.empty()).key("differences").array();
  for (const Difference& d : r.differences) j.object().field("kind", d.kind).field("what", d.what).field("a", d.a).field("b", d.b).end();
  return j.end().end().text();
}

}  // namespace tandem::flow
