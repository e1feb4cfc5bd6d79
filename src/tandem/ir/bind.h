// Free extents of a graph's inputs, bound for those who only look at it, or as the user says.
#pragma once
#include <string>
#include <vector>

#include "tandem/ir/graph.h"

namespace tandem::ir {

// Binds every free extent of the inputs to 1 and infers shapes; `notes` says what was bound.
// Error(bad_input): an input without a rank, and what infer_shapes() refuses.
Graph bind_to_one(const Graph& g, std::vector<std::string>* notes = nullptr);

// "batch=1" gives a symbol its extent; "x:0=1" axis 0 of the input x, whether it has a symbol, none, or another extent.
// Error(bad_input) names the symbols and inputs there are.
Graph bind_extents(const Graph& g, const std::vector<std::string>& extents);

}  // namespace tandem::ir
