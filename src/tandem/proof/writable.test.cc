// Weights and thresholds written over AXI4-Lite: the simulated hardware then computes what the exact executor does with them.
#include <gtest/gtest.h>

#include <regex>

#include "tandem/exec/exec.h"
#include "tandem/ir/op.h"
#include "tandem/ir/random_graph.h"
#include "tandem/proof/rewritten.h"
#include "tandem/proof/verify.h"
#include "tandem/rtl/registers.h"
#include "tandem/tool/iverilog.h"
#include "tandem/tool/verilator.h"

namespace tandem {
namespace {
using I = std::int64_t;
using plan::LayerKind;

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
    if (l.kind == LayerKind::dense || l.kind == LayerKind::depthwise) f.of[i].multipliers = r.chance(0.4) ? plan::Multipliers::logic : plan::Multipliers::plain;
  }
  if (r.chance(0.3)) f.interval = 100000;  // thresholds one step a cycle
  check_folding(g, f);
  return f;
}
struct Case {
  ir::Graph model;
  plan::StageGraph graph;
  rtl::Design design;
  std::array<proof::Stimulus, 2> stimuli;  // of its own words, and of others
};
proof::Stimulus stimulus_of(const ir::Graph& model, const ir::ExactProgram& p, const plan::StageGraph& g, std::uint64_t seed) {
  proof::Stimulus s;
  exec::Executor e(p);
  auto append = [](std::vector<I>& to, const plan::Values& v, const std::vector<I>& frame) {
    const std::vector<Int128> wide(frame.begin(), frame.end());
    const std::vector<I> stream = plan::to_stream(v, wide.data());
    to.insert(to.end(), stream.begin(), stream.end());
  };
  for (std::uint64_t k = 0; k < 4; ++k) {
    e.run(ir::random_inputs(model, seed * 16 + k));
    append(s.in, g.input, e.integers(g.input_buffer));
    append(s.expected, g.output, e.integers(g.output_buffer));
  }
  return s;
}
std::optional<Case> case_of(std::uint64_t seed, const std::string& what, const std::string& prefix) {
  ir::RandomGraphOptions o;
  o.streaming = true;
  o.moves = true;
  o.max_layers = 3;
  Case c;
  c.model = ir::random_graph(o, seed).graph;
  c.model.metadata[ir::kWritable] = what;
  Rng r(seed, "writable");
  try {
    const ir::ExactProgram p = ir::lower_exact(c.model, 64), q = proof::rewritten(p, seed);
    c.graph = plan::stages_from(p);
    const plan::StageGraph other = plan::stages_from(q);
    const plan::Folding f = random_folding(c.graph, r);
    c.design = rtl::generate(c.graph, f, prefix);
    if (c.design.windows.empty() || c.design.writes.size() > 1500) return {};
    c.stimuli[0] = stimulus_of(c.model, p, c.graph, seed);
    c.stimuli[1] = stimulus_of(c.model, q, other, seed);
    c.stimuli[1].writes = rtl::generate(other, f, prefix).writes;
  } catch (const Error& e) {  // too wide for 64 bits
    if (e.code() != Exit::no) throw;
    return {};
  }
  return c;
}
std::vector<Case> drawn(std::size_t count) {
  std::vector<Case> cases;
  for (std::uint64_t seed = 0; cases.size() < count; ++seed)
    if (auto c = case_of(seed, seed % 3 == 0 ? "weights" : seed % 3 == 1 ? "thresholds" : "weights,thresholds", fmt::format("w{}", cases.size()))) cases.push_back(std::move(*c));
  return cases;
}

TEST(RtlWritable, OtherWordsAreBitExact) {
  const std::vector<Case> cases = drawn(8);
  std::vector<rtl::Design> designs;
  std::array<std::vector<proof::Stimulus>, 2> stimuli;
  std::map<std::string, int> seen;
  int differ = 0;
  for (const Case& c : cases) {
    designs.push_back(c.design);
    for (std::size_t k = 0; k < 2; ++k) stimuli[k].push_back(c.stimuli[k]);
    differ += c.stimuli[0].expected != c.stimuli[1].expected;
    for (const plan::StageShape& s : c.design.stages)
      if (s.writable) ++seen[std::string(stage_def(s.kind).name) + (s.serial ? " serial" : "")];
    for (const rtl::Window& w : c.design.windows) ++seen[w.width > 32 ? "wide" : "narrow"];
  }
  for (const char* kind : {"mvau", "mvau_logic", "threshold", "threshold serial", "wide", "narrow"}) EXPECT_GT(seen[kind], 0) << kind;
  EXPECT_GE(differ, 5);  // what was written matters
  // One model; without stalls and with; first with their own words, then with others.
  proof::Bench bench(designs, {.brief = true});
  proof::BenchParams p;
  for (const auto& s : stimuli)
    for (double stall : {0.0, 0.3}) {
      p.stall = stall;
      p.seed = ++p.nonce;
      const auto runs = bench.run(s, p);
      for (std::size_t i = 0; i < cases.size(); ++i) {
        proof::VerifyResult v;
        v.ok = true;
        v.frames = 4;
        proof::judge(designs[i], s[i], runs[i], stall == 0, p, v);
        EXPECT_TRUE(v.ok) << cases[i].model.metadata.at(ir::kWritable) << " case " << i << (&s == &stimuli[1] ? ", rewritten: " : ": ") << v.text();
        EXPECT_GT(v.words, 0);
      }
    }
}

TEST(RtlWritable, LintIsClean) {
  for (const Case& c : drawn(8)) {
    tool::WorkFolder work;
    for (const rtl::File& f : c.design.files) work.put(f.name, f.text);
    const tool::LintResult r = tool::lint_verilog(work, c.design.names(".v"), c.design.top);
    EXPECT_TRUE(r.clean) << fmt::format("{}", fmt::join(r.messages, "\n"));
  }
}

// The registers, by a master of a few lines: hash, frames let in one by one, done and irq, refusals, the counter.
TEST(RtlWritable, RegistersAreWhatTheMapSays) {
  const Case c = *case_of(2, "weights,thresholds", "net");
  const rtl::Design& d = c.design;
  tool::WorkFolder work;
  for (const rtl::File& f : d.files) work.put(f.name, f.text);
  work.put("tb.v", fmt::format(R"(module tb;
  reg clk = 0, rst_n = 0;
  reg [{a}:0] awaddr = 0, araddr = 0;
  reg awvalid = 0, wvalid = 0, bready = 1, arvalid = 0, rready = 1, offer = 0;
  reg [31:0] wdata = 0;
  reg [3:0] wstrb = 15;
  wire awready, wready, bvalid, arready, rvalid, s_ready, m_valid, m_last, irq;
  wire [1:0] bresp, rresp;
  wire [31:0] rdata;
  wire [{ow}:0] m_data;
  integer f, frames_in = 0, frames_out = 0, beat = 0;
  net dut (.clk(clk), .rst_n(rst_n), .s_axis_tdata({iw}'d0), .s_axis_tvalid(offer), .s_axis_tready(s_ready), .s_axis_tlast(beat == {last}), .m_axis_tdata(m_data), .m_axis_tvalid(m_valid),
    .m_axis_tready(1'b1), .m_axis_tlast(m_last), .s_axil_awaddr(awaddr), .s_axil_awvalid(awvalid), .s_axil_awready(awready), .s_axil_wdata(wdata), .s_axil_wstrb(wstrb), .s_axil_wvalid(wvalid),
    .s_axil_wready(wready), .s_axil_bresp(bresp), .s_axil_bvalid(bvalid), .s_axil_bready(bready), .s_axil_araddr(araddr), .s_axil_arvalid(arvalid), .s_axil_arready(arready), .s_axil_rdata(rdata),
    .s_axil_rresp(rresp), .s_axil_rvalid(rvalid), .s_axil_rready(rready), .irq(irq));
  always #1 clk = ~clk;
  always @(posedge clk) begin
    if (offer & s_ready) begin
      beat <= beat == {last} ? 0 : beat + 1;
      if (beat == {last}) frames_in = frames_in + 1;
    end
    if (m_valid & m_last) frames_out = frames_out + 1;
  end
  task write(input [{a}:0] at, input [31:0] v, input [3:0] s);
    begin
      @(negedge clk) awaddr = at; wdata = v; wstrb = s; awvalid = 1; wvalid = 1;
      @(negedge clk) awvalid = 0; wvalid = 0;
      while (!bvalid) @(negedge clk);
      $fwrite(f, "write %h: %0d\n", at, bresp);
      @(negedge clk);
    end
  endtask
  task read(input [{a}:0] at);
    begin
      @(negedge clk) araddr = at; arvalid = 1;
      @(negedge clk) arvalid = 0;
      while (!rvalid) @(negedge clk);
      $fwrite(f, "read %h: %h %0d\n", at, rdata, rresp);
      @(negedge clk);
    end
  endtask
  initial begin
    f = $fopen("words.txt", "w");
    repeat (4) @(negedge clk);
    rst_n = 1;
    read('h14); read(0); read(8); read('hc);
    write(0, 0, 15);                       // frames no longer enter as they come
    offer = 1;
    repeat ({many}) @(negedge clk);
    $fwrite(f, "in %0d out %0d irq %b\n", frames_in, frames_out, irq);
    read(0); read(8);
    write(4, 1, 15);
    $fwrite(f, "irq %b\n", irq);
    write(0, 3, 15);                       // one more; done is cleared
    $fwrite(f, "irq %b\n", irq);
    repeat ({many}) @(negedge clk);
    $fwrite(f, "in %0d out %0d irq %b\n", frames_in, frames_out, irq);
    write(0, 'h82, 15);
    repeat ({many}) @(negedge clk);
    $fwrite(f, "more %b\n", frames_in > 4);
    offer = 0;
    repeat ({many}) @(negedge clk);
    write(0, 0, 7); write(2, 0, 15); write('h18, 0, 15); write('h{beyond:x}, 0, 15); write('h1000, 0, 15);
    read('h18); read('h1000);
    $fclose(f);
    $finish;
  end
endmodule
)", fmt::arg("a", d.address_bits - 1), fmt::arg("iw", d.in.width()), fmt::arg("ow", d.out.width() - 1), fmt::arg("last", d.in.beats - 1),
                               fmt::arg("many", 20000), fmt::arg("beyond", (I(1) << d.address_bits) - 4)));
  std::vector<std::string> files = d.names(".v");
  files.push_back("tb.v");
  const tool::IcarusResult r = tool::run_icarus(work, files, "tb");
  EXPECT_TRUE(r.warnings.empty()) << fmt::format("{}", fmt::join(r.warnings, "\n"));
  std::string got = work.get("words.txt");
  const std::string zeros(static_cast<std::size_t>((d.address_bits + 3) / 4), '0');
  const auto at = [&](I v) { return fmt::format("{:0{}x}", v, zeros.size()); };
  std::smatch hash;
  ASSERT_TRUE(std::regex_search(got, hash, std::regex("^read 0*14: ([0-9a-f]{8}) 0\n")));
  EXPECT_NE(hash[1].str(), "00000000");
  got = hash.suffix();
  const bool hit = d.windows.back().address + d.windows.back().bytes > (I(1) << d.address_bits) - 4;
  // A frame in progress when auto falls, or the one that is offered first, still enters.
  EXPECT_EQ(got, fmt::format("read {0}: 00000084 0\nread {1}: 00000000 0\nread {2}: 00000000 0\nwrite {0}: 0\nin 1 out 1 irq 0\nread {0}: 00000006 0\nread {1}: 00000000 0\nwrite {3}: 0\nirq 1\nwrite {0}: 0\nirq 0\n"
                             "in 2 out 2 irq 1\nwrite {0}: 0\nmore 1\nwrite {0}: 2\nwrite {4}: 2\nwrite {5}: 2\nwrite {6}: {8}\nwrite {7}: 0\nread {5}: 00000000 2\nread {7}: 00000000 2\n",
                             at(0), at(8), at(0xc), at(4), at(2), at(0x18), at((I(1) << d.address_bits) - 4), at(0x1000), hit ? 0 : 2));
}

// The map in words and the header name every window; the words of a design fill them.
TEST(RtlRegisters, MapAndHeaderNameEveryWindow) {
  for (const Case& c : drawn(6)) {
    const std::string map = rtl::registers_markdown(c.design), header = rtl::registers_header(c.design);
    I end = rtl::kWindows;
    for (const rtl::Window& w : c.design.windows) {
      EXPECT_GE(w.address, end);
      end = w.address + w.bytes;
      EXPECT_NE(map.find(fmt::format("| 0x{:04X} | {} |", w.address, w.entries)), std::string::npos);
      EXPECT_NE(header.find(fmt::format(" 0x{:X}u\n", w.address)), std::string::npos);
    }
    EXPECT_LE(end, I(1) << c.design.address_bits);
    I place = -4;
    for (const auto& [address, word] : c.design.writes) {
      EXPECT_GT(static_cast<I>(address), place);
      place = address;
    }
    EXPECT_LT(place, end);
  }
}

TEST(IrWritable, IsSpelt) {
  const ir::Writable w = ir::writable_of("weights:conv1 fc");
  EXPECT_TRUE(w.weights && !w.thresholds && w.has("fc") && !w.has("conv2"));
  EXPECT_TRUE(ir::writable_of("thresholds,weights").has("anything"));
  EXPECT_THROW(ir::writable_of("bias"), Error);
}

}  // namespace
}  // namespace tandem
