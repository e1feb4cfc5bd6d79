// The training loop: batches, optimisers, schedules, checkpoints. No torch: the optimiser works on the
// parameters' storage, so that a checkpoint is plain arrays and an update costs no library calls.
#include <algorithm>
#include <chrono>
#include <cmath>
#include <filesystem>
#include <limits>
#include <numeric>

#include "tandem/base/hash.h"
#include "tandem/base/parallel.h"
#include "tandem/tensor/npy.h"
#include "tandem/train/lowered.h"

namespace tandem::train {
namespace {

constexpr std::int64_t kCheckpointVersion = 1;
constexpr int kTrain = 0, kValid = 1;

double rate_at(const FitParams& p, double epoch) {  // epoch as a fraction counts from 0
  double r = p.optimiser["rate"];
  if (p.schedule.name == "cosine") {
    const double t = std::clamp((epoch - p.warmup_epochs) / std::max(p.epochs - p.warmup_epochs, 1e-9), 0.0, 1.0), floor = p.schedule["floor"];
    r *= floor + (1 - floor) * 0.5 * (1 + std::cos(3.14159265358979323846 * t));
  } else if (p.schedule.name == "step") {
    r *= std::pow(p.schedule["factor"], std::floor(epoch / p.schedule["every"]));
  }
  if (p.warmup_epochs > 0) r *= std::min(1.0, epoch / p.warmup_epochs);
  return r;
}

class Optimiser {
 public:
  Optimiser(std::vector<Leaf>& leaves, const FitParams& p) : leaves_(leaves), adam_(p.optimiser.name == "adam") {
    decay_ = p.optimiser["weight_decay"];
    if (adam_) {
      beta1_ = p.optimiser["beta1"];
      beta2_ = p.optimiser["beta2"];
      epsilon_ = p.optimiser["epsilon"];
    } else {
      beta1_ = p.optimiser["momentum"];
    }
    for (const Leaf& l : leaves) {
      m.emplace_back(static_cast<std::size_t>(l.size), 0.0f);
      v.emplace_back(adam_ ? static_cast<std::size_t>(l.size) : 0, 0.0f);
    }
  }

  void step(double rate) {
    ++count;
    const double c1 = 1 - std::pow(beta1_, static_cast<double>(count)), c2 = 1 - std::pow(beta2_, static_cast<double>(count));
    for (std::size_t k = 0; k < leaves_.size(); ++k) {
      Leaf& l = leaves_[k];
      if (adam_ && l.scale) log_adam(l, m[k].data(), v[k].data(), rate, c1, c2);
      else if (adam_) adam(l, m[k].data(), v[k].data(), rate, c1, c2);
      else sgd(l, m[k].data(), rate);
    }
  }

  std::int64_t count = 0;
  std::vector<std::vector<float>> m, v;

 private:
  void adam(Leaf& l, float* m, float* v, double rate, double c1, double c2) const {
    const float b1 = static_cast<float>(beta1_), b2 = static_cast<float>(beta2_), e = static_cast<float>(epsilon_);
    const float a = static_cast<float>(rate / c1), root = static_cast<float>(1 / std::sqrt(c2));
    const float shrink = static_cast<float>(1 - (l.decay ? rate * decay_ : 0));
    for (std::int64_t i = 0; i < l.size; ++i) {
      const float g = l.gradient[i];
      m[i] = b1 * m[i] + (1 - b1) * g;
      v[i] = b2 * v[i] + (1 - b2) * g * g;
      l.value[i] = shrink * l.value[i] - a * m[i] / (std::sqrt(v[i]) * root + e);
    }
  }
  // Scales are positive and their size says nothing of the step they need: Adam on their logarithm.
  void log_adam(Leaf& l, float* m, float* v, double rate, double c1, double c2) const {
    for (std::int64_t i = 0; i < l.size; ++i) {
      const double g = static_cast<double>(l.gradient[i]) * l.value[i] / std::sqrt(std::max(l.lsq_count, 1.0));
      m[i] = static_cast<float>(beta1_ * m[i] + (1 - beta1_) * g);
      v[i] = static_cast<float>(beta2_ * v[i] + (1 - beta2_) * g * g);
      l.value[i] = static_cast<float>(l.value[i] * std::exp(-rate * (m[i] / c1) / (std::sqrt(v[i] / c2) + epsilon_)));
    }
  }
  void sgd(Leaf& l, float* m, double rate) const {
    const float mu = static_cast<float>(beta1_), r = static_cast<float>(rate), d = static_cast<float>(l.decay ? decay_ : 0);
    const float lsq = l.scale ? static_cast<float>(1 / std::sqrt(std::max(l.lsq_count, 1.0))) : 1.0f;
    for (std::int64_t i = 0; i < l.size; ++i) {
      m[i] = mu * m[i] + l.gradient[i] * lsq + d * l.value[i];
      const float old = l.value[i];
      l.value[i] -= r * m[i];
      if (l.scale) l.value[i] = std::max(l.value[i], old * 0.5f);  // stays positive
    }
  }

  std::vector<Leaf>& leaves_;
  bool adam_;
  double decay_ = 0, beta1_ = 0, beta2_ = 0, epsilon_ = 0;
};

using State = std::map<std::string, Tensor>;
State snapshot(const Lowered& l, const std::vector<std::string>& names) {
  State s;
  for (const auto& n : names) s[n] = l.get(n);
  return s;
}
ir::Graph with_state(const ir::Graph& g, const State& s) {
  ir::Graph r = g;
  for (const auto& [name, t] : s) {
    Tensor& slot = r.initialisers.at(r.find(name));
    slot = t.cast(slot.dtype());
    if (auto it = r.metadata.find("scale:" + name); it != r.metadata.end() && !it->second.ends_with(";found")) it->second += ";found";
  }
  return r;
}

// What must be equal for a checkpoint to continue a run.
std::uint64_t run_hash(const ir::Graph& g, const FitParams& p, const Examples& data) {
  std::string s = fmt::format("{} {} {} {} {} {} {} {} {} {}", p.optimiser.name, p.schedule.name, p.epochs, p.batch, p.warmup_epochs,
                              p.label_smoothing, p.shift, p.seed, data.label.size(), g.nodes.size());
  for (double v : p.optimiser.values) s += fmt::format(" {}", v);
  for (double v : p.schedule.values) s += fmt::format(" {}", v);
  for (const auto& f : p.freeze) s += " " + f;
  for (const auto& n : g.nodes) s += fmt::format("\n{} {} {}", n.op, n.inputs.size(), n.attr_int("group", 0));
  std::uint64_t h = fnv1a(s);
  h = fnv1a(std::string_view(static_cast<const char*>(data.x.raw()), data.x.bytes()), h);
  h = fnv1a(std::string_view(reinterpret_cast<const char*>(data.label.data()), data.label.size() * sizeof(data.label[0])), h);
  for (const auto& [v, t] : g.initialisers) {
    h = fnv1a(g.values[static_cast<std::size_t>(v)].name, h);
    h = fnv1a(std::string_view(static_cast<const char*>(t.raw()), t.bytes()), h);
  }
  return h;
}

struct Progressed {
  int epoch = 0;  // whole epochs done
  int best_epoch = 0;
  std::int64_t best_correct = -1;
  double best_loss = std::numeric_limits<double>::infinity();
  State best;
  std::vector<EpochReport> curves;
};

void save(const std::string& file, const Lowered& l, const std::vector<std::string>& names, const std::vector<Leaf>& leaves, const Optimiser& o,
          const Progressed& s, std::uint64_t hash) {
  Archive a;
  for (const auto& [n, t] : snapshot(l, names)) a["state/" + n] = t;
  for (const auto& [n, t] : s.best) a["best/" + n] = t;
  for (std::size_t k = 0; k < leaves.size(); ++k) {
    a["moment1/" + leaves[k].name] = Tensor::of<float>({leaves[k].size}, o.m[k]);
    if (!o.v[k].empty()) a["moment2/" + leaves[k].name] = Tensor::of<float>({leaves[k].size}, o.v[k]);
  }
  a["format"] = Tensor::scalar<std::int64_t>(kCheckpointVersion);
  a["run"] = Tensor::scalar<std::uint64_t>(hash);
  a["counts"] = Tensor::of<std::int64_t>({4}, std::vector<std::int64_t>{s.epoch, o.count, s.best_epoch, s.best_correct});
  a["best_loss"] = Tensor::scalar<double>(s.best_loss);
  std::vector<double> c;
  for (const auto& e : s.curves)
    c.insert(c.end(), {double(e.epoch), e.rate, e.train_loss, e.train_accuracy, e.valid_loss, e.valid_accuracy, double(e.best)});
  a["curves"] = Tensor::of<double>({static_cast<std::int64_t>(s.curves.size()), 7}, c);
  write_npz(file, a);
}

void restore(const std::string& file, Lowered& l, const std::vector<std::string>& names, const std::vector<Leaf>& leaves, Optimiser& o,
             Progressed& s, std::uint64_t hash, int epochs) {
  const Archive a = read_npz(file);
  auto need = [&](const std::string& n, DType t, std::int64_t size) -> const Tensor& {
    const auto it = a.find(n);
    if (it == a.end() || it->second.dtype() != t || (size >= 0 && it->second.size() != size))
      throw bad_input("the checkpoint lacks '{}' or holds it in another form", printable(n)).at(file).fix("start without --resume");
    return it->second;
  };
  if (const auto v = need("format", DType::i64, 1).int_at(0); v > kCheckpointVersion)
    throw bad_input("the checkpoint has format version {}", v).at(file).expected(fmt::format("up to {}", kCheckpointVersion)).fix("use a newer Tandem");
  if (need("run", DType::u64, 1).data<std::uint64_t>()[0] != hash)
    throw bad_input("the checkpoint belongs to another run").at(file).expected("the same model, data, seed and training parameters").fix("start without --resume, or with another --out");
  for (const auto& n : names) l.set(n, need("state/" + n, DType::f32, -1));
  for (std::size_t k = 0; k < leaves.size(); ++k) {
    const Tensor& m = need("moment1/" + leaves[k].name, DType::f32, leaves[k].size);
    std::copy_n(m.data<float>(), m.size(), o.m[k].begin());
    if (!o.v[k].empty()) {
      const Tensor& v = need("moment2/" + leaves[k].name, DType::f32, leaves[k].size);
      std::copy_n(v.data<float>(), v.size(), o.v[k].begin());
    }
  }
  const Tensor& c = need("counts", DType::i64, 4);
  s.epoch = static_cast<int>(c.int_at(0));
  o.count = c.int_at(1);
  s.best_epoch = static_cast<int>(c.int_at(2));
  s.best_correct = c.int_at(3);
  s.best_loss = need("best_loss", DType::f64, 1).at(0);
  const Tensor& t = need("curves", DType::f64, 7 * static_cast<std::int64_t>(s.epoch));
  for (int e = 0; e < s.epoch; ++e) {
    const double* r = t.data<double>() + 7 * e;
    s.curves.push_back({static_cast<int>(r[0]), epochs, r[1], r[2], r[3], r[4], r[5], r[6] != 0});
  }
  for (const auto& n : names)
    if (s.best_epoch > 0) s.best[n] = need("best/" + n, DType::f32, -1);
}

void check(const ir::Graph& g, const Examples& train, const FitParams& p) {
  if (g.inputs.size() != 1 || g.outputs.size() != 1)
    throw bad_input("a classifier has one input and one output; this graph has {} and {}", g.inputs.size(), g.outputs.size());
  const auto& dims = g.values[static_cast<std::size_t>(g.inputs[0])].type.dims;
  if (dims && static_cast<std::int64_t>(dims->size()) != train.x.rank())
    throw bad_input("the data has shape {}, the model's input {}", to_string(train.x.shape()), ir::to_string(*dims));
  if (dims)
    for (std::size_t d = 1; d < dims->size(); ++d)
      if ((*dims)[d].known() && (*dims)[d].n != train.x.shape()[d])
        throw bad_input("the data has shape {}, the model's input {}", to_string(train.x.shape()), ir::to_string(*dims));
  if (train.x.rank() < 1 || train.label.empty() || train.x.shape()[0] != static_cast<std::int64_t>(train.label.size()))
    throw bad_input("{} samples with {} labels", train.x.rank() ? train.x.shape()[0] : 0, train.label.size());
  const auto& y = g.values[static_cast<std::size_t>(g.outputs[0])].type.dims;
  const auto [lo, hi] = std::minmax_element(train.label.begin(), train.label.end());
  if (*lo < 0 || (y && y->size() == 2 && (*y)[1].known() && *hi >= (*y)[1].n))
    throw bad_input("labels run from {} to {}", *lo, *hi).expected(fmt::format("class indices below the model's {} outputs", y ? (*y)[1].n : 0));
  if (p.epochs < 1 || p.batch < 1) throw bad_input("{} epochs of batches of {}", p.epochs, p.batch).expected("at least one of each");
}

}  // namespace

FitResult fit(const ir::Graph& g, const Examples& train, const Examples& valid, const FitParams& p,
              const std::function<void(const EpochReport&)>& progress, const Cancel& cancel) {
  check(g, train, p);
  find_descriptor(optimisers(), p.optimiser.name, "optimiser");
  find_descriptor(schedules(), p.schedule.name, "schedule");
  const auto started = std::chrono::steady_clock::now();
  const int threads = p.threads > 0 ? p.threads : ThreadBudget::jobs();
  set_learner_threads(threads);

  auto model = lower_eager(g, DType::f32);
  std::vector<Leaf>& leaves = model->leaves(p.freeze);
  if (leaves.empty()) throw bad_input("nothing in this graph can be trained").fix("check 'freeze'");
  const std::vector<std::string> names = model->state_names();
  const std::int64_t n = static_cast<std::int64_t>(train.label.size());
  const bool has_valid = !valid.label.empty();
  model->load(kTrain, train);
  if (has_valid) model->load(kValid, valid);

  Optimiser optimiser(leaves, p);
  Progressed s;
  const std::uint64_t hash = run_hash(g, p, train);
  const Rng rng(p.seed, "train");
  std::vector<std::int64_t> order(static_cast<std::size_t>(n));
  auto shuffled = [&](int epoch) {
    std::iota(order.begin(), order.end(), 0);
    Rng r = rng.fork("order").fork(static_cast<std::uint64_t>(epoch));
    r.shuffle(order);
  };
  std::error_code ec;
  if (p.resume && !p.checkpoint.empty() && std::filesystem::exists(p.checkpoint, ec)) {
    restore(p.checkpoint, *model, names, leaves, optimiser, s, hash, p.epochs);
  } else {
    shuffled(0);
    model->calibrate(kTrain, std::span(order).first(static_cast<std::size_t>(std::min<std::int64_t>(n, 256))));
  }

  // Batches of equal size, within one: a last batch of one sample would have no variance.
  const std::int64_t batches = std::max<std::int64_t>((n + p.batch - 1) / p.batch, 1);
  while (s.epoch < p.epochs) {
    const int epoch = s.epoch + 1;
    shuffled(epoch);
    const Rng epoch_rng = rng.fork("epoch").fork(static_cast<std::uint64_t>(epoch));
    EpochReport report;
    report.epoch = epoch;
    report.epochs = p.epochs;
    double loss = 0;
    std::int64_t correct = 0;
    for (std::int64_t b = 0; b < batches; ++b) {
      cancel.check();
      const std::int64_t first = b * n / batches, last = (b + 1) * n / batches;
      const auto rows = std::span<const std::int64_t>(order).subspan(static_cast<std::size_t>(first), static_cast<std::size_t>(last - first));
      const StepResult r = model->step(kTrain, rows, p.label_smoothing, p.shift, epoch_rng.fork(static_cast<std::uint64_t>(b)));
      bool finite = std::isfinite(r.loss);
      std::string culprit;
      if (finite)
        for (const Leaf& l : leaves)
          if (!std::all_of(l.gradient, l.gradient + l.size, [](float v) { return std::isfinite(v); })) {
            finite = false;
            culprit = "gradient of '" + l.name + "'";
            break;
          }
      if (!finite) {
        if (culprit.empty()) culprit = model->first_non_finite(kTrain, rows);
        throw Error(Exit::no, fmt::format("training diverged: the loss is not finite in step {} (epoch {}, batch {} of {})", optimiser.count + 1, epoch, b + 1, batches))
            .at(printable(culprit.empty() ? "the loss" : culprit))
            .expected(s.epoch > 0 && !p.checkpoint.empty() ? fmt::format("last good checkpoint: {} (epoch {})", p.checkpoint, s.epoch) : "no checkpoint was written yet")
            .fix("lower the learning rate, or add warm-up epochs");
      }
      optimiser.step(report.rate = rate_at(p, s.epoch + static_cast<double>(b + 1) / static_cast<double>(batches)));
      loss += r.loss * static_cast<double>(last - first);
      correct += r.correct;
    }
    model->refresh();
    report.train_loss = loss / static_cast<double>(n);
    report.train_accuracy = static_cast<double>(correct) / static_cast<double>(n);
    report.valid_loss = report.valid_accuracy = std::numeric_limits<double>::quiet_NaN();
    if (has_valid) {
      const StepResult v = model->score(kValid, 256);
      report.valid_loss = v.loss;
      report.valid_accuracy = static_cast<double>(v.correct) / static_cast<double>(valid.label.size());
      report.best = v.correct > s.best_correct || (v.correct == s.best_correct && v.loss < s.best_loss);
      if (report.best) {
        s.best_correct = v.correct;
        s.best_loss = v.loss;
      }
    } else {
      report.best = true;
    }
    if (report.best) {
      s.best_epoch = epoch;
      s.best = snapshot(*model, names);
    }
    s.epoch = epoch;
    s.curves.push_back(report);
    if (!p.checkpoint.empty()) save(p.checkpoint, *model, names, leaves, optimiser, s, hash);
    if (progress) progress(report);
  }

  FitResult result;
  result.best = with_state(g, s.best.empty() ? snapshot(*model, names) : s.best);
  result.last = with_state(g, snapshot(*model, names));
  result.best_epoch = s.best_epoch;
  result.curves = s.curves;
  result.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - started).count();
  result.threads = threads;
  result.library = library_version();
  return result;
}

}  // namespace tandem::train
