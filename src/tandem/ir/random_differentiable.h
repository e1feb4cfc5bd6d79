// Random float graphs of differentiable operators, in f64: what adjoints are examined with.
#pragma once
#include <vector>

#include "tandem/ir/graph.h"

namespace tandem::ir {

struct DifferentiableGraph {
  Graph graph;                    // extents known, shapes inferred, one output
  std::vector<Tensor> inputs;     // one sample
  std::vector<ValueId> wrt;       // the input and every initialiser with a gradient
};
// A pure function of the seed. Values are drawn so that ties and kinks have probability 0, except behind
// quantisers (left out with `quantisers` false, as finite differences cannot see through them).
DifferentiableGraph random_differentiable(std::uint64_t seed, bool quantisers);

}  // namespace tandem::ir
