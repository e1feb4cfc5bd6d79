// A small network in standard cells: area by stage, timing, power, and the netlist against the exact result.
#include "tandem/flow/cells.h"

#include <gtest/gtest.h>

#include "tandem/base/file.h"
#include "tandem/base/rng.h"
#include "tandem/flow/build.h"
#include "tandem/ir/op.h"
#include "tandem/tool/find.h"
#include "tandem/tool/work.h"

namespace tandem::flow {
namespace {

using namespace tandem::ir;

Graph small() {
  Graph g;
  ValueId x = g.add_input("x", DType::f32, {Dim(1), Dim(8)});
  auto c = [&](Shape s, std::vector<float> v) { return g.add_constant(g.unique_name("c"), Tensor::of<float>(s, v)); };
  auto quant = [&](ValueId v, float s, float bits, std::int64_t sgn) {
    return g.add_node("Quant", {v, c({}, {s}), c({}, {0}), c({}, {bits})}, {{"signed", sgn}}, "", "qonnx.custom_op.general");
  };
  Rng r(1, "small");
  std::vector<float> w;
  for (int i = 0; i < 40; ++i) w.push_back(static_cast<float>(r.range(-3, 3)));
  ValueId y = g.add_node("MatMul", {quant(x, 1, 4, 0), quant(c({8, 5}, w), 1, 3, 1)});
  g.outputs = {quant(g.add_node("Relu", {y}), 3, 4, 0)};
  infer_shapes(g);
  return g;
}

const std::filesystem::path kTargets = std::filesystem::path(TANDEM_SOURCE_DIR) / "targets";

double metric(const BuildResult& r, std::string_view name) {
  for (const NamedMetric& m : r.metrics)
    if (m.name == name && m.metric.fidelity != Fidelity::estimated) return m.metric.value;
  return -1;
}

TEST(RtlCells, SmallNetworkInOurLibrary) {
  const tool::WorkFolder out;
  BuildParams p;
  p.target = hardware::find_target((kTargets / "asic45.yaml").string());
  p.random_frames = 100;
  p.multipliers = 1;
  p.out = out.path() / "design";
  const BuildResult r = build(small(), p);
  EXPECT_TRUE(r.ok) << r.reason;
  ASSERT_TRUE(r.cells && r.netlist);
  EXPECT_EQ(r.netlist->frames, 100);
  EXPECT_EQ(r.netlist->mismatches, 0);
  EXPECT_EQ(r.netlist->interval, r.verified->interval);  // the same cycles too
  double sum = 0;
  for (const CellsStage& s : r.cells->stages) sum += s.count.area_um2;
  EXPECT_NEAR(sum, r.cells->total.area_um2, 0.02 * sum);  // the top holds wires only
  EXPECT_GT(r.cells->gates(), 300);
  EXPECT_LT(r.cells->gates(), 3000);
  EXPECT_NEAR(r.cells->gates() * 0.798, r.cells->total.area_um2, 1e-6);
  EXPECT_TRUE(std::filesystem::exists(p.out / "netlist" / "netlist.v"));
  if (tool::try_find("sta")) {
    EXPECT_GT(metric(r, "Fmax"), 500);
    EXPECT_LT(metric(r, "Fmax"), 10000);
  } else {
    EXPECT_FALSE(r.cells->notes.empty());
  }
  // The clock pins of each flip-flop change twice a cycle; everything else together is of the same order.
  EXPECT_GT(r.cells->toggles, 1000);
  EXPECT_GT(r.cells->switching_w, 0);
  EXPECT_NEAR(r.cells->clock_w, static_cast<double>(r.cells->total.ff) * 2 * (1.1 * 0.5 * 0.81 * 4 * 0.0016 + 0.0016 * 0.81 / 2) * 1e-12 * 500e6, 0.01 * r.cells->clock_w);
  EXPECT_LT(r.cells->switching_w, 5 * r.cells->clock_w);
}

TEST(RtlCells, SmallNetworkInOsu018) {
  hardware::Target t = hardware::find_target((kTargets / "osu018.yaml").string());
  if (!std::filesystem::exists(t.liberty)) {
    try {
      hardware::liberty_file(t);
      FAIL();
    } catch (const Error& e) {
      EXPECT_EQ(e.code(), Exit::tool_missing);
      EXPECT_EQ(e.fix(), "apt-get install qflow-tech-osu018");
    }
    return;
  }
  BuildParams p;
  p.target = t;
  p.random_frames = 100;
  p.multipliers = 1;
  const BuildResult r = build(small(), p);
  EXPECT_TRUE(r.ok) << r.reason;
  EXPECT_EQ(r.netlist->mismatches, 0);
  EXPECT_EQ(r.cells->gate_area, 24);
  // Its flip-flops are of four gates, those of tandem45, which the closed forms count, of almost six.
  double estimated = 0;
  for (const NamedMetric& m : r.metrics)
    if (m.name == "gates" && m.metric.fidelity == Fidelity::estimated) estimated = m.metric.value;
  EXPECT_NEAR(estimated, r.cells->gates(), 0.15 * r.cells->gates());
  EXPECT_GT(r.cells->gates(), 300);
}

// Trees of buffers: no pin of more than `most`, the same function, no clock in it.
TEST(Cells, BuffersKeepTheFunction) {
  const tool::Liberty l = tool::read_liberty(read_file(kTargets / "tandem45.lib"), "tandem45.lib");
  Netlist n;
  n.name = "m";
  n.ports = {{"clk", false, {2}}, {"a", false, {3}}, {"y", true, {}}};
  n.nets = 4;
  for (int i = 0; i < 250; ++i) {
    const int q = n.nets++;
    n.cells.push_back({fmt::format("g{}", i), "DFF_X1", {{"CK", {2}}, {"D", {3}}, {"Q", {q}}}});
    n.ports[2].bits.push_back(q);
  }
  const std::int64_t added = add_buffers(n, l, 10);
  EXPECT_EQ(added, 25 + 3);
  std::map<int, int> sinks, driver;
  for (const auto& c : n.cells)
    for (const auto& [pin, bits] : c.pins) {
      if (pin == "CK") EXPECT_EQ(bits[0], 2);
      else if (pin == "D" || pin == "A") ++sinks[bits[0]];
      if (pin == "Y") driver[bits[0]] = c.pins[0].second[0];
    }
  for (const auto& [net, count] : sinks) {
    EXPECT_LE(count, 10);
    int root = net;
    while (driver.contains(root)) root = driver[root];
    EXPECT_EQ(root, 3);
  }
}

// The points of CACTI that the fit was made of, within 15 %.
TEST(Cells, MacrosAgainstCacti) {
  for (const auto& [kb, pj, ns, mm2] : {std::tuple{1, .50, .58, .0038}, {4, 1.09, .90, .0144}, {16, 2.16, 1.39, .057}, {64, 5.37, 1.92, .226}, {256, 9.9, 3.1, 1.03}, {1024, 20.8, 4.7, 3.94}}) {
    const MacroCost c = macro_cost({kb * 256, 32}, 45, 0.9);
    EXPECT_NEAR(c.read_pj, pj, 0.15 * pj) << kb;
    EXPECT_NEAR(c.access_ns, ns, 0.15 * ns) << kb;
    EXPECT_NEAR(c.area_um2, mm2 * 1e6, 0.15 * mm2 * 1e6) << kb;
  }
}

}  // namespace
}  // namespace tandem::flow
