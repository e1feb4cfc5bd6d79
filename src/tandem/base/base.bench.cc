// Goals on one core of a server CPU; each benchmark states its own and reports how far it is.
#include <benchmark/benchmark.h>

#include <numeric>

#include "tandem/base/config.h"
#include "tandem/base/parallel.h"
#include "tandem/base/rng.h"

namespace tandem {
namespace {

// Goal: 100 million words a second.
void RandomWords(benchmark::State& state) {
  Rng r(1, "bench");
  std::uint32_t x = 0;
  for (auto _ : state)
    for (int i = 0; i < 1024; ++i) x ^= r.u32();
  benchmark::DoNotOptimize(x);
  const double words = static_cast<double>(state.iterations()) * 1024;
  state.counters["words/s"] = benchmark::Counter(words, benchmark::Counter::kIsRate);
  state.counters["share_of_goal"] = benchmark::Counter(words / 100e6, benchmark::Counter::kIsRate);
}
BENCHMARK(RandomWords);

// Goal: 200,000 entries of a user's file a second.
void ReadConfig(benchmark::State& state) {
  std::string text = "list:\n";
  for (int i = 0; i < 1000; ++i) text += fmt::format("  - {{name: n{}, value: {}}}\n", i, i);
  for (auto _ : state) benchmark::DoNotOptimize(Config::parse(text).at("list").size());
  const double entries = static_cast<double>(state.iterations()) * 3000;
  state.counters["entries/s"] = benchmark::Counter(entries, benchmark::Counter::kIsRate);
  state.counters["share_of_goal"] = benchmark::Counter(entries / 200e3, benchmark::Counter::kIsRate);
}
BENCHMARK(ReadConfig);

// Goal: 20 us for an empty loop over as many ranges as threads.
void ParallelLoop(benchmark::State& state) {
  const auto n = ThreadBudget::jobs();
  for (auto _ : state) parallel_for(n, 1, [](std::int64_t i) { benchmark::DoNotOptimize(i); });
  state.counters["goal_us"] = 20;
}
BENCHMARK(ParallelLoop)->Unit(benchmark::kMicrosecond);

}  // namespace
}  // namespace tandem
