// Runs a search: asks a batch, evaluates it with N workers, stores, tells in the order of trial ids. Results do not depend on
// the number of workers, nor on how often the run was stopped and resumed.
#pragma once
#include <functional>
#include <span>
#include <vector>

#include "tandem/search/environment.h"
#include "tandem/search/searcher.h"
#include "tandem/search/store.h"

namespace tandem::search {

inline constexpr std::int64_t kFidelityIds = 1'000'000'000;  // ids of fidelity f begin at f times this

struct DriveState {
  std::size_t done = 0, total = 0;      // trials of this phase
  std::size_t feasible = 0;
};
struct DriveParams {
  std::size_t trials = 100;             // asked for in all
  int jobs = 1;
  double budget_s = 0;                  // wall time; 0: none
  std::function<void(const DriveState&)> report;  // after every evaluation; called under a lock
};
struct DriveResult {
  std::vector<TrialRow> trials;         // fidelity 0, by id, told ones only
  bool out_of_time = false;
};

// The whole search at fidelity 0, from wherever the store stands. What was evaluated is in the store when this returns or
// throws: results that took 5 ms or more are committed one by one, cheaper ones with their batch.
DriveResult drive(const Environment& e, const Problem& p, Searcher& s, Store& store, const DriveParams& params, const Cancel& cancel = Cancel::never());

// Points again at a higher fidelity: `base` are trials of fidelity 0. Results in their order; those in the store are reused.
// Stops between evaluations when the time is spent: the rest is missing (id -1).
std::vector<TrialRow> promote(const Environment& e, std::span<const TrialRow> base, int fidelity, Store& store, const DriveParams& params,
                              const Cancel& cancel = Cancel::never());

// Evaluates one point as the driver does: errors become results, figures that are not finite become failures.
Result evaluate_safely(const Environment& e, const Point& p, int fidelity, std::uint64_t seed, const Cancel& cancel);

}  // namespace tandem::search
