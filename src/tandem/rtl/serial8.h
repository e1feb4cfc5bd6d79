// The board shell `serial8`: a UART (115200 baud, 8N1) around a design's two streams.
//
// Bytes received fill one beat after the other (least significant byte first, TDATA padded to whole
// bytes); beats sent leave the same way. TLAST is made at the end of each frame. Received bytes wait in a
// FIFO of 512, so a host may send that much before it reads an answer. A break (the line held low for 256
// bit times) resets shell and design. The LED lights when a byte was lost.
#pragma once
#include "tandem/rtl/generate.h"

namespace tandem::rtl {

struct Shell {
  std::string top;            // module with the pins: clk, rx, tx, led
  std::vector<File> files;    // Verilog of the shell, without the design's
  std::string pcf;            // pin constraints of the board; empty when the part has no known board
  std::string board;          // "iCEBreaker (iCE40UP5K-SG48)"
};
// `clocks_per_bit`: clock frequency / baud rate, rounded (104 at 12 MHz). `part`: "up5k" or "hx8k".
Shell serial8(const Design& d, std::string_view part, int clocks_per_bit = 104);

}  // namespace tandem::rtl
