#include "tandem/rtl/emit.h"

#include <algorithm>

namespace tandem::rtl {

void Emitter::pad() {
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
void Emitter::wrap_add(std::string_view name, const std::string& a, const std::string& b, int bits, I depth) {
  line("wire {} {}_sum = {{1'b0, {}}} + {{1'b0, {}}};", range(bits + 1), name, a, b);
  if (depth == (I(1) << bits)) {
    line("wire {} {} = {}_sum[{}:0];", range(bits), name, name, bits - 1);
    line("wire {}_unused = {}_sum[{}];", name, name, bits);
    return;
  }
  line("wire {} {}_less = {}_sum - {};", range(bits + 1), name, name, num(bits + 1, depth));
  line("wire {} {} = {}_less[{}] ? {}_sum[{}:0] : {}_less[{}:0];", range(bits), name, name, bits, name, bits - 1, name, bits - 1);
}

void Emitter::window() {
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
  const I own = cb / s_.groups;  // beats of a group
  const bool merged = !s_.channel_outer && s_.dw == 1 && s_.groups == 1;
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
      counter("part", own, "step");
      counter("kx", s_.kw, "step & part_end");
      line("wire run_end = part_end & kx_end;");
    }
    counter("ky", s_.kh, "step & run_end");
    line("wire vector_end = run_end & ky_end;");
    counter("rep", s_.reps, "step & vector_end");
  }
  const bool grouped = s_.groups > 1;
  if (grouped) counter("group", s_.groups, "step & vector_end & rep_end");
  const std::string place_end = grouped ? "vector_end & rep_end & group_end" : "vector_end & rep_end";
  counter("ox", s_.ow, "step & " + place_end);
  line("wire line_end = {} & ox_end;", place_end);
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
  const bool shift = s_.ow > 1 || s_.kh > 1 || s_.reps > 1 || grouped || (s_.channel_outer && cb > 1);
  line("reg {} at;           // offset in the row of the next beat", range(a));
  if (shift) line("reg {} left;         // of the window", range(a));
  const std::string zero_left = shift ? fmt::format(" left <= {};", num(a, 0)) : "";
  if (s_.oh == 1) line("wire {} down = {};", range(a), num(a, tail * row % depth));
  else line("wire {} down = oy_end ? {} : {};", range(a), num(a, tail * row % depth), num(a, s_.sh * row % depth));
  wrap_add("base_next", "base", "down", a, depth);
  if (s_.kh > 1) wrap_add("place_next", "place", num(a, s_.dh * row % depth), a, depth);
  if (s_.ow > 1) line("wire {} right = left + {};", range(a), num(a, (s_.sw * cb - cb + own) % (I(1) << a)));
  if (grouped) line("wire {} next = left + {};", range(a), num(a, own));
  line("always @(posedge clk) begin");
  line("  if (~rst_n) begin");
  line("    base <= {0}; place <= {0}; at <= {0};{1}", num(a, 0), zero_left);
  line("  end else if (step) begin");
  line("    if (line_end) begin");
  line("      base <= base_next; place <= base_next; at <= {};{}", num(a, 0), zero_left);
  if (s_.ow > 1) {
    line("    end else if ({}) begin", place_end);
    line("      place <= base; left <= right; at <= right;");
  }
  if (grouped) {
    line("    end else if (vector_end & rep_end) begin");
    line("      place <= base; left <= next; at <= next;");
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
    if (!merged && s_.kw > 1) {
      line("    end else if (part_end) begin");
      line("      at <= at + {};", num(a, (s_.dw * cb - own + 1) % (I(1) << a)));
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

void Emitter::pool() {
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

// One accumulator a channel, in a memory read and written once a place; with one beat a place in a register.
void Emitter::total() {
  const Layer& l = layer();
  const I cb = s_.c / s_.lanes_in, width = s_.lanes_in * s_.bits_out;
  const bool sum = l.pool == ir::IntPool::sum, mixed = !l.min_channel.empty();
  head(fmt::format("{} of {} places, {} channels", sum ? "sum" : l.pool == ir::IntPool::min ? "minimum" : "maximum", s_.mw, s_.c));
  line("reg [1:0] v;");
  line("wire en = ~v[1] | m_tready;");
  line("wire fire = s_tvalid & en;");
  line("assign s_tready = en;");
  counter("part", cb, "fire");
  counter("place", s_.mw, "fire & part_end");
  line("reg first, last;");
  if (s_.mw > 1) line("always @(posedge clk) if (en) first <= place == {};", num(counter_bits(s_.mw), 0));
  else line("always @(posedge clk) if (en) first <= 1'b1;");
  line("always @(posedge clk) if (en) last <= place_end;");
  line("always @(posedge clk) if (~rst_n) v <= 2'd0; else if (en) v <= {{v[0] & last, fire}};");
  line("assign m_tvalid = v[1];");
  line("wire {} old;", range(width));
  std::string all, sums;
  const std::string_view sg = s_.signed_in ? "signed " : "";
  for (I i = 0; i < s_.lanes_in; ++i) {
    line("wire {} raw_{} = {};", range(s_.bits_in), i, lane("s_tdata", i, s_.bits_in, s_.lanes_in));
    line("reg {}{} x_{};", sg, range(s_.bits_in), i);
    line("wire {}{} old_{} = {};", sg, range(s_.bits_out), i, lane("old", i, s_.bits_out, s_.lanes_in));
    std::string out = fmt::format("sum_{}", i);
    if (mixed) {  // the minimum is the complement of the maximum of complements
      Word w;
      for (I c = 0; c < cb; ++c) w.add(l.min_channel[static_cast<std::size_t>(c * s_.lanes_in + i)], 1);
      line("localparam {} LEAST_{} = {}'h{};", range(cb), i, cb, w.hex());
      line("wire inv_{0} = LEAST_{0}[{1}];", i, cb > 1 ? "part" : "0");
      line("reg inv_q_{};", i);
      line("always @(posedge clk) if (en) begin x_{0} <= inv_{0} ? ~raw_{0} : raw_{0}; inv_q_{0} <= inv_{0}; end", i);
      out = fmt::format("(inv_q_{} ? ~{} : {})", i, out, out);
    } else {
      line("always @(posedge clk) if (en) x_{0} <= raw_{0};", i);
    }
    if (sum) {
      line("wire {} sum_{} = (first ? {} : old_{}) + {};", range(s_.bits_out), i, num(s_.bits_out, 0), i, extend(fmt::format("x_{}", i), s_.bits_in, s_.signed_in, s_.bits_out));
    } else {
      line("wire {0} sum_{1} = (first | (x_{1} {2} old_{1})) ? x_{1} : old_{1};", range(s_.bits_out), i, l.pool == ir::IntPool::min ? "<" : ">");
    }
    line("reg {} out_{};", range(s_.bits_out), i);
    line("always @(posedge clk) if (en & v[0]) out_{} <= {};", i, out);
    all = fmt::format("out_{}", i) + (i ? ", " : "") + all;
    sums = fmt::format("sum_{}", i) + (i ? ", " : "") + sums;
  }
  if (cb > 1) {
    line("{}reg {} mem [0:{}];", block(cb, width, plan::Memory::writable), range(width), cb - 1);
    line("reg {} old_q;", range(width));
    line("reg {} part_q;", range(counter_bits(cb)));
    line("assign old = old_q;");
    line("always @(posedge clk) begin");
    line("  if (en) begin part_q <= part; old_q <= mem[part]; end");
    line("  if (en & v[0]) mem[part_q] <= {{{}}};", sums);
    line("end");
  } else {
    line("reg {} acc;", range(width));
    line("assign old = acc;");
    line("always @(posedge clk) if (en & v[0]) acc <= {{{}}};", sums);
  }
  line("assign m_tdata = {{{}}};", all);
  if (s_.last_out) {
    line("reg [1:0] frame;");
    line("always @(posedge clk) if (en) frame <= {{frame[0], s_tlast}};");
    line("assign m_tlast = frame[1];");
  }
}

}  // namespace tandem::rtl
