#include "tests/mutation.h"

#include <algorithm>
#include <charconv>
#include <chrono>
#include <set>

#include "tandem/base/rng.h"
#include "tandem/base/table.h"
#include "tandem/proof/alone.h"
#include "tandem/tool/find.h"
#include "tandem/tool/yosys.h"

namespace tandem::proof {
namespace {
using I = std::int64_t;

bool word(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_'; }
bool digit(char c) { return c >= '0' && c <= '9'; }

std::size_t file_of(const rtl::Design& d, int stage) {
  const std::string name = d.modules[static_cast<std::size_t>(stage)] + ".v";
  for (std::size_t i = 0; i < d.files.size(); ++i)
    if (d.files[i].name == name) return i;
  TANDEM_CHECK(false, "design '{}' has no file {}", d.top, name);
}

// The faults of one line; `from` is where it begins in the file.
class Line {
 public:
  Line(std::string_view text, std::size_t from, const Mutation& base, std::vector<Mutation>& to) : t_(text), from_(from), base_(base), to_(to) {}

  void run() {
    const std::size_t body = t_.find_first_not_of(' ');
    if (body == std::string_view::npos) return;
    const std::string_view s = t_.substr(body);
    for (const char* skip : {"//", "module", "endmodule", "input", "output", "initial", ");", "`", "localparam"})
      if (s.starts_with(skip)) return;
    if (s.find("unused") != std::string_view::npos) return;
    comment_ = t_.find("//");
    declaration();
    // Right of the first assignment or inside a condition: there are expressions.
    const std::size_t eq = t_.find(" = "), arrow = t_.find(" <= "), cond = t_.find("if (");
    const std::size_t begin = std::min({eq, arrow, cond});
    if (begin == std::string_view::npos) return;
    operators(begin);
    constants(begin);
    slices(begin);
    addresses();
    handshake(begin);
    if (const auto at = t_.find(" ? "); at != std::string_view::npos && t_.find(" ? ", at + 1) == std::string_view::npos) swap(at);
  }

 private:
  std::string_view t_;
  std::size_t from_, comment_ = std::string_view::npos;
  const Mutation& base_;
  std::vector<Mutation>& to_;

  void add(FaultClass k, std::size_t at, std::size_t length, std::string to) {
    if (at >= comment_ || t_.substr(at, length) == to) return;
    Mutation m = base_;
    m.kind = k;
    m.at = from_ + at;
    m.length = length;
    m.line = t_;
    m.changed = t_;
    m.changed.replace(at, length, to);
    m.to = std::move(to);
    to_.push_back(std::move(m));
  }

  void declaration() {
    for (const std::string_view key : {"  wire signed ", "  reg signed "})
      if (t_.starts_with(key)) add(FaultClass::sign, key.size() - 7, 7, "");
    for (const std::string_view key : {"  wire [", "  reg [", "  wire signed [", "  reg signed ["}) {
      if (!t_.starts_with(key)) continue;
      std::size_t e = key.size();
      I high = 0;
      while (e < t_.size() && digit(t_[e])) high = high * 10 + (t_[e++] - '0');
      if (high > 0 && t_.substr(e).starts_with(":0]")) add(FaultClass::width, key.size(), e - key.size(), std::to_string(high - 1));
    }
  }
  void operators(std::size_t begin) {
    static constexpr std::pair<std::string_view, std::string_view> kSwaps[] = {{" + ", " - "}, {" - ", " + "}, {" * ", " + "},  {" & ", " | "},  {" | ", " & "},
                                                                               {" == ", " != "}, {" != ", " == "}, {" > ", " >= "}, {" >= ", " > "}, {" < ", " <= "}, {" ^ ", " & "}};
    for (const auto& [a, b] : kSwaps)
      for (std::size_t at = t_.find(a, begin); at != std::string_view::npos; at = t_.find(a, at + 1)) add(FaultClass::operation, at, a.size(), std::string(b));
    for (std::size_t at = begin; at < t_.size(); ++at)
      if (t_[at] == '~') add(FaultClass::operation, at, 1, "");
  }
  // The two sides of a choice that is the last thing of its line.
  void swap(std::size_t question) {
    const std::size_t end = t_.rfind(';');
    int depth = 0;
    std::size_t colon = 0;
    for (std::size_t i = question + 3; i < end && end != std::string_view::npos; ++i) {
      if (t_[i] == '[' || t_[i] == '(' || t_[i] == '{') ++depth;
      if (t_[i] == ']' || t_[i] == ')' || t_[i] == '}') --depth;
      if (depth < 0) return;
      if (depth == 0 && t_.substr(i).starts_with(" : ")) colon = i;
    }
    if (!colon) return;
    const std::string a(t_.substr(question + 3, colon - question - 3)), b(t_.substr(colon + 3, end - colon - 3));
    add(FaultClass::operation, question + 3, end - question - 3, b + " : " + a);
  }
  void constants(std::size_t begin) {
    for (std::size_t q = t_.find('\'', begin); q != std::string_view::npos; q = t_.find('\'', q + 1)) {
      std::size_t b = q;
      while (b > 0 && digit(t_[b - 1])) --b;
      std::size_t k = q + 1;
      const bool sign = k < t_.size() && t_[k] == 's';
      k += sign;
      if (b == q || k >= t_.size()) continue;
      const char base = t_[k++];
      if (base != 'd' && base != 'b' && base != 'h') continue;
      I width = 0;
      for (std::size_t i = b; i < q; ++i) width = width * 10 + (t_[i] - '0');
      std::size_t e = k;
      std::uint64_t v = 0;
      bool fits = true;
      for (; e < t_.size() && word(t_[e]) && t_[e] != '_'; ++e) {
        const char c = t_[e];
        const unsigned d = digit(c) ? static_cast<unsigned>(c - '0') : c >= 'a' && c <= 'f' ? static_cast<unsigned>(c - 'a' + 10) : 99;
        if (d > 15) { fits = false; break; }
        v = v * (base == 'd' ? 10 : base == 'b' ? 2 : 16) + d;
      }
      if (!fits || width < 1 || width > 62) continue;
      // {5'd0, x} widens: zeros that become ones are a wrong sign.
      const bool extension = b > 0 && t_[b - 1] == '{' && v == 0 && t_.substr(e).starts_with(", ");
      if (extension) {
        add(FaultClass::sign, b, e - b, fmt::format("{{{}{{1'b1}}}}", width));
        continue;
      }
      const std::uint64_t one = 1, mask = (one << width) - 1;
      for (const std::uint64_t to : {(v + 1) & mask, v ^ one, v ^ (one << (width - 1))})
        add(FaultClass::constant, b, e - b, fmt::format("{}'{}h{:x}", width, sign ? "s" : "", to));
    }
  }
  // name[h:l] without its top bit; {{n{x[k]}}, x} with zeros for the sign.
  void slices(std::size_t begin) {
    for (std::size_t open = t_.find('[', begin); open != std::string_view::npos; open = t_.find('[', open + 1)) {
      std::size_t b = open, e = open + 1;
      while (b > 0 && word(t_[b - 1])) --b;
      I high = 0, low = 0;
      while (e < t_.size() && digit(t_[e])) high = high * 10 + (t_[e++] - '0');
      if (b == open || e == open + 1 || e >= t_.size()) continue;
      if (t_[e] == ']') {  // a single bit
        const std::string_view before = t_.substr(0, b);
        if (before.ends_with("{")) add(FaultClass::sign, b, e + 1 - b, "1'b0");
        else if (high > 0) add(FaultClass::address, open + 1, e - open - 1, std::to_string(high - 1));
        continue;
      }
      if (t_[e] != ':') continue;
      const std::size_t l = ++e;
      while (e < t_.size() && digit(t_[e])) low = low * 10 + (t_[e++] - '0');
      if (e == l || e >= t_.size() || t_[e] != ']' || high <= low) continue;
      const std::size_t arrow = t_.find(" <= "), eq = t_.find(" = ");
      if (b < std::min(arrow, eq)) continue;  // what is assigned to
      add(FaultClass::width, b, e + 1 - b, fmt::format("{{1'b0, {}[{}:{}]}}", t_.substr(b, open - b), high - 1, low));
    }
  }
  void addresses() {
    for (std::size_t m = t_.find("mem"); m != std::string_view::npos; m = t_.find("mem", m + 3)) {
      std::size_t open = m;
      while (open < t_.size() && word(t_[open])) ++open;
      if (open >= t_.size() || t_[open] != '[' || (m > 0 && word(t_[m - 1]))) continue;
      int depth = 0;
      std::size_t e = open;
      for (; e < t_.size(); ++e) {
        if (t_[e] == '[') ++depth;
        if (t_[e] == ']' && --depth == 0) break;
      }
      if (e >= t_.size() || t_.find("reg ") < m) continue;
      const std::string inside(t_.substr(open + 1, e - open - 1));
      if (digit(inside[0])) continue;
      add(FaultClass::address, open + 1, e - open - 1, inside.find_first_of("{?") == std::string::npos ? inside + " ^ 1'b1" : fmt::format("({}) ^ 1'b1", inside));
    }
  }
  void handshake(std::size_t begin) {
    for (const std::string_view name : {"m_tready", "s_tvalid", "s_tready", "m_tvalid", "m0_tready", "m1_tready", "s0_tvalid", "s1_tvalid"})
      for (std::size_t at = t_.find(name, begin); at != std::string_view::npos; at = t_.find(name, at + 1))
        if ((at == 0 || !word(t_[at - 1])) && (at + name.size() >= t_.size() || !word(t_[at + name.size()]))) {
          add(FaultClass::handshake, at, name.size(), "1'b1");
          add(FaultClass::handshake, at, name.size(), "1'b0");
        }
    for (const std::string_view name : {"(en)", "(en & ", "(take)", "(step)", "(fire)", "(fire & ", "(finish)"})
      for (std::size_t at = t_.find(name, begin); at != std::string_view::npos; at = t_.find(name, at + 1))
        add(FaultClass::handshake, at + 1, name.find_first_of(") ", 1) - 1, "1'b1");
    const std::size_t assign = t_.find("assign ");
    const std::size_t eq = t_.find(" = ");
    if (assign != std::string_view::npos && eq != std::string_view::npos && (t_.find("_tready", assign) < eq || t_.find("_tvalid", assign) < eq))
      add(FaultClass::handshake, eq + 3, t_.rfind(';') - eq - 3, "1'b1");
  }
};

std::string replaced(std::string text, const std::string& from, const std::string& to) {  // whole words
  for (std::size_t at = text.find(from); at != std::string::npos; at = text.find(from, at)) {
    const bool whole = (at == 0 || (!word(text[at - 1]) && text[at - 1] != '\'')) && (at + from.size() >= text.size() || !word(text[at + from.size()]));
    if (whole) text.replace(at, from.size(), to);
    at += whole ? to.size() : 1;
  }
  return text;
}

// The proven range of what a stage reads on input k.
std::pair<I, I> range_of(const rtl::Design& d, const plan::StageGraph& g, int stage, std::size_t k) {
  int from = d.stages[static_cast<std::size_t>(stage)].in[k];
  while (from >= 0 && d.stages[static_cast<std::size_t>(from)].layer < 0) from = d.stages[static_cast<std::size_t>(from)].in[0];
  if (from < 0) return {g.input.lo, g.input.hi};
  const int l = d.stages[static_cast<std::size_t>(from)].layer;
  const plan::Layer& layer = g.layers[static_cast<std::size_t>(l)];
  if (l != d.stages[static_cast<std::size_t>(stage)].layer) return {layer.out.lo, layer.out.hi};
  const plan::Values& v = g.values_of(layer.in[0]);  // inside a layer: its input, and the padding
  if (!layer.window || !layer.window->padded()) return {v.lo, v.hi};
  return {std::min(v.lo, layer.window->pad_value), std::max(v.hi, layer.window->pad_value)};
}

// The ports as the module declares them: name and range.
struct Ports {
  std::vector<std::pair<std::string, std::string>> in, out;
  std::string range(const std::string& name) const {
    for (const auto* l : {&in, &out})
      for (const auto& [n, r] : *l)
        if (n == name) return r;
    return "";
  }
  bool has(const std::string& name) const {
    return std::any_of(in.begin(), in.end(), [&](const auto& p) { return p.first == name; }) || std::any_of(out.begin(), out.end(), [&](const auto& p) { return p.first == name; });
  }
  // Prefixes of the streams: "s", "m0".
  static std::vector<std::string> streams(const std::vector<std::pair<std::string, std::string>>& of, std::string_view end) {
    std::vector<std::string> r;
    for (const auto& [n, range] : of)
      if (n.ends_with(end)) r.push_back(n.substr(0, n.size() - end.size()));
    return r;
  }
};
Ports ports_of(const rtl::File& file) {
  Ports r;
  for (std::size_t p = 0, e; (e = file.text.find('\n', p)) != std::string::npos; p = e + 1) {
    std::string l = file.text.substr(p, e - p);
    if (l.starts_with(");")) break;
    const bool is_in = l.starts_with("  input  wire "), is_out = l.starts_with("  output wire ");
    if (!is_in && !is_out) continue;
    l = l.substr(14);
    while (l.ends_with(",")) l.pop_back();
    const std::size_t close = l.find("] ");
    (is_in ? r.in : r.out).emplace_back(close == std::string::npos ? l : l.substr(close + 2), close == std::string::npos ? "" : l.substr(0, close + 1));
  }
  return r;
}

// "reg [3:0]" of the lanes of an input in their proven range.
std::string in_range(const rtl::Design& d, const plan::StageGraph& g, int stage, const std::string& port, const std::string& range, const std::string& data, const std::string& when) {
  const plan::StageShape& s = d.stages[static_cast<std::size_t>(stage)];
  const auto [lo, hi] = range_of(d, g, stage, port.ends_with("1") ? 1 : 0);
  I high = 0;
  std::from_chars(range.data() + 1, range.data() + range.size(), high);
  const int bits = static_cast<int>((high + 1) / s.lanes_in);
  const bool sign = lo < 0;
  std::string t;
  for (I i = 0; i < s.lanes_in && bits < 60; ++i) {
    const std::string x = fmt::format("{}[{}:{}]", data, i * bits + bits - 1, i * bits);
    const auto literal = [&](I v) { return fmt::format("{}'{}h{:x}", bits, sign ? "s" : "", static_cast<std::uint64_t>(v) & ((std::uint64_t(1) << bits) - 1)); };
    const std::string y = sign ? fmt::format("$signed({})", x) : x;
    t += fmt::format("  always @* if ({}) assume (({} >= {}) & ({} <= {}));\n", when, y, literal(lo), y, literal(hi));
  }
  return t;
}

constexpr int kPaceBeats = 6;  // that go in
// Both modules with the same inputs one after the other, each at its own pace: the words that come out must be the same.
std::string pace_miter_of(const rtl::Design& d, const plan::StageGraph& g, int stage, const std::string& gold, const std::string& gate) {
  constexpr int kIn = kPaceBeats, kOut = 16;
  const plan::StageShape& s = d.stages[static_cast<std::size_t>(stage)];
  const Ports ports = ports_of(d.files[file_of(d, stage)]);
  const std::vector<std::string> ins = Ports::streams(ports.in, "_tvalid"), outs = Ports::streams(ports.out, "_tvalid");
  std::string t = "module pace (input wire clk", body, bad = "1'b0";
  body += "  reg [1:0] age = 2'd0;\n  always @(posedge clk) if (age != 2'd3) age <= age + 2'd1;\n  wire rst_n = age != 2'd0;\n";
  std::string connect[2];
  for (const std::string& p : ins) {
    const std::string range = ports.range(p + "_tdata");
    t += fmt::format(", input wire {}_go", p);
    for (int k = 0; k < kIn; ++k) {
      t += fmt::format(", input wire {} {}_any{}", range, p, k);
      body += fmt::format("  reg {0} {1}_seq{2};\n  always @(posedge clk) if (age == 2'd0) {1}_seq{2} <= {1}_any{2};\n", range, p, k);
      body += in_range(d, g, stage, p, range, fmt::format("{}_any{}", p, k), "age == 2'd0");
    }
    for (int side = 0; side < 2; ++side) {
      const std::string x = fmt::format("{}_{}", side ? "b" : "a", p);
      std::string data = fmt::format("{}_seq{}", p, kIn - 1), last = "1'b0";
      for (int k = kIn - 1; k-- > 0;) data = fmt::format("{}_at == 4'd{} ? {}_seq{} : ({})", x, k, p, k, data);
      for (int k = 0; k < kIn; ++k)
        if ((k + 1) % s.beats_in == 0) last += fmt::format(" | ({}_at == 4'd{})", x, k);
      body += fmt::format("  reg [3:0] {0}_at = 4'd0;\n  reg {0}_held = 1'b0;\n  wire {0}_ready;\n  wire {0}_valid = rst_n & ({1}_go | {0}_held) & ({0}_at < 4'd{2});\n  wire {3} {0}_data = {4};\n  wire {0}_last = {5};\n"
                          "  always @(posedge clk) begin {0}_held <= {0}_valid & ~{0}_ready; if ({0}_valid & {0}_ready) {0}_at <= {0}_at + 4'd1; end\n",
                          x, p, kIn, range, data, last);
      connect[side] += fmt::format(", .{0}_tdata({1}_data), .{0}_tvalid({1}_valid), .{0}_tready({1}_ready)", p, x);
      if (ports.has(p + "_tlast")) connect[side] += fmt::format(", .{}_tlast({}_last)", p, x);
    }
  }
  for (const std::string& p : outs) {
    const std::string range = ports.range(p + "_tdata");
    const bool last = ports.has(p + "_tlast");
    I high = 0;
    std::from_chars(range.data() + 1, range.data() + range.size(), high);
    t += fmt::format(", input wire {}_go", p);
    for (int side = 0; side < 2; ++side) {
      const std::string x = fmt::format("{}_{}", side ? "b" : "a", p);
      body += fmt::format("  wire {1} {0}_data;\n  wire {0}_valid;\n  wire {0}_last{2};\n  reg [4:0] {0}_at = 5'd0;\n  reg [{3}:0] {0}_out [0:{4}];\n  wire {0}_fire = rst_n & {0}_valid & {5}_go & ({0}_at < 5'd{6});\n"
                          "  always @(posedge clk) if ({0}_fire) begin {0}_out[{0}_at[3:0]] <= {{{0}_last, {0}_data}}; {0}_at <= {0}_at + 5'd1; end\n",
                          x, range, last ? "" : " = 1'b0", high + 1, kOut - 1, p, kOut);
      connect[side] += fmt::format(", .{0}_tdata({1}_data), .{0}_tvalid({1}_valid), .{0}_tready({0}_go & ({1}_at < 5'd{2}))", p, x, kOut);
      if (last) connect[side] += fmt::format(", .{}_tlast({}_last)", p, x);
    }
    bad += fmt::format(" | (a_{0}_fire & (a_{0}_at < b_{0}_at) & (b_{0}_out[a_{0}_at[3:0]] != {{a_{0}_last, a_{0}_data}})) | (b_{0}_fire & (b_{0}_at < a_{0}_at) & (a_{0}_out[b_{0}_at[3:0]] != {{b_{0}_last, b_{0}_data}}))"
                       " | (a_{0}_fire & b_{0}_fire & (a_{0}_at == b_{0}_at) & ({{a_{0}_last, a_{0}_data}} != {{b_{0}_last, b_{0}_data}}))", p);
  }
  body += fmt::format("  {} a (.clk(clk), .rst_n(rst_n){});\n  {} b (.clk(clk), .rst_n(rst_n){});\n  assign bad = {};\nendmodule\n", gold, connect[0], gate, connect[1], bad);
  return t + ", output wire bad);\n" + body;
}

// Both modules side by side with the same inputs: what they send must be the same, cycle by cycle. The inputs keep the rules. Without a
// `gate`: only the one, with nothing to compare.
std::string miter_of(const rtl::Design& d, const plan::StageGraph& g, int stage, const std::string& gold, const std::string& gate) {
  const plan::StageShape& s = d.stages[static_cast<std::size_t>(stage)];
  const auto [in, out] = ports_of(d.files[file_of(d, stage)]);
  std::string bad = "1'b0";
  std::string t = fmt::format("module {} (input wire clk", gate.empty() ? "alone" : "miter");
  for (const auto& [n, r] : in)
    if (n != "clk" && n != "rst_n") t += fmt::format(", input wire {} {}", r, n);
  t += fmt::format("{});\n  reg [1:0] age = 2'd0;\n  always @(posedge clk) if (age != 2'd3) age <= age + 2'd1;\n  wire rst_n = age != 2'd0;\n", gate.empty() ? "" : ", output wire bad");
  for (const auto& [n, r] : out) t += fmt::format("  wire {} a_{}, b_{};\n", r, n, n);
  for (const auto* side : {&gold, &gate}) {
    if (side->empty()) continue;
    t += fmt::format("  {} {} (", *side, side == &gold ? "a" : "b");
    bool first = true;
    for (const auto& [n, r] : in) t += fmt::format("{}.{}({})", std::exchange(first, false) ? "" : ", ", n, n);
    for (const auto& [n, r] : out) t += fmt::format(", .{}({}_{})", n, side == &gold ? "a" : "b", n);
    t += ");\n";
  }
  for (const auto& [n, r] : out) {
    const bool payload = n.ends_with("_tdata") || n.ends_with("_tlast");
    const std::string valid = payload ? fmt::format("a_{}tvalid & ", n.substr(0, n.rfind('_') + 1)) : "";
    bad += fmt::format(" | ({}(a_{} != b_{}))", valid, n, n);
  }
  // A sender holds what is not taken.
  for (const auto& [n, r] : in) {
    if (!n.ends_with("_tvalid")) continue;
    const std::string p = n.substr(0, n.size() - 7);
    bool last = false;
    std::string range;
    for (const auto& [m, q] : in) {
      last = last || m == p + "_tlast";
      if (m == p + "_tdata") range = q;
    }
    t += fmt::format("  reg {0}_stalled = 1'b0;\n  reg {1} {0}_held;\n  reg {0}_last;\n  always @(posedge clk) begin {0}_stalled <= rst_n & {0}_tvalid & ~a_{0}_tready; {0}_held <= {0}_tdata; {0}_last <= {2}; end\n", p,
                     range, last ? p + "_tlast" : "1'b0");
    t += fmt::format("  always @* if ({0}_stalled) assume ({0}_tvalid & ({0}_tdata == {0}_held){1});\n", p, last ? fmt::format(" & ({0}_tlast == {0}_last)", p) : "");
    // What arrives lies in its proven range.
    t += in_range(d, g, stage, p, range, p + "_tdata", p + "_tvalid");
    if (!last) continue;
    // TLAST comes where a frame ends.
    const int count = plan::bits_for(s.beats_in);
    t += fmt::format("  reg [{1}:0] {0}_beat = {2}'d0;\n  always @(posedge clk) if (rst_n & {0}_tvalid & a_{0}_tready) {0}_beat <= {0}_beat == {2}'d{3} ? {2}'d0 : {0}_beat + {2}'d1;\n"
                     "  always @* if ({0}_tvalid) assume ({0}_tlast == ({0}_beat == {2}'d{3}));\n",
                     p, count - 1, count, s.beats_in - 1);
  }
  return t + (gate.empty() ? "endmodule\n" : fmt::format("  assign bad = rst_n & (age[1] | age[0]) & ({});\nendmodule\n", bad));
}

// Names that a line declares.
std::vector<std::string> declared(std::string_view line) {
  std::vector<std::string> r;
  std::size_t at = line.find("] ");
  if (at == std::string_view::npos) return r;
  for (at += 2; at < line.size() && word(line[at]);) {
    std::size_t e = at;
    while (e < line.size() && word(line[e])) ++e;
    r.emplace_back(line.substr(at, e - at));
    at = line.substr(e).starts_with(", ") ? e + 2 : line.size();
  }
  return r;
}

}  // namespace

std::string_view name_of(FaultClass c) {
  static constexpr std::string_view kNames[kFaultClasses] = {"operation", "constant", "width", "sign", "address", "handshake"};
  return kNames[static_cast<std::size_t>(c)];
}

std::vector<Mutation> mutations_of(const rtl::Design& d, int stage) {
  std::vector<Mutation> r;
  Mutation base;
  base.stage = stage;
  const std::string& text = d.files[file_of(d, stage)].text;
  for (std::size_t p = 0, e; (e = text.find('\n', p)) != std::string::npos; p = e + 1) Line(std::string_view(text).substr(p, e - p), p, base, r).run();
  return r;
}

rtl::Design mutated(const rtl::Design& d, const Mutation& m, std::string_view prefix) {
  rtl::Design r = d;
  const std::size_t f = file_of(d, m.stage);
  const std::string module = d.modules[static_cast<std::size_t>(m.stage)], name = fmt::format("{}_mutant", prefix);
  r.top = prefix;
  r.modules[static_cast<std::size_t>(m.stage)] = name;
  std::string text = d.files[f].text;
  text.replace(m.at, m.length, m.to);
  r.files[f] = {name + ".v", replaced(std::move(text), module, name)};
  r.files[0] = {fmt::format("{}.v", prefix), replaced(replaced(d.files[0].text, module, name), d.top, std::string(prefix))};
  return r;
}

double MutationStats::caught_share() const {
  const std::int64_t changing = caught + survived;
  return changing ? static_cast<double>(caught) / static_cast<double>(changing) : 1;
}

std::string MutationStats::text() const {
  std::string s = fmt::format("{} mutants: {} caught, {} proven equivalent, {} change only the time, {} survived; {} invalid; {:.1f} % of those that change an output are caught; {:.0f} s\n",
                              mutants.size(), caught, equivalent, slower, survived, invalid, 100 * caught_share(), seconds);
  Table t;
  t.columns = {{"fate"}, {"stage"}, {"fault"}, {"line"}, {"instead"}, {"why"}};
  const auto cut = [](const std::string& l) { return l.substr(std::min(l.size(), l.find_first_not_of(' ')), 90); };
  for (const Mutant& m : mutants)
    if (m.fate != Fate::caught) {
      static constexpr std::string_view kFates[] = {"caught", "equivalent", "slower", "SURVIVED", "invalid"};
      t.add({std::string(kFates[static_cast<std::size_t>(m.fate)]), m.stage, std::string(name_of(m.mutation.kind)), cut(m.mutation.line), cut(m.mutation.changed), m.how});
    }
  for (const std::string& x : refused) s += "refused: " + x + "\n";
  return s + (t.rows.empty() ? "" : render(t, TableStyle::text));
}

MutationStats run_mutants(std::span<const rtl::Design> designs, std::span<const plan::StageGraph> graphs, std::span<const ir::ExactProgram> programs, std::span<const Stimulus> stimuli, const MutationParams& params,
                          const Cancel& cancel) {
  const auto start = std::chrono::steady_clock::now();
  MutationStats r;
  // Per kind of stage (its forms apart) and class of fault: all that there are.
  std::map<std::string, std::vector<std::vector<Mutation>>> pool;
  for (std::size_t d = 0; d < designs.size(); ++d)
    for (std::size_t i = 0; i < designs[d].stages.size(); ++i) {
      auto& classes = pool[std::string(stage_def(designs[d].stages[i].kind).name)];
      classes.resize(kFaultClasses);
      for (Mutation& m : mutations_of(designs[d], static_cast<int>(i))) {
        m.design = d;
        classes[static_cast<std::size_t>(m.kind)].push_back(std::move(m));
      }
    }
  Rng random(params.seed, "mutants");
  for (auto& [kind, classes] : pool) std::erase_if(classes, [](const auto& c) { return c.empty(); });
  std::erase_if(pool, [](const auto& p) { return p.second.empty(); });
  while (static_cast<I>(r.mutants.size()) < params.mutants && !pool.empty()) {
    for (auto& [kind, classes] : pool) {
      if (static_cast<I>(r.mutants.size()) == params.mutants) break;
      auto& c = classes[static_cast<std::size_t>(random.range(0, static_cast<I>(classes.size()) - 1))];
      const std::size_t k = static_cast<std::size_t>(random.range(0, static_cast<I>(c.size()) - 1));
      r.mutants.push_back({std::move(c[k]), kind, Fate::survived, ""});
      c.erase(c.begin() + static_cast<std::ptrdiff_t>(k));
      std::erase_if(classes, [](const auto& x) { return x.empty(); });
    }
    std::erase_if(pool, [](const auto& p) { return p.second.empty(); });
  }
  // The originals: their cycles, and that the bench finds nothing in them.
  VerifyOptions o;
  o.seed = params.seed;
  o.patience = 3000;
  o.stall_frames = 1000;  // more than all buffers hold: every stream must stand still at some time
  o.designs_per_model = params.per_model;
  const std::vector<VerifyResult> original = verify(designs, stimuli, o, cancel);
  for (std::size_t i = 0; i < original.size(); ++i) TANDEM_CHECK(original[i].ok, "design '{}' fails without a fault: {}", designs[i].top, original[i].text());

  // A model that does not build or settle is halved until the mutant to blame is alone.
  const auto judge_some = [&](auto&& self, std::size_t from, std::size_t to) -> void {
    std::vector<rtl::Design> ds;
    std::vector<Stimulus> ss;
    for (std::size_t i = from; i < to; ++i) {
      const Mutation& m = r.mutants[i].mutation;
      ds.push_back(mutated(designs[m.design], m, fmt::format("m{:04}", i)));
      ss.push_back(stimuli[m.design]);
    }
    try {
      const std::vector<VerifyResult> v = verify(ds, ss, o, cancel);
      for (std::size_t i = from; i < to; ++i) {
        const VerifyResult &x = v[i - from], &y = original[r.mutants[i].mutation.design];
        if (!x.ok) {
          r.mutants[i].fate = Fate::caught;
          r.mutants[i].how = x.fault.empty() ? "a word differs" : x.fault;
        } else if (x.interval != y.interval || x.latency != y.latency) {
          r.mutants[i].fate = Fate::slower;
          r.mutants[i].how = fmt::format("{} cycles a frame instead of {}, latency {} instead of {}", x.interval, y.interval, x.latency, y.latency);
        }
      }
    } catch (const Error& e) {
      if (e.code() == Exit::interrupted || e.code() == Exit::tool_missing) throw;
      if (to - from == 1) {
        const bool refused = e.code() == Exit::bad_input;
        r.mutants[from].fate = refused ? Fate::invalid : Fate::caught;
        r.mutants[from].how = refused ? e.message() : "the simulation does not settle or end";
        return;
      }
      const std::size_t middle = (from + to) / 2;
      self(self, from, middle);
      self(self, middle, to);
    }
  };
  const std::size_t step = static_cast<std::size_t>(std::max<I>(1, params.per_model));
  for (std::size_t i = 0; i < r.mutants.size(); i += step) judge_some(judge_some, i, std::min(r.mutants.size(), i + step));

  const auto seconds = [&] { return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count(); };
  const auto of_fate = [&](Fate f) { return std::count_if(r.mutants.begin(), r.mutants.end(), [&](const Mutant& m) { return m.fate == f; }); };
  if (params.say) params.say(fmt::format("{:.0f} s: {} of {} caught, {} slower, {} to be proven", seconds(), of_fate(Fate::caught), r.mutants.size(), of_fate(Fate::slower), of_fate(Fate::survived)));
  // As the self-test does: each layer alone over its whole range.
  std::vector<rtl::Design> parts;
  std::vector<Stimulus> words;
  std::vector<std::size_t> of;
  for (std::size_t i = 0; i < r.mutants.size(); ++i) {
    const Mutation& m = r.mutants[i].mutation;
    if (r.mutants[i].fate != Fate::survived && r.mutants[i].fate != Fate::slower) continue;
    for (Alone& a : alone(mutated(designs[m.design], m, fmt::format("m{:04}", i)), graphs[m.design], programs[m.design], fmt::format("a{:04}", i), params.seed)) {
      if (a.layer != designs[m.design].stages[static_cast<std::size_t>(m.stage)].layer) continue;
      parts.push_back(std::move(a.design));
      words.push_back(std::move(a.stimulus));
      of.push_back(i);
    }
  }
  const std::vector<VerifyResult> by_layer = verify(parts, words, o, cancel);
  for (std::size_t k = 0; k < of.size(); ++k)
    if (!by_layer[k].ok) r.mutants[of[k]].fate = Fate::caught, r.mutants[of[k]].how = "its layer alone: " + by_layer[k].text();
  if (params.say) params.say(fmt::format("{:.0f} s: {} caught with the layers alone, {} to be proven", seconds(), of_fate(Fate::caught), of_fate(Fate::survived)));
  if (params.prove && tool::try_find("yosys"))
    for (Mutant& m : r.mutants) {
      if (m.fate != Fate::survived) continue;
      const rtl::Design& d = designs[m.mutation.design];
      const rtl::Design x = mutated(d, m.mutation, "gate");
      tool::WorkFolder work;
      for (const rtl::File& f : d.files) work.put(f.name, f.text);
      const std::string gold = d.modules[static_cast<std::size_t>(m.mutation.stage)], gate = x.modules[static_cast<std::size_t>(m.mutation.stage)];
      for (const rtl::File& f : x.files)
        if (f.name == gate + ".v") work.put(f.name, f.text);
      const std::vector<std::string> sources{gold + ".v", gate + ".v"};
      const auto never = [&](const std::string& top, const std::string& text) {
        work.put(top + ".v", text);
        return tool::prove_for_ever(work, {sources[0], sources[1], top + ".v"}, top, "bad", params.proof_seconds, cancel);
      };
      // First by their registers; what has another width has another name.
      std::string changed = replaced(work.get(gate + ".v"), gate, "gate");
      if (m.mutation.kind == FaultClass::width)
        for (const std::string& n : declared(m.mutation.changed)) changed = replaced(changed, n, n + "_changed");
      work.put("gold.v", replaced(work.get(gold + ".v"), gold, "gold"));
      work.put("gate.v", changed);
      work.put("alone.v", miter_of(d, graphs[m.mutation.design], m.mutation.stage, "dut", ""));
      if (tool::prove_same(work, "gold", "gate", "alone", params.proof_seconds, cancel).verdict == tool::Verdict::proven) {
        m.fate = Fate::equivalent;
        m.how = "equal for ever: their registers are";
        if (params.say) params.say(fmt::format("{:.0f} s: {}: {} -> {}: {}", seconds(), gold, m.mutation.line, m.mutation.changed, m.how));
        continue;
      }
      const tool::NeverResult p = never("miter", miter_of(d, graphs[m.mutation.design], m.mutation.stage, gold, gate));
      if (p.verdict == tool::Verdict::proven) {
        m.fate = Fate::equivalent;
        m.how = "equal for ever, whatever comes in";
      } else if (p.verdict == tool::Verdict::refuted) {
        const tool::NeverResult q = never("pace", pace_miter_of(d, graphs[m.mutation.design], m.mutation.stage, gold, gate));
        m.how = fmt::format("the module alone differs in cycle {}", p.steps);
        if (q.verdict == tool::Verdict::proven) {
          m.fate = Fate::slower;
          m.how = fmt::format("the same words at another pace, whatever the first {} beats are", kPaceBeats);
        } else if (q.verdict == tool::Verdict::refuted) {
          m.how += fmt::format(", its words in cycle {}", q.steps);
        }
      } else {
        m.how = "no proof within the time";
      }
      if (params.say) params.say(fmt::format("{:.0f} s: {}: {} -> {}: {}", seconds(), gold, m.mutation.line, m.mutation.changed, m.how));
    }
  for (const Mutant& m : r.mutants)
    if (m.fate == Fate::invalid) r.refused.push_back(fmt::format("{}: {} -> {}: {}", m.stage, m.mutation.line, m.mutation.changed, m.how));
  std::erase_if(r.mutants, [&](const Mutant& m) { return m.fate == Fate::invalid && ++r.invalid; });
  for (const Mutant& m : r.mutants) {
    r.caught += m.fate == Fate::caught;
    r.equivalent += m.fate == Fate::equivalent;
    r.slower += m.fate == Fate::slower;
    r.survived += m.fate == Fate::survived;
    ++r.by_stage[m.stage];
    ++r.by_class[std::string(name_of(m.mutation.kind))];
  }
  r.seconds = seconds();
  return r;
}

}  // namespace tandem::proof
