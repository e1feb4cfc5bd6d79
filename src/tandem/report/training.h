// The page of one training run. Plain data in, one HTML file out.
#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "tandem/base/metric.h"

namespace tandem::report {

struct TrainingEpoch {
  std::int64_t epoch = 0;
  double rate = 0, train_loss = 0, train_accuracy = 0;   // accuracies 0..1
  std::optional<double> valid_loss, valid_accuracy;
  bool best = false;                 // the best so far
};
struct TrainingScore {
  std::string part;                  // "validation", "test"
  Metric metric;
  std::int64_t n = 0;
};
struct Training {
  std::string name, evaluation;      // evaluation: "exact" or "float"
  std::int64_t best_epoch = 0;
  std::vector<TrainingEpoch> epochs;
  std::vector<TrainingScore> scores;
  std::vector<std::pair<std::string, std::string>> provenance;
};
std::string training_page(const Training& t, std::string_view more_script = "");

}  // namespace tandem::report
