#include "tandem/rtl/emit.h"

namespace tandem::rtl {

void Emitter::unpack(std::string_view reg, std::string_view port) {
  if (s_.last_in) line("assign {{{}_tlast, {}_tdata}} = {};", port, port, reg);
  else line("assign {}_tdata = {};", port, reg);
}

void Emitter::skid() {
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

void Emitter::fifo() {
  head(fmt::format("queue of {} beats", s_.depth));
  const int a = counter_bits(s_.depth), c = counter_bits(s_.depth + 1);
  f_.set("PH", payload() - 1).set("IN", packed_in()).set("DH", s_.depth - 1).set("CH", c - 1).set("CONE", num(c, 1)).set("CZERO", num(c, 0))
      .set("FULL", num(c, s_.depth)).set("WR", s_.depth > 1 ? "wr" : "1'b0").set("RD", s_.depth > 1 ? "rd" : "1'b0");
  f_.set("RAM", std::string(block(s_.depth, payload(), plan::Memory::writable)));
  put(R"(  @RAM@reg [@PH@:0] mem [0:@DH@];
  reg [@PH@:0] out_q;
  reg [@CH@:0] held;
  reg out_v;
  wire put = s_tvalid & s_tready;
  wire get = (held != @CZERO@) & (~out_v | m_tready);
  assign s_tready = held != @FULL@;
  assign m_tvalid = out_v;
)");
  for (auto [name, step] : {std::pair("wr", "put"), std::pair("rd", "get")}) {
    if (s_.depth > 1 && s_.depth != I(1) << a) {
      counter(name, s_.depth, step);
    } else if (s_.depth > 1) {  // wraps by itself
      line("reg {} {};", range(a), name);
      line("always @(posedge clk) if (~rst_n) {0} <= {1}; else if ({2}) {0} <= {0} + {3};", name, num(a, 0), step, num(a, 1));
    }
  }
  unpack("out_q");
  put(R"(  always @(posedge clk) begin
    if (put) mem[@WR@] <= @IN@;
    if (get) out_q <= mem[@RD@];
  end
  always @(posedge clk) begin
    if (~rst_n) begin
      held <= @CZERO@;
      out_v <= 1'b0;
    end else begin
      if (put & ~get) held <= held + @CONE@;
      else if (get & ~put) held <= held - @CONE@;
      out_v <= get | (out_v & ~m_tready);
    end
  end
)");
}

void Emitter::fork() {
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

void Emitter::narrower() {
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

void Emitter::wider() {
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

}  // namespace tandem::rtl
