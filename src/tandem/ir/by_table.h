// Softmax and LayerNormalization of quantised values as integer arithmetic with a table (ops/by_table.h), which hardware can have.
#pragma once
#include <string>
#include <vector>

#include "tandem/ir/graph.h"

namespace tandem::ir {

struct ByTable {
  int rewritten = 0;
  std::vector<std::string> left;  // "Softmax 'probs': ..." why it stays
};
// Rewritten are those whose operand a quantiser of one scale and at most 12 bits gives, maybe moved on the way: a Softmax becomes a
// TableSoftmax of 8 fraction bits (16 where a wider quantiser takes the result), a LayerNormalization over the last axis a TableNormalize
// with a table of 512 roots, 10 fraction bits, and scale and bias behind it. The graph's shapes are inferred.
Graph by_table(const Graph& g, ByTable* stats = nullptr, bool normalisations = true);

}  // namespace tandem::ir
