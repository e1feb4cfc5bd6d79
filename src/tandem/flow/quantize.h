// Post-training quantisation and judging of models on data, in one call each.
#pragma once
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "tandem/base/cancel.h"
#include "tandem/base/metric.h"
#include "tandem/flow/samples.h"
#include "tandem/ir/post_training.h"

namespace tandem::flow {

struct LayerError {                // of one quantiser: quantised against float
  std::string layer, role, format;  // role: "input", "weights", "values", "result" (of an output of the model, not quantised)
  double scale = 0;                // the largest of its scales; 0 for a result
  double max_error = 0, mean_error = 0;  // absolute
  double sqnr_db = 0;              // 10 log10(sum x^2 / sum (x - q)^2); infinite where all are equal
  double clipped = 0;              // share of the float values outside its range
};

struct QuantizeParams {
  std::string format = "int8";     // ir::post_training_format
  std::string weight_format, activation_format;  // instead of `format`, where not empty
  bool per_channel = false;
  bool by_table = false;           // Softmax and LayerNormalization as integers with a table too (ir/by_table.h): nothing is left to the host
  std::string method = "minmax";   // the ranges that occur
  std::string data;                // open_samples
  std::int64_t calibration = 512;  // samples at most for the ranges (train split where there is one), 0: all
  std::int64_t limit = 1000;       // samples at most for the errors and the accuracy (test split), 0: all
  Limits limits;
  std::function<void(std::string_view)> say;
};
struct QuantizeResult {
  ir::Graph graph;
  std::string weights, activations, calibrated_on, judged_on;
  bool per_channel = false;
  std::vector<LayerError> layers;
  std::optional<Metric> before, after;  // accuracy of float and exact result, where there are labels
};
// Error(bad_input): see plan_quantisation() and open_samples().
QuantizeResult quantize(const ir::Graph& model, const QuantizeParams& p, const Cancel& cancel = Cancel::never());
std::string to_json(const QuantizeResult& r, std::string_view out);
std::string to_text(const QuantizeResult& r);

struct EvalParams {
  std::string data, task;          // "classification" or "regression"; empty: by the labels
  std::int64_t limit = 0;          // samples at most, 0: all of the test split
  Limits limits;
};
struct EvalResult {
  std::string task, data;
  std::int64_t n = 0;
  bool quantised = false;          // else there is no exact result beside the float one
  Metric floating;                 // accuracy in %, or mean squared error
  std::optional<Metric> exact;
  std::optional<Metric> baseline;
  std::int64_t agreeing = 0;       // samples whose answers are the same, float and exact
  std::vector<std::string> classes;
  Tensor confusion;                // i64, of the exact result, else the float one: row truth, column answer
  std::vector<LayerError> layers;  // each quantiser of activations against the float values that reach it
};
EvalResult evaluate(const ir::Graph& model, const EvalParams& p, const Cancel& cancel = Cancel::never());
std::string to_json(const EvalResult& r, std::string_view model);
std::string to_text(const EvalResult& r, bool confusion);

}  // namespace tandem::flow
