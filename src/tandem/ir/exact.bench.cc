// Goals on one core of a server CPU; each benchmark states its own and reports how far it is.
#include <benchmark/benchmark.h>

#include "tandem/ir/exact.h"
#include "tandem/ir/op.h"
#include "tandem/ir/random_graph.h"

namespace tandem::ir {
namespace {

// Goal: 20 random graphs a second, drawn, lowered, and run by both reference evaluators.
void Differential(benchmark::State& state) {
  std::uint64_t seed = 0;
  for (auto _ : state) {
    RandomGraph r = random_graph({}, ++seed);
    try {
      ExactProgram p = lower_exact(r.graph);
      benchmark::DoNotOptimize(evaluate_carrier(p, r.inputs));
      benchmark::DoNotOptimize(evaluate_literal(prepare(r.graph), r.inputs));
    } catch (const Error&) {  // no carrier within 128 bits
    }
  }
  const double graphs = static_cast<double>(state.iterations());
  state.counters["graphs/s"] = benchmark::Counter(graphs, benchmark::Counter::kIsRate);
  state.counters["share_of_goal"] = benchmark::Counter(graphs / 20, benchmark::Counter::kIsRate);
}
BENCHMARK(Differential);

}  // namespace
}  // namespace tandem::ir
