#include "tandem/numerics/rational.h"

#include <gtest/gtest.h>
#include <mpfr.h>

#include <bit>
#include <cmath>
#include <limits>

#include "tandem/base/rng.h"

namespace tandem {
namespace {

TEST(Rational, NearestFloatAndDoubleAgreeWithMpfr) {
  // MPFR as the oracle: exponent range of the format, one rounding with its ternary value, then subnormalize.
  const auto oracle = [](const Rational& q, int precision, int emin, int emax) {
    const mpfr_exp_t old_min = mpfr_get_emin(), old_max = mpfr_get_emax();
    mpfr_t r;
    mpfr_init2(r, precision);
    mpfr_set_emin(emin);
    mpfr_set_emax(emax);
    int t = mpfr_set_q(r, q.get_mpq_t(), MPFR_RNDN);
    t = mpfr_check_range(r, t, MPFR_RNDN);
    mpfr_subnormalize(r, t, MPFR_RNDN);
    const double v = mpfr_get_d(r, MPFR_RNDN);
    mpfr_clear(r);
    mpfr_set_emin(old_min);
    mpfr_set_emax(old_max);
    return v;
  };
  Rng rng(1, "nearest");
  for (int i = 0; i < 40000; ++i) {
    Rational q;
    const auto kind = rng.range(0, 3);
    if (kind == 0) {  // any quotient
      q = Rational(Integer(static_cast<long>(rng.range(-1000000007, 1000000007))), Integer(static_cast<long>(rng.range(1, 1000003))));
      q.canonicalize();
      q *= pow2(static_cast<int>(rng.range(-1090, 1040)));
    } else {  // next to a half-way point of floats (or doubles), subnormal and overflow included
      double a, b;
      if (kind < 3) {
        const auto u = static_cast<std::uint32_t>(rng.range(0, rng.chance(0.3) ? 0x01000000 : 0x7f7ffffe));
        a = std::bit_cast<float>(u);
        b = std::bit_cast<float>(u + 1);
        if (std::isinf(b)) b = 0x1p128;
      } else {
        const auto u = static_cast<std::uint64_t>(rng.range(0, rng.chance(0.3) ? 0x20000000000000 : 0x7feffffffffffffe));
        a = std::bit_cast<double>(u);
        b = std::bit_cast<double>(u + 1);
        if (std::isinf(b)) b = a;
      }
      q = (exact(a) + exact(b)) / 2 + static_cast<int>(rng.range(-1, 1)) * pow2(-static_cast<int>(rng.range(1080, 1200)));
      if (rng.chance(0.5)) q = -q;
    }
    ASSERT_EQ(nearest_float(q), static_cast<float>(oracle(q, 24, -148, 128))) << q;
    ASSERT_EQ(nearest_double(q), oracle(q, 53, -1073, 1024)) << q;
  }
  EXPECT_EQ(nearest_float(exact(std::numeric_limits<float>::max()) + pow2(103)), std::numeric_limits<float>::infinity());
  EXPECT_EQ(nearest_float(exact(std::numeric_limits<float>::max()) + pow2(103) - 1), std::numeric_limits<float>::max());
  EXPECT_EQ(nearest_float(pow2(-150)), 0.0f);
  EXPECT_EQ(nearest_float(pow2(-150) + pow2(-300)), std::numeric_limits<float>::denorm_min());
}

TEST(Rational, ExactIsTheInverseOfNearest) {
  Rng rng(2, "exact");
  for (int i = 0; i < 10000; ++i) {
    const double v = std::bit_cast<double>(rng.u64());
    if (!std::isfinite(v)) {
      EXPECT_THROW(exact(v), Error);
      continue;
    }
    ASSERT_EQ(nearest_double(exact(v)), v);
  }
}

TEST(Rational, Int128RoundTrip) {
  Rng rng(3, "int128");
  for (int i = 0; i < 10000; ++i) {
    Int128 v = static_cast<Int128>((static_cast<unsigned __int128>(rng.u64()) << 64) | rng.u64());
    v >>= rng.range(0, 126);
    ASSERT_TRUE(to_int128(from_int128(v)) == v);
    ASSERT_EQ(to_string(v), from_int128(v).get_str());
  }
  const Integer top = Integer(1) << 127;
  EXPECT_TRUE(fits_int128(-top));
  EXPECT_FALSE(fits_int128(top));
  EXPECT_FALSE(fits_int128(-top - 1));
  EXPECT_EQ(to_string(to_int128(-top)), "-170141183460469231731687303715884105728");
  EXPECT_THROW(to_int128(top), Error);
}

TEST(Rational, FloorCeilAndGrid) {
  EXPECT_EQ(floor_of(Rational(-7, 2)), -4);
  EXPECT_EQ(ceil_of(Rational(-7, 2)), -3);
  EXPECT_EQ(floor_of(Rational(6)), 6);
  EXPECT_EQ(pow2(-3), Rational(1, 8));
  EXPECT_EQ(common_grid({Rational(3, 4), Rational(-5, 6), 0}), Rational(1, 12));
  EXPECT_EQ(common_grid({0, 0}), 1);
  Rng rng(4, "grid");
  for (int i = 0; i < 2000; ++i) {
    std::vector<Rational> q;
    for (int j = 0; j < 4; ++j) {
      q.emplace_back(static_cast<long>(rng.range(-60, 60)), static_cast<long>(rng.range(1, 60)));
      q.back().canonicalize();
    }
    const Rational g = common_grid(q);
    Integer d = 0;  // largest: what remains has no common factor
    for (const auto& v : q) {
      ASSERT_TRUE(is_integer(v / g));
      const Integer n = Rational(v / g).get_num();
      d = gcd(d, n);
    }
    ASSERT_TRUE(d == 1 || (d == 0 && g == 1));
  }
}

TEST(Rational, SignedBitsIsTheSmallestType) {
  for (int lo = -300; lo <= 300; ++lo)
    for (int hi = lo; hi <= 300; ++hi) {
      int b = 1;
      if (lo >= 0) while ((1 << b) - 1 < hi) ++b;
      else while (-(1 << (b - 1)) > lo || (1 << (b - 1)) - 1 < hi) ++b;
      ASSERT_EQ(signed_bits(lo, hi), b) << lo << ' ' << hi;
    }
}

}  // namespace
}  // namespace tandem
