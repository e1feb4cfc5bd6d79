#include "tandem/proof/cause.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "tandem/base/rng.h"

namespace tandem::proof {
namespace {
using I = std::int64_t;

std::vector<I> draw(I lo, I hi, std::size_t n) {
  Rng r(7, "cause");
  std::vector<I> v(n);
  for (I& x : v) x = r.range(lo, hi);
  return v;
}

TEST(Cause, NothingDiffers) {
  const auto e = draw(-8, 7, 60);
  EXPECT_EQ(find_cause(e, e, 20).kind, CauseKind::none);
}

TEST(Cause, Order) {
  const auto e = draw(-100, 100, 60);
  auto a = e;
  for (std::size_t f = 0; f < 3; ++f) std::swap(a[f * 20 + 3], a[f * 20 + 7]);
  EXPECT_EQ(find_cause(e, a, 20).kind, CauseKind::order);
  a = e;  // one value sent twice: everything behind it is late
  a.insert(a.begin() + 11, a[10]);
  a.pop_back();
  const Cause late = find_cause(e, a, 20);
  EXPECT_EQ(late.kind, CauseKind::order) << late.evidence;
  EXPECT_NE(late.evidence.find("1 place earlier"), std::string::npos) << late.evidence;
}

TEST(Cause, SaturationBothWays) {
  const auto e = draw(-300, 300, 200);
  auto a = e;
  for (I& x : a) x = std::clamp<I>(x, -128, 127);
  CauseContext c{.bits = 10, .is_signed = true, .lo = -300, .hi = 300};
  Cause r = find_cause(e, a, 50, c);
  EXPECT_EQ(r.kind, CauseKind::saturation) << r.evidence;
  EXPECT_NE(r.evidence.find("stop at 127"), std::string::npos) << r.evidence;
  EXPECT_NE(r.evidence.find("stop at -128"), std::string::npos) << r.evidence;
  // The clamp is missing: seen from the other side.
  c = {.bits = 8, .is_signed = true, .lo = -128, .hi = 127};
  r = find_cause(a, e, 50, c);
  EXPECT_EQ(r.kind, CauseKind::saturation) << r.evidence;
  EXPECT_NE(r.evidence.find("should stop at 127"), std::string::npos) << r.evidence;
}

TEST(Cause, Width) {
  const auto e = draw(0, 255, 200);
  auto a = e;
  for (I& x : a) x &= 31;
  const CauseContext c{.bits = 8, .is_signed = false, .lo = 0, .hi = 255};
  Cause r = find_cause(e, a, 50, c);
  EXPECT_EQ(r.kind, CauseKind::width) << r.evidence;
  EXPECT_NE(r.evidence.find("5 of 8 bits"), std::string::npos) << r.evidence;
  for (std::size_t i = 0; i < e.size(); ++i) a[i] = e[i] >= 128 ? e[i] - 256 : e[i];
  r = find_cause(e, a, 50, c);
  EXPECT_EQ(r.kind, CauseKind::width) << r.evidence;
  EXPECT_NE(r.evidence.find("as a sign"), std::string::npos) << r.evidence;
  for (std::size_t i = 0; i < e.size(); ++i) a[i] = e[i] | 4;
  r = find_cause(e, a, 50, c);
  EXPECT_EQ(r.kind, CauseKind::width) << r.evidence;
  EXPECT_NE(r.evidence.find("bit 2 is always 1"), std::string::npos) << r.evidence;
}

// Ties go down that should go to the even code: the elements on a step are off by one, and only they.
TEST(Cause, Rounding) {
  Rng r(3, "ties");
  std::vector<I> e, a;
  CauseContext c{.bits = 8, .is_signed = true, .lo = -128, .hi = 127};
  for (int i = 0; i < 200; ++i) {
    const I x = r.range(-400, 400), down = x >> 2, rest = x & 3;
    e.push_back(down + (rest == 3 || (rest == 2 && (down & 1))));
    a.push_back(down + (rest == 3));
    c.on_step.push_back(rest == 2);
  }
  Cause got = find_cause(e, a, 50, c);
  EXPECT_EQ(got.kind, CauseKind::rounding) << got.evidence;
  EXPECT_NE(got.evidence.find("one code low"), std::string::npos) << got.evidence;
  c.on_step.clear();
  got = find_cause(e, a, 50, c);
  EXPECT_EQ(got.kind, CauseKind::rounding) << got.evidence;
}

TEST(Cause, Range) {
  const auto e = draw(-8, 7, 100);
  auto a = e;
  a[10] = 21;
  a[11] = -90;
  a[12] = a[12] > 0 ? -3 : 5;
  const Cause r = find_cause(e, a, 50, {.bits = 4, .is_signed = true, .lo = -8, .hi = 7});
  EXPECT_EQ(r.kind, CauseKind::range) << r.evidence;
}

TEST(Cause, MissingAndOther) {
  const auto e = draw(-1000, 1000, 100);
  auto a = e;
  a.resize(60);
  EXPECT_EQ(find_cause(e, a, 50).kind, CauseKind::missing);
  a = e;
  for (std::size_t i : {70u, 31u, 30u, 7u}) a.erase(a.begin() + i);
  EXPECT_EQ(find_cause(e, a, 50).kind, CauseKind::missing);
  EXPECT_NE(find_cause(e, a, 50).evidence.find("left out are 4"), std::string::npos);
  a = e;
  for (std::size_t i = 0; i < a.size(); ++i) a[i] = 3 * a[i] + static_cast<I>(i);
  EXPECT_EQ(find_cause(e, a, 50).kind, CauseKind::other);
}

}  // namespace
}  // namespace tandem::proof
