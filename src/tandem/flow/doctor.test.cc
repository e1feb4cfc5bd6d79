// The verdicts against the engines themselves: what doctor says is refused is refused, and nothing else is.
#include <gtest/gtest.h>

#include "tandem/flow/build.h"
#include "tandem/flow/doctor.h"
#include "tandem/ir/bind.h"
#include "tandem/ir/exact.h"
#include "tandem/ir/op.h"
#include "tandem/ir/random_graph.h"
#include "tandem/plan/stage_graph.h"

namespace tandem::flow {
namespace {
using namespace ir;

bool refused_by(const DoctorReport& r, std::string_view engine) {
  for (const EngineRefusal& e : r.refused)
    if (e.engine == engine) return true;
  return false;
}

// What build() does before it folds.
std::string build_says(const Graph& g) {
  try {
    const ExactProgram p = lower_exact(hardware_graph(g, ""), 64);
    plan::stages_from(p);
    for (const Step& s : p.steps)
      if (auto* f = std::get_if<FloatOp>(&s.params))
        if (op_of(*p.graph, p.graph->nodes[static_cast<std::size_t>(f->node)]).closure == Closure::linear) return "a contraction of floats";
    return "";
  } catch (const Error& e) {
    EXPECT_NE(e.code(), Exit::bug) << e.full();
    return e.message();
  }
}
std::string exec_says(const Graph& g) {
  try {
    lower_exact(bind_free(g));
    return "";
  } catch (const Error& e) {
    return e.message();
  }
}

// Integer kernels of TensorFlow Lite: no stage of ours rounds twice, and the way out is named.
TEST(Doctor, KernelsOfTensorFlowLiteStayOnTheHost) {
  Graph g;
  g.outputs = {g.add_node("HardSwish", {g.add_input("x", DType::i8, {Dim(1), Dim(4)})}, {{"x_scale", 0.1}, {"y_scale", 0.1}}, "act", "tflite")};
  const DoctorReport r = examine(g);
  EXPECT_FALSE(r.ok());
  const auto at = std::find_if(r.refused.begin(), r.refused.end(), [](const EngineRefusal& e) { return e.engine == "hardware"; });
  ASSERT_NE(at, r.refused.end());
  EXPECT_NE(at->reason.find("round twice"), std::string::npos) << at->reason;
  EXPECT_NE(at->fix.find("--as-quantisers"), std::string::npos) << at->fix;
}

TEST(Doctor, AgreesWithTheEnginesOnRandomGraphs) {
  int refused = 0, taken = 0;
  for (std::uint64_t seed = 1; seed <= 400; ++seed) {
    RandomGraphOptions o;
    o.streaming = seed % 2 == 0;
    o.state = seed % 5 == 0;
    const Graph g = random_graph(o, seed).graph;
    const DoctorReport r = examine(g);
    const std::string hw = build_says(g), ex = exec_says(g);
    EXPECT_EQ(refused_by(r, "exec"), !ex.empty()) << "seed " << seed << ": " << ex << "\n" << to_text(r);
    EXPECT_EQ(!r.ok(), !hw.empty() || !ex.empty()) << "seed " << seed << ": " << hw << "\n" << to_text(r);
    ASSERT_EQ(r.nodes.size(), g.nodes.size());
    for (const EngineRefusal& e : r.refused) {
      EXPECT_FALSE(e.reason.empty());
      EXPECT_FALSE(e.fix.empty()) << e.reason;
      bool known = e.node.empty();
      for (const NodeVerdict& v : r.nodes)
        if (v.node == e.node) {
          known = true;
          EXPECT_EQ(e.engine == "train" ? v.train : e.engine == "exec" ? v.exec : v.hardware, "no") << to_text(r);
        }
      EXPECT_TRUE(known) << e.node;
    }
    ++(r.ok() ? taken : refused);
  }
  EXPECT_GT(refused, 60);
  EXPECT_GT(taken, 60);
}

ValueId quant(Graph& g, ValueId v, const std::string& name) {
  return g.add_node("Quant", {v, g.add_constant(name + "_s", Tensor::scalar(0.25f)), g.add_constant(name + "_z", Tensor::scalar(0.0f)), g.add_constant(name + "_b", Tensor::scalar(4.0f))},
                    {{"signed", std::int64_t{1}}, {"narrow", std::int64_t{0}}, {"rounding_mode", std::string("ROUND")}}, name, "qonnx.custom_op.general");
}

TEST(Doctor, NamesEveryRefusedNodeNotOnlyTheFirst) {
  Graph g;
  const ValueId x = g.add_input("x", DType::f32, {Dim("n"), Dim(2), Dim(4), Dim(4)});
  const ValueId q = quant(g, x, "in");
  const ValueId c = g.add_node("Concat", {q, q}, {{"axis", std::int64_t{1}}}, "joined");
  const ValueId m = g.add_node("Mul", {c, c}, {}, "square");
  const ValueId p = quant(g, m, "mid");
  const ValueId s = g.add_node("Softmax", {p}, {{"axis", std::int64_t{1}}}, "soft");
  const ValueId again = quant(g, s, "again");
  const ValueId d = g.add_node("Delay", {again}, {{"shape", std::vector<std::int64_t>{1, 4, 4, 4}}}, "memory", "tandem");
  g.outputs = {quant(g, d, "out")};
  infer_shapes(g);
  const DoctorReport r = examine(g);
  EXPECT_FALSE(r.ok());
  const auto has = [&](std::string_view engine, std::string_view node) {
    for (const EngineRefusal& e : r.refused)
      if (e.engine == engine && e.node.find(node) != std::string::npos) return true;
    return false;
  };
  for (const char* n : {"'again'", "'memory'"}) EXPECT_TRUE(has("hardware", n)) << n << "\n" << to_text(r);
  for (const char* n : {"'joined'", "'square'"}) EXPECT_FALSE(has("hardware", n)) << n << "\n" << to_text(r);
  EXPECT_TRUE(has("train", "'memory'"));
  EXPECT_FALSE(has("hardware", "'soft'"));
  for (const EngineRefusal& e : r.refused) {
    if (e.engine != "hardware" || e.node.find("'again'") == std::string::npos) continue;
    EXPECT_NE(e.reason.find("'soft'"), std::string::npos) << e.reason;
  }
}

TEST(Doctor, UnknownOperatorsAreVerdicts) {
  Graph g;
  const ValueId x = g.add_input("x", DType::f32, {1, 4});
  const ValueId a = g.add_node("Relux", {x}, {}, "first");
  const ValueId b = g.add_node("Relu", {a}, {}, "known");
  g.outputs = {g.add_node("Magic", {b}, {}, "second")};
  const DoctorReport r = examine(g);
  ASSERT_EQ(r.refused.size(), 2u);
  EXPECT_EQ(r.refused[0].node, "node 'first' (Relux)");
  EXPECT_EQ(r.refused[1].node, "node 'second' (Magic)");
  EXPECT_EQ(r.nodes[1].ref, "unknown");
}

TEST(Doctor, ATargetTooSmallIsAnAnswer) {
  Graph g;
  const ValueId x = g.add_input("x", DType::f32, {1, 2, 4, 4});
  g.outputs = {quant(g, g.add_node("Relu", {quant(g, x, "in")}, {}, "relu"), "out")};
  infer_shapes(g);
  DoctorParams p;
  p.target = hardware::find_target("up5k");
  const DoctorReport fits = examine(g, p);
  EXPECT_TRUE(fits.ok()) << to_text(fits);
  EXPECT_NE(fits.fit.find("ice40up5k"), std::string::npos);
  p.target->budget["lut4"].count = 260;
  EXPECT_FALSE(examine(g, p).ok());
}

}  // namespace
}  // namespace tandem::flow
