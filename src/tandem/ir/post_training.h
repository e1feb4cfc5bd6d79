// Post-training quantisation as a graph rewrite: a float graph becomes one of QONNX Quant nodes whose arithmetic
// between quantisers is integer. The ranges of the activations come from whoever has data (flow/quantize).
//
// What is quantised: every float input; the constant operand of every Conv, MatMul and Gemm, per tensor or per output
// channel; biases of 32 bits on the grid of the sums (scale of the data times scale of the weights); what enters a
// contraction, a join or an average; nothing behind the last contraction: the logits stay exact. Operands of Add, Sub
// and Concat get one scale, whatever reaches them. BatchNormalization stays: it is a scale and an offset of the sums.
#pragma once
#include <string>
#include <vector>

#include "tandem/ir/graph.h"
#include "tandem/numerics/format.h"

namespace tandem::ir {

struct PostTraining {
  Format weights = Format::parse("int8"), activations = Format::parse("int8");
  bool per_channel = false;  // one weight scale per output channel
};
// intN, uintN or fixed<W,I> of 2 to 16 bits (an option's name is for messages). intN: symmetric, scale found; values
// that cannot be negative take uintN. uintN: affine, with a zero point; weights take intN. fixed<W,I>: the scale is
// 2^-(W-I), nothing is found. Error(bad_input).
Format post_training_format(std::string_view text, std::string_view option);

// A value that receives a quantiser.
struct QuantPoint {
  ValueId value = kNone;
  std::string layer;          // node that makes it, or the input's name
  bool input = false;
  bool non_negative = false;  // by its operator: Relu, Clip from 0, Softmax and what only moves their results
  int group = 0;              // points of one group share one scale: a join needs it
};
struct QuantPlan {
  Graph graph;                     // float, constants folded; ids of the points are of it
  std::vector<QuantPoint> points;  // in the order of the nodes, inputs first
  std::vector<int> contractions;   // indices of nodes with a constant float operand
};
// Error(bad_input): quantisers are there already, there is no contraction with constant weights, a weight is not
// finite, or is not f32.
// `by_table`: what enters a Softmax or LayerNormalization is quantised too, for ir::by_table.
QuantPlan plan_quantisation(const Graph& g, bool by_table = false);

struct ValueRange {
  double lo = 0, hi = 0;
};
struct QuantisedValue {  // what was inserted, for tables
  std::string layer, format;
  std::string quantiser;      // name of the Quant node
  double scale = 1;           // the largest of its scales
  double lo = 0, hi = 0;      // least and largest value it holds
};
struct Quantised {
  Graph graph;                             // shapes inferred as far as the inputs say
  std::vector<QuantisedValue> points;      // one per QuantPlan::points
  std::vector<QuantisedValue> weights;     // one per QuantPlan::contractions
};
// `ranges`: of each point, over the calibration data (ignored by fixed point). Scales have 12 significant bits,
// rounded up: the product of two is an f32, so that the bias's grid is exactly that of the sums, and nothing in the
// given ranges is clipped.
Quantised quantise(const QuantPlan& plan, const std::vector<ValueRange>& ranges, const PostTraining& how);

}  // namespace tandem::ir
