// Training is a graph (docs/semantics.md 7): forward and backward joined through the operators' adjoints.
#pragma once
#include <string>
#include <vector>

#include "tandem/ir/graph.h"

namespace tandem::ir {

// The three products of one contraction, as node names of the joint graph; empty where not needed.
struct Products {
  std::string node;      // its name in the forward graph
  std::string forward;   // <node>/fwd: X, W
  std::string to_data;   // <node>/dX:  dY, W
  std::string to_weight; // <node>/dW:  X, dY
};
struct Joint {
  Graph graph;                      // outputs: those of the forward graph, then one gradient per `wrt`
  std::vector<ValueId> gradients;   // of `wrt`, in order; values of `graph`
  std::vector<Products> products;   // in order of the forward graph
};

// The gradient of the sum of the elements of `loss` with respect to the values `wrt` (inputs,
// initialisers or intermediate values). With `seed`, an existing value of the extents of `loss`, the
// gradient of <loss, seed>. A value that does not influence the loss gets a gradient of zeros. Extents
// must be known (bind, infer_shapes). Errors name the node: no adjoint, unknown extent.
Joint differentiate(const Graph& g, ValueId loss, const std::vector<ValueId>& wrt, ValueId seed = kNone);

}  // namespace tandem::ir
