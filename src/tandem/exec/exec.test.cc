// Fast execution against the reference evaluators on random graphs.
#include "tandem/exec/exec.h"

#include <gtest/gtest.h>

#include <cmath>

#include "tandem/ir/dump.h"
#include "tandem/ir/op.h"
#include "tandem/ir/random_graph.h"

namespace tandem::exec {
namespace {

using namespace tandem::ir;

// At least so many contractions ran on bytes, and so many on wider integers.
void sweep(RandomGraphOptions o, int graphs, std::uint64_t seed, int ticks, int bytes_least, int wide_least) {
  int ran = 0, in_bytes = 0, contractions = 0;
  for (int i = 0; i < graphs; ++i) {
    RandomGraph r = random_graph(o, seed + i);
    ExactProgram p;
    try {
      p = lower_exact(r.graph);
    } catch (const Error& e) {
      ASSERT_EQ(e.code(), Exit::no) << e.full();
      continue;
    }
    ++ran;
    Executor x(p);
    in_bytes += x.steps_in_bytes();
    for (const Step& s : p.steps) contractions += std::holds_alternative<IntConv>(s.params) || std::holds_alternative<IntMatMul>(s.params);
    std::vector<std::vector<std::int64_t>> states;
    for (int t = 0; t < ticks; ++t) {
      auto in = random_inputs(r.graph, seed * 31 + i * 7 + t);
      std::vector<std::vector<Int128>> all;
      auto want = evaluate_carrier(p, in, &states, &all);
      auto got = x.run(in);
      for (std::size_t k = 0; k < p.buffers.size(); ++k) {  // every intermediate value, not only outputs
        if (!p.buffers[k].integer || signed_bits(p.buffers[k].lo, p.buffers[k].hi) > 63) continue;
        auto v = x.integers(static_cast<int>(k));
        ASSERT_EQ(v.size(), all[k].size());
        for (std::size_t e = 0; e < v.size(); ++e)
          ASSERT_TRUE(v[e] == all[k][e]) << "seed " << seed + i << " buffer " << p.buffers[k].name << " element " << e << "\n" << to_text(r.graph) << to_text(p);
      }
      for (std::size_t k = 0; k < want.size(); ++k) ASSERT_TRUE(got[k].same(want[k])) << "seed " << seed + i << " output " << k << "\n" << to_text(r.graph);
    }
  }
  EXPECT_GE(ran, graphs * 2 / 3);
  EXPECT_GE(in_bytes, bytes_least);
  EXPECT_GE(contractions - in_bytes, wide_least);
}

TEST(Exec, EqualsCarrierOnRandomGraphs) {
  RandomGraphOptions o;
  o.batch = 2;
  sweep(o, 300, 40000, 2, 150, 10);
}
TEST(Exec, EqualsCarrierOnWideFormats) {
  RandomGraphOptions o;
  o.max_bits = 16;
  sweep(o, 60, 50000, 1, 5, 20);
}
TEST(Exec, EqualsCarrierWithState) {
  RandomGraphOptions o;
  o.state = true;
  o.joins = false;
  sweep(o, 60, 60000, 4, 20, 0);
}

// Every range of eight bits, signed, unsigned and neither, with padding, strides, groups and a depth that is no multiple of four.
TEST(Exec, EveryContractionInBytesEqualsTheCarrier) {
  int in_bytes = 0, offset = 0, parallel = 0;
  for (std::uint64_t seed = 0; seed < 120; ++seed) {
    Rng r(seed, "bytes");
    Graph g;
    const auto quant = [&](ValueId v, float scale, float zero, float bits, bool is_signed) {
      const auto c = [&](float x) { return g.add_constant(g.unique_name("c"), Tensor::scalar(x)); };
      return g.add_node("Quant", {v, c(scale), c(zero), c(bits)}, {{"signed", std::int64_t{is_signed}}}, "", "qonnx.custom_op.general");
    };
    const bool dense = seed % 3 == 0, is_signed = r.chance(0.5), large = seed % 20 == 1;
    const float zero = !is_signed && r.chance(0.4) ? static_cast<float>(r.range(1, 200)) : 0;
    offset += zero != 0;
    const std::int64_t group = dense || large ? 1 : r.range(1, 3), cin = large ? 32 : group * r.range(1, 7), cout = large ? 64 : group * r.range(1, 40), k = r.range(1, 3);
    const Shape xs = dense ? Shape{r.range(1, 5), cin} : Shape{r.range(1, 2), cin, large ? 16 : r.range(3, 9), large ? 16 : r.range(3, 9)};
    const Shape ws = dense ? Shape{cin, cout} : Shape{cout, cin / group, k, k};
    parallel += large;
    Tensor w(DType::f32, ws);
    for (std::int64_t i = 0; i < w.size(); ++i) w.set(i, r.range(-127, 127));
    const ValueId x = quant(g.add_input("x", DType::f32, dims_of(xs)), 1, zero, 8, is_signed), weights = quant(g.add_constant("w", w), 1, 0, 8, true);
    const auto two = [&](std::int64_t lo, std::int64_t hi) { return std::vector<std::int64_t>{r.range(lo, hi), r.range(lo, hi)}; };
    const auto pads = two(0, k - 1);
    if (dense) g.outputs = {g.add_node("MatMul", {x, weights})};
    else g.outputs = {g.add_node("Conv", {x, weights}, {{"group", group}, {"strides", two(1, 2)}, {"pads", std::vector<std::int64_t>{pads[0], pads[1], pads[1], pads[0]}}})};
    infer_shapes(g);
    Tensor in(DType::f32, xs);
    for (std::int64_t i = 0; i < in.size(); ++i) in.set(i, static_cast<double>(r.range(-260, 260)));
    const ExactProgram p = lower_exact(g);
    Executor e(p);
    in_bytes += e.steps_in_bytes();
    ASSERT_TRUE(e.run({in})[0].same(evaluate_carrier(p, {in})[0])) << "seed " << seed << "\n" << to_text(p);
  }
  EXPECT_EQ(in_bytes, 120);
  EXPECT_GT(offset, 10);
  EXPECT_EQ(parallel, 6);
}

TEST(Exec, RowsInBatchesEqualRowsAlone) {
  for (std::uint64_t seed = 1; seed < 12; ++seed) {
    RandomGraphOptions o;
    o.streaming = true;
    RandomGraph r = random_graph(o, seed);
    Shape s = r.inputs[0].shape();
    Shape all = s;
    all[0] = 7;
    Tensor x(DType::f32, all);
    Rng rng(seed, "rows");
    for (std::int64_t i = 0; i < x.size(); ++i) x.set(i, rng.normal());
    auto y = run_rows(r.graph, x, 3);
    Executor one(lower_exact(r.graph));
    for (std::int64_t i = 0; i < 7; ++i) {
      auto want = one.run({x.rows(i, i + 1)});
      ASSERT_TRUE(y[0].rows(i, i + 1).same(want[0])) << "seed " << seed << " row " << i;
    }
  }
}

// A graph that is bound to two rows sees two rows at a time.
TEST(Exec, AStatedBatchIsKept) {
  Graph g;
  const ValueId x = g.add_input("x", DType::f32, {Dim(2), Dim(3)});
  g.outputs = {g.add_node("Sub", {x, g.add_node("ReduceMean", {x}, {{"axes", std::vector<std::int64_t>{0}}, {"keepdims", std::int64_t{1}}})})};
  infer_shapes(g);
  Tensor all(DType::f32, {6, 3});
  for (std::int64_t i = 0; i < all.size(); ++i) all.set(i, static_cast<double>(i * i));
  const Tensor y = run_rows(g, all)[0];
  for (std::int64_t i = 0; i < 6; i += 2) EXPECT_TRUE(y.rows(i, i + 2).same(evaluate_float(g, {all.rows(i, i + 2)})[0])) << i;
}

// A stated batch of 1 that does not only look like one: the mean over it is the row's own.
TEST(Exec, RowsOfAStatedBatchOfOneDoNotMix) {
  for (const bool quantised : {false, true}) {
    Graph g;
    ValueId x = g.add_input("x", DType::f32, {Dim(1), Dim(3)});
    const auto number = [&](float v) { return g.add_constant(g.unique_name("c"), Tensor::scalar(v)); };
    if (quantised) x = g.add_node("Quant", {x, number(1), number(0), number(8)}, {{"signed", std::int64_t{1}}, {"narrow", std::int64_t{0}}, {"rounding_mode", std::string("ROUND")}}, "", "qonnx.custom_op.general");
    const ValueId total = g.add_node("ReduceSum", {x, g.add_constant("axes", Tensor::of<std::int64_t>({1}, {0}))}, {{"keepdims", std::int64_t{1}}});
    g.outputs = {g.add_node("Add", {x, total})};
    infer_shapes(g);
    Tensor all(DType::f32, {6, 3});
    for (std::int64_t i = 0; i < all.size(); ++i) all.set(i, static_cast<double>(i));
    const Tensor y = run_rows(g, all)[0];
    for (std::int64_t i = 0; i < all.size(); ++i) EXPECT_EQ(y.at(i), 2 * all.at(i)) << quantised;
  }
}

// However mixed rows differ from rows alone: they leave the range of floats, are no numbers, or have the other sign.
TEST(Exec, RowsOfAStatedBatchOfOneDifferInEveryWay) {
  for (const std::string_view way : {"infinite", "no number", "sign"}) {
    Graph g;
    const ValueId x = g.add_input("x", DType::f32, {Dim(1), Dim(3)});
    const ValueId total = g.add_node("ReduceSum", {x, g.add_constant("axes", Tensor::of<std::int64_t>({1}, {0}))}, {{"keepdims", std::int64_t{1}}});
    if (way == "infinite") g.outputs = {g.add_node("Max", {x, total})};
    if (way == "no number") g.outputs = {g.add_node("Add", {x, g.add_node("Sub", {total, total})})};
    if (way == "sign") g.outputs = {g.add_node("Sub", {g.add_node("Mul", {x, g.add_constant("c", Tensor::scalar(1.5f))}), total})};
    infer_shapes(g);
    Tensor all(DType::f32, {2, 3});
    for (std::int64_t i = 0; i < all.size(); ++i) all.set(i, way == "sign" ? 8 : 2e38);
    const Tensor y = run_rows(g, all)[0];
    for (std::int64_t i = 0; i < all.size(); ++i) EXPECT_EQ(y.at(i), way == "sign" ? 4 : all.at(i)) << way;
  }
}

TEST(Exec, RowsOfASymbolicBatch) {
  Graph g;
  const auto c = [&](float v) { return g.add_constant(g.unique_name("c"), Tensor::scalar(v)); };
  g.outputs = {g.add_node("Quant", {g.add_input("x", DType::f32, {Dim("n"), Dim(3)}), c(0.5f), c(0), c(6)}, {}, "", "qonnx.custom_op.general")};
  infer_shapes(g);
  Tensor all(DType::f32, {7, 3});
  for (std::int64_t i = 0; i < all.size(); ++i) all.set(i, 0.7 * static_cast<double>(i) - 5);
  const Tensor y = run_rows(g, all, 3)[0];
  ASSERT_EQ(y.shape(), all.shape());
  for (std::int64_t i = 0; i < all.size(); ++i) EXPECT_EQ(y.at(i), 0.5 * std::nearbyint(std::clamp(2.0 * all.at(i), -32.0, 31.0))) << i;
}

// Rows of one number each, without a second axis.
TEST(Exec, RowsOfRankOne) {
  for (const bool stated : {true, false}) {
    Graph g;
    const auto c = [&](float v) { return g.add_constant(g.unique_name("c"), Tensor::scalar(v)); };
    g.outputs = {g.add_node("Quant", {g.add_input("x", DType::f32, {stated ? Dim(1) : Dim("n")}), c(0.5f), c(0), c(6)}, {}, "", "qonnx.custom_op.general")};
    infer_shapes(g);
    Tensor all(DType::f32, {7});
    for (std::int64_t i = 0; i < all.size(); ++i) all.set(i, 0.7 * static_cast<double>(i) - 2);
    const Tensor y = run_rows(g, all, 3)[0];
    ASSERT_EQ(y.shape(), all.shape());
    for (std::int64_t i = 0; i < all.size(); ++i) EXPECT_EQ(y.at(i), 0.5 * std::nearbyint(2.0 * all.at(i))) << i;
  }
}

// Who trains computes contractions elsewhere: products and convolutions are offered, nothing else, and what is declined is computed here.
TEST(Exec, ContractionsThroughAHook) {
  Graph g;
  const auto c = [&](Shape s, float v) { return g.add_constant(g.unique_name("c"), Tensor::of<float>(s, std::vector<float>(static_cast<std::size_t>(element_count(s)), v))); };
  const auto quant = [&](ValueId x) { return g.add_node("Quant", {x, c({}, 1), c({}, 0), c({}, 8)}, {{"signed", std::int64_t{1}}}, "", "qonnx.custom_op.general"); };
  const ValueId x = quant(g.add_input("x", DType::f32, {Dim(1), Dim(1), Dim(2), Dim(2)}));
  const ValueId y = quant(g.add_node("Conv", {x, quant(c({3, 1, 2, 2}, 1))}));
  g.outputs = {g.add_node("MatMul", {g.add_node("Flatten", {y}), quant(c({3, 2}, 1))})};
  infer_shapes(g);
  Executor e(lower_exact(g));
  const Tensor in = Tensor::of<float>({1, 1, 2, 2}, std::vector<float>{1, 2, 3, 4});
  std::vector<std::string> offered;
  for (const bool take : {false, true}) {
    e.set_contraction_hook([&](const Step& s, const std::vector<std::vector<std::int64_t>>& from, std::vector<std::int64_t>& to) {
      const bool conv = std::holds_alternative<IntConv>(s.params);
      EXPECT_TRUE(conv || std::holds_alternative<IntMatMul>(s.params));
      EXPECT_EQ(from[0], conv ? (std::vector<std::int64_t>{1, 2, 3, 4}) : std::vector<std::int64_t>(3, take ? 7 : 10));
      offered.push_back(conv ? "conv" : "product");
      std::fill(to.begin(), to.end(), conv ? 7 : 5);
      return take;
    });
    const Tensor out = e.run({in})[0];
    for (std::int64_t i = 0; i < 2; ++i) EXPECT_EQ(out.at(i), take ? 5 : 30);
  }
  EXPECT_EQ(offered, (std::vector<std::string>{"conv", "product", "conv", "product"}));
}

// The largest of a channel that was negated is the least of its integers; fewer rows than channels.
TEST(Exec, PoolsOfChannelsOfEitherSign) {
  Graph g;
  const auto c = [&](float v) { return g.add_constant(g.unique_name("c"), Tensor::scalar(v)); };
  const auto quant = [&](ValueId x, float scale) { return g.add_node("Quant", {x, c(scale), c(0), c(8)}, {{"signed", std::int64_t{1}}}, "", "qonnx.custom_op.general"); };
  const ValueId x = quant(g.add_input("x", DType::f32, {Dim(1), Dim(2), Dim(2), Dim(8)}), 0.25f);
  const ValueId turned = g.add_node("Mul", {x, g.add_constant("signs", Tensor::of<float>({1, 2, 1, 1}, std::vector<float>{1, -2}))});
  g.outputs = {quant(g.add_node("MaxPool", {turned}, {{"kernel_shape", std::vector<std::int64_t>{2, 2}}, {"strides", std::vector<std::int64_t>{2, 2}}}), 0.5f)};
  infer_shapes(g);
  const ExactProgram p = lower_exact(g);
  Tensor in(DType::f32, {1, 2, 2, 8});
  Rng r(1, "signs");
  for (std::int64_t i = 0; i < in.size(); ++i) in.set(i, r.normal() * 4);
  EXPECT_TRUE(Executor(p).run({in})[0].same(evaluate_carrier(p, {in})[0])) << to_text(p);
}

// y = 3x + 1 on integers, given out as `type`.
ExactProgram three_times_and_one(const Shape& shape, std::int64_t most, DType type) {
  ExactProgram p;
  for (const std::int64_t reach : {most, 3 * most + 1}) {
    Buffer b;
    b.name = fmt::format("v{}", p.buffers.size());
    b.shape = shape;
    b.lo = -reach, b.hi = reach;
    p.buffers.push_back(b);
  }
  p.inputs.push_back({"x", 0, DType::i32, true, {}});
  IntLinear l;
  l.k = {Grouped<Int128>(Int128(3))};
  l.c = Grouped<Int128>(Int128(1));
  p.steps.push_back({std::move(l), {0}, 1, "node 'n'"});
  p.outputs.push_back({"y", 1, type, true, {}});
  return p;
}

// Integers of a program's own, in and out.
TEST(Exec, IntegerPorts) {
  Tensor x(DType::i32, {2, 5});
  for (std::int64_t i = 0; i < x.size(); ++i) x.set(i, static_cast<double>(i - 8));
  Executor e(three_times_and_one({2, 5}, 8, DType::i32));
  e.run({x});
  const std::vector<std::int64_t> y = e.integers(1);
  ASSERT_EQ(y.size(), 10u);
  for (std::int64_t i = 0; i < 10; ++i) EXPECT_EQ(y[static_cast<std::size_t>(i)], 3 * (i - 8) + 1);
}

// Exact results that no float equals, as they are given out: in floats the nearest, in other types the numbers themselves.
TEST(Exec, OutputsInTheirOwnTypes) {
  for (const DType type : {DType::f32, DType::f64, DType::i32, DType::i64}) {
    Tensor x(DType::i32, {5});
    for (std::int64_t i = 0; i < 5; ++i) x.set(i, static_cast<double>((i - 2) * 100000001));
    const Tensor y = Executor(three_times_and_one({5}, 1 << 28, type)).run({x})[0];
    ASSERT_EQ(y.dtype(), type);
    for (std::int64_t i = 0; i < 5; ++i) {
      const std::int64_t exact = 3 * (i - 2) * 100000001 + 1;
      EXPECT_EQ(y.at(i), type == DType::f32 ? static_cast<double>(static_cast<float>(exact)) : static_cast<double>(exact)) << i;
    }
  }
}

// Exact integers that an operator in floats reads as places.
TEST(Exec, PlacesForAFloatOperator) {
  Graph g;
  const auto c = [&](float v) { return g.add_constant(g.unique_name("c"), Tensor::scalar(v)); };
  const ValueId x = g.add_node("Quant", {g.add_input("x", DType::f32, {Dim(4), Dim(3)}), c(1), c(0), c(4)}, {}, "q", "qonnx.custom_op.general");
  const ValueId table = g.add_constant("table", Tensor::of<float>({3}, std::vector<float>{0.1f, 0.2f, 0.7f}));
  g.outputs = {g.add_node("Exp", {g.add_node("Gather", {table, g.add_node("ArgMax", {x}, {{"axis", std::int64_t{1}}, {"keepdims", std::int64_t{0}}})})})};
  infer_shapes(g);
  const Tensor in = Tensor::of<float>({4, 3}, std::vector<float>{5, 1, 2, 1, 5, 2, 1, 2, 5, 3, 3, 1});
  const Tensor y = Executor(lower_exact(g)).run({in})[0];
  const float want[] = {0.1f, 0.2f, 0.7f, 0.1f};
  for (int i = 0; i < 4; ++i) EXPECT_FLOAT_EQ(static_cast<float>(y.at(i)), std::exp(want[i])) << i;
}

// The first of the largest, or the last.
TEST(Exec, ArgMaxOfEqualValues) {
  for (const std::int64_t last : {0, 1}) {
    Graph g;
    const auto c = [&](float v) { return g.add_constant(g.unique_name("c"), Tensor::scalar(v)); };
    const ValueId x = g.add_node("Quant", {g.add_input("x", DType::f32, {Dim(4), Dim(3)}), c(1), c(0), c(4)}, {}, "q", "qonnx.custom_op.general");
    g.outputs = {g.add_node("ArgMax", {x}, {{"axis", std::int64_t{1}}, {"keepdims", std::int64_t{0}}, {"select_last_index", last}})};
    infer_shapes(g);
    const Tensor y = Executor(lower_exact(g)).run({Tensor::of<float>({4, 3}, std::vector<float>{5, 1, 2, 5, 1, 5, 1, 5, 5, 3, 3, 3})})[0];
    const int want[2][4] = {{0, 0, 1, 0}, {0, 2, 2, 2}};
    for (int i = 0; i < 4; ++i) EXPECT_EQ(y.at(i), want[last][i]) << last << " " << i;
  }
}

// Both operands vary, with and without a second axis.
TEST(Exec, ProductsOfVaryingVectorsAndMatrices) {
  for (const auto& [a, b] : {std::pair<Shape, Shape>{{4}, {4, 3}}, {{2, 4}, {4}}, {{2, 4}, {4, 3}}, {{4}, {4}}, {{3, 2, 4}, {4, 5}}}) {
    Graph g;
    std::vector<Tensor> in;
    std::vector<ValueId> q;
    Rng r(element_count(a) * 100 + element_count(b), "varying");
    for (const Shape& s : {a, b}) {
      const auto c = [&](float v) { return g.add_constant(g.unique_name("c"), Tensor::scalar(v)); };
      q.push_back(g.add_node("Quant", {g.add_input(g.unique_name("x"), DType::f32, dims_of(s)), c(1), c(0), c(4)}, {}, "", "qonnx.custom_op.general"));
      in.emplace_back(DType::f32, s);
      for (std::int64_t i = 0; i < in.back().size(); ++i) in.back().set(i, static_cast<double>(r.range(-8, 7)));
    }
    g.outputs = {g.add_node("MatMul", q)};
    infer_shapes(g);
    const ExactProgram p = lower_exact(g);
    EXPECT_TRUE(Executor(p).run(in)[0].same(evaluate_carrier(p, in)[0])) << tandem::to_string(a) << " by " << tandem::to_string(b);
  }
}

// Of more levels than there are tables for, with a zero point for each channel.
TEST(Exec, ManyLevelsWithZeroPointsOfTheirOwn) {
  Graph g;
  const auto c = [&](float v) { return g.add_constant(g.unique_name("c"), Tensor::scalar(v)); };
  const ValueId x = g.add_node("Quant", {g.add_input("x", DType::f32, {Dim(2), Dim(3)}), c(0.25f), c(0), c(16)}, {}, "", "qonnx.custom_op.general");
  const ValueId zero = g.add_constant("zero", Tensor::of<float>({1, 3}, std::vector<float>{0, 7, -100}));
  g.outputs = {g.add_node("Quant", {x, c(0.5f), zero, c(14)}, {}, "", "qonnx.custom_op.general")};
  infer_shapes(g);
  const ExactProgram p = lower_exact(g);
  const Tensor in = Tensor::of<float>({2, 3}, std::vector<float>{3.25f, -800.75f, 12, 4000, -4090, 0});
  EXPECT_TRUE(Executor(p).run({in})[0].same(evaluate_carrier(p, {in})[0])) << to_text(p);
}

TEST(Exec, InputsInDoublePrecision) {
  Graph g;
  const auto c = [&](float v) { return g.add_constant(g.unique_name("c"), Tensor::scalar(v)); };
  g.outputs = {g.add_node("Quant", {g.add_node("Cast", {g.add_input("x", DType::f64, {Dim(5)})}, {{"to", onnx_number(DType::f32)}}), c(1), c(0), c(4)}, {}, "", "qonnx.custom_op.general")};
  infer_shapes(g);
  const ExactProgram p = lower_exact(g);
  Tensor in(DType::f64, {5});
  for (std::int64_t i = 0; i < 5; ++i) in.set(i, 0.75 * static_cast<double>(i) - 2);
  EXPECT_TRUE(Executor(p).run({in})[0].same(evaluate_carrier(p, {in})[0]));
}

// Doubles that no float equals, beside the steps of formats with and without tables and with zero points of their own.
TEST(Exec, DoublesBesideTheSteps) {
  for (const auto& [bits, scale] : {std::pair{4.f, 0.5f}, {20.f, 0.5f}, {20.f, 0.3f}})  // and results that are no floats
    for (const bool own : {false, true}) {
      Graph g;
      const auto c = [&](float v) { return g.add_constant(g.unique_name("c"), Tensor::scalar(v)); };
      const ValueId zero = own ? g.add_constant("zero", Tensor::of<float>({1, 3}, std::vector<float>{0, 3, -2})) : c(0);
      g.outputs = {g.add_node("Quant", {g.add_input("x", DType::f64, {Dim(8), Dim(3)}), c(scale), zero, c(bits)}, {}, "", "qonnx.custom_op.general")};
      infer_shapes(g);
      const ExactProgram p = lower_exact(g);
      Tensor in(DType::f64, {8, 3});
      for (std::int64_t i = 0; i < in.size(); ++i) in.set(i, 0.25 + 0.5 * static_cast<double>(i / 4 - 3) + (i % 4 == 0 ? 0 : i % 4 == 1 ? 1e-12 : i % 4 == 2 ? -1e-12 : 0.1));
      EXPECT_TRUE(Executor(p).run({in})[0].same(evaluate_carrier(p, {in})[0])) << to_text(p);
    }
}

TEST(Exec, NaNBeforeAnIntegerFormatIsAnError) {
  Graph g;
  ValueId x = g.add_input("x", DType::f32, {Dim(1), Dim(2)});
  auto c = [&](float v) { return g.add_constant(g.unique_name("c"), Tensor::scalar(v)); };
  g.outputs = {g.add_node("Quant", {x, c(1), c(0), c(4)}, {}, "q", "qonnx.custom_op.general")};
  infer_shapes(g);
  Executor e(lower_exact(g));
  std::vector<float> bad{1.f, NAN};
  try {
    e.run({Tensor::of<float>({1, 2}, bad)});
    FAIL() << "accepted NaN";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), Exit::bad_input);
    EXPECT_NE(error.where().find("q"), std::string::npos);
  }
}

}  // namespace
}  // namespace tandem::exec
