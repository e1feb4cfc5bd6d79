// Verilog for a folded stage graph: one module per stage, specialised, AXI4-Stream between them.
#pragma once
#include <string>
#include <string_view>
#include <vector>

#include "tandem/plan/stages.h"

namespace tandem::rtl {

struct File {
  std::string name;  // "net.v", "net_03_mvau.hex"
  std::string text;
};
// One side of the design: each beat carries `lanes` elements of `bits`, element 0 in the low bits, TDATA
// padded with zeros to whole bytes.
struct StreamPort {
  std::int64_t lanes = 1, beats = 1;  // per frame
  int bits = 1;
  bool is_signed = false;
  std::int64_t width() const { return (lanes * bits + 7) / 8 * 8; }
};
// A part of the address space of a design whose memories can be written: that of one stage.
struct Window {
  std::string layer, node, what;      // "weights" or "thresholds"
  std::int64_t address = 0, bytes = 0;
  std::int64_t entries = 1;
  int width = 1;                      // bits of an entry: its 32-bit words, lowest first, begin at a multiple of a power of two of them
  std::string order;                  // what each holds, in words
};
struct Design {
  std::string top;              // module name, also the prefix of every other module
  std::vector<File> files;      // .v and .hex; the top comes first
  StreamPort in, out;
  std::vector<plan::StageShape> stages;
  std::vector<std::string> modules;  // of each stage
  std::vector<Window> windows;       // not empty: the top has an AXI4-Lite slave (registers.h) and irq
  std::vector<std::pair<std::uint32_t, std::uint32_t>> writes;  // address and word: what the windows hold, as it would be written
  int address_bits = 0;              // of the slave
  std::string hash;             // of everything generated, in every header
  std::vector<std::string> names(std::string_view suffix) const;  // file names that end so
};
// Deterministic: the same graph, folding, prefix and family give the same bytes. `prefix` is an identifier. The family
// decides which memories are marked as block RAM (plan::brams) and nothing else.
Design generate(const plan::StageGraph& g, const plan::Folding& f, std::string_view prefix = "net",
                plan::Family family = plan::Family::ice40);

}  // namespace tandem::rtl
