// The forms of the matrix-vector unit: bit-exact, free of warnings, and what they cost against yosys.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <iostream>

#include "tandem/base/rng.h"
#include "tandem/flow/calibrate.h"
#include "tandem/flow/synthesis.h"
#include "tandem/proof/verify.h"
#include "tandem/tool/verilator.h"
#include "tandem/tool/work.h"
#include "tandem/tool/yosys.h"

namespace tandem {
namespace {
using I = std::int64_t;
using plan::Multipliers;
using plan::StageKind;

struct Dense {
  I rows = 1, columns = 1, vectors = 1;
  int bits = 8, weight_bits = 8;
  bool is_signed = false;
  std::vector<I> weights;  // [columns][rows], as IntMatMul has them
  plan::Fold fold;
};

Int128 least(const Dense& d) { return d.is_signed ? -(Int128(1) << (d.bits - 1)) : 0; }
Int128 most(const Dense& d) { return (Int128(1) << (d.is_signed ? d.bits - 1 : d.bits)) - 1; }

plan::StageGraph graph_of(const Dense& d) {
  ir::ExactProgram p;
  Int128 lo = 0, hi = 0;
  for (I o = 0; o < d.rows; ++o) {
    Int128 a = 0, b = 0;
    for (I i = 0; i < d.columns; ++i) {
      const Int128 w = d.weights[static_cast<std::size_t>(i * d.rows + o)];
      a += std::min(w * least(d), w * most(d));
      b += std::max(w * least(d), w * most(d));
    }
    lo = std::min(lo, a);
    hi = std::max(hi, b);
  }
  auto buffer = [&](std::string name, Shape s, Int128 l, Int128 h) {
    ir::Buffer b;
    b.name = std::move(name);
    b.shape = std::move(s);
    b.lo = l;
    b.hi = h;
    p.buffers.push_back(b);
  };
  buffer("x", {1, d.vectors, d.columns}, least(d), most(d));
  buffer("y", {1, d.vectors, d.rows}, lo, hi);
  p.inputs.push_back({"x", 0, DType::f32, true, {}});
  p.outputs.push_back({"y", 1, DType::f32, true, {}});
  ir::Step s;
  ir::IntMatMul m;
  m.k = d.columns;
  m.m = d.rows;
  m.weights = d.weights;
  s.params = m;
  s.in = {0};
  s.out = 1;
  s.node = "the layer";
  p.steps.push_back(s);
  return plan::stages_from(p);
}

I divisor(Rng& r, I n, I at_most) {
  std::vector<I> d;
  for (I k = 1; k <= std::min(n, at_most); ++k)
    if (n % k == 0) d.push_back(k);
  return r.pick(d);
}

// A layer with a fold of the form asked for.
Dense random_dense(Rng r, Multipliers form, I largest, int least_bits = 1) {
  Dense d;
  d.bits = static_cast<int>(r.range(least_bits, 8));
  d.weight_bits = static_cast<int>(r.range(std::max(least_bits, form == Multipliers::packed || form == Multipliers::logic ? 2 : 1), 8));
  d.is_signed = r.chance(0.5);
  d.rows = r.range(1, largest);
  d.columns = r.range(1, largest);
  if (form == Multipliers::packed) d.rows = d.rows / 2 * 2 + 2;
  d.vectors = r.range(1, 3);
  d.weights.resize(static_cast<std::size_t>(d.rows * d.columns));
  const double zeros = r.chance(0.5) ? 0 : 0.5;
  const bool extremes = r.chance(0.3);
  const I lo = -(I(1) << (d.weight_bits - 1)), hi = std::max<I>(0, -lo - 1);
  for (I& w : d.weights) w = r.chance(zeros) ? 0 : extremes ? (r.chance(0.5) ? lo : hi) : r.range(lo, hi);
  d.weights[0] = lo;  // the width is used
  d.fold = {.pe = divisor(r, d.rows, 16), .simd = divisor(r, d.columns, 16), .multipliers = form};
  if (form == Multipliers::packed) {
    while (d.fold.pe < 2) d.fold.pe = divisor(r, d.rows, 16);
    d.fold.per_dsp = static_cast<int>(r.range(2, std::min<I>(4, d.fold.pe)));
  }
  if (form == Multipliers::constant) d.fold.pe = d.rows;
  return d;
}

proof::Stimulus stimulus_of(const Dense& d, const plan::StageGraph& g, Rng r, I frames) {
  proof::Stimulus s;
  for (I f = 0; f < frames; ++f) {
    std::vector<Int128> x(static_cast<std::size_t>(d.vectors * d.columns)), y(static_cast<std::size_t>(d.vectors * d.rows));
    for (Int128& v : x) v = f == 0 ? least(d) : f == 1 ? most(d) : static_cast<Int128>(r.range(static_cast<I>(least(d)), static_cast<I>(most(d))));
    for (I v = 0; v < d.vectors; ++v)
      for (I o = 0; o < d.rows; ++o)
        for (I i = 0; i < d.columns; ++i)
          y[static_cast<std::size_t>(v * d.rows + o)] += x[static_cast<std::size_t>(v * d.columns + i)] * d.weights[static_cast<std::size_t>(i * d.rows + o)];
    const auto a = plan::to_stream(g.input, x.data()), b = plan::to_stream(g.output, y.data());
    s.in.insert(s.in.end(), a.begin(), a.end());
    s.expected.insert(s.expected.end(), b.begin(), b.end());
  }
  return s;
}

// The matrix units of a design, without what is around them.
void take_matrix_units(rtl::Design& to, const rtl::Design& d) {
  for (std::size_t k = 0; k < d.stages.size(); ++k) {
    if (d.modules[k].find("_mvau") == std::string::npos) continue;
    to.stages.push_back(d.stages[k]);
    to.modules.push_back(d.modules[k]);
    for (const rtl::File& f : d.files)
      if (f.name.starts_with(d.modules[k])) to.files.push_back(f);
  }
}

constexpr Multipliers kForms[] = {Multipliers::logic, Multipliers::packed, Multipliers::constant};

TEST(RtlEngines, EveryFormIsBitExact) {
  std::vector<rtl::Design> designs;
  std::vector<proof::Stimulus> stimuli;
  std::map<StageKind, int> kinds;
  for (std::uint64_t i = 0; i < 30; ++i) {
    const Dense d = random_dense(Rng(i, "engines"), kForms[i % 3], 12);
    const plan::StageGraph g = graph_of(d);
    designs.push_back(rtl::generate(g, {{d.fold}}, fmt::format("d{}", i), i % 2 ? plan::Family::xcup : plan::Family::ice40));
    stimuli.push_back(stimulus_of(d, g, Rng(i, "engine data"), 20));
    for (const plan::StageShape& s : designs.back().stages) ++kinds[s.kind];
  }
  EXPECT_GT(kinds[StageKind::mvau_logic], 6);  // one-bit operands take the plain form
  EXPECT_GT(kinds[StageKind::mvau_packed], 6);
  EXPECT_GT(kinds[StageKind::mvau_constant], 6);
  proof::VerifyOptions o;
  o.designs_per_model = 30;
  const auto results = proof::verify(designs, stimuli, o);
  for (std::size_t i = 0; i < results.size(); ++i) {
    EXPECT_TRUE(results[i].ok) << "seed " << i << ": " << results[i].text();
    I cycles = 0;
    for (const plan::StageShape& s : designs[i].stages) cycles = std::max(cycles, stage_def(s.kind).cycles(s));
    EXPECT_EQ(results[i].interval, static_cast<double>(cycles)) << "seed " << i;
  }
}

TEST(RtlEngines, NoToolWarns) {
  tool::WorkFolder work;
  std::vector<std::string> files;
  std::string top = "`default_nettype none\nmodule top (input wire clk, input wire rst_n, output wire [59:0] any);\n";
  std::string wires;
  for (std::uint64_t i = 0; i < 60; ++i) {
    const Dense d = random_dense(Rng(i, "engine lint"), kForms[i % 3], 9);
    const rtl::Design x = rtl::generate(graph_of(d), {{d.fold}}, fmt::format("d{}", i), i % 2 ? plan::Family::xcup : plan::Family::ice40);
    for (const rtl::File& f : x.files) work.put(f.name, f.text);
    for (const std::string& n : x.names(".v")) files.push_back(n);
    wires += fmt::format("  wire [{1}:0] m{0}; wire v{0}, l{0}, r{0};\n  d{0} u{0} (.clk(clk), .rst_n(rst_n), .s_axis_tdata({2}'d0), .s_axis_tvalid(1'b1), .s_axis_tready(r{0}), "
                         ".s_axis_tlast(1'b0), .m_axis_tdata(m{0}), .m_axis_tvalid(v{0}), .m_axis_tready(1'b1), .m_axis_tlast(l{0}));\n  assign any[{0}] = ^{{m{0}, v{0}, l{0}, r{0}}};\n",
                         i, x.out.width() - 1, x.in.width());
  }
  work.put("top.v", top + wires + "endmodule\n`default_nettype wire\n");
  files.push_back("top.v");
  const tool::LintResult lint = tool::lint_verilog(work, files, "top");
  EXPECT_TRUE(lint.clean) << fmt::format("{}", fmt::join(lint.messages, "\n"));
  const tool::CheckResult check = tool::check_verilog(work, files, "top");
  EXPECT_EQ(check.problems + check.latches, 0) << fmt::format("{}", fmt::join(check.messages, "\n"));
}

// 64 products of 8 x 8 bits a cycle on xcup, weights in block RAM, and the same with two products in a DSP.
TEST(RtlEngines, SixtyFourProductsFitTheirLuts) {
  Dense d;
  d.rows = 256;
  d.columns = 64;
  d.is_signed = true;
  Rng r(1, "64");
  for (I i = 0; i < 256 * 64; ++i) d.weights.push_back(r.range(-128, 127));
  rtl::Design all;
  all.top = "all";
  for (Multipliers form : {Multipliers::plain, Multipliers::packed}) {
    d.fold = {.pe = 8, .simd = 8, .multipliers = form};
    take_matrix_units(all, rtl::generate(graph_of(d), {{d.fold}}, std::string(to_string(form)), plan::Family::xcup));
  }
  const flow::StageSynthesis s = flow::synthesise_stages(all);
  ASSERT_EQ(s.stages.size(), 2u);
  EXPECT_EQ(s.stages[0].cells.dsp, 64);
  EXPECT_EQ(s.stages[1].cells.dsp, 32);
  for (const flow::StageCells& c : s.stages) {
    std::cout << fmt::format("{}: {} LUT, {} DSP, {} block RAMs\n", c.module, c.cells.lut, c.cells.dsp, c.cells.bram);
    EXPECT_LE(c.cells.lut, c.cells.dsp == 64 ? 1300 : 1400) << c.module;  // two in a DSP are taken apart in LUTs
    EXPECT_GT(c.cells.bram, 0) << c.module;
  }
}

// Estimates against yosys over random layers of each form: DSPs and block RAMs exactly, LUTs as plan/calibration.cc says.
TEST(RtlEngines, CostsAgainstYosys) {
  const bool full = std::getenv("TANDEM_FULL") != nullptr;
  for (tool::Fabric fabric : {tool::Fabric::xcup, tool::Fabric::ice40}) {
    const plan::Family family = plan::family_of(to_string(fabric));
    for (Multipliers form : kForms) {
      rtl::Design all;
      all.top = "all";
      for (std::uint64_t i = 0; all.stages.size() < (full ? 40u : 5u); ++i) {
        Dense d = random_dense(Rng(i, "engine cost"), form, full ? 24 : 10, 2);
        if (form != Multipliers::constant && d.fold.pe * d.fold.simd > 32) d.fold.simd = 1;
        if (form == Multipliers::packed) {
          const int most = plan::products_per_dsp(family, d.bits, d.is_signed, d.weight_bits);
          if (most < 2) continue;
          d.fold.per_dsp = std::min(d.fold.per_dsp, most);
        }
        take_matrix_units(all, rtl::generate(graph_of(d), {{d.fold}}, fmt::format("{}{}", to_string(form), i), family));
      }
      flow::StageSynthesisParams p;
      p.fabric = fabric;
      p.dsp = form == Multipliers::packed;
      const flow::StageSynthesis s = flow::synthesise_stages(all, p);
      std::vector<double> errors;
      for (std::size_t i = 0; i < s.stages.size(); ++i) {
        const plan::StageShape& shape = all.stages[i];
        const plan::Cost c = stage_def(shape.kind).cost(shape, plan::calibration(family));
        const tool::FabricCells& cells = s.stages[i].cells;
        EXPECT_EQ(static_cast<double>(cells.dsp), c.dsp) << s.stages[i].module;
        EXPECT_EQ(static_cast<double>(cells.bram), c.bram) << s.stages[i].module;
        errors.push_back(std::abs(c.lut4 - c.dsp_lut4 - static_cast<double>(cells.lut)) / std::max(static_cast<double>(cells.lut), 8.0));
      }
      std::sort(errors.begin(), errors.end());
      std::cout << fmt::format("{} {}: {} layers, LUTs: median error {:.0f} %, largest {:.0f} %\n", to_string(fabric), to_string(form), errors.size(), 100 * errors[errors.size() / 2], 100 * errors.back());
      // The few of the short form are small, where a handful of LUTs is much.
      EXPECT_LE(errors[errors.size() / 2], form != Multipliers::constant ? 0.35 : full ? 0.1 : 0.2) << to_string(fabric) << ' ' << to_string(form);
    }
  }
}

}  // namespace
}  // namespace tandem
