#include "tandem/solve/pareto.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <set>

#include "tandem/base/error.h"
#include "tandem/base/rng.h"

namespace tandem {
namespace {

// The definition, word for word.
bool dominates(const double* a, const double* b, const std::vector<Goal>& goals) {
  bool better = false;
  for (std::size_t k = 0; k < goals.size(); ++k) {
    const double x = goals[k] == Goal::minimise ? a[k] : -a[k], y = goals[k] == Goal::minimise ? b[k] : -b[k];
    if (x > y) return false;
    if (x < y) better = true;
  }
  return better;
}

std::vector<std::size_t> ranks_by_peeling(const std::vector<double>& p, const std::vector<Goal>& goals) {
  const std::size_t m = goals.size(), n = p.size() / m, open = SIZE_MAX;
  std::vector<std::size_t> rank(n, open);
  for (std::size_t r = 0, done = 0; done < n; ++r) {
    std::vector<std::size_t> front;
    for (std::size_t i = 0; i < n; ++i) {
      if (rank[i] != open) continue;
      bool free = true;
      for (std::size_t j = 0; j < n; ++j) free = free && !(rank[j] == open && dominates(&p[j * m], &p[i * m], goals));
      if (free) front.push_back(i);
    }
    for (std::size_t i : front) rank[i] = r;
    done += front.size();
  }
  return rank;
}

TEST(Pareto, AgreesWithBruteForce) {
  Rng rng(1, "pareto");
  const double inf = std::numeric_limits<double>::infinity();
  for (int t = 0; t < 1500; ++t) {
    std::vector<Goal> goals(static_cast<std::size_t>(rng.range(1, 5)));
    for (auto& g : goals) g = rng.chance(0.5) ? Goal::minimise : Goal::maximise;
    const std::size_t m = goals.size();
    std::vector<double> p(m * static_cast<std::size_t>(rng.range(0, 40)));
    const int kinds[] = {2, 4, 1000};
    const std::int64_t values = kinds[rng.range(0, 2)];  // few values: many ties and equal points
    for (double& v : p) v = rng.chance(0.03) ? (rng.chance(0.5) ? inf : -inf) : static_cast<double>(rng.range(0, values)) / 4;
    const auto want = ranks_by_peeling(p, goals);
    ASSERT_EQ(pareto_ranks(p, goals), want);
    std::vector<std::size_t> front;
    for (std::size_t i = 0; i < want.size(); ++i)
      if (want[i] == 0) front.push_back(i);
    ASSERT_EQ(pareto_front(p, goals), front);
    ParetoArchive archive(goals);
    for (std::size_t i = 0; i < want.size(); ++i) archive.insert(i, {&p[i * m], m});
    std::set<std::size_t> ids;
    for (const auto& e : archive.entries()) ids.insert(e.id);
    ASSERT_EQ(ids, std::set<std::size_t>(front.begin(), front.end()));
  }
}

TEST(Pareto, NaNIsRefused) {
  const std::vector<Goal> goals{Goal::minimise, Goal::maximise};
  const std::vector<double> p{1, 2, 3, std::nan("")};
  EXPECT_THROW(pareto_front(p, goals), Error);
  EXPECT_THROW(pareto_ranks(p, goals), Error);
  EXPECT_THROW(pareto_front(std::vector<double>{1, 2, 3}, goals), Error);
  EXPECT_THROW(pareto_front(p, {}), Error);
  ParetoArchive a(goals);
  EXPECT_TRUE(a.insert(0, std::vector<double>{1, 1}));
  EXPECT_THROW(a.insert(1, std::vector<double>{0, std::nan("")}), Error);
  EXPECT_EQ(a.entries().size(), 1u);
}

}  // namespace
}  // namespace tandem
