#include "tandem/solve/pareto.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "tandem/base/error.h"

namespace tandem {
namespace {

// All objectives minimised; rows as in the input.
std::vector<double> minimised(std::span<const double> points, std::span<const Goal> goals) {
  if (goals.empty()) throw bad_input("a comparison needs one objective or more");
  if (points.size() % goals.size() != 0) throw bad_input("{} values are no rows of {} objectives", points.size(), goals.size());
  std::vector<double> v(points.begin(), points.end());
  for (std::size_t i = 0; i < v.size(); ++i) {
    if (std::isnan(v[i])) throw bad_input("objective {} of point {} is NaN", i % goals.size(), i / goals.size());
    if (goals[i % goals.size()] == Goal::maximise) v[i] = -v[i];
  }
  return v;
}

bool dominates(const double* a, const double* b, std::size_t m) {
  bool better = false;
  for (std::size_t k = 0; k < m; ++k) {
    if (a[k] > b[k]) return false;
    better |= a[k] < b[k];
  }
  return better;
}

// Lexicographic: whoever dominates a point comes before it.
std::vector<std::size_t> sorted(const std::vector<double>& v, std::size_t m) {
  std::vector<std::size_t> order(v.size() / m);
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) {
    return std::lexicographical_compare(&v[a * m], &v[a * m] + m, &v[b * m], &v[b * m] + m);
  });
  return order;
}

bool equal_rows(const std::vector<double>& v, std::size_t m, std::size_t a, std::size_t b) {
  return std::equal(&v[a * m], &v[a * m] + m, &v[b * m]);
}

}  // namespace

std::vector<std::size_t> pareto_front(std::span<const double> points, std::span<const Goal> goals) {
  const std::vector<double> v = minimised(points, goals);
  const std::size_t m = goals.size();
  const auto order = sorted(v, m);
  std::vector<std::size_t> front;
  for (std::size_t i : order) {
    bool dominated = false;
    if (m <= 2) {
      // The last of the front has the least second objective so far.
      if (!front.empty() && !equal_rows(v, m, front.back(), i)) dominated = v[front.back() * m + m - 1] <= v[i * m + m - 1];
    } else {
      dominated = std::any_of(front.begin(), front.end(), [&](std::size_t f) { return dominates(&v[f * m], &v[i * m], m); });
    }
    if (!dominated) front.push_back(i);
  }
  std::sort(front.begin(), front.end());
  return front;
}

std::vector<std::size_t> pareto_ranks(std::span<const double> points, std::span<const Goal> goals) {
  const std::vector<double> v = minimised(points, goals);
  const std::size_t m = goals.size();
  const auto order = sorted(v, m);
  std::vector<std::size_t> rank(order.size());
  std::vector<std::vector<std::size_t>> fronts;
  const auto dominated_by = [&](std::size_t front, std::size_t i) {
    const auto& f = fronts[front];
    // One or two objectives: the member with the least last objective is the last one.
    if (m <= 2) return dominates(&v[f.back() * m], &v[i * m], m);
    return std::any_of(f.rbegin(), f.rend(), [&](std::size_t j) { return dominates(&v[j * m], &v[i * m], m); });
  };
  for (std::size_t i : order) {
    std::size_t lo = 0;
    if (m <= 2) {
      // Fronts that dominate i are a prefix: binary search.
      std::size_t hi = fronts.size();
      while (lo < hi) {
        const std::size_t mid = (lo + hi) / 2;
        if (dominated_by(mid, i)) lo = mid + 1;
        else hi = mid;
      }
    } else {
      while (lo < fronts.size() && dominated_by(lo, i)) ++lo;
    }
    if (lo == fronts.size()) fronts.emplace_back();
    fronts[lo].push_back(i);
    rank[i] = lo;
  }
  return rank;
}

bool ParetoArchive::insert(std::size_t id, std::span<const double> point) {
  if (point.size() != goals_.size()) throw bad_input("a point of {} values for {} objectives", point.size(), goals_.size());
  const std::vector<double> p = minimised(point, goals_);
  const std::size_t m = goals_.size();
  for (const Entry& e : entries_)
    if (dominates(minimised(e.point, goals_).data(), p.data(), m)) return false;
  std::erase_if(entries_, [&](const Entry& e) { return dominates(p.data(), minimised(e.point, goals_).data(), m); });
  entries_.push_back({id, {point.begin(), point.end()}});
  return true;
}

}  // namespace tandem
