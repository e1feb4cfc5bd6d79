#include "tandem/ir/bind.h"

#include "tandem/base/error.h"

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

}  // namespace tandem::ir
