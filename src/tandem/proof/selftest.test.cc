#include "tandem/proof/selftest.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <set>

#include "tandem/base/error.h"
#include "tandem/ir/random_graph.h"

namespace tandem::proof {
namespace {

TEST(Selftest, GraphsOfEveryOperator) {
  SelftestParams p;
  p.graphs = 400;
  p.operators = "all";
  p.out = ::testing::TempDir();
  const SelftestStats s = selftest(p);
  EXPECT_EQ(s.graphs, 400);
  for (const SelftestMismatch& m : s.mismatches) ADD_FAILURE() << m.engine << " seed " << m.seed << ": " << m.what << " (" << m.file << ")";
  EXPECT_GE(s.operators.size(), 150u);
  EXPECT_GT(s.engines.at("exec").values, 10'000);
}

TEST(Selftest, RefusesEnginesThatCannotRunThem) {
  SelftestParams p;
  p.operators = "all";
  p.engines = {"ref", "rtl"};
  EXPECT_THROW(selftest(p), Error);
  p.operators = "some";
  EXPECT_THROW(selftest(p), Error);
}

bool has(const ir::Graph& g, std::string_view op) {
  return std::any_of(g.nodes.begin(), g.nodes.end(), [&](const ir::Node& n) { return n.op == op; });
}

TEST(Selftest, ProductsOfTwoVaryingMatricesAreDrawn) {
  int products = 0;
  for (std::uint64_t seed = 0; seed < 300; ++seed) {
    const ir::Graph g = ir::random_graph({}, seed).graph;
    std::set<ir::ValueId> constant;
    for (const auto& [v, tensor] : g.initialisers) constant.insert(v);
    for (const ir::Node& n : g.nodes) {
      if (std::all_of(n.inputs.begin(), n.inputs.end(), [&](ir::ValueId v) { return v == ir::kNone || constant.contains(v); })) constant.insert(n.outputs.begin(), n.outputs.end());
      products += n.op == "MatMul" && !constant.contains(n.inputs[0]) && !constant.contains(n.inputs[1]);
    }
  }
  EXPECT_GE(products, 30);
}

// An engine that is wrong wherever there is a Relu: what is saved is little more than the Relu, and replays.
TEST(Selftest, AMismatchIsShrunkAndReplays) {
  SelftestParams p;
  p.graphs = 60;
  p.seed = 3;
  p.out = ::testing::TempDir();
  p.tamper = [](std::string_view engine, const ir::Graph& g, std::vector<Tensor>& out) {
    if (engine == "exec" && has(g, "Relu")) out[0].set(0, out[0].at(0) + 1);
  };
  const SelftestStats s = selftest(p);
  ASSERT_GE(s.mismatches.size(), 5u);
  for (const SelftestMismatch& m : s.mismatches) {
    EXPECT_EQ(m.engine, "exec");
    EXPECT_LE(m.nodes, 5) << m.file;
    EXPECT_NE(m.replay.find("--replay " + m.file), std::string::npos);
  }
  const SelftestMismatch& m = s.mismatches[0];
  const SelftestStats again = selftest_replay(m.file, p);
  ASSERT_EQ(again.mismatches.size(), 1u);
  EXPECT_EQ(again.mismatches[0].what, m.what);
  EXPECT_EQ(again.mismatches[0].nodes, m.nodes);
  p.tamper = {};
  EXPECT_TRUE(selftest_replay(m.file, p).ok());
}

// The same in hardware: a comparison that is off by one in every table of steps.
TEST(RtlSelftest, AFaultInVerilogIsShrunkAndReplays) {
  SelftestParams p;
  p.graphs = 6;
  p.seed = 2;
  p.engines = {"ref", "rtl"};
  p.out = ::testing::TempDir();
  p.tamper_rtl = [](const plan::StageGraph&, rtl::Design& d) {
    for (rtl::File& f : d.files)
      for (std::size_t at; (at = f.text.find(" >= te")) != std::string::npos;) f.text.replace(at, 6, " > te");
  };
  const SelftestStats s = selftest(p);
  ASSERT_GE(s.mismatches.size(), 1u);
  for (const SelftestMismatch& m : s.mismatches) EXPECT_LE(m.nodes, 5) << m.file << ": " << m.what;
  const SelftestStats again = selftest_replay(s.mismatches[0].file, p);
  ASSERT_EQ(again.mismatches.size(), 1u);
  p.tamper_rtl = {};
  EXPECT_TRUE(selftest_replay(s.mismatches[0].file, p).ok());
}

}  // namespace
}  // namespace tandem::proof
