// Writes an operator's Einsum line by line, in the notation of ir/einsum.h. Operands are named as the operator's ports.
#pragma once
#include "tandem/ir/ops/common.h"

namespace tandem::ir {

// The name of input or output i in an Einsum: its port's; of a variadic port with the number behind it.
std::string operand_name(std::span<const PortDef> ports, std::size_t i);
// The integers of a constant value; nullopt where it is none.
std::optional<std::vector<std::int64_t>> known_ints(const Graph& g, ValueId v);

class Cascade {
 public:
  Cascade(const Graph& g, const Node& n);
  std::string in(std::size_t i) const { return operand_name(def_.inputs, i); }
  std::string out(std::size_t i = 0) const { return operand_name(def_.outputs, i); }
  // A rank of this extent; gives its name back.
  std::string rank(const std::string& name, std::int64_t extent);
  // Ranks i, j, k, ... (or the first of `names` on) for these extents.
  std::vector<std::string> ranks(const Shape& s, std::string_view names = "ijklmnop");
  template <class... T>
  void line(fmt::format_string<T...> f, T&&... a) { text_ += fmt::format(f, std::forward<T>(a)...) + "\n"; }
  Einsum done() const { return parse_einsum(text_, extents_); }

 private:
  const OpDef& def_;
  std::map<std::string, std::int64_t> extents_;
  std::string text_;
};
// "X[i,j]"; "X" for no index.
std::string at(const std::string& operand, const std::vector<std::string>& indices);
// An operand of shape `s` that broadcasts to ranks `names` of extents `y`, aligned on the right.
std::string broadcast_at(const std::string& operand, const Shape& s, const Shape& y, const std::vector<std::string>& names);
// An operand that is one number, or one per position of the rank `name`.
std::string one_or_each(const std::string& operand, const Shape& s, const std::string& name);

}  // namespace tandem::ir
