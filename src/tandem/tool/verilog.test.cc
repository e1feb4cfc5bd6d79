// The bridges to the Verilog tools, on a small design whose results are known.
#include <gtest/gtest.h>

#include <functional>

#include "tandem/base/file.h"
#include "tandem/tool/find.h"
#include "tandem/tool/iverilog.h"
#include "tandem/tool/nextpnr.h"
#include "tandem/tool/verilator.h"
#include "tandem/tool/yosys.h"

namespace tandem::tool {
namespace {

Error error_of(const std::function<void()>& f) {
  try {
    f();
  } catch (const Error& e) {
    return e;
  }
  return Error(Exit::done, "no error");
}

#define NEED(name) \
  if (!try_find(name)) GTEST_SKIP() << name << " is not installed"

// y = last x squared plus y; 8 bits in, 24 bits of state.
const char* kMac = R"(`default_nettype none
module mac(input wire clk, input wire rst_n, input wire [7:0] x, output reg [23:0] y);
  wire [15:0] p;
  assign p = x * x;
  always @(posedge clk) begin
    if (!rst_n) y <= 24'd0;
    else y <= y + {8'd0, p};
  end
endmodule
`default_nettype wire
)";

TEST(Yosys, CountsCellsOfADesign) {
  NEED("yosys");
  const WorkFolder w;
  w.put("mac.v", kMac);
  SynthOptions o;
  o.top = "mac";
  o.verilog = "net.v";
  const auto r = synth_ice40(w, {"mac.v"}, o);
  EXPECT_EQ(r.cells.ff, 24);
  EXPECT_GT(r.cells.lut4, 24);
  EXPECT_GT(r.cells.carry, 16);
  EXPECT_EQ(r.cells.dsp, 0);
  EXPECT_EQ(r.cells.bram, 0);
  EXPECT_TRUE(w.has(r.json));
  EXPECT_NE(w.get("net.v").find("SB_LUT4"), std::string::npos);
  o.dsp = true;
  const auto d = synth_ice40(w, {"mac.v"}, o);
  EXPECT_EQ(d.cells.dsp, 1);
  EXPECT_LT(d.cells.lut4, r.cells.lut4);
}

TEST(Yosys, MemoryBecomesBlockRam) {
  NEED("yosys");
  const WorkFolder w;
  w.put("rom.v", "module rom(input clk, input [8:0] a, output reg [7:0] q); reg [7:0] m [0:511]; initial $readmemh(\"rom.hex\", m);\n"
                 "always @(posedge clk) q <= m[a]; endmodule\n");
  std::string hex;
  for (int i = 0; i < 512; ++i) hex += fmt::format("{:02x}\n", (i * 37) & 255);
  w.put("rom.hex", hex);
  SynthOptions o;
  o.top = "rom";
  o.support = {"rom.hex"};
  EXPECT_EQ(synth_ice40(w, {"rom.v"}, o).cells.bram, 1);
}

TEST(Yosys, RefusesAndExplains) {
  NEED("yosys");
  const WorkFolder w;
  w.put("bad.v", "module bad(input a, output b); assign b = ; endmodule\n");
  SynthOptions o;
  o.top = "bad";
  Error e = error_of([&] { synth_ice40(w, {"bad.v"}, o); });
  EXPECT_EQ(e.code(), Exit::bad_input);
  EXPECT_NE(e.message().find("syntax error"), std::string::npos) << e.message();
  w.put("empty.v", "");
  EXPECT_EQ(error_of([&] { synth_ice40(w, {"empty.v"}, o); }).code(), Exit::bad_input);
  EXPECT_EQ(error_of([&] { synth_ice40(w, {"a\n!touch x\n.v"}, o); }).code(), Exit::bad_input);
  o.top = "a;exec -- touch x";
  EXPECT_EQ(error_of([&] { synth_ice40(w, {"bad.v"}, o); }).code(), Exit::bad_input);
}

TEST(Yosys, CheckFindsLatchesAndUndriven) {
  NEED("yosys");
  const WorkFolder w;
  w.put("mac.v", kMac);
  EXPECT_EQ(check_verilog(w, {"mac.v"}, "mac").problems, 0);
  EXPECT_EQ(check_verilog(w, {"mac.v"}, "mac").latches, 0);
  w.put("u.v", "module u(output c); wire [3:0] z; assign c = z[2]; endmodule\n");
  const auto r = check_verilog(w, {"u.v"}, "u");
  EXPECT_EQ(r.problems, 1);
  ASSERT_FALSE(r.messages.empty());
  EXPECT_NE(r.messages[0].find("no driver"), std::string::npos);
  w.put("l.v", "module l(input e, input d, output reg q); always @* if (e) q = d; endmodule\n");
  EXPECT_EQ(check_verilog(w, {"l.v"}, "l").latches, 1);
}

TEST(Nextpnr, PlacesMeasuresAndPacks) {
  NEED("yosys");
  NEED("nextpnr-ice40");
  NEED("icepack");
  const WorkFolder w;
  w.put("mac.v", kMac);
  SynthOptions o;
  o.top = "mac";
  const auto s = synth_ice40(w, {"mac.v"}, o);
  PlaceOptions p;
  const auto r = place_ice40(w, s.json, p);
  ASSERT_TRUE(r.fits) << r.reason;
  EXPECT_EQ(r.utilisation.at("ICESTORM_LC").available, 5280);
  EXPECT_GE(r.utilisation.at("ICESTORM_LC").used, s.cells.lut4);
  EXPECT_EQ(r.utilisation.at("ICESTORM_RAM").available, 30);
  EXPECT_EQ(r.utilisation.at("SB_IO").used, 34);
  EXPECT_GT(r.fmax, 5);
  EXPECT_LT(r.fmax, 500);
  EXPECT_EQ(pack_ice40(w, r.asc).size(), 104090u);
  // Same seed, same result.
  EXPECT_EQ(place_ice40(w, s.json, p).fmax, r.fmax);
  w.put("junk.asc", "junk");
  EXPECT_NE(error_of([&] { pack_ice40(w, "junk.asc"); }).code(), Exit::done);
  w.put("junk.json", "{ \"modules\": 3");
  EXPECT_EQ(error_of([&] { place_ice40(w, "junk.json", p); }).code(), Exit::bad_input);
}

TEST(Nextpnr, ADesignThatDoesNotFitIsAResult) {
  NEED("yosys");
  NEED("nextpnr-ice40");
  const WorkFolder w;
  w.put("wide.v", "module wide(input clk, input [60:0] a, output reg [60:0] q); always @(posedge clk) q <= a; endmodule\n");
  SynthOptions o;
  o.top = "wide";
  const auto s = synth_ice40(w, {"wide.v"}, o);
  const auto r = place_ice40(w, s.json, {});
  EXPECT_FALSE(r.fits);
  EXPECT_FALSE(r.reason.empty());
}

TEST(Verilator, LintJudges) {
  NEED("verilator");
  const WorkFolder w;
  w.put("mac.v", kMac);
  const auto good = lint_verilog(w, {"mac.v"}, "mac");
  EXPECT_TRUE(good.clean) << (good.messages.empty() ? "" : good.messages[0]);
  w.put("bad.v", "module bad(input wire [7:0] a, output wire [3:0] b); assign b = a; endmodule\n");
  const auto bad = lint_verilog(w, {"bad.v"}, "bad");
  EXPECT_FALSE(bad.clean);
  ASSERT_FALSE(bad.messages.empty());
  EXPECT_NE(bad.messages[0].find("WIDTH"), std::string::npos);
}

const char* kDriver = R"(#include "Vmac.h"
int main(int argc, char** argv) {
  VerilatedContext c;
  c.randReset(2);
  c.randSeed(argc > 1 ? std::atoi(argv[1]) : 1);
  Vmac t(&c);
  auto tick = [&] { t.clk = 0; t.eval(); t.clk = 1; t.eval(); };
  t.rst_n = 0; t.x = 0; tick();
  t.rst_n = 1;
  for (int i = 1; i <= 200; ++i) { t.x = i; tick(); }
  std::FILE* f = std::fopen("result", "w");
  std::fprintf(f, "%u", t.y);
  return std::fclose(f);
}
)";

TEST(Verilator, BuildsARunnableModelAndKeepsTheRuntime) {
  NEED("verilator");
  NEED("g++");
  const WorkFolder w;
  w.put("mac.v", kMac);
  w.put("main.cpp", kDriver);
  ModelOptions o;
  o.top = "mac";
  o.prefix = "Vmac";
  o.verilog = {"mac.v"};
  o.cpp = {"main.cpp"};
  const Model m = build_model(w, o);
  const auto r = run_model(w, m);
  EXPECT_TRUE(r.ok()) << r.summary();
  EXPECT_EQ(w.get("result"), std::to_string(200 * 201 * 401 / 6));
  // A driver that does not compile is refused with the compiler's words.
  w.put("main.cpp", "int main() { return nonsense; }\n");
  const Error e = error_of([&] { build_model(w, o); });
  EXPECT_EQ(e.code(), Exit::bad_input);
  EXPECT_NE(e.message().find("nonsense"), std::string::npos);
  o.verilog = {"none.v"};
  EXPECT_EQ(error_of([&] { build_model(w, o); }).code(), Exit::bad_input);
}

TEST(Icarus, AgreesAndStops) {
  NEED("iverilog");
  const WorkFolder w;
  w.put("mac.v", kMac);
  w.put("tb.v", R"(module tb;
  reg clk, rst_n; reg [7:0] x; wire [23:0] y; integer i, f;
  mac dut(.clk(clk), .rst_n(rst_n), .x(x), .y(y));
  initial begin
    clk = 0; rst_n = 0; x = 0;
    #1 clk = 1; #1 clk = 0;
    rst_n = 1;
    for (i = 1; i <= 200; i = i + 1) begin x = i; #1 clk = 1; #1 clk = 0; end
    f = $fopen("result", "w"); $fwrite(f, "%0d", y); $fclose(f);
    $finish;
  end
endmodule
)");
  const auto r = run_icarus(w, {"tb.v", "mac.v"}, "tb");
  EXPECT_TRUE(r.run.ok()) << r.run.summary();
  EXPECT_EQ(w.get("result"), std::to_string(200 * 201 * 401 / 6));
  EXPECT_TRUE(r.warnings.empty()) << r.warnings[0];
  w.put("loop.v", "module loop; initial forever #1; endmodule\n");
  EXPECT_TRUE(run_icarus(w, {"loop.v"}, "loop", {}, 0.5).run.timed_out);
  w.put("bad.v", "module bad; initial x = ; endmodule\n");
  EXPECT_EQ(error_of([&] { run_icarus(w, {"bad.v"}, "bad"); }).code(), Exit::bad_input);
}

// A disk that fills up: most tools end with exit code 0. The limit on file size stands for it.
TEST(Yosys, ACutNetlistIsNoSuccess) {
  NEED("yosys");
  const WorkFolder w;
  w.put("mac.v", kMac);
  SynthOptions o;
  o.top = "mac";
  o.json = "sub/net.json";  // a folder that is not there: nothing can be written
  EXPECT_NE(error_of([&] { synth_ice40(w, {"mac.v"}, o); }).code(), Exit::done);
}

}  // namespace
}  // namespace tandem::tool
