// A generated design through yosys, nextpnr and icepack, inside the shell serial8; or stage by stage through yosys alone.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "tandem/base/cancel.h"
#include "tandem/base/metric.h"
#include "tandem/rtl/serial8.h"
#include "tandem/tool/nextpnr.h"
#include "tandem/tool/yosys.h"

namespace tandem::flow {

struct SynthesisParams {
  std::string device = "up5k";    // nextpnr's name of the part
  std::string package = "sg48";
  double clock_mhz = 12;
  bool dsp = false;               // multipliers in SB_MAC16 (up5k)
  std::uint32_t seed = 1;         // of the first placement
  int seeds = 1;                  // placements with seed, seed + 1, ...: the median one is kept
  double seed_seconds = 900;      // for one; once one has ended, the others get ten times as long as the longest, but at least
  double least_seconds = 60;      // this. Two in a row at the start that do not end are an error
  bool place = true;              // else synthesis only
};
struct NamedMetric {
  std::string name;               // "LUT4", "Fmax", ...
  Metric metric;
};
struct SynthesisResult {
  tool::Ice40Cells cells;
  tool::PlaceResult place;        // place.fits says whether it was placed and routed
  std::vector<double> fmax;       // of every seed that was placed, MHz, sorted
  std::string bitstream;          // bytes; empty when it does not fit
  rtl::Shell shell;
  std::vector<std::string> warnings;  // of yosys
  std::vector<NamedMetric> metrics;   // with their fidelity: synthesised, placed
};
// Throws Error(tool_missing) naming the package, Error(bad_input) when a tool refuses our Verilog.
SynthesisResult synthesise(const rtl::Design& d, const SynthesisParams& params, const Cancel& cancel = Cancel::never());

// Of the cells of a placed netlist, in which stage of the design they are; -1: in the shell or between stages.
int stage_of_cell(const std::string& cell);

// What yosys makes of a design without the shell, as Verilog of iCE40 cells with yosys' own models of them: for verify().
rtl::Design ice40_netlist(const rtl::Design& d, bool dsp, const Cancel& cancel = Cancel::never());

// One stage module of a design as yosys maps it to a fabric.
struct StageCells {
  std::string module;
  tool::FabricCells cells;
  bool cached = false;            // counts of an earlier run of the same module
};
struct StageSynthesis {
  std::vector<StageCells> stages;  // in the order of Design::stages
  tool::FabricCells total;         // sums
  std::int64_t distinct = 0, from_cache = 0;
  std::string tool;
  std::vector<NamedMetric> metrics;  // synthesised
};
struct StageSynthesisParams {
  tool::Fabric fabric = tool::Fabric::xcup;
  bool dsp = true;
  bool cache = true;               // counts are kept below tool::cache_folder()/synthesis
  double seconds = 900;            // of one run
};
// Every distinct stage module for itself (stages equal but for their names are synthesised once), several at a time,
// totals summed. Nothing is placed; logic is not shared across stages.
StageSynthesis synthesise_stages(const rtl::Design& d, const StageSynthesisParams& params = {}, const Cancel& cancel = Cancel::never());
// The Verilog and memory images of one stage with the stage's name taken out: what its counts depend on.
std::string stage_text(const rtl::Design& d, std::size_t stage);

}  // namespace tandem::flow
