// Quantisation as a graph rewrite: QONNX Quant nodes on weights, activations and the input, as a
// specification says. The graph stays an ordinary graph; how a scale is found in training is kept in
// the graph's metadata under "scale:<initialiser>".
#pragma once
#include <optional>
#include <string>
#include <vector>

#include "tandem/base/config.h"
#include "tandem/ir/graph.h"

namespace tandem::ir {

struct QuantRule {
  int bits = 8;                       // 1 (bipolar when signed) to 32; 0: leave in float
  bool per_channel = false;           // weights: one scale per output channel
  bool narrow = false;
  std::string scale = "absmax";       // absmax, learned, fixed
  double value = 1;                   // of a fixed scale, and the start of the others
  bool is_signed = true;
  bool operator==(const QuantRule&) const = default;
};
struct QuantOverride {
  std::string nodes;                  // pattern of node names: * and ?
  std::optional<QuantRule> weights, activations;
};
struct QuantRecipe {
  QuantRule weights{8, true, true, "absmax", 1, true};
  QuantRule activations{8, false, false, "learned", 1, false};  // after Relu; without one: signed
  std::optional<QuantRule> input;     // the graph's input; absent: none is inserted
  bool last_activation = false;       // also quantise what leaves the last contraction
  std::vector<QuantOverride> layers;  // the last that matches wins
};

// quantisation:
//   input: {bits: 4, signed: false, scale: 1.0}
//   weights: {bits: 3, per: channel, narrow: true, scale: absmax}
//   activations: {bits: 3, scale: learned}
//   layers:
//     - {nodes: "conv1", weights: {bits: 4}}
QuantRecipe parse_quant_spec(const Config& c);

// Inserts the quantisers. Weights: in front of operand 1 of every Conv, MatMul and Gemm that is a constant.
// Activations: behind every Relu or Clip (unsigned), and behind a contraction, BatchNormalization or
// join whose result reaches another contraction or pool otherwise (signed). Values that are quantised
// already are left alone. Shapes must be inferred. Errors name the node.
Graph insert_quantisers(const Graph& g, const QuantRecipe& spec);

// "learned", "absmax" or "fixed": how training finds the scale held by this initialiser.
std::string scale_source(const Graph& g, const std::string& initialiser);

// * and ? match; the rest is literal.
bool name_matches(std::string_view pattern, std::string_view name);

}  // namespace tandem::ir
