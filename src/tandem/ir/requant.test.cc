#include "tandem/ir/requant.h"

#include <gtest/gtest.h>

#include <cmath>

#include "tandem/base/rng.h"
#include "tandem/ir/random_graph.h"

namespace tandem::ir {
namespace {

// A form that is found has the table's steps on every integer of the range.
void check(const Thresholds& t, std::int64_t lo, std::int64_t hi, const MulShift& f, const std::string& where) {
  std::int64_t levels = static_cast<std::int64_t>(t.t.size()) + 1;
  for (std::int64_t n = lo; n <= hi; ++n) {
    std::int64_t want = std::upper_bound(t.t.begin(), t.t.end(), Int128(n)) - t.t.begin();
    ASSERT_EQ(f.level(n, levels), want) << where << " n = " << n << " m = " << f.m << " r = " << f.r << " shift = " << f.shift << " half_even " << f.half_even;
  }
}

TEST(Requant, FormsHaveTheStepsOfAffineCasts) {
  Rng r(3, "requant");
  int found = 0, all = 0, even = 0, widest = 0;
  for (int i = 0; i < 400; ++i) {
    Cast c;
    c.kmin = 0;
    c.kmax = (1 << r.range(2, 8)) - 1;
    c.scale = exact(static_cast<float>(0.02 + r.uniform()));
    static const Rounding modes[] = {Rounding::half_even, Rounding::half_up, Rounding::floor, Rounding::ceil};
    c.rounding = modes[r.range(0, 3)];
    bool dyadic = r.chance(0.3);  // real ties
    Rational s = dyadic ? c.scale * pow2(static_cast<int>(-r.range(1, 6))) : exact(static_cast<float>(0.001 + 0.05 * r.uniform()));
    Rational b = dyadic ? Rational(c.scale * Rational(r.range(-20, 20))) : exact(static_cast<float>(r.normal()));
    std::int64_t lo = -r.range(10, 3000), hi = r.range(10, 3000);
    Thresholds t;
    for (std::int64_t k = 1; k <= c.kmax; ++k) {
      CastStep st = step_of(c, k);
      Rational q = (st.t - b) / s;
      Integer T = ceil_of(q);
      if (!st.inclusive && is_integer(q)) T += 1;
      if (T < lo) T = static_cast<long>(lo);
      if (T > hi + 1) T = static_cast<long>(hi + 1);
      t.t.push_back(to_int128(T));
    }
    ++all;
    auto f = find_mul_shift(t, lo, hi);
    if (!f) continue;
    ++found;
    even += f->half_even;
    widest = std::max(widest, static_cast<int>(std::ceil(std::log2(static_cast<double>(f->m) + 1))));
    check(t, lo, hi, *f, fmt::format("case {}", i));
  }
  EXPECT_EQ(found, all) << "an affine cast always has a multiplier";
  EXPECT_GT(even, 5) << "ties to even were never needed: the test does not reach that form";
  EXPECT_LE(widest, 31);
}

TEST(Requant, RefusesStepsThatAreNotALine) {
  Thresholds t;
  t.t = {0, 1, 2, 50, 51, 1000};
  EXPECT_FALSE(find_mul_shift(t, -100, 2000).has_value());
}

TEST(Requant, RandomGraphs) {
  int found = 0, all = 0;
  for (std::uint64_t seed = 0; seed < 150; ++seed) {
    RandomGraphOptions o;
    o.streaming = true;
    ExactProgram p;
    try {
      p = lower_exact(random_graph(o, 90'000 + seed).graph);
    } catch (const Error&) {
      continue;
    }
    for (const Step& s : p.steps)
      if (auto* q = std::get_if<IntRequant>(&s.params))
        for (const Thresholds& t : q->tables) {
          const Buffer& b = p.buffers[static_cast<std::size_t>(s.in[0])];
          Int128 lo = t.flip ? -b.hi : b.lo, hi = t.flip ? -b.lo : b.hi;
          if (hi - lo > 200'000) continue;
          ++all;
          if (auto f = find_mul_shift(t, lo, hi)) {
            ++found;
            check(t, static_cast<std::int64_t>(lo), static_cast<std::int64_t>(hi), *f, s.node);
          }
        }
  }
  EXPECT_GT(all, 100);
  // Rectifiers and clips inside a chain are no line; most chains are.
  EXPECT_GT(found, all * 8 / 10);
}

}  // namespace
}  // namespace tandem::ir
