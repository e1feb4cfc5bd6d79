// Goal on one core of a server CPU: a file of 25 MB is read in less than 0.3 s; at its peak reading takes at most twice the file and 60 MB.
#include <benchmark/benchmark.h>

#include <sys/resource.h>

#include <filesystem>

#include "tandem/base/rng.h"
#include "tandem/ir/onnx.h"

namespace tandem::ir {
namespace {

// 25 matrices of 512 x 512 in a row.
void Read25MB(benchmark::State& state) {
  const std::filesystem::path file = std::filesystem::temp_directory_path() / "tandem-25MB.onnx";
  {
    Graph g;
    Rng r(1, "weights");
    ValueId v = g.add_input("x", DType::f32, {Dim(1), Dim(512)});
    for (int i = 0; i < 25; ++i) {
      Tensor w(DType::f32, {512, 512});
      for (std::int64_t k = 0; k < w.size(); ++k) w.data<float>()[k] = static_cast<float>(r.uniform());
      v = g.add_node("MatMul", {v, g.add_constant(g.unique_name("w"), std::move(w))});
    }
    g.outputs = {v};
    write_onnx(g, file);
  }
  const auto size = static_cast<double>(std::filesystem::file_size(file));
  for (auto _ : state) benchmark::DoNotOptimize(read_onnx(file));
  std::filesystem::remove(file);
  struct rusage u {};
  getrusage(RUSAGE_SELF, &u);
  state.counters["share_of_goal"] = benchmark::Counter(static_cast<double>(state.iterations()) * 0.3, benchmark::Counter::kIsRate);
  // Of the whole process, the making of the file included.
  state.counters["peak_over_allowed"] = static_cast<double>(u.ru_maxrss) * 1024 / (2 * size + 60e6);
}
BENCHMARK(Read25MB)->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace tandem::ir
