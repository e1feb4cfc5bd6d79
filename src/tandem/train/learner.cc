// What the door hands out.
#include "tandem/base/parallel.h"
#include "tandem/train/lowered.h"

namespace tandem::train {
namespace {

class Torch final : public Learner {
 public:
  Torch() { set_learner_threads(ThreadBudget::jobs()); }
  std::string version() const override { return library_version(); }
  std::unique_ptr<Eager> eager(const ir::Graph& g, DType precision) override { return lower_eager(g, precision); }
  std::unique_ptr<ExactModel> exact(const ir::Graph& bound) override { return lower_exact_model(bound); }
  FitResult fit(const ir::Graph& g, const Examples& train, const Examples& valid, const FitParams& p,
                const std::function<void(const EpochReport&)>& progress, const Cancel& cancel) override {
    return train::fit(g, train, valid, p, progress, cancel);
  }
};

}  // namespace
}  // namespace tandem::train

tandem::train::Learner* tandem_learn_v1() {
  static tandem::train::Torch learner;
  return &learner;
}
