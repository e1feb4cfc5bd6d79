#include "tandem/proof/explain.h"

#include <gtest/gtest.h>

#include "tandem/base/rng.h"
#include "tandem/ir/op.h"
#include "tandem/plan/stage_graph.h"

namespace tandem::proof {
namespace {
using I = std::int64_t;

struct Net {
  ir::Graph graph;
  ir::ExactProgram program;
  plan::StageGraph stages;
  rtl::Design design;
  Tensor frames;
};

// A convolution, a requantiser with ties, a dense layer, a requantiser that saturates.
Net net(plan::Requantiser form, I frames) {
  Net n;
  ir::Graph& g = n.graph;
  Rng r(11, "explain");
  const char* q = "qonnx.custom_op.general";
  auto scalar = [&](float v) { return g.add_constant(g.unique_name("c"), Tensor::scalar(v)); };
  auto weights = [&](Shape s) {
    std::vector<float> w;
    for (I i = 0; i < element_count(s); ++i) w.push_back(static_cast<float>(r.range(-3, 3)));
    const ir::ValueId c = g.add_constant(g.unique_name("w"), Tensor::of<float>(s, w));
    return g.add_node("Quant", {c, scalar(1), scalar(0), scalar(3)}, {{"signed", I{1}}, {"narrow", I{0}}, {"rounding_mode", std::string("ROUND")}}, g.unique_name("qw"), q);
  };
  auto quant = [&](ir::ValueId x, float scale, int bits, bool sign, const std::string& name) {
    return g.add_node("Quant", {x, scalar(scale), scalar(0), scalar(static_cast<float>(bits))}, {{"signed", I{sign}}, {"narrow", I{0}}, {"rounding_mode", std::string("ROUND")}}, name, q);
  };
  ir::ValueId x = g.add_input("x", DType::f32, {ir::Dim(1), ir::Dim(2), ir::Dim(5), ir::Dim(5)});
  x = quant(x, 1, 4, false, "in");
  x = g.add_node("Conv", {x, weights({4, 2, 3, 3})}, {}, "conv");
  x = quant(x, 4, 6, true, "act");
  x = g.add_node("Flatten", {x}, {}, "flat");
  x = g.add_node("MatMul", {x, weights({36, 5})}, {}, "dense");
  x = quant(x, 2, 5, true, "out");
  g.outputs = {x};
  ir::infer_shapes(g);
  n.program = ir::lower_exact(g, 64);
  n.stages = plan::stages_from(n.program, "net");
  plan::Folding f = plan::smallest_folding(n.stages);
  for (std::size_t i = 0; i < n.stages.layers.size(); ++i) {
    if (n.stages.layers[i].kind == plan::LayerKind::requant) f.of[i].requantiser = form;
    if (n.stages.layers[i].window) f.of[i].pe = 2, f.of[i].simd = 2;
  }
  n.design = rtl::generate(n.stages, f, "net");
  std::vector<float> v;
  for (I i = 0; i < frames * 50; ++i) v.push_back(static_cast<float>(r.range(0, 15)));
  n.frames = Tensor::of<float>({frames, 2, 5, 5}, v);
  return n;
}

// Replaces text in the module of the layer's last stage of that kind.
void inject(Net& n, plan::StageKind kind, const std::string& from, const std::string& to, int which = 0) {
  for (std::size_t i = 0; i < n.design.stages.size(); ++i) {
    if (n.design.stages[i].kind != kind || which-- > 0) continue;
    for (rtl::File& f : n.design.files) {
      if (f.name != n.design.modules[i] + ".v") continue;
      const std::size_t at = f.text.find(from);
      ASSERT_NE(at, std::string::npos) << f.text;
      f.text.replace(at, from.size(), to);
      return;
    }
  }
  FAIL() << "no such stage";
}

TEST(RtlExplain, AFaultIsFoundInItsLayer) {
  const Net clean = net(plan::Requantiser::arithmetic, 6);
  ASSERT_TRUE(std::any_of(clean.design.stages.begin(), clean.design.stages.end(), [](const plan::StageShape& s) { return s.kind == plan::StageKind::rescale; }));
  const Explanation same = explain(clean.design, clean.stages, clean.program, clean.frames);
  EXPECT_TRUE(same.equal()) << same.text();
  EXPECT_EQ(same.layers.size(), clean.stages.layers.size() + 1);
  EXPECT_TRUE(same.vcd.empty());

  // Ties go up that should go to the even code: the first requantiser, rounding.
  Net n = clean;
  inject(n, plan::StageKind::rescale, "wire tie_0 = ", "wire tie_0 = 1'b0 & ");
  Explanation e = explain(n.design, n.stages, n.program, n.frames);
  ASSERT_FALSE(e.equal());
  const LayerDifference* l = e.first();
  ASSERT_TRUE(l && l->first) << e.text();
  EXPECT_EQ(l->layer, clean.stages.layers[1].name) << e.text();
  EXPECT_EQ(l->cause.kind, CauseKind::rounding) << e.text();
  // The element: the exact program says which is the first on a step that the even code takes.
  ASSERT_EQ(l->first->index.size(), 3u);
  EXPECT_EQ(l->first->actual, l->first->expected + 1);
  EXPECT_EQ(l->differing > 0 && l->max == 1, true);
  EXPECT_NE(e.vcd.find("$var wire"), std::string::npos);
  const std::string wire = l->where.substr(l->where.rfind('.') + 1);
  EXPECT_NE(e.vcd.find(wire + "_tdata"), std::string::npos) << l->where;
  EXPECT_NE(e.gtkw.find("top.net." + wire + "_tdata"), std::string::npos) << e.gtkw;
  ASSERT_TRUE(e.wave);
  EXPECT_LE(e.wave->first_cycle, l->first->cycle);
  EXPECT_GE(e.wave->first_cycle + static_cast<I>(e.wave->signals[0].values.size()), l->first->cycle + 50);
}

TEST(RtlExplain, CausesInHardware) {
  // A clamp that is gone: the codes run over their format, or wrap.
  Net n = net(plan::Requantiser::arithmetic, 6);
  std::string text;
  for (const rtl::File& f : n.design.files)
    for (std::size_t i = 0; i < n.design.stages.size(); ++i)
      if (n.design.stages[i].kind == plan::StageKind::rescale && f.name == n.design.modules[i] + ".v") text = f.text;
  const std::size_t code = text.find("wire [4:0] code_0 = ");
  ASSERT_NE(code, std::string::npos) << text;
  const std::string line = text.substr(code, text.find('\n', code) - code);
  const std::size_t index = line.rfind(": ") + 2;
  inject(n, plan::StageKind::rescale, line, "wire [4:0] code_0 = " + line.substr(index), 1);
  Explanation e = explain(n.design, n.stages, n.program, n.frames);
  ASSERT_TRUE(e.first()) << e.text();
  EXPECT_EQ(e.first()->layer, n.stages.layers.back().name) << e.text();
  EXPECT_EQ(e.first()->cause.kind, CauseKind::saturation) << e.text();

  // An accumulator that forgets.
  n = net(plan::Requantiser::table, 4);
  inject(n, plan::StageKind::mvau, "acc_0 <= (first", "acc_0 <= 1'b0 & (first", 1);
  e = explain(n.design, n.stages, n.program, n.frames);
  ASSERT_TRUE(e.first()) << e.text();
  EXPECT_EQ(e.first()->layer, n.stages.layers[2].name) << e.text();

  // A buffer that loses a beat when it is stalled: the stream behind it is the first that is wrong.
  n = net(plan::Requantiser::table, 4);
  const auto skids = std::count_if(n.design.stages.begin(), n.design.stages.end(), [](const plan::StageShape& s) { return s.kind == plan::StageKind::skid; });
  inject(n, plan::StageKind::skid, "held_v <= 1'b1;", "held_v <= 1'b0;", static_cast<int>(skids) - 1);
  e = explain(n.design, n.stages, n.program, n.frames);
  EXPECT_FALSE(e.equal());
  ASSERT_TRUE(e.first()) << e.text();
  EXPECT_NE(e.first()->layer.find("skid behind it"), std::string::npos) << e.text();
  EXPECT_TRUE(e.first()->cause.kind == CauseKind::order || e.first()->cause.kind == CauseKind::missing) << e.text();
}

TEST(Explain, ValuesGivenByName) {
  const Net n = net(plan::Requantiser::table, 4);
  std::vector<ir::LiteralValue> all;
  const ir::Graph g = ir::prepare(n.graph);
  std::string act;
  for (const ir::Node& node : g.nodes)
    if (node.name == "act") act = g.values[static_cast<std::size_t>(node.outputs[0])].name;
  Tensor t(DType::f32, {4, 4, 3, 3});
  for (I f = 0; f < 4; ++f) {
    ir::evaluate_literal(g, {n.frames.rows(f, f + 1)}, nullptr, &all);
    const ir::LiteralValue& v = all[static_cast<std::size_t>(g.find(act))];
    for (I i = 0; i < 36; ++i) t.set(f * 36 + i, v.q[static_cast<std::size_t>(i)].get_d());
  }
  Explanation e = explain_values(n.graph, n.frames, {{act, t}});
  EXPECT_TRUE(e.equal()) << e.text();
  // A runtime that stops one code early.
  double top = 0;
  for (I i = 0; i < t.size(); ++i) top = std::max(top, t.at(i));
  Tensor clipped = t;
  I changed = 0, first = -1;
  for (I i = 0; i < t.size(); ++i)
    if (t.at(i) > top / 2) {
      clipped.set(i, 4 * std::floor(top / 8));
      changed += clipped.at(i) != t.at(i);
      if (first < 0 && clipped.at(i) != t.at(i)) first = i;
    }
  ASSERT_GT(changed, 2);
  e = explain_values(n.graph, n.frames, {{act, clipped}});
  ASSERT_TRUE(e.first());
  EXPECT_EQ(e.first()->differing, changed);
  EXPECT_EQ(e.first()->first->frame * 36 + e.first()->first->element, first);
  EXPECT_EQ(e.first()->cause.kind, CauseKind::saturation) << e.text();
  EXPECT_THROW(explain_values(n.graph, n.frames, {{"nothing", t}}), Error);
  EXPECT_THROW(explain_values(n.graph, n.frames, {{act, Tensor(DType::f32, {4, 3})}}), Error);
  // Small integers and powers of two: float32 makes no rounding here.
  EXPECT_TRUE(explain_float(n.graph, n.frames).equal());
}

}  // namespace
}  // namespace tandem::proof
