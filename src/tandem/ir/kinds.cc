#include "tandem/ir/kinds.h"

#include "tandem/ir/op.h"
#include "tandem/ir/ops/common.h"

namespace tandem::ir {

std::vector<std::string> kinds_of(const Graph& g) {
  std::vector<std::string> kind(g.values.size());
  for (ValueId v : g.inputs) kind[static_cast<std::size_t>(v)] = std::string(to_string(g.values[static_cast<std::size_t>(v)].type.dtype));
  for (const auto& [v, t] : g.initialisers) kind[static_cast<std::size_t>(v)] = "const";
  const auto held = [&](ValueId v) -> const std::string& { return kind[static_cast<std::size_t>(v)]; };
  const auto is_float = [](const std::string& k) { return k == "f32" || k == "f64" || k == "f16" || k == "bf16"; };
  for (const Node& n : g.nodes) {
    const OpDef& def = op_of(g, n);
    bool constant = true, open = false;
    for (ValueId v : n.inputs) {
      if (v == kNone) continue;
      constant &= held(v) == "const";
      open |= is_float(held(v));
    }
    for (ValueId o : n.outputs) {
      if (o == kNone) continue;
      std::string& k = kind[static_cast<std::size_t>(o)];
      const Value& value = g.values[static_cast<std::size_t>(o)];
      if (def.closure == Closure::quantiser && value.type.dims && all_known(*value.type.dims)) {
        Shape s;
        for (const Dim& d : *value.type.dims) s.push_back(d.n);
        k = quant_spec(g, n, s).format;
      } else if (constant && def.closure != Closure::state) {
        k = "const";
      } else if ((def.closure == Closure::index && n.domain.empty() && !is_float(std::string(to_string(value.type.dtype)))) || def.closure == Closure::constant) {
        k = std::string(to_string(value.type.dtype));
      } else if (open || def.closure == Closure::open) {
        k = std::string(to_string(value.type.dtype));
      } else if ((def.closure == Closure::move || n.op == "TopK") && n.in(0) != kNone) {
        k = held(n.in(0));  // moving elements keeps their format
        if (k == "const") k = std::string(to_string(value.type.dtype));  // which of the constants varies
        for (ValueId v : n.inputs)
          if (def.name == "Concat" && v != kNone && held(v) != k) k = "exact";
      } else {
        k = "exact";
      }
    }
  }
  return kind;
}

}  // namespace tandem::ir
