#include "tandem/tool/liberty.h"

#include <gtest/gtest.h>

#include "tandem/base/file.h"
#include "tandem/base/rng.h"
#include "tandem/tool/find.h"
#include "tandem/tool/iverilog.h"
#include "tandem/tool/opensta.h"

namespace tandem::tool {
namespace {

const std::filesystem::path kOurs = std::filesystem::path(TANDEM_SOURCE_DIR) / "targets" / "tandem45.lib";

constexpr std::string_view kSmall = R"(/* a comment
over lines */
library (small) {
  capacitive_load_unit (1,pf);
  nom_voltage : 1.0;
  cell (N2) { area : 2.5; pin(A) { direction : input; capacitance : 0.01; } pin(B) { direction : input; }
    pin(Y) { direction : output; function : "(A B)'"; internal_power() { rise_power(t) { values ("1, 2, 3"); } fall_power(t) { values("4, 6, 8"); } } } }
  cell (BF) { area : 3; pin(A) { direction : input; } pin(Y) { direction : output; function : "A"; } }
  cell (FF) { area : 9; ff(IQ, IQN) { clocked_on : "!CK"; next_state : "D"; } pin(D) { direction : input; } pin(CK) { direction : input; clock : true; } pin(Q) { direction : output; function : "IQN"; } }
  cell (MIX) { area : 4; pin(A) { direction : input; } pin(B) { direction : input; } pin(C) { direction : input; } pin(Y) { direction : output; function : "A ^ B & !C + A*C | 1 B C"; } }
}
)";

TEST(Liberty, CellsAndTheirModels) {
  const Liberty l = read_liberty(kSmall, "small.lib");
  EXPECT_EQ(l.name, "small");
  EXPECT_EQ(l.gate_area, 2.5);
  EXPECT_EQ(l.buffer, "BF");
  EXPECT_EQ(l.cells.at("N2").pin("Y")->energy, 4);  // the mean of the middles 2 and 6
  EXPECT_EQ(l.cells.at("N2").pin("A")->capacitance, 0.01);
  // Strength: not, xor, and, or.
  EXPECT_EQ(l.cells.at("MIX").pin("Y")->function, "((((A ^ B) & ~C) | (A & C)) | ((1'b1 & B) & C))");
  const std::string t = cell_models(l, {"FF", "N2"});
  EXPECT_NE(t.find("always @(negedge CK) state <= D;"), std::string::npos) << t;
  EXPECT_NE(t.find("assign Q = ~state;"), std::string::npos) << t;
  EXPECT_NE(t.find("assign Y = (~((A & B)));"), std::string::npos) << t;
  EXPECT_THROW(cell_models(l, {"NAND9"}), Error);
}

TEST(Liberty, WhatIsNoLibraryIsRefused) {
  const std::string good(kSmall);
  EXPECT_THROW(read_liberty("module x; endmodule", "x.lib"), Error);
  EXPECT_THROW(read_liberty(good.substr(0, good.size() / 2), "x.lib"), Error);
  std::string none = good;
  none.replace(none.find("(A B)'"), 6, "(A B) ");
  EXPECT_THROW(read_liberty(none, "x.lib"), Error);  // no NAND
  Rng r(3, "liberty");
  for (int i = 0; i < 300; ++i) {  // anything is an answer or an Error
    std::string s = good;
    for (int k = 0; k < 3; ++k) s[static_cast<std::size_t>(r.range(0, static_cast<std::int64_t>(s.size()) - 1))] = "{}();:\"A/* \\"[r.range(0, 10)];
    try {
      read_liberty(s, "x.lib");
    } catch (const Error& e) {
      EXPECT_EQ(e.code(), Exit::bad_input) << e.full();
    }
  }
}

// Our library: its published areas, and each model against the name of the cell, in Icarus.
TEST(Liberty, OurCellsAreWhatTheirNamesSay) {
  const Liberty l = read_liberty(read_file(kOurs), "tandem45.lib");
  EXPECT_DOUBLE_EQ(l.gate_area, 0.798);
  for (const auto& [cell, area] : {std::pair{"INV_X1", 0.532}, {"AND2_X1", 1.064}, {"XOR2_X1", 1.596}, {"MUX2_X1", 1.862}, {"DFF_X1", 4.522}}) EXPECT_DOUBLE_EQ(l.cells.at(cell).area, area) << cell;
  const std::pair<const char*, const char*> means[] = {{"INV_X1", "~a"}, {"BUF_X2", "a"}, {"NAND2_X1", "~(a & b)"}, {"NAND3_X1", "~(a & b & c)"}, {"NAND4_X1", "~(a & b & c & d)"}, {"NOR2_X1", "~(a | b)"},
      {"NOR3_X1", "~(a | b | c)"}, {"NOR4_X1", "~(a | b | c | d)"}, {"AND2_X1", "a & b"}, {"AND3_X1", "a & b & c"}, {"OR2_X1", "a | b"}, {"OR3_X1", "a | b | c"}, {"XOR2_X1", "a ^ b"}, {"XNOR2_X1", "~(a ^ b)"},
      {"AOI21_X1", "~((a & b) | c)"}, {"OAI21_X1", "~((a | b) & c)"}, {"AOI22_X1", "~((a & b) | (c & d))"}, {"OAI22_X1", "~((a | b) & (c | d))"}, {"AOI211_X1", "~((a & b) | c | d)"},
      {"OAI211_X1", "~((a | b) & c & d)"}, {"MUX2_X1", "s ? b : a"}};
  std::set<std::string> used;
  std::string cells, checks;
  for (const auto& [name, expression] : means) {
    used.insert(name);
    std::string pins;
    for (const LibertyPin& p : l.cells.at(name).pins) pins += fmt::format("{}.{}({})", pins.empty() ? "" : ", ", p.name, p.output ? fmt::format("y_{}", name) : p.name == "A" ? "a" : p.name == "B" ? "b" : p.name == "C" ? "c" : p.name == "D" ? "d" : "s");
    cells += fmt::format("  wire y_{0}; {0} u_{0} ({1});\n", name, pins);
    checks += fmt::format("      if (y_{0} !== ({1})) begin wrong = wrong + 1; $display(\"{0} %b\", {{a, b, c, d, s}}); end else right = right + 1;\n", name, expression);
  }
  const WorkFolder work;
  work.put("cells.v", cell_models(l, used));
  work.put("bench.v", fmt::format("module bench;\n  reg a, b, c, d, s;\n  integer i, wrong = 0, right = 0, f;\n{}  initial begin\n    for (i = 0; i < 32; i = i + 1) begin\n      {{a, b, c, d, s}} = i; #1;\n{}    end\n"
                                  "    f = $fopen(\"out.txt\", \"w\"); $fdisplay(f, \"%0d %0d\", right, wrong); $fclose(f);\n  end\nendmodule\n", cells, checks));
  const auto run = run_icarus(work, {"cells.v", "bench.v"}, "bench");
  EXPECT_EQ(work.get("out.txt"), fmt::format("{} 0\n", 32 * std::size(means))) << run.run.out;
}

// The slack of a path that a pencil adds up; and what OpenSTA would pass over in silence is an error.
TEST(OpenSta, SlackOfAKnownPath) {
  if (!try_find("sta")) GTEST_SKIP() << "no OpenSTA";
  const WorkFolder work;
  work.put("cells.lib", read_file(kOurs));
  const std::string net = "module top (clk, a, y);\n input clk; input a; output y;\n wire n1; wire n2;\n DFF_X1 g0 (.CK(clk), .D(n1), .Q(n2));\n NAND2_X1 g1 (.A(a), .B(n2), .Y(n1));\n assign y = n2;\nendmodule\n";
  work.put("net.v", net);
  StaOptions o;
  o.period_ns = 2;
  const StaResult r = time_cells(work, {"cells.lib"}, "net.v", o);
  // Clock to output 2 FO4 unloaded, the NAND about 12 ps, setup 1.5 FO4; some ps for the loads.
  EXPECT_NEAR(r.slack_ns, 2 - 0.032 - 0.012 - 0.024, 0.02);
  EXPECT_NEAR(r.fmax_mhz, 1e3 / (2 - r.slack_ns), 1e-6);
  EXPECT_EQ(r.from, "g0");
  o.period_ns = 4;
  EXPECT_NEAR(time_cells(work, {"cells.lib"}, "net.v", o).fmax_mhz, r.fmax_mhz, 0.01 * r.fmax_mhz);
  std::string wrong = net;
  wrong.replace(wrong.find("NAND2_X1"), 8, "NAND2_X9");
  work.put("net.v", wrong);
  EXPECT_THROW(time_cells(work, {"cells.lib"}, "net.v", o), Error);
  work.put("net.v", "module top (clk, a, y);\n input clk; input a; output y;\n assign {y} = {a} & {a};\nendmodule\n");
  EXPECT_THROW(time_cells(work, {"cells.lib"}, "net.v", o), Error);
}

}  // namespace
}  // namespace tandem::tool
