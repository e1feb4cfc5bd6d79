#include "tandem/flow/demo.h"

#include <chrono>
#include <cmath>

#include "tandem/base/config.h"
#include "tandem/base/file.h"
#include "tandem/base/table.h"
#include "tandem/data/dataset.h"
#include "tandem/map/folding.h"

namespace tandem::flow {
namespace {

// One recipe; the candidates differ in channels and bits.
constexpr const char* kRecipe = R"(name: digits
data: digits
task: classification
validation: 0.15
model:
  input: [1, 8, 8]
  layers:
    - conv: {channels: @A@, kernel: 3, pad: 1}
    - batchnorm
    - relu
    - conv: {channels: @B@, kernel: 3, pad: 1, stride: 2}
    - batchnorm
    - relu
    - dense: {features: 10}
quantisation:
  input: {bits: 4, signed: false, scale: 0.0625}
  weights: {bits: @BITS@, per: channel, narrow: true, scale: learned}
  activations: {bits: @BITS@, scale: learned}
train:
  epochs: @EPOCHS@
  batch: 32
  optimiser: {name: adam, rate: 0.01}
  schedule: {name: cosine}
  warmup: 1
  threads: 1
)";

struct Shape2 {
  int a, b, bits;
};
constexpr Shape2 kCandidates[] = {{4, 8, 3}, {4, 8, 4}, {8, 16, 3}, {8, 16, 4}, {12, 24, 4}};

std::string recipe_text(const Shape2& c, int epochs) {
  std::string t = kRecipe;
  for (auto [key, value] : {std::pair{"@A@", c.a}, {"@B@", c.b}, {"@BITS@", c.bits}, {"@EPOCHS@", epochs}})
    for (std::size_t at; (at = t.find(key)) != std::string::npos;) t.replace(at, std::string_view(key).size(), std::to_string(value));
  return t;
}

std::string percent(const tasks::Score& s) {
  const Metric& m = s.metric;
  const double k = m.unit == "%" ? 1 : 100;
  std::string t = fmt::format("{:.2f} % ({} of {}", k * m.value, s.correct, s.n);
  if (m.low && m.high) t += fmt::format(", 95 % interval {:.2f} .. {:.2f}", k * *m.low, k * *m.high);
  return t + ")";
}

}  // namespace

DemoResult demo(const DemoParams& p, const Cancel& cancel) {
  auto start = std::chrono::steady_clock::now();
  auto say = [&](std::string s) { if (p.say) p.say(s); };
  const hardware::Target target = hardware::find_target(p.target);
  require_writable_folder(p.out);
  DemoResult r;
  std::vector<ir::Graph> models;
  const int epochs = std::max(2, static_cast<int>(std::lround(30 * p.scale)));
  for (const Shape2& c : kCandidates) {
    DemoCandidate k;
    k.name = fmt::format("digits_{}_{}_{}b", c.a, c.b, c.bits);
    k.network = fmt::format("conv {} - conv {} stride 2 - dense 10", c.a, c.b);
    k.bits = c.bits;
    say(fmt::format("training {}: {}, {} bits", k.name, k.network, k.bits));
    train::Recipe recipe = train::read_recipe(Config::parse(recipe_text(c, epochs), "demo recipe"), ".", p.seed);
    train::RunParams run;
    run.out = (p.out / "train" / k.name).string();
    run.overwrite = true;
    write_file(p.out / (k.name + ".yaml"), recipe_text(c, epochs));
    train::RunResult t = train::run_recipe(recipe, run, {}, cancel);
    TANDEM_CHECK(t.valid.has_value(), "demo: no validation part");
    k.valid = t.valid->metric.value * (t.valid->metric.unit == "%" ? 1 : 100);
    k.train_s = t.fit.seconds;
    // Does it fit, folded for this target? Closed forms: no tool is run.
    try {
      plan::StageGraph g = plan::stages_from(ir::lower_exact(hardware_graph(t.fit.best, ""), 64), "net");
      for (const plan::Layer& l : g.layers) k.weights += static_cast<std::int64_t>(l.weights.size());
      map::Choice choice = map::choose_folding(g, budget_of(target));
      k.fits = true;
      k.interval = choice.estimate.interval;
      k.lut4 = choice.estimate.lut4(choice.uses_dsp);
      k.bram = choice.estimate.cost.bram;
    } catch (const Error& e) {
      if (e.code() != Exit::no) throw;
      k.reason = e.message();
    }
    bool better = k.fits && (r.chosen < 0 || k.valid > r.candidates[static_cast<std::size_t>(r.chosen)].valid ||
                             (k.valid == r.candidates[static_cast<std::size_t>(r.chosen)].valid && k.interval < r.candidates[static_cast<std::size_t>(r.chosen)].interval));
    if (better) {
      r.chosen = static_cast<int>(r.candidates.size());
      TANDEM_CHECK(t.test.has_value(), "demo: no test split");
      r.software = *t.test;
    }
    r.candidates.push_back(std::move(k));
    models.push_back(std::move(t.fit.best));
  }
  if (r.chosen < 0)
    throw Error(Exit::no, fmt::format("none of {} networks fits {}", r.candidates.size(), target.name)).expected(r.candidates[0].reason).fix("a larger target (--target)");

  const DemoCandidate& best = r.candidates[static_cast<std::size_t>(r.chosen)];
  say(fmt::format("building {} for {}", best.name, target.name));
  data::Dataset all = data::open("digits"), test = data::select(all, data::Part::test);
  const tasks::Task& task = tasks::find_task("classification");
  BuildParams b;
  b.name = best.name;
  b.target = target;
  Tensor x = task.prepare(test);
  b.frames = x.reshaped({x.shape()[0], 1, 8, 8});
  b.frames_source = fmt::format("digits, test split, n = {}", x.shape()[0]);
  b.seed = p.seed;
  b.place = p.place;
  b.out = p.out / "design";
  b.say = [&](std::string_view s) { say(std::string(s)); };
  r.build = build(models[static_cast<std::size_t>(r.chosen)], b, cancel);
  // What the Verilog gave: every word was compared with these.
  r.hardware = task.score(r.build.values, test, {.data = "digits", .split = "test", .seed = {}, .fidelity = Fidelity::rtl_simulated});
  r.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  write_file(p.out / "summary.txt", demo_text(r));
  return r;
}

std::string demo_text(const DemoResult& r) {
  Table t;
  t.columns = {{"network"}, {"layers"}, {"bits", true}, {"weights", true}, {"validation %", true}, {"trained in s", true}, {"LUT4 est.", true}, {"BRAM est.", true},
               {"cycles est.", true}, {""}};
  for (std::size_t i = 0; i < r.candidates.size(); ++i) {
    const DemoCandidate& c = r.candidates[i];
    t.add({c.name, c.network, std::to_string(c.bits), grouped(c.weights), fmt::format("{:.2f}", c.valid), fmt::format("{:.1f}", c.train_s),
           c.fits ? fmt::format("{:.0f}", c.lut4) : "", c.fits ? fmt::format("{:.0f}", c.bram) : "", c.fits ? grouped(c.interval) : "",
           static_cast<int>(i) == r.chosen ? "chosen" : c.fits ? "" : c.reason});
  }
  std::string s = render(t, TableStyle::text) + "\n" + summary_text(r.build) + "\n";
  s += fmt::format("accuracy on the test split, exact evaluation:  {}  [executed]\n", percent(r.software));
  s += fmt::format("accuracy on the test split, Verilog's words:   {}  [rtl-simulated]\n", percent(r.hardware));
  s += fmt::format("{:.0f} s in all\n", r.seconds);
  return s;
}

}  // namespace tandem::flow
