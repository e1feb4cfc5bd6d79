// Folding of a streaming design: closed-form cycles and resources, and the search for the smallest
// folding that reaches a throughput on a device.
#pragma once
#include <string>
#include <vector>

#include "tandem/base/metric.h"
#include "tandem/plan/stages.h"

namespace tandem::map {

// What a folded design needs; estimated.
struct Estimate {
  std::int64_t interval = 0;   // cycles per frame in steady state: those of the slowest stage
  std::int64_t latency = 0;    // cycles from the first input beat to the first output beat (stages overlap: approximate)
  plan::Cost cost;             // sum over stages
  int slowest = -1;            // stage
  double lut4(bool dsp) const { return dsp ? cost.lut4 - cost.dsp_lut4 : cost.lut4; }
};
// Closed forms only; `scratch` is reused between calls and holds the expanded stages afterwards.
Estimate evaluate(const plan::StageGraph& g, const plan::Folding& f, std::vector<plan::StageShape>& scratch,
                  const plan::Calibration& family = plan::ice40_calibration());

// Budget of a device; a quantity it has none of is 0.
struct Budget {
  std::string device = "up5k";
  double lut4 = 5280, bram = 30, dsp = 8;
  // Share of the LUTs that may be planned: closed forms are a few per cent off and placement needs room.
  double fill = 0.85;
  double reserved_lut4 = 0;  // of a shell around the design
  plan::Family family = plan::Family::ice40;  // units of lut4, bram and dsp
  std::int64_t multipliers = 0;  // most that may work at once; 0: no limit
};
// PE * SIMD summed over the contractions; constants have none.
std::int64_t multipliers(const plan::StageGraph& g, const plan::Folding& f);

struct Choice {
  plan::Folding folding;
  Estimate estimate;
  bool uses_dsp = false;
  std::string limit;         // why it is not faster, in words
};
// The smallest folding that reaches `interval` cycles per frame or less (0: as fast as the budget allows):
// from fully folded, more SIMD, then more PE, always on the slowest stage. Throws Error(no) with the
// smallest reason when the device is too small, or the throughput cannot be reached.
Choice choose_folding(const plan::StageGraph& g, const Budget& b, std::int64_t interval = 0);

// The quantity that does not fit, in words; "" when everything does. `stages` as evaluate() left them.
std::string why_not(const plan::StageGraph& g, const Estimate& e, const Budget& b, bool dsp,
                    const std::vector<plan::StageShape>& stages);

}  // namespace tandem::map
