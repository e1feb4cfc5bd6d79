// Goals on one core of a server CPU; each benchmark states its own and reports how far it is.
#include <benchmark/benchmark.h>

#include "tandem/base/rng.h"
#include "tandem/ir/op.h"
#include "tandem/map/folding.h"
#include "tandem/rtl/generate.h"

namespace tandem {
namespace {

// The size of the demo's network: two convolutions and a dense layer on 8x8 images.
plan::StageGraph stages() {
  using namespace ir;
  Graph g;
  Rng r(1, "bench");
  auto c = [&](Shape s, float v) { return g.add_constant(g.unique_name("c"), Tensor::of<float>(s, std::vector<float>(static_cast<std::size_t>(element_count(s)), v))); };
  auto quant = [&](ValueId x, float s, float bits, std::int64_t sign) {
    return g.add_node("Quant", {x, c({}, s), c({}, 0), c({}, bits)}, {{"signed", sign}}, "", "qonnx.custom_op.general");
  };
  auto weights = [&](Shape s) {
    std::vector<float> w(static_cast<std::size_t>(element_count(s)));
    for (float& v : w) v = static_cast<float>(r.range(-7, 7));
    return quant(g.add_constant(g.unique_name("w"), Tensor::of<float>(s, w)), 1, 4, 1);
  };
  const std::map<std::string, Attribute> same{{"pads", std::vector<std::int64_t>{1, 1, 1, 1}}};
  auto half = same;
  half["strides"] = std::vector<std::int64_t>{2, 2};
  ValueId x = quant(g.add_input("x", DType::f32, {Dim(1), Dim(1), Dim(8), Dim(8)}), 1.f / 16, 4, 0);
  x = quant(g.add_node("Relu", {g.add_node("Conv", {x, weights({8, 1, 3, 3})}, same)}), 0.5f, 4, 0);
  x = quant(g.add_node("Relu", {g.add_node("Conv", {x, weights({16, 8, 3, 3})}, half)}), 3.f, 4, 0);
  g.outputs = {g.add_node("MatMul", {g.add_node("Flatten", {x}), weights({256, 10})})};
  infer_shapes(g);
  return plan::stages_from(lower_exact(g, 64), "bench");
}

// Goal: 50,000 designs evaluated in closed form per second (cycles, latency, LUT4, BRAM, DSP).
void ClosedForm(benchmark::State& state) {
  const plan::StageGraph g = stages();
  std::vector<plan::StageShape> scratch;
  plan::Folding f = plan::smallest_folding(g);
  std::size_t turn = 0;
  for (auto _ : state) {
    f.of[0].pe = std::int64_t{1} << (turn % 4);  // another design each time
    f.of[2].pe = std::int64_t{1} << (turn / 4 % 4);
    ++turn;
    benchmark::DoNotOptimize(map::evaluate(g, f, scratch).interval);
  }
  const double designs = static_cast<double>(state.iterations());
  state.counters["designs/s"] = benchmark::Counter(designs, benchmark::Counter::kIsRate);
  state.counters["share_of_goal"] = benchmark::Counter(designs / 50e3, benchmark::Counter::kIsRate);
}
BENCHMARK(ClosedForm);

// Goal: the folding of the demo's network in 10 ms.
void ChooseFolding(benchmark::State& state) {
  const plan::StageGraph g = stages();
  for (auto _ : state) benchmark::DoNotOptimize(map::choose_folding(g, {}).estimate.interval);
  state.counters["share_of_goal"] = benchmark::Counter(static_cast<double>(state.iterations()) * 0.01, benchmark::Counter::kIsRate);
}
BENCHMARK(ChooseFolding);

}  // namespace
}  // namespace tandem
