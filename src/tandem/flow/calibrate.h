// Fits the closed forms of LUTs (plan/calibration.cc) to yosys runs of generated stages. Random small networks are
// lowered, folded at random and generated; every distinct stage is synthesised for itself.
#pragma once
#include <array>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "tandem/base/cancel.h"
#include "tandem/plan/stages.h"
#include "tandem/rtl/generate.h"

namespace tandem::flow {

struct StageSample {
  plan::StageShape shape;
  double lut = 0, bram = 0, ff = 0;  // synthesised
  std::int64_t network = 0;
  bool dsp = false;                  // multipliers became `dsps` DSPs, else logic
  double dsps = 0;
};
struct KindFit {
  plan::StageKind kind{};
  std::int64_t samples = 0;
  plan::Calibration::Row lut{}, ff{};
  double median_error = 0, largest_error = 0;  // of LUTs: |closed form - synthesised| / max(synthesised, 8)
  plan::Calibration::Spread spread;            // synthesised / closed form
};
struct CalibrationFit {
  plan::Family family{};
  std::int64_t samples = 0, bram_differs = 0, dsp_differs = 0;  // stages whose block RAMs or DSPs differ from the rule
  std::vector<KindFit> kinds;                  // one per kind, in their order; no samples: the coefficients given
  std::string tool;
};
// Coefficients >= 0 that minimise the sum of squared relative errors, kind by kind (coordinate descent on the normal
// equations: six unknowns). Kinds without samples keep those of `start`.
CalibrationFit fit(const std::vector<StageSample>& samples, const plan::Calibration& start);

// Networks from this number on have streams that part, meet and change their order, and every form of the matrix unit; those before are
// chains of layers.
inline constexpr std::int64_t kForms = 10'000;
// From here on each is one layer: a matrix of any form, or a vector operator.
inline constexpr std::int64_t kLayers = 20'000;
// From here on: a matrix of many outputs and their requantiser.
inline constexpr std::int64_t kChannels = 30'000;
// Networks `first` to `first + count - 1` of a seed; units whose rows share multipliers come
// with DSPs, of single layers (kLayers on) without them too. Deterministic.
std::vector<StageSample> sample_stages(plan::Family family, std::uint64_t seed, std::int64_t first, std::int64_t count,
                                       std::string* tool = nullptr, const Cancel& cancel = Cancel::never());

// The stages of one of these networks, constants measured, not synthesised; none where hardware refuses the network.
std::vector<plan::StageShape> sample_shapes(plan::Family family, std::uint64_t seed, std::int64_t network);

// The same, generated: stages and Verilog.
std::optional<rtl::Design> sample_design(plan::Family family, std::uint64_t seed, std::int64_t network);

// Of ratios in order, between two of them linearly; 1 where there are none.
double quantile(const std::vector<double>& sorted, double q);

// Rows as they stand in plan/calibration.cc.
std::string rows_text(const CalibrationFit& f);

}  // namespace tandem::flow
