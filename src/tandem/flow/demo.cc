#include "tandem/flow/demo.h"

#include <algorithm>
#include <chrono>
#include <cmath>

#include "tandem/base/file.h"
#include "tandem/base/json.h"
#include "tandem/base/table.h"
#include "tandem/flow/report.h"
#include "tandem/hardware/target.h"

namespace tandem::flow {
namespace {
namespace fs = std::filesystem;

constexpr const char* kStudy = R"(# The study of `tandem demo`: two convolutions and a dense layer for digits of 8x8 pixels.
#   tandem explore study.yaml --out found
name: digits
train:
  data: digits
  validation: 0.15                  # what accuracy is judged on; the test split plays no part
  model:
    input: [1, 8, 8]
    layers:
      - conv: {channels: $width1, kernel: 3, pad: 1}
      - batchnorm
      - relu
      - conv: {channels: $width2, kernel: 3, pad: 1, stride: 2}
      - batchnorm
      - relu
      - dense: {features: 10}
  quantisation:
    input: {bits: 4, signed: false, scale: 0.0625}
    weights: {bits: $weight_bits, per: channel, narrow: true, scale: learned}
    activations: {bits: $activation_bits, scale: learned}
  train:
    batch: 32
    optimiser: {name: adam, rate: 0.01}
    schedule: {name: cosine}
    warmup: 1
space:
  width1: {int: [4, 8], step: 2}
  width2: {int: [8, 16], step: 4}
  weight_bits: [2, 3, 4]
  activation_bits: [3, 4]
  speedup: [1, 2, 4, 8, 12, 16, 24, 32, 48, 64]     # foldings of one network share its training
hardware:
  target: @TARGET@
  speedup: $speedup
objectives: {accuracy: maximise, cycles: minimise, lut4: minimise}
searcher: {name: nsga2, population: 32, trials: @TRIALS@, seed: @SEED@}
epochs: {search: @SEARCH@, front: @FRONT@}
front: {build: @BUILD@, most: 1}
)";

std::string study_text(const DemoParams& p, const std::string& target) {
  const auto scaled = [&](double n, int least) { return std::max(least, static_cast<int>(std::lround(n * p.scale))); };
  std::string t = kStudy;
  for (const auto& [key, value] : {std::pair{"@TARGET@", target}, {"@TRIALS@", std::to_string(scaled(320, 8))}, {"@SEED@", std::to_string(p.seed)},
                                   {"@SEARCH@", std::to_string(scaled(4, 1))}, {"@FRONT@", std::to_string(scaled(30, 2))}, {"@BUILD@", std::string(p.place ? "place" : "verify")}})
    for (std::size_t at; (at = t.find(key)) != std::string::npos;) t.replace(at, std::string_view(key).size(), value);
  return t;
}

const Metric* metric_of(const report::Trial& t, std::string_view name) {
  for (const auto& [n, m] : t.metrics)
    if (n == name) return &m;
  return nullptr;
}

}  // namespace

DemoResult demo(const DemoParams& p, const Cancel& cancel) {
  const auto start = std::chrono::steady_clock::now();
  const auto say = [&](const std::string& s) {
    if (p.say) p.say(s);
  };
  const hardware::Target target = hardware::find_target(p.target);
  require_writable_folder(p.out);
  const std::string text = study_text(p, target.name);
  const fs::path file = p.out / "study.yaml";
  ExploreParams e;
  e.out = p.out;
  e.jobs = p.jobs;
  e.limits = p.limits;
  e.say = p.say;
  std::error_code ec;
  if (fs::exists(p.out / "study.db", ec)) {
    // What was stopped goes on; what was finished, or was another demo, begins again, trainings included.
    bool same = false;
    try {
      same = read_file(file) == text && !fs::exists(p.out / "report.html", ec);
    } catch (const Error&) {
    }
    e.resume = same;
    e.overwrite = !same;
    if (same) say("going on with the study in " + p.out.string());
    else
      for (const char* n : {"networks", "designs", "summary.txt", "report.html"}) fs::remove_all(p.out / n, ec);
  }
  write_file(file, text);
  say(fmt::format("exploring networks and foldings for {}: each network is trained once, its foldings are closed forms", target.name));
  DemoResult r;
  r.explored = explore(file, e, cancel);
  if (!r.explored.why_infeasible.empty()) {
    fs::remove(p.out / "summary.txt", ec);
    throw Error(Exit::no, r.explored.why_infeasible).fix("a larger target (--target)");
  }
  const auto& trials = r.explored.study.trials;
  const auto chosen = std::find_if(trials.begin(), trials.end(), [](const report::Trial& t) { return t.feasible && !t.design.empty(); });
  if (chosen == trials.end()) {
    std::string why = "no design of the front could be built";
    for (const report::Trial& t : trials)
      if (!t.design.empty()) why += fmt::format("; trial {}: {}", t.id, t.reason);
    throw Error(Exit::no, why).fix("a larger target (--target)");
  }
  r.chosen = static_cast<std::size_t>(chosen - trials.begin());
  const Metric* wrong = metric_of(*chosen, "mismatches");
  r.ok = wrong && wrong->value == 0;
  write_file(p.out / "report.html", report_page(p.out, p.out));
  r.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  write_file(p.out / "summary.txt", demo_text(r));
  return r;
}

std::string demo_text(const DemoResult& r) {
  const report::Study& s = r.explored.study;
  const report::Trial& best = r.design();
  std::string t = fmt::format("{} networks trained, {} designs explored of {} points\n", r.explored.networks, s.trials.size(), r.explored.space_size) + front_text(s);
  t += fmt::format("\nchosen: trial {}, the highest validation accuracy on the front, then the fewest cycles; built in {}\n\n", best.id, best.design);
  Table figures;
  figures.columns = {{"figure"}, {"value", true}, {"unit"}, {"fidelity"}, {"source"}};
  for (const auto& [name, m] : best.metrics) {
    std::string value = m.value == std::floor(m.value) && std::abs(m.value) < 1e15 ? grouped(static_cast<std::int64_t>(m.value)) : fmt::format("{:.2f}", m.value);
    if (m.low && m.high) value += fmt::format(" ({:.1f} .. {:.1f})", *m.low, *m.high);
    figures.add({name == "accuracy" ? "accuracy, validation" : name == "test_accuracy" ? "accuracy, test split" : name, value, m.unit, std::string(to_string(m.fidelity)), m.source});
  }
  return t + render(figures, TableStyle::text) + fmt::format("\n{:.0f} s in all\n", r.seconds);
}

std::string demo_json(const DemoResult& r) {
  const report::Study& s = r.explored.study;
  JsonWriter j;
  j.object().field("seed", s.seed).field("seconds", r.seconds).field("networks", r.explored.networks).field("designs", static_cast<std::int64_t>(s.trials.size()));
  j.field("ok", r.ok).field("design", r.design().design).key("metrics").object();
  for (const auto& [name, m] : r.design().metrics) {
    j.key(name).object().field("value", m.value).field("unit", m.unit).field("fidelity", to_string(m.fidelity)).field("source", m.source);
    if (m.low) j.field("low", *m.low);
    if (m.high) j.field("high", *m.high);
    j.end();
  }
  return j.end().key("front").raw(front_json(s)).end().text();
}

}  // namespace tandem::flow
