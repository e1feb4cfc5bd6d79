#include <array>
#include <bit>
#include <cmath>

#include "tandem/ir/ops/tflite.h"

namespace tandem::ir::tflite {
namespace {

constexpr std::int32_t kMost = std::numeric_limits<std::int32_t>::max();
std::int32_t sum(std::int32_t a, std::int32_t b) { return wrapped(static_cast<std::int64_t>(a) + b); }
std::int32_t difference(std::int32_t a, std::int32_t b) { return wrapped(static_cast<std::int64_t>(a) - b); }

// exp(a) for -1/4 <= a < 0: four terms of the series around -1/8.
std::int32_t exp_quarter(std::int32_t a) {
  constexpr std::int32_t kExpEighth = 1895147668, kThird = 715827883;  // exp(-1/8), 1/3
  const std::int32_t x = sum(a, 1 << 28), x2 = high_product(x, x), x3 = high_product(x2, x), x4 = high_product(x2, x2);
  const std::int32_t high = times_power(sum(high_product(sum(times_power(x4, -2), x3), kThird), x2), -1);
  return sum(kExpEighth, high_product(kExpEighth, sum(x, high)));
}
// 1 / ((1 + a) / 2), two integer bits.
std::int32_t newton(std::int32_t a) {
  const std::int64_t one = static_cast<std::int64_t>(a) + kMost;
  const auto half = static_cast<std::int32_t>((one + (one >= 0 ? 1 : -1)) / 2);
  std::int32_t x = sum(1515870810, high_product(half, -1010580540));  // 48/17, -32/17
  for (int i = 0; i < 3; ++i) x = sum(x, times_power(high_product(x, difference(1 << 29, high_product(half, x))), 2));
  return x;
}
std::int32_t table_input(std::int32_t x, std::int32_t multiplier, int shift) {
  if (multiplier == 0) multiplier = 3 << shift, shift = 0;  // scales that are powers of two
  const std::int64_t half = shift > 0 ? std::int64_t{1} << (shift - 1) : 0;
  return wrapped((static_cast<std::int64_t>(x) * multiplier + half) >> shift);
}

}  // namespace

Multiplier multiplier(double factor) {
  if (factor == 0) return {};
  if (!std::isfinite(factor)) return {0, 1024};  // beyond every form
  Multiplier f;
  auto q = static_cast<std::int64_t>(std::round(std::frexp(factor, &f.shift) * static_cast<double>(std::int64_t{1} << 31)));
  if (q == std::int64_t{1} << 31) q /= 2, ++f.shift;
  if (f.shift < -31) return {};
  f.m = static_cast<std::int32_t>(q);
  return f;
}

std::int32_t times_power(std::int32_t x, int k) {
  if (k <= 0) return rounding_shift(x, -k);
  const std::int64_t v = static_cast<std::int64_t>(x) * (std::int64_t{1} << k);
  return static_cast<std::int32_t>(std::clamp<std::int64_t>(v, std::numeric_limits<std::int32_t>::min(), kMost));
}

std::int32_t exp_negative(std::int32_t a, int integer_bits) {
  if (a == 0) return kMost;
  const int fraction = 31 - integer_bits;
  const std::int32_t quarter = 1 << (fraction - 2), part = (a & (quarter - 1)) - quarter, rest = difference(part, a);
  std::int32_t y = exp_quarter(times_power(part, integer_bits));
  constexpr std::int32_t kExp[] = {1672461947, 1302514674, 790015084, 290630308, 39332535, 720401, 242};  // exp(-2^k), k = -2 ... 4
  for (int k = -2; k <= 4; ++k)
    if (integer_bits > k && (rest >> (fraction + k)) & 1) y = high_product(y, kExp[k + 2]);
  return y;
}
std::int32_t one_over_one_plus(std::int32_t a) { return times_power(newton(a), 1); }
std::int32_t one_minus_over_one_plus(std::int32_t a) { return times_power(difference(newton(a), 1 << 29), 2); }
std::int32_t logistic(std::int32_t a, int integer_bits) {
  if (a == 0) return 1 << 30;
  const std::int32_t y = one_over_one_plus(exp_negative(a > 0 ? -a : a, integer_bits));
  return a > 0 ? y : difference(kMost, y);
}
std::int32_t hyperbolic_tangent(std::int32_t a, int integer_bits) {
  if (a == 0) return 0;
  const std::int32_t y = one_minus_over_one_plus(exp_negative(a > 0 ? -a : a, integer_bits + 1));  // of 2|a|
  return a > 0 ? y : -y;
}

std::int32_t sigmoid_table(int i) {
  static const auto table = [] {
    const auto f = [](double at) { return 65536 / (1 + std::exp(-at / 24)); };
    std::array<std::int32_t, 256> t{};
    for (int k = 0; k < 255; ++k) t[static_cast<std::size_t>(k)] = static_cast<std::int32_t>(std::floor(f(k) + (f(k + 0.5) - (f(k) + f(k + 1)) / 2) / 2 + 0.5));
    t[255] = 65535;
    return t;
  }();
  return table[static_cast<std::size_t>(i)];
}
std::int32_t logistic16(std::int32_t x, std::int32_t multiplier, int shift) {
  const std::int32_t v = table_input(x, multiplier, shift);
  const std::int64_t a = std::abs(static_cast<std::int64_t>(v)), h = a >> 9;
  std::int64_t y = std::int64_t{0x7FFF} << 10;
  if (h < 255) y = (static_cast<std::int64_t>(sigmoid_table(static_cast<int>(h))) << 9) + (a & 511) * (sigmoid_table(static_cast<int>(h) + 1) - sigmoid_table(static_cast<int>(h)));
  y = v >= 0 ? y + 512 : (1 << 25) - y + 511;
  return static_cast<std::int32_t>(y >> 10);
}
std::int32_t tanh16(std::int32_t x, std::int32_t multiplier, int shift) {
  const std::int32_t v = table_input(x, multiplier, shift);
  const std::int64_t a = std::abs(static_cast<std::int64_t>(v)), h = a >> 8;
  std::int64_t y = std::int64_t{0xFFFF} << 8;
  if (h < 255) y = (static_cast<std::int64_t>(sigmoid_table(static_cast<int>(h))) << 8) + (a & 255) * (sigmoid_table(static_cast<int>(h) + 1) - sigmoid_table(static_cast<int>(h)));
  y = v >= 0 ? y - (1 << 23) + 128 : (1 << 23) - y + 127;
  return static_cast<std::int32_t>(y >> 8);
}
Reciprocal reciprocal(std::int32_t x, int integer_bits) {
  const int zeros = std::countl_zero(static_cast<std::uint32_t>(x));
  return {one_over_one_plus(static_cast<std::int32_t>((static_cast<std::uint32_t>(x) << zeros) - (1u << 31))), integer_bits - zeros};
}

SumScales sum_scales(float a, float b, float y, bool wide) {
  const int left = wide ? 15 : 20;
  const double twice = 2 * static_cast<double>(std::max(a, b));
  return {left, multiplier(a / twice), multiplier(b / twice), multiplier(twice / ((1 << left) * static_cast<double>(y)))};
}
Multiplier mean_multiplier(float x_scale, float y_scale, std::int64_t n) {
  Multiplier f = multiplier(static_cast<double>(x_scale) / static_cast<double>(y_scale));
  if (n <= 0) return f;
  const int shift = std::min({63 - std::countl_zero(static_cast<std::uint64_t>(n)), 32, 31 + f.shift});
  f.m = static_cast<std::int32_t>((static_cast<std::int64_t>(f.m) * (std::int64_t{1} << shift)) / n);
  f.shift -= shift;
  return f;
}

Axis window_axis(bool same, std::int64_t n, std::int64_t kernel, std::int64_t stride, std::int64_t dilation) {
  const std::int64_t span = (kernel - 1) * dilation + 1;
  Axis a;
  a.out = same ? (n + stride - 1) / stride : (n + stride - span) / stride;
  a.before = std::max<std::int64_t>((a.out - 1) * stride + span - n, 0) / 2;
  return a;
}

Swish swish_scales(float x_scale, float y_scale) {
  const auto upper = [](std::int32_t m) { return m < 0x7FFF0000 ? (m + (1 << 15)) >> 16 : 0x7FFF; };  // its upper 15 bits, rounded
  const float fine = (1.0f / 128.0f) * x_scale;
  const Multiplier y = multiplier(static_cast<double>(fine / y_scale)), gate = multiplier(static_cast<double>(fine / (3.0f / 32768.0f)));
  return {upper(y.m), upper(gate.m), y.shift, gate.shift};
}
std::int32_t hard_swish(std::int32_t d, const Swish& s) {
  const auto held = [](std::int64_t v) { return static_cast<std::int32_t>(std::clamp<std::int64_t>(v, -32768, 32767)); };
  const auto product = [](std::int32_t a, std::int32_t b) { return (a * b + (1 << 14)) >> 15; };
  const std::int32_t fine = d * 128;
  std::int32_t gate = product(s.gate_shift > 0 ? held(static_cast<std::int64_t>(fine) * (std::int64_t{1} << (s.gate_shift - 1))) : fine, s.gate);
  gate = s.gate_shift > 0 ? held(std::int64_t{gate} * 2) : rounding_shift(gate, -s.gate_shift);
  gate = (gate + 32768) >> 1;                                    // from [-1, 1] to [0, 1]
  return rounding_shift(gate * product(fine, s.out) / 32768, -s.out_shift);  // towards zero, then to the nearest
}

}  // namespace tandem::ir::tflite
