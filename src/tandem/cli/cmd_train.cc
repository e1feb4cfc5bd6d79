#include <chrono>
#include <cmath>

#include "tandem/base/config.h"
#include "tandem/base/machine.h"
#include "tandem/cli/command.h"
#include "tandem/train/learn.h"

namespace tandem::cli {
namespace {

Run setup(Options& o) {
  struct Args {
    std::string recipe;
    bool resume = false;
    std::vector<std::string> set;
  };
  auto a = std::make_shared<Args>();
  o.argument("RECIPE", a->recipe, "YAML file: model, data, quantisation, training");
  o.flag("--resume", a->resume, "Continue from the checkpoint in --out");
  o.option("--set", a->set, "Replace a value of the recipe: --set train.epochs=5");
  return [a](Context& c) {
    Config config = Config::read(a->recipe, c.limits);
    for (const std::string& s : a->set) {
      const auto eq = s.find('=');
      if (eq == std::string::npos) throw bad_input("--set {}", printable(s)).expected("--set key.key=value");
      config = config.with(s.substr(0, eq), s.substr(eq + 1));
    }
    if (a->resume && c.out.empty()) throw bad_input("--resume without --out").expected("the folder of the run to continue");
    const auto seed = c.seed_given ? std::optional<std::uint64_t>(c.seed) : std::nullopt;
    const train::Recipe recipe = train::read_recipe(config, std::filesystem::path(a->recipe).parent_path(), seed, c.limits);
    train::RunParams p;
    p.out = c.out;
    p.resume = a->resume;
    p.overwrite = c.force;
    p.limits = c.limits;
    p.provenance = {{"tandem", TANDEM_VERSION}, {"made", utc_now()}, {"processor", processor()}, {"command", c.command}};
    int shown = 0;
    auto start = std::chrono::steady_clock::now();
    int first = 0;  // epoch reported first
    bool told = false;
    auto report = [&](const train::EpochReport& e) {
      // How long it will take, once some epochs have told; the first one also opens the library.
      const auto now = std::chrono::steady_clock::now();
      if (first == 0) first = e.epoch, start = now;
      else if (const double s = std::chrono::duration<double>(now - start).count(); !told && !c.json && s > 0.5) {
        told = true;
        const double rest = s / (e.epoch - first) * (e.epochs - e.epoch);
        if (rest > 2) c.note(fmt::format("about {:.0f} s more for {} epochs", rest, e.epochs - e.epoch));
      }
      // About twenty lines, whatever the number of epochs.
      if (c.json || (e.epoch != 1 && e.epoch != e.epochs && e.epoch * 20 / e.epochs == shown)) return;
      shown = e.epoch * 20 / e.epochs;
      std::string line = fmt::format("epoch {:>4}/{}  loss {:.4f}  train {:6.2f} %", e.epoch, e.epochs, e.train_loss, 100 * e.train_accuracy);
      if (!std::isnan(e.valid_accuracy)) line += fmt::format("  valid {:6.2f} %{}", 100 * e.valid_accuracy, e.best ? "  best" : "");
      c.note(line);
    };
    train::RunResult r;
    try {
      r = train::run_recipe(recipe, p, report, *c.cancel);
    } catch (const Error& e) {
      std::error_code ec;
      const bool stopped = e.code() == Exit::interrupted || e.code() == Exit::terminated;
      if (stopped && !c.out.empty() && std::filesystem::exists(std::filesystem::path(c.out) / "checkpoint.npz", ec))
        c.note("the last whole epoch is kept; continue with the same command and --resume");
      throw;
    }

    if (c.json) {
      c.print(train::to_json(recipe, r, p.provenance));
      return Exit::done;
    }
    Table t;
    t.columns = {{"part"}, {"samples", true}, {"accuracy", true}, {"95 % interval", true}, {"evaluation"}};
    auto row = [&](const char* part, const std::optional<tasks::Score>& s) {
      if (!s) return;
      const double k = s->metric.unit == "%" ? 1 : 100;
      t.add({part, std::to_string(s->n), fmt::format("{:.2f} %", k * s->metric.value),
             s->metric.low && s->metric.high ? fmt::format("{:.2f} .. {:.2f}", k * *s->metric.low, k * *s->metric.high) : "", r.exact ? "exact" : "float"});
    };
    t.add({"train", std::to_string(r.train_samples), fmt::format("{:.2f} %", 100 * r.fit.curves.back().train_accuracy), "", "while training"});
    row("validation", r.valid);
    row("test", r.test);
    c.print(t);
    c.note(fmt::format("best epoch {} of {}, seed {}, {:.1f} s, {} thread(s), {}", r.fit.best_epoch, recipe.fit.epochs, recipe.fit.seed, r.fit.seconds, r.fit.threads, r.fit.library));
    if (!r.model_file.empty()) c.note("model: " + r.model_file);
    return Exit::done;
  };
}

}  // namespace

extern const Command cmd_train;
const Command cmd_train{
    .name = "train",
    .group = "From data to model",
    .summary = "train a quantised network as a recipe says",
    .description = "Trains the recipe's model on its data, quantisers in place (straight-through, learned scales), keeps the checkpoint with\n"
                   "the least validation error, judges it exactly on the validation part and the test split, and writes to --out:\n"
                   "model.onnx (QONNX), curves.csv, checkpoint.npz, train.json. The same seed, threads and library give the same bits; a run that\n"
                   "was stopped continues with --resume and ends as if it had not been.",
    .examples = {{"tandem train digits.yaml --set train.epochs=2", "learn"}, {"tandem train digits.yaml --set train.epochs=2 --out run --json", "learn"}},
    .setup = setup,
    .own_out = true,
    .schema = R"({
  "$schema": "https://json-schema.org/draft/2020-12/schema",
  "type": "object",
  "required": ["format", "name", "seed", "epochs", "best_epoch", "valid", "test", "evaluation", "seconds", "curves"],
  "properties": {
    "format": {"const": "tandem.train"}, "name": {"type": "string"}, "seed": {"type": "integer"}, "epochs": {"type": "integer"}, "best_epoch": {"type": "integer"},
    "train_samples": {"type": "integer"}, "valid_samples": {"type": "integer"},
    "valid": {"$ref": "#/$defs/score"}, "test": {"$ref": "#/$defs/score"},
    "evaluation": {"enum": ["exact", "float"]}, "seconds": {"type": "number"}, "threads": {"type": "integer"},
    "library": {"type": "string"}, "model": {"type": "string"}, "provenance": {"type": "object", "additionalProperties": {"type": "string"}},
    "curves": {"type": "array", "items": {"type": "object", "properties": {
      "epoch": {"type": "integer"}, "rate": {"type": "number"}, "train_loss": {"type": "number"}, "train_accuracy": {"type": "number"},
      "valid_loss": {"type": ["number", "null"]}, "valid_accuracy": {"type": ["number", "null"]}, "best": {"type": "boolean"}}}}
  },
  "$defs": {"score": {"type": ["object", "null"], "properties": {
    "value": {"type": "number"}, "unit": {"type": "string"}, "fidelity": {"type": "string"}, "low": {"type": "number"},
    "high": {"type": "number"}, "correct": {"type": "integer"}, "n": {"type": "integer"}, "source": {"type": "string"}}}}
}
)"};

}  // namespace tandem::cli
