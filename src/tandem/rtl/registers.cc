#include "tandem/rtl/registers.h"

#include <algorithm>

#include "tandem/rtl/emit.h"

namespace tandem::rtl {
namespace {

constexpr std::string_view kSlave = R"v(module @TOP@_axil (
  input  wire clk,
  input  wire rst_n,
@PORTS@,
  input  wire frame_beat,
  input  wire frame_end,
  output reg  open,
  output reg  [@KH@:0] cfg_we,
  output reg  [@CH@:0] cfg_addr,
  output reg  [31:0] cfg_data
);
  // Address and data of a write arrive in any order; both wait until the response before has been taken.
  reg aw_full, w_full;
  reg [@AH@:0] aw;
  reg [31:0] w;
  reg [3:0] strobe;
  reg b_valid, b_error;
  wire write = aw_full & w_full & ~b_valid;
  wire whole = (strobe == 4'hf) & (aw[1:0] == 2'd0);
  wire low = aw[@AH@:12] == @PZERO@;
  wire known = low & (aw[11:2] < 10'd6);
@SELECT@  wire ok = whole & (known | (hit != @KZERO@));
  assign s_axil_awready = ~aw_full;
  assign s_axil_wready = ~w_full;
  assign s_axil_bvalid = b_valid;
  assign s_axil_bresp = {b_error, 1'b0};
  always @(posedge clk) begin
    if (~rst_n) begin
      aw_full <= 1'b0;
      w_full <= 1'b0;
      b_valid <= 1'b0;
    end else begin
      aw_full <= ~write & (aw_full | s_axil_awvalid);
      w_full <= ~write & (w_full | s_axil_wvalid);
      b_valid <= write | (b_valid & ~s_axil_bready);
    end
    if (~aw_full) aw <= s_axil_awaddr;
    if (~w_full) begin
      w <= s_axil_wdata;
      strobe <= s_axil_wstrb;
    end
    if (write) b_error <= ~ok;
  end
  always @(posedge clk) begin
    cfg_we <= (rst_n & write & whole) ? hit : @KZERO@;
    cfg_addr <= aw[@CA@:2];
    cfg_data <= w;
  end
  wire command = write & whole & low;
  wire write_ctrl = command & (aw[11:2] == 10'd0);
  wire write_irq = command & (aw[11:2] == 10'd1);
  wire write_cycles = command & (aw[11:2] == 10'd3);
  // Frames enter whole.
@BEAT@  wire entered = frame_beat & @BEATEND@;
  reg auto_run, start, done, irq_on;
  reg [15:0] entered_frames;
  wire idle = entered_frames == 16'd0;
  reg [63:0] cycles;
  reg [31:0] cycles_high;
  always @(posedge clk)
    if (~rst_n) begin
      open <= 1'b1;
      auto_run <= 1'b1;
      start <= 1'b0;
      done <= 1'b0;
      irq_on <= 1'b0;
      entered_frames <= 16'd0;
      cycles <= 64'd0;
    end else begin
      if (entered) open <= auto_run | start;
      else if (auto_run | start) open <= 1'b1;
      if (write_ctrl & w[0]) start <= 1'b1;
      else if (~auto_run & (entered | ~open)) start <= 1'b0;
      if (write_ctrl) auto_run <= w[7];
      if (write_irq) irq_on <= w[0];
      done <= frame_end | (done & ~(write_ctrl & w[1]));
      if (@BEGUN@ & ~frame_end) entered_frames <= entered_frames + 16'd1;
      else if (frame_end & ~(@BEGUN@)) entered_frames <= entered_frames - 16'd1;
      cycles <= write_cycles ? 64'd0 : idle ? cycles : cycles + 64'd1;
    end
  assign irq = done & irq_on;
  reg r_valid, r_error;
  reg [31:0] r_data;
  assign s_axil_arready = ~r_valid;
  assign s_axil_rvalid = r_valid;
  assign s_axil_rdata = r_data;
  assign s_axil_rresp = {r_error, 1'b0};
  wire read = s_axil_arvalid & ~r_valid;
  wire read_low = (s_axil_araddr[@AH@:12] == @PZERO@) & (s_axil_araddr[1:0] == 2'd0);
  always @(posedge clk) begin
    if (~rst_n) r_valid <= 1'b0;
    else r_valid <= read | (r_valid & ~s_axil_rready);
    if (read) begin
      r_error <= ~(read_low & (s_axil_araddr[11:2] < 10'd6));
      case (s_axil_araddr[11:2])
        10'd0: r_data <= {24'd0, auto_run, 4'd0, idle, done, start};
        10'd1: r_data <= {31'd0, irq_on};
        10'd2: r_data <= {16'd0, entered_frames};
        10'd3: r_data <= cycles[31:0];
        10'd4: r_data <= cycles_high;
        10'd5: r_data <= 32'h@HASH@;
        default: r_data <= 32'd0;
      endcase
      if (~read_low) r_data <= 32'd0;
      if (read_low & (s_axil_araddr[11:2] == 10'd3)) cycles_high <= cycles[63:32];
    end
  end
endmodule
)v";

}  // namespace

std::string registers_ports(const Design& d) {
  return fmt::format(
      "  input  wire [{0}:0] s_axil_awaddr,\n  input  wire s_axil_awvalid,\n  output wire s_axil_awready,\n  input  wire [31:0] s_axil_wdata,\n  input  wire [3:0] s_axil_wstrb,\n"
      "  input  wire s_axil_wvalid,\n  output wire s_axil_wready,\n  output wire [1:0] s_axil_bresp,\n  output wire s_axil_bvalid,\n  input  wire s_axil_bready,\n"
      "  input  wire [{0}:0] s_axil_araddr,\n  input  wire s_axil_arvalid,\n  output wire s_axil_arready,\n  output wire [31:0] s_axil_rdata,\n  output wire [1:0] s_axil_rresp,\n"
      "  output wire s_axil_rvalid,\n  input  wire s_axil_rready,\n  output wire irq",
      d.address_bits - 1);
}

std::string registers_connection() {
  std::string r;
  for (const char* p : {"awaddr", "awvalid", "awready", "wdata", "wstrb", "wvalid", "wready", "bresp", "bvalid", "bready", "araddr", "arvalid", "arready", "rdata", "rresp", "rvalid", "rready"})
    r += fmt::format(".s_axil_{0}(s_axil_{0}), ", p);
  return r + ".irq(irq)";
}

std::string registers_verilog(const Design& d, std::int64_t beats_in, std::uint32_t hash, const std::vector<int>& words) {
  const int a = d.address_bits, n = static_cast<int>(words.size()), most = *std::max_element(words.begin(), words.end()), bb = counter_bits(beats_in);
  Fill f;
  f.set("TOP", d.top).set("PORTS", registers_ports(d)).set("AH", a - 1).set("KH", n - 1).set("CH", most - 1).set("CA", most + 1);
  f.set("PZERO", num(a - 12, 0)).set("KZERO", num(n, 0)).set("HASH", fmt::format("{:08x}", hash));
  std::string select = fmt::format("  wire [{}:0] hit;\n", n - 1);
  for (int k = 0; k < n; ++k) {
    const int bits = words[static_cast<std::size_t>(k)] + 2;
    select += fmt::format("  assign hit[{}] = aw[{}:{}] == {};\n", k, a - 1, bits, num(a - bits, d.windows[static_cast<std::size_t>(k)].address >> bits));
  }
  f.set("SELECT", select);
  if (beats_in > 1) {
    f.set("BEAT", fmt::format("  reg [{0}:0] beat;\n  wire beat_end = beat == {1};\n  always @(posedge clk) if (~rst_n) beat <= {2}; else if (frame_beat) beat <= beat_end ? {2} : beat + {3};\n", bb - 1, num(bb, beats_in - 1),
                              num(bb, 0), num(bb, 1)));
    f.set("BEATEND", "beat_end").set("BEGUN", fmt::format("(frame_beat & (beat == {}))", num(bb, 0)));
  } else {
    f.set("BEAT", "").set("BEATEND", "1'b1").set("BEGUN", "frame_beat");
  }
  return f(kSlave);
}

std::string registers_markdown(const Design& d) {
  std::string t = fmt::format(R"(# Registers of {0}

AXI4-Lite, 32-bit words, {1} address bits. Other strobes, places within a word and addresses are answered with SLVERR. Write while no frame is inside (STATUS is 0); a reset leaves what was written.

| address | register | bits |
|---|---|---|
| 0x00 | CTRL | 0 start: write 1 to let one frame in; 1 done: a frame has left, write 1 to clear; 2 idle: no frame inside; 7 auto: frames enter as they come (1 after reset) |
| 0x04 | IRQ_EN | 0: `irq` follows done |
| 0x08 | STATUS | 15:0 frames inside |
| 0x0C | CYCLES_LO | cycles while not idle; reading holds CYCLES_HI, writing clears both |
| 0x10 | CYCLES_HI | |
| 0x14 | HASH | of the design |

With auto cleared, the frame whose turn it is still enters; each start then lets in one more.

## Windows

Write only. An entry begins at a multiple of its stride and is stored when its last word is written; write its words in order.

| address | entries | stride | bits | what | of |
|---|---|---|---|---|---|
)", d.top, d.address_bits);
  for (const Window& w : d.windows) t += fmt::format("| 0x{:04X} | {} | {} | {} | {} | {} ({}) |\n", w.address, w.entries, w.bytes / std::max<std::int64_t>(1, w.entries), w.width, w.what, w.layer, w.node);
  for (const Window& w : d.windows) t += fmt::format("\n0x{:04X}, {}: {}.\n", w.address, w.layer, w.order);
  return t;
}

std::string registers_header(const Design& d) {
  std::string name = d.top;
  for (char& c : name) c = static_cast<char>(c >= 'a' && c <= 'z' ? c - 32 : c);
  std::string t = fmt::format(R"(// Registers of {0}: see registers.md.
#ifndef {1}_REGISTERS_H
#define {1}_REGISTERS_H

#define {1}_CTRL 0x00u
#define {1}_CTRL_START 0x01u
#define {1}_CTRL_DONE 0x02u
#define {1}_CTRL_IDLE 0x04u
#define {1}_CTRL_AUTO 0x80u
#define {1}_IRQ_EN 0x04u
#define {1}_STATUS 0x08u
#define {1}_CYCLES_LO 0x0Cu
#define {1}_CYCLES_HI 0x10u
#define {1}_HASH 0x14u
)", d.top, name);
  for (const Window& w : d.windows) {
    std::string layer = plan::identifier(w.layer);
    for (char& c : layer) c = static_cast<char>(c >= 'a' && c <= 'z' ? c - 32 : c);
    const std::string what = w.what == "weights" ? "WEIGHTS" : "THRESHOLDS";
    t += fmt::format("\n// {3}\n#define {0}_{1}_{2} 0x{4:X}u\n#define {0}_{1}_{2}_ENTRIES {5}u\n#define {0}_{1}_{2}_STRIDE {6}u\n#define {0}_{1}_{2}_BITS {7}u\n", name, layer, what, w.order, w.address, w.entries, w.bytes / std::max<std::int64_t>(1, w.entries), w.width);
  }
  return t + "\n#endif\n";
}

}  // namespace tandem::rtl
