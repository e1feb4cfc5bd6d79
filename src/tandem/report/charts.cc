#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <unordered_set>

#include "tandem/base/error.h"
#include "tandem/report/draw.h"
#include "tandem/report/escape.h"

namespace tandem::report {
namespace {

constexpr double kWidth = 480, kWide = 980;

struct Range {
  double lo = std::numeric_limits<double>::infinity(), hi = -std::numeric_limits<double>::infinity();
  void add(double v) {
    if (!usable(v)) return;
    lo = std::min(lo, v);
    hi = std::max(hi, v);
  }
  bool any() const { return lo <= hi; }
};

std::string with_unit(double v, const std::string& unit) { return unit.empty() ? number(v) : number(v) + " " + unit; }

// Marks of several fidelities or series in one row below a chart; wraps at the width.
double legend(Svg& s, double x, double y, double right, const std::vector<std::pair<std::string, std::string>>& entries) {
  double at = x;
  for (const auto& [shape, text] : entries) {
    const double w = 18 + text_width(text) + 14;
    if (at > x && at + w > right) { at = x; y += 18; }
    s.raw(fmt::format("<g transform=\"translate({} {})\">{}</g>", px(at + 6), px(y - 4), shape));
    s.text(at + 16, y, text);
    at += w;
  }
  return y;
}
// How many rows legend() takes.
int legend_rows(double x, double right, const std::vector<std::pair<std::string, std::string>>& entries) {
  int rows = entries.empty() ? 0 : 1;
  double at = x;
  for (const auto& e : entries) {
    const double w = 18 + text_width(e.second) + 14;
    if (at > x && at + w > right) { at = x; ++rows; }
    at += w;
  }
  return rows;
}

// Goods points first: x best to worst; a point stays when it improves y. The staircase between what is reached.
std::string staircase(const std::vector<std::pair<double, double>>& front, const Plot& p, bool max_x, bool max_y) {
  std::vector<std::pair<double, double>> f = front;
  std::sort(f.begin(), f.end(), [&](const auto& a, const auto& b) {
    if (a.first != b.first) return max_x ? a.first > b.first : a.first < b.first;
    return max_y ? a.second > b.second : a.second < b.second;
  });
  std::string d;
  double best = 0;
  for (const auto& [x, y] : f) {
    if (d.empty()) d = fmt::format("M{} {}", px(p.px_of(x)), px(p.py_of(y)));
    else if (max_y ? y > best : y < best) d += fmt::format("H{}V{}", px(p.px_of(x)), px(p.py_of(y)));
    else continue;
    best = y;
  }
  return d;
}

}  // namespace

std::string marker(Fidelity f, double x, double y, double r) {
  auto at = [](double v) { return px(v); };
  auto polygon = [&](std::initializer_list<std::pair<double, double>> p, const char* cls) {
    std::string d;
    for (auto [dx, dy] : p) d += fmt::format("{}{} {}", d.empty() ? "M" : "L", at(x + dx * r), at(y + dy * r));
    return fmt::format("<path d=\"{}Z\" class=\"mk {}\"/>", d, cls);
  };
  switch (f) {
    case Fidelity::estimated: return fmt::format("<circle cx=\"{}\" cy=\"{}\" r=\"{}\" class=\"mk o\"/>", at(x), at(y), at(r));
    case Fidelity::executed: return fmt::format("<circle cx=\"{}\" cy=\"{}\" r=\"{}\" class=\"mk f\"/>", at(x), at(y), at(r));
    case Fidelity::simulated: return polygon({{0, -1.3}, {1.3, 0}, {0, 1.3}, {-1.3, 0}}, "o");
    case Fidelity::rtl_simulated: return polygon({{0, -1.3}, {1.3, 0}, {0, 1.3}, {-1.3, 0}}, "f");
    case Fidelity::synthesised: return polygon({{-1, -1}, {1, -1}, {1, 1}, {-1, 1}}, "o");
    case Fidelity::placed: return polygon({{-1, -1}, {1, -1}, {1, 1}, {-1, 1}}, "f");
    case Fidelity::emulated: return polygon({{0, -1.3}, {1.2, 0.9}, {-1.2, 0.9}}, "o");
    case Fidelity::measured: return polygon({{0, -1.3}, {1.2, 0.9}, {-1.2, 0.9}}, "f");
    case Fidelity::published:
      return polygon({{0, -1.4}, {0.35, -0.45}, {1.35, -0.45}, {0.55, 0.15}, {0.85, 1.2}, {0, 0.55}, {-0.85, 1.2}, {-0.55, 0.15}, {-1.35, -0.45}, {-0.35, -0.45}}, "f");
  }
  return "";
}

// ---- scatter -------------------------------------------------------------------------------------
Chart draw(const Scatter& c) {
  Chart r{c.id, c.title, c.summary, {}, {}, {}, false};
  Range rx, ry;
  std::size_t bad = 0;
  std::map<Fidelity, bool> seen;
  bool cloud = false, infeasible = false, front = false;
  for (const Point& p : c.points) {
    if (!usable(p.x) || !usable(p.y)) { ++bad; continue; }
    rx.add(p.x);
    ry.add(p.y);
    if (p.front) {
      for (auto v : {p.x_low, p.x_high}) if (v) rx.add(*v);
      for (auto v : {p.y_low, p.y_high}) if (v) ry.add(*v);
      seen[p.fidelity] = true;
      front = true;
    } else {
      (p.feasible ? cloud : infeasible) = true;
    }
  }
  const Range data_x = rx, data_y = ry;
  // A bound is shown where the data come near it; one far away would press them into a corner.
  for (const Guide& g : c.guides) {
    Range& a = g.vertical ? rx : ry;
    const Range& d = g.vertical ? data_x : data_y;
    if (usable(g.at) && d.any() && g.at < d.hi + (d.hi - d.lo) && g.at > d.lo - (d.hi - d.lo)) a.add(g.at);
  }
  Plot p{0, 26, 0, 250, scale_for(rx.lo, rx.hi, c.x.log), scale_for(ry.lo, ry.hi, c.y.log)};
  p.left = std::max(34.0, label_room(p.y));
  p.width = kWidth - p.left - 14;
  std::vector<std::pair<std::string, std::string>> entries;
  for (auto& [f, _] : seen) entries.emplace_back(marker(f, 0, 0, 4), std::string(to_string(f)));
  if (front && c.front_line) entries.emplace_back("<path d=\"M-7 0H7\" class=\"front\"/>", "front");
  if (cloud) entries.emplace_back("<path d=\"M0 0h0\" class=\"cloud\"/>", "dominated");
  if (infeasible) entries.emplace_back("<path d=\"M-2.5 -2.5L2.5 2.5M-2.5 2.5L2.5 -2.5\" class=\"inf\"/>", "infeasible");
  const int rows = legend_rows(p.left, kWidth, entries);
  const double height = p.top + p.height + 44 + 18 * rows;
  Svg s(c.id, c.title, c.summary, kWidth, height,
        fmt::format(" data-map=\"{} {} {} {} {} {} {} {} {} {}\"", p.left, p.width, p.x.lo, p.x.hi, int{p.x.log}, p.top, p.height, p.y.lo, p.y.hi, int{p.y.log}));
  draw_axes(s, p, c.x, c.y);
  if (!rx.any()) s.text(p.left + p.width / 2, p.top + p.height / 2, "no data", "middle", "lb");
  for (const Guide& g : c.guides) {
    const Scale& a = g.vertical ? p.x : p.y;
    if (!usable(g.at) || g.at < a.lo || g.at > a.hi) {
      r.note += (r.note.empty() ? "" : " ") + fmt::format("The bound {} lies outside the picture.", g.label);
      continue;
    }
    if (g.vertical) {
      const double x = p.px_of(g.at), w = text_width(g.label);
      s.line(x, p.top, x, p.top + p.height, "guide");
      const bool right = x + 5 + w < p.left + p.width;
      s.text(right ? x + 5 : x - 5, p.top + 12, fit(g.label, p.width / 2), right ? "start" : "end", "gt");
    } else {
      const double y = p.py_of(g.at);
      s.line(p.left, y, p.left + p.width, y, "guide");
      s.text(p.left + p.width - 4, y < p.top + 16 ? y + 13 : y - 5, fit(g.label, p.width), "end", "gt");
    }
  }
  // The cloud: one dot per cell of 3 pixels.
  std::unordered_set<std::int64_t> taken[2];
  std::string dots, crosses;
  std::int64_t drawn = 0, total = 0;
  for (const Point& q : c.points) {
    if (q.front || !usable(q.x) || !usable(q.y)) continue;
    ++total;
    const double x = p.px_of(q.x), y = p.py_of(q.y), cell = q.feasible ? 3 : 6;
    if (!taken[q.feasible].insert(static_cast<std::int64_t>(x / cell) * 100000 + static_cast<std::int64_t>(y / cell)).second) continue;
    ++drawn;
    if (q.feasible) dots += fmt::format("M{:.0f} {:.0f}h0", x, y);
    else crosses += fmt::format("M{:.0f} {:.0f}l4 4m0-4l-4 4", x - 2, y - 2);
  }
  s.path(crosses, "inf");
  s.path(dots, "cloud");
  if (drawn < total) r.note += (r.note.empty() ? "" : " ") + fmt::format("{} points are drawn as {} marks: those that would cover each other are drawn once.", number(static_cast<double>(total)), number(static_cast<double>(drawn)));
  std::vector<std::pair<double, double>> line;
  for (const Point& q : c.points)
    if (q.front && q.feasible && usable(q.x) && usable(q.y)) line.emplace_back(q.x, q.y);
  if (c.front_line) s.path(staircase(line, p, c.x.maximise, c.y.maximise), "front");
  // Marks of the front; beyond some hundreds evenly thinned.
  constexpr std::size_t kMarks = 600;
  std::size_t marks = 0, at = 0, kept = 0;
  for (const Point& q : c.points) marks += q.front && usable(q.x) && usable(q.y);
  for (const Point& q : c.points) {
    if (!q.front || !usable(q.x) || !usable(q.y)) continue;
    ++at;
    if (marks > kMarks && (at - 1) * kMarks / marks == at * kMarks / marks) continue;
    ++kept;
    const double x = p.px_of(q.x), y = p.py_of(q.y);
    s.mark(fmt::format("{}\n{}: {}\n{}: {}", q.label, c.x.label, with_unit(q.x, c.x.unit), c.y.label, with_unit(q.y, c.y.unit)), q.row);
    std::string bars;
    auto inside = [](const Scale& a, double v) { return std::clamp(v, a.lo, a.hi); };
    if (q.x_low && q.x_high && usable(*q.x_low) && usable(*q.x_high)) {
      const double a = p.px_of(inside(p.x, *q.x_low)), b = p.px_of(inside(p.x, *q.x_high));
      bars += fmt::format("M{0} {1}H{2}M{0} {3}V{4}M{2} {3}V{4}", px(a), px(y), px(b), px(y - 3), px(y + 3));
    }
    if (q.y_low && q.y_high && usable(*q.y_low) && usable(*q.y_high)) {
      const double a = p.py_of(inside(p.y, *q.y_low)), b = p.py_of(inside(p.y, *q.y_high));
      bars += fmt::format("M{1} {0}V{2}M{3} {0}H{4}M{3} {2}H{4}", px(a), px(x), px(b), px(x - 3), px(x + 3));
    }
    s.path(bars, "err");
    s.raw(marker(q.fidelity, x, y, 4.2));
    s.end_mark();
  }
  legend(s, p.left, p.top + p.height + 58, kWidth, entries);
  r.svg = s.done();
  if (kept < marks) r.note += (r.note.empty() ? "" : " ") + fmt::format("{} of {} marks of the front are drawn.", number(static_cast<double>(kept)), number(static_cast<double>(marks)));
  if (bad) r.note += (r.note.empty() ? "" : " ") + left_out(bad);
  r.table.columns = {{"point"}, {axis_text(c.x), true}, {axis_text(c.y), true}, {"fidelity"}};
  constexpr std::size_t kRows = 500;
  for (const Point& q : c.points) {
    if (!q.front) continue;
    if (r.table.rows.size() == kRows) break;
    Cell name(q.label);
    if (!q.row.empty()) name.href = "#" + q.row;
    r.table.rows.push_back({name, number_cell(q.x), number_cell(q.y), Cell(std::string(to_string(q.fidelity)))});
  }
  return r;
}

// ---- bars ----------------------------------------------------------------------------------------
Chart draw(const Bars& c) {
  Chart r{c.id, c.title, c.summary, {}, {}, {}, false};
  Range range;
  range.add(0);
  std::size_t bad = 0;
  double label = 40, tail = 20;
  for (const Bar& b : c.bars) {
    if (!usable(b.value)) { ++bad; continue; }
    range.add(b.value);
    label = std::max(label, text_width(printable(b.label)) + 10);
    tail = std::max(tail, text_width(printable(b.text)) + 10);
  }
  if (c.max && usable(*c.max)) range.add(*c.max);
  if (c.limit && usable(c.limit->at)) range.add(c.limit->at);
  label = std::min(label, 150.0);
  tail = std::min(tail, 150.0);
  constexpr double kBar = 14, kGap = 9;
  Plot p{label, 12, kWidth - label - tail, 0, {}, {}};
  p.x.lo = range.lo;
  p.x.hi = range.hi > range.lo ? range.hi : 1;
  double y = p.top + (c.limit ? 14 : 0);
  const double first = y;
  std::string last;
  for (const Bar& b : c.bars) {
    if (!usable(b.value)) continue;
    y += b.label == last ? kBar + 3 : kBar + kGap;
    last = b.label;
  }
  p.height = y - p.top;
  std::vector<std::pair<std::string, std::string>> entries;
  for (std::size_t i = 0; i < c.series.size(); ++i) entries.emplace_back(fmt::format("<rect x=\"-6\" y=\"-6\" width=\"12\" height=\"12\" class=\"b{}\"/>", i % 6), c.series[i]);
  const int rows = legend_rows(8, kWidth, entries);
  Svg s(c.id, c.title, c.summary, kWidth, y + 44 + 18 * rows);
  const std::vector<double> t = ticks(p.x, 4);
  const std::vector<std::string> names = tick_labels(t);
  std::string grid;
  for (double v : t) grid += fmt::format("M{} {}V{}", px(p.px_of(v)), px(p.top), px(y + 4));
  s.path(grid, "gr");
  for (std::size_t i = 0; i < t.size(); ++i) s.text(p.px_of(t[i]), y + 18, names[i], "middle");
  s.text(p.left + p.width / 2, y + 36, c.unit, "middle", "lb");
  if (c.bars.size() == bad) s.text(kWidth / 2, y, "no data", "middle", "lb");
  y = first;
  last.clear();
  for (const Bar& b : c.bars) {
    if (!usable(b.value)) continue;
    const bool same = b.label == last && !last.empty();
    if (&b != &c.bars[0]) y += same ? kBar + 3 : kBar + kGap;
    else y += kGap / 2;
    const double a = p.px_of(0), z = p.px_of(b.value);
    s.mark(b.tip.empty() ? fmt::format("{}: {}", b.label, with_unit(b.value, c.unit)) : b.tip, b.row);
    s.rect(p.left - label, y - 2, kWidth, kBar + 4, "hit");
    s.rect(std::min(a, z), y, std::max(std::abs(z - a), 1.0), kBar, fmt::format("b{}{}", b.series % 6, b.marked ? " hot" : ""));
    if (!same) s.text(p.left - 6, y + 11, fit(b.label, label - 8), "end", b.marked ? "tk strong" : "tk");
    s.text(std::max(a, z) + 5, y + 11, fit(b.text.empty() ? number(b.value) : b.text, tail), "start", b.marked ? "tk strong" : "tk");
    s.end_mark();
    last = b.label;
  }
  if (c.limit && usable(c.limit->at)) {
    const double x = p.px_of(c.limit->at);
    s.line(x, p.top, x, p.top + p.height + 4, "guide");
    s.text(x, p.top, c.limit->label, "middle", "gt");
  }
  s.line(p.px_of(0), p.top, p.px_of(0), p.top + p.height + 4, "ax");
  legend(s, 8, p.top + p.height + 58, kWidth, entries);
  r.svg = s.done();
  r.note = left_out(bad);
  r.table.columns = {{"name"}};
  if (!c.series.empty()) r.table.columns.push_back({"kind"});
  r.table.columns.push_back({c.unit.empty() ? "value" : c.unit, true});
  r.table.columns.push_back({"in words"});
  for (const Bar& b : c.bars) {
    std::vector<Cell> row{Cell(b.label)};
    if (!b.row.empty()) row[0].href = "#" + b.row;
    if (!c.series.empty()) row.push_back(Cell(c.series[static_cast<std::size_t>(b.series) % c.series.size()]));
    row.push_back(number_cell(b.value));
    row.push_back(Cell(b.text));
    r.table.rows.push_back(std::move(row));
  }
  return r;
}

// ---- estimate against what a tool found -----------------------------------------------------------
Chart draw(const Ratios& c) {
  Chart r{c.id, c.title, c.summary, {}, {}, {}, false};
  double largest = 1.25;
  std::size_t bad = 0;
  auto ok = [](const Ratio& q) { return usable(q.estimate) && usable(q.actual) && q.estimate > 0 && q.actual > 0; };
  double label = 60;
  for (const Ratio& q : c.ratios) {
    if (!ok(q)) { ++bad; continue; }
    const double f = q.estimate / q.actual;
    largest = std::max({largest, f, 1 / f});
    label = std::max(label, 1.15 * text_width(printable(q.name)) + 16);  // bold
  }
  label = std::min(label, 170.0);
  constexpr double kRow = 38;
  const double h = kRow * static_cast<double>(c.ratios.size() - bad);
  Plot p{label, 10, kWidth - label - 20, h, {}, {}};
  largest = std::min(largest * 1.1, 1e6);
  p.x = {1 / largest, largest, true};
  Svg s(c.id, c.title, c.summary, kWidth, h + 60);
  const std::vector<double> t = ticks(p.x, 4);
  const std::vector<std::string> names = tick_labels(t);
  std::string grid;
  for (double v : t) grid += fmt::format("M{} {}V{}", px(p.px_of(v)), px(p.top), px(p.top + h));
  s.path(grid, "gr");
  double end = -1e9;
  for (std::size_t i = 0; i < t.size(); ++i) {
    const double at = p.px_of(t[i]), w = text_width(names[i]);
    if (at - w / 2 < end + 8) continue;
    s.text(at, p.top + h + 16, names[i], "middle");
    end = at + w / 2;
  }
  s.text(p.left + p.width / 2, p.top + h + 36, "estimate : found (1 is exact)", "middle", "lb");
  s.line(p.px_of(1), p.top, p.px_of(1), p.top + h, "ax");
  if (c.ratios.size() == bad) s.text(kWidth / 2, 24, "no data", "middle", "lb");
  double y = p.top + 14;
  for (const Ratio& q : c.ratios) {
    if (!ok(q)) continue;
    const double f = q.estimate / q.actual, x = p.px_of(std::clamp(f, 1 / largest, largest));
    const std::string text = fmt::format("{:.2f}", f);
    s.mark(fmt::format("{}: {} {}, {} {}; ratio {}", q.name, with_unit(q.estimate, q.unit), to_string(q.estimated), with_unit(q.actual, q.unit), to_string(q.found), text), "");
    s.rect(0, y - 14, kWidth, kRow, "hit");
    s.text(label - 8, y + 4, fit(q.name, label - 10), "end", "tk strong");
    s.line(p.px_of(1), y, x, y, "stem");
    s.raw(marker(Fidelity::placed, x, y, 4.5));
    const bool right = f >= 1 && x + 10 + text_width(text) < kWidth;  // away from the stem
    s.text(right ? x + 9 : x - 9, y + 4, text, right ? "start" : "end", "tk strong");
    s.text(p.px_of(1), y + 18, fmt::format("{} {}, {} {}", number(q.estimate), to_string(q.estimated), number(q.actual), to_string(q.found)), "middle", "tk halo");
    s.end_mark();
    y += kRow;
  }
  r.svg = s.done();
  if (bad) r.note = fmt::format("{} pairs are zero or no finite numbers and have no ratio.", bad);
  r.table.columns = {{"quantity"}, {"unit"}, {"estimate", true}, {"fidelity"}, {"found", true}, {"fidelity"}, {"estimate : found", true}};
  for (const Ratio& q : c.ratios)
    r.table.rows.push_back({Cell(q.name), Cell(q.unit), number_cell(q.estimate), Cell(std::string(to_string(q.estimated))), number_cell(q.actual), Cell(std::string(to_string(q.found))),
                            ok(q) ? Cell(q.estimate / q.actual, fmt::format("{:.3f}", q.estimate / q.actual)) : Cell("")});
  return r;
}

// ---- precision profile ----------------------------------------------------------------------------
Chart draw(const Precision& c) {
  Chart r{c.id, c.title, c.summary, {}, {}, {}, true};
  constexpr double kRow = 74, kLeft = 250, kHist = 460;
  const double h = 26 + kRow * static_cast<double>(std::max<std::size_t>(c.layers.size(), 1));
  Svg s(c.id, c.title, c.summary, kWide, h);
  s.text(0, 13, "layer and format", "start", "lb");
  s.text(kLeft, 13, "lowest to highest code of the format; bar height: share of values", "start", "lb");
  s.text(kLeft + kHist + 30, 13, "clipped, flushed, codes in use", "start", "lb");
  if (c.layers.empty()) s.text(kWide / 2, 50, "no data", "middle", "lb");
  double y = 26;
  r.table.columns = {{"layer"}, {"format"}, {"lowest code", true}, {"highest code", true}, {"smallest seen", true}, {"largest seen", true}, {"values", true},
                     {"clipped %", true, "share of values beyond the format's range, set to its end"}, {"flushed %", true, "share of values that are not zero and became zero"}};
  for (const Distribution& d : c.layers) {
    std::int64_t most = 0, total = 0;
    for (std::int64_t v : d.counts) { most = std::max(most, v); total += v; }
    auto percent = [](const std::optional<double>& v) { return !v || !std::isfinite(*v) ? std::string("not known") : *v > 0 && *v < 0.0005 ? std::string("< 0.1 %") : fmt::format("{:.1f} %", 100 * *v); };
    s.mark(fmt::format("{}, {}: codes {} to {}; {} values from {} to {}; clipped {}, flushed {}", d.layer, d.format, number(d.lo), number(d.hi), number(static_cast<double>(d.n)), number(d.seen_lo), number(d.seen_hi), percent(d.clipped), percent(d.flushed)), "");
    s.rect(0, y, kWide, kRow - 8, "hit");
    s.text(0, y + 26, fit(d.layer, kLeft - 16), "start", "tk strong");
    s.text(0, y + 43, fit(d.format, kLeft - 16), "start", "tk");
    const double base = y + kRow - 24, top = y + 6;
    const bool range = usable(d.lo) && usable(d.hi) && d.hi >= d.lo && most > 0;
    s.rect(kLeft, top, kHist, base - top, "well");
    if (range) {
      const double w = kHist / static_cast<double>(d.counts.size());
      std::string bars;
      for (std::size_t i = 0; i < d.counts.size(); ++i) {
        if (d.counts[i] == 0) continue;
        // At least a pixel: one value of many is still seen.
        const double high = std::max(1.0, (base - top) * static_cast<double>(d.counts[i]) / static_cast<double>(most));
        bars += fmt::format("M{} {}h{}v{}h-{}Z", px(kLeft + w * static_cast<double>(i)), px(base), px(std::max(w - (w > 4 ? 1 : 0), 0.5)), px(-high), px(std::max(w - (w > 4 ? 1 : 0), 0.5)));
      }
      s.path(bars, "b0");
      s.text(kLeft, base + 14, number(d.lo), "start");
      s.text(kLeft + kHist, base + 14, number(d.hi), "end");
      if (d.lo < 0 && d.hi > 0) {
        const double zero = kLeft + kHist * (0.5 - d.lo) / (d.hi - d.lo + 1);
        s.line(zero, top, zero, base + 3, "ax");
        s.text(zero, base + 14, "0", "middle");
      }
      s.text(kLeft + kHist + 6, top + 9, fmt::format("{:.0f} %", 100.0 * static_cast<double>(most) / static_cast<double>(total)), "start");
    } else {
      s.text(kLeft + kHist / 2, base - 14, "no values", "middle");
    }
    const double x = kLeft + kHist + 50;
    const bool much = d.clipped && *d.clipped >= 0.01;
    s.text(x, y + 18, "clipped " + percent(d.clipped), "start", much ? "tk warn" : "tk");
    s.text(x, y + 34, "flushed " + percent(d.flushed), "start", "tk");
    s.text(x, y + 50, fmt::format("uses {} to {}", number(d.seen_lo), number(d.seen_hi)), "start", "tk");
    s.end_mark();
    auto share = [](const std::optional<double>& v) { return v && std::isfinite(*v) ? Cell(100 * *v, fmt::format("{:.3g}", 100 * *v)) : Cell(""); };
    r.table.rows.push_back({Cell(d.layer), Cell(d.format), number_cell(d.lo), number_cell(d.hi), number_cell(d.seen_lo), number_cell(d.seen_hi), number_cell(static_cast<double>(d.n)), share(d.clipped), share(d.flushed)});
    y += kRow;
  }
  r.svg = s.done();
  return r;
}

// ---- waveform -------------------------------------------------------------------------------------
Chart draw(const Waveform& c) {
  Chart r{c.id, c.title, c.summary, {}, {}, {}, true};
  std::size_t cycles = 0;
  double label = 60;
  for (const Signal& g : c.signals) {
    cycles = std::max(cycles, g.values.size());
    label = std::max(label, text_width(printable(g.name)) + 14);
  }
  label = std::min(label, 180.0);
  constexpr double kRow = 30, kHigh = 20;
  const double w = kWide - label - 10, step = cycles ? w / static_cast<double>(cycles) : w, h = 30 + kRow * static_cast<double>(std::max<std::size_t>(c.signals.size(), 1));
  Svg s(c.id, c.title, c.summary, kWide, h);
  auto x_of = [&](std::size_t i) { return label + step * static_cast<double>(i); };
  std::string grid;
  const std::size_t every = cycles > 60 ? 10 : cycles > 24 ? 5 : 1;
  for (std::size_t i = 0; i <= cycles; ++i) {
    const std::int64_t at = c.first_cycle + static_cast<std::int64_t>(i);
    if (at % static_cast<std::int64_t>(every)) continue;
    grid += fmt::format("M{} 18V{}", px(x_of(i)), px(h - 4));
    if (i < cycles || i == 0) s.text(x_of(i) + 2, 13, std::to_string(at), "start");
  }
  s.path(grid, "gr");
  s.text(0, 13, "cycle", "start", "lb");
  if (c.signals.empty() || cycles == 0) s.text(kWide / 2, 40, "no data", "middle", "lb");
  r.table.columns = {{"cycle", true}};
  double y = 22;
  for (const Signal& g : c.signals) {
    r.table.columns.push_back({g.name, true});
    s.text(label - 10, y + 15, fit(g.name, label - 12), "end", "tk");
    std::string d;
    if (g.bits == 1) {
      for (std::size_t i = 0; i < g.values.size(); ++i) {
        const double level = y + (g.values[i].value_or(0) ? 2 : kHigh);
        d += i == 0 ? fmt::format("M{} {}H{}", px(x_of(0)), px(level), px(x_of(1))) : fmt::format("V{}H{}", px(level), px(x_of(i + 1)));
      }
      s.path(d, "wave");
    } else {
      for (std::size_t i = 0; i < g.values.size();) {
        std::size_t j = i;
        while (j < g.values.size() && g.values[j] == g.values[i]) ++j;
        const double a = x_of(i), b = x_of(j), slope = std::min(2.5, (b - a) / 3);
        if (g.values[i]) {
          const std::string text = std::to_string(*g.values[i]);
          s.mark(fmt::format("{} = {}, cycle {}{}", g.name, text, c.first_cycle + static_cast<std::int64_t>(i), j > i + 1 ? fmt::format(" to {}", c.first_cycle + static_cast<std::int64_t>(j) - 1) : ""), "");
          s.path(fmt::format("M{} {}L{} {}H{}L{} {}L{} {}H{}Z", px(a), px(y + 11), px(a + slope), px(y + 2), px(b - slope), px(b), px(y + 11), px(b - slope), px(y + kHigh), px(a + slope)), "bus");
          if (text_width(text) + 6 < b - a) s.text((a + b) / 2, y + 15, text, "middle", "tk bv");
          s.end_mark();
        } else {
          d += fmt::format("M{} {}H{}", px(a), px(y + 11), px(b));
        }
        i = j;
      }
      s.path(d, "idle");
    }
    y += kRow;
  }
  for (std::size_t i = 0; i < cycles; ++i) {
    std::vector<Cell> row{Cell(static_cast<double>(c.first_cycle + static_cast<std::int64_t>(i)), std::to_string(c.first_cycle + static_cast<std::int64_t>(i)))};
    for (const Signal& g : c.signals) row.push_back(i < g.values.size() && g.values[i] ? Cell(static_cast<double>(*g.values[i]), std::to_string(*g.values[i])) : Cell(""));
    r.table.rows.push_back(std::move(row));
  }
  r.svg = s.done();
  return r;
}

// ---- lines ----------------------------------------------------------------------------------------
Chart draw(const Lines& c) {
  Chart r{c.id, c.title, c.summary, {}, {}, {}, false};
  Range rx, ry;
  std::size_t bad = 0;
  for (const Series& q : c.series)
    for (auto [x, y] : q.points) {
      if (!usable(x) || !usable(y)) { ++bad; continue; }
      rx.add(x);
      ry.add(y);
    }
  Plot p{0, 26, 0, 220, scale_for(rx.lo, rx.hi, c.x.log.value_or(false)), scale_for(ry.lo, ry.hi, c.y.log.value_or(false))};
  if (rx.any() && !p.x.log && rx.hi > rx.lo) { p.x.lo = rx.lo; p.x.hi = rx.hi; }  // time starts at the axis
  p.left = std::max(34.0, label_room(p.y));
  p.width = kWidth - p.left - 16;
  std::vector<std::pair<std::string, std::string>> entries;
  if (c.series.size() > 1)
    for (std::size_t i = 0; i < c.series.size(); ++i) entries.emplace_back(fmt::format("<path d=\"M-7 0H7\" class=\"l{}\"/>", i % 6), c.series[i].name);
  Svg s(c.id, c.title, c.summary, kWidth, p.top + p.height + 44 + 18 * legend_rows(p.left, kWidth, entries));
  draw_axes(s, p, c.x, c.y);
  if (!rx.any()) s.text(p.left + p.width / 2, p.top + p.height / 2, "no data", "middle", "lb");
  r.table.columns = {{"series"}, {axis_text(c.x), true}, {axis_text(c.y), true}};
  std::size_t drawn = 0, total = 0;
  for (std::size_t i = 0; i < c.series.size(); ++i) {
    std::string d;
    const auto& q = c.series[i].points;
    // At most about two points per pixel: the first of each, and where the value changes within it the last.
    const std::size_t every = std::max<std::size_t>(1, q.size() / 1000);
    double last = 0;
    for (std::size_t k = 0; k < q.size(); ++k) {
      if (!usable(q[k].first) || !usable(q[k].second)) continue;
      ++total;
      if (k % every && k + 1 != q.size()) continue;
      ++drawn;
      const double x = p.px_of(q[k].first), y = p.py_of(q[k].second);
      if (d.empty()) d = fmt::format("M{} {}", px(x), px(y));
      else if (c.steps) d += y == last ? "" : fmt::format("H{}V{}", px(x), px(y));
      else d += fmt::format("L{} {}", px(x), px(y));
      last = y;
      if (c.steps && k + 1 == q.size()) d += fmt::format("H{}", px(x));
      if (r.table.rows.size() < 500) r.table.rows.push_back({Cell(c.series[i].name), number_cell(q[k].first), number_cell(q[k].second)});
    }
    s.path(d, fmt::format("l{}", i % 6));
    // Each point's mark where they are few: what a pointer finds.
    if (q.size() <= 200)
      for (auto [x, y] : q) {
        if (!usable(x) || !usable(y)) continue;
        s.mark(fmt::format("{}{}{}: {}\n{}: {}", c.series[i].name, c.series[i].name.empty() ? "" : "\n", c.x.label, with_unit(x, c.x.unit), c.y.label, with_unit(y, c.y.unit)), "");
        s.raw(fmt::format("<circle cx=\"{}\" cy=\"{}\" r=\"{}\" class=\"d{}\"/></g>", px(p.px_of(x)), px(p.py_of(y)), q.size() <= 40 ? "3" : "1.6", i % 6));
      }
  }
  legend(s, p.left, p.top + p.height + 58, kWidth, entries);
  r.svg = s.done();
  if (drawn < total) r.note = fmt::format("{} of {} points are drawn.", number(static_cast<double>(drawn)), number(static_cast<double>(total)));
  if (bad) r.note += (r.note.empty() ? "" : " ") + left_out(bad);
  return r;
}

// ---- roofline -------------------------------------------------------------------------------------
Chart draw(const Roofline& c) {
  Chart r{c.id, c.title, c.summary, {}, {}, {}, false};
  Range rx, ry;
  std::size_t bad = 0;
  auto ok = [](double v) { return usable(v) && v > 0; };
  for (const Point& q : c.points) {
    if (!ok(q.x) || !ok(q.y)) { ++bad; continue; }
    rx.add(q.x);
    ry.add(q.y);
  }
  double flat = 0;
  for (const Roof& f : c.roofs)
    if (ok(f.value) && !f.bandwidth) { ry.add(f.value); flat = std::max(flat, f.value); }
  for (const Roof& f : c.roofs)  // the ridge belongs into the picture
    if (ok(f.value) && f.bandwidth && flat > 0) rx.add(flat / f.value);
  if (rx.any()) { rx.lo /= 2; rx.hi *= 2; ry.lo /= 2; ry.hi *= 2; }
  Plot p{0, 26, 0, 250, rx.any() ? scale_for(rx.lo, rx.hi, true) : Scale{0.1, 10, true}, ry.any() ? scale_for(ry.lo, ry.hi, true) : Scale{0.1, 10, true}};
  p.left = std::max(34.0, label_room(p.y));
  p.width = kWidth - p.left - 16;
  std::vector<std::pair<std::string, std::string>> entries;
  std::map<Fidelity, bool> seen;
  for (const Point& q : c.points) if (ok(q.x) && ok(q.y)) seen[q.fidelity] = true;
  for (auto& [f, _] : seen) entries.emplace_back(marker(f, 0, 0, 4), std::string(to_string(f)));
  for (std::size_t i = 0; i < c.roofs.size(); ++i) entries.emplace_back(fmt::format("<path d=\"M-7 0H7\" class=\"l{}\"/>", i % 6), c.roofs[i].name);
  Svg s(c.id, c.title, c.summary, kWidth, p.top + p.height + 44 + 18 * legend_rows(p.left, kWidth, entries));
  AxisOf ax = c.x, ay = c.y;
  draw_axes(s, p, ax, ay);
  for (std::size_t i = 0; i < c.roofs.size(); ++i) {
    const Roof& f = c.roofs[i];
    if (!ok(f.value)) continue;
    if (!f.bandwidth) {
      if (f.value >= p.y.lo && f.value <= p.y.hi) s.line(p.left, p.py_of(f.value), p.left + p.width, p.py_of(f.value), fmt::format("l{}", i % 6));
      continue;
    }
    // y = value * x within the frame, up to the highest flat roof.
    const double top = flat > 0 ? std::min(flat, p.y.hi) : p.y.hi;
    const double x0 = std::max(p.x.lo, p.y.lo / f.value), x1 = std::min(p.x.hi, top / f.value);
    if (x0 < x1) s.line(p.px_of(x0), p.py_of(f.value * x0), p.px_of(x1), p.py_of(f.value * x1), fmt::format("l{}", i % 6));
  }
  r.table.columns = {{"point"}, {axis_text(c.x), true}, {axis_text(c.y), true}, {"fidelity"}};
  for (const Point& q : c.points) {
    r.table.rows.push_back({Cell(q.label), number_cell(q.x), number_cell(q.y), Cell(std::string(to_string(q.fidelity)))});
    if (!ok(q.x) || !ok(q.y)) continue;
    s.mark(fmt::format("{}\n{}: {}\n{}: {}", q.label, c.x.label, with_unit(q.x, c.x.unit), c.y.label, with_unit(q.y, c.y.unit)), q.row);
    s.raw(marker(q.fidelity, p.px_of(q.x), p.py_of(q.y), 4.5));
    s.end_mark();
  }
  for (const Roof& f : c.roofs) r.table.rows.push_back({Cell(f.name), Cell(""), number_cell(f.value), Cell(f.bandwidth ? "slope" : "roof")});
  legend(s, p.left, p.top + p.height + 58, kWidth, entries);
  r.svg = s.done();
  if (bad) r.note = fmt::format("{} points without a positive value are left out.", bad);
  return r;
}

// ---- parallel coordinates -------------------------------------------------------------------------
Chart draw(const Parallel& c) {
  Chart r{c.id, c.title, c.summary, {}, {}, {}, true};
  constexpr double kTop = 46, kHigh = 240, kMargin = 60;
  const std::size_t m = c.axes.size();
  Svg s(c.id, c.title, c.summary, kWide, kTop + kHigh + 30);
  const double gap = m > 1 ? (kWide - 2 * kMargin) / static_cast<double>(m - 1) : 0;
  std::vector<Scale> scale(m);
  for (std::size_t k = 0; k < m; ++k) {
    Range q;
    for (const ParallelLine& l : c.lines) if (k < l.at.size()) q.add(l.at[k]);
    if (!c.axes[k].values.empty()) {
      scale[k] = {-0.3, static_cast<double>(c.axes[k].values.size()) - 0.7, false};
    } else {
      scale[k] = scale_for(q.lo, q.hi);
    }
  }
  auto x_of = [&](std::size_t k) { return m > 1 ? kMargin + gap * static_cast<double>(k) : kWide / 2; };
  auto y_of = [&](std::size_t k, double v) { return kTop + kHigh * (1 - scale[k].at(v)); };
  auto path_of = [&](const ParallelLine& l) {
    std::string d;
    bool pen = false;
    for (std::size_t k = 0; k < m; ++k) {
      if (k >= l.at.size() || !usable(l.at[k]) || (scale[k].log && l.at[k] <= 0)) { pen = false; continue; }
      d += fmt::format("{}{:.0f} {:.0f}", pen ? "L" : "M", x_of(k), y_of(k, l.at[k]));
      pen = true;
    }
    return d;
  };
  if (m == 0 || c.lines.empty()) s.text(kWide / 2, kTop + 60, "no data", "middle", "lb");
  // The cloud thinned evenly, so that the picture stays small and legible.
  constexpr std::size_t kCloud = 300, kFront = 150;
  std::size_t behind = 0, ahead = 0;
  for (const ParallelLine& l : c.lines) (l.front ? ahead : behind)++;
  const std::size_t every = behind > kCloud ? (behind + kCloud - 1) / kCloud : 1;
  std::string cloud;
  std::size_t i = 0, drawn = 0;
  for (const ParallelLine& l : c.lines)
    if (!l.front && i++ % every == 0) { cloud += path_of(l); ++drawn; }
  s.path(cloud, "pc");
  std::size_t shown = 0;
  const std::size_t every_front = ahead > kFront ? (ahead + kFront - 1) / kFront : 1;
  i = 0;
  for (const ParallelLine& l : c.lines) {
    if (!l.front || i++ % every_front) continue;
    ++shown;
    s.mark(l.label, l.row);
    s.path(path_of(l), "pf");
    s.end_mark();
  }
  for (std::size_t k = 0; k < m; ++k) {
    const double x = x_of(k);
    s.line(x, kTop, x, kTop + kHigh, "ax");
    const ParallelAxis& a = c.axes[k];
    const double room = m > 1 ? gap - 6 : 200;
    const char* anchor = "middle";
    double at = x, wide = room;
    if (m > 1 && k == 0) { anchor = "start"; at = 2; wide = room / 2 + kMargin; }
    if (m > 1 && k + 1 == m) { anchor = "end"; at = kWide - 2; wide = room / 2 + kMargin; }
    s.text(at, k % 2 && m > 6 ? 30 : 14, fit(a.name, m > 6 ? wide * 1.8 : wide), anchor, "tk strong");
    if (a.goal) s.text(at, kTop + kHigh + 22, a.maximise ? "▲ more" : "▼ less", anchor, "tk");
    if (!a.values.empty()) {
      const std::size_t skip = a.values.size() > 16 ? (a.values.size() + 15) / 16 : 1;
      for (std::size_t v = 0; v < a.values.size(); v += skip) s.text(x + 5, y_of(k, static_cast<double>(v)) + 4, fit(a.values[v], m > 1 ? gap / 2 + 10 : 120), "start", "tk halo");
    } else {
      const std::vector<double> t = ticks(scale[k], 5);
      const std::vector<std::string> names = tick_labels(t);
      for (std::size_t v = 0; v < t.size(); ++v) s.text(x + 5, y_of(k, t[v]) + 4, names[v], "start", "tk halo");
    }
  }
  r.svg = s.done();
  if (drawn < behind || shown < ahead)
    r.note = fmt::format("{} of {} lines of the front and {} of {} others are drawn.", number(static_cast<double>(shown)), number(static_cast<double>(ahead)), number(static_cast<double>(drawn)), number(static_cast<double>(behind)));
  r.table.columns = {{"trial"}};
  for (const ParallelAxis& a : c.axes) r.table.columns.push_back({a.name, a.values.empty()});
  for (const ParallelLine& l : c.lines) {
    if (!l.front || r.table.rows.size() == 500) continue;
    Cell name(l.label);
    if (!l.row.empty()) name.href = "#" + l.row;
    std::vector<Cell> row{name};
    for (std::size_t k = 0; k < m; ++k) {
      const double v = k < l.at.size() ? l.at[k] : std::nan("");
      const auto& words = c.axes[k].values;
      if (words.empty()) row.push_back(number_cell(v));
      else row.push_back(v >= 0 && v < static_cast<double>(words.size()) ? Cell(words[static_cast<std::size_t>(v)]) : Cell(""));
    }
    r.table.rows.push_back(std::move(row));
  }
  return r;
}

}  // namespace tandem::report
