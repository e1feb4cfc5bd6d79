#include "tandem/tensor/tensor.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <limits>

#include "tandem/base/rng.h"

namespace tandem {
namespace {

TEST(Tensor, OwnsZerosAndCopiesOnWrite) {
  Tensor a(DType::i32, {2, 3});
  EXPECT_EQ(a.size(), 6);
  EXPECT_EQ(a.bytes(), 24u);
  Tensor b = a;
  b.data<std::int32_t>()[4] = 7;
  EXPECT_EQ(a.int_at(4), 0);
  EXPECT_EQ(b.int_at(4), 7);
  EXPECT_FALSE(a.same(b));
  const std::vector<float> v{1, 2, 3, 4};
  Tensor c = Tensor::borrow(DType::f32, {4}, v.data());
  c.set(0, 9);
  EXPECT_EQ(v[0], 1);
  EXPECT_EQ(c.at(0), 9);
  EXPECT_EQ(Tensor::scalar(2.5).shape(), Shape{});
  EXPECT_EQ(Tensor::scalar(2.5).at(0), 2.5);
  EXPECT_TRUE(Tensor(DType::u8, {0, 4}).same(Tensor(DType::u8, {0, 4})));
}

TEST(Tensor, RowsAndReshape) {
  const Tensor t = Tensor::of<std::int64_t>({3, 2}, std::vector<std::int64_t>{1, 2, 3, 4, 5, 6});
  EXPECT_TRUE(t.rows(1, 3).same(Tensor::of<std::int64_t>({2, 2}, std::vector<std::int64_t>{3, 4, 5, 6})));
  EXPECT_EQ(t.rows(1, 1).size(), 0);
  EXPECT_EQ(t.reshaped({6}).int_at(5), 6);
  EXPECT_THROW(t.reshaped({5}), Error);
  EXPECT_EQ(row_major_strides({3, 2, 5}), (std::vector<std::int64_t>{10, 5, 1}));
}

TEST(Tensor, ShapesThatOverflowAreRefused) {
  EXPECT_THROW(element_count({std::int64_t(1) << 40, std::int64_t(1) << 40}), Error);
  EXPECT_THROW(element_count({-1}), Error);
  EXPECT_THROW(element_count({0, -1}), Error);
  EXPECT_THROW(element_count({0, std::int64_t(1) << 62, std::int64_t(1) << 62}), Error);  // strides would overflow
  EXPECT_EQ(element_count({0, std::int64_t(1) << 62}), 0);
  EXPECT_EQ(element_count({}), 1);
}

// Oracle: the nearest of all finite values of the format by exact comparison in double; ties to the even code.
std::uint16_t nearest_by_search(double v, float (*value)(std::uint16_t), std::uint16_t inf) {
  const bool negative = std::signbit(v);
  const double a = std::fabs(v);
  std::uint16_t lo = 0, hi = inf;  // codes of non-negative values ascend
  while (hi - lo > 1) {
    const auto mid = static_cast<std::uint16_t>((lo + hi) / 2);
    (value(mid) <= a ? lo : hi) = mid;
  }
  // Overflow is judged as if the exponent range went on: the next value after the largest is 2^emax+1.
  const double below = value(lo);
  const double above = hi == inf ? 2 * below - value(static_cast<std::uint16_t>(lo - 1)) : value(hi);
  const double mid = below + (above - below) / 2;  // exact: the formats have few bits
  const std::uint16_t code = a < mid || (a == mid && lo % 2 == 0) ? lo : hi;
  return static_cast<std::uint16_t>(code | (negative ? 0x8000 : 0));
}

TEST(Tensor, HalfAndBfloatAgreeWithSearch) {
  for (int c = 0; c < 65536; ++c) {
    const auto h = static_cast<std::uint16_t>(c);
    const float f = half_to_float(h), b = bf16_to_float(h);
    if (std::isnan(f)) EXPECT_TRUE(std::isnan(half_to_float(float_to_half(f))));
    else EXPECT_EQ(float_to_half(f), h);
    if (std::isnan(b)) EXPECT_TRUE(std::isnan(bf16_to_float(float_to_bf16(b))));
    else EXPECT_EQ(float_to_bf16(b), h);
  }
  Rng rng(1, "half");
  Tensor th(DType::f16, {1}), tb(DType::bf16, {1});
  for (int i = 0; i < 300000; ++i) {
    // Random doubles, most near a half-way point, where rounding through float would go wrong.
    const auto code = static_cast<std::uint16_t>(rng.range(0, 0x7bfe));
    double v = rng.chance(0.5) ? 0.5 * (double(half_to_float(code)) + half_to_float(static_cast<std::uint16_t>(code + 1)))
                               : 0.5 * (double(bf16_to_float(code)) + bf16_to_float(static_cast<std::uint16_t>(code + 1)));
    const int nudge = static_cast<int>(rng.range(-2, 2));
    for (int j = 0; j < std::abs(nudge); ++j) v = std::nextafter(v, nudge < 0 ? 0.0 : 1e300);
    if (rng.chance(0.5)) v = -v;
    th.set(0, v);
    tb.set(0, v);
    ASSERT_EQ(*static_cast<const std::uint16_t*>(th.raw()), nearest_by_search(v, half_to_float, 0x7c00)) << v;
    ASSERT_EQ(*static_cast<const std::uint16_t*>(tb.raw()), nearest_by_search(v, bf16_to_float, 0x7f80)) << v;
    const auto f = static_cast<float>(v);
    ASSERT_EQ(float_to_half(f), nearest_by_search(f, half_to_float, 0x7c00)) << v;
    ASSERT_EQ(float_to_bf16(f), nearest_by_search(f, bf16_to_float, 0x7f80)) << v;
  }
}

TEST(Tensor, CastTruncatesSaturatesAndRoundsOnce) {
  const double inf = std::numeric_limits<double>::infinity();
  const Tensor d = Tensor::of<double>({7}, std::vector<double>{-1.9, 1.9, 300, -300, inf, -inf, std::nan("")});
  EXPECT_TRUE(d.cast(DType::i8).same(Tensor::of<std::int8_t>({7}, std::vector<std::int8_t>{-1, 1, 127, -128, 127, -128, 0})));
  EXPECT_TRUE(d.cast(DType::u8).same(Tensor::of<std::uint8_t>({7}, std::vector<std::uint8_t>{0, 1, 255, 0, 255, 0, 0})));
  EXPECT_EQ(Tensor::scalar(1e30).cast(DType::i64).int_at(0), std::numeric_limits<std::int64_t>::max());
  EXPECT_EQ(Tensor::scalar(1e30f).cast(DType::i32).int_at(0), std::numeric_limits<std::int32_t>::max());
  const std::int64_t big = (std::int64_t(1) << 62) + 1;  // not a double
  EXPECT_EQ(Tensor::scalar(big).cast(DType::u64).int_at(0), big);
  EXPECT_EQ(Tensor::scalar(big).int_at(0), big);
  EXPECT_EQ(Tensor::scalar(std::int32_t(-1)).cast(DType::u8).int_at(0), 255);
  EXPECT_EQ(Tensor::scalar(0.25).cast(DType::boolean).int_at(0), 1);
  // 2^62 + 2^54 is half way between two bf16 values; one more rounds up, which two roundings would miss.
  const std::int64_t tie = (std::int64_t(1) << 62) + (std::int64_t(1) << 54);
  EXPECT_EQ(Tensor::scalar(tie).cast(DType::bf16).at(0), 0x1p62);
  EXPECT_EQ(Tensor::scalar(tie + 1).cast(DType::bf16).at(0), 0x1p62 + 0x1p55);
}

}  // namespace
}  // namespace tandem
