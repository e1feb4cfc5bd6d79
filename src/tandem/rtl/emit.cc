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

std::uint32_t Word::part(std::size_t i) const {
  std::uint32_t v = 0;
  for (std::size_t j = 0; j < 32 && 32 * i + j < b_.size(); ++j) v |= static_cast<std::uint32_t>(b_[32 * i + j]) << j;
  return v;
}

std::string lane(std::string_view name, I i, int bits, I lanes) {
  if (lanes == 1) return std::string(name);
  if (bits == 1) return fmt::format("{}[{}]", name, i);
  return fmt::format("{}[{}:{}]", name, i * bits + bits - 1, i * bits);
}

std::string extend(const std::string& wire, int from, bool is_signed, int to) {
  if (from >= to) return wire;
  if (!is_signed) return fmt::format("{{{}'d0, {}}}", to - from, wire);
  // Of a part of a wire, a lane, the sign is a bit of the wire: Verilog selects once only.
  const std::size_t part = wire.find('[');
  const std::string sign = part == std::string::npos ? fmt::format("{}[{}]", wire, from - 1) : fmt::format("{}]", wire.substr(0, std::min(wire.find(':', part), wire.size() - 1)));
  return fmt::format("{{{{{}{{{}}}}}, {}}}", to - from, sign, wire);
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
    case StageKind::topk: topk(); break;
    case StageKind::softmax: softmax(); break;
    case StageKind::normalize: normalize(); break;
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
  if (s_.writable) m_.body += fmt::format("  input  wire cfg_we,\n  input  wire [{}:0] cfg_addr,\n  input  wire [31:0] cfg_data,\n", entries().address_bits() - 1);
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

int Emitter::Entries::part_bits() const { return parts() > 1 ? counter_bits(parts()) : 0; }

Emitter::Entries Emitter::entries() const {
  const auto bits = [](I n) { return n > 1 ? counter_bits(n) : 0; };
  if (s_.kind == StageKind::threshold) {
    const I g = s_.tables == 1 ? 1 : s_.tables / s_.lanes_in;
    return {bits(s_.lanes_in) + bits(g) + s_.level_bits, s_.entry_bits + (any_flip() ? 1 : 0)};
  }
  const bool dw = s_.kind == StageKind::depthwise || s_.kind == StageKind::depthwise_logic;
  const I pe = dw ? s_.lanes_in : s_.pe, simd = dw ? 1 : s_.simd;
  return {bits((dw ? s_.mw : s_.mw / simd) * (s_.mh / pe)), static_cast<int>(pe * simd) * s_.weight_bits};
}

void Emitter::config() {
  const Entries e = entries();
  const int pb = e.part_bits(), rest = e.width - 32 * (static_cast<int>(e.parts()) - 1);
  m_.address_bits = e.address_bits();
  if (e.parts() > 1) {
    line("reg {} cfg_held;", range(32 * (e.parts() - 1)));
    for (I k = 0; k + 1 < e.parts(); ++k) line("always @(posedge clk) if (cfg_we & (cfg_addr[{}:0] == {})) cfg_held[{}:{}] <= cfg_data;", pb - 1, num(pb, k), 32 * k + 31, 32 * k);
    line("wire cfg_store = rst_n & cfg_we & (cfg_addr[{}:0] == {});", pb - 1, num(pb, e.parts() - 1));
    line("wire {} cfg_entry = {{cfg_data[{}:0], cfg_held}};", range(e.width), rest - 1);
  } else {
    line("wire cfg_store = rst_n & cfg_we;");
    line("wire {} cfg_entry = cfg_data[{}:0];", range(e.width), rest - 1);
  }
  if (rest < 32) line("wire cfg_data_unused = &cfg_data[31:{}];", rest);
  if (e.index_bits > 0) line("wire {} cfg_index = cfg_addr[{}:{}];", range(e.index_bits), e.address_bits() - 1, pb);
  else if (pb == 0) line("wire cfg_addr_unused = cfg_addr[0];");
}

void Emitter::writes(I index, const Word& w) {
  const Entries e = entries();
  for (I k = 0; k < e.parts(); ++k) m_.writes.emplace_back(index << e.part_bits() | k, w.part(static_cast<std::size_t>(k)));
}

void Emitter::writable(std::string_view suffix, const std::vector<Word>& words, int width, std::string_view q, std::string_view enable, std::string_view address, const std::string& select, const std::string& to) {
  if (words.size() == 1) {
    line("reg {} {};", range(width), q);
    line("initial {} = {}'h{};", q, width, words[0].hex());
    line("always @(posedge clk) if ({}) {} <= cfg_entry;", select, q);
    return;
  }
  const std::string file = fmt::format("{}{}.hex", name_, suffix);
  std::string text;
  for (const Word& w : words) text += w.hex() + "\n";
  m_.memories.push_back({file, std::move(text)});
  line("{}reg {} mem{} [0:{}];", block(static_cast<I>(words.size()), width, plan::Memory::writable), range(width), suffix, words.size() - 1);
  line("initial $readmemh(\"{}\", mem{});", file, suffix);
  line("reg {} {};", range(width), q);
  line("always @(posedge clk) begin");
  line("  if ({}) mem{}[{}] <= cfg_entry;", select, suffix, to);
  line("  if ({}) {} <= mem{}[{}];", enable, q, suffix, address);
  line("end");
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
