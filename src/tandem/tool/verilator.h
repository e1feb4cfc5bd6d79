// Verilator: lint, and cycle-accurate models as executables.
#pragma once
#include <string>
#include <vector>

#include "tandem/tool/process.h"
#include "tandem/tool/work.h"

namespace tandem::tool {

struct LintResult {
  bool clean = false;
  std::vector<std::string> messages;  // "%Warning-WIDTH: top.v:3:5: ..."
  ProcessResult run;
};
// verilator --lint-only -Wall on files of the work folder.
LintResult lint_verilog(const WorkFolder& work, const std::vector<std::string>& files, const std::string& top,
                        Trust trust = Trust::ours, const Cancel& cancel = Cancel::never());

struct ModelOptions {
  std::string top = "top";
  std::string prefix = "Vtop";        // class and header: "Vtop.h"
  std::vector<std::string> verilog;   // files of the work folder
  std::vector<std::string> cpp;       // C++ sources of the work folder (one with main, or a library of parts)
  std::string executable = "model";
  std::string optimise = "-O1";
  bool random_reset = true;           // --x-assign unique --x-initial unique; main sets randReset(2) and randSeed(n)
  std::vector<std::string> defines;   // "WIDTH=8"
  double seconds = 300;
  Trust trust = Trust::ours;
};
struct Model {
  std::string executable;             // name in the work folder
  double verilate_s = 0, compile_s = 0;
  std::string tool;                   // "verilator 5.006"
};
// Verilates and compiles. The runtime (verilated.o, a precompiled header) is compiled once per machine, version and
// flags, and kept in the cache. Throws Error(bad_input) with the tool's messages when Verilator or the compiler refuses.
Model build_model(const WorkFolder& work, const ModelOptions& options, const Cancel& cancel = Cancel::never());

// Runs it in the work folder, sandboxed like every tool.
ProcessResult run_model(const WorkFolder& work, const Model& model, const std::vector<std::string>& args = {},
                        double seconds = 120, Trust trust = Trust::ours, const Cancel& cancel = Cancel::never());

}  // namespace tandem::tool
