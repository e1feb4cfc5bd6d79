// The samples on which a model is calibrated and judged.
#pragma once
#include <string>

#include "tandem/data/dataset.h"
#include "tandem/ir/graph.h"

namespace tandem::flow {

struct Samples {
  Tensor x;              // f32 [n, ...] in the shape of the model's input
  data::Dataset set;     // labels (y, classes) in the same order; set.y.size() == 0: none
  std::string source;    // "digits, test split, n = 500"
};
// A data set's name or file (data::open), an .npy, or an .npz with an array under the input's name, "x", or its only
// one. The part asked for where the set has parts, else everything; at most `most` samples (0: all), evenly spaced.
// Integer samples with a full scale become fractions of it. Error(bad_input): unreadable, shapes that the model's one
// input does not take, NaN or infinity (element named).
Samples open_samples(const std::string& data, const ir::Graph& model, data::Part part, std::int64_t most, const Limits& limits = {});

}  // namespace tandem::flow
