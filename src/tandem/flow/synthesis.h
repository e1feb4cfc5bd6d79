// A generated design through yosys, nextpnr and icepack, inside the shell serial8.
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
  std::uint32_t seed = 1;         // of the placement
  bool place = true;              // else synthesis only
};
struct NamedMetric {
  std::string name;               // "LUT4", "Fmax", ...
  Metric metric;
};
struct SynthesisResult {
  tool::Ice40Cells cells;
  tool::PlaceResult place;        // place.fits says whether it was placed and routed
  std::string bitstream;          // bytes; empty when it does not fit
  rtl::Shell shell;
  std::vector<std::string> warnings;  // of yosys
  std::vector<NamedMetric> metrics;   // with their fidelity: synthesised, placed
};
// Throws Error(tool_missing) naming the package, Error(bad_input) when a tool refuses our Verilog.
SynthesisResult synthesise(const rtl::Design& d, const SynthesisParams& params, const Cancel& cancel = Cancel::never());

}  // namespace tandem::flow
