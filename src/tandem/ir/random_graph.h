// Random quantised graphs: what the self-test and the differential tests draw from. A pure function of
// (options, seed): the same seed gives the same graph everywhere.
#pragma once
#include "tandem/base/rng.h"
#include "tandem/ir/graph.h"

namespace tandem::ir {

struct RandomGraphOptions {
  int max_layers = 5;           // blocks after the input quantiser
  int max_channels = 6;
  int max_extent = 7;           // height and width
  int max_bits = 8;             // of activations and weights
  bool streaming = false;       // mostly what the streaming hardware has
  bool joins = true;            // Add, Sub, Mul, Concat of two branches; streaming: and what else real topologies are made of
  bool moves = false;           // also Slice, Pad, Resize, DepthToSpace, LeakyRelu, ..., which training does not have
  bool state = false;           // a Delay somewhere
  bool float_tail = true;       // sometimes Softmax at the end
  std::int64_t batch = 1;
  bool all_operators = false;   // instead of the above: every operator that samples itself and has no sub-graph, float and integer, chained by what fits them
};
struct RandomGraph {
  Graph graph;                  // shapes inferred
  std::vector<Tensor> inputs;   // one sample for it
};
RandomGraph random_graph(const RandomGraphOptions& options, std::uint64_t seed);
// The options but all_operators: another random sample for the same graph.
std::vector<Tensor> random_inputs(const Graph& g, std::uint64_t seed);

// Values far beyond every format: all lowest (0), all highest (1), zeros (2), in turn lowest and highest (3 and above).
std::vector<Tensor> corner_inputs(const Graph& g, int which);

}  // namespace tandem::ir
