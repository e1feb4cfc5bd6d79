// Every step that has no hardware stage, not only the first: what `tandem doctor` asks.
#pragma once
#include <vector>

#include "tandem/ir/refusal.h"
#include "tandem/plan/stage_graph.h"

namespace tandem::plan {

// What stages_from() refuses, one entry per step, empty where it refuses nothing. A refused step is replaced by one
// that sends its results in the usual order, so that the rest is judged too. `partial` receives the stages found,
// for looking at.
std::vector<ir::Refusal> refusals(const ir::ExactProgram& p, StageGraph* partial = nullptr);

}  // namespace tandem::plan
