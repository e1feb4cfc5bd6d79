// Cutting a graph down while something stays true of it: what a self-test saves is to be read by people.
#pragma once
#include <functional>
#include <span>
#include <vector>

#include "tandem/ir/graph.h"

namespace tandem::proof {

// A graph and what it is run on: its inputs, one after the other (ticks or frames).
struct Failing {
  ir::Graph graph;
  std::vector<std::vector<Tensor>> inputs;
};
// For each candidate whether it still fails. Candidates may be graphs that an engine refuses: those do not fail.
using StillFails = std::function<std::vector<bool>(std::span<const Failing>)>;
// Smaller and smaller: the graph is cut behind a value and in front of one (the value's exact numbers become the input), nodes are
// bypassed, constants folded, biases dropped; at each round the smallest candidate that still fails is kept, until none does.
// Deterministic. `at_once`: candidates given in one call.
Failing shrink(Failing start, const StillFails& fails, std::size_t at_once = 16, int most_rounds = 40);

}  // namespace tandem::proof
