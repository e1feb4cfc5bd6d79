// The activations of RNN, GRU and LSTM.
#pragma once
#include <optional>
#include <string>
#include <vector>

#include "tandem/ir/graph.h"

namespace tandem::ir {

struct Activation {
  std::string name;  // as ONNX has it
  std::optional<double> alpha, beta;
};
// Those of a node, direction by direction, defaults filled in.
std::vector<Activation> activations_of(const Node& n, std::int64_t directions);

}  // namespace tandem::ir
