// Levels by a guess put right against counting.
#include "tandem/exec/levels.h"

#include <gtest/gtest.h>

#include "tandem/base/rng.h"

namespace tandem::exec {
namespace {

TEST(Levels, EqualCounting) {
  int guessed = 0, searched = 0;
  for (std::uint64_t seed = 0; seed < 1500; ++seed) {
    Rng r(seed, "levels");
    const std::int64_t size = r.chance(0.1) ? 0 : r.range(1, r.chance(0.3) ? 3 : 300);
    // Rounded from a line, as a quantiser's are; or drawn; with equal ones, or as far apart as there is room.
    std::vector<std::int64_t> t, levels;
    const double step = std::exp(r.uniform() * (r.chance(0.2) ? 15 : 8)) * 0.3, start = (r.uniform() - 0.5) * 1e6;
    const bool line = r.chance(0.7);
    for (std::int64_t k = 0; k < size; ++k) t.push_back(line ? static_cast<std::int64_t>(std::ceil(start + step * static_cast<double>(k))) : r.range(-2147483646ll, 2147483646));
    std::sort(t.begin(), t.end());
    for (std::int64_t k = 0; k <= size; ++k) levels.push_back(k * 3 - 200);
    if (!LevelTable::fits(t, levels)) continue;
    const bool flip = r.chance(0.3);
    const LevelTable table(t, levels, flip);
    (table.guessed() ? guessed : searched)++;
    std::vector<std::int32_t> x{0, 1, -1, INT32_MAX, -INT32_MAX};
    for (std::int64_t v : t)
      for (std::int64_t d : {-1, 0, 1}) x.push_back(static_cast<std::int32_t>(flip ? -(v + d) : v + d));
    for (int i = 0; i < 300; ++i) x.push_back(static_cast<std::int32_t>(r.chance(0.5) || t.empty() ? r.range(-2147483647ll, 2147483647) : r.range(t.front() - 5, t.back() + 5)));
    std::vector<std::int32_t> y(x.size());
    table.run(x.data(), y.data(), static_cast<std::int64_t>(x.size()));
    for (std::size_t i = 0; i < x.size(); ++i) {
      const std::int64_t n = flip ? -std::int64_t{x[i]} : x[i];
      const auto k = std::count_if(t.begin(), t.end(), [&](std::int64_t v) { return v <= n; });
      ASSERT_EQ(y[i], levels[static_cast<std::size_t>(k)]) << "seed " << seed << " n " << n;
    }
  }
  EXPECT_GT(guessed, 700);
  EXPECT_GT(searched, 100);
}

TEST(Levels, FitOnlyBetweenTheSentinels) {
  const auto fits = [](std::vector<std::int64_t> t, std::vector<std::int64_t> levels) { return LevelTable::fits(t, levels); };
  EXPECT_TRUE(fits({INT32_MIN + 1ll, INT32_MAX - 1ll}, {INT32_MIN + 1ll, 0, INT32_MAX - 1ll}));
  for (const std::int64_t v : {std::int64_t{INT32_MIN}, std::int64_t{INT32_MAX}, std::int64_t{1} << 40}) {
    EXPECT_FALSE(fits({v}, {0, 1})) << v;
    EXPECT_FALSE(fits({0}, {v, 1})) << v;
  }
  EXPECT_TRUE(fits(std::vector<std::int64_t>((1 << 20) - 1), {0, 1}));
  EXPECT_FALSE(fits(std::vector<std::int64_t>(1 << 20), {0, 1}));
}

}  // namespace
}  // namespace tandem::exec
