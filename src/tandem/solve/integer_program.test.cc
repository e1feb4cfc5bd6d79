#include "tandem/solve/integer_program.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>

#include "tandem/base/error.h"
#include "tandem/base/rng.h"

namespace tandem {
namespace {

// Every point of the box, one after the other.
std::pair<bool, double> brute(const IntegerProgram& p) {
  std::vector<double> x = p.lo;
  bool found = false;
  double best = 0;
  for (;;) {
    bool ok = true;
    for (const auto& r : p.rows) {
      double s = 0;
      for (const auto& [v, f] : r.terms) s += f * x[static_cast<std::size_t>(v)];
      ok = ok && s >= r.lo && s <= r.hi;
    }
    double c = 0;
    for (std::size_t i = 0; i < x.size(); ++i) c += p.cost[i] * x[i];
    if (ok && (!found || c < best)) best = c, found = true;
    std::size_t i = 0;
    for (; i < x.size(); ++i) {
      if (++x[i] <= p.hi[i]) break;
      x[i] = p.lo[i];
    }
    if (i == x.size()) return {found, best};
  }
}

TEST(SolveIntegerProgram, EqualsBruteForce) {
  if (!integer_solver_available()) {
    ASSERT_EQ(std::getenv("CI"), nullptr) << "CBC is missing (package coinor-libcbc3), and CI is set";
    GTEST_SKIP() << "CBC is not installed";
  }
  int feasible = 0, infeasible = 0;
  for (std::uint64_t seed = 0; seed < 60; ++seed) {
    Rng r(seed, "integer");
    IntegerProgram p;
    const int n = static_cast<int>(r.range(1, 6));
    for (int i = 0; i < n; ++i) p.variable(static_cast<double>(r.range(-9, 9)), static_cast<double>(r.range(-1, 0)), static_cast<double>(r.range(1, 3)));
    for (std::int64_t k = r.range(0, 4); k-- > 0;) {
      std::vector<std::pair<int, double>> t;
      for (int i = 0; i < n; ++i)
        if (r.chance(0.7)) t.emplace_back(i, static_cast<double>(r.range(-5, 5)));
      const double lo = static_cast<double>(r.range(-8, 8));
      p.row(t, r.chance(0.3) ? -IntegerProgram::kInfinity : lo, r.chance(0.3) ? IntegerProgram::kInfinity : lo + static_cast<double>(r.range(0, 6)));
    }
    const auto [found, best] = brute(p);
    const IntegerSolution s = solve(p);
    ++(found ? feasible : infeasible);
    ASSERT_EQ(s.status, found ? IntegerSolution::optimal : IntegerSolution::infeasible) << seed;
    if (found) EXPECT_EQ(s.value, best) << seed;
  }
  EXPECT_GT(feasible, 20);
  EXPECT_GT(infeasible, 5);
}

TEST(SolveIntegerProgram, ContinuousBesideWhole) {
  if (!integer_solver_available()) {
    ASSERT_EQ(std::getenv("CI"), nullptr) << "CBC is missing (package coinor-libcbc3), and CI is set";
    GTEST_SKIP() << "CBC is not installed";
  }
  IntegerProgram p;  // most 3 a + 2 b with a whole, b not: a + b <= 2.5, a <= 1.5
  const int a = p.variable(-3, 0, 1.5), b = p.variable(-2, 0, 10, false);
  p.row({{a, 1}, {b, 1}}, -IntegerProgram::kInfinity, 2.5);
  const IntegerSolution s = solve(p);
  EXPECT_EQ(s.status, IntegerSolution::optimal);
  EXPECT_EQ(s.x[0], 1);
  EXPECT_NEAR(s.x[1], 1.5, 1e-9);
}

TEST(SolveIntegerProgram, AnUnknownVariableIsRefused) {
  if (!integer_solver_available()) {
    ASSERT_EQ(std::getenv("CI"), nullptr) << "CBC is missing (package coinor-libcbc3), and CI is set";
    GTEST_SKIP() << "CBC is not installed";
  }
  IntegerProgram p;
  p.variable(1);
  p.row({{1, 1.0}}, 0, 1);
  try {
    solve(p);
    FAIL();
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), Exit::bad_input);
  }
}

}  // namespace
}  // namespace tandem
