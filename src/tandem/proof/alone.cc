#include "tandem/proof/alone.h"

#include <algorithm>
#include <optional>

#include "tandem/base/rng.h"

namespace tandem::proof {
namespace {
using I = std::int64_t;

// The steps that lead from one buffer of integers to another, if nothing else is needed for them.
std::optional<ir::ExactProgram> between(const ir::ExactProgram& p, int from, int to) {
  if (from < 0 || to < 0 || from == to) return {};
  std::vector<bool> need(p.buffers.size());
  need[static_cast<std::size_t>(to)] = true;
  ir::ExactProgram r = p;
  r.steps.clear();
  for (std::size_t i = p.steps.size(); i-- > 0;) {
    const ir::Step& s = p.steps[i];
    if (s.out < 0 || s.out == from || !need[static_cast<std::size_t>(s.out)]) continue;
    if (std::holds_alternative<ir::DelayRead>(s.params) || std::holds_alternative<ir::FloatOp>(s.params)) return {};
    need[static_cast<std::size_t>(s.out)] = false;
    r.steps.insert(r.steps.begin(), s);
    for (int b : s.in)
      if (b >= 0 && p.buffers[static_cast<std::size_t>(b)].int_constant.empty()) need[static_cast<std::size_t>(b)] = true;
  }
  need[static_cast<std::size_t>(from)] = false;
  if (std::find(need.begin(), need.end(), true) != need.end()) return {};
  r.states.clear();
  r.inputs = {{"x", from, DType::f64, true, {}}};
  r.outputs = {{"y", to, DType::f64, true, {}}};
  return r;
}

// A chain of a design's modules as a design.
std::optional<rtl::Design> part(const rtl::Design& d, std::size_t first, std::size_t end, const plan::Values& in, const std::string& name) {
  rtl::Design r;
  r.top = name;
  r.stages.assign(d.stages.begin() + static_cast<std::ptrdiff_t>(first), d.stages.begin() + static_cast<std::ptrdiff_t>(end));
  r.modules.assign(d.modules.begin() + static_cast<std::ptrdiff_t>(first), d.modules.begin() + static_cast<std::ptrdiff_t>(end));
  for (std::size_t i = 0; i < r.stages.size(); ++i) {
    plan::StageShape& s = r.stages[i];
    if (plan::two_inputs(s.kind) || s.ports_out != 1) return {};
    if (i && (s.in[0] != static_cast<int>(first + i) - 1 || s.in_port[0] != 0)) return {};
    s.in = {static_cast<int>(i) - 1, -1};
    s.in_port = {0, 0};
  }
  const plan::StageShape &a = r.stages.front(), &z = r.stages.back();
  r.in = {a.lanes_in, in.elements / a.lanes_in, in.bits, in.is_signed};
  r.out = {z.lanes_out, z.beats_out, z.bits_out, z.signed_out};
  if (a.bits_in != in.bits) return {};
  const I in_bits = r.in.lanes * r.in.bits, out_bits = r.out.lanes * r.out.bits;
  std::string unused = "1'b0";
  if (r.in.width() > in_bits) unused += fmt::format(", s_axis_tdata[{}:{}]", r.in.width() - 1, in_bits);
  if (!a.last_in) unused += ", s_axis_tlast";
  std::string t = fmt::format("module {} (\n  input  wire clk,\n  input  wire rst_n,\n  input  wire [{}:0] s_axis_tdata,\n  input  wire s_axis_tvalid,\n  output wire s_axis_tready,\n  input  wire s_axis_tlast,\n"
                              "  output wire [{}:0] m_axis_tdata,\n  output wire m_axis_tvalid,\n  input  wire m_axis_tready,\n  output wire m_axis_tlast\n);\n"
                              "  wire [{}:0] in_tdata = s_axis_tdata[{}:0];\n  wire in_tvalid = s_axis_tvalid;\n  wire in_tready;\n  assign s_axis_tready = in_tready;\n  wire unused = &{{{}}};\n",
                              name, r.in.width() - 1, r.out.width() - 1, in_bits - 1, in_bits - 1, unused);
  if (a.last_in) t += "  wire in_tlast = s_axis_tlast;\n";
  std::string from = "in";
  for (std::size_t i = 0; i < r.stages.size(); ++i) {
    const plan::StageShape& s = r.stages[i];
    const std::string to = fmt::format("e{:02}_0", i);
    std::string ports = fmt::format("    .clk(clk), .rst_n(rst_n),\n    .s_tdata({0}_tdata), .s_tvalid({0}_tvalid), .s_tready({0}_tready)", from);
    if (s.last_in) ports += fmt::format(", .s_tlast({}_tlast)", from);
    t += fmt::format("  wire [{}:0] {}_tdata;\n  wire {}_tvalid, {}_tready;\n", s.lanes_out * s.bits_out - 1, to, to, to);
    ports += fmt::format(",\n    .m_tdata({0}_tdata), .m_tvalid({0}_tvalid), .m_tready({0}_tready)", to);
    if (s.last_out) {
      t += fmt::format("  wire {}_tlast;\n", to);
      ports += fmt::format(", .m_tlast({}_tlast)", to);
      if (i + 1 < r.stages.size() && !r.stages[i + 1].last_in) t += fmt::format("  wire {0}_unused = {0}_tlast;\n", to);
    }
    t += fmt::format("  {} u{:02} (\n{}\n  );\n", r.modules[i], i, ports);
    from = to;
  }
  // Inside a design few streams carry TLAST; at the end of one each does.
  if (!z.last_out)
    t += fmt::format("  reg [31:0] beat;\n  wire {0}_tlast = beat == 32'd{1};\n  always @(posedge clk) if (~rst_n) beat <= 32'd0; else if ({0}_tvalid & {0}_tready) beat <= {0}_tlast ? 32'd0 : beat + 32'd1;\n", from, r.out.beats - 1);
  t += fmt::format("  assign m_axis_tdata = {};\n", r.out.width() > out_bits ? fmt::format("{{{}'d0, {}_tdata}}", r.out.width() - out_bits, from) : from + "_tdata");
  t += fmt::format("  assign m_axis_tvalid = {0}_tvalid;\n  assign {0}_tready = m_axis_tready;\n  assign m_axis_tlast = {0}_tlast;\nendmodule\n", from);
  r.files.push_back({name + ".v", "`default_nettype none\n" + t + "`default_nettype wire\n"});
  for (const rtl::File& f : d.files)  // memories too
    if (!f.name.ends_with(".v") || std::any_of(r.modules.begin(), r.modules.end(), [&](const std::string& m) { return f.name == m + ".v"; })) r.files.push_back(f);
  r.hash = d.hash;
  return r;
}

// The values of a channel, in the order in which they are tried: both ends, beside the steps, then evenly spread.
std::vector<I> values_of(const plan::Layer& l, std::size_t channel, I lo, I hi, std::size_t most, Rng& r) {
  std::vector<I> v{hi, lo};
  const auto want = [&](I x) { v.push_back(std::clamp(x, lo, hi)); };
  if (!l.tables.empty()) {
    const ir::Thresholds& t = l.tables[l.tables.size() == 1 ? 0 : channel % l.tables.size()];
    for (std::size_t n = std::min(t.t.size(), most / 4), k = 0; k < n; ++k) {
      const I x = static_cast<I>(t.t[n == t.t.size() ? k : static_cast<std::size_t>(r.range(0, static_cast<I>(t.t.size()) - 1))]);
      for (I y : {x - 1, x}) want(t.flip ? -y : y);
    }
  }
  const I n = std::max<I>(2, static_cast<I>(most / 2)), span = hi - lo;
  for (I k = 0; k < n && (k <= span || k < 2); ++k) want(span < n ? lo + k : lo + span / (n - 1) * k + span % (n - 1) * k / (n - 1));
  while (v.size() < most) want(r.range(lo, hi));
  for (std::size_t i = 2; i < v.size(); ++i) std::swap(v[i], v[static_cast<std::size_t>(r.range(2, static_cast<I>(i)))]);
  return v;
}

}  // namespace

std::vector<Alone> alone(const rtl::Design& d, const plan::StageGraph& g, const ir::ExactProgram& p, std::string_view prefix, std::uint64_t seed) {
  constexpr I kElements = 4096, kFrames = 64, kLargest = I(1) << 52;  // of a frame's input and output
  std::vector<Alone> all;
  if (!d.windows.empty()) return all;
  for (int l = 0; l < static_cast<int>(g.layers.size()); ++l) {
    const plan::Layer& layer = g.layers[static_cast<std::size_t>(l)];
    if (layer.in.size() != 1) continue;
    const plan::Layer* before = layer.in[0] < 0 ? nullptr : &g.layers[static_cast<std::size_t>(layer.in[0])];
    const plan::Values& in = g.values_of(layer.in[0]);
    const int from = before ? before->buffer : g.input_buffer;
    const std::optional<ir::ExactProgram> program = between(p, from, layer.buffer);
    if (!program || in.elements > kElements || layer.out.elements > kElements) continue;
    std::size_t first = d.stages.size(), end = 0;
    for (std::size_t i = 0; i < d.stages.size(); ++i)
      if (d.stages[i].layer == l) first = std::min(first, i), end = i + 1;
    // Converters and buffers in front only slow down what comes in.
    const auto plumbing = [&](plan::StageKind k) { return k == plan::StageKind::convert || k == plan::StageKind::skid || k == plan::StageKind::fifo; };
    while (first + 1 < end && plumbing(d.stages[first].kind)) ++first;
    if (first >= end) continue;
    std::optional<rtl::Design> design = part(d, first, end, in, fmt::format("{}_{}", prefix, l));
    if (!design) continue;
    const ir::Buffer& b = p.buffers[static_cast<std::size_t>(from)];
    const auto bound = [](Int128 x) { return static_cast<I>(std::clamp<Int128>(x, -kLargest, kLargest)); };
    if (in.lo < -kLargest || in.hi > kLargest) continue;
    const std::size_t channels = static_cast<std::size_t>(std::max<I>(1, in.channels));
    const I frames = std::clamp<I>(kElements / std::max<I>(1, in.elements), 8, kFrames);
    const std::size_t each = static_cast<std::size_t>(frames * std::max<I>(1, in.elements / static_cast<I>(channels)));
    Rng r(seed, fmt::format("alone {}", l));
    std::vector<std::vector<I>> values;
    std::vector<std::size_t> next(channels);
    const auto negated = [&](std::size_t j) { return before && !before->negated.empty() && before->negated[j % before->negated.size()]; };
    for (std::size_t c = 0; c < channels; ++c) {
      I lo = bound(b.lo), hi = bound(b.hi);
      if (negated(c)) lo = -bound(b.hi), hi = -bound(b.lo);
      values.push_back(values_of(layer, c, std::max(lo, in.lo), std::min(hi, in.hi), each, r));
    }
    Alone a{l, std::move(*design), {}};
    exec::Executor e(*program);
    for (I f = 0; f < frames; ++f) {
      Tensor t(DType::f64, b.shape);
      for (std::size_t j = 0; j < in.order.size(); ++j) {
        const std::size_t c = j % channels;
        const I v = values[c][next[c]++ % values[c].size()];
        a.stimulus.in.push_back(v);
        t.set(in.order[j], static_cast<double>(negated(j) ? -v : v));
      }
      e.run({t});
      const std::vector<I> y = e.integers(layer.buffer);
      for (std::size_t j = 0; j < layer.out.order.size(); ++j) {
        const I v = y[static_cast<std::size_t>(layer.out.order[j])];
        a.stimulus.expected.push_back(!layer.negated.empty() && layer.negated[j % layer.negated.size()] ? -v : v);
      }
    }
    all.push_back(std::move(a));
  }
  return all;
}

}  // namespace tandem::proof
