#include "tandem/ir/einsum.h"

#include <algorithm>
#include <cctype>
#include <charconv>

#include "tandem/base/error.h"

namespace tandem::ir {
namespace {

using Ranks = std::vector<Rank>;
std::string text_of(const Access& a, const Ranks& ranks);

void append(std::string& s, std::int64_t coefficient, const std::string& factor) {
  if (!s.empty() && coefficient > 0) s += '+';
  if (coefficient == -1) s += '-';
  else if (coefficient != 1) s += fmt::format("{}*", coefficient);
  s += factor;
}
// `number`: inside braces, where a quotient is exact.
std::string text_of(const AffineIndex& index, const Ranks& ranks, bool number) {
  std::string s;
  for (const AffineTerm& t : index.terms) {
    if (t.coefficient == 0) continue;
    TANDEM_CHECK(t.rank >= 0 && static_cast<std::size_t>(t.rank) < ranks.size(), "einsum: rank {} of {}", t.rank, ranks.size());
    append(s, t.coefficient, ranks[static_cast<std::size_t>(t.rank)].name);
  }
  if (index.divisor != 1) {
    s = s.empty() ? fmt::format("({})/{}", index.offset, index.divisor) : index.offset ? fmt::format("({}{:+})/{}", s, index.offset, index.divisor) : fmt::format("({})/{}", s, index.divisor);
    if (!number) s = "floor(" + s + ")";
  }
  for (const DataTerm& t : index.data) append(s, t.coefficient, "floor(" + text_of(t.from, ranks) + ")");
  if (s.empty()) s = fmt::format("{}", index.offset);
  else if (index.offset != 0 && index.divisor == 1) s += fmt::format("{:+}", index.offset);
  return index.clamped ? "clamp(" + s + ")" : s;
}
std::string text_of(const Access& a, const Ranks& ranks) {
  if (a.operand.empty()) return a.indices.empty() ? "" : "{" + text_of(a.indices.at(0), ranks, true) + "}";
  std::string s = a.operand;
  if (a.indices.empty()) return s;
  s += '[';
  for (std::size_t i = 0; i < a.indices.size(); ++i) s += (i ? "," : "") + text_of(a.indices[i], ranks, false);
  return s + ']';
}
std::string line_of(const Einsum& e) {
  std::string s;
  bool reduced = false;
  for (const Rank& r : e.ranks) {
    if (r.stepwise) s += "for " + r.name + ": ";
    reduced |= r.reduced;
  }
  s += text_of(e.output, e.ranks);
  if (!reduced || e.reduce == "none") s += " = ";
  else if (e.reduce == "add") s += " += ";
  else s += " " + e.reduce + "= ";
  const std::string infix = e.inputs.size() < 2 ? "" : e.map == "mul" ? " * " : e.map == "add" ? " + " : e.map == "sub" ? " - " : e.map == "div" ? " / " : "";
  const bool call = infix.empty() && !(e.map == "copy" || (e.map == "mul" && e.inputs.size() == 1));
  if (call) s += e.map + "(";
  for (std::size_t i = 0; i < e.inputs.size(); ++i) {
    if (i) s += infix.empty() ? std::string(", ") : infix;
    s += text_of(e.inputs[i], e.ranks);
  }
  if (call) s += ")";
  for (std::size_t i = 0; i < e.guards.size(); ++i) {
    s += (i ? " and " : " where ") + text_of(e.guards[i].test, e.ranks);
    if (e.guards[i].rank >= 0) s += fmt::format(" ({} of {})", e.guards[i].passes, e.ranks[static_cast<std::size_t>(e.guards[i].rank)].name);
  }
  return s;
}

class Parser {
 public:
  Parser(std::string_view text, const std::map<std::string, std::int64_t>& extents) : text_(text), extents_(extents) {}

  Einsum statement() {
    while (eat("for ")) {
      const int r = rank(name());
      e_.ranks[static_cast<std::size_t>(r)].stepwise = true;
      want(":");
    }
    e_.output = access();
    for (const AffineIndex& i : e_.output.indices)
      for (const AffineTerm& t : i.terms) kept_.push_back(t.rank);
    e_.reduce = eat("+=") ? "add" : eat("max=") ? "max" : eat("min=") ? "min" : eat("argmax=") ? "argmax" : eat("mul=") ? "mul" : "none";
    if (e_.reduce == "none") want("=");
    const std::size_t start = at_;
    const std::string f = std::isalpha(static_cast<unsigned char>(peek())) ? name() : "";
    if (!f.empty() && eat("(")) {
      e_.map = f;
      do e_.inputs.push_back(access());
      while (eat(","));
      want(")");
    } else {
      at_ = start;
      e_.inputs.push_back(access());
      e_.map = "copy";
      for (const auto& [sign, map] : {std::pair{"*", "mul"}, {"+", "add"}, {"-", "sub"}, {"/", "div"}})
        while ((e_.inputs.size() == 1 || e_.map == map) && eat(sign)) {
          e_.map = map;
          e_.inputs.push_back(access());
        }
    }
    if (eat("where")) do {
        Guard g{access()};
        if (eat("(")) {
          g.passes = integer();
          want("of");
          g.rank = rank(name());
          want(")");
        }
        e_.guards.push_back(std::move(g));
      } while (eat("and"));
    skip();
    TANDEM_CHECK(at_ == text_.size(), "einsum '{}': '{}' is left over", text_, text_.substr(at_));
    for (std::size_t r = 0; r < e_.ranks.size(); ++r) e_.ranks[r].reduced = std::find(kept_.begin(), kept_.end(), static_cast<int>(r)) == kept_.end();
    return std::move(e_);
  }

 private:
  void skip() {
    while (at_ < text_.size() && text_[at_] == ' ') ++at_;
  }
  char peek() {
    skip();
    return at_ < text_.size() ? text_[at_] : '\0';
  }
  bool eat(std::string_view s) {
    skip();
    if (text_.substr(at_, s.size()) != s) return false;
    at_ += s.size();
    return true;
  }
  void want(std::string_view s) { TANDEM_CHECK(eat(s), "einsum '{}': no '{}' at {}", text_, s, at_); }
  std::string name() {
    skip();
    const std::size_t from = at_;
    while (at_ < text_.size() && (std::isalnum(static_cast<unsigned char>(text_[at_])) || text_[at_] == '_')) ++at_;
    TANDEM_CHECK(at_ > from, "einsum '{}': no name at {}", text_, at_);
    return std::string(text_.substr(from, at_ - from));
  }
  std::int64_t integer() {
    skip();
    std::int64_t v = 0;
    const auto [end, fault] = std::from_chars(text_.data() + at_, text_.data() + text_.size(), v);
    TANDEM_CHECK(fault == std::errc(), "einsum '{}': no integer at {}", text_, at_);
    at_ = static_cast<std::size_t>(end - text_.data());
    return v;
  }
  int rank(const std::string& s) {
    for (std::size_t r = 0; r < e_.ranks.size(); ++r)
      if (e_.ranks[r].name == s) return static_cast<int>(r);
    const auto f = extents_.find(s);
    TANDEM_CHECK(f != extents_.end(), "einsum '{}': no rank '{}'", text_, s);
    e_.ranks.push_back({s, f->second, false});
    return static_cast<int>(e_.ranks.size()) - 1;
  }
  Access access() {
    if (eat("{")) {
      Access a{"", {index()}};
      want("}");
      return a;
    }
    const char c = peek();
    if (std::isdigit(static_cast<unsigned char>(c)) || c == '-') {
      const std::size_t from = at_;
      double v = 0;
      const auto [end, fault] = std::from_chars(text_.data() + at_, text_.data() + text_.size(), v);
      TANDEM_CHECK(fault == std::errc(), "einsum '{}': no number at {}", text_, at_);
      at_ = static_cast<std::size_t>(end - text_.data());
      return {std::string(text_.substr(from, at_ - from))};
    }
    Access a{name()};
    if (eat("[") && !eat("]")) {
      do a.indices.push_back(index());
      while (eat(","));
      want("]");
    }
    return a;
  }
  AffineIndex index() {
    AffineIndex i;
    if (eat("clamp(")) {
      i = index();
      i.clamped = true;
      want(")");
      return i;
    }
    sum(i);
    return i;
  }
  void sum(AffineIndex& i) {
    bool first = true;
    while (true) {
      const bool plus = eat("+"), minus = eat("-");
      std::int64_t sign = minus ? -1 : 1;
      if (!plus && !minus && !first) return;
      first = false;
      if (std::isdigit(static_cast<unsigned char>(peek()))) {
        const std::int64_t v = sign * integer();
        if (!eat("*")) {
          i.offset += v;
          continue;
        }
        sign = v;
      }
      const bool floored = eat("floor(");
      if (eat("(")) {  // the affine part is a quotient
        AffineIndex q;
        sum(q);
        want(")/");
        TANDEM_CHECK(sign == 1 && i.terms.empty() && i.offset == 0 && q.data.empty(), "einsum '{}': a quotient comes first", text_);
        q.divisor = integer();
        i = std::move(q);
        if (floored) want(")");
      } else if (floored) {
        i.data.push_back({access(), sign});
        want(")");
      } else {
        i.terms.push_back({rank(name()), sign});
      }
    }
  }

  std::string_view text_;
  const std::map<std::string, std::int64_t>& extents_;
  std::size_t at_ = 0;
  Einsum e_;
  std::vector<int> kept_;
};

}  // namespace

std::int64_t Einsum::iterations() const {
  std::int64_t n = 1;
  for (const Rank& r : ranks)
    if (r.extent == 0) return 0;
  for (std::size_t i = 0; i < ranks.size(); ++i) {
    std::int64_t extent = ranks[i].extent;
    if (extent < 0) throw bad_input("rank '{}' has the extent {}", ranks[i].name, extent).expected("a number of at least 0");
    for (const Guard& g : guards)
      if (g.rank == static_cast<int>(i) && g.passes >= 0) extent = std::min(extent, g.passes);
    if (__builtin_mul_overflow(n, extent, &n))
      throw Error(Exit::limit, fmt::format("the iterations of {} exceed 64 bits", line_of(*this)));
  }
  return n;
}

std::int64_t Einsum::macs() const {
  std::int64_t n = 0;
  for (const Einsum* e : statements()) {
    const bool contracts = std::any_of(e->ranks.begin(), e->ranks.end(), [](const Rank& r) { return r.reduced; });
    if (e->map != "mul" || e->inputs.size() < 2 || e->reduce != "add" || !contracts) continue;
    if (__builtin_add_overflow(n, e->iterations(), &n)) throw Error(Exit::limit, fmt::format("the iterations of {} exceed 64 bits", line_of(*this)));
  }
  return n;
}

std::vector<const Einsum*> Einsum::statements() const {
  std::vector<const Einsum*> all;
  for (const Einsum& e : before) all.push_back(&e);
  if (valid()) all.push_back(this);
  return all;
}

std::string Einsum::text() const {
  std::string s;
  for (const Einsum* e : statements()) s += (s.empty() ? "" : "\n") + line_of(*e);
  return s;
}

Einsum parse_einsum(std::string_view text, const std::map<std::string, std::int64_t>& extents) {
  std::vector<Einsum> all;
  while (!text.empty()) {
    const std::size_t end = text.find('\n');
    const std::string_view line = text.substr(0, end);
    text.remove_prefix(end == std::string_view::npos ? text.size() : end + 1);
    if (line.find_first_not_of(' ') != std::string_view::npos) all.push_back(Parser(line, extents).statement());
  }
  if (all.empty()) return {};
  Einsum last = std::move(all.back());
  all.pop_back();
  last.before = std::move(all);
  return last;
}

}  // namespace tandem::ir
