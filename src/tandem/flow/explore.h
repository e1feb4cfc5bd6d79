// Exploration: a study (YAML) names networks, hardware and what is wanted; the answer is a Pareto front.
//
//   name: digits-up5k
//   model: net.onnx              # one quantised network; or, a family of them:
//   train: {...}                 # a recipe (train/learn.h) in which $name stands for a parameter. In lists, {when: {depth: [2, 3]},
//                                # layers: [...]} enters only for these values, {repeat: $n, layers: [...]} n times
//   input_format: uint8/255      # with model: only
//   space:
//     bits: [2, 3, 4]            # one of these: ordered when all are numbers
//     width: {int: [4, 16], step: 4}
//     rate: {real: [0.001, 0.1], scale: log}
//     kind: {choice: [a, b]}     # also ordinal, permutation: n, sequence: [a, b] with length: n
//     width2: {int: [4, 16], when: {depth: 2}}
//   hardware:
//     target: up5k
//     clock: 12                  # MHz; the target's
//     speedup: $speedup          # times the speed of the smallest folding; or cycles: N, or throughput: FPS, or folding: layers
//                                # (adds the parameters LAYER.pe and LAYER.simd); none: as fast as the target holds
//   objectives: {accuracy: maximise, lut4: minimise}
//   constraints: {cycles: "<= 20000"}
//   searcher: {name: nsga2, population: 20, trials: 200, seed: 0}
//   epochs: {search: 6, front: 30}       # with train: only
//   front: {build: none, most: 3}        # none, verify (Verilator) or place: designs of the front that are built, spread along
//                                        # it by the first objective (ties: the next); for one that cannot be built, another
//   limits: {seconds: 300, memory: 4G}   # of one training
#pragma once
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "tandem/base/cancel.h"
#include "tandem/base/config.h"
#include "tandem/report/study.h"

namespace tandem::flow {

struct ExploreParams {
  std::filesystem::path out;
  bool resume = false;                 // go on with the study in `out`
  bool overwrite = false;              // remove the study in `out` first
  int jobs = 1;
  double budget_s = 0;                 // wall time; 0: none
  std::optional<std::uint64_t> seed;   // instead of the study's
  Limits limits;
  std::function<void(std::string_view)> say;
  bool progress = true;                // draw it where stderr is a terminal
};
struct ExploreResult {
  report::Study study;
  bool out_of_time = false;
  std::string why_infeasible;          // no trial is feasible: the smallest set of limits that conflict, the nearest trial
  std::string space_size;              // "576", or "infinite"
  std::int64_t networks = 0;           // distinct networks among the trials
  double seconds = 0;
};
// Searches, trains and builds; whatever was evaluated is in out/study.db at any moment. Writes front.json, front.csv, trials.csv,
// summary.txt and designs/ID. On cancellation Error(interrupted) says how to resume.
ExploreResult explore(const std::filesystem::path& study, const ExploreParams& params, const Cancel& cancel = Cancel::never());

// What it would take; nothing is written.
struct ExplorePlan {
  std::string name, space_size;
  std::int64_t trials = 0, networks = 0;  // at most so many trainings; 0: none
  double seconds = 0;                     // estimated, by one training or evaluation done now
  std::uint64_t bytes = 0;                // estimated on disk
  std::vector<std::pair<std::string, std::string>> parameters;  // name, values
  std::vector<std::pair<std::string, std::string>> metrics;     // that objectives and constraints may name: name, meaning
};
ExplorePlan plan_study(const std::filesystem::path& study, const ExploreParams& params, const Cancel& cancel = Cancel::never());

// The study in a folder written by explore(), finished or not.
report::Study load_study(const std::filesystem::path& folder);

std::string front_text(const report::Study& s);    // a table
std::string front_json(const report::Study& s);    // no times: equal for equal results
std::string front_csv(const report::Study& s);
std::string trials_csv(const report::Study& s);

// A commented study that works as it is.
std::string_view study_template();

// The body of the hidden command `tandem explore-worker`: trains one network in the current folder from task.yaml.
int explore_worker();

}  // namespace tandem::flow
