// A study as pictures and tables see it: what was searched, every trial, the front. Filled by `flow` from
// the store, read by the pages of this folder. Plain data, no behaviour.
#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "tandem/base/metric.h"

namespace tandem::report {

struct Objective {
  std::string metric;              // a key of Trial::metrics
  std::string unit;
  bool maximise = false;
};
struct Constraint {
  std::string metric;
  bool at_most = true;             // else at least
  double bound = 0;
};
struct Trial {
  std::int64_t id = 0;             // unique in the study, in the order of asking
  std::vector<std::pair<std::string, std::string>> parameters;  // as texts, in the order of the space
  std::vector<std::pair<std::string, Metric>> metrics;          // the latest fidelity of each
  bool feasible = true;
  std::string reason;              // why it is infeasible or failed, in words
  bool front = false;              // not dominated among the feasible ones
  std::string design;              // folder of the built design, relative to the study's; empty: not built
  double seconds = 0;              // what its evaluation took
};
struct Study {
  std::string name, searcher;
  std::uint64_t seed = 0;
  std::int64_t budget = 0;         // trials asked for
  std::vector<Objective> objectives;
  std::vector<Constraint> constraints;
  std::vector<Trial> trials;
  std::vector<std::pair<std::string, std::string>> provenance;  // version, model, data, target, machine ...
};

}  // namespace tandem::report
