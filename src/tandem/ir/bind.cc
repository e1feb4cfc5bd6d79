#include "tandem/ir/bind.h"

#include <algorithm>
#include <charconv>
#include <set>

#include "tandem/base/error.h"
#include "tandem/base/nearest.h"

namespace tandem::ir {

Graph bind_to_one(const Graph& g, std::vector<std::string>* notes) {
  std::map<std::string, Shape> shapes;
  std::map<std::string, bool> told;
  for (ValueId v : g.inputs) {
    const Value& x = g.values[static_cast<std::size_t>(v)];
    if (!x.type.dims) throw bad_input("the input '{}' has no shape", x.name).fix("give it one where the model was made");
    Shape s;
    for (const Dim& d : *x.type.dims) {
      s.push_back(d.known() ? d.n : 1);
      if (d.known() || told[d.symbol]) continue;
      told[d.symbol] = true;
      if (notes) notes->push_back(fmt::format("{} = 1", d.symbol.empty() ? "free extents of '" + x.name + "'" : d.symbol));
    }
    shapes[x.name] = s;
  }
  return bind_inputs(g, shapes);
}

Graph bind_extents(const Graph& g, const std::vector<std::string>& extents) {
  const auto number = [](const std::string& s, std::size_t from, std::int64_t& to) {
    const auto r = std::from_chars(s.data() + from, s.data() + s.size(), to);
    return r.ec == std::errc() && r.ptr == s.data() + s.size() && from < s.size();
  };
  Graph r = g;
  std::map<std::string, std::int64_t> symbols;
  for (const std::string& e : extents) {
    const std::size_t eq = e.rfind('='), colon = e.rfind(':', eq);
    std::int64_t n = 0, axis = 0;
    if (eq == std::string::npos || eq == 0 || !number(e, eq + 1, n) || n < 0 || n > (std::int64_t{1} << 31))
      throw bad_input("'{}' gives no extent", printable(e)).at("--dim").expected("SYMBOL=N, or INPUT:AXIS=N").fix("--dim batch=1");
    const ValueId v = colon == std::string::npos ? kNone : g.find(e.substr(0, colon));
    if (v != kNone && std::find(g.inputs.begin(), g.inputs.end(), v) != g.inputs.end() && number(e.substr(0, eq), colon + 1, axis)) {
      std::optional<Dims>& dims = r.values[static_cast<std::size_t>(v)].type.dims;
      if (!dims || axis < 0 || axis >= static_cast<std::int64_t>(dims->size()))
        throw bad_input("the input '{}' has no axis {}", e.substr(0, colon), axis).at("--dim").expected(dims ? fmt::format("an axis of {}", to_string(*dims)) : "an input of known rank");
      Dim& d = (*dims)[static_cast<std::size_t>(axis)];
      if (!d.symbol.empty()) symbols[d.symbol] = n;
      d = Dim(n);
      continue;
    }
    symbols[e.substr(0, eq)] = n;
  }
  std::set<std::string> there;
  std::vector<std::string> known;
  for (ValueId v : g.inputs) {
    const Value& x = g.values[static_cast<std::size_t>(v)];
    if (x.type.dims)
      for (const Dim& d : *x.type.dims)
        if (!d.symbol.empty() && there.insert(d.symbol).second) known.push_back(d.symbol);
  }
  for (const auto& [s, n] : symbols)
    if (!there.count(s)) {
      for (ValueId v : g.inputs) known.push_back(g.values[static_cast<std::size_t>(v)].name + ":AXIS");
      throw bad_input("no input has an extent called '{}'", printable(s)).at("--dim").fix(suggest(s, known));
    }
  // Between the inputs and the outputs extents are found again: what the file declared there may be of another size.
  const std::set<ValueId> inputs(r.inputs.begin(), r.inputs.end());
  for (std::size_t v = 0; v < r.values.size(); ++v)
    if (!inputs.count(static_cast<ValueId>(v)) && !r.initialisers.count(static_cast<ValueId>(v))) r.values[v].type.dims.reset();
  return ir::bind(r, symbols);
}

}  // namespace tandem::ir
