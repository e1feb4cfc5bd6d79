// nextpnr-ice40 and icepack: placement, routing, static timing, bitstream.
#pragma once
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "tandem/tool/process.h"
#include "tandem/tool/work.h"

namespace tandem::tool {

struct PlaceOptions {
  std::string device = "up5k";   // up5k, hx8k, hx1k, lp8k, ...
  std::string package = "sg48";  // sg48, ct256
  std::uint32_t seed = 1;
  double freq_mhz = 12;          // asked for; not reaching it is a result, not an error
  std::string pcf;               // name in the work folder; "" = pins chosen by nextpnr
  bool pcf_allow_unconstrained = false;
  double seconds = 900;
  Trust trust = Trust::ours;
};
struct Utilisation {
  std::int64_t used = 0, available = 0;
};
// One step of a path: through a cell (clk-to-q, logic, setup) or along a net (routing).
struct PathStep {
  std::string type, cell, port;    // the cell it arrives at
  std::string net;                 // of a routing step
  double ns = 0;
};
struct PlaceResult {
  bool fits = false;               // placed and routed
  std::string reason;              // when not: nextpnr's error
  bool ended = true;               // false: stopped after the time that it was given; some seeds never end
  std::map<std::string, Utilisation> utilisation;  // ICESTORM_LC, ICESTORM_RAM, ICESTORM_DSP, ICESTORM_SPRAM, SB_IO, ...
  std::map<std::string, double> fmax_mhz;          // per clock net
  double fmax = 0;                 // of the slowest clock; 0 when there is none
  std::vector<PathStep> path;      // the longest one between registers of the slowest clock
  std::string asc;                 // name in the work folder
  std::string tool;                // "nextpnr-ice40 0.4"
  ProcessResult run;
};
// Figures come from nextpnr's JSON report. A design that does not fit is a result (fits = false), and so is a seed that does not end.
PlaceResult place_ice40(const WorkFolder& work, const std::string& json, const PlaceOptions& options,
                        const Cancel& cancel = Cancel::never());

// The bitstream, as bytes; its header and length for the device are checked.
std::string pack_ice40(const WorkFolder& work, const std::string& asc, const Cancel& cancel = Cancel::never());

}  // namespace tandem::tool
