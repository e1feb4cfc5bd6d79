// Tensors to and from the arrays of the reference evaluators, and which values are exact.
#pragma once
#include "tandem/ir/op.h"

namespace tandem::ir {

Array<double> array_of(const Tensor& t);
Array<Rational> exact_array_of(const Tensor& t);
Tensor tensor_of(const Array<double>& a, DType t);    // rounded to t, nearest even
Tensor tensor_of(const Array<Rational>& a, DType t);  // rounded once, nearest even

// Which is which (docs/semantics.md 1).
enum class Kind : std::uint8_t {
  constant,        // depends on no graph input, no state: known at compile time
  exact,           // quantised or exact: rationals
  floating,        // f32: rounded at every node
};
// One Kind per value. `g` must have inferred shapes.
std::vector<Kind> classify(const Graph& g);
// The smallest and the largest number of an integer type. Those of 64 bits are given as i64's.
std::pair<double, double> integer_range(DType t);
// A computed number as its type holds it: floats round to nearest even, integers keep their low bits.
double held_as(DType t, double v);
// The types of a node's outputs from the values of its inputs (nullptr: absent): for extents that depend on data.
void infer_node(Graph& g, const Node& n, const OpDef& op, const std::vector<const Array<double>*>& in);

}  // namespace tandem::ir
