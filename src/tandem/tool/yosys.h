// yosys: synthesis for iCE40 and xcup (UltraScale+), and structural checks.
#pragma once
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "tandem/tool/process.h"
#include "tandem/tool/work.h"

namespace tandem::tool {

struct Ice40Cells {
  std::int64_t lut4 = 0;   // SB_LUT4
  std::int64_t ff = 0;     // SB_DFF*
  std::int64_t carry = 0;  // SB_CARRY
  std::int64_t bram = 0;   // SB_RAM40* (4 kbit each)
  std::int64_t spram = 0;  // SB_SPRAM256KA (32 KiB each)
  std::int64_t dsp = 0;    // SB_MAC16
  std::map<std::string, std::int64_t> all;  // every cell type
};

struct SynthOptions {
  std::string top = "top";
  bool dsp = false;                   // up5k only
  std::vector<std::string> support;   // further files in the folder that the sources read (.hex): names are checked
  std::string json = "net.json";      // netlist for nextpnr
  std::string verilog;                // also write the netlist as Verilog under this name
  double seconds = 600;
  Trust trust = Trust::ours;
};
struct SynthResult {
  Ice40Cells cells;
  std::string json;                    // name in the work folder
  std::vector<std::string> warnings;   // printable, without duplicates
  std::string tool;                    // "yosys 0.23"
  ProcessResult run;
};
// read_verilog -sv, synth_ice40 (flattened). `files` are names in the work folder. Throws Error(bad_input) with
// yosys' own message when the design is refused, Error(limit) on time, memory, disk.
SynthResult synth_ice40(const WorkFolder& work, const std::vector<std::string>& files, const SynthOptions& options,
                        const Cancel& cancel = Cancel::never());

// What modules are mapped to: LUT4, FF, carries, blocks of iCE40; LUT6 and so on of xcup (UltraScale+).
enum class Fabric : std::uint8_t { ice40, xcup };
std::string_view to_string(Fabric f);
struct FabricCells {
  std::int64_t lut = 0;      // SB_LUT4; LUT1 to LUT6, and the LUTs of memories and shift registers
  std::int64_t lut_memory = 0;  // of these: LUT RAM and shift registers (xcup)
  std::int64_t ff = 0;       // SB_DFF*; FD*
  std::int64_t carry = 0;    // SB_CARRY; CARRY4
  std::int64_t bram = 0;     // SB_RAM40* of 4 kbit; of 18 kbit: RAMB18E2, and two for each RAMB36E2
  std::int64_t dsp = 0;      // SB_MAC16; DSP48E2
  std::int64_t inv = 0;      // INV of xcup: inverters in front of flip-flops and carries, which a placer absorbs; not in `lut`
  std::map<std::string, std::int64_t> all;  // every cell type
};
struct FabricResult {
  std::map<std::string, FabricCells> modules;  // by module name
  std::string tool;
  ProcessResult run;
};
// synth_ice40 -noflatten, or synth_xilinx -family xcup -noiopad -noclkbuf, of modules that contain no other modules, each for
// itself but in one run (starting it takes seconds, a small module a fraction of one). dsp = false: multipliers in logic. Errors
// as synth_ice40; also Error(bad_input) for a cell type that the fabric does not have.
FabricResult synth_modules(Fabric fabric, const WorkFolder& work, const std::vector<std::string>& files, const std::vector<std::string>& modules,
                           const SynthOptions& options, const Cancel& cancel = Cancel::never());
// LUTs of one LUT-RAM or shift-register cell; 0 for other cells.
std::int64_t xcup_memory_luts(std::string_view cell);

struct CellsResult {
  std::string json;                    // the netlist, hierarchy kept: modules of cells of the library
  std::string tool;
  ProcessResult run;
};
// Standard cells: synth (not flattened), dfflibmap, abc with `liberty`, a file of the work folder. Memories of at least
// `macro_bits` with one read and one write port become cells "tandem_sram" with the parameters WORDS, BITS, ADDRESS; others
// become flip-flops or logic. `modules`: for themselves, as in synth_modules; empty: `options.top` and what it holds.
CellsResult synth_cells(const WorkFolder& work, const std::vector<std::string>& files, const std::string& liberty, const std::vector<std::string>& modules,
                        std::int64_t macro_bits, const SynthOptions& options, const Cancel& cancel = Cancel::never());

struct CheckResult {
  std::int64_t problems = 0;           // of yosys `check` after `proc` (conflicting drivers, undriven, loops)
  std::int64_t latches = 0;
  std::vector<std::string> messages;   // warnings
  ProcessResult run;
};
CheckResult check_verilog(const WorkFolder& work, const std::vector<std::string>& files, const std::string& top,
                          Trust trust = Trust::ours, const Cancel& cancel = Cancel::never());

// By SAT: a single-bit output is never high, whatever the inputs do from the registers' initial values on (Verilog `initial`;
// those without are free) while the source's `assume`s hold. Without `induction`: bounded at best, in half the time.
enum class Verdict { proven, bounded, refuted, unknown };
struct NeverResult {
  Verdict verdict = Verdict::unknown;  // proven: by induction, for ever; bounded: for `steps` cycles, and induction did not close; unknown: time is up
  int steps = 0;                       // cycles that were unrolled
  std::string trace;                   // refuted: the inputs that make it high, cycle by cycle
  ProcessResult run;
};
NeverResult prove_never(const WorkFolder& work, const std::vector<std::string>& files, const std::string& top, const std::string& signal,
                        int steps = 16, double seconds = 60, bool induction = true, const Cancel& cancel = Cancel::never());

// The same by property-directed reachability (abc, which comes with yosys), which looks for an invariant of its own: proven for ever,
// refuted after `steps` cycles, or unknown when the time is up.
NeverResult prove_for_ever(const WorkFolder& work, const std::vector<std::string>& files, const std::string& top, const std::string& signal,
                           double seconds = 60, const Cancel& cancel = Cancel::never());

// Two modules of the same ports, `gold` and `gate`, each in the file of its name, in place of a module `dut` in `top`: whether all ports,
// and all registers that have the same name in both, are the same from the second cycle on when both begin in the same state. What they are
// is found from the registers of `gold` alone, so memories and multipliers count little. Refuted: some differ, which need not show outside.
NeverResult prove_same(const WorkFolder& work, const std::string& gold, const std::string& gate, const std::string& top, double seconds = 60, const Cancel& cancel = Cancel::never());

}  // namespace tandem::tool
