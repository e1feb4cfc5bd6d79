// The integer arithmetic of TensorFlow Lite's reference kernels: what the forms of domain "tflite" are made of.
//
// A real factor f is held as m * 2^(shift - 31) with m in [2^30, 2^31). Products are rounded twice: to the high half (ties
// up), then by the shift (ties away from zero). With 64-bit accumulators m keeps 15 bits and the product is rounded once,
// ties up. Sums wrap at their width.
// Source: TensorFlow Lite Micro, reference kernels; the fixed point of gemmlowp.
#pragma once
#include <algorithm>
#include <cstdint>
#include <limits>

#include "tandem/ir/op.h"

namespace tandem::ir::tflite {

struct Multiplier {
  std::int32_t m = 0;
  int shift = 0;
};
// The nearest multiplier of a factor (ties away from zero); 0 below 2^-32. A shift above 30 is beyond every form.
Multiplier multiplier(double factor);

inline std::int32_t wrapped(std::int64_t x) { return static_cast<std::int32_t>(static_cast<std::uint32_t>(static_cast<std::uint64_t>(x))); }
// a * b / 2^31 to the nearest, ties up; the one product that does not fit saturates.
inline std::int32_t high_product(std::int32_t a, std::int32_t b) {
  if (a == b && a == std::numeric_limits<std::int32_t>::min()) return std::numeric_limits<std::int32_t>::max();
  const std::int64_t p = static_cast<std::int64_t>(a) * b;
  return static_cast<std::int32_t>((p + (std::int64_t{1} << 30)) >> 31);
}
// x / 2^k to the nearest, ties away from zero; 0 <= k <= 31.
inline std::int32_t rounding_shift(std::int32_t x, int k) {
  const std::int64_t mask = (std::int64_t{1} << k) - 1, rest = x & mask, threshold = (mask >> 1) + (x < 0 ? 1 : 0);
  return static_cast<std::int32_t>((static_cast<std::int64_t>(x) >> k) + (rest > threshold ? 1 : 0));
}
// x * factor: doubled left first where the shift is positive, else shifted right after the product.
inline std::int32_t scaled(std::int32_t x, Multiplier f) {
  const int left = f.shift > 0 ? f.shift : 0, right = f.shift > 0 ? 0 : -f.shift;
  return rounding_shift(high_product(wrapped(static_cast<std::int64_t>(x) * (std::int64_t{1} << left)), f.m), right);
}
// The same for 64-bit accumulators: floor(x * m' / 2^(15 - shift) + 1/2), m' = m rounded to its upper 15 bits.
inline std::int32_t scaled_wide(std::int64_t x, Multiplier f) {
  const std::int64_t m = f.m < 0x7FFF0000 ? (static_cast<std::int64_t>(f.m) + (1 << 15)) >> 16 : 0x7FFF;
  const int right = 15 - f.shift;
  const __int128 p = static_cast<__int128>(x) * m + (static_cast<__int128>(1) << (right - 1));
  return wrapped(static_cast<std::int64_t>(p >> right));
}

// Fixed point with n integer bits and a sign in 32 bits; raw values.
// x * 2^k: rounded (ties away) for k < 0, saturated for k > 0.
std::int32_t times_power(std::int32_t x, int k);
// exp(a) for a <= 0 with n integer bits (n <= 5), the result with 0.
std::int32_t exp_negative(std::int32_t a, int integer_bits);
// 1 / (1 + a) and (1 - a) / (1 + a) for 0 <= a < 1, 0 integer bits: three steps of Newton from 48/17 - 32/17 d.
std::int32_t one_over_one_plus(std::int32_t a);
std::int32_t one_minus_over_one_plus(std::int32_t a);
std::int32_t logistic(std::int32_t a, int integer_bits);
std::int32_t hyperbolic_tangent(std::int32_t a, int integer_bits);
// The 256 values of sigmoid(i / 24) * 2^16, each raised by half the error of interpolation behind it, and the 16-bit functions
// that interpolate between them. The input is (x * multiplier + half) >> shift in units of 1 / (3 * 4096).
std::int32_t sigmoid_table(int i);
std::int32_t logistic16(std::int32_t x, std::int32_t multiplier, int shift);
std::int32_t tanh16(std::int32_t x, std::int32_t multiplier, int shift);
// The sum's reciprocal of softmax: 1/x of a number with `integer_bits`, as raw value with 0 integer bits and a number of bits.
struct Reciprocal {
  std::int32_t raw;
  int bits_over_unit;
};
Reciprocal reciprocal(std::int32_t x, int integer_bits);
// sum / n to the nearest, ties away from zero.
inline std::int64_t rounded_mean(std::int64_t sum, std::int64_t n) { return (sum > 0 ? sum + n / 2 : sum - n / 2) / n; }

// Add and Sub: both operands to the grid of twice the larger scale, left-shifted by `left`, then to the output's.
struct SumScales {
  int left;
  Multiplier a, b, y;
};
SumScales sum_scales(float a, float b, float y, bool wide);  // wide: 16 bits
inline std::int32_t scaled_sum(std::int32_t a, std::int32_t b, const SumScales& s, bool minus) {
  const std::int64_t one = std::int64_t{1} << s.left;
  const std::int32_t p = rounding_shift(high_product(wrapped(a * one), s.a.m), -s.a.shift), q = rounding_shift(high_product(wrapped(b * one), s.b.m), -s.b.shift);
  return rounding_shift(high_product(wrapped(minus ? static_cast<std::int64_t>(p) - q : static_cast<std::int64_t>(p) + q), s.y.m), -s.y.shift);
}
// The factor of a mean over n elements.
Multiplier mean_multiplier(float x_scale, float y_scale, std::int64_t n);

// Hard swish of d = x - x_zero in 16 bits: factors of 15 bits and their powers of two, of the value and of its ramp.
struct Swish {
  std::int32_t out, gate;
  int out_shift, gate_shift;
};
Swish swish_scales(float x_scale, float y_scale);
std::int32_t hard_swish(std::int32_t d, const Swish& s);  // without y_zero; |d| <= 255, shifts from -15 on, out_shift <= 0, gate_shift <= 16

// Padding of a window axis: SAME keeps ceil(n / stride) positions, VALID only whole windows.
struct Axis {
  std::int64_t out = 0, before = 0;
};
Axis window_axis(bool same, std::int64_t n, std::int64_t kernel, std::int64_t stride, std::int64_t dilation);

}  // namespace tandem::ir::tflite
