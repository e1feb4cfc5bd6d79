// Every node that an engine refuses, not only the first: what `tandem doctor` asks.
#pragma once
#include <optional>
#include <string>
#include <vector>

#include "tandem/ir/exact.h"

namespace tandem::ir {

struct Refusal {
  std::string node;         // Graph::describe(), as in Step::node; empty: the whole model
  std::string reason, fix;  // `fix` may be empty
};

// lower_exact() that goes on: a node it refuses is appended to `refused` and, with everything that reads its result
// up to the next quantiser, left to the host in f32. nullopt where not even that can be done (the reason is
// appended). The program is for looking at, not for running: steps of a refused node may remain in it.
std::optional<ExactProgram> lower_what_can_be(const Graph& bound, int max_bits, std::vector<Refusal>& refused);

}  // namespace tandem::ir
