// Goals on one core of a server CPU; each benchmark states its own and reports how far it is.
#include <benchmark/benchmark.h>

#include "tandem/base/rng.h"
#include "tandem/ir/op.h"
#include "tandem/map/folding.h"
#include "tandem/map/optimise.h"
#include "tandem/map/queues.h"
#include "tandem/plan/timing.h"
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

// 50 layers with weights: a convolution, 24 residual blocks of two (16, 32 and 64 channels on 32x32, 16x16 and 8x8; a
// 1x1 convolution beside where they change), a dense layer; folded to 9216 cycles a frame.
plan::StageGraph residual50() {
  using namespace ir;
  Graph g;
  Rng r(1, "residual");
  auto c = [&](Shape s, float v) { return g.add_constant(g.unique_name("c"), Tensor::of<float>(s, std::vector<float>(static_cast<std::size_t>(element_count(s)), v))); };
  auto quant = [&](ValueId x, float s, float bits, std::int64_t sign) {
    return g.add_node("Quant", {x, c({}, s), c({}, 0), c({}, bits)}, {{"signed", sign}}, "", "qonnx.custom_op.general");
  };
  auto weights = [&](Shape s) {
    std::vector<float> w(static_cast<std::size_t>(element_count(s)));
    for (float& v : w) v = static_cast<float>(r.range(-1, 1));
    return quant(g.add_constant(g.unique_name("w"), Tensor::of<float>(s, w)), 1, 2, 1);
  };
  auto conv = [&](ValueId x, std::int64_t in, std::int64_t out, std::int64_t k, std::int64_t stride) {
    return quant(g.add_node("Conv", {x, weights({out, in, k, k})}, {{"pads", std::vector<std::int64_t>(4, k / 2)}, {"strides", std::vector<std::int64_t>{stride, stride}}}), 8.f, 3, 1);
  };
  ValueId x = conv(quant(g.add_input("x", DType::f32, {Dim(1), Dim(3), Dim(32), Dim(32)}), 1, 4, 1), 3, 16, 3, 1);
  std::int64_t channels = 16;
  for (int block = 0; block < 24; ++block) {
    const std::int64_t out = 16 << (block / 8), stride = out == channels ? 1 : 2;
    const ValueId long_way = conv(conv(x, channels, out, 3, stride), out, out, 3, 1);
    x = quant(g.add_node("Add", {long_way, out == channels ? x : conv(x, channels, out, 1, stride)}), 1, 3, 1);
    channels = out;
  }
  g.outputs = {g.add_node("MatMul", {g.add_node("Flatten", {x}), weights({64 * 8 * 8, 10})})};
  infer_shapes(g);
  return plan::stages_from(lower_exact(g, 64), "residual");
}
plan::Folding folded(const plan::StageGraph& g, std::int64_t interval) {
  plan::Folding f = plan::smallest_folding(g);
  for (std::size_t i = 0; i < g.layers.size(); ++i) {
    const plan::Layer& l = g.layers[i];
    if (l.kind != plan::LayerKind::dense) continue;
    const std::int64_t inputs = l.window ? l.window->c : l.mw;
    std::int64_t best = INT64_MAX;
    for (std::int64_t pe = 1; pe <= l.mh; ++pe)
      for (std::int64_t simd = 1; simd <= inputs; ++simd)
        if (l.mh % pe == 0 && inputs % simd == 0 && l.vectors * (l.mh / pe) * (l.mw / simd) <= interval && pe * simd < best) {
          best = pe * simd;
          f.of[i].pe = pe;
          f.of[i].simd = simd;
        }
  }
  return f;
}

// The shape of MLPerf Tiny's ResNet8: three residual blocks of 16, 32 and 64 channels on 32x32 images, 8-bit weights and codes.
plan::StageGraph resnet8() {
  using namespace ir;
  Graph g;
  Rng r(1, "resnet8");
  auto c = [&](Shape s, float v) { return g.add_constant(g.unique_name("c"), Tensor::of<float>(s, std::vector<float>(static_cast<std::size_t>(element_count(s)), v))); };
  auto quant = [&](ValueId x, float s) {
    return g.add_node("Quant", {x, c({}, s), c({}, 0), c({}, 8)}, {{"signed", std::int64_t{1}}}, "", "qonnx.custom_op.general");
  };
  auto weights = [&](Shape s) {
    std::vector<float> w(static_cast<std::size_t>(element_count(s)));
    for (float& v : w) v = static_cast<float>(r.range(-127, 127));
    return quant(g.add_constant(g.unique_name("w"), Tensor::of<float>(s, w)), 1);
  };
  auto conv = [&](ValueId x, std::int64_t in, std::int64_t out, std::int64_t k, std::int64_t stride) {
    return quant(g.add_node("Conv", {x, weights({out, in, k, k})}, {{"pads", std::vector<std::int64_t>(4, k / 2)}, {"strides", std::vector<std::int64_t>{stride, stride}}}), 512.f);
  };
  ValueId x = conv(quant(g.add_input("x", DType::f32, {Dim(1), Dim(3), Dim(32), Dim(32)}), 1), 3, 16, 3, 1);
  for (std::int64_t in = 16, out = 16; out <= 64; in = out, out *= 2) {
    const std::int64_t stride = in == out ? 1 : 2;
    const ValueId long_way = conv(conv(x, in, out, 3, stride), out, out, 3, 1);
    x = quant(g.add_node("Add", {long_way, in == out ? x : conv(x, in, out, 1, stride)}), 512.f);
  }
  x = quant(g.add_node("AveragePool", {x}, {{"kernel_shape", std::vector<std::int64_t>{8, 8}}}), 512.f);
  g.outputs = {g.add_node("MatMul", {g.add_node("Flatten", {x}), weights({64, 10})})};
  infer_shapes(g);
  return plan::stages_from(lower_exact(g, 64), "resnet8");
}
void OptimiseResNet8(benchmark::State& state, map::Method method, map::Objective objective, double goal_s) {
  const plan::StageGraph g = resnet8();
  map::Budget b;
  b.device = "xczu3eg";
  b.family = plan::Family::xcup;
  b.lut4 = 70560;
  b.bram = 432;
  b.dsp = 360;
  b.fill = 0.7;
  map::FoldingStats stats;
  std::int64_t interval = 0;
  for (auto _ : state) {
    stats = {};
    interval = map::optimise_folding(g, b, {.objective = objective, .method = method, .interval = objective == map::Objective::resource ? 150000 : 0}, &stats).estimate.interval;
  }
  state.counters["cycles"] = static_cast<double>(interval);
  state.counters["share_of_part"] = stats.share;
  state.counters["programs"] = static_cast<double>(stats.programs);
  state.counters["options"] = static_cast<double>(stats.options);
  state.counters["share_of_goal"] = benchmark::Counter(static_cast<double>(state.iterations()) * goal_s, benchmark::Counter::kIsRate);
}
// Goals: ResNet8's folding exactly in 1 s, by the heuristic in 10 ms.
BENCHMARK_CAPTURE(OptimiseResNet8, exact_throughput, map::Method::exact, map::Objective::throughput, 1.0)->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(OptimiseResNet8, exact_resource, map::Method::exact, map::Objective::resource, 1.0)->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(OptimiseResNet8, heuristic_throughput, map::Method::heuristic, map::Objective::throughput, 0.01)->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(OptimiseResNet8, heuristic_resource, map::Method::heuristic, map::Objective::resource, 0.01)->Unit(benchmark::kMillisecond);

// Goal: the queues of a residual network of 50 layers in 100 ms. Its searches share the threads there are.
void QueueDepths(benchmark::State& state) {
  const plan::StageGraph g = residual50();
  const plan::Folding f = folded(g, 9216);
  map::QueueStats stats;
  for (auto _ : state) {
    plan::Folding sized = f;
    stats = {};
    map::size_queues(g, sized, &stats, map::Room::least);
    benchmark::DoNotOptimize(sized.of.data());
  }
  state.counters["queues"] = static_cast<double>(stats.queues);
  state.counters["simulations"] = static_cast<double>(stats.simulations);
  state.counters["at_once"] = stats.whole;
  state.counters["share_of_goal"] = benchmark::Counter(static_cast<double>(state.iterations()) * 0.1, benchmark::Counter::kIsRate);
}
BENCHMARK(QueueDepths)->Unit(benchmark::kMillisecond)->UseRealTime();

// Goal: 1,000,000 cycles of a design of 50 layers, stepped in 5 s.
void StepControl(benchmark::State& state) {
  const plan::StageGraph g = residual50();
  plan::Folding f = folded(g, 9216);
  map::size_queues(g, f, nullptr, map::Room::least);
  std::vector<plan::StageShape> stages;
  expand(g, f, stages);
  double cycles = 0;
  for (auto _ : state) cycles += static_cast<double>(plan::simulate(stages, {.frames = 3}).ends.back());
  state.counters["stages"] = static_cast<double>(stages.size());
  state.counters["cycles/s"] = benchmark::Counter(cycles, benchmark::Counter::kIsRate);
  state.counters["share_of_goal"] = benchmark::Counter(cycles / 200e3, benchmark::Counter::kIsRate);
}
BENCHMARK(StepControl)->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace tandem
