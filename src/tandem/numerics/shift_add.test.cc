#include "tandem/numerics/shift_add.h"

#include <gtest/gtest.h>

#include "tandem/base/rng.h"

namespace tandem {
namespace {
using I = std::int64_t;

std::vector<Int128> plain(const std::vector<I>& w, I rows, I columns, const std::vector<Int128>& x) {
  std::vector<Int128> y(static_cast<std::size_t>(rows));
  for (I o = 0; o < rows; ++o)
    for (I i = 0; i < columns; ++i) y[static_cast<std::size_t>(o)] += x[static_cast<std::size_t>(i)] * w[static_cast<std::size_t>(o * columns + i)];
  return y;
}

// The same sums in registers of the widths that are given, as hardware holds them.
std::vector<Int128> in_registers(const ShiftAdd& s, const std::vector<Int128>& x, int out_bits) {
  std::vector<Int128> v;
  auto cut = [](Int128 n, int bits, bool is_signed) {
    n &= (Int128(1) << bits) - 1;
    return is_signed && (n >> (bits - 1)) ? n - (Int128(1) << bits) : n;
  };
  for (std::size_t i = 0; i < s.nodes.size(); ++i) {
    const ShiftAdd::Node& n = s.nodes[i];
    Int128 t = 0;
    if (n.a < 0) t = x[i];
    else t = v[static_cast<std::size_t>(n.a)] * (Int128(1) << n.shift_a) * (n.minus_a ? -1 : 1);
    if (n.b >= 0) t += v[static_cast<std::size_t>(n.b)] * (Int128(1) << n.shift_b) * (n.minus_b ? -1 : 1);
    v.push_back(cut(t, n.bits, n.is_signed));
  }
  std::vector<Int128> y;
  for (const ShiftAdd::Output& o : s.outputs) y.push_back(o.node < 0 ? Int128(0) : cut(v[static_cast<std::size_t>(o.node)] * (Int128(1) << o.shift), out_bits, true));
  return y;
}

TEST(ShiftAdd, DigitsAreCanonical) {
  for (I w = -5000; w <= 5000; ++w) {
    I sum = 0;
    int before = -2;
    for (const Digit& d : signed_digits(w)) {
      EXPECT_GT(d.shift, before + 1) << w;  // never two neighbours
      before = d.shift;
      sum += (d.minus ? -1 : 1) * (I(1) << d.shift);
    }
    EXPECT_EQ(sum, w);
  }
  for (I w : {INT64_MIN + 1, INT64_MAX, I(1) << 62}) {
    Int128 sum = 0;
    for (const Digit& d : signed_digits(w)) sum += (d.minus ? -1 : 1) * (Int128(1) << d.shift);
    EXPECT_EQ(sum, Int128(w));
  }
}

// Every constant of 9 bits times every value of 6, signed and unsigned; and pairs of constants on one input.
TEST(ShiftAdd, EveryConstantTimesEveryValue) {
  for (I w = -256; w < 256; ++w)
    for (bool sign : {false, true}) {
      const std::vector<I> weights{w, (w * 37 + 11) % 256};
      const int out = 9 + 6 + 1;
      const ShiftAdd s = shift_add(weights, 2, 1, 6, sign, out);
      for (I x = sign ? -32 : 0; x < (sign ? 32 : 64); ++x) {
        const std::vector<Int128> in{x};
        const auto want = plain(weights, 2, 1, in);
        ASSERT_EQ(s.run(in), want) << w << " * " << x;
        ASSERT_EQ(in_registers(s, in, out), want) << w << " * " << x;
      }
    }
}

TEST(ShiftAdd, RandomMatrices) {
  for (std::uint64_t k = 0; k < 300; ++k) {
    Rng r(k, "shift_add");
    const I rows = r.range(1, 12), columns = r.range(1, 20);
    const int bits = static_cast<int>(r.range(1, 9)), wb = static_cast<int>(r.range(1, 9));
    const bool sign = r.chance(0.5);
    std::vector<double> shares{0, 0.3, 0.9};
    const double zeros = r.pick(shares);
    std::vector<I> w(static_cast<std::size_t>(rows * columns));
    for (I& v : w) v = r.chance(zeros) ? 0 : r.range(-(I(1) << (wb - 1)), (I(1) << (wb - 1)));
    // The width that just holds every result.
    Int128 least = -1, most = 0;
    const Int128 lo = sign ? -(I(1) << (bits - 1)) : 0, hi = (I(1) << (sign ? bits - 1 : bits)) - 1;
    for (I o = 0; o < rows; ++o) {
      Int128 a = 0, b = 0;
      for (I i = 0; i < columns; ++i) {
        const Int128 v = w[static_cast<std::size_t>(o * columns + i)];
        a += std::min(v * lo, v * hi);
        b += std::max(v * lo, v * hi);
      }
      least = std::min(least, a);
      most = std::max(most, b);
    }
    const int out = signed_bits(least, most);
    const ShiftAdd s = shift_add(w, rows, columns, bits, sign, out);
    I digits = 0;
    for (I v : w) digits += static_cast<I>(signed_digits(v).size());
    EXPECT_LE(s.adders(), digits) << "more sums than digits: nothing was shared";
    for (const ShiftAdd::Node& n : s.nodes) {
      if (n.a < 0) continue;
      EXPECT_FALSE(n.minus_a && (n.b >= 0 && n.minus_b));
      EXPECT_GT(n.stage, s.nodes[static_cast<std::size_t>(n.a)].stage);
      EXPECT_LE(n.stage, s.depth);
    }
    for (int t = 0; t < 20; ++t) {
      std::vector<Int128> x(static_cast<std::size_t>(columns));
      for (Int128& v : x) v = t == 0 ? lo : t == 1 ? hi : static_cast<Int128>(r.range(static_cast<I>(lo), static_cast<I>(hi)));
      const auto want = plain(w, rows, columns, x);
      ASSERT_EQ(s.run(x), want) << "seed " << k;
      ASSERT_EQ(in_registers(s, x, out), want) << "seed " << k;
    }
  }
}

// Rows that repeat, and digits that repeat within a constant, are computed once; zeros cost nothing.
TEST(ShiftAdd, SharesAndSkips) {
  EXPECT_EQ(shift_add(std::vector<I>{0, 0, 0, 0}, 2, 2, 4, false, 4).adders(), 0);
  EXPECT_EQ(shift_add(std::vector<I>{1, 4}, 2, 1, 4, false, 8).adders(), 0);
  EXPECT_EQ(shift_add(std::vector<I>{5, 3, 5, 3, 10, 6}, 3, 2, 4, false, 10).adders(), 3);  // two products, one sum, two copies
  EXPECT_EQ(shift_add(std::vector<I>{-1}, 1, 1, 4, false, 5).adders(), 1);
  EXPECT_EQ(shift_add(std::vector<I>{85 * 257}, 1, 1, 4, false, 24).adders(), 3);  // 8 digits
  Rng r(5, "sparse");
  I dense = 0, sparse = 0;
  std::vector<I> w(256), z(256);
  for (std::size_t i = 0; i < w.size(); ++i) {
    w[i] = r.range(-127, 127);
    z[i] = i % 4 ? 0 : w[i];
  }
  dense = shift_add(w, 16, 16, 8, true, 24).adder_bits();
  sparse = shift_add(z, 16, 16, 8, true, 24).adder_bits();
  EXPECT_LT(3 * sparse, dense);
}

}  // namespace
}  // namespace tandem
