// The clock that a design reaches on an iCE40 part, before it is placed: the slowest path of its slowest stage, as a closed form of
// what lies on such paths. Other families have no such estimate: nothing here could be compared with a placement.
#pragma once
#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "tandem/plan/stages.h"

namespace tandem::plan {

// What lies between two registers: LUTs one behind the other with their wires, bits of carry chains, the doublings of what an enable
// drives, reads of block RAM, multipliers.
struct Path {
  double luts = 0, carry = 0, fan_out = 0, ram = 0, dsp = 0;
};
// Nanoseconds of a part: from a register to a register in any case, then each piece of a path. The spread is placed / estimated clock: its
// 5, 50 and 95 % quantiles of the designs that were fitted.
struct ClockPart {
  std::string_view device;
  std::array<double, 6> ns;  // always, luts, carry, fan_out, ram, dsp
  Calibration::Spread spread;
};
std::span<const ClockPart> clock_parts();
double path_ns(const Path& p, const std::array<double, 6>& ns);

// The candidates for the slowest path of each stage of a design, as expand() gives them. `dsp`: large multipliers are SB_MAC16.
std::vector<std::vector<Path>> paths(std::span<const StageShape> stages, bool dsp);

struct ClockEstimate {
  double mhz = 0, low = 0, high = 0;  // low, high: within which nine of ten designs were
  int stage = -1;                     // the slowest
};
ClockEstimate clock_of(std::span<const std::vector<Path>> paths, const ClockPart& part);
// Empty for devices that are not known here.
std::optional<ClockEstimate> clock_estimate(std::span<const StageShape> stages, bool dsp, std::string_view device);
std::string_view clock_source();

}  // namespace tandem::plan
