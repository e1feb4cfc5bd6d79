// How each value of a graph is held, in words.
#pragma once
#include <string>
#include <vector>

#include "tandem/ir/graph.h"

namespace tandem::ir {

// One word per value (docs/semantics.md 1): "const", a format ("uint4"), "exact", or its float type. Shapes inferred.
std::vector<std::string> kinds_of(const Graph& bound);

}  // namespace tandem::ir
