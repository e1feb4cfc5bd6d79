#include "tandem/ir/ops/cascade.h"

namespace tandem::ir {

std::string operand_name(std::span<const PortDef> ports, std::size_t i) {
  if (ports.empty()) return fmt::format("X{}", i);
  const PortDef& p = ports[std::min(i, ports.size() - 1)];
  return p.variadic ? fmt::format("{}{}", p.name, i) : std::string(p.name);
}
std::optional<std::vector<std::int64_t>> known_ints(const Graph& g, ValueId v) {
  const Tensor* t = v == kNone ? nullptr : g.constant(v);
  return t ? std::optional(int_list(*t)) : std::nullopt;
}
Cascade::Cascade(const Graph& g, const Node& n) : def_(op_of(g, n)) {}
std::string Cascade::rank(const std::string& name, std::int64_t extent) {
  const std::int64_t known = extents_.try_emplace(name, extent).first->second;
  TANDEM_CHECK(known == extent, "einsum of {}: rank {} of {} and of {}", def_.name, name, known, extent);
  return name;
}
std::vector<std::string> Cascade::ranks(const Shape& s, std::string_view names) {
  std::vector<std::string> r;
  for (std::size_t d = 0; d < s.size(); ++d) r.push_back(rank(d < names.size() ? std::string(1, names[d]) : fmt::format("{}{}", names[0], d), s[d]));
  return r;
}
std::string at(const std::string& operand, const std::vector<std::string>& indices) {
  return indices.empty() ? operand : fmt::format("{}[{}]", operand, fmt::join(indices, ","));
}
std::string broadcast_at(const std::string& operand, const Shape& s, const Shape& y, const std::vector<std::string>& names) {
  std::vector<std::string> i;
  for (std::size_t d = 0; d < s.size(); ++d) {
    const std::size_t k = y.size() - s.size() + d;
    i.push_back(s[d] == 1 && y[k] != 1 ? "0" : names[k]);
  }
  return at(operand, i);
}
std::string one_or_each(const std::string& operand, const Shape& s, const std::string& name) {
  return s.empty() ? operand : at(operand, {element_count(s) == 1 ? "0" : name});
}

}  // namespace tandem::ir
