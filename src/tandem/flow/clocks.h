// Placed clocks of generated networks: what the closed forms of plan/clock.h are fitted to and judged by.
#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "tandem/base/cancel.h"
#include "tandem/hardware/target.h"
#include "tandem/plan/clock.h"

namespace tandem::flow {

// Networks from this number on (and as far from kForms on) are placed for the fit; those before only judge.
inline constexpr std::int64_t kClockFit = 1000;

struct ClockSample {
  std::string device;                // as nextpnr names it
  bool fitted = false;               // else only judged
  std::int64_t network = 0;          // of sample_design(), seed 1
  std::int64_t lut = 0;              // synthesised, with the shell
  int stage = -1;                    // in which the slowest path ends, of the median placement; -1: in the shell
  std::vector<double> fmax;          // MHz, of each seed that was placed, sorted
  double median() const { return fmax[(fmax.size() - 1) / 2]; }
};
// One network of sample_design() in its shell, placed with seeds 1, 2, ...; none where hardware refuses it, where its estimated LUTs are
// not within the two, or where it does not fit.
std::optional<ClockSample> place_sample(const hardware::Target& target, std::int64_t network, int seeds, double least_luts, double most_luts,
                                        const Cancel& cancel = Cancel::never());

// Lines of flow/clocks.csv, both ways.
std::string to_line(const ClockSample& s);
std::vector<ClockSample> read_samples(const std::string& text);
// The row of plan/clock.cc.
std::string to_text(const plan::ClockPart& p);

// Estimated MHz of each sample of the part's device.
std::vector<double> estimated(const std::vector<ClockSample>& samples, const plan::ClockPart& part);
// Nanoseconds of least sum of relative errors over the fitted samples of a device, by pattern search from those of `start`, each at most half
// as much again and at least two thirds: they stay what they mean. The spread is that of these samples.
plan::ClockPart fit_clock(const std::vector<ClockSample>& samples, const plan::ClockPart& start);

}  // namespace tandem::flow
