#include "tandem/rtl/serial8.h"

#include "tandem/base/error.h"

namespace tandem::rtl {
namespace {

int bits_to_count(std::int64_t n) {  // of a counter 0..n-1
  int b = 1;
  while ((std::int64_t(1) << b) < n) ++b;
  return b;
}

// Text with @NAME@ replaced.
std::string fill(std::string t, std::initializer_list<std::pair<std::string_view, std::string>> words) {
  for (const auto& [name, value] : words) {
    std::string key = fmt::format("@{}@", name);
    for (std::size_t at = 0; (at = t.find(key, at)) != std::string::npos; at += value.size()) t.replace(at, key.size(), value);
  }
  return t;
}

// yosys 0.23 merges a mux behind `count - 1` into the adder's LUTs in a way that nextpnr cannot pack with the carries: the chain is broken
// at every bit, and was the slowest path of small designs (108.7 MHz on hx8k with every seed). So a load is a mux in front of the adder.
constexpr const char* kReceiver = R"(// Samples in the middle of each bit; a start bit that does not last is noise.
module @P@_uart_rx (
  input  wire clk,
  input  wire rst_n,
  input  wire rx,
  output reg  [7:0] data,
  output reg  valid,
  output wire idle_line
);
  reg [1:0] sync;
  reg [@DB@:0] count;
  reg [3:0] bit_index;
  reg busy;
  wire line = sync[1];
  wire tick = count == @DB1@'d0;
  wire [@DB@:0] from = tick ? @DB1@'d@BIT@ : count;
  assign idle_line = line;
  always @(posedge clk) begin
    sync <= {sync[0], rx};
    valid <= 1'b0;
    if (!busy) count <= @DB1@'d@HALF@;
    else count <= from - @DB1@'d1;
    if (!rst_n) begin  // the line itself is watched on: a break ends when it rises
      busy <= 1'b0;
    end else if (!busy) begin
      bit_index <= 4'd0;
      if (!line) busy <= 1'b1;
    end else if (tick) begin
      bit_index <= bit_index + 4'd1;
      if (bit_index == 4'd0) begin
        if (line) busy <= 1'b0;
      end else if (bit_index == 4'd9) begin
        busy <= 1'b0;
        valid <= line;
      end else begin
        data <= {line, data[7:1]};
      end
    end
  end
endmodule
)";

constexpr const char* kTransmitter = R"(module @P@_uart_tx (
  input  wire clk,
  input  wire rst_n,
  input  wire [7:0] data,
  input  wire valid,
  output wire ready,
  output reg  tx
);
  reg [@DB@:0] count;
  reg [3:0] left;
  reg [8:0] shift;
  assign ready = left == 4'd0;
  wire tick = count == @DB1@'d0;
  wire [@DB@:0] from = tick ? @DB1@'d@BIT@ : count;
  always @(posedge clk) begin
    if (ready) count <= @DB1@'d@FULL@;
    else count <= from - @DB1@'d1;
    if (!rst_n) begin
      tx <= 1'b1;
      left <= 4'd0;
    end else if (ready) begin
      if (valid) begin
        tx <= 1'b0;
        shift <= {1'b1, data};
        left <= 4'd10;
      end
    end else if (tick) begin
      tx <= shift[0];
      shift <= {1'b1, shift[8:1]};
      left <= left - 4'd1;
    end
  end
endmodule
)";

constexpr const char* kFifo = R"(module @P@_uart_fifo (
  input  wire clk,
  input  wire rst_n,
  input  wire [7:0] in,
  input  wire in_valid,
  output wire in_ready,
  output reg  [7:0] out,
  output reg  out_valid,
  input  wire out_ready
);
  reg [7:0] memory [0:511];
  reg [8:0] wr, rd;
  reg [9:0] held;
  wire put = in_valid & in_ready;
  wire get = (held != 10'd0) & (~out_valid | out_ready);
  assign in_ready = ~held[9];
  always @(posedge clk) begin
    if (put) memory[wr] <= in;
    if (get) out <= memory[rd];
  end
  always @(posedge clk) begin
    if (!rst_n) begin
      wr <= 9'd0;
      rd <= 9'd0;
      held <= 10'd0;
      out_valid <= 1'b0;
    end else begin
      if (put) wr <= wr + 9'd1;
      if (get) rd <= rd + 9'd1;
      if (put ^ get) held <= held + {{9{get}}, 1'b1};
      if (get) out_valid <= 1'b1;
      else if (out_ready) out_valid <= 1'b0;
    end
  end
endmodule
)";

constexpr const char* kTop = R"(module @P@_serial8 (
  input  wire clk,
  input  wire rx,
  output wire tx,
  output wire led
);
  // Power-on reset, and reset by a break on the line.
  reg [3:0] settle = 4'd0;
  reg [@BB@:0] low = @BB1@'d0;
  wire idle_line;
  wire broken = low == @BB1@'d@BREAK@;
  reg rst_n = 1'b0;
  always @(posedge clk) begin
    if (settle != 4'd15) settle <= settle + 4'd1;
    if (idle_line) low <= @BB1@'d0;
    else if (!broken) low <= low + @BB1@'d1;
    rst_n <= (settle == 4'd15) & ~broken;
  end

  wire [7:0] rx_data, in_data;
  wire rx_valid, fifo_ready, in_valid, in_ready;
  @P@_uart_rx u_rx (.clk(clk), .rst_n(rst_n), .rx(rx), .data(rx_data), .valid(rx_valid), .idle_line(idle_line));
  @P@_uart_fifo u_fifo (.clk(clk), .rst_n(rst_n), .in(rx_data), .in_valid(rx_valid), .in_ready(fifo_ready), .out(in_data),
    .out_valid(in_valid), .out_ready(in_ready));

  // Bytes to beats.
  reg [@IW@:0] beat;
  reg beat_valid;
@IN_DECL@  wire beat_ready;
  assign in_ready = ~beat_valid;
  reg [@FB@:0] frame_beat;
  wire frame_end = frame_beat == @FB1@'d@FLAST@;
  always @(posedge clk) begin
    if (in_valid & in_ready) beat <= @IN_SHIFT@;
    if (!rst_n) begin
      beat_valid <= 1'b0;
      frame_beat <= @FB1@'d0;
@IN_RESET@    end else begin
      if (in_valid & in_ready) begin
@IN_STEP@      end
      if (beat_valid & beat_ready) begin
        beat_valid <= 1'b0;
        frame_beat <= frame_end ? @FB1@'d0 : frame_beat + @FB1@'d1;
      end
    end
  end

  wire [@OW@:0] out_beat;
  wire out_valid, out_last, out_ready;
  @P@ u_net (.clk(clk), .rst_n(rst_n), .s_axis_tdata(beat), .s_axis_tvalid(beat_valid), .s_axis_tready(beat_ready), .s_axis_tlast(frame_end),
    .m_axis_tdata(out_beat), .m_axis_tvalid(out_valid), .m_axis_tready(out_ready), .m_axis_tlast(out_last));
  wire unused = out_last;

  // Beats to bytes.
  wire tx_ready;
@OUT@
  // A byte that came while the FIFO was full is lost, and the LED stays on until the next reset.
  reg lost;
  always @(posedge clk) begin
    if (!rst_n) lost <= 1'b0;
    else if (rx_valid & ~fifo_ready) lost <= 1'b1;
  end
  assign led = lost;
endmodule
)";

}  // namespace

Shell serial8(const Design& d, std::string_view part, int clocks_per_bit) {
  TANDEM_CHECK(clocks_per_bit >= 4 && clocks_per_bit < 65536, "{} clocks per bit", clocks_per_bit);
  Shell s;
  s.top = d.top + "_serial8";
  const int db = bits_to_count(clocks_per_bit), bb = bits_to_count(std::int64_t{clocks_per_bit} * 256 + 1), fb = bits_to_count(d.in.beats);
  const std::int64_t in_bytes = d.in.width() / 8, out_bytes = d.out.width() / 8;
  const int ib = bits_to_count(in_bytes);
  std::string in_decl, in_shift = "in_data", in_reset, in_step = "        beat_valid <= 1'b1;\n", out;
  if (in_bytes > 1) {
    in_decl = fmt::format("  reg [{}:0] in_byte;\n", ib - 1);
    in_shift = fmt::format("{{in_data, beat[{}:8]}}", d.in.width() - 1);
    in_reset = fmt::format("      in_byte <= {}'d0;\n", ib);
    in_step = fmt::format("        beat_valid <= in_byte == {0}'d{1};\n        in_byte <= in_byte == {0}'d{1} ? {0}'d0 : in_byte + {0}'d1;\n", ib, in_bytes - 1);
  }
  if (out_bytes == 1) {
    out = fmt::format("  assign out_ready = tx_ready;\n  {}_uart_tx u_tx (.clk(clk), .rst_n(rst_n), .data(out_beat), .valid(out_valid), .ready(tx_ready), .tx(tx));\n", d.top);
  } else {
    out = fmt::format(
        "  reg [{0}:0] hold;\n  reg [{1}:0] left;\n  wire empty = left == {2}'d0;\n  assign out_ready = empty;\n"
        "  always @(posedge clk) begin\n"
        "    if (out_valid & out_ready) hold <= out_beat;\n    else if (tx_ready & ~empty) hold <= {{8'd0, hold[{0}:8]}};\n"
        "    if (!rst_n) left <= {2}'d0;\n    else if (out_valid & out_ready) left <= {2}'d{3};\n    else if (tx_ready & ~empty) left <= left - {2}'d1;\n  end\n"
        "  {4}_uart_tx u_tx (.clk(clk), .rst_n(rst_n), .data(hold[7:0]), .valid(~empty), .ready(tx_ready), .tx(tx));\n",
        d.out.width() - 1, bits_to_count(out_bytes + 1) - 1, bits_to_count(out_bytes + 1), out_bytes, d.top);
  }
  auto text = [&](const char* t) {
    return fill(t, {{"P", d.top},
                    {"DB1", std::to_string(db)},
                    {"DB", std::to_string(db - 1)},
                    {"HALF", std::to_string(clocks_per_bit / 2 - 1)},
                    {"FULL", std::to_string(clocks_per_bit - 1)},
                    {"BIT", std::to_string(clocks_per_bit % (std::int64_t{1} << db))},  // one bit before FULL
                    {"BB1", std::to_string(bb)},
                    {"BB", std::to_string(bb - 1)},
                    {"BREAK", std::to_string(clocks_per_bit * 256)},
                    {"IW", std::to_string(d.in.width() - 1)},
                    {"OW", std::to_string(d.out.width() - 1)},
                    {"FB1", std::to_string(fb)},
                    {"FB", std::to_string(fb - 1)},
                    {"FLAST", std::to_string(d.in.beats - 1)},
                    {"IN_DECL", in_decl},
                    {"IN_SHIFT", in_shift},
                    {"IN_RESET", in_reset},
                    {"IN_STEP", in_step},
                    {"OUT", out}});
  };
  auto file = [&](const std::string& name, const char* t) {
    s.files.push_back({name + ".v", fmt::format("// Generated by Tandem {}; shell serial8 of design {}.\n`default_nettype none\n{}`default_nettype wire\n",
                                                TANDEM_VERSION, d.hash, text(t))});
  };
  file(s.top, kTop);
  file(d.top + "_uart_rx", kReceiver);
  file(d.top + "_uart_tx", kTransmitter);
  file(d.top + "_uart_fifo", kFifo);
  if (part == "up5k") {
    s.board = "iCEBreaker (iCE40UP5K-SG48, 12 MHz)";
    s.pcf = "set_io clk 35\nset_io rx 6\nset_io tx 9\nset_io led 37\n";
  } else if (part == "hx8k") {
    s.board = "iCE40HX8K breakout board (CT256, 12 MHz)";
    s.pcf = "set_io clk J3\nset_io rx B10\nset_io tx B12\nset_io led B5\n";
  }
  return s;
}

}  // namespace tandem::rtl
