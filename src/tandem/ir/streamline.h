// Rewrites that keep what a model computes and make it shorter.
#pragma once
#include <string>
#include <vector>

#include "tandem/ir/exact.h"

namespace tandem::ir {

struct FoldStats {
  int constants = 0;           // nodes computed beforehand
  int batch_normalisations = 0;
};
// Constant sub-graphs are computed (quantisers of constants stay), and in float graphs a BatchNormalization behind a Conv, ConvTranspose
// or Gemm with constant weights goes into these: two roundings become one, in f32.
Graph folded(const Graph& g, FoldStats* stats = nullptr);

// The integers of an exact program as a graph: contractions of integer weights, and thresholds in place of scales, biases, normalisations,
// activations and quantisers (FINN's streamlined form). Run in f32 it is exact where all integers stay below 2^24: what a float output
// needs is one scale and offset at the end. Error(no) names the node where integers are wider, where groups do not lie along the channels,
// or where there is state.
// Source: Umuroglu and Jahre, "Streamlined deployment for quantized neural networks", arXiv 1709.04060.
Graph streamlined(const ExactProgram& p);

}  // namespace tandem::ir
