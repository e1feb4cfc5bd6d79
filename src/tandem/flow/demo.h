// The demonstration: from data to placed hardware. A study of networks for the shipped digits is explored, trained on the way;
// the best design of its front is built, verified on every image of the test split, placed and routed; the reports are written.
#pragma once
#include <filesystem>
#include <functional>
#include <string>

#include "tandem/flow/explore.h"

namespace tandem::flow {

struct DemoParams {
  std::string target = "up5k";
  std::filesystem::path out = "out/demo";
  std::uint64_t seed = 0;
  double scale = 1;                    // of trials and epochs: tests use less
  bool place = true;
  int jobs = 1;
  Limits limits;
  std::function<void(std::string_view)> say;
};
struct DemoResult {
  ExploreResult explored;
  std::size_t chosen = 0;              // index of the built trial
  bool ok = false;                     // it was built, and no word of the Verilog differs
  double seconds = 0;
  const report::Trial& design() const { return explored.study.trials[chosen]; }
};
// The study lies in out/study.yaml and out/study.db. A run that was stopped goes on where it was; one that was finished
// begins again. Chosen: of the designs of the front, which all fit by their closed forms, the highest validation accuracy, then
// the fewest cycles, then the fewest LUTs; one that the tools refuse makes room for the next. The test split plays no part in
// the choice. Error(no) when nothing fits.
DemoResult demo(const DemoParams& params, const Cancel& cancel = Cancel::never());
std::string demo_text(const DemoResult& r);
std::string demo_json(const DemoResult& r);

}  // namespace tandem::flow
