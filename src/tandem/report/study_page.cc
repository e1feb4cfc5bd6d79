#include "tandem/report/study_page.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <map>
#include <unordered_map>

#include "tandem/report/chart.h"
#include "tandem/report/escape.h"
#include "tandem/report/page.h"

namespace tandem::report {
namespace {

const Metric* find(const Trial& t, std::string_view name) {
  for (const auto& [n, m] : t.metrics)
    if (n == name) return std::isfinite(m.value) ? &m : nullptr;
  return nullptr;
}
const std::string* parameter(const Trial& t, std::string_view name) {
  for (const auto& [n, v] : t.parameters)
    if (n == name) return &v;
  return nullptr;
}
std::optional<double> as_number(std::string_view s) {
  double v = 0;
  const auto [end, ec] = std::from_chars(s.data(), s.data() + s.size(), v);
  if (ec != std::errc() || end != s.data() + s.size() || !std::isfinite(v)) return std::nullopt;
  return v;
}
std::vector<std::string> names_of(const Study& s, bool metrics) {
  std::vector<std::string> r;
  std::unordered_map<std::string, bool> seen;
  auto take = [&](const std::string& n) { if (seen.emplace(n, true).second) r.push_back(n); };
  if (metrics)
    for (const Objective& o : s.objectives) take(o.metric);
  for (const Trial& t : s.trials) {
    if (metrics) for (const auto& m : t.metrics) take(m.first);
    else for (const auto& p : t.parameters) take(p.first);
  }
  return r;
}
std::string unit_of(const Study& s, std::string_view metric) {
  for (const Objective& o : s.objectives)
    if (o.metric == metric && !o.unit.empty()) return o.unit;
  for (const Trial& t : s.trials)
    if (const Metric* m = find(t, metric)) return m->unit;
  return "";
}
std::string row_of(const Trial& t) { return fmt::format("t{}", t.id); }

std::string told(const Trial& t) {
  std::string r = fmt::format("trial {}", t.id);
  for (const auto& [n, v] : t.parameters) {
    r += (r.size() > 400 ? std::string() : fmt::format("{}{} = {}", &n == &t.parameters[0].first ? ": " : ", ", n, v));
  }
  return r;
}

Chart pair_chart(const Study& s, std::size_t a, std::size_t b) {
  const Objective &x = s.objectives[a], &y = s.objectives[b];
  Scatter c;
  c.id = fmt::format("front-{}-{}", a, b);
  c.title = fmt::format("{} against {}", y.metric, x.metric);
  c.summary = s.objectives.size() > 2 ? "Marked trials are not dominated in all objectives together; the line joins the best of this pair." : "Marked trials are dominated by no other; the line joins them.";
  c.x = {x.metric, x.unit, x.maximise, true, {}};
  c.y = {y.metric, y.unit, y.maximise, true, {}};
  for (const Constraint& k : s.constraints)
    for (bool vertical : {true, false})
      if (k.metric == (vertical ? x.metric : y.metric)) c.guides.push_back({vertical, k.bound, fmt::format("{} {} {}", k.metric, k.at_most ? "<=" : ">=", number(k.bound))});
  for (const Trial& t : s.trials) {
    const Metric *mx = find(t, x.metric), *my = find(t, y.metric);
    if (!mx || !my) continue;
    Point p;
    p.x = mx->value;
    p.y = my->value;
    p.front = t.front;
    p.feasible = t.feasible;
    if (t.front) {
      p.x_low = mx->low; p.x_high = mx->high; p.y_low = my->low; p.y_high = my->high;
      // The weaker of the two says how far the point can be trusted.
      p.fidelity = std::min(mx->fidelity, my->fidelity);
      p.label = told(t);
      p.row = row_of(t);
    }
    c.points.push_back(std::move(p));
  }
  return draw(c);
}

Chart trial_chart(const Study& s) {  // one objective: over the trials
  const Objective& y = s.objectives[0];
  Scatter c;
  c.id = "front-0";
  c.title = y.metric + " of every trial";
  c.summary = "Every trial that was evaluated, in the order of asking; the best are marked.";
  c.x = {"trial", "", false, false, false};
  c.y = {y.metric, y.unit, y.maximise, true, {}};
  c.front_line = false;
  for (const Trial& t : s.trials)
    if (const Metric* m = find(t, y.metric)) {
      Point p;
      p.x = static_cast<double>(t.id);
      p.y = m->value;
      p.front = t.front;
      p.feasible = t.feasible;
      p.fidelity = m->fidelity;
      p.y_low = m->low;
      p.y_high = m->high;
      p.label = told(t);
      p.row = row_of(t);
      c.points.push_back(std::move(p));
    }
  return draw(c);
}

Chart parallel(const Study& s, const std::vector<std::string>& parameters) {
  Parallel c;
  c.id = "parallel";
  c.title = "Parallel coordinates";
  c.summary = "One line for each trial, from its parameters to its objectives; the front in colour.";
  struct Source { std::string name; bool metric; std::unordered_map<std::string, double> index; bool numeric = false; };
  std::vector<Source> sources;
  constexpr std::size_t kAxes = 12;
  std::size_t left_out = 0;
  for (const std::string& n : parameters) {
    if (sources.size() + s.objectives.size() >= kAxes) { ++left_out; continue; }
    Source q{n, false, {}, true};
    ParallelAxis axis{n, {}, false, false};
    std::vector<std::string> values;
    for (const Trial& t : s.trials)
      if (const std::string* v = parameter(t, n)) {
        q.numeric = q.numeric && as_number(*v);
        if (q.index.emplace(*v, 0).second) values.push_back(*v);
      }
    // Few values, or words: each one its place on the axis, in the order of numbers where they are numbers.
    if (!q.numeric || values.size() <= 8) {
      std::sort(values.begin(), values.end(), [&](const std::string& a, const std::string& b) { return q.numeric ? *as_number(a) < *as_number(b) : a < b; });
      for (std::size_t i = 0; i < values.size(); ++i) q.index[values[i]] = static_cast<double>(i);
      axis.values = values;
      q.numeric = false;
    }
    sources.push_back(std::move(q));
    c.axes.push_back(std::move(axis));
  }
  for (const Objective& o : s.objectives) {
    sources.push_back({o.metric, true, {}, true});
    c.axes.push_back({o.metric, {}, o.maximise, true});
  }
  for (const Trial& t : s.trials) {
    ParallelLine l;
    for (const Source& q : sources) {
      double v = std::nan("");
      if (q.metric) { if (const Metric* m = find(t, q.name)) v = m->value; }
      else if (const std::string* p = parameter(t, q.name)) v = q.numeric ? *as_number(*p) : q.index.at(*p);
      l.at.push_back(v);
    }
    l.front = t.front;
    if (t.front) {
      l.label = told(t);
      l.row = row_of(t);
    }
    c.lines.push_back(std::move(l));
  }
  Chart r = draw(c);
  if (left_out) r.note += (r.note.empty() ? "" : " ") + fmt::format("{} more parameters are in the tables only.", left_out);
  return r;
}

std::string trials_json(const Study& s, const std::vector<std::string>& parameters, const std::vector<std::string>& metrics, bool linked, std::string_view up) {
  std::string j = "{\"id\":[";
  auto list = [&](auto&& each) {
    for (std::size_t i = 0; i < s.trials.size(); ++i) {
      if (i) j += ',';
      each(s.trials[i]);
    }
  };
  list([&](const Trial& t) { j += std::to_string(t.id); });
  j += "],\"params\":[";
  // Values as indices into the distinct ones.
  auto indexed = [&](const char* name, auto&& text_of) {
    std::unordered_map<std::string, std::size_t> index;
    std::vector<std::string> values;
    std::string at;
    for (std::size_t i = 0; i < s.trials.size(); ++i) {
      if (i) at += ',';
      const std::string* v = text_of(s.trials[i]);
      if (!v) { at += "-1"; continue; }
      auto [it, fresh] = index.emplace(*v, values.size());
      if (fresh) values.push_back(*v);
      at += std::to_string(it->second);
    }
    j += std::string("\"") + name + "\":[";
    for (std::size_t i = 0; i < values.size(); ++i) j += (i ? "," : "") + json(values[i]);
    j += "],";
    return at;
  };
  for (std::size_t k = 0; k < parameters.size(); ++k) {
    j += (k ? ",{\"n\":" : "{\"n\":") + json(parameters[k]) + ",";
    const std::string at = indexed("v", [&](const Trial& t) { return parameter(t, parameters[k]); });
    j += "\"i\":[" + at + "]}";
  }
  j += "],\"fidelities\":[";
  for (int f = 0; f <= static_cast<int>(Fidelity::published); ++f) j += (f ? "," : "") + json(to_string(static_cast<Fidelity>(f)));
  j += "],\"metrics\":[";
  for (std::size_t k = 0; k < metrics.size(); ++k) {
    j += (k ? ",{\"n\":" : "{\"n\":") + json(metrics[k]) + ",\"u\":" + json(unit_of(s, metrics[k])) + ",\"v\":[";
    std::string fidelity;
    list([&](const Trial& t) {
      const Metric* m = find(t, metrics[k]);
      j += m ? json(m->value) : "null";
      fidelity += m ? static_cast<char>('0' + static_cast<int>(m->fidelity)) : '0';
    });
    j += "],\"f\":\"" + fidelity + "\"}";
  }
  j += "],";
  const std::string reasons = indexed("reasons", [&](const Trial& t) { return t.reason.empty() ? nullptr : &t.reason; });
  j += "\"reason\":[" + reasons + "],\"seconds\":[";
  list([&](const Trial& t) { j += json(t.seconds, 3); });
  j += "],\"state\":\"";
  for (const Trial& t : s.trials) j += t.front ? '2' : t.feasible ? '1' : '0';
  j += "\",\"design\":{";
  bool first = true;
  for (std::size_t i = 0; i < s.trials.size(); ++i)
    if (auto l = linked && !s.trials[i].design.empty() ? link(s.trials[i].design + "/report.html", up) : std::nullopt) {
      j += (first ? "\"" : ",\"") + std::to_string(i) + "\":" + json(*l);
      first = false;
    }
  return j + "}}";
}

}  // namespace

std::vector<std::pair<double, double>> convergence(const Study& s) {
  const std::size_t k = s.objectives.size();
  std::vector<std::pair<double, double>> r;
  std::vector<std::pair<double, std::vector<double>>> points;  // number of the trial; every objective to be minimised
  for (std::size_t i = 0; i < s.trials.size(); ++i) {
    const Trial& t = s.trials[i];
    std::vector<double> v;
    if (t.feasible)
      for (const Objective& o : s.objectives)
        if (const Metric* m = find(t, o.metric)) v.push_back(o.maximise ? -m->value : m->value);
    if (k > 0 && v.size() == k) points.emplace_back(static_cast<double>(i + 1), std::move(v));
  }
  if (points.empty()) return r;
  const double end = static_cast<double>(s.trials.size());
  if (k == 1) {
    double best = 0;
    for (const auto& [at, v] : points)
      if (r.empty() || v[0] < best) {
        best = v[0];
        r.emplace_back(at, s.objectives[0].maximise ? -best : best);
      }
    if (r.back().first < end) r.emplace_back(end, r.back().second);
    return r;
  }
  std::vector<double> lo = points[0].second, hi = lo;
  for (const auto& [at, v] : points)
    for (std::size_t d = 0; d < k; ++d) { lo[d] = std::min(lo[d], v[d]); hi[d] = std::max(hi[d], v[d]); }
  for (auto& [at, v] : points)
    for (std::size_t d = 0; d < k; ++d) v[d] = hi[d] > lo[d] ? (v[d] / 2 - lo[d] / 2) / (hi[d] / 2 - lo[d] / 2) : 0;
  if (k == 2) {
    std::map<double, double> front;  // x ascending, y falling
    double area = 0;
    for (const auto& [at, v] : points) {
      const double x = v[0], y = v[1];
      auto next = front.upper_bound(x);
      if (next != front.begin() && std::prev(next)->second <= y) { if (r.empty()) r.emplace_back(at, 0); continue; }
      // What (x, y) adds, step by step to the right until a point below y.
      double from = x, height = next == front.begin() ? 1 : std::prev(next)->second;
      auto it = front.lower_bound(x);
      if (it != front.end() && it->first == x) height = it->second;
      while (it != front.end() && it->second >= y) {
        area += (it->first - from) * (height - y);
        from = it->first;
        height = it->second;
        it = front.erase(it);
      }
      area += ((it == front.end() ? 1 : it->first) - from) * (height - y);
      front[x] = y;
      r.emplace_back(at, area);
    }
  } else {
    constexpr std::size_t kSamples = 4096;
    constexpr unsigned kPrimes[] = {2, 3, 5, 7, 11, 13, 17, 19, 23, 29};
    const std::size_t dims = std::min<std::size_t>(k, 10);
    std::vector<std::vector<double>> open;  // samples that nothing dominates yet
    for (std::size_t i = 1; i <= kSamples; ++i) {
      std::vector<double> q(dims);
      for (std::size_t d = 0; d < dims; ++d) {
        double f = 1;
        for (std::size_t n = i; n > 0; n /= kPrimes[d]) { f /= kPrimes[d]; q[d] += f * static_cast<double>(n % kPrimes[d]); }
      }
      open.push_back(std::move(q));
    }
    std::size_t before = open.size() + 1;
    for (const auto& [at, v] : points) {
      std::erase_if(open, [&](const std::vector<double>& q) {
        for (std::size_t d = 0; d < dims; ++d) if (v[d] > q[d]) return false;
        return true;
      });
      if (open.size() == before) continue;
      before = open.size();
      r.emplace_back(at, 1 - static_cast<double>(open.size()) / kSamples);
    }
  }
  if (r.back().first < end) r.emplace_back(end, r.back().second);
  return r;
}

std::vector<std::pair<std::string, double>> importance(const Study& s, std::string_view metric) {
  std::vector<std::pair<std::string, double>> r;
  for (const std::string& name : names_of(s, false)) {
    std::vector<std::pair<const std::string*, double>> rows;
    for (const Trial& t : s.trials) {
      const Metric* m = t.feasible ? find(t, metric) : nullptr;
      const std::string* v = parameter(t, name);
      if (m && v && std::abs(m->value) < 1e150) rows.emplace_back(v, m->value);  // its square stays finite
    }
    std::map<std::string, std::size_t> classes;
    bool numbers = true;
    for (const auto& [v, y] : rows) { classes.emplace(*v, classes.size()); numbers = numbers && as_number(*v); }
    std::vector<std::size_t> of(rows.size());
    if (classes.size() > 20 && numbers) {
      std::vector<double> sorted;
      for (const auto& q : rows) sorted.push_back(*as_number(*q.first));
      std::sort(sorted.begin(), sorted.end());
      for (std::size_t i = 0; i < rows.size(); ++i) {
        const auto rank = std::lower_bound(sorted.begin(), sorted.end(), *as_number(*rows[i].first)) - sorted.begin();
        of[i] = static_cast<std::size_t>(rank) * 10 / rows.size();
      }
    } else {
      for (std::size_t i = 0; i < rows.size(); ++i) of[i] = classes.at(*rows[i].first);
    }
    double mean = 0, total = 0, between = 0;
    for (const auto& q : rows) mean += q.second / static_cast<double>(rows.size());
    std::map<std::size_t, std::pair<double, double>> group;  // n, sum of deviations
    for (std::size_t i = 0; i < rows.size(); ++i) {
      const double e = rows[i].second - mean;
      total += e * e;
      auto& g = group[of[i]];
      g.first += 1;
      g.second += e;
    }
    for (const auto& [_, g] : group) between += g.second * g.second / g.first;
    const double n = static_cast<double>(rows.size()), m = static_cast<double>(group.size());
    double omega = 0;
    if (m > 1 && n > m && total > 0) {
      const double within = std::max(total - between, 0.0) / (n - m);
      omega = std::max(0.0, (between - (m - 1) * within) / (total + within));
    }
    r.emplace_back(name, omega);
  }
  return r;
}

std::string study_page(const Study& s, bool linked, std::string_view up, std::string_view more_script) {
  Page p("study", s.name, fmt::format("{} trials of {} by {}, seed {}", number(static_cast<double>(s.trials.size())), number(static_cast<double>(s.budget)), s.searcher.empty() ? "an unnamed searcher" : s.searcher, s.seed));
  const std::vector<std::string> parameters = names_of(s, false), metrics = names_of(s, true);
  std::size_t feasible = 0, front = 0, built = 0;
  double seconds = 0;
  for (const Trial& t : s.trials) {
    feasible += t.feasible;
    front += t.front;
    built += !t.design.empty();
    if (std::isfinite(t.seconds)) seconds += t.seconds;
  }
  auto n = [](std::size_t v) { return number(static_cast<double>(v)); };
  p.badge(n(front) + " on the front", "good");
  if (s.trials.size() < static_cast<std::size_t>(std::max<std::int64_t>(s.budget, 0))) p.badge("not finished", "muted");
  std::vector<std::array<std::string, 3>> top = {{"Trials", n(s.trials.size()), "of " + number(static_cast<double>(s.budget))}, {"Feasible", n(feasible), s.trials.empty() ? "" : fmt::format("{:.0f} %", 100.0 * static_cast<double>(feasible) / static_cast<double>(s.trials.size()))},
                                                 {"Front", n(front), "not dominated"}, {"Designs built", n(built), ""}, {"Evaluation", seconds >= 100 ? fmt::format("{:.0f} s", seconds) : fmt::format("{:.3g} s", seconds), "summed over the trials"}};
  for (const Objective& o : s.objectives) {
    const Trial* best = nullptr;
    for (const Trial& t : s.trials) {
      const Metric* m = t.feasible ? find(t, o.metric) : nullptr;
      if (m && (!best || (o.maximise ? m->value > find(*best, o.metric)->value : m->value < find(*best, o.metric)->value))) best = &t;
    }
    if (!best) continue;
    const Metric& m = *find(*best, o.metric);
    const std::string unit = o.unit.empty() ? m.unit : o.unit;
    top.push_back({"Best " + o.metric, number(m.value) + (unit.empty() || unit == o.metric ? "" : " " + unit), fmt::format("trial {}, {}", best->id, to_string(m.fidelity))});
  }
  p.figures(top);

  p.section("front", "Front");
  std::vector<std::pair<std::string, Chart>> pairs;
  std::vector<std::string> attributes;
  constexpr std::size_t kPairs = 6;
  for (std::size_t a = 0; a < s.objectives.size(); ++a)
    for (std::size_t b = a + 1; b < s.objectives.size(); ++b) {
      if (pairs.size() == kPairs) continue;
      pairs.emplace_back(s.objectives[a].metric + " / " + s.objectives[b].metric, pair_chart(s, a, b));
      auto index = [&](std::size_t o) { return std::find(metrics.begin(), metrics.end(), s.objectives[o].metric) - metrics.begin(); };
      attributes.push_back(fmt::format(" data-mx=\"{}\" data-my=\"{}\"", index(a), index(b)));
    }
  if (s.objectives.size() == 1) pairs.emplace_back(s.objectives[0].metric, trial_chart(s));
  if (pairs.empty()) p.paragraph("The study has no objective.", "muted");
  else p.choose("axes", "Objectives", pairs, attributes);
  if (s.objectives.size() * (s.objectives.size() - 1) / 2 > kPairs) p.paragraph(fmt::format("The first {} pairs of objectives are drawn.", kPairs), "muted");

  Grid g;
  g.columns = {{"trial", true}};
  for (const std::string& v : parameters) g.columns.push_back({v});
  for (const std::string& m : metrics) {
    const std::string unit = unit_of(s, m);
    g.columns.push_back({unit.empty() || unit == m ? m : m + " (" + unit + ")", true});
  }
  g.columns.push_back({"fidelity"});
  g.columns.push_back({"design"});
  constexpr std::size_t kRows = 500;
  for (const Trial& t : s.trials) {
    if (!t.front || g.rows.size() == kRows) continue;
    std::vector<Cell> row{Cell(static_cast<double>(t.id), std::to_string(t.id))};
    for (const std::string& v : parameters) {
      const std::string* x = parameter(t, v);
      Cell c(x ? *x : "");
      if (x) c.value = as_number(*x);
      row.push_back(std::move(c));
    }
    std::string fidelities;
    for (const std::string& m : metrics) {
      const Metric* x = find(t, m);
      Cell c = x ? number_cell(x->value) : Cell("");
      if (x && x->low && x->high) c.text += fmt::format(" ({} .. {})", number(*x->low), number(*x->high));
      row.push_back(std::move(c));
      if (x && fidelities.find(to_string(x->fidelity)) == fidelities.npos) fidelities += (fidelities.empty() ? "" : ", ") + std::string(to_string(x->fidelity));
    }
    row.push_back(Cell(fidelities));
    Cell design(t.design);
    if (linked && !t.design.empty())
      if (auto l = link(t.design + "/report.html", up)) design.href = *l;
    row.push_back(std::move(design));
    g.rows.push_back(std::move(row));
    g.ids.push_back(row_of(t));
  }
  p.table("front-table", front > kRows ? fmt::format("The first {} of {} trials of the front; all are in the table below.", kRows, front) : "The trials of the front.", g);

  p.section("search", "Search");
  Lines c;
  c.id = "convergence";
  c.steps = true;
  c.x = {"trials", "", false, false, false};
  if (s.objectives.size() == 1) {
    c.title = "Convergence";
    c.summary = "The best value after so many trials.";
    c.y = {s.objectives[0].metric, s.objectives[0].unit, s.objectives[0].maximise, true, {}};
  } else {
    c.title = "Convergence";
    c.summary = "Share of the space between the worst and the best value of every objective that the front dominates (hypervolume).";
    c.y = {"hypervolume", "", true, true, false};
  }
  c.series.push_back({"", convergence(s)});
  Chart conv = draw(c);
  if (s.objectives.size() > 2) conv.note += (conv.note.empty() ? "" : " ") + std::string("Estimated with 4,096 points of a Halton sequence.");
  p.chart(conv);
  std::vector<std::pair<std::string, Chart>> weights;
  for (std::size_t o = 0; o < s.objectives.size(); ++o) {
    Bars b;
    b.id = fmt::format("importance-{}", o);
    b.title = "What decides " + s.objectives[o].metric;
    b.summary = "Variance over the feasible trials that each parameter explains by itself, corrected for chance. The search did not draw evenly: a hint, no proof.";
    b.unit = "% of the variance";
    b.max = 100;
    auto w = importance(s, s.objectives[o].metric);
    std::stable_sort(w.begin(), w.end(), [](const auto& x, const auto& y) { return x.second > y.second; });
    if (w.size() > 20) w.resize(20);
    for (const auto& [name, share] : w) {
      Bar x;
      x.label = name;
      x.value = 100 * share;
      x.text = fmt::format("{:.0f} %", x.value);
      b.bars.push_back(std::move(x));
    }
    if (s.objectives.size() == 1) p.chart(draw(b));
    else weights.emplace_back(s.objectives[o].metric, draw(b));
  }
  if (!weights.empty()) p.choose("importance", "Importance for", weights);
  if (!parameters.empty()) p.chart(parallel(s, parameters));

  p.section("all", "All trials");
  p.place("trials", "The table of all trials needs scripting; the front is in the table above, and the study's folder holds everything.");
  p.data("trials-data", trials_json(s, parameters, metrics, linked, up));

  p.section("constraints", "Objectives and constraints");
  std::vector<std::pair<std::string, std::string>> wishes;
  for (const Objective& o : s.objectives) wishes.emplace_back(o.metric, std::string(o.maximise ? "maximise" : "minimise") + (o.unit.empty() ? "" : ", in " + o.unit));
  for (const Constraint& k : s.constraints) wishes.emplace_back(k.metric, std::string(k.at_most ? "at most " : "at least ") + number(k.bound));
  p.pairs(wishes);

  p.section("provenance", "Provenance");
  p.pairs(s.provenance);
  return p.done(more_script);
}

}  // namespace tandem::report
