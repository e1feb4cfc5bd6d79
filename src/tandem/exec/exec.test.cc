// Fast execution against the reference evaluators on random graphs.
#include "tandem/exec/exec.h"

#include <gtest/gtest.h>

#include "tandem/ir/dump.h"
#include "tandem/ir/op.h"
#include "tandem/ir/random_graph.h"

namespace tandem::exec {
namespace {

using namespace tandem::ir;

void sweep(RandomGraphOptions o, int graphs, std::uint64_t seed, int ticks) {
  int ran = 0;
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
}

TEST(Exec, EqualsCarrierOnRandomGraphs) {
  RandomGraphOptions o;
  o.batch = 2;
  sweep(o, 300, 40000, 2);
}
TEST(Exec, EqualsCarrierOnWideFormats) {
  RandomGraphOptions o;
  o.max_bits = 16;
  sweep(o, 60, 50000, 1);
}
TEST(Exec, EqualsCarrierWithState) {
  RandomGraphOptions o;
  o.state = true;
  o.joins = false;
  sweep(o, 60, 60000, 4);
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
