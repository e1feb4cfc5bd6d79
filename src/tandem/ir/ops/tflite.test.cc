// The fixed point of TensorFlow Lite's forms against a second formulation: exact integers of 128 bits, each rounding as its words say.
// 10^6 random tuples for each primitive; TANDEM_TUPLES asks for another number.
#include "tandem/ir/ops/tflite.h"

#include <gtest/gtest.h>

#include <charconv>
#include <cmath>
#include <cstdlib>
#include <cstring>

#include "tandem/ir/exact.h"
#include "tandem/ir/ops/kit.h"

namespace tandem::ir::tflite {
namespace {

using Wide = __int128;
constexpr std::int32_t kLeast = std::numeric_limits<std::int32_t>::min(), kMost = std::numeric_limits<std::int32_t>::max();

std::int64_t tuples() {
  std::int64_t n = 1'000'000;
  if (const char* t = std::getenv("TANDEM_TUPLES")) std::from_chars(t, t + std::strlen(t), n);
  return n;
}
Wide power(int k) { return static_cast<Wide>(1) << k; }
Wide floor_of(Wide a, Wide b) { return a / b - (a % b != 0 && (a < 0) != (b < 0) ? 1 : 0); }
Wide nearest_ties_up(Wide a, Wide b) { return floor_of(2 * a + b, 2 * b); }
Wide nearest_ties_away(Wide a, Wide b) { return a < 0 ? -nearest_ties_up(-a, b) : nearest_ties_up(a, b); }
Wide saturated(Wide v, Wide least, Wide most) { return v < least ? least : v > most ? most : v; }

// Numbers of every size, the corners among them.
std::int32_t some32(Rng& r) {
  const std::uint32_t v = r.u32();
  switch (v % 8) {
    case 0: return kLeast + static_cast<std::int32_t>(r.u32() % 3);
    case 1: return kMost - static_cast<std::int32_t>(r.u32() % 3);
    case 2: return static_cast<std::int32_t>(r.u32() % 5) - 2;
    case 3: return (r.chance(0.5) ? 1 : -1) << (v >> 27);
    default: return static_cast<std::int32_t>(r.u32()) >> (v >> 27);
  }
}
std::int64_t some64(Rng& r) { return static_cast<std::int64_t>(r.u64()) >> (16 + r.u32() % 47); }  // within 2^47
Multiplier some_multiplier(Rng& r, int least, int most) {
  return {r.chance(0.1) ? kMost - static_cast<std::int32_t>(r.u32() % 70000) : (1 << 30) + static_cast<std::int32_t>(r.u32() >> 2), static_cast<int>(r.range(least, most))};
}

TEST(TfliteArithmetic, Multipliers) {
  Rng r(1, "multiplier");
  for (std::int64_t i = tuples(); i > 0; --i) {
    const double factor = std::ldexp(1 + r.uniform(), static_cast<int>(r.range(-40, 29)));
    const Multiplier f = multiplier(factor);
    // factor = M * 2^e with 53 bits; m is M / 2^22 to the nearest, ties away.
    int e = 0;
    const auto M = static_cast<std::int64_t>(std::ldexp(std::frexp(factor, &e), 53));
    Wide m = nearest_ties_away(M, power(22));
    if (m == power(31)) m = power(30), ++e;
    if (e < -31) m = 0;
    ASSERT_EQ(f.m, static_cast<std::int64_t>(m)) << factor;
    if (m != 0) ASSERT_EQ(f.shift, e) << factor;
  }
  EXPECT_EQ(multiplier(0).m, 0);
}

TEST(TfliteArithmetic, HighProductAndShift) {
  Rng r(2, "product");
  for (std::int64_t i = tuples(); i > 0; --i) {
    const std::int32_t a = some32(r), b = some32(r);
    ASSERT_EQ(high_product(a, b), static_cast<std::int64_t>(saturated(nearest_ties_up(static_cast<Wide>(a) * b, power(31)), kLeast, kMost))) << a << " " << b;
    const int k = static_cast<int>(r.range(0, 31));
    ASSERT_EQ(rounding_shift(a, k), static_cast<std::int64_t>(nearest_ties_away(a, power(k)))) << a << " " << k;
    const int up = static_cast<int>(r.range(0, 12));
    ASSERT_EQ(times_power(a, up), static_cast<std::int64_t>(saturated(static_cast<Wide>(a) * power(up), kLeast, kMost)));
    ASSERT_EQ(wrapped(static_cast<std::int64_t>(a) * b), static_cast<std::int32_t>(static_cast<std::uint32_t>(static_cast<std::uint64_t>(static_cast<Wide>(a) * b))));
  }
}

TEST(TfliteArithmetic, Scaled) {
  Rng r(3, "scaled");
  for (std::int64_t i = tuples(); i > 0; --i) {
    const Multiplier f = some_multiplier(r, -31, 15);
    const std::int32_t x = f.shift > 0 ? some32(r) >> f.shift : some32(r);  // what is shifted left fits
    const Wide high = nearest_ties_up(static_cast<Wide>(x) * power(std::max(f.shift, 0)) * f.m, power(31));
    const Wide want = nearest_ties_away(high, power(std::max(-f.shift, 0)));
    ASSERT_EQ(scaled(x, f), static_cast<std::int64_t>(want)) << x << " " << f.m << " " << f.shift;
    // Both roundings together stay within one step of the exact product.
    const Wide exact = static_cast<Wide>(x) * f.m, unit = power(31 - f.shift);
    ASSERT_TRUE(want * unit - exact <= unit && exact - want * unit <= unit) << x << " " << f.m << " " << f.shift;
  }
}

TEST(TfliteArithmetic, ScaledWide) {
  Rng r(4, "wide");
  for (std::int64_t i = tuples(); i > 0; --i) {
    const Multiplier f = some_multiplier(r, -31, 7);
    const std::int64_t x = some64(r);
    const Wide m = saturated(nearest_ties_up(f.m, power(16)), 0, 32767);
    const Wide want = nearest_ties_up(static_cast<Wide>(x) * m, power(15 - f.shift));
    if (want < kLeast || want > kMost) continue;  // outside the contract of the kernels
    ASSERT_EQ(scaled_wide(x, f), static_cast<std::int64_t>(want)) << x << " " << f.m << " " << f.shift;
  }
}

// a - a_zero and b - b_zero to one grid, summed, to the output's scale; the whole stays within one and a half steps of the real sum.
TEST(TfliteArithmetic, SumsAndDifferences) {
  Rng r(5, "sums");
  for (std::int64_t i = tuples(); i > 0; --i) {
    const bool wide = r.chance(0.5), minus = r.chance(0.5);
    const float a = static_cast<float>(std::ldexp(1 + r.uniform(), static_cast<int>(r.range(-9, -3)))),
                b = static_cast<float>(std::ldexp(1 + r.uniform(), static_cast<int>(r.range(-9, -3)))),
                y = static_cast<float>(std::ldexp(1 + r.uniform(), static_cast<int>(r.range(-9, -3))));
    const std::int32_t most = wide ? 32767 : 255, p = static_cast<std::int32_t>(r.range(-most, most)), q = static_cast<std::int32_t>(r.range(-most, most));
    const SumScales s = sum_scales(a, b, y, wide);
    const auto step = [](Wide x, const Multiplier& f) { return nearest_ties_away(nearest_ties_up(x * f.m, power(31)), power(-f.shift)); };
    const Wide left = power(wide ? 15 : 20), sum = step(p * left, s.a) + (minus ? -1 : 1) * step(q * left, s.b);
    const auto want = static_cast<std::int64_t>(step(sum, s.y));
    ASSERT_EQ(scaled_sum(p, q, s, minus), want) << p << " " << q << " " << a << " " << b << " " << y;
    const double real = (static_cast<double>(p) * a + (minus ? -1.0 : 1.0) * static_cast<double>(q) * b) / y;
    ASSERT_NEAR(static_cast<double>(want), real, 1.5 + 1e-4 * std::abs(real)) << p << " " << q << " " << a << " " << b << " " << y;
  }
}

TEST(TfliteArithmetic, HardSwish) {
  Rng r(8, "swish");
  for (std::int64_t i = tuples(); i > 0; --i) {
    const float x = static_cast<float>(std::ldexp(1 + r.uniform(), static_cast<int>(r.range(-10, 1)))), y = static_cast<float>(x * std::ldexp(1 + r.uniform(), static_cast<int>(r.range(-6, 6))));
    const Swish s = swish_scales(x, y);
    const auto d = static_cast<std::int32_t>(r.range(-255, 255));
    const auto part = [](double factor, int& shift) {  // its upper 15 bits
      const Multiplier f = multiplier(factor);
      shift = f.shift;
      return saturated(nearest_ties_up(f.m, power(16)), 0, 32767);
    };
    int out_shift = 0, gate_shift = 0;
    const Wide out = part(static_cast<double>(x / 128 / y), out_shift), gate = part(static_cast<double>(x / 128 / (3.0f / 32768)), gate_shift), fine = static_cast<Wide>(d) * 128;
    Wide ramp = nearest_ties_up((gate_shift > 0 ? saturated(fine * power(gate_shift - 1), -32768, 32767) : fine) * gate, power(15));
    ramp = floor_of((gate_shift > 0 ? saturated(ramp * 2, -32768, 32767) : nearest_ties_away(ramp, power(-gate_shift))) + 32768, 2);
    const Wide product = ramp * nearest_ties_up(fine * out, power(15)), whole = product < 0 ? -floor_of(-product, power(15)) : floor_of(product, power(15));
    const auto want = static_cast<std::int64_t>(nearest_ties_away(whole, power(-out_shift)));
    ASSERT_EQ(hard_swish(d, s), want) << d << " " << x << " " << y;
    const double real = static_cast<double>(x) * d * std::clamp(static_cast<double>(x) * d + 3, 0.0, 6.0) / 6 / static_cast<double>(y);
    ASSERT_NEAR(static_cast<double>(want), real, 1.0 + 2e-3 * std::abs(real)) << d << " " << x << " " << y;
  }
}

TEST(TfliteArithmetic, Means) {
  Rng r(6, "means");
  for (std::int64_t i = tuples(); i > 0; --i) {
    const std::int64_t n = r.range(1, 1 << (1 + r.u32() % 16)), sum = r.range(-32768, 32767) * n + r.range(-n, n);
    ASSERT_EQ(rounded_mean(sum, n), static_cast<std::int64_t>(nearest_ties_away(sum, n))) << sum << " " << n;
    const float x = static_cast<float>(std::ldexp(1 + r.uniform(), static_cast<int>(r.range(-9, -3)))),
                y = static_cast<float>(std::ldexp(1 + r.uniform(), static_cast<int>(r.range(-9, -3))));
    const Multiplier whole = multiplier(static_cast<double>(x) / static_cast<double>(y)), f = mean_multiplier(x, y, n);
    int log = 0;
    while ((std::int64_t{2} << log) <= n) ++log;  // the largest power of two up to n
    ASSERT_EQ(f.shift, whole.shift - log);
    ASSERT_EQ(f.m, static_cast<std::int64_t>(floor_of(whole.m * power(log), n)));
  }
}

// The exponential, the logistic function and the hyperbolic tangent once more, step by step in 128 bits, and against the real functions.
struct Steps {
  static Wide mul(Wide a, Wide b) { return saturated(nearest_ties_up(a * b, power(31)), kLeast, kMost); }
  static Wide shifted(Wide a, int k) { return k < 0 ? nearest_ties_away(a, power(-k)) : saturated(a * power(k), kLeast, kMost); }
  static Wide of(double real, int integer_bits) { return static_cast<Wide>(std::llround(std::ldexp(real, 31 - integer_bits))); }
  static Wide exp(Wide a, int bits) {  // a <= 0
    if (a == 0) return kMost;
    const Wide quarter = power(29 - bits), part = a - floor_of(a, quarter) * quarter - quarter, rest = part - a;  // a = part - rest, -1/4 <= part < 0
    const Wide x = shifted(part, bits) + power(28), x2 = mul(x, x), x3 = mul(x2, x), x4 = mul(x2, x2);
    const Wide third = of(1.0 / 3, 0), eighth = of(std::exp(-0.125), 0);
    Wide y = eighth + mul(eighth, x + shifted(mul(shifted(x4, -2) + x3, third) + x2, -1));
    for (int k = -2; k < bits && k <= 4; ++k)
      if (floor_of(rest, power(31 - bits + k)) % 2 != 0) y = mul(y, of(std::exp(-std::ldexp(1.0, k)), 0));
    return y;
  }
  static Wide inverse_of_half(Wide a) {  // 2 / (1 + a), 2 integer bits
    const Wide half = nearest_ties_away(a + kMost, 2);
    Wide x = of(48.0 / 17, 2) + mul(half, of(-32.0 / 17, 2));
    for (int i = 0; i < 3; ++i) x += shifted(mul(x, power(29) - mul(half, x)), 2);
    return x;
  }
  static Wide logistic(Wide a, int bits) {
    if (a == 0) return power(30);
    const Wide y = shifted(inverse_of_half(exp(a > 0 ? -a : a, bits)), 1);
    return a > 0 ? y : kMost - y;
  }
  static Wide tanh(Wide a, int bits) {
    if (a == 0) return 0;
    const Wide y = shifted(inverse_of_half(exp(a > 0 ? -a : a, bits + 1)) - power(29), 2);
    return a > 0 ? y : -y;
  }
};
TEST(TfliteArithmetic, ExponentialLogisticTangent) {
  Rng r(7, "curves");
  double worst_exp = 0, worst_logistic = 0, worst_tanh = 0;
  for (std::int64_t i = tuples(); i > 0; --i) {
    const int bits = static_cast<int>(r.range(0, 5));
    const std::int32_t a = i % 1000 == 0 ? 0 : static_cast<std::int32_t>(r.u32() >> 1) >> (r.u32() % 24);
    ASSERT_EQ(exp_negative(-a, bits), static_cast<std::int64_t>(Steps::exp(-static_cast<Wide>(a), bits))) << a << " " << bits;
    const double real = std::ldexp(static_cast<double>(a), bits - 31);
    worst_exp = std::max(worst_exp, std::abs(std::ldexp(exp_negative(-a, bits), -31) - std::exp(-real)));
    if (bits > 4) continue;
    const std::int32_t v = r.chance(0.5) ? a : -a;
    const double at = v < 0 ? -real : real;
    ASSERT_EQ(logistic(v, bits), static_cast<std::int64_t>(Steps::logistic(v, bits))) << v << " " << bits;
    worst_logistic = std::max(worst_logistic, std::abs(std::ldexp(logistic(v, bits), -31) - 1 / (1 + std::exp(-at))));
    ASSERT_EQ(hyperbolic_tangent(v, bits), static_cast<std::int64_t>(Steps::tanh(v, bits))) << v << " " << bits;
    worst_tanh = std::max(worst_tanh, std::abs(std::ldexp(hyperbolic_tangent(v, bits), -31) - std::tanh(at)));
  }
  std::printf("largest errors: exp %.3g, logistic %.3g, tanh %.3g\n", worst_exp, worst_logistic, worst_tanh);
  EXPECT_LT(worst_exp, 1e-6);  // the series ends after the fourth power: (1/8)^5 / 5! is 2.5e-7
  EXPECT_LT(worst_logistic, 1e-6);
  EXPECT_LT(worst_tanh, 1e-6);
}

// 16 bits: interpolation in 128-bit integers; within two steps of the real functions where the table reaches.
TEST(TfliteArithmetic, Tables) {
  Rng r(8, "tables");
  for (std::int64_t i = tuples(); i > 0; --i) {
    const auto x = static_cast<std::int32_t>(r.range(-32768, 32767));
    const bool power2 = r.chance(0.3);
    const int shift = static_cast<int>(power2 ? r.range(0, 1) : r.range(0, 14));
    const auto m = static_cast<std::int32_t>(power2 ? 0 : r.range(16384, 32767));
    const Wide v = power2 ? static_cast<Wide>(x) * 3 * power(shift) : nearest_ties_up(static_cast<Wide>(x) * m, power(shift));
    const Wide a = v < 0 ? -v : v;
    const auto between = [&](int bits, Wide top) {  // of the table, times 2^bits
      const Wide h = floor_of(a, power(bits)), f = a - h * power(bits);
      return h >= 255 ? top : sigmoid_table(static_cast<int>(h)) * (power(bits) - f) + sigmoid_table(static_cast<int>(h) + 1) * f;
    };
    const Wide s = between(9, 32767 * power(10)), t = between(8, 65535 * power(8));
    // To 15 bits, ties up; what is reflected for negative numbers loses its ties: down by the least part first.
    const Wide want = v >= 0 ? nearest_ties_up(s, power(10)) : floor_of(power(25) - s + 511, power(10));
    ASSERT_EQ(logistic16(x, m, shift), static_cast<std::int64_t>(want)) << x << " " << m << " " << shift;
    const Wide want_t = v >= 0 ? nearest_ties_up(t - power(23), power(8)) : floor_of(power(23) - t + 127, power(8));
    ASSERT_EQ(tanh16(x, m, shift), static_cast<std::int64_t>(want_t)) << x << " " << m << " " << shift;
    const double real = static_cast<double>(v) / 12288;
    ASSERT_NEAR(static_cast<double>(want) / 32768, 1 / (1 + std::exp(-real)), 2.0 / 32768) << x;
    ASSERT_NEAR(static_cast<double>(want_t) / 32768, std::tanh(real), 3.0 / 32768) << x;
  }
  for (int k = 1; k < 256; ++k) EXPECT_GE(sigmoid_table(k), sigmoid_table(k - 1));
}

// Rows of softmax: the reciprocal in the same steps; and near the real function.
TEST(TfliteArithmetic, Reciprocals) {
  Rng r(9, "reciprocal");
  for (std::int64_t i = tuples(); i > 0; --i) {
    const auto x = static_cast<std::int32_t>((r.u32() >> 1) | 1u) >> (r.u32() % 12);
    if (x < 1 << 18) continue;
    int zeros = 0;
    while ((static_cast<Wide>(x) << zeros) < power(31)) ++zeros;
    const Wide fraction = (static_cast<Wide>(x) << zeros) - power(31);  // x = (1 + fraction) * 2^...
    const Reciprocal got = reciprocal(x, 12);
    ASSERT_EQ(got.raw, static_cast<std::int64_t>(Steps::shifted(Steps::inverse_of_half(fraction), 1))) << x;
    ASSERT_EQ(got.bits_over_unit, 12 - zeros);
    ASSERT_NEAR(std::ldexp(got.raw, -31) * std::ldexp(static_cast<double>(x), zeros - 31), 1, 1e-7) << x;
  }
}

// ---- whole forms against their formulas, in loops that know nothing of stretches or windows ---------
struct Case {
  Graph g;
  std::vector<Tensor> inputs, outputs;
  const Node& node() const { return g.nodes.back(); }
  const Tensor& operand(std::size_t i) const {
    std::size_t k = 0;
    for (std::size_t j = 0; j < i; ++j) k += !g.constant(node().inputs[j]);
    return g.constant(node().inputs[i]) ? *g.constant(node().inputs[i]) : inputs[k];
  }
  std::int64_t at(std::size_t i, std::initializer_list<std::int64_t> index) const {
    const Tensor& t = operand(i);
    std::int64_t flat = 0, d = 0;
    for (std::int64_t k : index) flat = flat * t.shape()[static_cast<std::size_t>(d++)] + k;
    return t.int_at(flat);
  }
};
Case drawn(std::string_view name, std::uint64_t seed) {
  Case c;
  Rng r(seed, name);
  const OpDef& op = *find_op("tflite", name);
  Sample s{r, c.g, c.inputs};
  op.sample(op, s);
  infer_shapes(c.g);
  c.outputs = evaluate_float(c.g, c.inputs);
  return c;
}
TEST(TfliteForms, ContractionsAgainstTheirSums) {
  std::int64_t compared = 0;
  for (const char* name : {"Conv2D", "DepthwiseConv2D", "TransposeConv", "FullyConnected"})
    for (std::uint64_t seed = 0; seed < 150; ++seed) {
      const Case c = drawn(name, seed);
      const Node& n = c.node();
      const Tensor &x = c.operand(0), &w = c.operand(1), &y = c.outputs[0];
      const std::int64_t zx = n.attr_int("x_zero", 0), zy = n.attr_int("y_zero", 0), channels = y.shape().back();
      const auto& ws = std::get<std::vector<double>>(n.attrs.at("w_scale"));
      const auto stride = n.attr_ints("strides", {1, 1});
      const bool same = n.attr_string("padding", "") == "SAME", wide = n.attr_int("accumulator", 32) == 64, dense = n.op == "FullyConnected",
                 depthwise = n.op == "DepthwiseConv2D", transposed = n.op == "TransposeConv";
      for (std::int64_t i = 0; i < y.size(); ++i) {
        const std::int64_t o = i % channels;
        Wide sum = n.in(2) == kNone ? 0 : c.at(2, {o});
        if (dense) {
          for (std::int64_t k = 0; k < w.shape()[1]; ++k) sum += (x.int_at(i / channels * w.shape()[1] + k) - zx) * c.at(1, {o, k});
        } else {
          const std::int64_t q = i / channels % y.shape()[2], p = i / channels / y.shape()[2] % y.shape()[1], b = i / channels / y.shape()[2] / y.shape()[1];
          // SAME puts half of what is missing before, rounded down.
          const auto before = [&](std::size_t d) {
            const Shape& windowed = transposed ? y.shape() : x.shape();
            const Shape& positions = transposed ? x.shape() : y.shape();
            const std::int64_t missing = (positions[d + 1] - 1) * stride[d] + w.shape()[d + 1] - windowed[d + 1];
            return same ? std::max<std::int64_t>(missing, 0) / 2 : 0;
          };
          for (std::int64_t r = 0; r < w.shape()[1]; ++r)
            for (std::int64_t s = 0; s < w.shape()[2]; ++s)
              for (std::int64_t k = 0; k < x.shape()[3]; ++k) {
                std::int64_t h = p * stride[0] - before(0) + r, v = q * stride[1] - before(1) + s;
                if (transposed) {  // the input element whose window has this output element as tap (r, s)
                  h = p + before(0) - r, v = q + before(1) - s;
                  if (h % stride[0] || v % stride[1]) continue;
                  h /= stride[0], v /= stride[1];
                }
                if (h < 0 || v < 0 || h >= x.shape()[1] || v >= x.shape()[2]) continue;
                if (depthwise && k != o / (channels / x.shape()[3])) continue;
                sum += static_cast<Wide>(c.at(0, {b, h, v, k}) - zx) * (depthwise ? c.at(1, {0, r, s, o}) : c.at(1, {o, r, s, k}));
              }
        }
        const double xs = static_cast<float>(n.attr_float("x_scale", 1)), ys = static_cast<float>(n.attr_float("y_scale", 1)),
                     scale = static_cast<float>(ws[ws.size() == 1 ? 0 : static_cast<std::size_t>(o)]);
        const Multiplier f = multiplier(dense && ws.size() == 1 ? static_cast<double>(static_cast<float>(xs) * static_cast<float>(scale)) / ys : xs * scale / ys);
        const Wide scaled_ = wide ? nearest_ties_up(sum * saturated(nearest_ties_up(f.m, power(16)), 0, 32767), power(15 - f.shift))
                                  : nearest_ties_away(nearest_ties_up(sum * power(std::max(f.shift, 0)) * f.m, power(31)), power(std::max(-f.shift, 0)));
        const auto [lo, hi] = integer_range(y.dtype());
        Wide least = static_cast<Wide>(lo), most = static_cast<Wide>(hi);
        const std::string a = n.attr_string("activation", "");
        const auto real = [&](double v) { return static_cast<Wide>(std::round(static_cast<float>(v) / static_cast<float>(ys))) + zy; };
        if (a == "RELU" || a == "RELU6") least = std::max(least, real(0));
        if (a == "RELU6") most = std::min(most, real(6));
        if (a == "RELU_N1_TO_1") least = std::max(least, real(-1)), most = std::min(most, real(1));
        const Wide want = std::min(std::max(scaled_ + zy, least), most);
        ASSERT_EQ(y.int_at(i), static_cast<std::int64_t>(want)) << name << " seed " << seed << " element " << i;
        ++compared;
      }
    }
  EXPECT_GT(compared, 20'000);
}

// What the other forms share, in words.
Wide step(Wide x, const Multiplier& f) { return nearest_ties_away(nearest_ties_up(x * power(std::max(f.shift, 0)) * f.m, power(31)), power(std::max(-f.shift, 0))); }
Wide step_wide(Wide x, const Multiplier& f) { return nearest_ties_up(x * saturated(nearest_ties_up(f.m, power(16)), 0, 32767), power(15 - f.shift)); }
double scale_of(const Node& n, const char* port) { return static_cast<float>(n.attr_float(std::string(port) + "_scale", 1)); }
std::int64_t zero_of(const Node& n, const char* port) { return n.attr_int(std::string(port) + "_zero", 0); }
Wide within(Wide v, DType t) {
  const auto [lo, hi] = integer_range(t);
  return saturated(v, static_cast<Wide>(lo), static_cast<Wide>(hi));
}
Wide activated(Wide v, const Node& n, DType t) {
  const std::string a = n.attr_string("activation", "");
  const auto real = [&](float x) { return static_cast<Wide>(std::round(x / static_cast<float>(n.attr_float("y_scale", 1)))) + zero_of(n, "y"); };
  v = within(v, t);
  if (a == "RELU" || a == "RELU6") v = std::max(v, within(real(0), t));
  if (a == "RELU6") v = std::min(v, within(real(6), t));
  if (a == "RELU_N1_TO_1") v = std::min(std::max(v, within(real(-1), t)), within(real(1), t));
  return v;
}

TEST(TfliteForms, ProductsSumsMeansAndWindows) {
  for (const char* name : {"Mul", "Add", "Sub", "Mean", "Sum", "AveragePool2D", "MaxPool2D", "LeakyRelu", "Relu", "Quantize"})
    for (std::uint64_t seed = 0; seed < 200; ++seed) {
      const Case c = drawn(name, seed);
      const Node& n = c.node();
      const Tensor &x = c.operand(0), &y = c.outputs[0];
      const DType t = y.dtype();
      const Shape &xs = x.shape(), &ys = y.shape();
      for (std::int64_t i = 0; i < y.size(); ++i) {
        Wide want = 0;
        if (n.inputs.size() == 2) {
          const Tensor& b = c.operand(1);  // of the same shape, or its last axis
          const Wide p = x.int_at(i) - zero_of(n, "a"), q = b.int_at(b.size() == x.size() ? i : i % b.size()) - zero_of(n, "b");
          if (n.op == "Mul") {
            want = step(p * q, multiplier(scale_of(n, "a") * scale_of(n, "b") / scale_of(n, "y")));
          } else {
            const double twice = 2 * std::max(scale_of(n, "a"), scale_of(n, "b"));
            const int left = t == DType::i16 ? 15 : 20;
            const Wide u = step(p * power(left), multiplier(scale_of(n, "a") / twice)), v = step(q * power(left), multiplier(scale_of(n, "b") / twice));
            want = step(n.op == "Sub" ? u - v : u + v, multiplier(twice / std::ldexp(scale_of(n, "y"), left)));
          }
          want = activated(want + zero_of(n, "y"), n, t);
        } else if (n.op == "Mean" || n.op == "Sum") {  // axes 1 and 2
          const std::int64_t rest = xs.size() == 4 ? xs[3] : 1, b = i / rest, k = i % rest, count = xs[1] * xs[2];
          Wide sum = 0;
          for (std::int64_t j = 0; j < count; ++j) sum += x.int_at((b * count + j) * rest + k) - zero_of(n, "x");
          Multiplier f = multiplier(scale_of(n, "x") / scale_of(n, "y"));
          if (n.op == "Mean") {
            const int log = static_cast<int>(std::log2(static_cast<double>(count)));
            f = {static_cast<std::int32_t>(static_cast<std::int64_t>(f.m) * (std::int64_t{1} << log) / count), f.shift - log};
          }
          want = within(step(sum, f) + zero_of(n, "y"), t);
        } else if (n.op.ends_with("Pool2D")) {
          const auto k = n.attr_ints("kernel_shape", {}), stride = n.attr_ints("strides", {});
          const std::int64_t ch = i % ys[3], q = i / ys[3] % ys[2], p = i / ys[3] / ys[2] % ys[1];
          const auto before = [&](std::size_t d) { return n.attr_string("padding", "") == "SAME" ? std::max<std::int64_t>((ys[d + 1] - 1) * stride[d] + k[d] - xs[d + 1], 0) / 2 : 0; };
          Wide sum = 0, most = std::numeric_limits<std::int64_t>::min();
          std::int64_t count = 0;
          for (std::int64_t r = 0; r < k[0]; ++r)
            for (std::int64_t s = 0; s < k[1]; ++s) {
              const std::int64_t h = p * stride[0] - before(0) + r, v = q * stride[1] - before(1) + s;
              if (h < 0 || v < 0 || h >= xs[1] || v >= xs[2]) continue;
              const Wide e = c.at(0, {0, h, v, ch});
              sum += e, most = std::max(most, e), ++count;
            }
          want = activated(n.op == "MaxPool2D" ? most : nearest_ties_away(sum, count), n, t);
        } else if (n.op == "LeakyRelu") {
          const auto a = static_cast<float>(n.attr_float("alpha", 0)), s = static_cast<float>(scale_of(n, "x")), o = static_cast<float>(scale_of(n, "y"));
          const Wide d = x.int_at(i) - zero_of(n, "x");
          const Multiplier f = multiplier(std::abs(static_cast<double>(d >= 0 ? s / o : s * a / o)));
          want = within((d < 0 && a < 0 ? -1 : 1) * step(d, f) + zero_of(n, "y"), t);
        } else if (n.op == "Relu") {
          const auto s = static_cast<float>(scale_of(n, "x")), o = static_cast<float>(scale_of(n, "y"));
          want = std::max<Wide>(within(step(x.int_at(i) - zero_of(n, "x"), multiplier(static_cast<double>(s / o))) + zero_of(n, "y"), t), zero_of(n, "y"));
        } else if (is_float(x.dtype())) {
          want = within(static_cast<Wide>(std::llround(static_cast<double>(static_cast<float>(x.at(i)) / static_cast<float>(scale_of(n, "y"))))) + zero_of(n, "y"), t);
        } else {
          want = within(step(x.int_at(i) - zero_of(n, "x"), multiplier(scale_of(n, "x") / scale_of(n, "y"))) + zero_of(n, "y"), t);
        }
        ASSERT_EQ(y.int_at(i), static_cast<std::int64_t>(want)) << name << " seed " << seed << " element " << i;
      }
    }
}

TEST(TfliteForms, SoftmaxCurvesAndTables) {
  for (const char* name : {"Softmax", "Logistic", "Tanh"})
    for (std::uint64_t seed = 0; seed < 200; ++seed) {
      const Case c = drawn(name, seed);
      const Node& n = c.node();
      const Tensor &x = c.operand(0), &y = c.outputs[0];
      const std::int64_t depth = x.shape().back();
      for (std::int64_t i = 0; i < y.size(); ++i) {
        double real = 0;
        Wide want = 0;
        if (n.op == "Softmax") {
          const Multiplier f = multiplier(std::min(std::ldexp(scale_of(n, "x"), 26), 2147483647.0));
          const auto least = static_cast<std::int64_t>(-std::floor(std::ldexp(31, 26 - f.shift)));
          const std::int64_t row = i / depth * depth;
          std::int64_t most = -128;
          for (std::int64_t k = 0; k < depth; ++k) most = std::max(most, x.int_at(row + k));
          const auto part = [&](std::int64_t k) {
            const Wide d = x.int_at(k) - most;
            return d < least ? Wide{-1} : Steps::exp(Steps::mul(d * power(f.shift), f.m), 5);
          };
          Wide sum = 0;
          double total = 0;
          for (std::int64_t k = row; k < row + depth; ++k) {
            if (part(k) >= 0) sum += nearest_ties_away(part(k), power(12));
            total += std::exp((static_cast<double>(x.int_at(k)) - static_cast<double>(most)) * scale_of(n, "x"));
          }
          int zeros = 0;
          while ((sum << zeros) < power(31)) ++zeros;
          const Wide inverse = Steps::shifted(Steps::inverse_of_half((sum << zeros) - power(31)), 1);
          const int bits = y.dtype() == DType::i8 ? 8 : 16;
          want = part(i) < 0 ? within(-power(40), y.dtype()) : within(nearest_ties_away(Steps::mul(inverse, part(i)), power(12 - zeros + 31 - bits)) - power(bits - 1), y.dtype());
          real = std::exp((static_cast<double>(x.int_at(i)) - static_cast<double>(most)) * scale_of(n, "x")) / total;
        } else {
          const std::int64_t d = x.int_at(i) - zero_of(n, "x");
          const bool sigmoid = n.op == "Logistic";
          const double at = scale_of(n, "x") * static_cast<double>(d);
          real = sigmoid ? 1 / (1 + std::exp(-at)) : std::tanh(at);
          if (y.dtype() == DType::i8) {  // beyond 15 the ends
            const Wide in = step(d, multiplier(std::ldexp(scale_of(n, "x"), 27)));
            want = std::abs(at) >= 15
                       ? Wide{at > 0 ? 127 : -128}
                       : within(sigmoid ? nearest_ties_away(Steps::logistic(in, 4), power(23)) - 128 : nearest_ties_away(Steps::tanh(in, 4), power(24)),
                                DType::i8);
          } else {  // scales here are no powers of two
            int shift = 0;
            double m = scale_of(n, "x") * 12288;
            while (m <= 32767.0 / 2) m *= 2, ++shift;
            want = sigmoid ? logistic16(static_cast<std::int32_t>(d), static_cast<std::int32_t>(m), shift) : tanh16(static_cast<std::int32_t>(d), static_cast<std::int32_t>(m), shift);
          }
        }
        ASSERT_EQ(y.int_at(i), static_cast<std::int64_t>(want)) << name << " seed " << seed << " element " << i;
        const double steps = y.dtype() == DType::i8 ? 1.01 : 9;  // 16 bits: softmax sums 12 integer bits, tables interpolate
        const double held = saturated(static_cast<Wide>(std::llround(real / scale_of(n, "y"))) + zero_of(n, "y"),
                                      static_cast<Wide>(integer_range(y.dtype()).first), static_cast<Wide>(integer_range(y.dtype()).second));
        ASSERT_NEAR(static_cast<double>(y.int_at(i)), held, steps) << name << " seed " << seed << " element " << i;
      }
    }
}

// A ramp in 16 bits, slopes of their own, neighbours in proportion, products of two varying matrices.
TEST(TfliteForms, HardSwishSlopesNeighboursAndMatrices) {
  for (std::uint64_t seed = 0; seed < 300; ++seed) {
    {
      const Case c = drawn("HardSwish", seed);
      const Node& n = c.node();
      const auto s = static_cast<float>(scale_of(n, "x")), o = static_cast<float>(scale_of(n, "y"));
      const auto factor = [](double f, Wide& m) {  // 15 bits of it, and its power of two
        const Multiplier k = multiplier(f);
        m = saturated(nearest_ties_up(k.m, power(16)), 0, 32767);
        return k.shift;
      };
      Wide out, gate;
      const int out_shift = factor(static_cast<double>(s / 128 / o), out), gate_shift = factor(static_cast<double>(s / 128 / (3.0f / 32768)), gate);
      for (std::int64_t i = 0; i < c.outputs[0].size(); ++i) {
        const Wide d = (c.operand(0).int_at(i) - zero_of(n, "x")) * 128;
        Wide ramp = gate_shift > 0 ? saturated(d * power(gate_shift - 1), -32768, 32767) : d;
        ramp = nearest_ties_up(ramp * gate, power(15));
        ramp = gate_shift > 0 ? saturated(ramp * 2, -32768, 32767) : nearest_ties_away(ramp, power(-gate_shift));
        const Wide product = floor_of(ramp + 32768, 2) * nearest_ties_up(d * out, power(15));
        const Wide whole = product < 0 ? -floor_of(-product, power(15)) : floor_of(product, power(15));
        const Wide want = within(nearest_ties_away(whole, power(-out_shift)) + zero_of(n, "y"), DType::i8);
        ASSERT_EQ(c.outputs[0].int_at(i), static_cast<std::int64_t>(want)) << "seed " << seed << " element " << i;
        const double x = static_cast<double>(d) / 128 * scale_of(n, "x"), real = x * std::clamp(x + 3, 0.0, 6.0) / 6;
        const auto held = static_cast<double>(within(static_cast<Wide>(std::llround(real / scale_of(n, "y"))) + zero_of(n, "y"), DType::i8));
        ASSERT_NEAR(static_cast<double>(want), held, 1.0) << "seed " << seed << " element " << i;
      }
    }
    {
      const Case c = drawn("PRelu", seed);
      const Node& n = c.node();
      const Tensor &x = c.operand(0), &a = c.operand(1), &y = c.outputs[0];
      for (std::int64_t i = 0; i < y.size(); ++i) {
        const Wide d = x.int_at(i) - zero_of(n, "x"), slope = a.int_at(a.size() == x.size() ? i : i % a.size()) - zero_of(n, "alpha");
        const double one = scale_of(n, "x") / scale_of(n, "y"), below = scale_of(n, "x") * scale_of(n, "alpha") / scale_of(n, "y");
        ASSERT_EQ(y.int_at(i), static_cast<std::int64_t>(within((d >= 0 ? step(d, multiplier(one)) : step(d * slope, multiplier(below))) + zero_of(n, "y"), y.dtype()))) << "seed " << seed << " element " << i;
      }
    }
    {
      const Case c = drawn("ResizeBilinear", seed);
      const Node& n = c.node();
      const Shape &xs = c.operand(0).shape(), &ys = c.outputs[0].shape();
      const bool corners = n.attr_int("align_corners", 0) != 0, centres = n.attr_int("half_pixel_centers", 0) != 0;
      const auto position = [&](std::size_t axis, std::int64_t i) {  // in 2^-10
        const std::int64_t less = corners && ys[axis] > 1 ? 1 : 0;
        const auto size = static_cast<std::int64_t>(floor_of(2 * 1024 * (xs[axis] - less) + (ys[axis] - less), 2 * (ys[axis] - less)));
        return std::clamp<std::int64_t>(i * size + (centres ? size / 2 - 512 : 0), 0, (xs[axis] - 1) * 1024);
      };
      for (std::int64_t i = 0; i < c.outputs[0].size(); ++i) {
        const std::int64_t k = i % ys[3], v = position(2, i / ys[3] % ys[2]), u = position(1, i / ys[3] / ys[2] % ys[1]), b = i / ys[3] / ys[2] / ys[1];
        Wide sum = 0;  // every pixel, with the hats around the position as its weight
        for (std::int64_t r = 0; r < xs[1]; ++r)
          for (std::int64_t q = 0; q < xs[2]; ++q)
            sum += static_cast<Wide>(std::max<std::int64_t>(0, 1024 - std::abs(u - 1024 * r))) * std::max<std::int64_t>(0, 1024 - std::abs(v - 1024 * q)) * c.at(0, {b, r, q, k});
        ASSERT_EQ(c.outputs[0].int_at(i), static_cast<std::int64_t>(nearest_ties_away(sum, power(20)))) << "seed " << seed << " element " << i;
      }
    }
    {
      const Case c = drawn("BatchMatMul", seed);
      const Node& n = c.node();
      const Tensor &a = c.operand(0), &b = c.operand(1), &y = c.outputs[0];
      const bool turn_a = n.attr_int("adj_x", 0) != 0, turn_b = n.attr_int("adj_y", 0) != 0;
      const Shape& ys = y.shape();
      const std::size_t rank = ys.size();
      const std::int64_t sums = a.shape()[rank - (turn_a ? 2 : 1)];
      const Multiplier f = multiplier(scale_of(n, "a") * scale_of(n, "b") / scale_of(n, "y"));
      const auto element = [&](const Tensor& t, const Shape& batch, std::int64_t row, std::int64_t column) {
        const std::size_t own = t.shape().size() - 2;
        std::int64_t flat = 0;
        for (std::size_t d = 0; d < own; ++d) flat = flat * t.shape()[d] + (t.shape()[d] == 1 ? 0 : batch[batch.size() - own + d]);
        return t.int_at((flat * t.shape()[own] + row) * t.shape()[own + 1] + column);
      };
      for (std::int64_t i = 0; i < y.size(); ++i) {
        Shape batch(rank - 2);
        std::int64_t left = i;
        const std::int64_t column = left % ys[rank - 1];
        left /= ys[rank - 1];
        const std::int64_t row = left % ys[rank - 2];
        left /= ys[rank - 2];
        for (std::size_t d = rank - 2; d-- > 0;) batch[d] = left % ys[d], left /= ys[d];
        Wide sum = 0;
        for (std::int64_t k = 0; k < sums; ++k)
          sum += static_cast<Wide>(element(a, batch, turn_a ? k : row, turn_a ? row : k) - zero_of(n, "a")) * (element(b, batch, turn_b ? column : k, turn_b ? k : column) - zero_of(n, "b"));
        ASSERT_EQ(y.int_at(i), static_cast<std::int64_t>(within((y.dtype() == DType::i16 ? step_wide(sum, f) : step(sum, f)) + zero_of(n, "y"), y.dtype()))) << "seed " << seed << " element " << i;
      }
    }
  }
}

TEST(TfliteForms, RecurrentLayers) {
  for (std::uint64_t seed = 0; seed < 200; ++seed) {
    const Case c = drawn("SVDF", seed);
    const Node& n = c.node();
    const Tensor &wf = c.operand(1), &wt = c.operand(2);
    const std::int64_t batch = c.operand(0).shape()[0], in = wf.shape()[1], filters = wf.shape()[0], memory = wt.shape()[1], rank = n.attr_int("rank", 1);
    const DType st = c.operand(4).dtype();
    const auto f32 = [&](const char* key) { return static_cast<float>(n.attr_float(key, 1)); };
    const Multiplier feature = multiplier(static_cast<double>(f32("x_scale") * f32("feature_scale") / f32("state_scale"))),
                     time = multiplier(static_cast<double>(f32("state_scale") * f32("time_scale") / f32("y_scale")));
    for (std::int64_t b = 0; b < batch; ++b)
      for (std::int64_t u = 0; u < filters / rank; ++u) {
        Wide sum = c.at(3, {u});
        for (std::int64_t f = u * rank; f < (u + 1) * rank; ++f) {
          Wide fresh = 0;
          for (std::int64_t k = 0; k < in; ++k) fresh += c.at(1, {f, k}) * (c.at(0, {b, k}) - zero_of(n, "x"));
          for (std::int64_t m = 0; m < memory; ++m) {
            const Wide s = m + 1 < memory ? Wide{c.at(4, {b, f * memory + m + 1})} : within(step(fresh, feature), st);
            ASSERT_EQ(c.outputs[1].int_at((b * filters + f) * memory + m), static_cast<std::int64_t>(s)) << seed;
            sum += s * c.at(2, {f, m});
          }
        }
        ASSERT_EQ(c.outputs[0].int_at(b * (filters / rank) + u), static_cast<std::int64_t>(within(step(sum, time) + zero_of(n, "y"), DType::i8))) << seed;
      }
  }
  for (std::uint64_t seed = 0; seed < 200; ++seed) {
    const Case c = drawn("UnidirectionalSequenceLSTM", seed);
    const Node& n = c.node();
    const bool time_major = n.attr_int("time_major", 0) != 0, wide = c.operand(0).dtype() == DType::i16;
    const Shape& xs = c.operand(0).shape();
    const std::int64_t batch = xs[time_major ? 1 : 0], time = xs[time_major ? 0 : 1], k_in = xs[2], units = c.operand(13).shape()[1];
    const auto& wi = std::get<std::vector<double>>(n.attrs.at("w_scale"));
    const auto& wr = std::get<std::vector<double>>(n.attrs.at("r_scale"));
    const auto requantised = [&](Wide sum, double x, double w) {
      const Multiplier f = multiplier(static_cast<double>(static_cast<float>(x) * static_cast<float>(w)) * 4096);
      return within(wide ? step_wide(sum, f) : step(sum, f), DType::i16);
    };
    const double cs = scale_of(n, "c"), hs = scale_of(n, "h");
    const int cell_shift = 12 + static_cast<int>(std::log2(cs));
    std::vector<std::int64_t> h(static_cast<std::size_t>(batch * units)), cell(h.size());
    for (std::size_t i = 0; i < h.size(); ++i) h[i] = c.operand(13).int_at(static_cast<std::int64_t>(i)), cell[i] = c.operand(14).int_at(static_cast<std::int64_t>(i));
    for (std::int64_t t = 0; t < time; ++t) {
      const std::vector<std::int64_t> before = h;
      for (std::int64_t b = 0; b < batch; ++b)
        for (std::int64_t u = 0; u < units; ++u) {
          std::int64_t gate[4];
          for (std::size_t g = 0; g < 4; ++g) {
            Wide a = c.at(9 + g, {u}), r = 0;
            for (std::int64_t k = 0; k < k_in; ++k) a += c.at(1 + g, {u, k}) * ((time_major ? c.at(0, {t, b, k}) : c.at(0, {b, t, k})) - zero_of(n, "x"));
            for (std::int64_t k = 0; k < units; ++k) r += c.at(5 + g, {u, k}) * (before[static_cast<std::size_t>(b * units + k)] - zero_of(n, "h"));
            const auto v = static_cast<std::int32_t>(within(requantised(a, scale_of(n, "x"), wi[g]) + requantised(r, hs, wr[g]), DType::i16));
            gate[g] = g == 2 ? tanh16(v, 0, 0) : logistic16(v, 0, 0);
          }
          auto& s = cell[static_cast<std::size_t>(b * units + u)];
          const double unit = 1.0 / 32768;
          Wide next = within(within(step(static_cast<Wide>(gate[1]) * s, multiplier(unit * cs / cs)), DType::i16) +
                                 within(step(static_cast<Wide>(gate[0]) * gate[2], multiplier(unit * unit / cs)), DType::i16),
                             DType::i16);
          if (const double clip = n.attr_float("cell_clip", 0); clip > 0)
            next = saturated(next, -static_cast<Wide>(std::min(clip / cs, 32767.0)), static_cast<Wide>(std::min(clip / cs, 32767.0)));
          s = static_cast<std::int64_t>(next);
          const std::int64_t squashed = tanh16(static_cast<std::int32_t>(s), cell_shift < 0 ? 3 : 0, std::abs(cell_shift));
          auto& out = h[static_cast<std::size_t>(b * units + u)];
          out = static_cast<std::int64_t>(within(step(static_cast<Wide>(squashed) * gate[3], multiplier(unit * unit / hs)) + zero_of(n, "h"), c.operand(0).dtype()));
          ASSERT_EQ(c.outputs[0].int_at(((time_major ? t * batch + b : b * time + t)) * units + u), out) << seed << " step " << t;
        }
    }
    for (std::size_t i = 0; i < h.size(); ++i) {
      ASSERT_EQ(c.outputs[1].int_at(static_cast<std::int64_t>(i)), h[i]) << seed;
      ASSERT_EQ(c.outputs[2].int_at(static_cast<std::int64_t>(i)), cell[i]) << seed;
    }
  }
}

// Scales that the arithmetic does not take are refused when the graph is typed, by node.
TEST(TfliteForms, ImpossibleScalesAreRefused) {
  const auto refused = [](std::map<std::string, Attribute> change, std::string_view part, std::string_view op, DType t = DType::i8) {
    Graph g;
    const ValueId x = g.add_input("x", t, {Dim(1), Dim(4), Dim(4), Dim(2)});
    std::vector<ValueId> in{x};
    std::map<std::string, Attribute> a{{"x_scale", 0.5}, {"y_scale", 0.5}};
    if (op == "Conv2D") {
      a["w_scale"] = std::vector<double>{0.5};
      in.push_back(g.add_constant("w", Tensor(DType::i8, {3, 2, 2, 2})));
    }
    if (op == "Add") a = {{"a_scale", 0.5}, {"b_scale", 0.5}, {"y_scale", 0.5}}, in.push_back(x);
    for (auto& [k, v] : change) a[k] = v;
    try {
      g.outputs = {g.add_node(std::string(op), in, a, "bad", "tflite")};
      infer_shapes(g);
      ADD_FAILURE() << "accepted: " << part;
    } catch (const Error& e) {
      EXPECT_EQ(e.code(), Exit::bad_input) << e.full();
      EXPECT_NE(e.full().find("bad"), std::string::npos) << e.full();
      EXPECT_NE(e.full().find(part), std::string::npos) << e.full();
    }
  };
  using Ints = std::vector<std::int64_t>;
  refused({{"x_scale", -1.0}}, "x_scale", "Conv2D");
  refused({{"x_scale", std::nan("")}}, "x_scale", "Conv2D");
  refused({{"y_zero", std::int64_t{200}}}, "y_zero", "Conv2D");
  refused({{"w_scale", std::vector<double>{1, 2}}}, "scales of weights", "Conv2D");
  refused({{"w_scale", std::vector<double>{0}}}, "w_scale", "Conv2D");
  refused({{"y_scale", 1e-20}}, "2^", "Conv2D");
  refused({{"strides", Ints{0, 1}}}, "strides", "Conv2D");
  refused({{"dilations", Ints{9, 1}}}, "does not fit", "Conv2D");
  refused({{"padding", std::string("HALF")}}, "HALF", "Conv2D");
  refused({{"activation", std::string("GELU")}}, "GELU", "Conv2D");
  refused({{"accumulator", std::int64_t{64}}}, "64 bits", "Conv2D");
  refused({{"x_zero", std::int64_t{3}}, {"accumulator", std::int64_t{64}}}, "symmetric", "Conv2D", DType::i16);
  refused({{"y_scale", 1e-9}}, "too far apart", "Add");
  refused({{"y_scale", 0.25}}, "scale", "Logistic");
  refused({{"y_scale", 0.25}}, "scale", "Tanh", DType::i16);
  refused({{"y_scale", 0.5}}, "scale", "Softmax");
  refused({{"y_scale", 0.25}}, "other scales", "Relu6");
  refused({}, "kernel_shape", "MaxPool2D");
}

}  // namespace
}  // namespace tandem::ir::tflite
