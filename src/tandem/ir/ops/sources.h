// Operators that only move elements of their first input, judged by their own evaluator: it is run once on the places 1, 2, ...
#pragma once
#include "tandem/ir/op.h"

namespace tandem::ir {

// One output: where each element comes from in the first input, flat; -1: a filling (the real 0, or Pad's constant_value).
struct Sources {
  Shape shape;
  std::vector<std::int64_t> from;
};
// Of a node whose other inputs `in` are constant; of the first one only the shape is read.
std::vector<Sources> sources_of(const Graph& g, const Node& n, const Shape& x, const std::vector<const Array<Rational>*>& in);
// Whether that is all the node does: Resize picks the nearest, no value is made up that is not finite.
bool only_moves(const Graph& g, const Node& n);
// An exact evaluator for them.
void move_exactly(EvalArgs<Rational>& e);

}  // namespace tandem::ir
