#include "tandem/plan/moves.h"
#include "tandem/rtl/emit.h"

namespace tandem::rtl {

void Emitter::reorder() {
  const Layer& l = layer();
  const I n = s_.beats_in, out = s_.beats_out, per = l.unit / s_.lanes_in;
  const int a = counter_bits(2 * n);
  head(fmt::format("holds two frames of {} beats and sends {} of each in another order", n, out));
  f_.set("AH", a - 1).set("DH", 2 * n - 1);
  f_.set("RAM", std::string(block(2 * n, s_.lanes_in * s_.bits_in, plan::Memory::writable)));
  put(R"(  @RAM@reg [@IH@:0] mem [0:@DH@];
  reg [@IH@:0] out_q;
  reg [1:0] held;
  reg out_v, half;
  wire put = s_tvalid & s_tready;
  wire en = ~out_v | m_tready;
  wire step = en & (held != 2'd0);
  assign s_tready = held != 2'd2;
  assign m_tvalid = out_v;
  assign m_tdata = out_q;
)");
  counter("wr", 2 * n, "put");
  counter("in", n, "put");
  std::string frame_end;
  const I other = I(1) << a;
  if (s_.table) {
    // The table is read one step ahead.
    std::vector<Word> words;
    for (std::int32_t from : l.from)
      for (I i = 0; i < per; ++i) {
        words.emplace_back();
        words.back().add(from * per + i, a);
      }
    line("reg begun;");
    line("always @(posedge clk) begun <= rst_n;");
    line("wire ahead = step | ~begun;");
    counter("place", out, "ahead & rst_n");
    if (out > 1) memory("_from", words, a, "from", "ahead", "place");
    else line("wire {} from = {}'h{};", range(a), a, words[0].hex());
    counter("sent", out, "step");
    frame_end = "sent_end";
    line("wire {} rd = half ? from + {} : from;", range(a), num(a, n));
  } else {
    std::vector<plan::Loop> loops = l.loops;
    for (plan::Loop& x : loops) x.stride *= per;
    if (per > 1) loops.push_back({per, 1});
    const std::size_t depth = loops.size();
    std::string ends = "step";
    for (std::size_t d = depth; d-- > 0;) {
      counter(fmt::format("l{}", d), loops[d].n, ends);
      ends += fmt::format(" & l{}_end", d);
    }
    // The address moves on by the stride of the innermost loop that goes on, and back over those within it.
    const I begin = l.from[0] * per;
    I back = 0;
    std::string next;
    for (std::size_t d = depth; d-- > 0;) {
      const I by = loops[d].stride - back;
      if (loops[d].n > 1) next += fmt::format("~l{}_end ? rd + {} : ", d, num(a, ((by % other) + other) % other));
      back += (loops[d].n - 1) * loops[d].stride;
    }
    for (std::size_t d = 0; d < depth; ++d) frame_end += fmt::format("{}l{}_end", d ? " & " : "", d);
    line("reg {} rd;", range(a));
    line("always @(posedge clk)");
    line("  if (~rst_n) rd <= {};", num(a, begin));
    line("  else if (step) rd <= {}(half ? {} : {});", next, num(a, begin), num(a, n + begin));
  }
  line("wire frame_in = put & in_end;");
  line("wire frame_out = step & {};", frame_end);
  put(R"(  always @(posedge clk) begin
    if (put) mem[wr] <= s_tdata;
    if (step) out_q <= mem[rd];
  end
  always @(posedge clk) begin
    if (~rst_n) begin
      half <= 1'b0;
      held <= 2'd0;
      out_v <= 1'b0;
    end else begin
      if (en) out_v <= held != 2'd0;
      if (frame_in & ~frame_out) held <= held + 2'd1;
      else if (frame_out & ~frame_in) held <= held - 2'd1;
      if (frame_out) half <= ~half;
    end
  end
)");
  if (s_.last_out) put("  reg last;\n  always @(posedge clk) if (step) last <= frame_out;\n  assign m_tlast = last;\n");
}

Emitter::Mask Emitter::mask(I beats) {
  std::vector<bool> of_beat;
  const I lanes = s_.lanes_in;
  for (I i = 0; i < beats; ++i) of_beat.push_back((*s_.keep)[static_cast<std::size_t>(i * lanes)]);
  const std::vector<std::vector<bool>> parts = plan::factor(of_beat);
  std::string ends = "step";
  std::string keep, last, end_of_frame;
  auto both = [](std::string& to, const std::string& x) { to += (to.empty() ? "" : " & ") + x; };
  for (std::size_t d = parts.size(); d-- > 0;) {
    counter(fmt::format("i{}", d), static_cast<I>(parts[d].size()), ends);
    ends += fmt::format(" & i{}_end", d);
    both(end_of_frame, fmt::format("i{}_end", d));
  }
  for (std::size_t d = 0; d < parts.size(); ++d) {
    const std::vector<bool>& m = parts[d];
    const I n = static_cast<I>(m.size());
    if (n == 1) continue;
    const int b = counter_bits(n);
    const I first = std::find(m.begin(), m.end(), true) - m.begin(), end = std::find(m.rbegin(), m.rend(), true).base() - m.begin();
    const std::string at = fmt::format("i{}", d);
    both(last, fmt::format("({} == {})", at, num(b, end - 1)));
    if (std::find(m.begin() + first, m.begin() + end, false) == m.begin() + end) {
      if (first > 0) both(keep, fmt::format("({} >= {})", at, num(b, first)));
      if (end < n) both(keep, fmt::format("({} < {})", at, num(b, end)));
      continue;
    }
    Word w;
    for (bool x : m) w.add(x, 1);
    line("localparam {} KEEP_{} = {}'h{};", range(n), d, n, w.hex());
    both(keep, fmt::format("KEEP_{}[{}]", d, at));
  }
  line("wire keep = {};", keep.empty() ? "1'b1" : keep);
  return {last.empty() ? "1'b1" : last, end_of_frame};
}

void Emitter::select() {
  head(fmt::format("passes {} of {} beats", s_.beats_out, s_.beats_in));
  line("wire step = s_tvalid & s_tready;");
  const std::string last = mask(s_.beats_in).last_kept;
  line("assign m_tvalid = s_tvalid & keep;");
  line("assign s_tready = ~keep | m_tready;");
  line("assign m_tdata = s_tdata;");
  if (s_.last_out) line("assign m_tlast = {};", last);
}

void Emitter::insert() {
  head(fmt::format("puts {} beats of a constant among {}", s_.beats_out - s_.beats_in, s_.beats_in));
  line("wire step = m_tvalid & m_tready;");
  const std::string end = mask(s_.beats_out).last;
  // Constants in front of a frame wait for its first beat: else a frame that never comes would begin.
  line("reg begun;");
  line("always @(posedge clk) if (~rst_n) begun <= 1'b0; else if (step) begun <= ~({}) & (begun | keep);", end);
  line("assign m_tvalid = s_tvalid | (begun & ~keep);");
  line("assign s_tready = keep & m_tready;");
  std::string in, out;
  for (I i = s_.lanes_in; i-- > 0;) {
    in += extend(lane("s_tdata", i, s_.bits_in, s_.lanes_in), s_.bits_in, s_.signed_in, s_.bits_out) + (i ? ", " : "");
    out += num(s_.bits_out, layer().value) + (i ? ", " : "");
  }
  line("assign m_tdata = keep ? {{{}}} : {{{}}};", in, out);
  if (s_.last_out) line("assign m_tlast = {};", end);
}

void Emitter::concat() {
  const Layer& l = layer();
  const plan::Values& b = g_.values_of(l.in[1]);
  f_.set("IH1", s_.lanes_in * b.bits - 1);
  const I all = s_.mw + s_.mh;
  head(fmt::format("{} beats of one stream, then {} of the other", s_.mw, s_.mh), true);
  line("wire step = m_tvalid & m_tready;");
  counter("at", all, "step");
  line("wire second = at >= {};", num(counter_bits(all), s_.mw));
  line("assign m_tvalid = second ? s1_tvalid : s0_tvalid;");
  line("assign s0_tready = ~second & m_tready;");
  line("assign s1_tready = second & m_tready;");
  std::string x, y;
  for (I i = s_.lanes_in; i-- > 0;) {
    x += extend(lane("s0_tdata", i, s_.bits_in, s_.lanes_in), s_.bits_in, s_.signed_in, s_.bits_out) + (i ? ", " : "");
    y += extend(lane("s1_tdata", i, b.bits, s_.lanes_in), b.bits, b.is_signed, s_.bits_out) + (i ? ", " : "");
  }
  line("assign m_tdata = second ? {{{}}} : {{{}}};", y, x);
  if (s_.last_out) {
    counter("turn", s_.beats_out / all, "step & at_end");
    line("assign m_tlast = at_end & turn_end;");
  }
}

}  // namespace tandem::rtl
