// The demonstration: from data to placed hardware. A few quantised networks are trained on the shipped
// digits, the best one that fits the target is built, verified on every image of the test split, placed
// and routed.
#pragma once
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "tandem/flow/build.h"
#include "tandem/tasks/task.h"
#include "tandem/train/learn.h"

namespace tandem::flow {

struct DemoParams {
  std::string target = "up5k";
  std::filesystem::path out = "out/demo";
  std::uint64_t seed = 0;
  double scale = 1;                    // of the epochs: tests use less
  bool place = true;
  std::function<void(std::string_view)> say;
};
struct DemoCandidate {
  std::string name, network;           // "conv8 conv16/2 dense", 4 bits
  int bits = 0;
  double valid = 0;                    // validation accuracy, %
  double train_s = 0;
  bool fits = false;
  std::string reason;                  // why it does not
  std::int64_t weights = 0, interval = 0;
  double lut4 = 0, bram = 0;           // estimated, folded for the target
};
struct DemoResult {
  std::vector<DemoCandidate> candidates;
  int chosen = -1;
  tasks::Score software, hardware;     // test split: exact evaluation, and the words the Verilog gave
  BuildResult build;
  double seconds = 0;
};
// Chosen: the highest validation accuracy among the candidates that fit, then the fewest cycles. The test
// split plays no part in the choice. Error(no) when nothing fits.
DemoResult demo(const DemoParams& params, const Cancel& cancel = Cancel::never());
std::string demo_text(const DemoResult& r);

}  // namespace tandem::flow
