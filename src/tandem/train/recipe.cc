// From a YAML file to a trained, judged, exported model. On the libtandem side of the door: a wrong
// recipe is refused before libtorch is opened.
#include <algorithm>
#include <cmath>

#include "tandem/base/file.h"
#include "tandem/base/json.h"
#include "tandem/data/dataset.h"
#include "tandem/ir/model_file.h"
#include "tandem/ir/onnx.h"
#include "tandem/ir/op.h"
#include "tandem/ir/quantize.h"
#include "tandem/ir/sequential.h"
#include "tandem/train/learn.h"

namespace tandem::train {
namespace {

Choice parse_choice(const Config& c, std::span<const Descriptor> table, std::string_view what) {
  Choice r;
  if (c.is_scalar()) {
    r.name = c.as<std::string>();
    try {
      find_descriptor(table, r.name, what);
    } catch (const Error& e) {
      throw c.error(e.message()).expected(e.expected()).fix(e.fix());
    }
    return r;
  }
  r.name = c.required<std::string>("name");
  const Descriptor* d = nullptr;
  try {
    d = &find_descriptor(table, r.name, what);
  } catch (const Error& e) {
    throw c.at("name").error(e.message()).expected(e.expected()).fix(e.fix());
  }
  std::vector<std::string_view> known{"name"};
  for (const Parameter& p : d->parameters) known.push_back(p.name);
  c.only(std::span<const std::string_view>(known));
  for (const Parameter& p : d->parameters) r.values.push_back(c.real(p.name, p.lo, p.hi, p.fallback));
  return r;
}

FitParams parse_fit(const Config& c) {
  c.only({"epochs", "batch", "optimiser", "schedule", "warmup", "label_smoothing", "shift", "freeze", "threads"});
  FitParams p;
  p.epochs = static_cast<int>(c.integer("epochs", 1, 100000, p.epochs));
  p.batch = static_cast<int>(c.integer("batch", 1, 1 << 20, p.batch));
  if (auto o = c.find("optimiser")) p.optimiser = parse_choice(*o, optimisers(), "optimiser");
  if (auto s = c.find("schedule")) p.schedule = parse_choice(*s, schedules(), "schedule");
  p.warmup_epochs = c.real("warmup", 0, 1e5, 0);
  p.label_smoothing = c.real("label_smoothing", 0, 0.99, 0);
  p.shift = static_cast<int>(c.integer("shift", 0, 64, 0));
  p.threads = static_cast<int>(c.integer("threads", 0, 4096, 0));
  if (auto f = c.find("freeze")) p.freeze = f->list<std::string>();
  return p;
}

// Samples as the model takes them: a channel axis is added where only that is missing.
Tensor shaped(Tensor x, const ir::Graph& g) {
  const auto& dims = g.values.at(static_cast<std::size_t>(g.inputs.at(0))).type.dims;
  if (!dims) return x;
  Shape want{x.shape().at(0)};
  std::int64_t count = 1;
  for (std::size_t d = 1; d < dims->size(); ++d) {
    if (!(*dims)[d].known()) return x;
    want.push_back((*dims)[d].n);
    count *= want.back();
  }
  const bool channel = x.rank() == 3 && want.size() == 4 && want[1] == 1 && want[2] == x.shape()[1] && want[3] == x.shape()[2];
  const bool flat = want.size() == 2 && want[0] * count == x.size();
  return channel || flat ? x.reshaped(want) : x;
}

Examples examples_of(const tasks::Task& task, const data::Dataset& d, const ir::Graph& g) {
  Examples e;
  e.x = shaped(task.prepare(d), g);
  for (std::int64_t i = 0; i < d.y.size(); ++i) e.label.push_back(d.y.int_at(i));
  return e;
}

bool quantised(const ir::Graph& g) {
  return std::any_of(g.nodes.begin(), g.nodes.end(), [](const ir::Node& n) { return n.op == "Quant" || n.op == "BipolarQuant"; });
}

// Outputs for all rows, in batches: one bound graph per batch size.
Tensor predict(const ir::Graph& g, const Tensor& x, bool exact, std::array<int, 3>* contractions, const Cancel& cancel) {
  const std::int64_t n = x.shape()[0], step = std::min<std::int64_t>(n, 250);
  Tensor all;
  std::int64_t width = 0;
  std::unique_ptr<ExactModel> model;
  std::unique_ptr<Eager> eager;
  std::int64_t bound = -1;
  for (std::int64_t first = 0; first < n; first += step) {
    cancel.check();
    const std::int64_t rows = std::min(step, n - first);
    if (rows != bound) {
      const auto& dims = g.values[static_cast<std::size_t>(g.inputs[0])].type.dims;
      std::map<std::string, std::int64_t> symbols;
      if (dims && !dims->empty() && !(*dims)[0].symbol.empty()) symbols[(*dims)[0].symbol] = rows;
      if (exact) {
        model = open_learner().exact(ir::bind(g, symbols));
        if (contractions) *contractions = model->contractions();
      } else if (!eager) {
        eager = open_learner().eager(g);
      }
      bound = rows;
    }
    const Tensor batch = x.rows(first, first + rows);
    const Tensor y = exact ? model->run({batch})[0] : eager->run({batch}, Mode::evaluation)[0];
    if (first == 0) {
      Shape s = y.shape();
      width = y.size() / rows;
      s[0] = n;
      all = Tensor(DType::f32, s);
    }
    for (std::int64_t i = 0; i < y.size(); ++i) all.set(first * width + i, y.at(i));
  }
  return all;
}

std::string curves_csv(const std::vector<EpochReport>& curves) {
  auto real = [](double v) { return std::isnan(v) ? std::string() : fmt::format("{}", v); };
  std::string s = "epoch,rate,train_loss,train_accuracy,valid_loss,valid_accuracy,best\n";
  for (const EpochReport& e : curves)
    s += fmt::format("{},{},{},{},{},{},{}\n", e.epoch, e.rate, real(e.train_loss), real(e.train_accuracy), real(e.valid_loss), real(e.valid_accuracy), e.best ? 1 : 0);
  return s;
}

}  // namespace

Recipe read_recipe(const Config& c, const std::filesystem::path& folder, std::optional<std::uint64_t> seed, const Limits& limits) {
  c.only({"name", "data", "task", "validation", "seed", "model", "quantisation", "train"});
  Recipe r;
  r.name = c.optional_or<std::string>("name", "model");
  r.data = c.required<std::string>("data");
  const auto& named = data::list_datasets();
  const bool is_named = std::any_of(named.begin(), named.end(), [&](const data::NamedSet& n) { return n.name == r.data; });
  if (const auto path = folder / r.data; !is_named && std::filesystem::exists(path)) r.data = path.string();
  r.task = c.optional_or<std::string>("task", "classification");
  tasks::find_task(r.task);
  r.validation = c.real("validation", 0, 0.9, r.validation);
  if (auto t = c.find("train")) r.fit = parse_fit(*t);
  r.fit.seed = seed ? *seed : c.optional_or<std::uint64_t>("seed", 0);

  const Config m = c.at("model");
  if (m.has("file")) {
    m.only({"file"});
    r.model = ir::read_model(folder / m.required<std::string>("file"), {.limits = limits});
    ir::infer_shapes(r.model);
    ir::verify(r.model);
    ir::fold_constants(r.model);
    r.model.name = r.name;
  } else {
    m.only({"input", "layers"});
    r.model = ir::build_sequential(m, r.fit.seed, r.name);
  }
  if (auto q = c.find("quantisation")) r.model = ir::insert_quantisers(r.model, ir::parse_quant_spec(*q));
  return r;
}

namespace {
void metric(JsonWriter& j, std::string_view key, const std::optional<tasks::Score>& s) {
  j.key(key);
  if (!s) {
    j.null();
    return;
  }
  j.object().field("value", s->metric.value).field("unit", s->metric.unit).field("fidelity", std::string(to_string(s->metric.fidelity)));
  if (s->metric.low) j.field("low", *s->metric.low);
  if (s->metric.high) j.field("high", *s->metric.high);
  j.field("correct", s->correct).field("n", s->n).field("source", s->metric.source).end();
}

}  // namespace

RunResult run_recipe(const Recipe& r, const RunParams& p, const std::function<void(const EpochReport&)>& progress, const Cancel& cancel) {
  const std::filesystem::path out = p.out;
  if (!p.out.empty()) {
    require_writable_folder(out);
    std::error_code ec;
    if (!p.overwrite && !p.resume && std::filesystem::exists(out / "model.onnx", ec))
      throw bad_input("the folder holds the result of an earlier run").at((out / "model.onnx").string()).fix("choose another --out, or give --force, or --resume");
  }
  const tasks::Task& task = tasks::find_task(r.task);
  const data::Dataset all = data::open(r.data, p.limits);
  task.check(all);
  const bool split = !all.part.empty() && std::find(all.part.begin(), all.part.end(), data::Part::test) != all.part.end();
  const data::Dataset train_all = split ? data::select(all, data::Part::train) : all;
  const data::Split parts = data::split(train_all, r.validation, r.fit.seed);
  const data::Dataset train = data::select(train_all, parts.rest), valid = data::select(train_all, parts.chosen);

  FitParams fit = r.fit;
  fit.resume = p.resume;
  if (!p.out.empty()) fit.checkpoint = (out / "checkpoint.npz").string();
  RunResult result;
  result.train_samples = train.size();
  result.valid_samples = valid.size();
  const Examples te = examples_of(task, train, r.model);
  const Examples ve = valid.size() ? examples_of(task, valid, r.model) : Examples{};
  result.fit = open_learner().fit(r.model, te, ve, fit, progress, cancel);

  result.exact = quantised(r.model);
  auto judge = [&](const data::Dataset& d, const char* name) {
    const Tensor y = predict(result.fit.best, shaped(task.prepare(d), r.model), result.exact, &result.contractions, cancel);
    return task.score(y, d, {all.name, name, r.fit.seed});
  };
  if (valid.size()) result.valid = judge(valid, "validation");
  if (split) result.test = judge(data::select(all, data::Part::test), "test");

  if (!p.out.empty()) {
    ir::Graph exported = result.fit.best;
    exported.metadata["recipe"] = r.name;
    exported.metadata["data"] = r.data;
    exported.metadata["seed"] = std::to_string(r.fit.seed);
    exported.metadata["library"] = result.fit.library;
    exported.metadata["threads"] = std::to_string(result.fit.threads);
    result.model_file = (out / "model.onnx").string();
    ir::write_onnx(exported, result.model_file);
    write_file(out / "curves.csv", curves_csv(result.fit.curves));
    if (!p.provenance.empty()) write_file(out / "train.json", to_json(r, result, p.provenance));
  }
  return result;
}

std::string to_json(const Recipe& recipe, const RunResult& r, const std::vector<std::pair<std::string, std::string>>& provenance) {
  JsonWriter j;
  j.object().field("format", "tandem.train").field("name", recipe.name).field("seed", recipe.fit.seed).field("epochs", recipe.fit.epochs);
  j.field("best_epoch", r.fit.best_epoch).field("train_samples", r.train_samples).field("valid_samples", r.valid_samples);
  metric(j, "valid", r.valid);
  metric(j, "test", r.test);
  j.field("evaluation", r.exact ? "exact" : "float").field("seconds", r.fit.seconds).field("threads", r.fit.threads);
  j.field("library", r.fit.library).field("model", r.model_file);
  j.key("curves").array();
  for (const auto& e : r.fit.curves)
    j.object().field("epoch", e.epoch).field("rate", e.rate).field("train_loss", e.train_loss).field("train_accuracy", e.train_accuracy)
    .field("valid_loss", e.valid_loss).field("valid_accuracy", e.valid_accuracy).field("best", e.best).end();
  j.end().key("provenance").object();
  for (const auto& [key, value] : provenance) j.field(key, value);
  return j.end().end().text();
}

}  // namespace tandem::train
