// Streams that part, meet, repeat, leave elements out and change their order, in simulated hardware.
#include <map>

#include "tandem/exec/exec.h"
#include "tandem/ir/op.h"
#include "tandem/ir/random_graph.h"
#include "tandem/plan/moves.h"
#include "tandem/proof/verify.h"
#include "tandem/rtl/emit.h"
#include "tandem/tool/find.h"
#include "tandem/tool/iverilog.h"
#include "tandem/tool/verilator.h"
#include "tandem/tool/yosys.h"

namespace tandem {
namespace {
using I = std::int64_t;
using plan::LayerKind;

// A small network given by hand: images through a quantiser, then what `build` adds.
struct Made {
  ir::Graph g;
  ir::ValueId operator()(const std::string& op, std::vector<ir::ValueId> in, std::map<std::string, ir::Attribute> a = {}, const std::string& domain = "") {
    const ir::ValueId y = g.add_node(op, std::move(in), std::move(a), "", domain);
    ir::infer_shapes(g);
    return y;
  }
  ir::ValueId floats(Shape s, std::vector<float> v) { return g.add_constant(g.unique_name("c"), Tensor::of<float>(std::move(s), v)); }
  ir::ValueId ints(std::vector<I> v) { return g.add_constant(g.unique_name("i"), Tensor::of<I>({static_cast<I>(v.size())}, v)); }
  ir::ValueId quant(ir::ValueId x, float scale, float bits, bool is_signed) {
    return (*this)("Quant", {x, floats({}, {scale}), floats({}, {0}), floats({}, {bits})}, {{"signed", I{is_signed}}, {"narrow", I{0}}, {"rounding_mode", std::string("ROUND")}},
                   "qonnx.custom_op.general");
  }
  ir::ValueId weights(Shape s, Rng& r) {
    std::vector<float> w(static_cast<std::size_t>(element_count(s)));
    for (float& v : w) v = static_cast<float>(r.range(-7, 7)) / 8;
    return quant(floats(std::move(s), w), 0.125f, 4, true);
  }
};

struct Case {
  std::string name;
  plan::StageGraph graph;
  rtl::Design design;
  proof::Stimulus stimulus;
};
plan::Folding random_folding(const plan::StageGraph& g, Rng& r) {
  plan::Folding f = plan::smallest_folding(g);
  auto divisor = [&](I n) {
    std::vector<I> d;
    for (I k = 1; k <= n; ++k)
      if (n % k == 0) d.push_back(k);
    return r.pick(d);
  };
  for (std::size_t i = 0; i < f.of.size(); ++i) {
    const plan::Layer& l = g.layers[i];
    if (l.kind == LayerKind::dense || l.kind == LayerKind::depthwise || l.kind == LayerKind::pool) f.of[i].pe = divisor(plan::most_pe(l));
    if (l.kind == LayerKind::dense) f.of[i].simd = divisor(plan::most_simd(l));
  }
  check_folding(g, f);
  return f;
}
Case case_of(const ir::Graph& g, std::string name, std::uint64_t seed, std::string_view prefix) {
  Rng r(seed, "topologies");
  const ir::ExactProgram p = ir::lower_exact(g, 64);
  Case c{std::move(name), plan::stages_from(p), {}, {}};
  c.design = rtl::generate(c.graph, random_folding(c.graph, r), prefix);
  exec::Executor e(p);
  auto append = [](std::vector<I>& to, const plan::Values& v, const std::vector<I>& frame) {
    const std::vector<Int128> wide(frame.begin(), frame.end());
    const std::vector<I> stream = plan::to_stream(v, wide.data());
    to.insert(to.end(), stream.begin(), stream.end());
  };
  for (std::uint64_t k = 0; k < 5; ++k) {
    e.run(ir::random_inputs(g, seed * 16 + k));
    append(c.stimulus.in, c.graph.input, e.integers(c.graph.input_buffer));
    append(c.stimulus.expected, c.graph.output, e.integers(c.graph.output_buffer));
  }
  return c;
}

// Each by name, so that all forms of the new stages are there whatever is drawn.
std::vector<Case> by_hand() {
  std::vector<Case> cases;
  auto make = [&](std::string name, ir::Dims shape, auto build) {
    Made m;
    Rng r(cases.size(), "by_hand");
    const ir::ValueId x = m.quant(m.g.add_input("x", DType::f32, shape), 0.25f, 4, true);
    m.g.outputs = {build(m, x, r)};
    ir::infer_shapes(m.g);
    cases.push_back(case_of(m.g, std::move(name), cases.size(), fmt::format("h{}", cases.size())));
  };
  using V = ir::ValueId;
  const ir::Dims image{ir::Dim(1), ir::Dim(4), ir::Dim(5), ir::Dim(4)};
  auto pads = [](I t, I l, I b, I e) { return std::vector<I>{t, l, b, e}; };
  make("input channels last", {ir::Dim(1), ir::Dim(5), ir::Dim(4), ir::Dim(3)}, [](Made& m, V x, Rng& r) {
    return m("Conv", {m("Transpose", {x}, {{"perm", std::vector<I>{0, 3, 1, 2}}}), m.weights({2, 3, 3, 3}, r)});
  });
  make("convolution, transposed, convolution", image, [](Made& m, V x, Rng& r) {
    x = m.quant(m("Conv", {x, m.weights({6, 4, 1, 1}, r)}), 0.5f, 3, true);
    x = m("Transpose", {x}, {{"perm", std::vector<I>{0, 2, 3, 1}}});
    return m("Conv", {x, m.weights({2, 5, 2, 2}, r)});
  });
  make("scattered places from a table", image, [](Made& m, V x, Rng& r) {
    x = m.quant(m("Conv", {x, m.weights({7, 4, 2, 2}, r)}), 0.5f, 3, true);
    return m("Conv", {m("Gather", {x, m.ints({5, 1, 1, 6, 0})}, {{"axis", I{1}}}), m.weights({2, 5, 2, 2}, r)});
  });
  make("grouped 3x3", image, [&](Made& m, V x, Rng& r) { return m("Conv", {x, m.weights({6, 2, 3, 3}, r)}, {{"group", I{2}}, {"pads", pads(1, 1, 1, 1)}}); });
  make("grouped 1x1", image, [](Made& m, V x, Rng& r) { return m("Conv", {x, m.weights({8, 2, 1, 1}, r)}, {{"group", I{2}}}); });
  make("three outputs a channel, dilated, strided", image, [&](Made& m, V x, Rng& r) {
    return m("Conv", {x, m.weights({12, 1, 2, 2}, r)}, {{"group", I{4}}, {"dilations", std::vector<I>{2, 2}}, {"strides", std::vector<I>{2, 1}}, {"pads", pads(0, 1, 1, 0)}});
  });
  make("one axis", {ir::Dim(1), ir::Dim(3), ir::Dim(9)}, [](Made& m, V x, Rng& r) {
    x = m.quant(m("Conv", {x, m.weights({4, 3, 3}, r)}, {{"pads", std::vector<I>{1, 1}}}), 0.5f, 4, true);
    return m("Conv", {x, m.weights({2, 4, 2}, r)}, {{"strides", std::vector<I>{2}}, {"dilations", std::vector<I>{2}}});
  });
  make("squeeze and excite", image, [](Made& m, V x, Rng& r) {
    V g = m.quant(m("GlobalAveragePool", {x}), 0.125f, 4, true);
    g = m.quant(m("Relu", {m("Conv", {g, m.weights({4, 4, 1, 1}, r)})}), 0.25f, 3, false);
    return m("Mul", {x, g});
  });
  make("largest of all, some channels negated", image, [](Made& m, V x, Rng&) {
    return m("MaxPool", {m("Mul", {x, m.floats({1, 4, 1, 1}, {1, -1, 2, -0.5f})})}, {{"kernel_shape", std::vector<I>{5, 4}}});
  });
  make("mean without padding", image, [&](Made& m, V x, Rng&) { return m("AveragePool", {x}, {{"kernel_shape", std::vector<I>{3, 2}}, {"pads", pads(1, 1, 0, 1)}}); });
  make("sum of four branches", image, [](Made& m, V x, Rng& r) {
    auto b = [&] { return m("Conv", {x, m.weights({4, 4, 1, 1}, r)}); };
    return m("Add", {m("Add", {b(), x}), m("Sub", {b(), b()})});
  });
  make("apart and together along each axis", image, [](Made& m, V x, Rng& r) {
    for (I axis : {1, 2, 3}) {
      const V a = m("Slice", {x, m.ints({0}), m.ints({2}), m.ints({axis})}), b = m("Slice", {x, m.ints({1}), m.ints({4}), m.ints({axis})});
      x = m.quant(m("Conv", {m("Concat", {b, a}, {{"axis", axis}}), m.weights({4, axis == 1 ? 5 : 4, 1, 1}, r)}), 0.5f, 4, true);
    }
    return x;
  });
  make("nearest, padded, cut", image, [](Made& m, V x, Rng& r) {
    x = m("Resize", {x, ir::kNone, m.floats({4}, {1, 1, 2, 3})}, {{"coordinate_transformation_mode", std::string("asymmetric")}, {"nearest_mode", std::string("floor")}});
    x = m("Pad", {x, m.ints({0, 1, 1, 0, 0, 0, 0, 2}), m.floats({}, {0.5f})});
    return m("Conv", {m("Slice", {x, m.ints({1, 2}), m.ints({9, 14}), m.ints({2, 3}), m.ints({2, 3})}), m.weights({2, 5, 2, 2}, r)});
  });
  make("blocks of pixels", image, [](Made& m, V x, Rng& r) {
    x = m.quant(m("Conv", {m("DepthToSpace", {x}, {{"blocksize", I{2}}}), m.weights({2, 1, 3, 3}, r)}), 0.5f, 4, true);
    return m("Conv", {m("SpaceToDepth", {x}, {{"blocksize", I{2}}}), m.weights({2, 8, 2, 2}, r)});
  });
  make("a slope below zero", image, [](Made& m, V x, Rng& r) {
    auto leaky = [&](V y) { return m("LeakyRelu", {y}, {{"alpha", 0.3}}); };
    x = m.quant(leaky(m("Conv", {x, m.weights({3, 4, 2, 2}, r)})), 0.5f, 4, true);
    return leaky(m("Conv", {x, m.weights({2, 3, 2, 2}, r)}));
  });
  make("two orders meet", image, [](Made& m, V x, Rng& r) {
    auto turned = [&](V y) { return m("Transpose", {y}, {{"perm", std::vector<I>{0, 1, 3, 2}}}); };
    const V a = m.quant(m("Conv", {x, m.weights({4, 4, 1, 1}, r)}), 0.5f, 4, true), b = turned(m.quant(m("Conv", {turned(x), m.weights({4, 4, 1, 1}, r)}), 0.5f, 4, true));
    return m("ArgMax", {m("Mul", {m("Add", {a, b}), b})}, {{"axis", I{2}}, {"keepdims", I{0}}});
  });
  return cases;
}

std::vector<Case> drawn(std::uint64_t from, std::size_t count) {
  std::vector<Case> cases;
  for (std::uint64_t seed = from; cases.size() < count; ++seed) {
    ir::RandomGraphOptions o;
    o.streaming = o.moves = true;
    o.max_layers = 3;
    const ir::RandomGraph g = ir::random_graph(o, seed);
    try {
      Case c = case_of(g.graph, fmt::format("seed {}", seed), seed, fmt::format("d{}", cases.size()));
      const bool beyond_chains = std::any_of(c.graph.layers.begin(), c.graph.layers.end(), [](const plan::Layer& l) { return l.kind > LayerKind::argmax || l.groups > 1; });
      if (beyond_chains) cases.push_back(std::move(c));
    } catch (const Error& e) {  // too wide for 64 bits
      if (e.code() != Exit::no) throw;
    }
  }
  return cases;
}

std::string stages(const Case& c) {
  std::string s = c.name + ":";
  for (const plan::StageShape& t : c.design.stages) s += fmt::format(" {}", stage_def(t.kind).name);
  return s;
}

// Every word equal in the runs without and with stalls, for networks by hand and drawn ones; every form of stage is there.
TEST(RtlTopologies, AreBitExact) {
  std::vector<Case> cases = by_hand();
  for (Case& c : drawn(0, 16)) cases.push_back(std::move(c));
  std::vector<rtl::Design> designs;
  std::vector<proof::Stimulus> stimuli;
  std::map<std::string, int> seen;
  for (const Case& c : cases) {
    designs.push_back(c.design);
    stimuli.push_back(c.stimulus);
    for (const plan::StageShape& s : c.design.stages) {
      ++seen[std::string(stage_def(s.kind).name)];
      seen["table"] += s.table;
      seen["grouped window"] += s.kind == plan::StageKind::window && s.groups > 1;
    }
    for (const plan::Layer& l : c.graph.layers) {
      seen["repeat"] += l.kind == LayerKind::repeat;
      seen["filling"] += l.kind == LayerKind::insert && l.value != 0;
      seen["loops"] += l.kind == LayerKind::reorder && l.loops.size() > 1;
    }
  }
  for (const char* kind : {"reorder", "table", "loops", "select", "insert", "filling", "concat", "product", "total", "grouped window", "repeat"}) EXPECT_GT(seen[kind], 0) << kind;
  proof::VerifyOptions o;
  o.designs_per_model = 40;
  const auto results = proof::verify(designs, stimuli, o);
  for (std::size_t i = 0; i < cases.size(); ++i) {
    EXPECT_TRUE(results[i].ok) << stages(cases[i]) << "\n" << results[i].text();
    EXPECT_EQ(results[i].frames, 5);
  }
}

// The sign of a lane is a bit of its wire: what is selected from a selection, Verilator takes and yosys does not.
TEST(Topologies, ALaneKeepsItsSign) {
  EXPECT_EQ(rtl::extend("x", 4, true, 6), "{{2{x[3]}}, x}");
  EXPECT_EQ(rtl::extend("x[11:8]", 4, true, 6), "{{2{x[11]}}, x[11:8]}");
  EXPECT_EQ(rtl::extend("x[5]", 1, true, 3), "{{2{x[5]}}, x[5]}");
  EXPECT_EQ(rtl::extend("x[11:8]", 4, false, 6), "{2'd0, x[11:8]}");
  EXPECT_EQ(rtl::extend("x[11:8]", 4, true, 4), "x[11:8]");
}

TEST(RtlTopologies, LintIsClean) {
  std::vector<Case> cases = by_hand();
  for (Case& c : drawn(200, 8)) cases.push_back(std::move(c));
  for (const Case& c : cases) {
    tool::WorkFolder work;
    for (const rtl::File& f : c.design.files) work.put(f.name, f.text);
    const tool::LintResult r = tool::lint_verilog(work, c.design.names(".v"), c.design.top);
    EXPECT_TRUE(r.clean) << stages(c) << "\n" << fmt::format("{}", fmt::join(r.messages, "\n"));
    if (!tool::try_find("yosys")) continue;
    const tool::CheckResult y = tool::check_verilog(work, c.design.names(".v"), c.design.top);
    EXPECT_EQ(y.problems, 0) << stages(c) << "\n" << fmt::format("{}", fmt::join(y.messages, "\n"));
  }
}

// Four-state values in a second simulator: a bit that was never written shows in the words.
TEST(RtlTopologies, IcarusGivesTheSameWords) {
  for (const Case& c : by_hand()) {
    const rtl::Design& d = c.design;
    tool::WorkFolder work;
    for (const rtl::File& f : d.files) work.put(f.name, f.text);
    const I frames = 2;
    auto words = [&](const rtl::StreamPort& p, const std::vector<I>& v) {
      std::vector<std::string> lines;
      for (I b = 0; b < frames * p.beats; ++b) {
        std::string bits;
        for (I l = 0; l < p.lanes; ++l)
          for (int k = 0; k < p.bits; ++k) bits.insert(bits.begin(), (v[static_cast<std::size_t>(b * p.lanes + l)] >> k) & 1 ? '1' : '0');
        bits.insert(0, static_cast<std::size_t>(p.width()) - bits.size(), '0');
        lines.push_back(std::move(bits));
      }
      return lines;
    };
    work.put("in.bin", fmt::format("{}\n", fmt::join(words(d.in, c.stimulus.in), "\n")));
    work.put("tb.v", fmt::format(R"(module tb;
  reg clk = 0, rst_n = 0;
  reg [{iw}:0] data [0:{n}];
  integer sent = 0, got = 0, tick = 0, f;
  wire s_ready, m_valid, m_last;
  wire [{ow}:0] m_data;
  wire m_ready = tick % 5 != 2;
  {top} dut (.clk(clk), .rst_n(rst_n), .s_axis_tdata(data[sent > {n} ? {n} : sent]), .s_axis_tvalid(rst_n & (sent <= {n})), .s_axis_tready(s_ready),
    .s_axis_tlast(((sent + 1) % {beats}) == 0), .m_axis_tdata(m_data), .m_axis_tvalid(m_valid), .m_axis_tready(m_ready), .m_axis_tlast(m_last));
  always #1 clk = ~clk;
  always @(posedge clk) begin
    tick <= tick + 1;
    if (rst_n & s_ready & (sent <= {n})) sent <= sent + 1;
    if (rst_n & m_valid & m_ready) begin
      $fwrite(f, "%b %b\n", m_data, m_last);
      got = got + 1;
    end
    if (got == {total} || tick > 200000) begin $fclose(f); $finish; end
  end
  initial begin
    $readmemb("in.bin", data);
    f = $fopen("words.txt", "w");
    repeat (4) @(posedge clk);
    #1 rst_n = 1;
  end
endmodule
)", fmt::arg("iw", d.in.width() - 1), fmt::arg("ow", d.out.width() - 1), fmt::arg("n", frames * d.in.beats - 1), fmt::arg("top", d.top),
                               fmt::arg("beats", d.in.beats), fmt::arg("total", frames * d.out.beats)));
    std::vector<std::string> files = d.names(".v");
    files.push_back("tb.v");
    const tool::IcarusResult r = tool::run_icarus(work, files, "tb");
    EXPECT_TRUE(r.warnings.empty()) << c.name << "\n" << fmt::format("{}", fmt::join(r.warnings, "\n"));
    std::string want;
    I beat = 0;
    for (const std::string& w : words(d.out, c.stimulus.expected)) want += fmt::format("{} {}\n", w, ++beat % d.out.beats == 0 ? 1 : 0);
    EXPECT_EQ(work.get("words.txt"), want) << stages(c);
  }
}

TEST(PlanTopologies, StreamInTheOrderOfTheFirstReader) {
  const std::vector<Case> cases = by_hand();
  EXPECT_EQ(cases[0].graph.layers.size(), 1u);  // the convolution and nothing in front of it
  std::vector<std::int32_t> plain(60);
  for (std::size_t i = 0; i < plain.size(); ++i) plain[i] = static_cast<std::int32_t>(i);
  EXPECT_EQ(cases[0].graph.input.order, plain);
  // An order is changed where it must be and once.
  for (const Case& c : cases) {
    const auto n = std::count_if(c.graph.layers.begin(), c.graph.layers.end(), [](const plan::Layer& l) { return l.kind == LayerKind::reorder; });
    if (c.name == "convolution, transposed, convolution") {
      EXPECT_EQ(n, 1);
    }
    if (c.name == "sum of four branches" || c.name == "squeeze and excite") {
      EXPECT_EQ(n, 0);
    }
  }
}

// A factored mask is the mask, of fewer bits.
TEST(PlanMoves, MasksFactor) {
  auto product = [](const std::vector<std::vector<bool>>& parts) {
    std::vector<bool> m{true};
    for (const auto& p : parts) {
      std::vector<bool> next;
      for (bool a : m)
        for (bool b : p) next.push_back(a && b);
      m = std::move(next);
    }
    return m;
  };
  Rng r(5);
  for (int k = 0; k < 200; ++k) {
    std::vector<std::vector<bool>> parts(static_cast<std::size_t>(r.range(1, 3)));
    for (auto& p : parts) {
      for (I n = r.range(2, 7); n > 0; --n) p.push_back(r.chance(0.6));
      p[p.size() / 2] = true;
    }
    const std::vector<bool> mask = product(parts);
    EXPECT_EQ(product(plan::factor(mask)), mask);
  }
  std::vector<bool> crop;  // rows 2..5 of 8, columns 1..6 of 8, three channels
  for (I i = 0; i < 8 * 8 * 3; ++i) crop.push_back(i / 24 >= 2 && i / 24 < 6 && i / 3 % 8 >= 1 && i / 3 % 8 < 7);
  EXPECT_EQ(product(plan::factor(crop)), crop);
  std::size_t longest = 0;
  for (const auto& p : plan::factor(crop)) longest = std::max(longest, p.size());
  EXPECT_LE(longest, 24u);
}

TEST(PlanMoves, AddressesAreLoops) {
  const auto t = plan::order_of({3, 4, 5}, {2, 0, 1});
  const auto loops = plan::find_loops(t);
  ASSERT_EQ(loops.size(), 2u);  // axes 0 and 1 walk as one
  EXPECT_EQ(loops[0].n, 5);
  EXPECT_EQ(loops[0].stride, 1);
  EXPECT_EQ(loops[1].n, 12);
  EXPECT_EQ(loops[1].stride, 5);
  EXPECT_TRUE(plan::find_loops({0, 1, 3, 2, 5, 4}).empty());
  EXPECT_EQ(plan::unit_of(std::vector<std::int32_t>{4, 5, 0, 1, 2, 3}), 2);
  EXPECT_EQ(plan::unit_of(std::vector<bool>{true, true, false, false, false, false}), 2);
}

}  // namespace
}  // namespace tandem
