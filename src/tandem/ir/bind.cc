#include "tandem/ir/bind.h"

#include <algorithm>
#include <charconv>
#include <set>

#include "tandem/base/error.h"
#include "tandem/base/nearest.h"

namespace tandem::ir {
namespace {

constexpr std::string_view kKey = "tandem.extent.";
constexpr std::int64_t kMost = std::int64_t{1} << 31;

template <class T>
bool number(std::string_view s, T& to) {
  const auto r = std::from_chars(s.data(), s.data() + s.size(), to);
  return !s.empty() && r.ec == std::errc() && r.ptr == s.data() + s.size();
}
// "<=128" or "16*3,128*1"; nullopt for anything else.
std::optional<Bound> bound_from(std::string_view text) {
  Bound b;
  if (text.starts_with("<=")) return number(text.substr(2), b.most) && b.most >= 0 && b.most <= kMost ? std::optional(b) : std::nullopt;
  double sum = 0;
  while (true) {
    const std::size_t comma = text.find(','), star = text.substr(0, comma).find('*');
    std::int64_t n = 0;
    double w = 0;
    if (star == std::string_view::npos || !number(text.substr(0, star), n) || !number(text.substr(0, comma).substr(star + 1), w) || n < 0 || n > kMost || !(w > 0) || w > 1e12 || b.shares.size() > 4096) return std::nullopt;
    b.shares.emplace_back(n, w);
    b.most = std::max(b.most, n);
    sum += w;
    if (comma == std::string_view::npos) break;
    text.remove_prefix(comma + 1);
  }
  for (auto& [n, w] : b.shares) w /= sum;
  return b;
}

}  // namespace

std::map<std::string, Bound> bounds_of(const Graph& g) {
  std::map<std::string, Bound> r;
  for (const auto& [key, text] : g.metadata) {
    if (!key.starts_with(kKey)) continue;
    const auto b = bound_from(text);
    if (!b) throw bad_input("the metadata bound the extent '{}' by '{}'", printable(key.substr(kKey.size())), printable(text)).expected("<=128, or values and weights: 16*3,128*1");
    r[key.substr(kKey.size())] = *b;
  }
  return r;
}

Graph bind_free(const Graph& g, std::vector<std::string>* notes) {
  std::map<std::string, Shape> shapes;
  std::map<std::string, bool> told;
  const std::map<std::string, Bound> bounds = bounds_of(g);
  for (ValueId v : g.inputs) {
    const Value& x = g.values[static_cast<std::size_t>(v)];
    if (!x.type.dims) throw bad_input("the input '{}' has no shape", x.name).fix("give it one where the model was made");
    Shape s;
    for (const Dim& d : *x.type.dims) {
      const auto b = bounds.find(d.symbol);
      s.push_back(d.known() ? d.n : b == bounds.end() ? 1 : b->second.most);
      if (d.known() || told[d.symbol]) continue;
      told[d.symbol] = true;
      if (notes) notes->push_back(fmt::format("{} = {}{}", d.symbol.empty() ? "free extents of '" + x.name + "'" : d.symbol, s.back(), b == bounds.end() ? "" : ", its largest value"));
    }
    shapes[x.name] = s;
  }
  return bind_inputs(g, shapes);
}

void for_each_extent(const Graph& g, const std::function<void(const Graph&, double)>& f) {
  std::vector<std::pair<std::string, Bound>> open;
  std::size_t count = 1;
  for (auto& [s, b] : bounds_of(g)) {
    if (b.shares.empty()) continue;
    count *= b.shares.size();
    if (count > 4096) throw Error(Exit::limit, "the extents have more than 4,096 combinations").fix("fewer values of each extent, or a bound (SYMBOL<=N)");
    open.emplace_back(s, b);
  }
  for (std::size_t k = 0; k < count && !open.empty(); ++k) {
    std::vector<std::string> extents;
    double share = 1;
    std::size_t rest = k;
    for (const auto& [s, b] : open) {
      const auto& [n, w] = b.shares[rest % b.shares.size()];
      rest /= b.shares.size();
      extents.push_back(fmt::format("{}={}", s, n));
      share *= w;
    }
    f(bind_free(bind_extents(g, extents)), share);
  }
}

Graph bind_extents(const Graph& g, const std::vector<std::string>& extents) {
  Graph r = g;
  std::map<std::string, std::int64_t> symbols;
  std::map<std::string, std::string> open;
  for (const std::string& e : extents) {
    const std::size_t eq = e.rfind('='), colon = e.rfind(':', eq);
    std::int64_t n = 0, axis = 0;
    if (eq != std::string::npos && eq > 1) {  // SYMBOL<=N, SYMBOL=N*W,N*W
      const bool at_most = e[eq - 1] == '<';
      const std::string symbol = e.substr(0, at_most ? eq - 1 : eq), text = e.substr(at_most ? eq - 1 : eq + 1);
      if (bound_from(text)) {
        open[symbol] = text;
        continue;
      }
    }
    if (eq == std::string::npos || eq == 0 || !number(std::string_view(e).substr(eq + 1), n) || n < 0 || n > kMost)
      throw bad_input("'{}' gives no extent", printable(e)).at("--dim").expected("SYMBOL=N, INPUT:AXIS=N, SYMBOL<=N, or values and weights: SYMBOL=N*W,N*W").fix("--dim batch=1");
    const ValueId v = colon == std::string::npos ? kNone : g.find(e.substr(0, colon));
    if (v != kNone && std::find(g.inputs.begin(), g.inputs.end(), v) != g.inputs.end() && number(std::string_view(e).substr(colon + 1, eq - colon - 1), axis)) {
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
  std::set<std::string> named;
  for (const auto& [s, n] : symbols) named.insert(s);
  for (const auto& [s, text] : open) named.insert(s), r.metadata[std::string(kKey) + s] = text;
  for (const std::string& s : named)
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
