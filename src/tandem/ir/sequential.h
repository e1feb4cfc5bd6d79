// A chain of layers written in YAML as a graph: for recipes and tests. Anything richer comes as ONNX.
#pragma once
#include <string>
#include <vector>

#include "tandem/base/config.h"
#include "tandem/ir/graph.h"

namespace tandem::ir {

// input: [1, 8, 8]                 # extents of one sample
// layers:
//   - conv: {channels: 8, kernel: 3, stride: 1, pad: 1, group: 1, bias: false}
//   - batchnorm
//   - relu
//   - clip: {min: 0, max: 6}
//   - maxpool: {kernel: 2}         # stride: kernel unless given; also averagepool
//   - global_average
//   - dropout: {ratio: 0.2}
//   - flatten                      # implied in front of the first dense layer
//   - dense: {features: 10}
// Weights are drawn from normal(0, sqrt(2 / fan in)) (He et al., 2015), one stream of `seed` per layer
// name; biases and means are 0, scales and variances 1. A bias is given to conv unless a batchnorm
// follows. The input is "x", f32, [batch, ...]; layers are named conv1, relu1, ...
Graph build_sequential(const Config& c, std::uint64_t seed, const std::string& name = "model");

}  // namespace tandem::ir
