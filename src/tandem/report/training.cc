#include "tandem/report/training.h"

#include "tandem/report/escape.h"
#include "tandem/report/page.h"

namespace tandem::report {
namespace {

Chart curves(const Training& t, const char* id, std::string title, std::string unit, double factor, double TrainingEpoch::*train, std::optional<double> TrainingEpoch::*valid) {
  Lines l;
  l.id = id;
  l.title = std::move(title);
  l.summary = fmt::format("By epoch. Kept is epoch {}, the best on the validation part.", t.best_epoch);
  l.x = {"epoch", "", false, false, false};
  l.y = {l.title, unit, false, false, {}};
  Series a{"training", {}}, b{"validation", {}};
  for (const TrainingEpoch& e : t.epochs) {
    a.points.emplace_back(static_cast<double>(e.epoch), factor * (e.*train));
    if (e.*valid) b.points.emplace_back(static_cast<double>(e.epoch), factor * *(e.*valid));
  }
  l.series.push_back(std::move(a));
  if (!b.points.empty()) l.series.push_back(std::move(b));
  return draw(l);
}

std::string percent(double v, const std::string& unit) { return unit == "%" ? fmt::format("{:.2f} %", v) : number(v) + (unit.empty() ? "" : " " + unit); }

}  // namespace

std::string training_page(const Training& t, std::string_view more_script) {
  Page p("training", t.name, fmt::format("{} epochs, the best is epoch {}", t.epochs.size(), t.best_epoch));
  p.badge(t.evaluation == "exact" ? "judged exactly" : "judged in float", t.evaluation == "exact" ? "good" : "muted");
  std::vector<std::array<std::string, 3>> top;
  for (const TrainingScore& s : t.scores) top.push_back({s.part, percent(s.metric.value, s.metric.unit), std::string(to_string(s.metric.fidelity))});
  p.figures(top);
  p.section("result", "Result");
  Grid g;
  g.columns = {{"part"}, {"samples", true}, {"value", true}, {"95 % interval", true}, {"fidelity"}, {"source"}};
  for (const TrainingScore& s : t.scores) {
    Cell v(s.metric.value, percent(s.metric.value, s.metric.unit));
    g.rows.push_back({Cell(s.part), number_cell(static_cast<double>(s.n)), v,
                      Cell(s.metric.low && s.metric.high ? fmt::format("{:.2f} .. {:.2f}", *s.metric.low, *s.metric.high) : ""), Cell(std::string(to_string(s.metric.fidelity))), Cell(s.metric.source)});
  }
  p.table("score-table", "The validation part chose the epoch; the test split was looked at once, at the end.", g);
  p.section("curves", "Curves");
  p.chart(curves(t, "loss", "Loss", "", 1, &TrainingEpoch::train_loss, &TrainingEpoch::valid_loss));
  p.chart(curves(t, "accuracy", "Accuracy", "%", 100, &TrainingEpoch::train_accuracy, &TrainingEpoch::valid_accuracy));
  Lines rate;
  rate.id = "rate";
  rate.title = "Learning rate";
  rate.summary = "As the schedule set it.";
  rate.x = {"epoch", "", false, false, false};
  rate.y = {"rate", "", false, false, {}};
  rate.series.push_back({"rate", {}});
  for (const TrainingEpoch& e : t.epochs) rate.series[0].points.emplace_back(static_cast<double>(e.epoch), e.rate);
  p.chart(draw(rate));
  p.section("provenance", "Provenance");
  p.pairs(t.provenance);
  p.section("notices", "Third-party notices");
  p.pairs({{"this page", "style and script are part of Tandem, Apache-2.0; nothing of others is inside"}, {"colours", "after Okabe and Ito, Color Universal Design, 2008"},
           {"libtorch", "BSD-3-Clause; computed the gradients, not part of the model"}});
  return p.done(more_script);
}

}  // namespace tandem::report
