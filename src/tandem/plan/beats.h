// simulate() by beats instead of cycles, for stages whose twins are the functions of timing.cc: when the k-th beat of a stream is
// taken follows from when a few others were. Private to plan: timing.cc says which rule a twin obeys.
#pragma once
#include <optional>
#include <span>

#include "tandem/plan/timing.h"

namespace tandem::plan {

enum class Rule : std::uint8_t { stepped, pipeline, joining, serial, skid, fifo, fork, narrower, pad, window, replay, total, select, insert, concat };
Rule rule_of(const Twin& t);  // stepped: only cycle by cycle

// As simulate(); nothing where a stage has no rule.
std::optional<Timing> simulate_beats(std::span<const StageShape> stages, const TimingOptions& options);

}  // namespace tandem::plan
