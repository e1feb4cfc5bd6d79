#include "tandem/ir/streamline.h"

#include <gtest/gtest.h>

#include <cmath>

#include "tandem/ir/op.h"
#include "tandem/ir/ops/kit.h"
#include "tandem/ir/random_graph.h"

namespace tandem::ir {
namespace {

// A float runtime that runs the streamlined graph gives what the exact meaning gives: equal where an output is whole, else to the rounding of the
// scale and offset at the end.
TEST(Streamline, RandomGraphsInFloat) {
  int done = 0, wide = 0, thresholds = 0;
  for (std::uint64_t seed = 0; seed < 300; ++seed) {
    RandomGraphOptions o;
    o.max_bits = 4;
    const RandomGraph r = random_graph(o, 520'000 + seed);
    Graph s;
    std::optional<ExactProgram> p;
    try {
      p = lower_exact(r.graph);
      s = streamlined(*p);
    } catch (const Error& e) {
      ASSERT_EQ(e.code(), Exit::no) << e.full();
      EXPECT_FALSE(e.fix().empty()) << e.full();
      ++wide;
      continue;
    }
    verify(s);
    for (const Node& n : s.nodes) {
      EXPECT_TRUE(n.op != "Quant" && n.op != "BatchNormalization" && n.op != "Relu") << n.op;
      thresholds += n.op == "Threshold";
    }
    const std::vector<Tensor> want = evaluate_carrier(*p, r.inputs), got = evaluate_float(s, r.inputs);
    ASSERT_EQ(want.size(), got.size());
    for (std::size_t i = 0; i < want.size(); ++i) {
      ASSERT_EQ(want[i].shape(), got[i].shape()) << seed;
      ASSERT_EQ(want[i].dtype(), got[i].dtype()) << seed;
      double largest = 0;
      for (std::int64_t k = 0; k < want[i].size(); ++k) largest = std::max(largest, std::abs(want[i].at(k)));
      // Scale and offset are rounded to f32, and each of two operations once: relative to the largest, as they may cancel.
      for (std::int64_t k = 0; k < want[i].size(); ++k) ASSERT_NEAR(want[i].at(k), got[i].at(k), 4e-7 * largest) << "seed " << seed << " element " << k;
    }
    ++done;
  }
  EXPECT_GT(done, 100);
  EXPECT_GT(thresholds, 300);
  RecordProperty("refused", wide);
}

TEST(Streamline, RefusesWideIntegersByName) {
  Graph g;
  const ValueId x = g.add_input("x", DType::f32, {Dim(1), Dim(16)});
  const auto scalar = [&](float v) { return g.add_constant(g.unique_name("c"), Tensor::scalar(v)); };
  const auto quant = [&](ValueId v, float bits) { return g.add_node("Quant", {v, scalar(0.5f), scalar(0), scalar(bits)}, {}, "", "qonnx.custom_op.general"); };
  std::vector<float> weights;
  for (int i = 0; i < 16; ++i) weights.push_back(900.5f + 7 * static_cast<float>(i));
  const ValueId w = quant(g.add_constant("w", Tensor::of<float>({16, 1}, weights)), 12);
  g.outputs = {g.add_node("MatMul", {quant(x, 12), w}, {}, "wide")};
  infer_shapes(g);
  try {
    streamlined(lower_exact(g));
    FAIL() << "not refused";
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), Exit::no);
    EXPECT_NE(e.full().find("wide"), std::string::npos) << e.full();
    EXPECT_NE(e.full().find("2^24"), std::string::npos) << e.full();
  }
}

// Conv, ConvTranspose and Gemm in random shapes, a BatchNormalization behind each.
TEST(Fold, BatchNormalizationGoesIntoWeights) {
  for (std::uint64_t seed = 0; seed < 60; ++seed) {
    Rng r(seed, "fold");
    Graph g;
    std::vector<Tensor> inputs;
    Sample s{r, g, inputs};
    const std::int64_t group = r.range(1, 2), ci = group * r.range(1, 2), co = group * r.range(1, 3), kind = r.range(0, 2);
    ValueId y;
    if (kind == 0) y = g.add_node("Conv", {s.input({2, ci, 5, 4}), s.constant({co, ci / group, 2, 3}, -1, 1)}, {{"group", group}});
    else if (kind == 1) y = g.add_node("ConvTranspose", {s.input({2, ci, 3, 4}), s.constant({ci, co / group, 2, 2}, -1, 1), s.constant({co}, -1, 1)}, {{"group", group}});
    else y = g.add_node("Gemm", {s.input({3, ci}), s.constant(r.chance(0.5) ? Shape{ci, co} : Shape{co, ci}, -1, 1), s.constant({co}, -1, 1)});
    if (kind == 2) g.nodes.back().attrs["transB"] = std::int64_t{g.constant(g.nodes.back().inputs[1])->shape()[0] == co && ci != co ? 1 : 0};
    std::vector<ValueId> in{y};
    for (const auto& [lo, hi] : {std::pair(-2.0, 2.0), std::pair(-1.0, 1.0), std::pair(-1.0, 1.0), std::pair(0.1, 2.0)}) in.push_back(s.constant({co}, lo, hi));
    y = g.add_node("BatchNormalization", in);
    g.outputs = {g.add_node("Relu", {y})};
    infer_shapes(g);
    FoldStats stats;
    const Graph f = folded(g, &stats);
    ASSERT_EQ(stats.batch_normalisations, 1) << seed;
    EXPECT_EQ(f.nodes.size(), 2u);
    const Tensor a = evaluate_float(g, inputs)[0], b = evaluate_float(f, inputs)[0];
    ASSERT_EQ(a.shape(), b.shape());
    for (std::int64_t i = 0; i < a.size(); ++i) ASSERT_NEAR(a.at(i), b.at(i), 2e-5 * (1 + std::abs(a.at(i)))) << seed << " kind " << kind;
  }
}

TEST(Fold, LeavesWhatOthersRead) {
  Graph g;
  Rng r(1, "fold");
  std::vector<Tensor> inputs;
  Sample s{r, g, inputs};
  const ValueId c = g.add_node("Conv", {s.input({1, 1, 3, 3}), s.constant({1, 1, 1, 1}, 1, 2)});
  const ValueId b = g.add_node("BatchNormalization", {c, s.constant({1}, 1, 2), s.constant({1}, 1, 2), s.constant({1}, 1, 2), s.constant({1}, 1, 2)});
  g.outputs = {g.add_node("Add", {b, c})};
  infer_shapes(g);
  FoldStats stats;
  EXPECT_EQ(folded(g, &stats).nodes.size(), 3u);
  EXPECT_EQ(stats.batch_normalisations, 0);
}

}  // namespace
}  // namespace tandem::ir
