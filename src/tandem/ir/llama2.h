// llama2.c checkpoints (the legacy format of karpathy/llama2.c): a header of seven 32-bit numbers and float32 weights of a
// decoder-only transformer with RMS norm, rotary positions on interleaved pairs, grouped-query attention and SwiGLU.
//
// The graph is standard ONNX: ids [batch, seq] -> logits [batch, seq, vocab]. With `cache` it also takes past_key.L and
// past_value.L [batch, kv_heads, past, head] and gives present_key.L and present_value.L [batch, kv_heads, past + seq, head], so
// that one graph reads a prompt (past = 0) and then goes on token by token. Values are float32.
#pragma once
#include <filesystem>
#include <string_view>

#include "tandem/base/limits.h"
#include "tandem/ir/graph.h"

namespace tandem::ir {

struct Llama2Options {
  bool cache = false;
  double norm_epsilon = 1e-5;   // the format does not state these two
  double rope_base = 10000;
};
// Error(bad_input) where the header is implausible or the file has not exactly the bytes that the header asks for.
Graph read_llama2(const std::filesystem::path& path, const Llama2Options& options = {}, const Limits& limits = {});
Graph parse_llama2(std::string_view bytes, const Llama2Options& options = {}, const Limits& limits = {});
// Whether a file that begins with `head` (28 bytes or more) is such a checkpoint: it has the bytes that its header states.
bool is_llama2(std::string_view head, std::uint64_t size);

}  // namespace tandem::ir
