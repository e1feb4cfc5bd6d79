#include "tandem/ir/einsum.h"

#include "tandem/base/error.h"

namespace tandem::ir {
namespace {

std::string text_of(const AffineIndex& index, const std::vector<Rank>& ranks) {
  std::string s;
  for (const AffineTerm& t : index.terms) {
    if (t.coefficient == 0) continue;
    TANDEM_CHECK(t.rank >= 0 && static_cast<std::size_t>(t.rank) < ranks.size(), "einsum: rank {} of {}", t.rank, ranks.size());
    if (!s.empty() && t.coefficient > 0) s += '+';
    if (t.coefficient == -1) s += '-';
    else if (t.coefficient != 1) s += fmt::format("{}*", t.coefficient);
    s += ranks[static_cast<std::size_t>(t.rank)].name;
  }
  if (s.empty()) return fmt::format("{}", index.offset);
  if (index.offset != 0) s += fmt::format("{:+}", index.offset);
  return s;
}

std::string text_of(const Access& a, const std::vector<Rank>& ranks) {
  std::string s = a.operand;
  if (a.indices.empty()) return s;
  s += '[';
  for (std::size_t i = 0; i < a.indices.size(); ++i) s += (i ? "," : "") + text_of(a.indices[i], ranks);
  return s + ']';
}

}  // namespace

std::int64_t Einsum::iterations() const {
  std::int64_t n = 1;
  for (const Rank& r : ranks)
    if (r.extent == 0) return 0;
  for (const Rank& r : ranks) {
    if (r.extent < 0) throw bad_input("rank '{}' has the extent {}", r.name, r.extent).expected("a number of at least 0");
    if (__builtin_mul_overflow(n, r.extent, &n))
      throw Error(Exit::limit, fmt::format("the iterations of {} exceed 64 bits", text()));
  }
  return n;
}

std::string Einsum::text() const {
  if (!valid() && output.operand.empty()) return "";
  std::string s = text_of(output, ranks);
  bool reduced = false;
  for (const Rank& r : ranks) reduced |= r.reduced;
  if (!reduced || reduce == "none") s += " = ";
  else if (reduce == "add") s += " += ";
  else s += " " + reduce + "= ";
  const std::string infix = map == "mul" ? " * " : map == "add" ? " + " : map == "sub" ? " - " : "";
  const bool call = infix.empty() && map != "copy";
  if (call) s += map + "(";
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    if (i) s += infix.empty() ? std::string(", ") : infix;
    s += text_of(inputs[i], ranks);
  }
  if (call) s += ")";
  return s;
}

}  // namespace tandem::ir
