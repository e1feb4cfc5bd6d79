// OpenSTA: static timing of a netlist of library cells. (Its power is not used: version 2.0.17 forgets the activities of pins.)
#pragma once
#include <string>
#include <vector>

#include "tandem/tool/process.h"
#include "tandem/tool/work.h"

namespace tandem::tool {

struct StaOptions {
  std::string top = "top", clock = "clk";
  double period_ns = 10;
  double seconds = 300;
  Trust trust = Trust::ours;
};
struct StaResult {
  double slack_ns = 0;         // of the slowest path at the period asked for; may be negative
  double fmax_mhz = 0;         // of the period at which it would be 0
  std::string from, to;        // ends of that path
  std::string tool;            // "OpenSTA 2.0.17"
  ProcessResult run;
};
// One clock without skew or tree; inputs arrive at its edge, outputs are due at the next. Throws Error(tool_missing) with the
// package, Error(bad_input) where it cannot read the files, misses a module (it would go on with an empty one).
StaResult time_cells(const WorkFolder& work, const std::vector<std::string>& liberty, const std::string& verilog, const StaOptions& options,
                     const Cancel& cancel = Cancel::never());

}  // namespace tandem::tool
