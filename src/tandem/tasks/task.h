// What is to be learned and how it is judged: preparation of the samples, and a metric over outputs.
// Models and optimisers are not known here.
#pragma once
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "tandem/base/metric.h"
#include "tandem/data/dataset.h"
#include "tandem/tensor/tensor.h"

namespace tandem::tasks {

struct Interval {
  double low = 0, high = 1;
};
// Wilson's score interval of a proportion of k in n, without continuity correction (E. B. Wilson, JASA 22, 1927).
// z = 1.96 gives 95 %. n = 0 gives [0, 1].
Interval wilson(std::int64_t k, std::int64_t n, double z = 1.959963984540054);

struct Score {
  Metric metric;               // the figure the task is judged by, with its interval
  std::optional<Metric> baseline;  // what needs no model
  std::int64_t n = 0;          // samples scored
  // classification
  std::int64_t correct = 0;
  Tensor confusion;            // i64 [classes, classes]: row the truth, column the answer
};

// Which samples were scored, said in Metric::source: "digits test, n = 500".
struct Scored {
  std::string data, split;
  std::optional<std::uint64_t> seed;  // of the split, where one was drawn
  Fidelity fidelity = Fidelity::executed;
};

class Task {
 public:
  virtual ~Task() = default;
  virtual std::string_view name() const = 0;
  virtual std::string_view doc() const = 0;
  // Error(bad_input) when the data set cannot serve this task.
  virtual void check(const data::Dataset& d) const = 0;
  // The samples as a model sees them: f32 [n, ...].
  virtual Tensor prepare(const data::Dataset& d) const = 0;
  // Judges the outputs of a model on the samples of d, in their order.
  virtual Score score(const Tensor& outputs, const data::Dataset& d, const Scored& what) const = 0;
};

// Classification. prepare: x / full_scale where the set has one (u8 images to [0, 1]), else x. score: share of samples whose
// largest output (the lowest index among equals) is the label. outputs: [n, classes, 1 ...] numbers, or [n] integer class
// indices. The baseline answers every sample with the class most frequent among the samples scored: the best constant
// answer in hindsight. NaN among the outputs, or another number of outputs than classes, is an Error(bad_input).

const std::vector<const Task*>& list_tasks();
const Task& find_task(std::string_view name);  // Error(bad_input) with the nearest name

}  // namespace tandem::tasks
