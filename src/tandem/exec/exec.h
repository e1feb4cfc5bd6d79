// Fast exact execution: the results that Verilog, C and simulators are compared with. Equal to the
// reference evaluators on every input (tested on random graphs); float nodes run as the float evaluator
// defines them.
#pragma once
#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "tandem/ir/exact.h"

namespace tandem::exec {

// May compute a contraction step (IntConv, IntMatMul) in another engine's arithmetic: `x` holds the
// integers of each operand, `y` (sized) receives the result. Returns false to leave it to the own kernel.
using ContractionHook =
    std::function<bool(const ir::Step&, const std::vector<std::vector<std::int64_t>>& x, std::vector<std::int64_t>& y)>;

class Executor {
 public:
  explicit Executor(ir::ExactProgram program);
  ~Executor();
  Executor(Executor&&) noexcept;

  const ir::ExactProgram& program() const;
  // Contractions that run on bytes (numerics/int8.h), because weights and the proven range of the input fit them.
  int steps_in_bytes() const;
  // Graph outputs for one set of inputs (shapes as bound). Advances the state of Delays by one tick.
  // Errors: wrong shapes, NaN before an integer format.
  std::vector<Tensor> run(const std::vector<Tensor>& inputs);
  // The integers of a buffer after run().
  std::vector<std::int64_t> integers(int buffer) const;
  void reset_state();
  void set_contraction_hook(ContractionHook hook);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

// `run` on `rows` rows of `x` at a time, its outputs together again; the last portion is filled up with copies of the last row,
// whose results are dropped. Every output's first axis must have `rows`.
std::vector<Tensor> in_portions(const Tensor& x, std::int64_t rows, const std::function<std::vector<Tensor>(const Tensor&)>& run);

// Runs a graph over `x` of n rows in batches; outputs have n rows, each as if it were run alone. A symbolic batch, or one
// of 1 on which nothing depends, runs `batch` rows at a time; a fixed one its own, the last padded with copies of
// the last row. One graph input whose first axis is the batch. Quantised graphs run exactly, float ones in f32.
std::vector<Tensor> run_rows(const ir::Graph& graph, const Tensor& x, std::int64_t batch = 64);

}  // namespace tandem::exec
