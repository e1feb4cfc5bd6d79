// What is searched: an environment evaluates points of its space; a problem says what is wanted of the figures.
#pragma once
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "tandem/base/cancel.h"
#include "tandem/base/metric.h"
#include "tandem/search/space.h"

namespace tandem::search {

struct MetricInfo {
  std::string name, unit, doc;
};
struct Artefact {
  std::string path;               // relative to the study's folder
  std::string hash;               // of its bytes
};
struct Result {
  std::vector<std::pair<std::string, Metric>> metrics;  // empty: the evaluation failed
  // Overshoots of limits that are the environment's own ("fits up5k": 0.2 = a fifth too large). A point with one is
  // infeasible, and so is one without metrics.
  std::vector<std::pair<std::string, double>> violations;
  std::string reason;             // why it failed or is infeasible, in words
  double seconds = 0;             // what it took; measured by whoever calls
  std::vector<Artefact> artefacts;
  const Metric* metric(std::string_view name) const;    // nullptr: none
};

// evaluate() is pure in (point, fidelity, seed, version()): same arguments, same figures, whatever was evaluated before,
// on whichever thread. It is called by several threads at once.
class Environment {
 public:
  virtual ~Environment() = default;
  virtual const Space& space() const = 0;
  virtual std::vector<MetricInfo> metrics() const = 0;
  // Changes whenever a figure could: a hash of everything an evaluation depends on.
  virtual std::string version() const = 0;
  // What evaluations share (a trained network): trials of one batch with equal words are evaluated one after the other by
  // one worker. "": nothing.
  virtual std::string group(const Point&, int /*fidelity*/) const { return ""; }
  // Error(no) and Error(bad_input): the point is infeasible, for this reason. Error(interrupted), (terminated),
  // (tool_missing), (limit): the search stops. Everything else is a failed trial.
  virtual Result evaluate(const Point& p, int fidelity, std::uint64_t seed, const Cancel& cancel) const = 0;
};

struct Objective {
  std::string metric;
  bool maximise = false;
};
struct Constraint {
  std::string metric;
  bool at_most = true;            // else at least
  double bound = 0;
  std::string text() const;       // "lut4 <= 4400"
};
struct Problem {
  std::vector<Objective> objectives;
  std::vector<Constraint> constraints;
};

// A result in the searcher's terms.
struct Judged {
  std::vector<double> objectives;  // all minimised; empty when the trial failed (a missing or non-finite figure)
  std::vector<double> overshoot;   // of each constraint, then of each own violation: 0 or (value - bound) / max(|bound|, 1)
  double violation = 0;            // their sum; infinite when the trial failed
  bool failed = false;
  bool feasible() const { return !failed && violation == 0; }
};
Judged judge(const Problem& p, const Result& r);

// Why nothing is feasible: the fewest limits that no trial satisfies together, and the trial that overshoots them least.
// Limits are the constraints in their order, then the environment's own by name; "evaluated" stands for trials without
// figures when every trial failed.
struct Conflict {
  std::vector<std::string> limits;       // as text, in order
  std::size_t nearest = 0;               // index of the trial
  std::vector<double> overshoot;         // of that trial, per limit
};
Conflict explain(const Problem& p, const std::vector<Result>& trials);

}  // namespace tandem::search
