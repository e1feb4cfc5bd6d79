#include "tandem/numerics/cast.h"

#include <gtest/gtest.h>

#include <cmath>

#include "tandem/base/rng.h"

namespace tandem {
namespace {

constexpr Rounding all_modes[] = {Rounding::half_even, Rounding::half_up, Rounding::half_down, Rounding::half_away,
                                  Rounding::half_zero, Rounding::floor, Rounding::ceil, Rounding::to_zero, Rounding::away};

Rational random_scale(Rng& rng) {
  Rational s(static_cast<long>(rng.range(1, 40)), static_cast<long>(rng.range(1, 40)));
  s.canonicalize();
  return rng.chance(0.3) ? pow2(static_cast<int>(rng.range(-8, 3))) : s;
}

Cast random_cast(Rng& rng, Rounding mode) {
  Cast c;
  c.scale = random_scale(rng);
  const int bits = static_cast<int>(rng.range(1, 8));
  if (bits == 1 && rng.chance(0.5)) {
    c.kmax = 1;
    c.bipolar = true;
    return c;
  }
  const bool is_signed = bits > 1 && rng.chance(0.5), narrow = bits > 1 && rng.chance(0.3);
  c.kmin = is_signed ? -(1 << (bits - 1)) + narrow : 0;
  c.kmax = is_signed ? (1 << (bits - 1)) - 1 : (1 << bits) - 1 - narrow;
  if (rng.chance(0.7)) c.zero = static_cast<long>(rng.chance(0.5) ? rng.range(c.kmin, c.kmax) : rng.range(-300, 300));
  c.rounding = mode;
  c.zero_after = rng.chance(0.5);
  if (rng.chance(0.2)) c.overflow = Overflow::saturate_symmetric;
  return c;
}

TEST(Cast, CodesAndStepsAreTheSameDefinition) {
  Rng rng(1, "cast");
  std::int64_t ties = 0;
  for (int i = 0; i < 1800; ++i) {
    const Cast c = random_cast(rng, all_modes[i % 9]);
    const std::int64_t lo = lowest_code(c);
    std::vector<CastStep> steps;
    for (std::int64_t k = lo + 1; k <= c.kmax; ++k) steps.push_back(step_of(c, k));
    for (std::size_t s = 1; s < steps.size(); ++s) ASSERT_LE(steps[s - 1].t, steps[s].t);
    for (int j = 0; j < 12; ++j) {
      Rational x = 0;
      if (j > 0) {  // halves and integers of the grid (exact ties), near misses, and anything
        const Rational at = c.scale * (Rational(static_cast<long>(rng.range(2 * c.kmin - 3, 2 * c.kmax + 3)), 2) - Rational(c.zero));
        if (j < 7) x = at, ++ties;
        else if (j < 9) x = at + pow2(-40) * static_cast<int>(rng.range(-1, 1));
        else x = at + c.scale * Rational(static_cast<long>(rng.range(-999, 999)), 1000);
        x.canonicalize();
      }
      const std::int64_t code = cast_code(c, x);
      ASSERT_GE(code, lo);
      ASSERT_LE(code, c.kmax);
      for (std::int64_t k = lo + 1; k <= c.kmax; ++k) {
        const CastStep& s = steps[static_cast<std::size_t>(k - lo - 1)];
        ASSERT_EQ(code >= k, s.inclusive ? x >= s.t : x > s.t)
            << to_string(c.rounding) << " S " << c.scale << " Z " << c.zero << " after " << c.zero_after << " x " << x << " k " << k;
      }
      ASSERT_EQ(cast_value(c, x), c.scale * static_cast<long>(c.level(code)));
    }
  }
  EXPECT_GT(ties, 10000);
}

// The rounding modes against their definitions in floating point, exact for halves of small integers.
TEST(Cast, RoundingModesAgreeWithTheLibrary) {
  for (int h = -41; h <= 41; ++h) {
    const double v = h / 2.0, eps = 0x1p-30;
    const Rational q(h, 2);
    const Rational c = q * 1;
    auto r = [&](Rounding m) { Rational x = c; x.canonicalize(); return round_to_integer(x, m).get_d(); };
    EXPECT_EQ(r(Rounding::half_even), std::nearbyint(v));
    EXPECT_EQ(r(Rounding::half_away), std::round(v));
    EXPECT_EQ(r(Rounding::half_up), std::floor(v + 0.5));
    EXPECT_EQ(r(Rounding::half_down), std::ceil(v - 0.5));
    EXPECT_EQ(r(Rounding::half_zero), v == 0 ? 0 : std::round(v - std::copysign(eps, v)));
    EXPECT_EQ(r(Rounding::floor), std::floor(v));
    EXPECT_EQ(r(Rounding::ceil), std::ceil(v));
    EXPECT_EQ(r(Rounding::to_zero), std::trunc(v));
    EXPECT_EQ(r(Rounding::away), std::copysign(std::ceil(std::fabs(v)), v));
  }
}

TEST(Cast, ZeroBeforeAndAfterDifferOnTies) {
  Cast c;
  c.kmax = 255;
  c.zero = 1;
  // 2.5 with Z = 1: QuantizeLinear rounds 2.5 to 2, then 3; QONNX rounds 3.5 to 4.
  c.zero_after = true;
  EXPECT_EQ(cast_code(c, Rational(5, 2)), 3);
  c.zero_after = false;
  EXPECT_EQ(cast_code(c, Rational(5, 2)), 4);
}

TEST(Cast, Overflow) {
  Cast c;
  c.kmin = -8;
  c.kmax = 7;
  c.overflow = Overflow::wrap;
  for (int x = -100; x <= 100; ++x) EXPECT_EQ(cast_code(c, x), static_cast<int>((static_cast<unsigned>(x) + 8u) % 16u) - 8);
  c.overflow = Overflow::saturate_symmetric;
  EXPECT_EQ(cast_code(c, -8), -7);
  EXPECT_EQ(cast_code(c, -100), -7);
  EXPECT_EQ(cast_code(c, 100), 7);
  EXPECT_EQ(lowest_code(c), -7);
  c.overflow = Overflow::saturate_zero;
  EXPECT_EQ(cast_code(c, 8), 0);
  EXPECT_EQ(cast_code(c, -9), 0);
  EXPECT_EQ(cast_code(c, -8), -8);
  c.overflow = Overflow::to_inf;
  EXPECT_EQ(cast_code(c, 3), 3);
  EXPECT_THROW(cast_code(c, 8), Error);
  Cast wide;
  wide.kmin = INT64_MIN;
  wide.kmax = INT64_MAX;
  wide.overflow = Overflow::wrap;
  EXPECT_EQ(cast_code(wide, pow2(63)), INT64_MIN);
}

TEST(Cast, Bipolar) {
  Cast c;
  c.bipolar = true;
  c.kmax = 1;
  c.scale = Rational(1, 2);
  EXPECT_EQ(cast_value(c, 0), Rational(1, 2));
  EXPECT_EQ(cast_value(c, Rational(-1, 1000000)), Rational(-1, 2));
  c.zero = 1;
  EXPECT_THROW(cast_code(c, 0), Error);
}

TEST(Cast, BadScaleAndNames) {
  Cast c;
  c.kmax = 3;
  c.scale = 0;
  EXPECT_THROW(cast_code(c, 1), Error);
  for (Rounding r : all_modes) EXPECT_EQ(parse_rounding(to_string(r)), r);
  EXPECT_EQ(parse_rounding("HALF_UP"), Rounding::half_away);
  EXPECT_EQ(parse_rounding("half_up"), Rounding::half_up);
  EXPECT_EQ(parse_rounding("DOWN"), Rounding::to_zero);
  EXPECT_EQ(parse_rounding("UP"), Rounding::away);
  EXPECT_EQ(parse_rounding("HALF_DOWN"), Rounding::half_zero);
  EXPECT_EQ(parse_rounding("ROUND"), Rounding::half_even);
  EXPECT_THROW(parse_rounding("nearest"), Error);
}

}  // namespace
}  // namespace tandem
