// The door to the learning library: interfaces in Tandem's own types, behind which libtorch lives
// (docs/runtime.md). This is the only header of the folder that others may include.
//
//   train::Learner& learner = train::open_learner();      // opens libtandem_learn.so; Error(tool_missing)
//   auto result = learner.fit(graph, data, params);
//
// What is described here without opening the door: the recipe (a YAML file), and the tables of
// optimisers, schedules and rules.
#pragma once
#include <array>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "tandem/base/cancel.h"
#include "tandem/base/config.h"
#include "tandem/ir/exact.h"
#include "tandem/ir/graph.h"
#include "tandem/tasks/task.h"

namespace tandem::train {

// ---- tables (table.cc) --------------------------------------------------------------------------
struct Parameter {
  std::string_view name;
  double fallback, lo, hi;
  std::string_view doc;
};
struct Descriptor {
  std::string_view name, summary, source;
  std::vector<Parameter> parameters;
};
std::span<const Descriptor> optimisers();  // sgd, adam
std::span<const Descriptor> schedules();   // constant, cosine, step
std::span<const Descriptor> rules();       // how gradients pass what has none
// One row by name; Error(bad_input) with the nearest name. `what` is "optimiser", "schedule" or "rule".
const Descriptor& find_descriptor(std::span<const Descriptor> table, std::string_view name, std::string_view what);

// Why the learning library refuses a node, "" when it does not; the learner's own refusals are the same (tested).
std::string why_not_trainable(const ir::Graph& g, const ir::Node& n);
// Whether the operator is trained at all; the node's attributes and inputs may still be refused.
bool is_trained(std::string_view domain, std::string_view op);

// ---- what to do ---------------------------------------------------------------------------------
struct Choice {                      // one row of a table with its parameters, in the table's order
  std::string name;
  std::vector<double> values;
  double operator[](std::string_view parameter) const;  // looked up in the tables
};
struct FitParams {
  Choice optimiser;                  // default: adam
  Choice schedule;                   // default: cosine
  int epochs = 30;
  int batch = 32;
  double warmup_epochs = 0;          // learning rate grows linearly from 0
  double label_smoothing = 0;
  int shift = 0;                     // augmentation: images move by up to this many pixels, zeros enter
  std::vector<std::string> freeze;   // patterns (* and ?) of initialisers that keep their value
  std::uint64_t seed = 0;
  int threads = 0;                   // 0: the thread budget
  std::string checkpoint;            // file written at the end of every epoch; empty: none
  bool resume = false;               // continue from `checkpoint` when it exists
  FitParams();
};
struct Examples {                    // one part of a data set
  Tensor x;                          // [n, ...] any element type; the value the graph's input gets
  std::vector<std::int64_t> label;   // n class indices
};
struct EpochReport {
  int epoch = 0, epochs = 0;         // epoch counts from 1
  double rate = 0;                   // learning rate at its end
  double train_loss = 0, train_accuracy = 0;
  double valid_loss = 0, valid_accuracy = 0;  // float evaluation; NaN without a validation part
  bool best = false;
};
struct FitResult {
  ir::Graph best;                    // weights, statistics and scales as f32 initialisers
  ir::Graph last;
  int best_epoch = 0;                // least validation error, then loss; the last without such a part
  std::vector<EpochReport> curves;
  double seconds = 0;                // training only
  int threads = 0;
  std::string library;               // "libtorch 1.13.0, AVX2"
};

// ---- what is behind the door -----------------------------------------------------------------------
enum class Mode {
  evaluation,  // BatchNorm by its statistics, no dropout
  training,    // BatchNorm by the batch (statistics are updated), dropout
};

// A graph lowered to libtorch, operator by operator (the eager route). Float values are f32, or f64
// when asked for (comparisons). Quantisers run straight-through: gradient 1 inside, 0 outside; scales
// by the LSQ formula without its factor 1/sqrt(N kmax).
class Eager {
 public:
  virtual ~Eager() = default;
  virtual std::vector<Tensor> run(const std::vector<Tensor>& inputs, Mode mode) = 0;
  // Gradients of sum_i <outputs[i], cotangents[i]> with respect to the named inputs or initialisers.
  virtual std::vector<Tensor> gradients(const std::vector<Tensor>& inputs, const std::vector<Tensor>& cotangents,
                                        const std::vector<std::string>& wrt, Mode mode) = 0;
  // An initialiser's present value.
  virtual Tensor get(std::string_view initialiser) const = 0;
  virtual void set(std::string_view initialiser, const Tensor& value) = 0;
};

// A quantised graph in evaluation mode, bit-exact (docs/semantics.md 3): contractions by libtorch on
// integers, in f32 while the span is below 2^24, f64 below 2^53, else exec's own kernel; everything
// else by exec.
class ExactModel {
 public:
  virtual ~ExactModel() = default;
  virtual std::vector<Tensor> run(const std::vector<Tensor>& inputs) = 0;
  // Contractions taken by libtorch in f32, in f64, and by exec.
  virtual std::array<int, 3> contractions() const = 0;
};

class Learner {
 public:
  virtual ~Learner() = default;
  virtual std::string version() const = 0;
  virtual std::unique_ptr<Eager> eager(const ir::Graph& g, DType precision = DType::f32) = 0;
  virtual std::unique_ptr<ExactModel> exact(const ir::Graph& bound) = 0;
  // Trains a classifier: one input, one output [batch, classes] of logits, softmax cross-entropy.
  // Deterministic for a seed at given threads, library and CPU; a resumed run equals the undisturbed
  // one bit for bit. Stops at the first non-finite loss: Error(no) with step, layer and the last good
  // checkpoint. On cancellation the checkpoint of the last whole epoch remains.
  virtual FitResult fit(const ir::Graph& g, const Examples& train, const Examples& valid, const FitParams& p,
                        const std::function<void(const EpochReport&)>& progress = {}, const Cancel& cancel = Cancel::never()) = 0;
};

// Opens libtandem_learn.so beside libtandem.so, once. Thread counts are set from the budget before.
// Error(tool_missing) names the package when it is not there or cannot be opened.
Learner& open_learner();

// ---- the recipe (recipe.cc) ----------------------------------------------------------------------
// name: digits-4bit
// data: digits                      # what data::open takes
// task: classification
// validation: 0.15                  # share of the training split, drawn per class by the seed
// seed: 0
// model: {input: [1, 8, 8], layers: [...]}     # ir/sequential.h; or  model: {file: float.onnx}
// quantisation: {...}                          # ir/quantize.h; absent: stays in float
// train:
//   epochs: 30
//   batch: 32
//   optimiser: {name: adam, rate: 0.01}        # tables above
//   schedule: {name: cosine, floor: 0}
//   warmup: 1                       # epochs
//   label_smoothing: 0
//   shift: 0                        # pixels
//   freeze: []                      # patterns of initialisers
//   threads: 1
struct Recipe {
  std::string name;
  ir::Graph model;                   // quantisers inserted, initial weights drawn
  std::string data, task;
  double validation = 0.15;
  FitParams fit;                     // seed included
};
// Files named in the recipe are taken relative to `folder`. `seed` overrides the recipe's. Errors name
// file, line and key, and the nearest known one.
Recipe read_recipe(const Config& c, const std::filesystem::path& folder, std::optional<std::uint64_t> seed = {}, const Limits& limits = {});

struct RunParams {
  std::string out;                   // folder: model.onnx, curves.csv, checkpoint.npz, train.json; empty: nothing is written
  std::vector<std::pair<std::string, std::string>> provenance;  // for train.json, which is written where this is given
  bool resume = false;
  bool overwrite = false;
  Limits limits;
};
struct RunResult {
  FitResult fit;
  std::int64_t train_samples = 0, valid_samples = 0;
  std::optional<tasks::Score> valid, test;  // exact evaluation of the best checkpoint (float where nothing is quantised)
  bool exact = false;                // how they were evaluated
  std::array<int, 3> contractions{}; // ExactModel
  std::string model_file;            // written
};
// Opens data and door, trains, judges the best checkpoint on the validation part and the test split, and
// writes the results. The test split plays no part in any choice.
RunResult run_recipe(const Recipe& r, const RunParams& p, const std::function<void(const EpochReport&)>& progress = {},
                     const Cancel& cancel = Cancel::never());

// The document of a run: what `tandem train --json` prints and train.json holds.
std::string to_json(const Recipe& r, const RunResult& result, const std::vector<std::pair<std::string, std::string>>& provenance = {});

}  // namespace tandem::train

extern "C" __attribute__((visibility("default"))) tandem::train::Learner* tandem_learn_v1();
