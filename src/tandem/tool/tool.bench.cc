// What one call of an external program costs. Goal: 30 ms in the sandbox.
#include <benchmark/benchmark.h>

#include "tandem/tool/process.h"
#include "tandem/tool/work.h"

namespace tandem::tool {
namespace {

void StartAProgram(benchmark::State& state) {
  const WorkFolder w;
  Process p;
  p.argv = {"/bin/true"};
  p.folder = w.path();
  for (auto _ : state)
    if (!p.run().ok()) state.SkipWithError("/bin/true failed");
  state.counters["goal_ms"] = 30;
  state.counters["sandboxed"] = sandbox_available();
}
BENCHMARK(StartAProgram)->Unit(benchmark::kMillisecond)->UseRealTime();

}  // namespace
}  // namespace tandem::tool
