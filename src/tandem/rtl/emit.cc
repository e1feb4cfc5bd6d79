#include "tandem/rtl/emit.h"

#include <algorithm>

namespace tandem::rtl {

std::string Fill::operator()(std::string_view t) const {
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

std::string num(int width, I v) {
  const std::uint64_t u = static_cast<std::uint64_t>(v) & (width >= 64 ? ~0ull : (1ull << width) - 1);
  return width <= 31 && v >= 0 ? fmt::format("{}'d{}", width, u) : fmt::format("{}'h{:x}", width, u);
}

std::string Word::hex() const {
  std::string r;
  for (std::size_t i = (b_.size() + 3) / 4; i-- > 0;) {
    int d = 0;
    for (std::size_t j = 0; j < 4; ++j)
      if (i * 4 + j < b_.size() && b_[i * 4 + j]) d |= 1 << j;
    r += "0123456789abcdef"[d];
  }
  return r;
}

std::string lane(std::string_view name, I i, int bits, I lanes) {
  if (lanes == 1) return std::string(name);
  if (bits == 1) return fmt::format("{}[{}]", name, i);
  return fmt::format("{}[{}:{}]", name, i * bits + bits - 1, i * bits);
}

std::string extend(const std::string& wire, int from, bool is_signed, int to) {
  if (from >= to) return wire;
  if (!is_signed) return fmt::format("{{{}'d0, {}}}", to - from, wire);
  return fmt::format("{{{{{}{{{}[{}]}}}}, {}}}", to - from, wire, from - 1, wire);
}

Emitter::Emitter(const StageGraph& g, const StageShape& s, std::string name, plan::Family family)
    : g_(g), s_(s), name_(std::move(name)), family_(family) {
  f_.set("NAME", name_)
      .set("IW", s.lanes_in * s.bits_in)
      .set("IH", s.lanes_in * s.bits_in - 1)
      .set("OH", s.lanes_out * s.bits_out - 1);
}

Module Emitter::emit() {
  switch (s_.kind) {
    case StageKind::pad: pad(); break;
    case StageKind::window: window(); break;
    case StageKind::replay: replay(); break;
    case StageKind::mvau:
    case StageKind::depthwise:
    case StageKind::mvau_logic:
    case StageKind::depthwise_logic:
    case StageKind::mvau_packed: multiply(); break;
    case StageKind::mvau_constant: constants(); break;
    case StageKind::pool: pool(); break;
    case StageKind::threshold: s_.serial ? threshold_serial() : threshold_pipeline(); break;
    case StageKind::affine:
    case StageKind::add: affine(); break;
    case StageKind::fork: fork(); break;
    case StageKind::fifo: fifo(); break;
    case StageKind::skid: skid(); break;
    case StageKind::convert: s_.lanes_in > s_.lanes_out ? narrower() : wider(); break;
    case StageKind::argmax: argmax(); break;
    case StageKind::reorder: reorder(); break;
    case StageKind::select: select(); break;
    case StageKind::insert: insert(); break;
    case StageKind::concat: concat(); break;
    case StageKind::product: product(); break;
    case StageKind::total: total(); break;
    case StageKind::rescale: s_.serial ? rescale_serial() : rescale_pipeline(); break;
  }
  m_.body += "endmodule\n";
  drop_unread();
  return std::move(m_);
}

void Emitter::drop_unread() {
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

void Emitter::head(std::string_view comment, bool two_inputs) {
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

std::string_view Emitter::block(I depth, I width, plan::Memory kind) const {
  if (s_.logic && kind == plan::Memory::constants) return "(* rom_style = \"logic\" *) ";
  if (plan::brams(family_, depth, width, kind) == 0) {
    if (family_ == plan::Family::ice40) return "";
    return kind == plan::Memory::constants ? "(* rom_style = \"logic\" *) " : "(* ram_style = \"distributed\" *) ";
  }
  return kind == plan::Memory::constants ? "(* rom_style = \"block\" *) " : "(* ram_style = \"block\" *) ";
}

void Emitter::memory(std::string_view suffix, const std::vector<Word>& words, int width, std::string_view q,
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

void Emitter::counter(std::string_view name, I n, std::string_view step) {
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

void Emitter::last_register(std::string_view enable) {
  if (!s_.last_out) return;
  line("reg frame_q;");
  line("always @(posedge clk) if ({}) frame_q <= s_tlast;", enable);
  line("assign m_tlast = frame_q;");
}

}  // namespace tandem::rtl
