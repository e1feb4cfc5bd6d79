// Functions that loops over them can compute in vectors: without branches, without tables.
#pragma once
#include <bit>
#include <cstdint>

namespace tandem::exec {

// e^x without branches, so that loops over it become vectors. x = n ln 2 + r, |r| <= ln 2 / 2; e^r by its series to r^7, whose rest is below
// 2^-28; 2^n in two factors, so that neither leaves the range of exponents. Within 2 units in the last place.
inline __attribute__((always_inline)) float exp_(float x) {
  float c = x > 89.f ? 89.f : x;
  c = c < -104.f ? -104.f : c;
  const float n = (c * 1.44269504f + 12582912.f) - 12582912.f;
  const float r = (c - n * 0.693145752f) - n * 1.42860682e-6f;  // ln 2 in two parts: the first times n is exact
  float p = 1.98412698e-4f;
  p = p * r + 1.38888889e-3f;
  p = p * r + 8.33333333e-3f;
  p = p * r + 4.16666667e-2f;
  p = p * r + 1.66666667e-1f;
  p = p * r + 0.5f;
  p = (p * r) * r + r;
  const int k = static_cast<int>(n), h = k >> 1;
  const float s = std::bit_cast<float>((h + 127) << 23), t = std::bit_cast<float>((k - h + 127) << 23);
  return (p + 1.f) * s * t;
}
inline __attribute__((always_inline)) float sigmoid_(float x) { return 1.f / (1.f + exp_(-x)); }
// Near 0 the odd series of tanh to x^13, elsewhere 1 - 2 / (e^2|x| + 1).
inline __attribute__((always_inline)) float tanh_(float x) {
  const float a = std::bit_cast<float>(std::bit_cast<std::uint32_t>(x) & 0x7fffffffu), z = x * x;
  float p = 21844.f / 6081075.f;
  p = p * z - 1382.f / 155925.f;
  p = p * z + 62.f / 2835.f;
  p = p * z - 17.f / 315.f;
  p = p * z + 2.f / 15.f;
  p = p * z - 1.f / 3.f;
  const float near = x + x * (z * p), far = 1.f - 2.f / (exp_(2.f * a) + 1.f);
  const float signed_far = std::bit_cast<float>(std::bit_cast<std::uint32_t>(far) | (std::bit_cast<std::uint32_t>(x) & 0x80000000u));
  return a < 0.35f ? near : signed_far;
}

}  // namespace tandem::exec
