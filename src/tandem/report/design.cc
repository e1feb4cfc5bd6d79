#include "tandem/report/design.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "tandem/report/escape.h"
#include "tandem/report/page.h"

namespace tandem::report {
namespace {

const Metric* find(const Design& d, std::string_view name, std::initializer_list<Fidelity> order) {
  for (Fidelity f : order)
    for (const DesignMetric& m : d.metrics)
      if (m.name == name && m.metric.fidelity == f) return &m.metric;
  return nullptr;
}
constexpr std::initializer_list<Fidelity> kFound = {Fidelity::measured, Fidelity::placed, Fidelity::synthesised, Fidelity::rtl_simulated, Fidelity::simulated};

std::string layer_row(const DesignLayer& l) { return "layer-" + slug(l.name); }

Chart folding(const Design& d) {
  Bars b;
  b.id = "folding";
  b.title = "Folding balance";
  b.unit = "cycles per frame";
  std::int64_t slowest = 0;
  for (const DesignLayer& l : d.layers) slowest = std::max(slowest, l.cycles);
  std::string names;
  for (const DesignLayer& l : d.layers)
    if (l.cycles == slowest && slowest > 0 && names.size() < 200) names += (names.empty() ? "" : ", ") + l.name;
  b.summary = names.empty() ? "No layer takes cycles." : "Cycles of each layer for one frame. The slowest decides the throughput: " + names + ".";
  for (const DesignLayer& l : d.layers) {
    Bar x;
    x.label = l.name;
    x.value = static_cast<double>(l.cycles);
    x.text = number(x.value);
    x.marked = l.cycles == slowest;
    x.row = layer_row(l);
    x.tip = fmt::format("{} ({})\n{} cycles per frame, busy {:.0f} % of the time\nPE {}, SIMD {}, {} MACs", l.name, l.kind, number(x.value),
                        slowest ? 100.0 * x.value / static_cast<double>(slowest) : 0.0, l.pe, l.simd, number(static_cast<double>(l.macs)));
    b.bars.push_back(std::move(x));
  }
  return draw(b);
}

// A metric's resource in the budget.
std::string_view resource_of(std::string_view metric) {
  if (metric == "LUT4" || metric == "logic cells") return "lut4";
  if (metric == "LUT") return "lut";
  if (metric == "FF") return "ff";
  if (metric == "BRAM" || metric == "block RAM" || metric == "RAMB18" || metric == "BRAM18") return "bram";
  if (metric == "SPRAM") return "spram";
  if (metric == "DSP" || metric == "DSP48E2") return "dsp";
  return "";
}

Chart resources(const Design& d) {
  Bars b;
  b.id = "resources";
  b.title = "Resources against the part's budget";
  b.summary = "What the design uses of " + d.target + ", by how it was found.";
  b.unit = "% of the budget";
  b.limit = Guide{true, 100, "budget"};
  b.max = 110;
  const std::array<Fidelity, 3> kinds = {Fidelity::estimated, Fidelity::synthesised, Fidelity::placed};
  std::vector<int> series(3, -1);
  for (const DesignBudget& q : d.budgets) {
    if (!(q.available > 0)) continue;
    for (std::size_t k = 0; k < kinds.size(); ++k)
      for (const DesignMetric& m : d.metrics) {
        if (m.metric.fidelity != kinds[k] || resource_of(m.name) != q.resource) continue;
        if (series[k] < 0) {
          series[k] = static_cast<int>(b.series.size());
          b.series.emplace_back(to_string(kinds[k]));
        }
        Bar x;
        x.label = q.resource;
        for (char& c : x.label) if (c >= 'a' && c <= 'z') c = static_cast<char>(c - 'a' + 'A');
        x.value = 100 * m.metric.value / q.available;
        x.text = fmt::format("{} of {}", number(m.metric.value), number(q.available));
        x.tip = fmt::format("{}: {} of {} ({:.1f} %)\n{}; {}", m.name, number(m.metric.value), number(q.available), x.value, to_string(kinds[k]), m.metric.source);
        x.series = series[k];
        x.marked = m.metric.value > q.available;
        b.bars.push_back(std::move(x));
      }
  }
  return draw(b);
}

Chart shares(const Design& d) {
  Bars b;
  b.id = "lut-by-layer";
  b.title = "Where the logic goes";
  b.summary = "Estimated LUTs of each layer.";
  b.unit = "LUT";
  double all = 0;
  for (const DesignLayer& l : d.layers) all += l.lut4;
  for (const DesignLayer& l : d.layers) {
    Bar x;
    x.label = l.name;
    x.value = std::round(l.lut4);
    x.text = number(x.value);
    x.row = layer_row(l);
    x.tip = fmt::format("{}: {} LUTs, {:.0f} % of all; {} block RAMs, {} DSPs\nestimated", l.name, number(x.value), all > 0 ? 100 * l.lut4 / all : 0.0, number(l.bram), number(l.dsp));
    b.bars.push_back(std::move(x));
  }
  return draw(b);
}

Chart ratios(const Design& d) {
  Ratios r;
  r.id = "estimates";
  r.title = "Estimate against what was found";
  r.summary = "Right of 1 the closed form said too much, left of it too little.";
  for (const DesignMetric& m : d.metrics) {
    if (m.metric.fidelity != Fidelity::estimated) continue;
    const Metric* q = nullptr;
    for (Fidelity f : {Fidelity::synthesised, Fidelity::rtl_simulated, Fidelity::placed})
      if (!q) q = find(d, m.name, {f});
    if (q) r.ratios.push_back({m.name, m.metric.unit, m.metric.value, q->value, m.metric.fidelity, q->fidelity});
  }
  return draw(r);
}

// Closed form and count of each stage: on the line they agree.
Chart stage_scatter(const Design& d) {
  Scatter s;
  s.id = "stage-estimates";
  s.title = "Estimate against synthesis, stage by stage";
  s.x = {"estimated", d.unit, false, false, {}};
  s.y = {"synthesised", d.unit, false, false, {}};
  s.front_line = false;
  std::size_t inside = 0;
  for (const StageCount& c : d.stages) {
    if (!(c.estimated > 0 && c.found > 0)) continue;  // a stage that synthesis removed has no place on a logarithmic axis
    Point p;
    p.x = c.estimated, p.y = c.found;
    p.x_low = c.low, p.x_high = c.high;
    p.fidelity = Fidelity::synthesised;
    p.label = fmt::format("{}: {:+.0f} %", c.name, 100 * (c.estimated - c.found) / c.found);
    inside += c.found >= c.low && c.found <= c.high;
    s.points.push_back(std::move(p));
  }
  s.summary = fmt::format("{} of {} stages lie within the range in which 90 % of the stages of their kind lay when the closed forms were calibrated.", inside, s.points.size());
  return draw(s);
}

Grid differences(const Design& d) {
  Grid g;
  g.columns = {{"layer"}, {"largest", true, "of the absolute differences"}, {"mean", true, "of the absolute differences"}, {"elements", true, "that differ, in %"}, {"first"}, {"cause"}};
  for (const LayerDifference& l : d.differences) {
    Cell cause(l.cause.empty() ? "equal" : l.cause);
    cause.mark = l.cause.empty() ? "good" : "bad";
    g.rows.push_back({Cell(l.layer), number_cell(l.max), number_cell(l.mean), number_cell(100 * l.share), Cell(l.first), cause});
  }
  return g;
}

// Work of each layer against what its own multipliers could do. The bytes are those of its result's stream.
Chart roofline(const Design& d) {
  Roofline r;
  r.id = "roofline";
  r.title = "Multipliers at work";
  r.summary = "Multiplications per cycle in steady state against the multipliers of the layer: on the line, all are busy all the time.";
  r.x = {"multipliers of the layer (PE x SIMD)", "", false, false, {}};
  r.y = {"MACs per cycle", "", false, false, {}};
  r.roofs.push_back({"all busy", true, 1});
  std::int64_t interval = 0;
  for (const DesignLayer& l : d.layers) interval = std::max(interval, l.cycles);
  for (const DesignLayer& l : d.layers) {
    if (l.macs <= 0 || interval <= 0) continue;
    Point p;
    p.x = static_cast<double>(l.pe * l.simd);
    p.y = static_cast<double>(l.macs) / static_cast<double>(interval);
    p.label = fmt::format("{}: {:.0f} % of its multipliers busy", l.name, 100 * p.y / p.x);
    p.row = layer_row(l);
    r.points.push_back(std::move(p));
  }
  return draw(r);
}

Grid layers(const Design& d) {
  Grid g;
  g.columns = {{"layer"}, {"kind"}, {"shape", false, "channels x height x width, in and out"}, {"PE", true, "outputs computed at once"}, {"SIMD", true, "inputs of one output taken at once"},
               {"weights", true}, {"weight bits", true}, {"out bits", true}, {"MACs", true, "multiplications per frame"}, {"cycles", true, "per frame, exact"},
               {"LUT", true, "estimated"}, {"BRAM", true, "estimated"}, {"DSP", true, "estimated"}};
  double macs = 0, weights = 0, lut = 0, bram = 0, dsp = 0;
  std::int64_t slowest = 0;
  for (const DesignLayer& l : d.layers) slowest = std::max(slowest, l.cycles);
  auto n = [](std::int64_t v, bool any = true) { return any ? number_cell(static_cast<double>(v)) : Cell(""); };
  for (const DesignLayer& l : d.layers) {
    Cell cycles = n(l.cycles);
    if (l.cycles == slowest && slowest > 0) { cycles.mark = "warn"; cycles.text += " (slowest)"; }
    const bool multiplies = l.macs > 0;
    g.rows.push_back({Cell(l.name), Cell(l.kind), Cell(l.shape), n(l.pe, multiplies || l.kind == "pool"), n(l.simd, multiplies), n(l.weights, l.weights > 0), n(l.weight_bits, l.weight_bits > 0),
                      n(l.bits), n(l.macs, multiplies), cycles, number_cell(std::round(l.lut4)), number_cell(l.bram), number_cell(l.dsp)});
    g.ids.push_back(layer_row(l));
    macs += static_cast<double>(l.macs);
    weights += static_cast<double>(l.weights);
    lut += l.lut4;
    bram += l.bram;
    dsp += l.dsp;
  }
  g.foot = {Cell("all"), "", "", "", "", number_cell(weights), "", "", number_cell(macs), "", number_cell(std::round(lut)), number_cell(bram), number_cell(dsp)};
  return g;
}

Grid metrics(const Design& d) {
  Grid g;
  g.columns = {{"figure"}, {"value", true}, {"unit"}, {"fidelity", false, "how the figure was found"}, {"source"}};
  for (const DesignMetric& m : d.metrics) {
    Cell v = number_cell(m.metric.value);
    if (m.metric.low && m.metric.high) v.text += fmt::format(" ({} .. {})", number(*m.metric.low), number(*m.metric.high));
    g.rows.push_back({Cell(m.name), v, Cell(m.metric.unit), Cell(std::string(to_string(m.metric.fidelity))), Cell(m.metric.source)});
  }
  return g;
}

}  // namespace

std::string design_page(const Design& d, bool linked, std::string_view up, std::string_view more_script) {
  Page p("design", d.name, "Hardware for " + d.target + ", design " + d.hash);
  const Metric* wrong = find(d, "mismatches", {Fidelity::rtl_simulated});
  if (wrong) p.badge(wrong->value == 0 ? "equal to the exact result" : number(wrong->value) + " words differ", wrong->value == 0 ? "good" : "bad");
  else p.badge("not simulated", "muted");
  if (find(d, "Fmax", {Fidelity::placed})) p.badge("placed and routed", "good");
  else if (find(d, "LUT", {Fidelity::synthesised}) || find(d, "LUT4", {Fidelity::synthesised})) p.badge("synthesised", "good");
  else p.badge("resources are estimates", "muted");
  if (!d.ok) p.badge("not done", "bad");
  std::vector<std::array<std::string, 3>> top;
  auto figure = [&](std::string name, std::string_view metric, std::string_view unit, std::initializer_list<Fidelity> order) {
    if (const Metric* m = find(d, metric, order)) top.push_back({std::move(name), number(m->value) + (unit.empty() ? "" : " " + std::string(unit)), std::string(to_string(m->fidelity))});
  };
  figure("Throughput", "throughput", "frames/s", kFound);
  figure("Cycles per frame", "cycles per frame", "", {Fidelity::rtl_simulated, Fidelity::simulated, Fidelity::estimated});
  figure("Latency", "latency", "cycles", {Fidelity::rtl_simulated, Fidelity::simulated, Fidelity::estimated});
  figure("Logic cells", "logic cells", "", {Fidelity::placed});
  if (!find(d, "logic cells", {Fidelity::placed})) {
    figure("LUT4", "LUT4", "", {Fidelity::synthesised, Fidelity::estimated});
    figure("LUT", "LUT", "", {Fidelity::synthesised, Fidelity::estimated});
  }
  figure("Fmax", "Fmax", "MHz", {Fidelity::placed, Fidelity::estimated});
  figure("Words that differ", "mismatches", "", {Fidelity::rtl_simulated});
  p.figures(top);

  p.section("overview", "Overview");
  if (!d.reason.empty()) p.paragraph("Not done: " + d.reason, "bad");
  if (!d.limit.empty()) p.paragraph("What limits the speed: " + d.limit + ".");
  p.chart(folding(d));
  Chart r = resources(d);
  if (!r.table.rows.empty()) p.chart(r);
  p.chart(shares(d));
  Chart q = ratios(d);
  if (!q.table.rows.empty()) p.chart(q);
  if (!d.stages.empty()) p.chart(stage_scatter(d));
  Chart busy = roofline(d);
  if (busy.table.rows.size() > 1) p.chart(busy);

  p.section("layers", "Layers");
  p.table("layer-table", fmt::format("{} layers in the order of the stream. Cycles are exact, LUT, BRAM and DSP estimated.", d.layers.size()), layers(d));

  p.section("figures", "Every figure and its source");
  p.table("metric-table", "A figure found in several ways appears once for each.", metrics(d));

  p.section("verification", "Verification");
  if (wrong) {
    p.paragraph(fmt::format("The generated Verilog was simulated and every output word compared with the exact result: {}. Frames: {}.",
                            wrong->value == 0 ? "none differs" : number(wrong->value) + " differ", d.frames.empty() ? "not recorded" : d.frames));
    p.paragraph(wrong->source + ". `tandem verify` repeats it on the folder as it lies there.", "muted");
  } else {
    p.paragraph("This design was not simulated. `tandem verify` does it on the folder as it lies there.");
  }
  if (!d.differences.empty()) p.table("difference-table", "Two runs compared layer by layer, in the order of the stream: the first layer that differs is where to look.", differences(d));
  for (const Waveform& w : d.waves) p.chart(draw(w));

  if (!d.precision.empty()) {
    Precision v;
    v.id = "precision";
    v.title = "Precision profile";
    v.summary = "The integers of each quantised value over the recorded frames, against the range of its format.";
    v.layers = d.precision;
    p.section("precision-profile", "Precision");
    p.chart(draw(v));
  }

  p.section("host", "On the host");
  if (d.host.empty()) p.paragraph("Nothing: the hardware takes the model's input and gives its output.");
  else p.list(d.host);

  p.section("provenance", "Provenance");
  p.pairs(d.provenance);
  if (!d.files.empty()) {
    Grid g;
    g.columns = {{"file"}, {"bytes", true}, {"SHA-256"}};
    for (const DesignFile& f : d.files) {
      Cell name(f.path), sum(f.sha256);
      name.mark = sum.mark = "code";
      if (linked)
        if (auto l = link(f.path, up)) name.href = *l;
      g.rows.push_back({name, number_cell(static_cast<double>(f.bytes)), sum});
    }
    p.table("file-table", "The files of the design, as they were when this page was written.", g);
  }

  p.section("notices", "Third-party notices");
  p.pairs(d.notices);
  return p.done(more_script);
}

}  // namespace tandem::report
