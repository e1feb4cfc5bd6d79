// The two evaluators against each other on random graphs, and the definitions on small cases.
#include "tandem/ir/exact.h"

#include <gtest/gtest.h>

#include "tandem/ir/dump.h"
#include "tandem/ir/op.h"
#include "tandem/ir/random_graph.h"

namespace tandem::ir {
namespace {

// Runs both evaluators; returns "" when every output agrees to the bit, else what differs.
std::string compare(const RandomGraph& r, bool& refused, int ticks = 1) {
  Graph g = prepare(r.graph);
  ExactProgram p;
  refused = false;
  try {
    p = lower_exact(r.graph);
  } catch (const Error& e) {
    if (e.code() != Exit::no) return "lowering: " + e.full();
    refused = true;
    return "";
  }
  LiteralState state;
  std::vector<std::vector<std::int64_t>> states;
  for (int t = 0; t < ticks; ++t) {
    auto in = t ? random_inputs(r.graph, 77 + t) : r.inputs;
    auto lit = to_tensors(g, evaluate_literal(g, in, &state));
    auto car = evaluate_carrier(p, in, &states);
    for (std::size_t i = 0; i < lit.size(); ++i) {
      if (lit[i].shape() != car[i].shape()) return fmt::format("output {}: shape {} against {}", i, tandem::to_string(lit[i].shape()), tandem::to_string(car[i].shape()));
      for (std::int64_t k = 0; k < lit[i].size(); ++k)
        if (lit[i].at(k) != car[i].at(k)) return fmt::format("tick {} output {} element {}: literal {} carrier {}", t, i, k, lit[i].at(k), car[i].at(k));
    }
  }
  return "";
}

void sweep(const RandomGraphOptions& o, int graphs, std::uint64_t seed, double max_refused, int ticks = 1) {
  int refusals = 0;
  for (int i = 0; i < graphs; ++i) {
    RandomGraph r = random_graph(o, seed + i);
    bool refused = false;
    std::string fault = compare(r, refused, ticks);
    refusals += refused;
    ASSERT_EQ(fault, "") << "seed " << seed + i << "\n" << to_text(r.graph);
  }
  EXPECT_LE(refusals, max_refused * graphs) << "too many graphs were refused for the test to mean anything";
}

TEST(Exact, LiteralEqualsCarrierOnRandomGraphs) { sweep({}, 400, 1000, 0.25); }
TEST(Exact, LiteralEqualsCarrierOnStreamingGraphs) {
  RandomGraphOptions o;
  o.streaming = true;
  sweep(o, 200, 5000, 0.05);
}
TEST(Exact, LiteralEqualsCarrierWithBatch) {
  RandomGraphOptions o;
  o.batch = 3;
  sweep(o, 100, 9000, 0.25);
}
TEST(Exact, LiteralEqualsCarrierOverTicks) {
  RandomGraphOptions o;
  o.state = true;
  o.joins = false;
  sweep(o, 100, 12000, 0.35, 4);
}

TEST(Exact, ReluThenRequantNeverWidens) {
  // A chain with one varying operand up to its quantiser: conv -> BatchNorm -> Relu -> Quant is one
  // contraction and one requantiser.
  Graph g;
  ValueId x = g.add_input("x", DType::f32, {Dim(1), Dim(2), Dim(4), Dim(4)});
  auto c = [&](Shape s, std::vector<float> v) { return g.add_constant(g.unique_name("c"), Tensor::of<float>(s, v)); };
  auto quant = [&](ValueId v, float s, float bits) {
    return g.add_node("Quant", {v, c({}, {s}), c({}, {0}), c({}, {bits})}, {}, "", "qonnx.custom_op.general");
  };
  ValueId w = quant(c({1, 2, 1, 1}, {0.3f, -0.7f}), 0.1f, 4);
  ValueId y = g.add_node("Conv", {quant(x, 0.25f, 8), w});
  y = g.add_node("BatchNormalization", {y, c({1}, {1.3f}), c({1}, {0.2f}), c({1}, {0.1f}), c({1}, {0.9f})});
  y = g.add_node("Relu", {y});
  y = quant(y, 0.37f, 4);
  g.outputs = {y};
  infer_shapes(g);
  ExactProgram p = lower_exact(g);
  ASSERT_EQ(p.steps.size(), 3u) << to_text(p);
  EXPECT_TRUE(std::holds_alternative<QuantizeFloat>(p.steps[0].params));
  EXPECT_TRUE(std::holds_alternative<IntConv>(p.steps[1].params));
  EXPECT_TRUE(std::holds_alternative<IntRequant>(p.steps[2].params));
}

TEST(Exact, RefusesAddOfIncommensurateScalesAtFewBits) {
  Graph g;
  ValueId x = g.add_input("x", DType::f32, {Dim(1), Dim(4)});
  auto c = [&](std::vector<float> v) { return g.add_constant(g.unique_name("c"), Tensor::of<float>({}, v)); };
  auto quant = [&](ValueId v, float s) { return g.add_node("Quant", {v, c({s}), c({0}), c({8})}, {}, "", "qonnx.custom_op.general"); };
  g.outputs = {g.add_node("Add", {quant(x, 0.1f), quant(x, 0.3333f)}, {}, "join")};
  infer_shapes(g);
  EXPECT_NO_THROW(lower_exact(g, 64));
  try {
    lower_exact(g, 16);
    FAIL() << "accepted";
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), Exit::no);
    EXPECT_NE(e.where().find("join"), std::string::npos);
    EXPECT_NE(e.fix().find("quantiser"), std::string::npos);
  }
}

}  // namespace
}  // namespace tandem::ir
