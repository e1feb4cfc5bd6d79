// The page of one built design. Plain data in, one HTML file out; nothing is measured here.
#pragma once
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "tandem/report/chart.h"

namespace tandem::report {

struct DesignLayer {
  std::string name, node, kind, shape;
  std::int64_t pe = 1, simd = 1, macs = 0, weights = 0;
  int weight_bits = 0, bits = 0;
  std::int64_t cycles = 0;             // per frame, of its slowest stage
  double lut4 = 0, bram = 0, dsp = 0;  // estimated
};
struct StageCount {                    // LUTs or gates of one stage: the closed form with its 90 % range, and what synthesis counted
  std::string name;
  double estimated = 0, low = 0, high = 0, found = 0;
};
// Two runs compared layer by layer (`tandem verify --explain`).
struct LayerDifference {
  std::string layer;
  double max = 0, mean = 0, share = 0; // of the absolute differences; share of the elements that differ, 0 to 1
  std::string first;                   // where the first one is and both values; empty: none
  std::string cause;                   // rounding, saturation, order, range, width; empty: none
};
struct DesignMetric {
  std::string name;
  Metric metric;
};
struct DesignBudget {
  std::string resource;                // "lut4", "bram", "dsp" ...
  double available = 0;
  std::string source;
};
struct DesignFile {
  std::string path, sha256;            // below the design's folder
  std::int64_t bytes = 0;
};
struct Design {
  std::string name, target, hash;      // hash of the generated Verilog
  bool ok = false;
  std::string reason, limit, frames;   // why not; what limits the speed; the data it was verified on
  std::vector<DesignLayer> layers;
  std::vector<StageCount> stages;      // empty: not counted
  std::string unit;                    // of their counts
  std::vector<LayerDifference> differences;  // empty: nothing was compared
  std::vector<DesignMetric> metrics;
  std::vector<DesignBudget> budgets;
  std::vector<std::string> host;
  std::vector<Distribution> precision; // empty: not recorded
  std::vector<Waveform> waves;
  std::vector<std::pair<std::string, std::string>> provenance;
  std::vector<DesignFile> files;
  std::vector<std::pair<std::string, std::string>> notices;  // third parties: what, licence
};

// `up` leads from the page's folder to the design's: "" when it lies there, "../" parts else; with `linked` false files are not linked.
std::string design_page(const Design& d, bool linked = true, std::string_view up = "", std::string_view more_script = "");

}  // namespace tandem::report
