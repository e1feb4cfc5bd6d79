// The largest k, softmax and normalisation by table in simulated hardware.
#include <gtest/gtest.h>

#include <map>

#include "tandem/exec/exec.h"
#include "tandem/proof/verify.h"
#include "tandem/ir/op.h"
#include "tandem/ir/ops/by_table.h"
#include "tandem/ir/random_graph.h"
#include "tandem/tool/verilator.h"

namespace tandem {
namespace {
using I = std::int64_t;
using plan::StageKind;

struct Made {
  ir::Graph g;
  Rng r;
  ir::ValueId operator()(const std::string& op, std::vector<ir::ValueId> in, std::map<std::string, ir::Attribute> a = {}, const std::string& domain = "") {
    const ir::ValueId y = g.add_node(op, std::move(in), std::move(a), "", domain);
    ir::infer_shapes(g);
    return y;
  }
  ir::ValueId number(float v) { return g.add_constant(g.unique_name("c"), Tensor::scalar(v)); }
  ir::ValueId quant(ir::ValueId x, float scale, int bits, bool is_signed, float zero = 0) {
    return (*this)("Quant", {x, number(scale), number(zero), number(static_cast<float>(bits))}, {{"signed", I{is_signed}}, {"narrow", I{0}}, {"rounding_mode", std::string("ROUND")}}, "qonnx.custom_op.general");
  }
  ir::ValueId dense(ir::ValueId x, I in, I out) {
    std::vector<float> w(static_cast<std::size_t>(in * out));
    for (float& v : w) v = static_cast<float>(r.range(-7, 7)) / 8;
    return (*this)("MatMul", {x, g.add_constant(g.unique_name("w"), Tensor::of<float>({in, out}, w))});
  }
  ir::ValueId topk(ir::ValueId x, I k, I axis, bool largest, bool places) {
    (*this)("TopK", {x, g.add_constant(g.unique_name("k"), Tensor::of<I>({1}, std::vector<I>{k}))}, {{"axis", axis}, {"largest", I{largest}}});
    const ir::ValueId more = g.add_value(g.unique_name("places"));
    g.nodes.back().outputs.push_back(more);
    ir::infer_shapes(g);
    return g.nodes.back().outputs[places];
  }
  ir::ValueId table(const std::vector<std::int32_t>& t) { return g.add_constant(g.unique_name("t"), Tensor::of<std::int32_t>({static_cast<I>(t.size())}, t)); }
  ir::ValueId softmax(ir::ValueId x, I axis, float scale, I bits = 8) {
    return (*this)("TableSoftmax", {x, table(ir::tflite_exponentials(scale, 1, 256))}, {{"axis", axis}, {"x_scale", static_cast<double>(scale)}, {"bits", bits}}, "tandem");
  }
};
struct Case {
  std::string name;
  plan::StageGraph graph;
  rtl::Design design;
  proof::Stimulus stimulus;
};
Case case_of(const ir::Graph& g, std::string name, std::uint64_t seed, std::string_view prefix) {
  const ir::ExactProgram p = ir::lower_exact(g, 64);
  Case c{std::move(name), plan::stages_from(p), {}, {}};
  c.design = rtl::generate(c.graph, plan::smallest_folding(c.graph), prefix);
  exec::Executor e(p);
  auto append = [](std::vector<I>& to, const plan::Values& v, const std::vector<I>& frame) {
    const std::vector<Int128> wide(frame.begin(), frame.end());
    const std::vector<I> stream = plan::to_stream(v, wide.data());
    to.insert(to.end(), stream.begin(), stream.end());
  };
  for (std::uint64_t k = 0; k < 6; ++k) {
    e.run(k < 4 ? ir::random_inputs(g, seed * 16 + k) : ir::corner_inputs(g, static_cast<int>(k - 3) * 2 - 2));
    append(c.stimulus.in, c.graph.input, e.integers(c.graph.input_buffer));
    append(c.stimulus.expected, c.graph.output, e.integers(c.graph.output_buffer));
  }
  return c;
}
std::vector<Case> by_hand() {
  using V = ir::ValueId;
  std::vector<Case> cases;
  auto make = [&](std::string name, ir::Dims shape, auto build) {
    Made m{{}, Rng(cases.size(), "by_table")};
    const V x = m.g.add_input("x", DType::f32, shape);
    m.g.outputs = {build(m, x)};
    ir::infer_shapes(m.g);
    cases.push_back(case_of(m.g, std::move(name), cases.size(), fmt::format("t{}", cases.size())));
  };
  const ir::Dims image{ir::Dim(1), ir::Dim(5), ir::Dim(2), ir::Dim(3)}, row{ir::Dim(1), ir::Dim(10)};
  make("places of the three largest sums", row, [](Made& m, V x) { return m.topk(m.dense(m.quant(x, 0.25f, 3, true), 10, 10), 3, -1, true, true); });
  make("the two largest channels, quantised", image, [](Made& m, V x) { return m.quant(m.topk(m.quant(x, 0.5f, 2, true), 2, 1, true, false), 0.5f, 2, true); });
  make("places of the smallest along rows", image, [](Made& m, V x) { return m.topk(m.quant(x, 0.5f, 2, false), 2, 3, false, true); });
  make("a row sorted", row, [](Made& m, V x) { return m.topk(m.quant(x, 0.125f, 6, true), 10, 1, true, false); });
  make("where a row's order comes from", row, [](Made& m, V x) { return m.topk(m.quant(x, 0.125f, 2, true), 10, 1, false, true); });
  make("one of one", {ir::Dim(1), ir::Dim(1)}, [](Made& m, V x) { return m.topk(m.quant(x, 0.125f, 6, true), 1, 1, true, false); });
  make("classifier", row, [](Made& m, V x) { return m.quant(m.softmax(m.quant(m.dense(m.quant(x, 0.25f, 4, true), 10, 10), 0.0625f, 8, true, 5), -1, 0.0625f), 1.0f / 256, 8, true, -128); });
  make("channels of an image", image, [](Made& m, V x) { return m.softmax(m.quant(x, 0.25f, 4, false), 1, 0.25f, 5); });
  make("16 bits, along rows", image, [](Made& m, V x) { return m.softmax(m.quant(x, 0.0625f, 7, true), 3, 0.0625f, 16); });
  make("a softmax of one", {ir::Dim(1), ir::Dim(1)}, [](Made& m, V x) { return m.softmax(m.quant(x, 0.25f, 3, true), 1, 0.25f); });
  make("two classes of one bit", {ir::Dim(1), ir::Dim(2)}, [](Made& m, V x) { return m.softmax(m.quant(x, 1, 1, false), 1, 1); });
  make("softmax, then its largest", row, [](Made& m, V x) { return m.topk(m.softmax(m.quant(x, 0.25f, 5, true), 1, 0.25f), 4, 1, true, true); });
  auto normalised = [](Made& m, V x, I axis, float scale, int address, int root, int bits) {
    return m("TableNormalize", {x, m.table(ir::root_table(address, root))}, {{"axis", axis}, {"x_scale", static_cast<double>(scale)}, {"root_bits", I{root}}, {"bits", I{bits}}, {"epsilon", 0.001}}, "tandem");
  };
  make("a layer norm", row, [&](Made& m, V x) {
    V y = normalised(m, m.quant(m.dense(m.quant(x, 0.25f, 4, true), 10, 16), 0.0625f, 8, true), -1, 0.0625f, 9, 15, 10);
    std::vector<float> scale, offset;
    for (int i = 0; i < 16; ++i) scale.push_back(static_cast<float>(i - 5) / 4), offset.push_back(static_cast<float>(i % 3) / 8);
    y = m("Mul", {y, m.g.add_constant("gamma", Tensor::of<float>({16}, scale))});
    return m.quant(m("Add", {y, m.g.add_constant("beta", Tensor::of<float>({16}, offset))}), 0.03125f, 8, true);
  });
  make("normalised channels of an image", image, [&](Made& m, V x) { return normalised(m, m.quant(x, 0.25f, 4, false), 1, 0.25f, 5, 9, 4); });
  make("normalised rows, an entry for all", image, [&](Made& m, V x) { return normalised(m, m.quant(x, 0.25f, 3, true, 1), 3, 0.25f, 3, 12, 11); });
  make("two of one bit, normalised", {ir::Dim(1), ir::Dim(2)}, [&](Made& m, V x) { return normalised(m, m.quant(x, 1, 1, false), 1, 1, 8, 8, 3); });
  make("one, normalised", {ir::Dim(1), ir::Dim(1)}, [&](Made& m, V x) { return normalised(m, m.quant(x, 0.5f, 5, true), 1, 0.5f, 6, 10, 5); });
  return cases;
}
std::string stages(const Case& c) {
  std::string s = c.name + ":";
  for (const plan::StageShape& t : c.design.stages) s += fmt::format(" {}{}", stage_def(t.kind).name, t.serial ? "*" : "");
  return s;
}

TEST(RtlByTable, IsBitExact) {
  std::vector<Case> cases = by_hand();
  std::vector<rtl::Design> designs;
  std::vector<proof::Stimulus> stimuli;
  std::map<StageKind, int> serial, multiplied;
  for (const Case& c : cases) {
    designs.push_back(c.design);
    stimuli.push_back(c.stimulus);
    for (const plan::StageShape& s : c.design.stages) ++(s.serial ? serial : multiplied)[s.kind];
  }
  for (StageKind k : {StageKind::softmax, StageKind::normalize}) {
    EXPECT_GE(serial[k], 2) << stage_def(k).name;
    EXPECT_GE(multiplied[k], 1) << stage_def(k).name;
  }
  proof::VerifyOptions o;
  o.designs_per_model = 40;
  const auto results = proof::verify(designs, stimuli, o);
  for (std::size_t i = 0; i < cases.size(); ++i) {
    EXPECT_TRUE(results[i].ok) << stages(cases[i]) << "\n" << results[i].text();
    EXPECT_TRUE(results[i].predicted.known);
    EXPECT_EQ(results[i].frames, 6);
  }
}

TEST(RtlByTable, LintIsClean) {
  for (const Case& c : by_hand()) {
    tool::WorkFolder work;
    for (const rtl::File& f : c.design.files) work.put(f.name, f.text);
    const tool::LintResult r = tool::lint_verilog(work, c.design.names(".v"), c.design.top);
    EXPECT_TRUE(r.clean) << stages(c) << "\n" << fmt::format("{}", fmt::join(r.messages, "\n"));
  }
}

// The requantiser behind a softmax of the same codes is no stage.
TEST(PlanByTable, CodesPassThroughAsTheyAre) {
  for (const Case& c : by_hand()) {
    if (c.name != "classifier") continue;
    EXPECT_EQ(c.graph.layers.back().kind, plan::LayerKind::softmax);
    EXPECT_EQ(c.graph.output.bits, 8);
  }
}

}  // namespace
}  // namespace tandem
