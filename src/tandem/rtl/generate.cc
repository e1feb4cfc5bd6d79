#include "tandem/rtl/generate.h"

#include <algorithm>

#include "tandem/base/hash.h"
#include "tandem/rtl/emit.h"
#include "tandem/rtl/registers.h"

namespace tandem::rtl {

std::vector<std::string> Design::names(std::string_view suffix) const {
  std::vector<std::string> r;
  for (const File& f : files)
    if (f.name.size() >= suffix.size() && f.name.ends_with(suffix)) r.push_back(f.name);
  return r;
}

namespace {
// Each window at a multiple of its size. Returns their address bits, of 32-bit words.
std::vector<int> place_windows(Design& d, const StageGraph& g, const std::vector<Module>& modules) {
  std::vector<int> words;
  I next = kWindows;
  for (std::size_t i = 0; i < modules.size(); ++i) {
    const Module& m = modules[i];
    if (m.address_bits == 0) continue;
    Window w = m.window;
    const Layer& l = g.layers[static_cast<std::size_t>(d.stages[i].layer)];
    const I size = I(4) << m.address_bits;
    w.layer = l.name;
    w.node = l.node;
    w.address = next = (next + size - 1) / size * size;
    w.bytes = w.entries * (I(4) << (w.width > 32 ? counter_bits((w.width + 31) / 32) : 0));
    next += size;
    words.push_back(m.address_bits);
    std::vector<std::pair<I, std::uint32_t>> of = m.writes;
    std::sort(of.begin(), of.end());
    for (const auto& [at, v] : of) d.writes.emplace_back(static_cast<std::uint32_t>(w.address + 4 * at), v);
    d.windows.push_back(std::move(w));
  }
  d.address_bits = std::max(13, counter_bits(next));
  return words;
}
}  // namespace

Design generate(const StageGraph& g, const plan::Folding& f, std::string_view prefix, plan::Family family) {
  TANDEM_CHECK(plan::identifier(prefix) == prefix, "prefix '{}' is no identifier", prefix);
  check_folding(g, f);
  Design d;
  d.top = prefix;
  expand(g, f, d.stages);
  const StageShape& first = d.stages.front();
  const StageShape& end = d.stages.back();
  d.in = {first.lanes_in, g.input.elements / first.lanes_in, g.input.bits, g.input.is_signed};
  d.out = {end.lanes_out, end.beats_out, end.bits_out, end.signed_out};

  std::vector<Module> modules;
  for (std::size_t i = 0; i < d.stages.size(); ++i) {
    const StageShape& s = d.stages[i];
    d.modules.push_back(fmt::format("{}_{:02}_{}", prefix, i, stage_def(s.kind).name));
    modules.push_back(Emitter(g, s, d.modules.back(), family).emit());
  }
  const std::vector<int> words = place_windows(d, g, modules);

  // The top: one wire bundle per stream.
  const bool bus = !d.windows.empty();
  std::string t = fmt::format("// {} in {} stages\nmodule {} (\n", g.name, d.stages.size(), prefix);
  t += fmt::format(
      "  input  wire clk,\n  input  wire rst_n,\n  input  wire [{}:0] s_axis_tdata,\n  input  wire s_axis_tvalid,\n"
      "  output wire s_axis_tready,\n  input  wire s_axis_tlast,\n  output wire [{}:0] m_axis_tdata,\n"
      "  output wire m_axis_tvalid,\n  input  wire m_axis_tready,\n  output wire m_axis_tlast{}\n);\n",
      d.in.width() - 1, d.out.width() - 1, bus ? ",\n" + registers_ports(d) : "");
  auto bundle = [](int stage, int port) { return stage < 0 ? std::string("in") : fmt::format("e{:02}_{}", stage, port); };
  const I in_bits = d.in.lanes * d.in.bits, out_bits = d.out.lanes * d.out.bits;
  std::string unused = "1'b0";
  t += fmt::format("  wire [{}:0] in_tdata = s_axis_tdata[{}:0];\n  wire in_tvalid = s_axis_tvalid{};\n  wire in_tready;\n", in_bits - 1, in_bits - 1, bus ? " & open" : "");
  t += fmt::format("  assign s_axis_tready = in_tready{};\n", bus ? " & open" : "");
  if (bus)
    t += fmt::format("  wire open;\n  wire [{}:0] cfg_we;\n  wire [{}:0] cfg_addr;\n  wire [31:0] cfg_data;\n  {}_axil registers (\n    .clk(clk), .rst_n(rst_n), {},\n"
                     "    .frame_beat(in_tvalid & in_tready), .frame_end(m_axis_tvalid & m_axis_tready & m_axis_tlast), .open(open), .cfg_we(cfg_we), .cfg_addr(cfg_addr), .cfg_data(cfg_data)\n  );\n",
                     d.windows.size() - 1, *std::max_element(words.begin(), words.end()) - 1, prefix, registers_connection());
  if (d.in.width() > in_bits) unused += fmt::format(", s_axis_tdata[{}:{}]", d.in.width() - 1, in_bits);
  if (first.last_in) t += "  wire in_tlast = s_axis_tlast;\n";
  else unused += ", s_axis_tlast";
  if (unused != "1'b0") t += fmt::format("  wire unused = &{{{}}};\n", unused);
  std::size_t window = 0;
  for (std::size_t i = 0; i < d.stages.size(); ++i) {
    const StageShape& s = d.stages[i];
    std::string ports = "    .clk(clk), .rst_n(rst_n)";
    if (modules[i].address_bits > 0) {
      ports += fmt::format(",\n    .cfg_we(cfg_we[{}]), .cfg_addr(cfg_addr[{}:0]), .cfg_data(cfg_data)", window, modules[i].address_bits - 1);
      ++window;
    }
    const bool two = plan::two_inputs(s.kind);
    for (int k = 0; k < (two ? 2 : 1); ++k) {
      const std::string b = bundle(s.in[static_cast<std::size_t>(k)], s.in_port[static_cast<std::size_t>(k)]), p = two ? fmt::format("s{}", k) : "s";
      ports += fmt::format(",\n    .{0}_tdata({1}_tdata), .{0}_tvalid({1}_tvalid), .{0}_tready({1}_tready)", p, b);
      if (s.last_in && k == 0) ports += fmt::format(", .{}_tlast({}_tlast)", p, b);
    }
    for (int k = 0; k < s.ports_out; ++k) {
      const std::string b = bundle(static_cast<int>(i), k), p = s.ports_out == 1 ? "m" : fmt::format("m{}", k);
      t += fmt::format("  wire [{}:0] {}_tdata;\n  wire {}_tvalid, {}_tready;\n", s.lanes_out * s.bits_out - 1, b, b, b);
      ports += fmt::format(",\n    .{0}_tdata({1}_tdata), .{0}_tvalid({1}_tvalid), .{0}_tready({1}_tready)", p, b);
      if (!s.last_out) continue;
      t += fmt::format("  wire {}_tlast;\n", b);
      ports += fmt::format(", .{}_tlast({}_tlast)", p, b);
      // A copy whose reader takes no TLAST.
      bool read = i + 1 == d.stages.size();
      for (const StageShape& r : d.stages)
        read = read || (r.last_in && r.in[0] == static_cast<int>(i) && r.in_port[0] == k);
      if (!read) t += fmt::format("  wire {}_unused = {}_tlast;\n", b, b);
    }
    t += fmt::format("  {} {} (\n{}\n  );\n", d.modules[i], fmt::format("u{:02}", i), ports);
  }
  const std::string o = bundle(static_cast<int>(d.stages.size()) - 1, 0);
  t += fmt::format("  assign m_axis_tdata = {};\n", d.out.width() > out_bits ? fmt::format("{{{}'d0, {}_tdata}}", d.out.width() - out_bits, o) : o + "_tdata");
  t += fmt::format("  assign m_axis_tvalid = {0}_tvalid;\n  assign {0}_tready = m_axis_tready;\n  assign m_axis_tlast = {0}_tlast;\nendmodule\n", o);

  std::string slave;
  if (bus) {
    std::uint64_t inside = fnv1a(t);
    for (const Module& m : modules)
      for (const File& x : m.memories) inside = fnv1a(x.text, inside);
    slave = registers_verilog(d, d.in.beats, static_cast<std::uint32_t>(inside), words);
  }
  std::uint64_t h = fnv1a(slave, fnv1a(t));
  for (const Module& m : modules) {
    h = fnv1a(m.body, h);
    for (const File& x : m.memories) h = fnv1a(x.text, h);
  }
  d.hash = hex16(h);
  auto source = [&](const std::string& name, const std::string& body) {
    d.files.push_back({name + ".v", fmt::format("// Generated by Tandem {}; design {}.\n`default_nettype none\n{}`default_nettype wire\n", TANDEM_VERSION, d.hash, body)});
  };
  source(d.top, t);
  if (bus) source(d.top + "_axil", slave);
  for (std::size_t i = 0; i < modules.size(); ++i) {
    source(d.modules[i], modules[i].body);
    for (File& x : modules[i].memories) d.files.push_back(std::move(x));
  }
  return d;
}

}  // namespace tandem::rtl
