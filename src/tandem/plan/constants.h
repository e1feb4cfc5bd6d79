// What synthesis can see in the constants of a stage: tables that repeat themselves, products that vanish.
#pragma once
#include <cstdint>
#include <vector>

#include "tandem/plan/stages.h"

namespace tandem::plan {

// Writes StageShape::constants of every stage whose cost depends on its constants. The closed forms take typical constants
// where nothing was measured: the search for a folding does without, a figure that is printed should not.
void measure_constants(const StageGraph& g, std::vector<StageShape>& stages);
// For tests, and for constants of other stages: words of `width` bits, one bit a column, padded with copies of nothing in particular
// (zero) to a power of two. `columns[b][a]` is bit b of the word at address a.
TableLogic table_logic(const std::vector<std::vector<bool>>& columns);

}  // namespace tandem::plan
