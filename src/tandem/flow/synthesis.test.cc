// The board shell in simulation (bytes in, bytes out, against exec), and a small network placed on iCE40.
#include "tandem/flow/synthesis.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <optional>

#include "tandem/base/file.h"
#include "tandem/base/rng.h"
#include "tandem/exec/exec.h"
#include "tandem/ir/op.h"
#include "tandem/plan/stage_graph.h"
#include "tandem/proof/verify.h"
#include "tandem/tool/find.h"
#include "tandem/tool/iverilog.h"
#include "tandem/tool/verilator.h"

namespace tandem::flow {
namespace {

using namespace tandem::ir;

// 8 inputs of uint4 -> dense 8x5, int3 weights -> Relu -> requantiser.
Graph small(int out_bits) {
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
  if (out_bits) y = quant(g.add_node("Relu", {y}), 3, static_cast<float>(out_bits), 0);
  g.outputs = {y};
  infer_shapes(g);
  return g;
}

rtl::Design design(const Graph& g, plan::StageGraph& sg) {
  sg = plan::stages_from(lower_exact(g, 64), "net");
  return rtl::generate(sg, plan::smallest_folding(sg), "net");
}

// Bytes of the frame's beats as the shell takes them, and back.
std::vector<int> bytes_of(const rtl::StreamPort& p, const std::vector<std::int64_t>& stream) {
  std::vector<int> out;
  for (std::size_t at = 0; at < stream.size(); at += static_cast<std::size_t>(p.lanes)) {
    unsigned __int128 beat = 0;
    for (std::int64_t l = 0; l < p.lanes; ++l)
      beat |= (static_cast<unsigned __int128>(stream[at + static_cast<std::size_t>(l)]) & ((static_cast<unsigned __int128>(1) << p.bits) - 1)) << (l * p.bits);
    for (std::int64_t b = 0; b < p.width() / 8; ++b) out.push_back(static_cast<int>(beat >> (8 * b)) & 255);
  }
  return out;
}

class Serial8 : public testing::TestWithParam<int> {};
TEST_P(Serial8, BytesInBytesOut) {
  Graph g = small(GetParam());
  plan::StageGraph sg;
  rtl::Design d = design(g, sg);
  rtl::Shell s = rtl::serial8(d, "up5k", 8);
  tool::WorkFolder work;
  std::vector<std::string> files;
  for (const std::vector<rtl::File>* set : {&s.files, &d.files})
    for (const rtl::File& f : *set) {
      work.put(f.name, f.text);
      if (f.name.ends_with(".v")) files.push_back(f.name);
    }
  tool::LintResult lint = tool::lint_verilog(work, files, s.top);
  EXPECT_TRUE(lint.clean) << fmt::format("{}", fmt::join(lint.messages, "\n"));

  exec::Executor e(lower_exact(g, 64));
  std::vector<int> in, want;
  Rng r(2, "frames");
  constexpr int kFrames = 5;
  for (int f = 0; f < kFrames; ++f) {
    std::vector<float> x;
    for (int i = 0; i < 8; ++i) x.push_back(static_cast<float>(r.range(0, 15)));
    e.run({Tensor::of<float>({1, 8}, x)});
    auto stream = [&](const plan::Values& v, int buffer) {
      auto n = e.integers(buffer);
      std::vector<Int128> wide(n.begin(), n.end());
      return plan::to_stream(v, wide.data());
    };
    auto a = bytes_of(d.in, stream(sg.input, sg.input_buffer)), b = bytes_of(d.out, stream(sg.output, sg.output_buffer));
    in.insert(in.end(), a.begin(), a.end());
    want.insert(want.end(), b.begin(), b.end());
  }
  std::string hex;
  for (int b : in) hex += fmt::format("{:02x}\n", b);
  work.put("in.hex", hex);
  // Bit times of 8 clocks. A break first, in the middle of a byte: the shell must start afresh after it.
  work.put("bench.v", fmt::format(R"(`timescale 1ns/1ns
module bench;
  reg clk = 0, rx = 1;
  wire tx, led;
  {0} dut (.clk(clk), .rx(rx), .tx(tx), .led(led));
  always #1 clk = ~clk;
  reg [7:0] in [0:{1}];
  integer i, b, f, got = 0, k;
  reg [7:0] v;
  task send(input [7:0] d); begin
    rx = 0; #16; for (b = 0; b < 8; b = b + 1) begin rx = d[b]; #16; end rx = 1; #16;
  end endtask
  initial begin
    $readmemh("in.hex", in);
    #100 rx = 0; #40 rx = 1; #16 rx = 0; #8000 rx = 1; #200;
    for (i = 0; i <= {1}; i = i + 1) send(in[i]);
  end
  initial begin
    f = $fopen("out.txt", "w");
    #6000;
    while (got < {2}) begin
      @(negedge tx); #24; for (k = 0; k < 8; k = k + 1) begin v[k] = tx; #16; end
      $fdisplay(f, "%0d", v); got = got + 1;
    end
    $fdisplay(f, "led %b", led);
    $fclose(f); $finish;
  end
  initial begin #4000000 $finish; end
endmodule
)", s.top, in.size() - 1, want.size()));
  files.push_back("bench.v");
  auto run = tool::run_icarus(work, files, "bench");
  std::string text;
  for (int b : want) text += fmt::format("{}\n", b);
  EXPECT_EQ(work.get("out.txt"), text + "led 0\n") << run.run.summary();
}
// 0: the exact accumulators leave (two bytes a beat); 4: one byte.
INSTANTIATE_TEST_SUITE_P(Rtl, Serial8, testing::Values(0, 4));

TEST(RtlSynthesis, SmallNetworkIsPlacedAndPacked) {
  plan::StageGraph sg;
  rtl::Design d = design(small(4), sg);
  SynthesisParams p;
  p.seeds = 3;
  SynthesisResult r = synthesise(d, p);
  ASSERT_EQ(r.fmax.size(), 3u);
  EXPECT_LT(r.fmax[0], r.fmax[2]);  // placements differ
  EXPECT_EQ(r.place.fmax, r.fmax[1]);  // the median one is kept
  EXPECT_LE(r.fmax[0], r.fmax[1]);
  EXPECT_LE(r.fmax[1], r.fmax[2]);
  ASSERT_TRUE(r.place.fits) << r.place.reason;
  EXPECT_EQ(r.bitstream.size(), 104090u);
  EXPECT_GT(r.place.fmax, 12);
  // The slowest path from register to register, and it is as long as the clock says.
  ASSERT_FALSE(r.place.path.empty());
  double ns = 0;
  for (const tool::PathStep& step : r.place.path) ns += step.ns;
  EXPECT_NEAR(1000 / ns, r.place.fmax, 0.01 * r.place.fmax);
  // The counters of the UART were it once: yosys broke their carry chains at every bit.
  EXPECT_EQ(r.place.path.back().cell.find("x.count"), std::string::npos) << r.place.path.back().cell;
  EXPECT_GE(r.place.utilisation.at("ICESTORM_LC").used, r.cells.lut4);
  EXPECT_GE(r.cells.bram, 1);  // the byte FIFO
  for (const NamedMetric& m : r.metrics) {
    EXPECT_FALSE(m.metric.source.empty()) << m.name;
    EXPECT_NE(m.metric.fidelity, Fidelity::estimated) << m.name;
  }
}

// A placer that never ends with one seed: the others make the result, which says so; with no other seed it is an error.
TEST(RtlSynthesis, ASeedThatDoesNotEndIsLeftOut) {
  const std::filesystem::path real = tool::find("nextpnr-ice40").path;
  const tool::WorkFolder w;
  std::filesystem::create_directory(w / "bin");
  const std::filesystem::path fake = w / "bin/nextpnr-ice40";
  write_file(fake, fmt::format("#!/bin/sh\ncase \"$*\" in *'--seed 1 '*) sleep 1000;; esac\nexec {} \"$@\"\n", real.string()));
  std::filesystem::permissions(fake, std::filesystem::perms::owner_all);
  const std::string before = std::getenv("PATH");
  ::setenv("PATH", ((w / "bin").string() + ":" + before).c_str(), 1);
  plan::StageGraph sg;
  const rtl::Design d = design(small(4), sg);
  SynthesisParams p;
  p.seed = 0, p.seeds = 3;
  p.least_seconds = 0;
  std::optional<SynthesisResult> r;
  std::optional<Error> refused;
  try {
    r = synthesise(d, p);
    p.seed = 1, p.seeds = 1;
    p.seed_seconds = 1;
    synthesise(d, p);
  } catch (const Error& e) {
    refused = e;
  }
  ::setenv("PATH", before.c_str(), 1);
  ASSERT_TRUE(r) << refused->what();
  EXPECT_EQ(r->fmax.size(), 2u);
  EXPECT_EQ(r->bitstream.size(), 104090u);
  const auto clock = std::find_if(r->metrics.begin(), r->metrics.end(), [](const NamedMetric& m) { return m.name == "Fmax"; });
  ASSERT_NE(clock, r->metrics.end());
  EXPECT_NE(clock->metric.source.find("seed 1 did not end in"), std::string::npos) << clock->metric.source;
  ASSERT_TRUE(refused);
  EXPECT_EQ(refused->code(), Exit::limit);
  EXPECT_NE(std::string(refused->what()).find("seed 1 did not end in 1 s"), std::string::npos) << refused->what();
}

// What synth_ice40 leaves, with yosys' models of its cells: 100 frames, no word may differ, and no cycle.
TEST(RtlSynthesis, NetlistOfIce40SendsTheSameWords) {
  const Graph g = small(4);
  plan::StageGraph sg;
  const rtl::Design d = design(g, sg), n = ice40_netlist(d, false);
  EXPECT_NE(n.files[0].text.find("SB_LUT4"), std::string::npos);
  exec::Executor e(lower_exact(g, 64));
  proof::Stimulus s;
  Rng r(3, "frames");
  for (int f = 0; f < 100; ++f) {
    std::vector<float> x;
    for (int i = 0; i < 8; ++i) x.push_back(static_cast<float>(r.range(0, 15)));
    e.run({Tensor::of<float>({1, 8}, x)});
    for (auto [v, buffer, to] : {std::tuple{&sg.input, sg.input_buffer, &s.in}, {&sg.output, sg.output_buffer, &s.expected}}) {
      const auto words = e.integers(buffer);
      const std::vector<Int128> wide(words.begin(), words.end());
      const auto stream = plan::to_stream(*v, wide.data());
      to->insert(to->end(), stream.begin(), stream.end());
    }
  }
  proof::VerifyOptions o;
  o.stalls = {0.3};
  const proof::VerifyResult a = proof::verify({&d, 1}, {&s, 1}, o)[0], b = proof::verify({&n, 1}, {&s, 1}, o)[0];
  EXPECT_TRUE(a.ok) << a.text();
  EXPECT_TRUE(b.ok) << b.text();
  EXPECT_EQ(b.frames, 100);
  EXPECT_EQ(b.mismatches, 0);
  EXPECT_EQ(a.interval, b.interval);
  EXPECT_EQ(a.latency, b.latency);
}

}  // namespace
}  // namespace tandem::flow
