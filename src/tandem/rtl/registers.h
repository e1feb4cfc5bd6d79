// The AXI4-Lite slave of a design whose weights or thresholds can be written while it runs, and its register map in words and as a C header.
//
// 0x00 CTRL: bit 0 start (write 1: lets one frame in), bit 1 done (a frame has left; write 1 clears), bit 2 idle (no frame inside), bit 7 auto
// (frames enter as they come; 1 after reset). 0x04 IRQ_EN: bit 0: irq follows done. 0x08 STATUS: frames inside. 0x0C, 0x10 CYCLES: while not idle,
// reading the low word holds the high one, writing the low one clears. 0x14 HASH of the design's structure and first contents. 0x1000 and up: the windows, write only.
// 32-bit words only: other strobes, places and addresses are answered with SLVERR.
#pragma once
#include <string>

#include "tandem/rtl/generate.h"

namespace tandem::rtl {

inline constexpr std::int64_t kWindows = 0x1000;
// Module <top>_axil. `words`: address bits of each window in 32-bit words.
std::string registers_verilog(const Design& d, std::int64_t beats_in, std::uint32_t hash, const std::vector<int>& words);
// Ports of the slave, as the top declares them, and as it connects them.
std::string registers_ports(const Design& d);
std::string registers_connection();
std::string registers_markdown(const Design& d);
std::string registers_header(const Design& d);

}  // namespace tandem::rtl
