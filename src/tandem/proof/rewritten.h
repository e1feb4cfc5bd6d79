// What a design computes after others have been written over its bus.
#pragma once
#include <cstdint>

#include "tandem/ir/exact.h"

namespace tandem::proof {

// The same program with random weights and steps in everything that can be written. Its stages hold other words (rtl::Design::writes) and are
// otherwise those of `p`.
ir::ExactProgram rewritten(const ir::ExactProgram& p, std::uint64_t seed);

}  // namespace tandem::proof
