#include "tandem/rtl/generate.h"

#include <algorithm>
#include <map>

#include "tandem/base/hash.h"

namespace tandem::rtl {
namespace {
using plan::Layer;
using plan::StageGraph;
using plan::StageKind;
using plan::StageShape;
using I = std::int64_t;

// ---- text ---------------------------------------------------------------------------------------
// @NAME@ in a template is replaced by its value.
class Fill {
 public:
  Fill& set(std::string key, std::string v) { m_[std::move(key)] = std::move(v); return *this; }
  Fill& set(std::string key, I v) { return set(std::move(key), std::to_string(v)); }
  std::string operator()(std::string_view t) const {
    std::string r;
    for (std::size_t i = 0; i < t.size();) {
      std::size_t b = i + 1;
      if (t[i] == '@')
        while (b < t.size() && ((t[b] >= 'A' && t[b] <= 'Z') || (t[b] >= '0' && t[b] <= '9'))) ++b;
      if (t[i] != '@' || b == i + 1 || b >= t.size() || t[b] != '@') {  // also Verilog's own "@("
        r += t[i++];
        continue;
      }
      const auto it = m_.find(std::string(t.substr(i + 1, b - i - 1)));
      TANDEM_CHECK(it != m_.end(), "template key '{}' has no value", t.substr(i + 1, b - i - 1));
      r += it->second;
      i = b + 1;
    }
    return r;
  }

 private:
  std::map<std::string, std::string> m_;
};

std::string num(int width, I v) {  // sized constant, two's complement
  const std::uint64_t u = static_cast<std::uint64_t>(v) & (width >= 64 ? ~0ull : (1ull << width) - 1);
  return width <= 31 && v >= 0 ? fmt::format("{}'d{}", width, u) : fmt::format("{}'h{:x}", width, u);
}

// A word of packed fields, written as hexadecimal digits.
class Word {
 public:
  void add(I v, int bits) { for (int i = 0; i < bits; ++i) b_.push_back((static_cast<std::uint64_t>(v) >> std::min(i, 63)) & 1); }
  std::string hex() const {
    std::string r;
    for (std::size_t i = (b_.size() + 3) / 4; i-- > 0;) {
      int d = 0;
      for (std::size_t j = 0; j < 4; ++j)
        if (i * 4 + j < b_.size() && b_[i * 4 + j]) d |= 1 << j;
      r += "0123456789abcdef"[d];
    }
    return r;
  }
  std::size_t bits() const { return b_.size(); }

 private:
  std::vector<bool> b_;
};

int counter_bits(I n) { return plan::bits_for(n); }

// slice of lane i
std::string lane(std::string_view name, I i, int bits, I lanes) {
  if (lanes == 1) return std::string(name);
  if (bits == 1) return fmt::format("{}[{}]", name, i);
  return fmt::format("{}[{}:{}]", name, i * bits + bits - 1, i * bits);
}
// sign- or zero-extension of an expression that is a plain name or part select
std::string extend(const std::string& wire, int from, bool is_signed, int to) {
  if (from >= to) return wire;
  if (!is_signed) return fmt::format("{{{}'d0, {}}}", to - from, wire);
  return fmt::format("{{{{{}{{{}[{}]}}}}, {}}}", to - from, wire, from - 1, wire);
}

struct Module {
  std::string body;               // from "module" to "endmodule"
  std::vector<File> memories;
};

// ---- the emitter --------------------------------------------------------------------------------
class Emitter {
 public:
  Emitter(const StageGraph& g, const StageShape& s, std::string name, plan::Family family) : g_(g), s_(s), name_(std::move(name)), family_(family) {
    f_.set("NAME", name_)
        .set("IW", s.lanes_in * s.bits_in)
        .set("IH", s.lanes_in * s.bits_in - 1)
        .set("OH", s.lanes_out * s.bits_out - 1);
  }

  Module emit() {
    switch (s_.kind) {
      case StageKind::pad: pad(); break;
      case StageKind::window: window(); break;
      case StageKind::replay: replay(); break;
      case StageKind::mvau:
      case StageKind::depthwise: multiply(); break;
      case StageKind::pool: pool(); break;
      case StageKind::threshold: s_.serial ? threshold_serial() : threshold_pipeline(); break;
      case StageKind::affine:
      case StageKind::add: affine(); break;
      case StageKind::fork: fork(); break;
      case StageKind::fifo: fifo(); break;
      case StageKind::skid: skid(); break;
      case StageKind::convert: s_.lanes_in > s_.lanes_out ? narrower() : wider(); break;
      case StageKind::argmax: argmax(); break;
      case StageKind::rescale: s_.serial ? rescale_serial() : rescale_pipeline(); break;
    }
    m_.body += "endmodule\n";
    drop_unread();
    return std::move(m_);
  }

 private:
  const StageGraph& g_;
  const StageShape& s_;
  std::string name_;
  plan::Family family_;
  Fill f_;
  Module m_;

  const Layer& layer() const { return g_.layers[static_cast<std::size_t>(s_.layer)]; }
  void put(std::string_view t) { m_.body += f_(t); }
  template <class... A>
  void line(fmt::format_string<A...> f, A&&... a) { m_.body += "  " + fmt::format(f, std::forward<A>(a)...) + "\n"; }

  // Removes one-line wires that nothing reads: which of a counter's flags are needed depends on the shape.
  void drop_unread() {
    auto word = [](char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_'; };
    for (bool again = true; again;) {
      again = false;
      std::map<std::string, int, std::less<>> seen;
      const std::string_view b = m_.body;
      for (std::size_t i = 0; i < b.size();) {
        std::size_t e = i;
        while (e < b.size() && word(b[e])) ++e;
        if (e > i) ++seen[std::string(b.substr(i, e - i))];
        i = e + (e == i);
      }
      std::string kept;
      for (std::size_t i = 0; i < b.size();) {
        const std::size_t e = b.find('\n', i) + 1;
        const std::string_view text = b.substr(i, e - i);
        i = e;
        const std::size_t eq = text.find(" = ");
        if (text.starts_with("  wire ") && eq != std::string_view::npos) {
          const std::size_t from = text.rfind(' ', eq - 1) + 1;
          const std::string_view name = text.substr(from, eq - from);
          if (seen.find(name)->second == 1 && !name.ends_with("unused")) {
            again = true;
            continue;
          }
        }
        kept += text;
      }
      m_.body = std::move(kept);
    }
  }

  static std::string range(I width) { return width == 1 ? "[0:0]" : fmt::format("[{}:0]", width - 1); }

  void head(std::string_view comment, bool two_inputs = false) {
    m_.body += fmt::format("// {}\n", comment);
    put("module @NAME@ (\n  input  wire clk,\n  input  wire rst_n,\n");
    if (two_inputs) {
      put("  input  wire [@IH@:0] s0_tdata,\n  input  wire s0_tvalid,\n  output wire s0_tready,\n");
      if (s_.last_in) put("  input  wire s0_tlast,\n");
      put("  input  wire [@IH1@:0] s1_tdata,\n  input  wire s1_tvalid,\n  output wire s1_tready,\n");
    } else {
      put("  input  wire [@IH@:0] s_tdata,\n  input  wire s_tvalid,\n  output wire s_tready,\n");
      if (s_.last_in) put("  input  wire s_tlast,\n");
    }
    for (int p = 0; p < s_.ports_out; ++p) {
      const std::string m = s_.ports_out == 1 ? "m" : fmt::format("m{}", p);
      m_.body += fmt::format("  output wire [{}:0] {}_tdata,\n  output wire {}_tvalid,\n  input  wire {}_tready",
                             s_.lanes_out * s_.bits_out - 1, m, m, m);
      if (s_.last_out) m_.body += fmt::format(",\n  output wire {}_tlast", m);
      m_.body += p + 1 < s_.ports_out ? ",\n" : "\n";
    }
    m_.body += ");\n";
  }

  std::string_view block(I depth, I width, plan::Memory kind) const {
    if (s_.logic && kind == plan::Memory::constants) return "(* rom_style = \"logic\" *) ";
    if (plan::brams(family_, depth, width, kind) == 0) {
      if (family_ == plan::Family::ice40) return "";
      return kind == plan::Memory::constants ? "(* rom_style = \"logic\" *) " : "(* ram_style = \"distributed\" *) ";
    }
    return kind == plan::Memory::constants ? "(* rom_style = \"block\" *) " : "(* ram_style = \"block\" *) ";
  }
  // A memory that yosys maps to block RAM: synchronous read under `enable`.
  void memory(std::string_view suffix, const std::vector<Word>& words, int width, std::string_view q,
              std::string_view enable, std::string_view address) {
    const std::string file = fmt::format("{}{}.hex", name_, suffix);
    std::string text;
    for (const Word& w : words) text += w.hex() + "\n";
    m_.memories.push_back({file, std::move(text)});
    line("{}reg {} mem{} [0:{}];", block(static_cast<I>(words.size()), width, plan::Memory::constants), range(width), suffix, words.size() - 1);
    line("initial $readmemh(\"{}\", mem{});", file, suffix);
    line("reg {} {};", range(width), q);
    line("always @(posedge clk) if ({}) {} <= mem{}[{}];", enable, q, suffix, address);
  }

  // ---- plumbing -----------------------------------------------------------------------------------
  int payload() const { return static_cast<int>(s_.lanes_in * s_.bits_in) + (s_.last_in ? 1 : 0); }
  std::string packed_in() const { return s_.last_in ? "{s_tlast, s_tdata}" : "s_tdata"; }
  void unpack(std::string_view reg, std::string_view port = "m") {
    if (s_.last_in) line("assign {{{}_tlast, {}_tdata}} = {};", port, port, reg);
    else line("assign {}_tdata = {};", port, reg);
  }

  void skid() {
    head("two-entry buffer: registered ready, full throughput");
    f_.set("PH", payload() - 1).set("IN", packed_in());
    put(R"(  reg [@PH@:0] out_q, held_q;
  reg out_v, held_v;
  assign s_tready = ~held_v;
  assign m_tvalid = out_v;
)");
    unpack("out_q");
    put(R"(  wire take = ~out_v | m_tready;
  always @(posedge clk) begin
    if (~rst_n) begin
      out_v <= 1'b0;
      held_v <= 1'b0;
    end else begin
      if (take) begin
        out_v <= held_v | s_tvalid;
        held_v <= 1'b0;
      end else if (s_tvalid & s_tready) begin
        held_v <= 1'b1;
      end
    end
    if (take) out_q <= held_v ? held_q : @IN@;
    if (~held_v) held_q <= @IN@;
  end
)");
  }

  void fifo() {
    head(fmt::format("queue of {} beats", s_.depth));
    const int a = counter_bits(s_.depth);
    f_.set("PH", payload() - 1).set("IN", packed_in()).set("AH", a - 1).set("DH", s_.depth - 1).set("CH", a)
        .set("ONE", num(a, 1)).set("ZERO", num(a, 0)).set("CONE", num(a + 1, 1)).set("CZERO", num(a + 1, 0)).set("FULL", num(a + 1, s_.depth));
    f_.set("RAM", std::string(block(s_.depth, payload(), plan::Memory::writable)));
    put(R"(  @RAM@reg [@PH@:0] mem [0:@DH@];
  reg [@PH@:0] out_q;
  reg [@AH@:0] wr, rd;
  reg [@CH@:0] held;
  reg out_v;
  wire put = s_tvalid & s_tready;
  wire get = (held != @CZERO@) & (~out_v | m_tready);
  assign s_tready = held != @FULL@;
  assign m_tvalid = out_v;
)");
    unpack("out_q");
    put(R"(  always @(posedge clk) begin
    if (put) mem[wr] <= @IN@;
    if (get) out_q <= mem[rd];
  end
  always @(posedge clk) begin
    if (~rst_n) begin
      wr <= @ZERO@;
      rd <= @ZERO@;
      held <= @CZERO@;
      out_v <= 1'b0;
    end else begin
      if (put) wr <= wr + @ONE@;
      if (get) rd <= rd + @ONE@;
      if (put & ~get) held <= held + @CONE@;
      else if (get & ~put) held <= held - @CONE@;
      out_v <= get | (out_v & ~m_tready);
    end
  end
)");
  }

  void fork() {
    head("copies a stream");
    const int n = s_.ports_out;
    std::string all;
    line("reg [{}:0] done;", n - 1);
    for (int p = 0; p < n; ++p) {
      all += fmt::format("{}(done[{}] | m{}_tready)", p ? " & " : "", p, p);
      line("assign m{}_tdata = s_tdata;", p);
      line("assign m{}_tvalid = s_tvalid & ~done[{}];", p, p);
      if (s_.last_out) line("assign m{}_tlast = s_tlast;", p);
    }
    line("assign s_tready = {};", all);
    line("always @(posedge clk) begin");
    line("  if (~rst_n | (s_tvalid & s_tready)) done <= {};", num(n, 0));
    std::string ready;
    for (int p = n; p-- > 0;) ready += fmt::format("m{}_tready{}", p, p ? ", " : "");
    line("  else if (s_tvalid) done <= done | {{{}}};", ready);
    line("end");
  }

  void narrower() {
    const I n = s_.lanes_in / s_.lanes_out;
    const int out = static_cast<int>(s_.lanes_out * s_.bits_out), cb = counter_bits(n);
    head(fmt::format("{} lanes to {}", s_.lanes_in, s_.lanes_out));
    f_.set("CH", cb - 1).set("LAST", num(cb, n - 1)).set("ONE", num(cb, 1)).set("ZERO", num(cb, 0)).set("OW", out)
        .set("PAD", num(out, 0));
    put(R"(  reg [@IH@:0] held;
  reg valid;
  reg [@CH@:0] count;
  wire end_piece = count == @LAST@;
  assign s_tready = ~valid | (m_tready & end_piece);
  assign m_tvalid = valid;
  assign m_tdata = held[@OH@:0];
)");
    if (s_.last_out) put("  reg last;\n  assign m_tlast = last & end_piece;\n");
    put(R"(  always @(posedge clk) begin
    if (~rst_n) begin
      valid <= 1'b0;
      count <= @ZERO@;
    end else if (s_tready) begin
      valid <= s_tvalid;
      count <= @ZERO@;
    end else if (m_tready) begin
      count <= count + @ONE@;
    end
    if (s_tready) held <= s_tdata;
    else if (m_tready) held <= {@PAD@, held[@IH@:@OW@]};
)");
    if (s_.last_out) put("    if (s_tready) last <= s_tlast;\n");
    put("  end\n");
  }

  void wider() {
    const I n = s_.lanes_out / s_.lanes_in;
    const int cb = counter_bits(n);
    head(fmt::format("{} lanes to {}", s_.lanes_in, s_.lanes_out));
    f_.set("CH", cb - 1).set("LAST", num(cb, n - 1)).set("ONE", num(cb, 1)).set("ZERO", num(cb, 0));
    put(R"(  reg [@OH@:0] held;
  reg valid;
  reg [@CH@:0] count;
  assign s_tready = ~valid | m_tready;
  assign m_tvalid = valid;
  assign m_tdata = held;
)");
    if (s_.last_out) put("  reg last;\n  assign m_tlast = last;\n");
    put(R"(  always @(posedge clk) begin
    if (~rst_n) begin
      valid <= 1'b0;
      count <= @ZERO@;
    end else if (s_tready) begin
      valid <= s_tvalid & (count == @LAST@);
      if (s_tvalid) count <= count == @LAST@ ? @ZERO@ : count + @ONE@;
    end
    if (s_tready & s_tvalid) held <= {s_tdata, held[@OH@:@IW@]};
)");
    if (s_.last_out) put("    if (s_tready & s_tvalid) last <= s_tlast;\n");
    put("  end\n");
  }

  // ---- windows ------------------------------------------------------------------------------------
  // A counter 0..n-1 that steps when `step` is true; `name`_end tells the last value. n = 1: no register.
  void counter(std::string_view name, I n, std::string_view step) {
    if (n == 1) {
      line("wire {}_end = 1'b1;", name);
      return;
    }
    const int b = counter_bits(n);
    line("reg {} {};", range(b), name);
    line("wire {}_end = {} == {};", name, name, num(b, n - 1));
    line("always @(posedge clk)");
    line("  if (~rst_n) {} <= {};", name, num(b, 0));
    line("  else if ({}) {} <= {}_end ? {} : {} + {};", step, name, name, num(b, 0), name, num(b, 1));
  }

  void pad() {
    const Layer& l = layer();
    head(fmt::format("padding: {} x {} to {} x {}", s_.h, s_.w, s_.oh, s_.ow));
    line("wire step = m_tvalid & m_tready;");
    counter("part", s_.c / s_.lanes_in, "step");
    counter("x", s_.ow, "step & part_end");
    counter("y", s_.oh, "step & part_end & x_end");
    const int xb = counter_bits(s_.ow), yb = counter_bits(s_.oh);
    auto within = [](std::string_view n, int b, I from, I count, I whole) {
      std::string r;
      if (from > 0) r += fmt::format("({} >= {})", n, num(b, from));
      if (from + count < whole) r += fmt::format("{}({} < {})", r.empty() ? "" : " & ", n, num(b, from + count));
      return r.empty() ? std::string("1'b1") : r;
    };
    line("wire interior = {} & {};", within("y", yb, s_.kh, s_.h, s_.oh), within("x", xb, s_.kw, s_.w, s_.ow));
    line("assign m_tvalid = ~interior | s_tvalid;");
    line("assign s_tready = interior & m_tready;");
    std::string in, out;
    for (I i = s_.lanes_in; i-- > 0;) {
      in += extend(lane("s_tdata", i, s_.bits_in, s_.lanes_in), s_.bits_in, s_.signed_in, s_.bits_out) + (i ? ", " : "");
      out += num(s_.bits_out, l.window->pad_value) + (i ? ", " : "");
    }
    line("assign m_tdata = interior ? {{{}}} : {{{}}};", in, out);
  }

  // sum of a place and a constant, modulo the memory
  void wrap_add(std::string_view name, const std::string& a, const std::string& b, int bits, I depth) {
    line("wire {} {}_sum = {{1'b0, {}}} + {{1'b0, {}}};", range(bits + 1), name, a, b);
    if (depth == (I(1) << bits)) {
      line("wire {} {} = {}_sum[{}:0];", range(bits), name, name, bits - 1);
      line("wire {}_unused = {}_sum[{}];", name, name, bits);
      return;
    }
    line("wire {} {}_less = {}_sum - {};", range(bits + 1), name, name, num(bits + 1, depth));
    line("wire {} {} = {}_less[{}] ? {}_sum[{}:0] : {}_less[{}:0];", range(bits), name, name, bits, name, bits - 1, name, bits - 1);
  }

  void window() {
    const I cb = s_.c / s_.lanes_in, row = s_.w * cb, depth = s_.rows * row;
    const I span = (s_.kh - 1) * s_.dh + 1, tail = s_.h - (s_.oh - 1) * s_.sh, need = std::max(span, s_.sh);
    const int a = counter_bits(depth), u = counter_bits(s_.rows + 1);
    head(fmt::format("sliding window: {} x {} x {}, kernel {} x {}, stride {} x {}, {} rows held", s_.h, s_.w, s_.c, s_.kh,
                     s_.kw, s_.sh, s_.sw, s_.rows));
    // writer
    line("{}reg {} mem [0:{}];", block(depth, s_.lanes_in * s_.bits_in, plan::Memory::writable), range(s_.lanes_in * s_.bits_in), depth - 1);
    line("reg {} out_q;", range(s_.lanes_in * s_.bits_in));
    line("reg {} used;  // whole rows held", range(u));
    line("wire put = s_tvalid & s_tready;");
    line("assign s_tready = used != {};", num(u, s_.rows));
    counter("column", row, "put");
    counter("wr", depth, "put");
    line("wire row_in = put & column_end;");
    // reader
    line("reg out_v;");
    line("wire en = ~out_v | m_tready;");
    const bool merged = !s_.channel_outer && s_.dw == 1;
    line("wire go;");
    line("wire step = go & en;");
    if (s_.channel_outer) {
      counter("kx", s_.kw, "step");
      counter("ky", s_.kh, "step & kx_end");
      counter("part", cb, "step & kx_end & ky_end");
      line("wire run_end = kx_end;");
      line("wire vector_end = kx_end & ky_end & part_end;");
      line("wire rep_end = 1'b1;");
    } else {
      if (merged) {
        counter("run", s_.kw * cb, "step");
      } else {
        counter("part", cb, "step");
        counter("kx", s_.kw, "step & part_end");
        line("wire run_end = part_end & kx_end;");
      }
      counter("ky", s_.kh, "step & run_end");
      line("wire vector_end = run_end & ky_end;");
      counter("rep", s_.reps, "step & vector_end");
    }
    counter("ox", s_.ow, "step & vector_end & rep_end");
    line("wire line_end = vector_end & rep_end & ox_end;");
    counter("oy", s_.oh, "step & line_end");
    const std::string many = num(u, tail), few = num(u, s_.sh);
    if (s_.oh == 1) {
      line("assign go = used >= {};", num(u, std::max(span, tail)));
      line("wire {} release_n = {};", range(u), many);
    } else {
      line("assign go = oy_end ? used >= {} : used >= {};", num(u, tail), num(u, need));
      line("wire {} release_n = oy_end ? {} : {};", range(u), many, few);
    }
    line("reg {} base, place;  // address of the window's top row, of the row being read", range(a));
    const bool shift = s_.ow > 1 || s_.kh > 1 || s_.reps > 1 || (s_.channel_outer && cb > 1);
    line("reg {} at;           // offset in the row of the next beat", range(a));
    if (shift) line("reg {} left;         // of the window", range(a));
    const std::string zero_left = shift ? fmt::format(" left <= {};", num(a, 0)) : "";
    if (s_.oh == 1) line("wire {} down = {};", range(a), num(a, tail * row % depth));
    else line("wire {} down = oy_end ? {} : {};", range(a), num(a, tail * row % depth), num(a, s_.sh * row % depth));
    wrap_add("base_next", "base", "down", a, depth);
    if (s_.kh > 1) wrap_add("place_next", "place", num(a, s_.dh * row % depth), a, depth);
    if (s_.ow > 1) line("wire {} right = left + {};", range(a), num(a, s_.sw * cb % (I(1) << a)));
    line("always @(posedge clk) begin");
    line("  if (~rst_n) begin");
    line("    base <= {0}; place <= {0}; at <= {0};{1}", num(a, 0), zero_left);
    line("  end else if (step) begin");
    line("    if (line_end) begin");
    line("      base <= base_next; place <= base_next; at <= {};{}", num(a, 0), zero_left);
    if (s_.ow > 1) {
      line("    end else if (vector_end & rep_end) begin");
      line("      place <= base; left <= right; at <= right;");
    }
    if (s_.channel_outer) {
      if (cb > 1) {
        line("    end else if (kx_end & ky_end) begin");
        line("      place <= base; at <= left + {{{}'d0, part}} + {};", a - counter_bits(cb), num(a, 1));
      }
      if (s_.kh > 1) {
        const std::string from = cb > 1 ? fmt::format("left + {{{}'d0, part}}", a - counter_bits(cb)) : "left";
        line("    end else if (kx_end) begin");
        line("      place <= place_next; at <= {};", from);
      }
      line("    end else begin");
      line("      at <= at + {};", num(a, s_.dw * cb % (I(1) << a)));
    } else {
      if (s_.reps > 1) {
        line("    end else if (vector_end) begin");
        line("      place <= base; at <= left;");
      }
      if (s_.kh > 1) {
        line("    end else if (run_end) begin");
        line("      place <= place_next; at <= left;");
      }
      if (!merged && s_.dw > 1 && s_.kw > 1) {
        line("    end else if (part_end) begin");
        line("      at <= at + {};", num(a, ((s_.dw - 1) * cb + 1) % (I(1) << a)));
      }
      line("    end else begin");
      line("      at <= at + {};", num(a, 1));
    }
    line("    end");
    line("  end");
    line("end");
    line("wire {} rd = place + at;", range(a));
    line("always @(posedge clk) begin");
    line("  if (put) mem[{}] <= s_tdata;", depth > 1 ? "wr" : "1'b0");
    line("  if (step) out_q <= mem[{}];", depth > 1 ? "rd" : "1'b0");
    line("end");
    line("always @(posedge clk) begin");
    line("  if (~rst_n) begin");
    line("    out_v <= 1'b0;");
    line("    used <= {};", num(u, 0));
    line("  end else begin");
    line("    if (en) out_v <= go;");
    line("    if (row_in & ~(step & line_end)) used <= used + {};", num(u, 1));
    line("    else if (row_in) used <= used - release_n + {};", num(u, 1));
    line("    else if (step & line_end) used <= used - release_n;");
    line("  end");
    line("end");
    line("assign m_tvalid = out_v;");
    line("assign m_tdata = out_q;");
    if (s_.last_out) {
      line("reg last;");
      line("always @(posedge clk) if (step) last <= line_end & oy_end;");
      line("assign m_tlast = last;");
    }
  }

  void replay() {
    const I sf = s_.mw / s_.simd, nf = s_.mh / s_.pe;
    const int a = counter_bits(2 * sf);
    head(fmt::format("holds two vectors of {} beats and sends each {} times", sf, nf));
    f_.set("AH", a - 1).set("ZERO", num(a, 0)).set("SF", num(a, sf)).set("ONE", num(a, 1)).set("DH", 2 * sf - 1);
    f_.set("RAM", std::string(block(2 * sf, s_.lanes_in * s_.bits_in, plan::Memory::writable)));
    put(R"(  @RAM@reg [@IH@:0] mem [0:@DH@];
  reg [@IH@:0] out_q;
  reg [1:0] held;
  reg out_v;
  wire put = s_tvalid & s_tready;
  wire en = ~out_v | m_tready;
  wire step = en & (held != 2'd0);
  assign s_tready = held != 2'd2;
  assign m_tvalid = out_v;
  assign m_tdata = out_q;
)");
    counter("wr", 2 * sf, "put");
    counter("in", sf, "put");
    counter("part", sf, "step");
    counter("rep", nf, "step & part_end");
    if (s_.last_out) counter("vector", s_.vectors, "step & part_end & rep_end");
    put(R"(  reg [@AH@:0] rd;
  reg half;
  wire vector_in = put & in_end;
  wire vector_out = step & part_end & rep_end;
  always @(posedge clk) begin
    if (put) mem[wr] <= s_tdata;
    if (step) out_q <= mem[rd];
  end
  always @(posedge clk) begin
    if (~rst_n) begin
      rd <= @ZERO@;
      half <= 1'b0;
      held <= 2'd0;
      out_v <= 1'b0;
    end else begin
      if (en) out_v <= held != 2'd0;
      if (vector_in & ~vector_out) held <= held + 2'd1;
      else if (vector_out & ~vector_in) held <= held - 2'd1;
      if (vector_out) half <= ~half;
      if (step) begin
        if (part_end) rd <= (half ^ rep_end) ? @SF@ : @ZERO@;
        else rd <= rd + @ONE@;
      end
    end
  end
)");
    if (s_.last_out) put("  reg last;\n  always @(posedge clk) if (step) last <= part_end & rep_end & vector_end;\n  assign m_tlast = last;\n");
  }

  // ---- arithmetic ---------------------------------------------------------------------------------
  void multiply() {
    const Layer& l = layer();
    const bool dw = s_.kind == StageKind::depthwise;
    const I pe = dw ? s_.lanes_in : s_.pe, simd = dw ? 1 : s_.simd;
    const I sf = dw ? s_.mw : s_.mw / s_.simd, nf = s_.mh / pe, depth = sf * nf;
    const int wb = s_.weight_bits, xb = s_.bits_in, xs = xb + (s_.signed_in ? 0 : 1), acc = s_.bits_out;
    const int pb = std::min(xs + wb, acc), width = static_cast<int>(pe * simd) * wb;
    head(dw ? fmt::format("depthwise: {} channels, {} taps, {} at once", s_.mh, s_.mw, pe)
            : fmt::format("matrix-vector unit: {} x {}, PE {}, SIMD {}", s_.mh, s_.mw, pe, simd));
    auto stored = [&](I w) { return s_.bipolar ? I(w > 0) : w; };
    // weights: word (nf, sf) holds PE rows of SIMD columns, row 0 and column 0 in the low bits
    std::vector<Word> words(static_cast<std::size_t>(depth));
    for (I n = 0; n < nf; ++n)
      for (I f = 0; f < sf; ++f)
        for (I p = 0; p < pe; ++p)
          for (I i = 0; i < simd; ++i)
            words[static_cast<std::size_t>(n * sf + f)].add(stored(l.weights[static_cast<std::size_t>((n * pe + p) * s_.mw + f * simd + i)]), wb);
    line("reg out_v;");
    line("wire en = ~out_v | m_tready;");
    line("wire fire = s_tvalid & en;");
    line("assign s_tready = en;");
    counter("fold", sf, "fire");
    if (depth > 1) {
      counter("addr", depth, "fire");
      memory("", words, width, "w1", "en", "addr");
    } else {
      line("wire {} w1 = {}'h{};", range(width), width, words[0].hex());
    }
    // flags that travel beside the data: valid, first and last of a vector, TLAST
    int t = 0;
    for (I n = simd; n > 1; n = (n + 1) / 2) ++t;
    const int stages = 2 + t;  // x1, product, tree levels
    const bool folded = sf > 1;
    line("reg {} x1;", range(s_.lanes_in * xb));
    line("always @(posedge clk) if (en) x1 <= s_tdata;");
    line("reg {} v;", range(stages));
    line("always @(posedge clk) if (~rst_n) v <= {}; else if (en) v <= {{v[{}:0], fire}};", num(stages, 0), stages - 2);
    if (folded) {
      line("wire fold_begin = fold == {};", num(counter_bits(sf), 0));
      line("reg {} first, last;", range(stages));
      line("always @(posedge clk) if (en) begin first <= {{first[{0}:0], fold_begin}}; last <= {{last[{0}:0], fold_end}}; end", stages - 2);
    }
    if (s_.last_in) {
      line("reg {} frame;", range(stages));
      line("always @(posedge clk) if (en) frame <= {{frame[{}:0], s_tlast}};", stages - 2);
    }
    std::vector<std::string> sums;
    for (I p = 0; p < pe; ++p) {
      std::vector<std::string> terms;
      for (I i = 0; i < simd; ++i) {
        const I xl = dw ? p : i, wl = p * simd + i;
        const std::string id = fmt::format("{}_{}", p, i);
        std::string xw = lane("x1", xl, xb, s_.lanes_in), ww = lane("w1", wl, wb, pe * simd);
        line("wire {} a_{} = {};", range(xb), id, xw);
        line("wire {} b_{} = {};", range(wb), id, ww);
        line("wire signed {} ae_{} = {};", range(pb), id, extend("a_" + id, xb, s_.signed_in, pb));
        line("reg signed {} p_{};", range(pb), id);
        if (s_.bipolar) {  // +1 is stored as 1, -1 as 0
          line("always @(posedge clk) if (en) p_{0} <= b_{0} ? ae_{0} : -ae_{0};", id);
        } else {
          line("wire signed {} be_{} = {};", range(pb), id, extend("b_" + id, wb, true, pb));
          line("always @(posedge clk) if (en) p_{0} <= ae_{0} * be_{0};", id);
        }
        terms.push_back("p_" + id);
      }
      int bits = pb;
      for (int level = 1; terms.size() > 1; ++level) {
        const int next = std::min(bits + 1, acc);
        std::vector<std::string> up;
        for (std::size_t i = 0; i < terms.size(); i += 2) {
          const std::string id = fmt::format("t{}_{}_{}", level, p, i / 2);
          line("reg signed {} {};", range(next), id);
          if (i + 1 < terms.size())
            line("always @(posedge clk) if (en) {} <= {} + {};", id, extend(terms[i], bits, true, next), extend(terms[i + 1], bits, true, next));
          else
            line("always @(posedge clk) if (en) {} <= {};", id, extend(terms[i], bits, true, next));
          up.push_back(id);
        }
        terms = std::move(up);
        bits = next;
      }
      const std::string sum = extend(terms[0], bits, true, acc);
      line("reg signed {} acc_{};", range(acc), p);
      if (folded)
        line("always @(posedge clk) if (en & v[{0}]) acc_{1} <= (first[{0}] ? {2} : acc_{1}) + {3};", stages - 1, p, num(acc, 0), sum);
      else
        line("always @(posedge clk) if (en & v[{}]) acc_{} <= {};", stages - 1, p, sum);
      sums.push_back(fmt::format("acc_{}", p));
    }
    line("always @(posedge clk) if (~rst_n) out_v <= 1'b0; else if (en) out_v <= v[{}]{};", stages - 1,
         folded ? fmt::format(" & last[{}]", stages - 1) : "");
    line("assign m_tvalid = out_v;");
    std::string all;
    for (std::size_t i = sums.size(); i-- > 0;) all += sums[i] + (i ? ", " : "");
    line("assign m_tdata = {{{}}};", all);
    if (s_.last_out) {
      line("reg frame_q;");
      line("always @(posedge clk) if (en) frame_q <= frame[{}];", stages - 1);
      line("assign m_tlast = frame_q;");
    }
  }

  void pool() {
    const Layer& l = layer();
    const I taps = s_.mw, cb = s_.mh / s_.lanes_in;
    const bool sum = l.pool == ir::IntPool::sum, mixed = !l.min_channel.empty();
    head(fmt::format("{} of {} taps, {} channels", sum ? "sum" : l.pool == ir::IntPool::min ? "minimum" : "maximum", taps, s_.mh));
    line("reg out_v;");
    line("wire en = ~out_v | m_tready;");
    line("wire fire = s_tvalid & en;");
    line("assign s_tready = en;");
    counter("tap", taps, "fire");
    if (taps > 1) line("wire tap_begin = tap == {};", num(counter_bits(taps), 0));
    else line("wire tap_begin = 1'b1;");
    if (mixed) counter("part", cb, "fire & tap_end");
    std::string all;
    const std::string_view sg = s_.signed_in ? "signed " : "";
    for (I i = 0; i < s_.lanes_in; ++i) {
      const std::string x = fmt::format("x_{}", i), a = fmt::format("acc_{}", i);
      line("wire {}{} raw_{} = {};", sg, range(s_.bits_in), i, lane("s_tdata", i, s_.bits_in, s_.lanes_in));
      std::string out = a;
      if (mixed) {  // the minimum is the complement of the maximum of complements
        Word w;
        for (I c = 0; c < cb; ++c) w.add(l.min_channel[static_cast<std::size_t>(c * s_.lanes_in + i)], 1);
        line("localparam {} LEAST_{} = {}'h{};", range(cb), i, cb, w.hex());
        line("wire inv_{0} = LEAST_{0}[{1}];", i, cb > 1 ? "part" : "0");
        line("wire {}{} {} = inv_{} ? ~raw_{} : raw_{};", sg, range(s_.bits_in), x, i, i, i);
        line("reg inv_q_{};", i);
        line("always @(posedge clk) if (fire) inv_q_{0} <= inv_{0};", i);
        out = fmt::format("(inv_q_{} ? ~{} : {})", i, a, a);
      } else {
        line("wire {}{} {} = raw_{};", sg, range(s_.bits_in), x, i);
      }
      line("reg {}{} {};", sg, range(s_.bits_out), a);
      if (sum)
        line("always @(posedge clk) if (fire) {0} <= (tap_begin ? {1} : {0}) + {2};", a, num(s_.bits_out, 0), extend(x, s_.bits_in, s_.signed_in, s_.bits_out));
      else
        line("always @(posedge clk) if (fire & (tap_begin | ({0} {1} {2}))) {2} <= {0};", x, l.pool == ir::IntPool::min ? "<" : ">", a);
      all = out + (i ? ", " : "") + all;
    }
    line("always @(posedge clk) if (~rst_n) out_v <= 1'b0; else if (en) out_v <= fire & tap_end;");
    line("assign m_tvalid = out_v;");
    line("assign m_tdata = {{{}}};", all);
    last_register("fire");
  }

  // TLAST of a stage with one register.
  void last_register(std::string_view enable) {
    if (!s_.last_out) return;
    line("reg frame_q;");
    line("always @(posedge clk) if ({}) frame_q <= s_tlast;", enable);
    line("assign m_tlast = frame_q;");
  }

  // Steps of one channel as the search wants them: entry c holds the step into code c; flipped channels
  // count downwards.
  struct Table {
    std::vector<I> step;  // [2^bits]
    bool flip = false;
  };
  Table table_of(I channel) const {
    const Layer& l = layer();
    const ir::Thresholds& t = l.tables[l.tables.size() == 1 ? 0 : static_cast<std::size_t>(channel)];
    const I never = g_.values_of(l.in[0]).hi + 1;
    Table r;
    r.flip = t.flip;
    r.step.assign(std::size_t(1) << l.level_bits, never);
    r.step[0] = 0;
    const std::size_t n = t.t.size();
    for (std::size_t c = 1; c <= n; ++c)
      r.step[c] = static_cast<I>(t.flip ? 1 - t.t[n - c] : t.t[c - 1]);
    return r;
  }
  bool any_flip() const {
    const Layer& l = layer();
    return std::any_of(l.tables.begin(), l.tables.end(), [](const ir::Thresholds& t) { return t.flip; });
  }
  // The value of a level from its code (and its flip bit).
  void level(const std::string& code, const std::string& flip, const std::string& out) {
    const Layer& l = layer();
    const int b = l.level_bits, ob = s_.bits_out;
    const I n = static_cast<I>(l.levels.size());
    std::string c = code;
    if (!flip.empty()) {
      line("wire {} {}_up = {} ? {} - {} : {};", range(b), out, flip, num(b, n - 1), code, code);
      c = out + "_up";
    }
    bool consecutive = true;
    for (I i = 1; i < n; ++i) consecutive = consecutive && l.levels[static_cast<std::size_t>(i)] == l.levels[0] + i;
    if (n == 1) {
      line("wire {} {} = {};", range(ob), out, num(ob, l.levels[0]));
      line("wire {}_unused = &{};", out, c);
    } else if (consecutive && l.levels[0] == 0) {
      line("wire {} {} = {};", range(ob), out, extend(c, b, false, ob));
    } else if (consecutive) {
      line("wire {} {} = {} + {};", range(ob), out, extend(c, b, false, ob), num(ob, l.levels[0]));
    } else if (n == 2) {
      line("wire {} {} = {} ? {} : {};", range(ob), out, c, num(ob, l.levels[1]), num(ob, l.levels[0]));
    } else {
      line("reg {} {};", range(ob), out);
      line("always @* case ({})", c);
      for (I i = 0; i + 1 < n; ++i) line("  {}: {} = {};", num(b, i), out, num(ob, l.levels[static_cast<std::size_t>(i)]));
      line("  default: {} = {};", out, num(ob, l.levels.back()));
      line("endcase");
    }
  }

  void threshold_serial() {
    const Layer& l = layer();
    const int b = l.level_bits, xb = s_.bits_in, eb = l.entry_bits;
    const bool flip = any_flip();
    const I g = s_.tables == 1 ? 1 : s_.tables / s_.lanes_in;
    const int gb = counter_bits(g);
    head(fmt::format("thresholds: {} levels, {} tables, one step a cycle", l.levels.size(), s_.tables));
    line("reg out_v, busy;");
    line("reg {} mark;  // the bit of the code being decided", range(b));
    line("wire take = s_tvalid & s_tready;");
    line("wire finish = busy & mark[0] & (~out_v | m_tready);");
    line("assign s_tready = ~busy | finish;");
    line("wire read = take{};", b > 1 ? " | (busy & ~mark[0])" : "");
    if (g > 1) {
      counter("part", g, "take");
      line("reg {} part_q;", range(gb));
      line("always @(posedge clk) if (take) part_q <= part;");
      if (b > 1) line("wire {} row = take ? part : part_q;", range(gb));
      else line("wire {} row = part;", range(gb));
      if (b == 1) line("wire part_unused = &part_q;");
    }
    line("reg {} x;", range(s_.lanes_in * xb));
    line("always @(posedge clk) if (take) x <= s_tdata;");
    line("always @(posedge clk)");
    line("  if (~rst_n) begin");
    line("    busy <= 1'b0;");
    line("    out_v <= 1'b0;");
    line("  end else begin");
    line("    busy <= take | (busy & ~finish);");
    line("    out_v <= finish | (out_v & ~m_tready);");
    line("  end");
    if (b > 1) line("always @(posedge clk) if (take) mark <= {}; else if (busy & ~mark[0]) mark <= {{1'b0, mark[{}:1]}};", num(b, I(1) << (b - 1)), b - 1);
    else line("always @(posedge clk) mark <= 1'b1;");
    std::string all;
    for (I i = 0; i < s_.lanes_in; ++i) {
      std::vector<Word> words;
      for (I p = 0; p < g; ++p) {
        const Table t = table_of(p * s_.lanes_in + i);
        for (I v : t.step) {
          words.emplace_back();
          words.back().add(v, eb);
          if (flip) words.back().add(t.flip, 1);
        }
      }
      line("reg {} code_{};", range(b), i);
      line("wire {} found_{};", range(b), i);
      if (b > 1) line("wire {} next_{} = take ? {} : (found_{} | {{1'b0, mark[{}:1]}});", range(b), i, num(b, I(1) << (b - 1)), i, b - 1);
      else line("wire {} next_{} = 1'b1;", range(b), i);
      memory(fmt::format("_{}", i), words, eb + (flip ? 1 : 0), fmt::format("e_{}", i), "read",
             g > 1 ? fmt::format("{{row, next_{}}}", i) : fmt::format("next_{}", i));
      line("wire {} x_{} = {};", range(xb), i, lane("x", i, xb, s_.lanes_in));
      line("wire signed {} xe_{} = {};", range(eb), i, extend(fmt::format("x_{}", i), xb, s_.signed_in, eb));
      line("wire signed {} te_{} = e_{}[{}:0];", range(eb), i, i, eb - 1);
      line("wire above_{0} = xe_{0} >= te_{0};", i);
      line("assign found_{0} = code_{0} | (above_{0} ? mark : {1});", i, num(b, 0));
      line("always @(posedge clk) if (take) code_{0} <= {1}; else if (busy) code_{0} <= mark[0] ? code_{0} : found_{0};", i, num(b, 0));
      level(fmt::format("found_{}", i), flip ? fmt::format("e_{}[{}]", i, eb) : "", fmt::format("y_{}", i));
      line("reg {} out_{};", range(s_.bits_out), i);
      line("always @(posedge clk) if (finish) out_{0} <= y_{0};", i);
      all = fmt::format("out_{}", i) + (i ? ", " : "") + all;
    }
    line("assign m_tvalid = out_v;");
    line("assign m_tdata = {{{}}};", all);
    if (s_.last_out) {
      line("reg last_x, last_q;");
      line("always @(posedge clk) begin if (take) last_x <= s_tlast; if (finish) last_q <= last_x; end");
      line("assign m_tlast = last_q;");
    }
  }

  void threshold_pipeline() {
    const Layer& l = layer();
    const int b = l.level_bits, xb = s_.bits_in, eb = l.entry_bits;
    const bool flip = any_flip();
    const I g = s_.tables == 1 ? 1 : s_.tables / s_.lanes_in;
    const int gb = counter_bits(g), word = eb + (flip ? 1 : 0);
    head(fmt::format("thresholds: {} levels, {} tables, one beat a cycle", l.levels.size(), s_.tables));
    line("reg {} v;", range(b + 1));
    line("wire en = ~v[{}] | m_tready;", b);
    line("assign s_tready = en;");
    line("always @(posedge clk) if (~rst_n) v <= {}; else if (en) v <= {{v[{}:0], s_tvalid}};", num(b + 1, 0), b - 1);
    line("assign m_tvalid = v[{}];", b);
    if (g > 1) {
      counter("part", g, "s_tvalid & en");
      for (int j = 1; j < b; ++j) {
        line("reg {} part_{};", range(gb), j);
        line("always @(posedge clk) if (en) part_{} <= {};", j, j == 1 ? "part" : fmt::format("part_{}", j - 1));
      }
    }
    for (int j = 1; j <= b; ++j) {
      line("reg {} x{};", range(s_.lanes_in * xb), j);
      line("always @(posedge clk) if (en) x{} <= {};", j, j == 1 ? "s_tdata" : fmt::format("x{}", j - 1));
    }
    if (s_.last_out) {
      line("reg {} frame;", range(b + 1));
      line("always @(posedge clk) if (en) frame <= {{frame[{}:0], s_tlast}};", b - 1);
      line("assign m_tlast = frame[{}];", b);
    }
    std::string all;
    for (I i = 0; i < s_.lanes_in; ++i) {
      std::vector<Table> tables;
      for (I p = 0; p < g; ++p) tables.push_back(table_of(p * s_.lanes_in + i));
      std::string code;  // decided so far
      for (int j = 0; j < b; ++j) {
        std::vector<Word> words;
        for (const Table& t : tables)
          for (I top = 0; top < (I(1) << j); ++top) {
            words.emplace_back();
            words.back().add(t.step[static_cast<std::size_t>((2 * top + 1) << (b - 1 - j))], eb);
            if (flip) words.back().add(t.flip, 1);
          }
        const std::string e = fmt::format("e{}_{}", j, i);
        std::string address;
        if (g > 1) address = j == 0 ? "part" : fmt::format("part_{}", j);
        if (j > 0) address = address.empty() ? code : fmt::format("{{{}, {}}}", address, code);
        if (address.empty()) line("wire {} {} = {}'h{};", range(word), e, word, words[0].hex());
        else memory(fmt::format("_{}_{}", i, j), words, word, e, "en", address);
        line("wire {} xs{}_{} = {};", range(xb), j, i, lane(fmt::format("x{}", j + 1), i, xb, s_.lanes_in));
        line("wire signed {} xe{}_{} = {};", range(eb), j, i, extend(fmt::format("xs{}_{}", j, i), xb, s_.signed_in, eb));
        line("wire signed {} te{}_{} = {}[{}:0];", range(eb), j, i, e, eb - 1);
        line("wire above{0}_{1} = xe{0}_{1} >= te{0}_{1};", j, i);
        if (flip && j + 1 < b) line("wire flip{}_{}_unused = {}[{}];", j, i, e, eb);
        const std::string now = fmt::format("c{}_{}", j, i);
        if (j == 0) line("wire [0:0] {} = above{}_{};", now, j, i);
        else line("wire {} {} = {{{}_q, above{}_{}}};", range(j + 1), now, code, j, i);
        if (j + 1 < b) {
          line("reg {} {}_q;", range(j + 1), now);
          line("always @(posedge clk) if (en) {}_q <= {};", now, now);
        }
        code = now;
      }
      level(code, flip ? fmt::format("e{}_{}[{}]", b - 1, i, eb) : "", fmt::format("y_{}", i));
      line("reg {} out_{};", range(s_.bits_out), i);
      line("always @(posedge clk) if (en) out_{0} <= y_{0};", i);
      all = fmt::format("out_{}", i) + (i ? ", " : "") + all;
    }
    line("assign m_tdata = {{{}}};", all);
  }

  // ---- requantisers as arithmetic -----------------------------------------------------------------
  // Factor and offset of each channel of lane i: {offset, factor}, in a memory read under `enable` or, for
  // a single group, constant.
  void factors(I i, I g, std::string_view enable) {
    const auto& r = *layer().rescale;
    std::vector<Word> words;
    for (I p = 0; p < g; ++p) {
      const std::size_t c = r.factor.size() == 1 ? 0 : static_cast<std::size_t>(p * s_.lanes_in + i);
      words.emplace_back();
      words.back().add(r.factor[c], r.factor_bits);
      words.back().add(r.offset[c], r.offset_bits);
    }
    const int width = r.factor_bits + r.offset_bits;
    if (g > 1) memory(fmt::format("_{}", i), words, width, fmt::format("q_{}", i), enable, "part");
    else line("wire {} q_{} = {}'h{};", range(width), i, width, words[0].hex());
  }
  // Level index of sum v_i, and the value of that level, as wire y_i.
  void level_of_sum(I i) {
    const Layer& l = layer();
    const auto& r = *l.rescale;
    const int sb = r.sum_bits, ib = sb - r.shift, b = l.level_bits;
    const I top = static_cast<I>(l.levels.size()) - 1;
    std::string index = fmt::format("i_{}", i);
    line("wire signed {} {} = v_{}[{}:{}];", range(ib), index, i, sb - 1, r.shift);
    if (r.ties) {  // exactly on a step that belongs to the code below
      const std::string low = r.shift > 0 ? fmt::format(" & ~(|v_{}[{}:0])", i, r.shift - 1) : "";
      line("wire tie_{} = {}{}[0]{};", i, r.tie_parity ? "~" : "", index, low);
      line("wire signed {} j_{} = {} - {};", range(ib), i, index, extend(fmt::format("tie_{}", i), 1, false, ib));
      index = fmt::format("j_{}", i);
    } else if (r.shift > 0) {
      line("wire low_{0}_unused = &v_{0}[{1}:0];", i, r.shift - 1);
    }
    line("wire {} code_{} = {}[{}] ? {} : ({} > {}) ? {} : {}[{}:0];", range(b), i, index, ib - 1, num(b, 0), index, signed_num(ib, top), num(b, top), index, b - 1);
    level(fmt::format("code_{}", i), "", fmt::format("y_{}", i));
  }
  static std::string signed_num(int width, I v) { return fmt::format("{}'sd{}", width, v); }

  void rescale_pipeline() {
    const auto& r = *layer().rescale;
    const int xb = s_.bits_in, fb = r.factor_bits, ob = r.offset_bits, sb = r.sum_bits;
    const I g = s_.tables == 1 ? 1 : s_.tables / s_.lanes_in;
    head(fmt::format("requantiser as arithmetic: {} levels, {} factors, one beat a cycle", s_.levels, s_.tables));
    line("reg [3:0] v;");
    line("wire en = ~v[3] | m_tready;");
    line("wire fire = s_tvalid & en;");
    line("assign s_tready = en;");
    line("always @(posedge clk) if (~rst_n) v <= 4'd0; else if (en) v <= {{v[2:0], fire}};");
    line("assign m_tvalid = v[3];");
    if (g > 1) counter("part", g, "fire");
    if (s_.last_out) {
      line("reg [3:0] frame;");
      line("always @(posedge clk) if (en) frame <= {{frame[2:0], s_tlast}};");
      line("assign m_tlast = frame[3];");
    }
    std::string all;
    for (I i = 0; i < s_.lanes_in; ++i) {
      factors(i, g, "en");
      line("reg {} x_{};", range(xb), i);
      line("always @(posedge clk) if (en) x_{} <= {};", i, lane("s_tdata", i, xb, s_.lanes_in));
      line("wire signed {} xe_{} = {};", range(sb), i, extend(fmt::format("x_{}", i), xb, s_.signed_in, sb));
      line("wire {} f_{} = q_{}[{}:0];", range(fb), i, i, fb - 1);
      line("wire signed {} fe_{} = {};", range(sb), i, extend(fmt::format("f_{}", i), fb, true, sb));
      line("wire {} o_{} = q_{}[{}:{}];", range(ob), i, i, fb + ob - 1, fb);
      line("reg signed {} p_{}, oq_{}, v_{};", range(sb), i, i, i);
      line("always @(posedge clk) if (en) begin");
      line("  p_{0} <= xe_{0} * fe_{0};", i);
      line("  oq_{} <= {};", i, extend(fmt::format("o_{}", i), ob, true, sb));
      line("  v_{0} <= p_{0} + oq_{0};", i);
      line("end");
      level_of_sum(i);
      line("reg {} out_{};", range(s_.bits_out), i);
      line("always @(posedge clk) if (en) out_{0} <= y_{0};", i);
      all = fmt::format("out_{}", i) + (i ? ", " : "") + all;
    }
    line("assign m_tdata = {{{}}};", all);
  }

  // One bit of the factor a cycle, lowest first: what is decided leaves the adder downwards. The factor's top
  // bit is its sign and subtracts; then the offset, then the level.
  void rescale_serial() {
    const auto& r = *layer().rescale;
    const int xb = s_.bits_in, fb = r.factor_bits, ob = r.offset_bits, sb = r.sum_bits;
    const int ab = xb + (s_.signed_in ? 0 : 1) + 1;  // of the adder: twice the largest |x|
    const I g = s_.tables == 1 ? 1 : s_.tables / s_.lanes_in;
    head(fmt::format("requantiser as arithmetic: {} levels, {} factors, one bit a cycle", s_.levels, s_.tables));
    line("reg out_v;");
    line("reg {} mark;  // the step: bits of the factor, the offset, the level", range(fb + 2));
    line("wire take = s_tvalid & s_tready;");
    line("wire finish = mark[{}] & (~out_v | m_tready);", fb + 1);
    line("wire idle = mark == {};", num(fb + 2, 0));
    line("assign s_tready = idle | finish;");
    if (g > 1) counter("part", g, "take");
    line("always @(posedge clk)");
    line("  if (~rst_n) begin");
    line("    mark <= {};", num(fb + 2, 0));
    line("    out_v <= 1'b0;");
    line("  end else begin");
    line("    if (take) mark <= {};", num(fb + 2, 1));
    line("    else if (finish) mark <= {};", num(fb + 2, 0));
    line("    else if (~mark[{0}]) mark <= {{mark[{1}:0], 1'b0}};", fb + 1, fb);
    line("    out_v <= finish | (out_v & ~m_tready);");
    line("  end");
    line("wire step = |mark[{}:0];", fb - 1);
    std::string all;
    for (I i = 0; i < s_.lanes_in; ++i) {
      factors(i, g, "take");
      line("reg {} x_{};", range(xb), i);
      line("always @(posedge clk) if (take) x_{} <= {};", i, lane("s_tdata", i, xb, s_.lanes_in));
      line("wire signed {} xe_{} = {};", range(ab), i, extend(fmt::format("x_{}", i), xb, s_.signed_in, ab));
      line("wire bit_{0} = |(q_{0}[{1}:0] & mark[{1}:0]);", i, fb - 1);
      line("wire signed {} part_{} = bit_{} ? (mark[{}] ? ~xe_{} : xe_{}) : {};", range(ab), i, i, fb - 1, i, i, num(ab, 0));
      line("reg signed {} top_{};", range(ab), i);
      line("wire signed {0} sum_{1} = top_{1} + part_{1} + {2};", range(ab), i, extend(fmt::format("(bit_{} & mark[{}])", i, fb - 1), 1, false, ab));
      // After the sign bit the sum stays where it is: everything below it has left already.
      line("always @(posedge clk) if (take) top_{0} <= {1}; else if (step) top_{0} <= mark[{2}] ? sum_{0} : {{sum_{0}[{3}], sum_{0}[{3}:1]}};", i, num(ab, 0), fb - 1, ab - 1);
      std::string product = fmt::format("top_{}", i);
      int pb = ab;
      if (fb > 1) {
        line("reg {} low_{};", range(fb - 1), i);
        line("always @(posedge clk) if (step & ~mark[{1}]) low_{0} <= {2};", i, fb - 1,
             fb > 2 ? fmt::format("{{sum_{0}[0], low_{0}[{1}:1]}}", i, fb - 2) : fmt::format("sum_{}[0]", i));
        line("wire {} product_{} = {{top_{}, low_{}}};", range(ab + fb - 1), i, i, i);
        product = fmt::format("product_{}", i);
        pb = ab + fb - 1;
      }
      line("wire {} o_{} = q_{}[{}:{}];", range(ob), i, i, fb + ob - 1, fb);
      line("reg signed {} v_{};", range(sb), i);
      const std::string p = pb > sb ? fmt::format("{}[{}:0]", product, sb - 1) : extend(product, pb, true, sb);
      line("always @(posedge clk) if (mark[{}]) v_{} <= {} + {};", fb, i, p, extend(fmt::format("o_{}", i), ob, true, sb));
      if (pb > sb) line("wire top_{0}_unused = &{1}[{2}:{3}];", i, product, pb - 1, sb);
      level_of_sum(i);
      line("reg {} out_{};", range(s_.bits_out), i);
      line("always @(posedge clk) if (finish) out_{0} <= y_{0};", i);
      all = fmt::format("out_{}", i) + (i ? ", " : "") + all;
    }
    line("assign m_tvalid = out_v;");
    line("assign m_tdata = {{{}}};", all);
    if (s_.last_out) {
      line("reg last_x, last_q;");
      line("always @(posedge clk) begin if (take) last_x <= s_tlast; if (finish) last_q <= last_x; end");
      line("assign m_tlast = last_q;");
    }
  }

  void affine() {
    const Layer& l = layer();
    const bool two = s_.kind == StageKind::add;
    const int n = two ? 2 : 1;
    const plan::Values* in[2] = {&g_.values_of(l.in[0]), two ? &g_.values_of(l.in[1]) : nullptr};
    if (two) f_.set("IH1", s_.lanes_in * in[1]->bits - 1);
    auto at = [](const std::vector<I>& t, I c) { return t[t.size() == 1 ? 0 : static_cast<std::size_t>(c)]; };
    // width: the range of every partial sum, and the clamps that can bind
    I period = static_cast<I>(std::max({l.c.size(), l.clamp_lo.size(), l.clamp_hi.size(), l.k[0].size(), two ? l.k[1].size() : 0}));
    Int128 lo = -1, hi = 1;
    std::vector<std::array<I, 2>> clamps;
    for (I c = 0; c < period; ++c) {
      Int128 a = 0, b = 0;
      for (int i = 0; i < n; ++i) {
        const Int128 k = at(l.k[static_cast<std::size_t>(i)], c);
        a += std::min(k * in[i]->lo, k * in[i]->hi);
        b += std::max(k * in[i]->lo, k * in[i]->hi);
        lo = std::min({lo, a, std::min(k * in[i]->lo, k * in[i]->hi), k, Int128(in[i]->lo)});
        hi = std::max({hi, b, std::max(k * in[i]->lo, k * in[i]->hi), k, Int128(in[i]->hi)});
      }
      a += at(l.c, c);
      b += at(l.c, c);
      lo = std::min({lo, a, Int128(at(l.c, c))});
      hi = std::max({hi, b, Int128(at(l.c, c))});
      I cl = static_cast<I>(a), ch = static_cast<I>(b);  // clamps outside the range do not bind
      if (!l.clamp_lo.empty()) cl = std::max(cl, at(l.clamp_lo, c));
      ch = std::max(ch, cl);  // the lower clamp may lift everything
      if (!l.clamp_hi.empty()) ch = std::min(ch, at(l.clamp_hi, c));
      clamps.push_back({cl, ch});
      lo = std::min({lo, Int128(cl), Int128(ch)});
      hi = std::max({hi, Int128(cl), Int128(ch)});
    }
    const int w = std::max(signed_bits(lo, hi), s_.bits_out + (s_.signed_out ? 0 : 1));
    const bool low = !l.clamp_lo.empty(), high = !l.clamp_hi.empty();
    const I g = period == 1 ? 1 : period / s_.lanes_in;
    head(two ? "sum of two streams, factors, offset, clamp" : "factor, offset, clamp", two);
    const std::string valid = two ? "s0_tvalid & s1_tvalid" : "s_tvalid";
    line("reg [3:0] v;");
    line("wire en = ~v[3] | m_tready;");
    line("wire fire = {} & en;", valid);
    if (two) {
      line("assign s0_tready = fire;");
      line("assign s1_tready = fire;");
    } else {
      line("assign s_tready = en;");
    }
    line("always @(posedge clk) if (~rst_n) v <= 4'd0; else if (en) v <= {{v[2:0], fire}};");
    line("assign m_tvalid = v[3];");
    if (g > 1) counter("part", g, "fire");
    if (s_.last_out) {
      line("reg [3:0] frame;");
      line("always @(posedge clk) if (en) frame <= {{frame[2:0], {}}};", two ? "s0_tlast" : "s_tlast");
      line("assign m_tlast = frame[3];");
    }
    std::string all;
    for (I i = 0; i < s_.lanes_in; ++i) {
      // constants of the beat: {hi, lo, c, k1, k0}
      const int fields = n + 3;
      std::vector<Word> words;
      for (I p = 0; p < g; ++p) {
        const I c = period == 1 ? 0 : p * s_.lanes_in + i;
        words.emplace_back();
        for (int j = 0; j < n; ++j) words.back().add(at(l.k[static_cast<std::size_t>(j)], c), w);
        words.back().add(at(l.c, c), w);
        words.back().add(clamps[static_cast<std::size_t>(c)][0], w);
        words.back().add(clamps[static_cast<std::size_t>(c)][1], w);
      }
      const std::string id = std::to_string(i);
      if (g > 1) memory("_" + id, words, fields * w, "q_" + id, "en", "part");
      else line("wire {} q_{} = {}'h{};", range(fields * w), id, fields * w, words[0].hex());
      auto field = [&](int j) { return fmt::format("q_{}[{}:{}]", id, (j + 1) * w - 1, j * w); };
      for (int j = 0; j < n; ++j) {
        const int xb = in[j]->bits;
        line("reg {} x{}_{};", range(xb), j, id);
        line("always @(posedge clk) if (en) x{}_{} <= {};", j, id, lane(two ? fmt::format("s{}_tdata", j) : "s_tdata", i, xb, s_.lanes_in));
        line("wire signed {} xe{}_{} = {};", range(w), j, id, extend(fmt::format("x{}_{}", j, id), xb, in[j]->is_signed, w));
        line("wire signed {} k{}_{} = {};", range(w), j, id, field(j));
        line("reg signed {} p{}_{};", range(w), j, id);
        line("always @(posedge clk) if (en) p{0}_{1} <= xe{0}_{1} * k{0}_{1};", j, id);
      }
      line("reg signed {} c_{};", range(w), id);
      line("always @(posedge clk) if (en) c_{} <= {};", id, field(n));
      if (two) {
        line("wire signed {} both_{} = p0_{} + p1_{};", range(w), id, id, id);
      } else {
        line("wire signed {} both_{} = p0_{};", range(w), id, id);
      }
      line("reg signed {} sum_{};", range(w), id);
      line("always @(posedge clk) if (en) sum_{0} <= both_{0} + c_{0};", id);
      for (int j = 0; j < 2; ++j) {  // clamps travel with the beat
        const bool used = j ? high : low;
        const std::string_view name = j ? "hi" : "lo";
        if (!used) {
          line("wire {}_{}_unused = &{};", name, id, field(n + 1 + j));
          continue;
        }
        line("reg signed {} {}a_{}, {}b_{};", range(w), name, id, name, id);
        line("always @(posedge clk) if (en) begin {0}a_{1} <= {2}; {0}b_{1} <= {0}a_{1}; end", name, id, field(n + 1 + j));
      }
      std::string r = "sum_" + id;
      if (low) {
        line("wire signed {} up_{} = {} < lob_{} ? lob_{} : {};", range(w), id, r, id, id, r);
        r = "up_" + id;
      }
      if (high) {
        line("wire signed {} down_{} = {} > hib_{} ? hib_{} : {};", range(w), id, r, id, id, r);
        r = "down_" + id;
      }
      line("reg {} out_{};", range(s_.bits_out), id);
      line("always @(posedge clk) if (en) out_{} <= {}{};", id, r, w > s_.bits_out ? fmt::format("[{}:0]", s_.bits_out - 1) : "");
      if (w > s_.bits_out) line("wire out_{}_unused = &{}[{}:{}];", id, r, w - 1, s_.bits_out);
      all = fmt::format("out_{}", i) + (i ? ", " : "") + all;
    }
    line("assign m_tdata = {{{}}};", all);
  }

  void argmax() {
    const Layer& l = layer();
    const int b = counter_bits(s_.mh), ob = s_.bits_out;
    head(fmt::format("place of the largest of {} values", s_.mh));
    line("reg out_v;");
    line("wire en = ~out_v | m_tready;");
    line("wire fire = s_tvalid & en;");
    line("assign s_tready = en;");
    counter("place", s_.mh, "fire");
    if (s_.mh == 1) line("wire [0:0] place = 1'b0;");
    line("wire {}{} x = s_tdata;", s_.signed_in ? "signed " : "", range(s_.bits_in));
    line("reg {}{} best;", s_.signed_in ? "signed " : "", range(s_.bits_in));
    line("reg {} best_at;", range(b));
    line("wire better = (place == {}) | (x {} best);", num(b, 0), l.argmax_last ? ">=" : ">");
    line("always @(posedge clk) if (fire & better) begin best <= x; best_at <= place; end");
    line("always @(posedge clk) if (~rst_n) out_v <= 1'b0; else if (en) out_v <= fire & place_end;");
    line("assign m_tvalid = out_v;");
    line("assign m_tdata = {};", extend("best_at", b, false, ob));
    last_register("fire");
  }
};

}  // namespace

std::vector<std::string> Design::names(std::string_view suffix) const {
  std::vector<std::string> r;
  for (const File& f : files)
    if (f.name.size() >= suffix.size() && f.name.ends_with(suffix)) r.push_back(f.name);
  return r;
}

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

  // The top: one wire bundle per stream.
  std::string t = fmt::format("// {} in {} stages\nmodule {} (\n", g.name, d.stages.size(), prefix);
  t += fmt::format(
      "  input  wire clk,\n  input  wire rst_n,\n  input  wire [{}:0] s_axis_tdata,\n  input  wire s_axis_tvalid,\n"
      "  output wire s_axis_tready,\n  input  wire s_axis_tlast,\n  output wire [{}:0] m_axis_tdata,\n"
      "  output wire m_axis_tvalid,\n  input  wire m_axis_tready,\n  output wire m_axis_tlast\n);\n",
      d.in.width() - 1, d.out.width() - 1);
  auto bundle = [](int stage, int port) { return stage < 0 ? std::string("in") : fmt::format("e{:02}_{}", stage, port); };
  const I in_bits = d.in.lanes * d.in.bits, out_bits = d.out.lanes * d.out.bits;
  std::string unused = "1'b0";
  t += fmt::format("  wire [{}:0] in_tdata = s_axis_tdata[{}:0];\n  wire in_tvalid = s_axis_tvalid;\n  wire in_tready;\n", in_bits - 1, in_bits - 1);
  t += "  assign s_axis_tready = in_tready;\n";
  if (d.in.width() > in_bits) unused += fmt::format(", s_axis_tdata[{}:{}]", d.in.width() - 1, in_bits);
  if (first.last_in) t += "  wire in_tlast = s_axis_tlast;\n";
  else unused += ", s_axis_tlast";
  if (unused != "1'b0") t += fmt::format("  wire unused = &{{{}}};\n", unused);
  for (std::size_t i = 0; i < d.stages.size(); ++i) {
    const StageShape& s = d.stages[i];
    std::string ports = "    .clk(clk), .rst_n(rst_n)";
    const bool two = s.kind == StageKind::add;
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

  std::uint64_t h = fnv1a(t);
  for (const Module& m : modules) {
    h = fnv1a(m.body, h);
    for (const File& x : m.memories) h = fnv1a(x.text, h);
  }
  d.hash = hex16(h);
  auto source = [&](const std::string& name, const std::string& body) {
    d.files.push_back({name + ".v", fmt::format("// Generated by Tandem {}; design {}.\n`default_nettype none\n{}`default_nettype wire\n", TANDEM_VERSION, d.hash, body)});
  };
  source(d.top, t);
  for (std::size_t i = 0; i < modules.size(); ++i) {
    source(d.modules[i], modules[i].body);
    for (File& x : modules[i].memories) d.files.push_back(std::move(x));
  }
  return d;
}

}  // namespace tandem::rtl
