#include "tandem/search/environment.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>

namespace tandem::search {

const Metric* Result::metric(std::string_view name) const {
  for (const auto& [n, m] : metrics)
    if (n == name) return &m;
  return nullptr;
}

std::string Constraint::text() const { return fmt::format("{} {} {}", metric, at_most ? "<=" : ">=", bound); }

Judged judge(const Problem& p, const Result& r) {
  Judged j;
  const auto fail = [&] {
    j.failed = true;
    j.objectives.clear();
    j.overshoot.clear();
    j.violation = std::numeric_limits<double>::infinity();
    return j;
  };
  for (const Objective& o : p.objectives) {
    const Metric* m = r.metric(o.metric);
    if (!m || !std::isfinite(m->value)) return fail();
    j.objectives.push_back(o.maximise ? -m->value : m->value);
  }
  for (const Constraint& c : p.constraints) {
    const Metric* m = r.metric(c.metric);
    if (!m || !std::isfinite(m->value)) return fail();
    const double over = c.at_most ? m->value - c.bound : c.bound - m->value;
    j.overshoot.push_back(over > 0 ? over / std::max(1.0, std::abs(c.bound)) : 0);
  }
  for (const auto& [name, over] : r.violations) {
    if (!std::isfinite(over)) return fail();
    j.overshoot.push_back(std::max(0.0, over));
  }
  for (double o : j.overshoot) j.violation += o;
  return j;
}

Conflict explain(const Problem& p, const std::vector<Result>& trials) {
  std::vector<std::string> limits;
  for (const Constraint& c : p.constraints) limits.push_back(c.text());
  for (const Result& r : trials)
    for (const auto& [name, over] : r.violations)
      if (std::find(limits.begin(), limits.end(), name) == limits.end()) limits.push_back(name);
  if (limits.size() > 20) limits.resize(20);  // two to the twentieth subsets are looked at
  std::vector<std::vector<double>> over(trials.size());
  std::vector<std::uint32_t> broken;          // one bit per limit, of trials with figures
  std::vector<std::size_t> which;
  for (std::size_t t = 0; t < trials.size(); ++t) {
    const Judged j = judge(p, trials[t]);
    if (j.failed) continue;
    std::vector<double> o(limits.size(), 0);
    for (std::size_t k = 0; k < p.constraints.size() && k < o.size(); ++k) o[k] = j.overshoot[k];
    for (const auto& [name, v] : trials[t].violations) {
      const auto at = static_cast<std::size_t>(std::find(limits.begin(), limits.end(), name) - limits.begin());
      if (at < o.size()) o[at] = std::max(0.0, v);
    }
    std::uint32_t b = 0;
    for (std::size_t k = 0; k < o.size(); ++k) b |= o[k] > 0 ? 1u << k : 0u;
    over[t] = std::move(o);
    broken.push_back(b);
    which.push_back(t);
  }
  Conflict c;
  if (which.empty()) {
    c.limits = {"evaluated"};
    c.overshoot = {0};
    return c;
  }
  // Distinct sets of broken limits are few: the test of a subset runs over these.
  std::vector<std::uint32_t> sets = broken;
  std::sort(sets.begin(), sets.end());
  sets.erase(std::unique(sets.begin(), sets.end()), sets.end());
  std::uint32_t best = 0;
  int size = 1 << 30;
  for (std::uint32_t s = 1; s < 1u << limits.size(); ++s) {
    if (std::popcount(s) >= size) continue;
    if (std::all_of(sets.begin(), sets.end(), [&](std::uint32_t b) { return (b & s) != 0; })) {
      best = s;
      size = std::popcount(s);
    }
  }
  double least = std::numeric_limits<double>::infinity();
  for (std::size_t t : which) {
    double sum = 0;
    for (std::size_t k = 0; k < limits.size(); ++k)
      if (best >> k & 1) sum += over[t][k];
    if (sum < least) {
      least = sum;
      c.nearest = t;
    }
  }
  for (std::size_t k = 0; k < limits.size(); ++k)
    if (best >> k & 1) {
      c.limits.push_back(limits[k]);
      c.overshoot.push_back(over[c.nearest][k]);
    }
  return c;
}

}  // namespace tandem::search
