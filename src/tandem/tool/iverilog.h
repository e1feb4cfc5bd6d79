// Icarus Verilog: a second simulator with four-state values. A .vvp file of others is never run (it can name native code).
#pragma once
#include <string>
#include <vector>

#include "tandem/tool/process.h"
#include "tandem/tool/work.h"

namespace tandem::tool {

struct IcarusResult {
  std::vector<std::string> warnings;  // of the compiler, with -Wall
  ProcessResult run;                  // of the simulation; $display comes in run.out
};
// Compiles the work folder's files (SystemVerilog 2012) with `top` as root and runs the simulation there. Results belong in a
// file that the bench writes, or behind a nonce given as plusarg: the log may hold anything. Throws Error(bad_input) with
// Icarus' messages when the sources are refused.
IcarusResult run_icarus(const WorkFolder& work, const std::vector<std::string>& files, const std::string& top,
                        const std::vector<std::string>& plusargs = {}, double seconds = 120, Trust trust = Trust::ours,
                        const Cancel& cancel = Cancel::never());

}  // namespace tandem::tool
