// The eager route as the training loop sees it: Eager, plus what only the loop needs. No torch type.
#pragma once
#include "tandem/base/rng.h"
#include "tandem/train/learn.h"

namespace tandem::train {

// How a quantiser's scale comes about; from the graph's metadata (ir/quantize.h).
enum class ScaleSource { fixed, absmax, learned };

struct Leaf {                // a float initialiser that is trained
  std::string name;
  Shape shape;
  bool scale = false;        // a learned scale
  double lsq_count = 1;      // N * kmax of the LSQ factor; 0 until the first forward pass
  bool decay = false;        // weight decay applies (weights of contractions)
  float* value = nullptr;
  float* gradient = nullptr;
  std::int64_t size = 0;
};

struct StepResult {
  double loss = 0;           // mean over the batch
  std::int64_t correct = 0;
};

class Lowered : public Eager {
 public:
  // Marks trainable initialisers and gives each a gradient; call once.
  virtual std::vector<Leaf>& leaves(const std::vector<std::string>& freeze) = 0;
  // Uploads a part of the data set (labels are class indices); batches are rows of it.
  virtual void load(int part, const Examples& e) = 0;
  // One forward and backward pass over the rows; gradients are overwritten. dropout draws from `rng`.
  virtual StepResult step(int part, std::span<const std::int64_t> rows, double smoothing, int shift, const Rng& rng) = 0;
  // Loss sum and correct answers over a whole part, evaluation mode.
  virtual StepResult score(int part, std::int64_t batch) = 0;
  // Sets every scale that is learned, and absmax scales of activations, from data.
  virtual void calibrate(int part, std::span<const std::int64_t> rows) = 0;
  // Recomputes absmax scales of weights from the weights.
  virtual void refresh() = 0;
  // The first node, in order, whose output is not finite on these rows; "" when all are finite.
  virtual std::string first_non_finite(int part, std::span<const std::int64_t> rows) = 0;
  // Initialisers that the loop changes (weights, statistics, scales): what a checkpoint holds.
  virtual std::vector<std::string> state_names() const = 0;
};

std::unique_ptr<Lowered> lower_eager(const ir::Graph& g, DType precision);
std::unique_ptr<ExactModel> lower_exact_model(const ir::Graph& bound);
FitResult fit(const ir::Graph& g, const Examples& train, const Examples& valid, const FitParams& p,
              const std::function<void(const EpochReport&)>& progress, const Cancel& cancel);
void set_learner_threads(int n);
std::string library_version();

}  // namespace tandem::train
