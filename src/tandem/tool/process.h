// External programs. The only place that starts one: an argument vector, never a shell; its own process
// group; limits on time, memory, files and output; a cleared environment with LC_ALL=C and HOME in the work
// folder; no network and no sight of the user's files where the machine allows a bubblewrap sandbox.
//
// An exit code of 0 proves nothing (on a full disk most tools end with 0 and an empty output): callers
// judge by what they parse out of the files the tool wrote.
#pragma once
#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "tandem/base/cancel.h"
#include "tandem/base/error.h"

namespace tandem::tool {

enum class Trust {
  ours,     // inputs written by us: runs without a sandbox where there is none
  foreign,  // inputs of others (Verilog, SPICE, models built from them): refused where there is no sandbox
};

struct ProcessResult {
  int exit_code = -1;         // -1 when ended by a signal
  int signal = 0;
  bool timed_out = false;     // wall time
  bool out_of_limits = false;  // CPU time, memory, file size
  bool sandboxed = false;
  std::string out, err;       // at most output_bytes each
  std::uint64_t dropped_bytes = 0;  // output beyond the limit
  double seconds = 0;
  std::uint64_t peak_rss_bytes = 0;  // of the largest process; sampled ten times a second
  bool ok() const { return exit_code == 0 && !timed_out; }
  // "exit code 1", "signal 11", "stopped after 60 s": for messages; with the last lines of stderr, printable.
  std::string summary() const;
};

struct Process {
  std::vector<std::string> argv;              // argv[0] is an absolute path (tool::find)
  std::filesystem::path folder;               // work folder: current folder, HOME, the only writable place
  std::vector<std::filesystem::path> readable;  // further folders or files seen, read-only, at their own place
  std::map<std::string, std::string> env;
  std::string input;                          // given on stdin
  double seconds = 120;                       // wall time
  double cpu_seconds = 0;                     // 0: as wall time times 4 (threads)
  std::uint64_t memory_bytes = 4ull << 30;    // address space of one process of the group
  std::uint64_t file_bytes = 1ull << 30;      // largest file written
  std::uint64_t output_bytes = 1ull << 20;    // kept of stdout and of stderr
  Trust trust = Trust::ours;

  // Runs to the end. Throws Error(interrupted) when cancelled (the group is killed first), Error(bad_input) for
  // control characters in an argument, Error(tool_missing) when the program is not there, Error(no) when the
  // inputs are foreign and there is no sandbox.
  ProcessResult run(const Cancel& cancel = Cancel::never()) const;
};

// Whether bubblewrap works here; probed once. `sandbox_reason` says why not.
bool sandbox_available();
std::string sandbox_reason();
// --trust-input: foreign inputs may run without a sandbox where there is none.
void trust_foreign_input(bool yes);

}  // namespace tandem::tool
