// Free extents of a graph's inputs, bound for those who only look at it.
#pragma once
#include <string>
#include <vector>

#include "tandem/ir/graph.h"

namespace tandem::ir {

// Binds every free extent of the inputs to 1 and infers shapes; `notes` says what was bound.
// Error(bad_input): an input without a rank, and what infer_shapes() refuses.
Graph bind_to_one(const Graph& g, std::vector<std::string>* notes = nullptr);

}  // namespace tandem::ir
