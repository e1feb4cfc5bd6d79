// Generated stages against behavioural models, by SAT: every sequence of inputs and of TREADY for some cycles after reset; and, where an
// invariant ties a stage's registers to the model's, for ever.
#include <gtest/gtest.h>

#include <charconv>
#include <cstdlib>
#include <set>

#include "tandem/plan/stage_graph.h"
#include "tandem/rtl/generate.h"
#include "tandem/tool/find.h"
#include "tandem/tool/yosys.h"

namespace tandem {
namespace {
using I = std::int64_t;
using plan::LayerKind;
using plan::StageKind;

struct Made {
  ir::ExactProgram p;
  int buffer(Shape s, I lo, I hi) {
    ir::Buffer b;
    b.name = fmt::format("v{}", p.buffers.size());
    b.shape = std::move(s);
    b.lo = lo, b.hi = hi;
    p.buffers.push_back(b);
    return static_cast<int>(p.buffers.size()) - 1;
  }
  int input(Shape s, I lo, I hi) {
    const int b = buffer(std::move(s), lo, hi);
    p.inputs.push_back({"x", b, DType::f32, true, {}});
    return b;
  }
  int step(ir::StepParams q, std::vector<int> in, Shape s, I lo, I hi) {
    const int out = buffer(std::move(s), lo, hi);
    p.steps.push_back({std::move(q), std::move(in), out, fmt::format("node 'n{}'", p.steps.size())});
    return out;
  }
  int dense(int x, I k, I m, I lo, I hi) {
    ir::IntMatMul w{{}, k, m};
    for (I i = 0; i < k * m; ++i) w.weights.push_back(i * 7 % 5 - 2);
    return step(w, {x}, {1, m}, lo, hi);
  }
  int requant(int x, std::vector<ir::Thresholds> tables, std::vector<I> levels, I channels) {
    ir::IntRequant q{};
    q.levels = std::move(levels);
    q.tables = std::move(tables);
    q.group = {1, q.tables.size() > 1 ? channels : 1};
    const I lo = *std::min_element(q.levels.begin(), q.levels.end()), hi = *std::max_element(q.levels.begin(), q.levels.end());
    return step(q, {x}, {1, channels}, lo, hi);
  }
  rtl::Design build(plan::Folding (*fold)(const plan::StageGraph&), plan::StageGraph& g, int out) {
    p.outputs.push_back({"y", out, DType::f32, true, {}});
    g = plan::stages_from(p, "net");
    return rtl::generate(g, fold(g), "net");
  }
};

ir::Thresholds steps(std::vector<I> t, bool flip = false) {
  ir::Thresholds r;
  r.t.assign(t.begin(), t.end());
  r.flip = flip;
  return r;
}
// Steps of a factor and an offset with ties to the even code.
ir::Thresholds arithmetic(I factor, I offset, int shift, I levels) {
  ir::Thresholds r;
  for (I k = 1; k < levels; ++k) {
    const I need = (k << shift) + (k & 1) - offset;
    r.t.push_back(need >= 0 ? (need + factor - 1) / factor : -(-need / factor));
  }
  return r;
}

// What must come out of a beat that goes in, one line of Verilog per lane; and how many beats make one that comes out.
struct Model {
  std::string expected;          // assigns exp_<lane>
  I beats_per = 1;               // beats in for one beat out
};

std::string literal(I v) { return v < 0 ? fmt::format("-32'sd{}", -v) : fmt::format("32'sd{}", v); }

Model model_of(const plan::StageGraph& g, const plan::StageShape& s) {
  Model m;
  if (s.kind == StageKind::threshold || s.kind == StageKind::rescale) {
    const plan::Layer& l = g.layers[static_cast<std::size_t>(s.layer)];
    const I period = std::max<I>(1, static_cast<I>(l.tables.size()) / s.lanes_in);
    m.expected = fmt::format("  integer part = 0;\n  always @(posedge clk) if (rst_n & s_tvalid & s_tready) part <= part == {} ? 0 : part + 1;\n", period - 1);
    for (I i = 0; i < s.lanes_in; ++i) {
      m.expected += fmt::format("  wire signed [31:0] x_{0} = {1}s_tdata[{2}:{3}]{4};\n  reg [31:0] n_{0};\n  reg [{5}:0] exp_{0};\n  always @* begin\n    n_{0} = 32'd0;\n", i, s.signed_in ? "$signed(" : "{1'b0, ",
                                i * s.bits_in + s.bits_in - 1, i * s.bits_in, s.signed_in ? ")" : "}", s.bits_out - 1);
      for (I p = 0; p < period; ++p) {
        const ir::Thresholds& t = l.tables[l.tables.size() == 1 ? 0 : static_cast<std::size_t>(p * s.lanes_in + i)];
        for (Int128 y : t.t) m.expected += fmt::format("    if (part == {} && {}x_{} >= {}) n_{} = n_{} + 32'd1;\n", p, t.flip ? "-" : "", i, literal(static_cast<I>(y)), i, i);
      }
      m.expected += fmt::format("    exp_{} = 0;\n", i);
      for (std::size_t k = 0; k < l.levels.size(); ++k) m.expected += fmt::format("    if (n_{} == 32'd{}) exp_{} = {};\n", i, k, i, literal(l.levels[k]));
      m.expected += "  end\n";
      // What arrives lies in its proven range: sums are as wide as that needs.
      const plan::Values& v = g.values_of(l.in[0]);
      m.expected += fmt::format("  always @* if (s_tvalid) assume ((x_{} >= {}) & (x_{} <= {}));\n", i, literal(v.lo), i, literal(v.hi));
    }
  } else if (s.kind == StageKind::argmax) {
    m.beats_per = s.mh;
    m.expected = fmt::format(
        "  integer place = 0;\n  reg signed [31:0] best = 0;\n  integer at = 0;\n  wire signed [31:0] x = {}s_tdata{};\n"
        "  wire wins = place == 0 || x > best;\n  wire [{}:0] exp_0 = wins ? place : at;\n"
        "  always @(posedge clk) if (rst_n & s_tvalid & s_tready) begin\n    place <= place == {} ? 0 : place + 1;\n    if (wins) begin best <= x; at <= place; end\n  end\n",
        s.signed_in ? "$signed(" : "{1'b0, ", s.signed_in ? ")" : "}", s.bits_out - 1, s.mh - 1);
  } else {
    for (I i = 0; i < s.lanes_in; ++i) m.expected += fmt::format("  wire [{}:0] exp_{} = s_tdata[{}:{}];\n", s.bits_in - 1, i, i * s.bits_in + s.bits_in - 1, i * s.bits_in);
  }
  return m;
}

// What a module is told to show of its registers, and what these have to do with the model's: then one step follows from the one before.
struct Inside {
  std::string probe;             // a concatenation of registers; empty: nothing
  I width = 0;
  std::string wires, invariant;  // of the checker
};
struct Claim {
  Inside inside;
  bool always_ready = false;     // TREADY is never low
};

// Registers of a module with their widths, memories apart.
std::vector<std::pair<std::string, I>> registers_of(const std::string& text) {
  std::vector<std::pair<std::string, I>> r;
  for (std::size_t p = 0, e; (e = text.find('\n', p)) != std::string::npos; p = e + 1) {
    std::string l = text.substr(p, e - p);
    if (!l.starts_with("  reg ") || l.find(" [0:") != std::string::npos) continue;
    l = l.substr(6, l.find(';') - 6);
    if (l.starts_with("signed ")) l = l.substr(7);
    I width = 1;
    if (l.starts_with("[")) {
      std::from_chars(l.data() + 1, l.data() + l.size(), width);
      ++width;
      l = l.substr(l.find("] ") + 2);
    }
    for (std::size_t a = 0; a <= l.size();) {
      const std::size_t comma = std::min(l.find(", ", a), l.size());
      r.emplace_back(l.substr(a, comma - a), width);
      a = comma + 2;
    }
  }
  return r;
}
// The module with one more port, `inside`.
std::string showing(std::string text, const Inside& x) {
  if (x.probe.empty()) return text;
  text.insert(text.find("\n);\n"), fmt::format(",\n  output wire [{}:0] inside", x.width - 1));
  text.insert(text.rfind("endmodule"), fmt::format("  assign inside = {{{}}};\n", x.probe));
  return text;
}
// Elements of the model's queue from `at` on are the lanes of a word, as far as `many` (an expression) tells; TLAST is its top bit.
std::string holds(const plan::StageShape& s, const std::string& word, I lanes, const std::string& at, I most, bool last) {
  std::string r = "1'b1";
  for (I start = 0; start + lanes <= most; start += lanes) {
    std::string same = "1'b1";
    for (I i = 0; i < lanes; ++i) same += fmt::format(" & ({}[{}:{}] == q[{}])", word, i * s.bits_out + s.bits_out - 1, i * s.bits_out, start + i);
    if (last) same += fmt::format(" & ({}[{}] == l[{}])", word, lanes * s.bits_out, start / lanes);
    r += fmt::format(" & (({} != {}) | ({}))", at, start, same);
  }
  return r;
}
Inside inside_of(const plan::StageShape& s, const std::string& text, I period) {
  Inside x;
  const auto field = [&](const std::string& reg, I width, const std::string& as) {
    x.wires += fmt::format("  wire [{}:0] {} = inside[{}:{}];\n", width - 1, as, x.width + width - 1, x.width);
    x.probe = reg + (x.probe.empty() ? "" : ", ") + x.probe;
    x.width += width;
  };
  const I lanes = s.lanes_out;
  const bool last = s.last_in && s.last_out;
  const I word = lanes * s.bits_out + (last ? 1 : 0);
  if (s.kind == StageKind::skid) {
    field("out_v", 1, "ov"), field("held_v", 1, "hv"), field("out_q", word, "oq"), field("held_q", word, "hq");
    x.invariant = fmt::format("(beat == 0) & (~hv | ov) & (held == (ov ? (hv ? 8'd{} : 8'd{}) : 8'd0)) & (~ov | ({})) & (~hv | ({}))", 2 * lanes, lanes, holds(s, "oq", lanes, "0", lanes, last),
                              holds(s, "hq", lanes, std::to_string(lanes), 2 * lanes, last));
  } else if (s.kind == StageKind::fifo) {
    const int a = plan::bits_for(s.depth), c = plan::bits_for(s.depth + 1);
    field("out_v", 1, "ov"), field("held", c, "count"), field("out_q", word, "oq");
    if (s.depth > 1) field("wr", a, "wr"), field("rd", a, "rd");
    for (I i = 0; i < s.depth; ++i) field(fmt::format("mem[{}]", i), word, fmt::format("m{}", i));
    x.invariant = fmt::format("(beat == 0) & (count <= {}) & (held == (ov + count) * 8'd{}) & (~ov | ({}))", s.depth, lanes, holds(s, "oq", lanes, "0", lanes, last));
    if (s.depth > 1) x.invariant += fmt::format(" & (rd < {0}) & (wr == (rd + count >= {0} ? rd + count - {0} : rd + count))", s.depth);
    for (I i = 0; i < s.depth; ++i)  // the word at address i is the n-th that is held
      x.wires += fmt::format("  wire [7:0] n{0} = {1};\n", i, s.depth > 1 ? fmt::format("{0} >= rd ? 8'd{0} - rd : 8'd{1} - rd", i, i + s.depth) : "8'd0"),
          x.invariant += fmt::format(" & (n{0} >= count | ({1}))", i, holds(s, fmt::format("m{}", i), lanes, fmt::format("((n{} + ov) * 8'd{})", i, lanes), (s.depth + 1) * lanes, last));
  } else if (s.kind == StageKind::convert) {
    const bool narrower = s.lanes_in > s.lanes_out;
    const I wide = std::max(s.lanes_in, s.lanes_out), n = wide / std::min(s.lanes_in, s.lanes_out), few = wide / n;
    field("valid", 1, "valid"), field("count", plan::bits_for(n), "count"), field("held", wide * s.bits_out, "data");
    x.invariant = fmt::format("(beat == 0) & (count < {})", n);
    x.invariant += narrower ? fmt::format(" & (held == (valid ? 8'd{} - count * 8'd{} : 8'd0))", wide, few) : fmt::format(" & (~valid | (count == 0)) & (held == (valid ? 8'd{} : count * 8'd{}))", wide, few);
    // Narrower: what is left lies lowest. Wider: what has come lies highest.
    for (I k = 0; k < n; ++k) {
      const I many = narrower ? wide - k * few : k ? k * few : wide, from = narrower || !k ? 0 : wide - many;
      std::string same = "1'b1";
      for (I j = 0; j < many; ++j) same += fmt::format(" & (data[{}:{}] == q[{}])", (from + j + 1) * s.bits_out - 1, (from + j) * s.bits_out, j);
      x.invariant += fmt::format(" & ((held == 8'd0) | (count != {}) | ({}))", k, same);
    }
  } else if (s.kind == StageKind::argmax) {
    const int b = plan::bits_for(s.mh);
    field("out_v", 1, "ov"), field("place", b, "pl"), field("best", s.bits_in, "be"), field("best_at", b, "ba");
    x.invariant = fmt::format("(place < {0}) & (place == pl) & (beat == place) & (held == ov) & (~ov | (q[0] == ba)) & ((place == 0) | ((best == {1}) & (at == ba)))", s.mh, s.signed_in ? "$signed(be)" : "{1'b0, be}");
  } else {  // how many are under way, and whose turn it is
    std::string many = "1'b0";
    if (s.serial) {
      field(s.kind == StageKind::rescale ? "(|mark)" : "busy", 1, "busy"), field("out_v", 1, "ov");
      many = "busy + ov";
    } else {
      const I n = s.kind == StageKind::rescale ? 4 : s.level_bits + 1;
      field("v", n, "under_way");
      for (I k = 0; k < n; ++k) many += fmt::format(" + under_way[{}]", k);
    }
    x.wires += fmt::format("  wire [7:0] many = {};\n", many);
    x.invariant = fmt::format("(beat == 0) & (held == many * 8'd{})", lanes);
    if (text.find(" part;\n") != std::string::npos) {
      field("part", plan::bits_for(period), "pa");
      x.invariant += fmt::format(" & (part < {}) & (part == pa)", period);
    }
  }
  return x;
}

// While its output is stalled a stage of one clock enable stands still: then nothing depends on stalls.
std::string freeze_checker(const plan::StageShape& s, const std::string& module, const Inside& x) {
  return fmt::format("module check (input wire clk, input wire [{}:0] s_tdata, input wire s_tvalid, input wire s_tlast, input wire m_tready, output wire bad);\n"
                     "  reg [1:0] age = 2'd0;\n  always @(posedge clk) if (age != 2'd3) age <= age + 2'd1;\n  wire rst_n = age != 2'd0;\n  wire s_tready, m_tvalid;\n  wire [{}:0] inside;\n"
                     "  {} dut (.clk(clk), .rst_n(rst_n), .s_tdata(s_tdata), .s_tvalid(s_tvalid), .s_tready(s_tready), {}.m_tvalid(m_tvalid), .m_tready(m_tready), .inside(inside));\n"
                     "  reg [{}:0] before;\n  reg stalled = 1'b0;\n  always @(posedge clk) begin before <= inside; stalled <= rst_n & m_tvalid & ~m_tready; end\n"
                     "  assign bad = rst_n & age[1] & ((stalled & (before != inside)) | (m_tvalid & ~m_tready & s_tready));\nendmodule\n",
                     s.lanes_in * s.bits_in - 1, x.width - 1, module, s.last_in ? ".s_tlast(s_tlast), " : "", x.width - 1);
}

// A queue of elements: what went in and has not come out. Too much, too little, something else, something that changes while it
// is stalled, or standing still for longer than `most` cycles is bad.
std::string checker(const plan::StageShape& s, const std::string& module, const Model& m, I capacity, I most, const Claim& claim = {}) {
  const I in = s.kind == StageKind::argmax ? 1 : s.lanes_in, out = s.lanes_out, b = s.bits_out;
  const bool last = s.last_in && s.last_out;
  std::string t = fmt::format("module check (input wire clk, input wire [{}:0] s_tdata, input wire s_tvalid, input wire s_tlast, input wire may, output wire bad);\n"
                              "  reg [1:0] age = 2'd0;\n  always @(posedge clk) if (age != 2'd3) age <= age + 2'd1;\n  wire rst_n = age != 2'd0;\n"
                              "  wire s_tready, m_tvalid, m_tlast;\n  wire m_tready = {};\n  wire [{}:0] m_tdata;\n  {} dut (.clk(clk), .rst_n(rst_n), .s_tdata(s_tdata), .s_tvalid(s_tvalid), .s_tready(s_tready), {}.m_tdata(m_tdata), "
                              ".m_tvalid(m_tvalid), .m_tready(m_tready){}{});\n",
                              s.lanes_in * s.bits_in - 1, claim.always_ready ? "1'b1" : "may", out * b - 1, module, s.last_in ? ".s_tlast(s_tlast), " : "", s.last_out ? ", .m_tlast(m_tlast)" : "", claim.inside.probe.empty() ? "" : ", .inside(inside)");
  if (!s.last_out) t += "  assign m_tlast = 1'b0;\n";
  if (!claim.inside.probe.empty()) t += fmt::format("  wire [{}:0] inside;\n", claim.inside.width - 1);
  t += m.expected;
  t += fmt::format("  reg [{}:0] q [0:{}];\n  reg [7:0] held = 8'd0, idle = 8'd0;\n  integer beat = 0;\n  reg stalled = 1'b0, last = 1'b0;\n  reg [{}:0] before;\n", b - 1, capacity - 1, out * b);
  t += fmt::format("  wire put = rst_n & s_tvalid & s_tready, get = rst_n & m_tvalid & m_tready;\n  wire whole = put & (beat == {});\n", m.beats_per - 1);
  t += fmt::format("  wire [7:0] left = get ? held - 8'd{} : held;\n  always @(posedge clk) if (rst_n) begin\n", out);
  t += fmt::format("    if (put) beat <= beat == {} ? 0 : beat + 1;\n    held <= whole ? left + 8'd{} : left;\n    last <= put ? s_tlast : last;\n", m.beats_per - 1, in);
  for (I k = 0; k < capacity; ++k) {
    t += fmt::format("    if (get) q[{}] <= {};\n", k, k + out < capacity ? fmt::format("q[{}]", k + out) : "0");
    for (I i = 0; i < in; ++i) t += fmt::format("    if (whole && left + 8'd{} == 8'd{}) q[{}] <= exp_{};\n", i, k, k, i);
  }
  t += fmt::format("    stalled <= m_tvalid & ~m_tready;\n    before <= {{m_tlast, m_tdata}};\n    idle <= (held >= 8'd{} && ~m_tvalid) || (held == 8'd0 && ~s_tready) ? idle + 8'd1 : 8'd0;\n  end else idle <= 8'd0;\n", out);
  std::string bad = fmt::format("(m_tvalid & held < 8'd{}) | (stalled & (~m_tvalid | (before != {{m_tlast, m_tdata}}))) | (idle > 8'd{}) | (whole & left + 8'd{} > 8'd{})", out, most, in, capacity);
  for (I i = 0; i < out; ++i) bad += fmt::format(" | (m_tvalid & (m_tdata[{}:{}] != q[{}]))", i * b + b - 1, i * b, i);
  // One beat in, one out: TLAST travels with it.
  if (last && in == out && m.beats_per == 1) {
    t += fmt::format("  reg [{}:0] l = 0;\n  wire [7:0] beats = left / 8'd{};\n  always @(posedge clk) if (rst_n) l <= ((get ? l >> 1 : l) & ~({}'d1 << beats)) | (put & s_tlast ? {}'d1 << beats : {}'d0);\n", capacity - 1, out, capacity, capacity,
                     capacity);
    bad += " | (m_tvalid & (m_tlast != l[0]))";
  }
  if (!claim.inside.invariant.empty()) {
    t += claim.inside.wires;
    bad += fmt::format(" | ~({})", claim.inside.invariant);
  }
  return t + fmt::format("  assign bad = rst_n & age[1] & ({});\nendmodule\n", bad);
}

std::string form(const plan::StageShape& s) {
  std::string f(stage_def(s.kind).name);
  if (s.kind == StageKind::convert) f += s.lanes_in > s.lanes_out ? " narrower" : " wider";
  if (s.serial) f += " serial";
  return f;
}

// Small designs that hold every form of the stages.
std::vector<std::pair<plan::StageGraph, rtl::Design>> small_designs() {
  std::vector<std::pair<plan::StageGraph, rtl::Design>> all;
  const auto small = [](const plan::StageGraph& g) { return plan::smallest_folding(g); };
  const auto as_arithmetic = [](const plan::StageGraph& g) {
    plan::Folding f = plan::smallest_folding(g);
    for (std::size_t i = 0; i < g.layers.size(); ++i) {
      if (g.layers[i].kind == LayerKind::requant && g.layers[i].rescale) f.of[i].requantiser = plan::Requantiser::arithmetic;
    }
    return f;
  };
  const auto add = [&](Made m, plan::Folding (*fold)(const plan::StageGraph&), int out) {
    all.emplace_back();
    all.back().second = m.build(fold, all.back().first, out);
  };
  {  // tables per channel, one flipped, levels that are not consecutive; then the largest of them
    Made m;
    const int x = m.input({1, 3}, -8, 7);
    const int y = m.requant(x, {steps({-5, 0, 3}), steps({-2, 1, 6}, true), steps({1, 1, 2})}, {-3, 0, 1, 2}, 3);
    add(m, small, m.step(ir::IntArgMax{1, false, false}, {y}, {1}, 0, 2));
  }
  {  // arithmetic, ties to even, two factors; pipelined
    Made m;
    add(m, as_arithmetic, m.requant(m.input({1, 2}, -16, 15), {arithmetic(3, 2, 3, 8), arithmetic(5, -4, 4, 8)}, {-4, -3, -2, -1, 0, 1, 2, 3}, 2));
  }
  {  // behind a slow layer: one step a cycle
    Made m;
    const int x = m.input({1, 4}, 0, 3), y = m.dense(x, 4, 2, -24, 24);
    add(m, small, m.requant(y, {arithmetic(1, 8, 2, 6)}, {0, 1, 2, 3, 4, 5}, 2));
  }
  for (const bool narrower : {false, true}) {  // two lanes between layers of one, and one lane between layers of two
    Made n;
    const int u = n.input({1, 2}, 0, 3), v = n.requant(n.dense(u, 2, 2, -12, 12), {steps({-3, 2, 5}), steps({0, 1, 2}, true)}, {0, 1, 2, 3}, 2);
    const int y = n.dense(v, 2, 2, -12, 12);
    if (narrower) add(n, [](const plan::StageGraph& g) { plan::Folding f = plan::smallest_folding(g); f.of[0].pe = 2; return f; }, y);
    else add(n, [](const plan::StageGraph& g) { plan::Folding f = plan::smallest_folding(g); f.of[2].simd = 2; return f; }, y);
  }
  {  // one bit of the factor a cycle
    Made o;
    const int q = o.requant(o.dense(o.input({1, 8}, 0, 3), 8, 2, -48, 48), {arithmetic(5, 128, 6, 6), arithmetic(3, 100, 5, 6)}, {0, 1, 2, 3, 4, 5}, 2);
    add(o, as_arithmetic, q);
  }
  {  // a join: queues in front of it
    Made m;
    const int x = m.input({1, 2}, -2, 1);
    ir::IntLinear a, b;
    a.k = {ir::Grouped<Int128>(Int128(2))};
    a.c = ir::Grouped<Int128>(Int128(1));
    const int y = m.step(a, {x}, {1, 2}, -3, 3);
    b.k = {ir::Grouped<Int128>(Int128(1)), ir::Grouped<Int128>(Int128(1))};
    b.c = ir::Grouped<Int128>(Int128(0));
    add(m, small, m.step(b, {y, x}, {1, 2}, -5, 4));
  }
  return all;
}

const std::set<StageKind> kKinds{StageKind::threshold, StageKind::rescale, StageKind::argmax, StageKind::skid, StageKind::fifo, StageKind::convert};
// Cycles within which a stage must do something; and how many elements are inside at most: as many beats as its pipeline is long.
I patience_of(const plan::StageShape& s) { return stage_def(s.kind).pipeline(s) + 4; }
I capacity_of(const plan::StageShape& s) { return (s.kind == StageKind::fifo ? s.depth + 2 : patience_of(s) + 2) * std::max(s.lanes_in, s.lanes_out); }

TEST(RtlFormal, StagesKeepTheirBehaviour) {
  if (!tool::try_find("yosys")) {
    ASSERT_EQ(std::getenv("CI"), nullptr) << "yosys is missing, and CI is set";
    GTEST_SKIP() << "yosys is not installed";
  }
  const auto all = small_designs();
  std::set<std::string> proven;
  for (const auto& [g, d] : all)
    for (std::size_t i = 0; i < d.stages.size(); ++i) {
      const plan::StageShape& s = d.stages[i];
      if (!kKinds.contains(s.kind) || proven.contains(form(s))) continue;
      const I most = patience_of(s), capacity = capacity_of(s);
      tool::WorkFolder w;
      for (const rtl::File& f : d.files) w.put(f.name, f.text);
      const auto prove = [&](const std::string& module) {
        w.put("check.v", checker(s, module, model_of(g, s), capacity, most));
        return tool::prove_never(w, {module + ".v", "check.v"}, "check", "bad", s.serial ? 14 : 10, 200, false);
      };
      const tool::NeverResult r = prove(d.modules[i]);
      EXPECT_EQ(r.verdict, tool::Verdict::bounded) << form(s) << ": " << static_cast<int>(r.verdict) << " after " << r.steps << "\n" << r.trace << w.get("check.v");
      proven.insert(form(s));
      // The checker can fail: the same stage with its first data bit inverted on the way out.
      std::string text = w.get(d.modules[i] + ".v");
      const std::size_t at = text.find("assign m_tdata = "), both = text.find("m_tdata} = ");
      ASSERT_TRUE(at != std::string::npos || both != std::string::npos) << text;
      text.insert(at != std::string::npos ? at + 17 : both + 11, "~");
      w.put("broken.v", text);
      w.put("check.v", checker(s, d.modules[i], model_of(g, s), capacity, most));
      EXPECT_EQ(tool::prove_never(w, {"broken.v", "check.v"}, "check", "bad", s.serial ? 14 : 10, 200, false).verdict, tool::Verdict::refuted) << form(s);
    }
  EXPECT_EQ(proven, (std::set<std::string>{"threshold", "threshold serial", "rescale", "rescale serial", "argmax", "skid", "fifo", "convert narrower", "convert wider"}));
}

// For ever, by induction. Stages without a pipeline: whatever sender and receiver do. Requantisers: with a receiver that is always ready;
// and those with one clock enable stand still while it is not, so that stalls change nothing.
TEST(RtlFormal, StagesKeepItForEver) {
  if (!tool::try_find("yosys")) {
    ASSERT_EQ(std::getenv("CI"), nullptr) << "yosys is missing, and CI is set";
    GTEST_SKIP() << "yosys is not installed";
  }
  std::set<std::string> proven;
  for (const auto& [g, d] : small_designs())
    for (std::size_t i = 0; i < d.stages.size(); ++i) {
      const plan::StageShape& s = d.stages[i];
      if (!kKinds.contains(s.kind) || proven.contains(form(s))) continue;
      tool::WorkFolder w;
      for (const rtl::File& f : d.files) w.put(f.name, f.text);
      const std::string text = w.get(d.modules[i] + ".v");
      const bool requantiser = s.kind == StageKind::threshold || s.kind == StageKind::rescale;
      const I period = requantiser ? std::max<I>(1, static_cast<I>(g.layers[static_cast<std::size_t>(s.layer)].tables.size()) / s.lanes_in) : 1;
      Claim c{inside_of(s, text, period), requantiser};
      w.put("dut.v", showing(text, c.inside));
      w.put("check.v", checker(s, d.modules[i], model_of(g, s), capacity_of(s), patience_of(s), c));
      const tool::NeverResult r = tool::prove_never(w, {"dut.v", "check.v"}, "check", "bad", 40, 60);
      EXPECT_EQ(r.verdict, tool::Verdict::proven) << form(s) << ": " << static_cast<int>(r.verdict) << " after " << r.steps << "\n" << r.trace;
      proven.insert(form(s));
      if (!requantiser || s.serial) continue;
      Inside all;
      for (const auto& [name, width] : registers_of(text)) {
        all.probe += (all.probe.empty() ? "" : ", ") + name;
        all.width += width;
      }
      EXPECT_GT(all.width, s.bits_out * s.lanes_out + 3) << text;
      w.put("dut.v", showing(text, all));
      w.put("check.v", freeze_checker(s, d.modules[i], all));
      const tool::NeverResult still = tool::prove_never(w, {"dut.v", "check.v"}, "check", "bad", 8, 60);
      EXPECT_EQ(still.verdict, tool::Verdict::proven) << form(s) << " moves while it is stalled\n" << still.trace;
    }
  EXPECT_EQ(proven.size(), 9u);
}

}  // namespace
}  // namespace tandem
