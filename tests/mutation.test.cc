#include "tests/mutation.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <optional>
#include <set>

#include "tandem/base/rng.h"
#include "tandem/exec/exec.h"
#include "tandem/ir/random_graph.h"
#include "tandem/plan/stage_graph.h"
#include "tandem/proof/alone.h"
#include "tandem/proof/extremes.h"
#include "tandem/tool/find.h"
#include "tandem/tool/iverilog.h"
#include "tandem/tool/verilator.h"
#include "tandem/tool/yosys.h"

namespace tandem::proof {
namespace {
using I = std::int64_t;
using plan::StageKind;

struct Sample {
  ir::ExactProgram program;
  plan::StageGraph graph;
  rtl::Design design;
  Stimulus stimulus;
};

// Forms of a stage that have a generator of their own.
std::set<std::string> forms(const Sample& s) {
  std::set<std::string> r;
  for (const plan::StageShape& x : s.design.stages) {
    std::string f(stage_def(x.kind).name);
    if (x.serial) f += " serial";
    if (x.bipolar) f += " bipolar";
    if (x.kind == StageKind::convert) f += x.lanes_in > x.lanes_out ? " narrower" : " wider";
    if (x.kind == StageKind::pool) f += s.graph.layers[static_cast<std::size_t>(x.layer)].pool == ir::IntPool::sum ? " sum" : " extreme";
    if (x.kind == StageKind::rescale && s.graph.layers[static_cast<std::size_t>(x.layer)].rescale->ties) f += " ties";
    r.insert(f);
  }
  return r;
}
std::size_t size_of(const rtl::Design& d) {
  std::size_t n = 0;
  for (const std::string& f : d.names(".v"))
    for (const rtl::File& x : d.files)
      if (x.name == f) n += x.text.size();
  return n;
}

// Every input lowest, every one highest, zero, in turn, and random ones.
Tensor frame(const ir::ExactProgram& p, int k, Rng& r) {
  const ir::Port& port = p.inputs[0];
  const ir::Buffer& b = p.buffers[static_cast<std::size_t>(port.buffer)];
  Tensor t(port.dtype, b.shape);
  const double lo = b.integer ? static_cast<double>(static_cast<I>(b.lo)) : -1e6, hi = b.integer ? static_cast<double>(static_cast<I>(b.hi)) : 1e6;
  const double spread = std::exp(3 * r.uniform() - 1);
  for (I i = 0; i < t.size(); ++i) {
    const double any = b.integer ? static_cast<double>(r.range(static_cast<I>(lo), static_cast<I>(hi))) : std::round(8 * spread * r.normal()) / 8;
    t.set(i, k == 0 ? lo : k == 1 ? hi : k == 2 ? std::clamp(0.0, lo, hi) : k == 3 ? (i % 2 ? lo : hi) : k < 8 ? (r.chance(0.5) ? lo : hi) : any);
  }
  return t;
}
constexpr int kFrames = 20;

Sample finish(ir::ExactProgram p, std::uint64_t seed, const std::string& prefix) {
  Sample s;
  s.program = std::move(p);
  s.graph = plan::stages_from(s.program, prefix);
  plan::Folding f = plan::smallest_folding(s.graph);
  Rng r(seed, "folding");
  for (std::size_t i = 0; i < s.graph.layers.size(); ++i) {
    const plan::Layer& l = s.graph.layers[i];
    const plan::Fold before = f.of[i];
    const auto divisor = [&](I n) {
      std::vector<I> d;
      for (I k = 1; k <= std::min<I>(n, 4); ++k)
        if (n % k == 0) d.push_back(k);
      return r.pick(d);
    };
    plan::Fold& x = f.of[i];
    if (l.kind == plan::LayerKind::dense) {
      x.pe = divisor(l.mh), x.simd = divisor(l.window ? l.window->c : l.mw);
      const double u = r.uniform();
      if (u < 0.2) x.multipliers = plan::Multipliers::logic;
      else if (u < 0.4 && l.groups == 1) x = {.pe = l.mh, .simd = x.simd, .multipliers = plan::Multipliers::constant};
      else if (u < 0.6 && !l.bipolar && l.weight_bits > 1 && x.pe > 1) x.multipliers = plan::Multipliers::packed, x.per_dsp = static_cast<int>(r.range(2, std::min<I>(4, x.pe)));
    }
    if (l.kind == plan::LayerKind::depthwise || l.kind == plan::LayerKind::pool) x.pe = divisor(l.mh);
    if (l.kind == plan::LayerKind::depthwise && r.chance(0.5)) x.multipliers = plan::Multipliers::logic;
    if (l.kind == plan::LayerKind::requant) f.of[i].requantiser = l.rescale && r.chance(0.6) ? plan::Requantiser::arithmetic : plan::Requantiser::table;
    try {
      plan::check_folding(s.graph, f);
    } catch (const Error&) {
      f.of[i] = before;
    }
  }
  s.design = rtl::generate(s.graph, f, prefix);
  exec::Executor e(s.program);
  for (int k = 0; k < kFrames; ++k) {
    e.run({frame(s.program, k, r)});
    append_frame(s.stimulus, s.graph, e, true);
  }
  return s;
}

// A branch that a factor, an offset and a clamp take, added to the other one.
ir::ExactProgram branches() {
  ir::ExactProgram p;
  const Shape s{1, 2, 3, 3};
  const auto buffer = [&](I lo, I hi) {
    ir::Buffer b;
    b.name = fmt::format("v{}", p.buffers.size());
    b.shape = s;
    b.lo = lo, b.hi = hi;
    p.buffers.push_back(b);
    return static_cast<int>(p.buffers.size()) - 1;
  };
  const auto step = [&](ir::StepParams q, std::vector<int> in, I lo, I hi) {
    const int out = buffer(lo, hi);
    p.steps.push_back({std::move(q), std::move(in), out, fmt::format("node 'n{}'", p.steps.size())});
    return out;
  };
  const auto per = [](std::vector<I> v) {
    ir::Grouped<Int128> g;
    if (v.size() > 1) g.shape = {1, static_cast<I>(v.size()), 1, 1};
    g.v.assign(v.begin(), v.end());
    return g;
  };
  const int x = buffer(-8, 7);
  p.inputs.push_back({"x", x, DType::f32, true, {}});
  ir::IntLinear a;
  a.k = {per({3, -2})};
  a.c = per({1, -5});
  a.lo = per({-20});
  a.hi = per({9, 12});
  const int y = step(a, {x}, -20, 12);
  ir::IntLinear b;
  b.k = {per({2, 1}), per({-1, 3})};
  b.c = per({4});
  b.lo = per({-30});
  const int z = step(b, {y, x}, -30, 55);
  p.outputs.push_back({"y", z, DType::f32, true, {}});
  return p;
}

// Constants between the elements of a stream.
ir::ExactProgram filled() {
  ir::ExactProgram p;
  const auto buffer = [&](I n, I lo, I hi) {
    ir::Buffer b;
    b.name = fmt::format("v{}", p.buffers.size());
    b.shape = {1, n};
    b.lo = lo, b.hi = hi;
    p.buffers.push_back(b);
    return static_cast<int>(p.buffers.size()) - 1;
  };
  const int x = buffer(4, -8, 7), y = buffer(7, -8, 7), z = buffer(7, -25, 20);
  p.inputs.push_back({"x", x, DType::f32, true, {}});
  ir::IntMove m{};
  m.kind = ir::IntMove::gather;
  m.index = {0, -1, 1, 2, -1, -1, 3};
  m.fill = 5;
  p.steps.push_back({std::move(m), {x}, y, "node 'fill'"});
  ir::IntLinear l;
  l.k = {ir::Grouped<Int128>(Int128(3))};
  l.c = ir::Grouped<Int128>(Int128(-1));
  p.steps.push_back({std::move(l), {y}, z, "node 'scale'"});
  p.outputs.push_back({"y", z, DType::f32, true, {}});
  return p;
}

// Whether a fault inside would be seen: values that differ from frame to frame, and not only two of them.
bool lively(const Sample& s) {
  const std::vector<I>& y = s.stimulus.expected;
  const std::size_t n = static_cast<std::size_t>(s.graph.output.elements);
  std::set<std::vector<I>> frames;
  for (std::size_t f = 0; f < y.size(); f += n) frames.emplace(y.begin() + static_cast<std::ptrdiff_t>(f), y.begin() + static_cast<std::ptrdiff_t>(f + n));
  const bool place = s.graph.layers.back().kind == plan::LayerKind::argmax;  // few values by nature
  return frames.size() >= (place ? 4u : 14u) && std::set<I>(y.begin(), y.end()).size() >= (place ? 3u : 8u);
}

// And frames that drive each layer to its extremes.
void reach(Sample& s) {
  exec::Executor e(s.program);
  for (const Tensor& t : extreme_frames(s.program, s.graph, 1, 2000, 24)) {
    e.run({t});
    append_frame(s.stimulus, s.graph, e, true);
  }
}

// Small designs that hold every form of every stage among them.
std::vector<Sample> covering() {
  std::vector<Sample> r;
  std::set<std::string> have;
  r.push_back(finish(branches(), 0, "d0"));
  r.push_back(finish(filled(), 0, "d1"));
  for (const Sample& s : r) have.merge(forms(s));
  const auto draw = [&](std::uint64_t seeds, bool vectors) {
    for (std::uint64_t seed = 0; seed < seeds; ++seed) {
      ir::RandomGraphOptions o;
      o.streaming = true;
      o.moves = vectors;
      o.max_layers = vectors ? 1 : 2;
      o.max_channels = 4;
      o.max_extent = 4;
      o.max_bits = 5;
      try {
        Sample s = finish(ir::lower_exact(ir::random_graph(o, seed).graph, 64), seed, fmt::format("d{}", r.size()));
        if (!lively(s)) continue;
        const std::set<std::string> f = forms(s);
        const auto fresh = std::count_if(f.begin(), f.end(), [&](const std::string& x) { return !have.contains(x); });
        // Small ones first; whatever is still missing later may be larger.
        if (fresh == 0 || size_of(s.design) > (seed < seeds / 2 ? 9000u : 25000u)) continue;
        have.insert(f.begin(), f.end());
        r.push_back(std::move(s));
      } catch (const Error& e) {
        if (e.code() != Exit::no) throw;
      }
    }
  };
  draw(1400, false);
  draw(600, true);  // and what goes through a whole vector
  for (Sample& s : r) reach(s);
  return r;
}

// Every form of every stage through the other tools.
TEST(RtlStages, IcarusYosysAndVerilatorAgree) {
  for (const Sample& s : covering()) {
    const rtl::Design& d = s.design;
    tool::WorkFolder w;
    for (const rtl::File& f : d.files) {
      EXPECT_EQ(f.text.find("lint_off"), std::string::npos) << f.name;
      w.put(f.name, f.text);
    }
    const tool::LintResult lint = tool::lint_verilog(w, d.names(".v"), d.top);
    EXPECT_TRUE(lint.clean) << fmt::format("{}", fmt::join(lint.messages, "\n"));
    if (tool::try_find("yosys")) {
      const tool::CheckResult c = tool::check_verilog(w, d.names(".v"), d.top);
      EXPECT_EQ(c.problems, 0) << fmt::format("{}", fmt::join(c.messages, "\n"));
      EXPECT_EQ(c.latches, 0);
    }
    if (!tool::try_find("iverilog")) continue;
    // Four-state values: what is unknown and matters shows as x. The monitors of the bench run too.
    w.put("top.v", bench_verilog({&d, 1}));
    std::string beats;
    const I n = elements_of(d.in), frames = static_cast<I>(s.stimulus.in.size()) / n, total = frames * d.in.beats;
    const auto bits = [](const rtl::StreamPort& p, const I* beat) {
      std::string b;
      for (I l = p.lanes; l-- > 0;)
        for (int k = p.bits; k-- > 0;) b += (beat[l] >> k) & 1 ? '1' : '0';
      return b;
    };
    for (I b = 0; b < total; ++b) beats += bits(d.in, &s.stimulus.in[static_cast<std::size_t>(b * d.in.lanes)]) + "\n";
    w.put("beats.txt", beats);
    w.put("tb.v", fmt::format(R"(module tb;
  reg clk = 0, rst_n = 0, held = 0;
  reg [{iw}:0] data [0:{last}];
  reg [31:0] rnd = 32'd12345;
  integer sent = 0, got = 0, f, idle = 0;
  wire s_ready, m_valid, m_last, fault;
  wire [{ow}:0] m_data;
  wire s_valid = ((rnd[3] | rnd[7]) | held) & (sent <= {last}) & rst_n;
  wire m_ready = rnd[5];
  top dut (.clk(clk), .rst_n(rst_n), .d0_s_tdata(data[sent > {last} ? {last} : sent]), .d0_s_tvalid(s_valid), .d0_s_tready(s_ready),
    .d0_s_tlast(((sent + 1) % {beats}) == 0), .d0_m_tdata(m_data), .d0_m_tvalid(m_valid), .d0_m_tready(m_ready), .d0_m_tlast(m_last), .d0_fault(fault));
  always #1 clk = ~clk;
  always @(posedge clk) begin
    rnd <= {{rnd[30:0], rnd[31] ^ rnd[21] ^ rnd[1] ^ rnd[0]}};
    if (rst_n) begin
      held <= s_valid & ~s_ready;
      if (s_valid & s_ready) sent <= sent + 1;
      if (m_valid & m_ready) begin $fwrite(f, "%b\n", m_data[{ob}:0]); got = got + 1; idle = 0; end
      idle = idle + 1;
      if (got == {total} || idle > 100000) begin $fwrite(f, "fault %b\n", fault); $fclose(f); $finish; end
    end
  end
  initial begin
    $readmemb("beats.txt", data);
    f = $fopen("words.txt", "w");
    repeat (4) @(posedge clk);
    #1 rst_n = 1;
  end
endmodule
)", fmt::arg("iw", d.in.width() - 1), fmt::arg("ow", d.out.width() - 1), fmt::arg("ob", d.out.lanes * d.out.bits - 1), fmt::arg("last", total - 1), fmt::arg("beats", d.in.beats), fmt::arg("total", frames * d.out.beats)));
    std::vector<std::string> files = d.names(".v");
    files.insert(files.end(), {"top.v", "tb.v"});
    tool::run_icarus(w, files, "tb");
    std::string want;
    for (I b = 0; b < frames * d.out.beats; ++b) want += bits(d.out, &s.stimulus.expected[static_cast<std::size_t>(b * d.out.lanes)]) + "\n";
    EXPECT_EQ(w.get("words.txt"), want + "fault 0\n") << d.top;
  }
}

bool full() { return std::getenv("TANDEM_FULL") != nullptr; }

// A dozen of them in every run, in small designs.
TEST(RtlMutation, AFewFaultsAreCaught) {
  std::vector<rtl::Design> designs;
  std::vector<Stimulus> stimuli;
  std::vector<plan::StageGraph> graphs;
  std::vector<ir::ExactProgram> programs;
  for (const Sample& s : covering()) {
    if (designs.size() == 4) break;
    designs.push_back(s.design);
    stimuli.push_back(s.stimulus);
    graphs.push_back(s.graph);
    programs.push_back(s.program);
  }
  MutationParams p;
  p.mutants = 12;
  p.seed = 4;
  p.prove = false;
  const MutationStats r = run_mutants(designs, graphs, programs, stimuli, p);
  EXPECT_EQ(static_cast<I>(r.mutants.size()), 12);
  EXPECT_EQ(r.caught, 12) << r.text();  // of this seed none is equivalent
}

TEST(RtlMutation, FaultsAreCaught) {
  if (!full()) GTEST_SKIP() << "200 faults in generated Verilog: with ./x test --full";
  const std::vector<Sample> samples = covering();
  std::vector<rtl::Design> designs;
  std::vector<Stimulus> stimuli;
  std::vector<plan::StageGraph> graphs;
  std::vector<ir::ExactProgram> programs;
  std::set<std::string> kinds;
  std::string have;
  for (const Sample& s : samples) {
    designs.push_back(s.design);
    stimuli.push_back(s.stimulus);
    graphs.push_back(s.graph);
    programs.push_back(s.program);
    for (const plan::StageShape& x : s.design.stages) kinds.insert(std::string(stage_def(x.kind).name));
    for (const std::string& f : forms(s)) have += f + ", ";
  }
  for (const plan::StageDef& d : plan::all_stages()) EXPECT_TRUE(kinds.contains(std::string(d.name))) << "no design of the mutation test holds the stage '" << d.name << "'; there are " << have;
  MutationParams p;
  p.mutants = 200;
  p.seed = 1;
  p.per_model = 50;
  p.proof_seconds = 20;
  p.say = [](const std::string& s) {
    std::puts(s.c_str());
    std::fflush(stdout);
  };
  const MutationStats r = run_mutants(designs, graphs, programs, stimuli, p);
  RecordProperty("caught", static_cast<int>(r.caught));
  std::puts(r.text().c_str());
  EXPECT_GE(static_cast<I>(r.mutants.size()) + r.invalid, p.mutants);
  EXPECT_EQ(r.by_class.size(), static_cast<std::size_t>(kFaultClasses));
  EXPECT_GE(r.caught_share(), 0.99) << r.text();
}

// A fault that no frame of the whole design shows: its layer alone does, over the range that it is declared for.
TEST(RtlMutation, ALayerAloneShowsWhatNoFrameReaches) {
  Sample s = finish(branches(), 0, "net");
  s.stimulus = {};
  exec::Executor e(s.program);
  Tensor t(DType::f32, {1, 2, 3, 3});
  for (I i = 0; i < t.size(); ++i) t.set(i, 1);
  e.run({t});
  append_frame(s.stimulus, s.graph, e, true);
  std::optional<Mutation> sign;  // of what is never below 0 here
  for (std::size_t i = 0; i < s.design.stages.size(); ++i)
    for (const Mutation& m : mutations_of(s.design, static_cast<int>(i)))
      if (s.design.stages[i].kind == StageKind::affine && m.kind == FaultClass::sign && m.line.find("xe0_0 = ") != std::string::npos && m.to == "1'b0") sign = m;
  ASSERT_TRUE(sign);
  const rtl::Design faulty = mutated(s.design, *sign, "gate");
  std::vector<rtl::Design> designs{s.design, faulty};
  std::vector<Stimulus> stimuli{s.stimulus, s.stimulus};
  const int layer = s.design.stages[static_cast<std::size_t>(sign->stage)].layer;
  int right = 0, wrong = 0;
  for (const auto& [d, prefix] : {std::pair<const rtl::Design*, const char*>{&s.design, "right"}, {&faulty, "wrong"}})
    for (Alone& a : alone(*d, s.graph, s.program, prefix, 1)) {
      const auto [lo, hi] = std::minmax_element(a.stimulus.in.begin(), a.stimulus.in.end());
      EXPECT_TRUE(*lo == -8 && *hi == 7) << a.layer;
      if (a.layer == layer) (d == &faulty ? wrong : right) = static_cast<int>(designs.size());
      designs.push_back(std::move(a.design));
      stimuli.push_back(std::move(a.stimulus));
    }
  ASSERT_TRUE(right && wrong);
  const std::vector<VerifyResult> r = verify(designs, stimuli);
  for (std::size_t i = 0; i < r.size(); ++i) EXPECT_EQ(r[i].ok, static_cast<int>(i) != wrong) << designs[i].top << ": " << r[i].text();
}

// What the drawing and the judging rest on.
TEST(RtlMutation, SitesAndProofs) {
  const Sample s = finish(branches(), 0, "net");
  std::set<FaultClass> classes;
  for (std::size_t i = 0; i < s.design.stages.size(); ++i)
    for (const Mutation& m : mutations_of(s.design, static_cast<int>(i))) {
      classes.insert(m.kind);
      EXPECT_NE(m.line, m.changed);
      const rtl::Design d = mutated(s.design, m, "gate");
      EXPECT_EQ(d.files.size(), s.design.files.size());
      EXPECT_EQ(d.files[0].text.find("module net "), std::string::npos);
    }
  EXPECT_EQ(classes.size(), static_cast<std::size_t>(kFaultClasses));
  if (!tool::try_find("yosys")) {
    ASSERT_EQ(std::getenv("CI"), nullptr) << "yosys is missing, and CI is set";
    GTEST_SKIP() << "yosys is not installed";
  }
  tool::WorkFolder w;
  w.put("m.v", "module m(input clk, input [2:0] x, output bad); reg [2:0] a = 0, b = 0; always @(posedge clk) begin a <= x; b <= ~(~x); end assign bad = a != b; endmodule\n");
  EXPECT_EQ(tool::prove_never(w, {"m.v"}, "m", "bad").verdict, tool::Verdict::proven);
  w.put("m.v", "module m(input clk, input [2:0] x, output bad); reg [3:0] n = 0; always @(posedge clk) if (x == 3'd5) n <= n + 1; assign bad = n == 4'd9; endmodule\n");
  const tool::NeverResult r = tool::prove_never(w, {"m.v"}, "m", "bad");
  EXPECT_EQ(r.verdict, tool::Verdict::refuted);
  EXPECT_EQ(r.steps, 10);
  w.put("m.v", "module m(input clk, input [2:0] x, output bad); reg [7:0] n = 0; always @(posedge clk) if (x == 3'd5) n <= n == 8'd100 ? 8'd0 : n + 1; assign bad = n == 8'd150; endmodule\n");
  EXPECT_EQ(tool::prove_never(w, {"m.v"}, "m", "bad").verdict, tool::Verdict::bounded);
  EXPECT_EQ(tool::prove_for_ever(w, {"m.v"}, "m", "bad").verdict, tool::Verdict::proven);
  w.put("m.v", "module m(input clk, input [2:0] x, output bad); reg [3:0] n = 0; always @(posedge clk) if (x == 3'd5) n <= n + 1; always @* assume (x != 3'd4); assign bad = n == 4'd9; endmodule\n");
  const tool::NeverResult q = tool::prove_for_ever(w, {"m.v"}, "m", "bad");
  EXPECT_EQ(q.verdict, tool::Verdict::refuted);
  EXPECT_EQ(q.steps, 10);
  w.put("m.v", "module m(input clk, input [2:0] x, output bad); reg [3:0] n = 0; always @(posedge clk) if (x == 3'd5) n <= n + 1; always @* assume (x != 3'd5); assign bad = n == 4'd9; endmodule\n");
  EXPECT_EQ(tool::prove_for_ever(w, {"m.v"}, "m", "bad").verdict, tool::Verdict::proven);
  w.put("m.v", "module m(input clk, input [2:0] x, output bad); reg [3:0] n; reg first = 1'b1; always @(posedge clk) first <= 1'b0; assign bad = first & (n == 4'd9); endmodule\n");
  EXPECT_EQ(tool::prove_for_ever(w, {"m.v"}, "m", "bad").verdict, tool::Verdict::refuted);  // without a first value: any
  // A counter that never reaches what the two differ in; then one that does.
  const auto counter = [](const std::string& name, int end, int bits) {
    return fmt::format("module {0}(input clk, input rst_n, input x, output y); reg [7:0] mem [0:15]; reg [3:0] n; reg [7:0] q; wire [{2}:0] next = n == 4'd{1} ? 4'd0 : n + 4'd1; always @(posedge clk) begin if (~rst_n) n <= 4'd0; "
                       "else if (x) n <= next; q <= mem[n]; mem[n] <= q + 8'd1; end assign y = q[0]; endmodule\n", name, end, bits - 1);
  };
  w.put("alone.v", "module alone(input clk, input x); reg [1:0] age = 2'd0; always @(posedge clk) if (age != 2'd3) age <= age + 2'd1; wire y; dut a (.clk(clk), .rst_n(age != 2'd0), .x(x), .y(y)); endmodule\n");
  for (const int end : {6, 9}) {
    w.put("gold.v", counter("gold", end, 4));
    w.put("gate.v", counter("gate", end, 3));
    EXPECT_EQ(tool::prove_same(w, "gold", "gate", "alone").verdict, end == 6 ? tool::Verdict::proven : tool::Verdict::refuted) << end;
  }
}

}  // namespace
}  // namespace tandem::proof
