// Single layers of a design over the whole range that they are declared for. In the whole design most of it is never reached: the range
// is proven from the layers in front one at a time.
#pragma once
#include <cstdint>
#include <string_view>
#include <vector>

#include "tandem/proof/bench.h"

namespace tandem::proof {

struct Alone {
  int layer = -1;
  rtl::Design design;       // the design's own modules under a top of their own
  Stimulus stimulus;
};
// Of each layer with one input whose results follow from it alone: what lies at the ends of its range, beside its steps, evenly spread and
// at random. `prefix` is an identifier; the tops are called <prefix>_<layer>. Designs with memories that can be written have none.
std::vector<Alone> alone(const rtl::Design& d, const plan::StageGraph& g, const ir::ExactProgram& p, std::string_view prefix, std::uint64_t seed);

}  // namespace tandem::proof
