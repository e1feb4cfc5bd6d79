// Execution of float graphs at the machine's speed. Planned once: order, liveness, memory; then run any number of times
// without allocating. Every operator runs: by a kernel of our own in f32, by oneDNN where it is faster and installed, and
// by its reference evaluator where there is no kernel (other element types, extents that depend on data, rare operators).
//
// Results are those of ir::evaluate_float to f32 rounding: sums are taken in another order, a BatchNormalization behind a
// convolution is folded into its weights. Moves, comparisons and integers are equal. They do not depend on the threads.
#pragma once
#include <cstdint>
#include <memory>
#include <vector>

#include "tandem/ir/graph.h"

namespace tandem::exec {

struct FloatOptions {
  int threads = 0;                // 0: the thread budget; 1: none but the caller's
  bool library = true;            // oneDNN, where it is installed
  bool keep_all = false;          // nothing is fused and no memory reused, so that run() can give every value
  std::uint64_t memory_bytes = ~std::uint64_t{0};  // Error(limit) where more would be needed
};
struct FloatCounts {              // steps of the plan
  int own = 0, library = 0, reference = 0, views = 0, reorders = 0;
};

class FloatExecutor {
 public:
  // `bound`: extents of the inputs known. Nodes of constants are evaluated here. Throws Error naming the node it refuses.
  explicit FloatExecutor(ir::Graph bound, FloatOptions options = {});
  ~FloatExecutor();
  FloatExecutor(FloatExecutor&&) noexcept;

  // Graph outputs in their dtype. `all` (keep_all only): one tensor per value, undefined where it was not computed.
  std::vector<Tensor> run(const std::vector<Tensor>& inputs, std::vector<Tensor>* all = nullptr);
  // The most memory it holds at any time, known before anything runs: constants, prepared weights, values, temporaries
  // of reference evaluators, outputs; not the caller's inputs. Values whose extents depend on data are not in it.
  std::uint64_t peak_bytes() const;
  bool bounded() const;           // false: some extents depend on data
  const FloatCounts& counts() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace tandem::exec
