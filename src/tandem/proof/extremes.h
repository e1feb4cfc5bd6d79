// Frames that drive every layer to its extremes: what a stimulus must hold besides random codes, because sums of many random
// elements stay near the middle of their range.
#pragma once
#include <cstdint>
#include <vector>

#include "tandem/exec/exec.h"
#include "tandem/plan/stage_graph.h"

namespace tandem::proof {

// For programs of one input. A search from corners and random codes on: a frame that takes a channel of a layer further than any
// before is changed in a few places, and so on. Of at most `tries` frames those are returned, at most `most`, that hold the lowest
// or highest value of a channel of a layer; what ends a layer's range comes first.
std::vector<Tensor> extreme_frames(const ir::ExactProgram& p, const plan::StageGraph& g, std::uint64_t seed, int tries, std::size_t most);

}  // namespace tandem::proof
