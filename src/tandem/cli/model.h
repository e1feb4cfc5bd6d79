// What several commands do with a model file.
#pragma once
#include <string>
#include <vector>

#include "tandem/cli/command.h"
#include "tandem/ir/bind.h"
#include "tandem/ir/kinds.h"

namespace tandem::cli {

// Reads and verifies an ONNX file. Shapes are not inferred yet: free extents are still symbols.
ir::Graph load_model(const Context& c, const std::string& path);

using ir::bind_to_one;

using ir::kinds_of;

// The row of `tandem ops` for one operator: what each engine does with a graph of this operator between
// quantisers. Found by asking the engines, not by a list.
struct OpCells {
  std::string ref, carrier, exec, train, rtl, adjoint;  // "exact", "f32", "yes", or "no: reason"
};
OpCells cells_of(std::string_view domain, std::string_view op);
// A graph of one operator between two quantisers; empty nodes when the operator is not of forward graphs.
ir::Graph probe_graph(std::string_view domain, std::string_view op);

}  // namespace tandem::cli
