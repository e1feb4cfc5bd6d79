// Two spellings of the same quantisers: QONNX's Quant, and ONNX's QuantizeLinear, Clip of codes, DequantizeLinear (QDQ; QCDQ
// where fewer than 8 bits are used), which float runtimes know.
//
// They round in the same way but for ties at odd zero points: Quant rounds x/scale + zero, QuantizeLinear adds zero after
// rounding (docs/semantics.md). Such quantisers are rewritten all the same and named in the notes.
// Source: QONNX (Pappalardo et al., arXiv 2206.07527), ONNX QuantizeLinear.
#pragma once
#include <string>
#include <vector>

#include "tandem/ir/graph.h"

namespace tandem::ir {

struct QdqStats {
  int rewritten = 0;
  std::vector<std::string> notes;  // quantisers left as they are, or whose ties move, with the reason
};
// Every Quant of at most 8 bits (16 with `wide`, which needs opset 21) that rounds half to even becomes QuantizeLinear, a Clip where
// the codes are fewer, DequantizeLinear; constants become integer initialisers. Extents must be known (bind_free or better).
Graph to_qdq(const Graph& g, QdqStats* stats = nullptr, bool wide = false);
// Every DequantizeLinear of codes (from a QuantizeLinear, perhaps clipped, or constant) becomes a Quant.
Graph from_qdq(const Graph& g, QdqStats* stats = nullptr);

}  // namespace tandem::ir
