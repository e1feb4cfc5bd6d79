// A study as read from YAML, and the environment that evaluates its points. Shared by explore.cc and its tests.
#pragma once
#include <map>
#include <mutex>

#include "tandem/flow/build.h"
#include "tandem/flow/explore.h"
#include "tandem/plan/stage_graph.h"
#include "tandem/search/environment.h"
#include "tandem/search/searcher.h"

namespace tandem::flow {

enum Phase : int { kSearch = 0, kFront = 1, kBuild = 2 };  // fidelities of the environment

struct Study {
  std::string name, searcher = "nsga2";
  std::string text;                     // canonical: what the study means, searcher.trials and name apart
  std::filesystem::path folder;         // relative files are found here
  search::Space space;
  search::Problem problem;
  std::size_t population = 20, trials = 100;
  std::uint64_t seed = 0;
  std::optional<Config> train;          // recipe with $names
  std::string model, input_format;      // else this file
  std::optional<Config> hardware;
  bool layer_folding = false;           // parameters LAYER.pe and LAYER.simd
  int epochs_search = 0, epochs_front = 0;
  std::string front = "none";           // none, verify, place
  int front_most = 3;
  double train_seconds = 300;
  std::uint64_t train_memory = 4ull << 30;
};
// Error(bad_input) with file, line and nearest key: unknown keys, names, metrics; parameters that nothing uses.
Study read_study(const Config& c, const std::filesystem::path& folder, std::optional<std::uint64_t> seed = {}, const Limits& limits = {});

// JSON of `c` with every $name replaced by the point's value, `when` and `repeat` carried out.
std::string expand(const Config& c, const search::Space& space, const search::Point& p);

class StudyEnvironment : public search::Environment {
 public:
  // `out`: folder for trained networks and designs.
  StudyEnvironment(const Study& s, std::filesystem::path out, const Limits& limits = {});
  const search::Space& space() const override { return s_.space; }
  std::vector<search::MetricInfo> metrics() const override;
  std::string version() const override { return version_; }
  std::string group(const search::Point& p, int fidelity) const override;
  search::Result evaluate(const search::Point& p, int fidelity, std::uint64_t seed, const Cancel& cancel) const override;

 private:
  struct Network {
    ir::Graph graph;
    plan::StageGraph stages;
    std::optional<Metric> accuracy;
    std::int64_t weights = 0, weight_bits = 0, macs = 0;
  };
  struct Hardware {
    hardware::Target target;
    double clock = 0, speedup = 0, throughput = 0;
    std::int64_t cycles = 0;
  };
  std::string recipe(const search::Point& p, int fidelity) const;
  std::shared_ptr<const Network> network(const search::Point& p, int fidelity, std::uint64_t seed, const Cancel& cancel) const;
  std::filesystem::path trained(const std::string& recipe, std::uint64_t seed, const Cancel& cancel) const;
  bool speaks_of(std::string_view metric) const;  // as an objective or in a constraint
  Hardware hardware_of(const search::Point& p) const;

  const Study& s_;
  std::filesystem::path out_;
  Limits limits_;
  std::string version_;
  mutable std::mutex mutex_;
  mutable std::map<std::string, std::shared_ptr<const Network>> networks_;
  mutable std::map<std::string, hardware::Target> targets_;
};

// The metrics that objectives and constraints may name.
std::vector<search::MetricInfo> study_metrics(bool trained);

}  // namespace tandem::flow
