#include "tandem/ir/requant.h"

#include <algorithm>

namespace tandem::ir {
namespace {


// One form: steps k<<s plus e_k, e_k = 0 (plain) or the tie bit.
std::optional<MulShift> search(const Thresholds& t, std::int64_t lo, std::int64_t hi, int max_bits, bool half_even, int parity) {
  std::int64_t levels = static_cast<std::int64_t>(t.t.size()) + 1;
  auto e = [&](std::int64_t k) -> Int128 { return half_even ? (k + parity) & 1 : 0; };
  auto T = [&](std::int64_t k) { return t.t[static_cast<std::size_t>(k - 1)]; };
  // Steps that bind: reached inside the range (lower bound on r), missed just before (upper bound).
  auto reached = [&](std::int64_t k) { return T(k) <= hi; };
  auto missed = [&](std::int64_t k) { return T(k) > lo; };
  for (int s = 0; s <= max_bits + 16 && s < 46; ++s) {
    // From every pair of bounds on r: m*(T_k - T_j + 1) >= K_k - K_j + 1 (j < k) and
    // m*(T_k - 1 - T_j) <= K_k - K_j - 1 (j < k).
    Int128 m_lo = 0, m_hi = (Int128(1) << max_bits) - 1;
    for (std::int64_t k = 1; k < levels && m_lo <= m_hi; ++k)
      for (std::int64_t j = 1; j <= k; ++j) {
        Int128 step = (Int128(k - j) << s) + e(k) - e(j);
        if (reached(k) && missed(j)) {
          Int128 d = T(k) - T(j) + 1, need = step + 1;  // r >= K_k - m T_k and r <= K_j - m (T_j - 1) - 1
          if (d > 0) {
            if (m_lo * d < need) m_lo = (need + d - 1) / d;  // a product is far cheaper than a division
          } else if (need > 0) {
            return std::nullopt;
          }
        }
        if (j < k && missed(k) && reached(j)) {
          Int128 d = T(k) - 1 - T(j);
          if (d > 0) {
            if (step - 1 < 0) m_hi = -1;
            else if (m_hi * d > step - 1) m_hi = (step - 1) / d;
          } else if (d == 0) {
            if (step - 1 < 0) m_hi = -1;
          } else if (m_lo * -d < -(step - 1)) {
            m_lo = (-(step - 1) + (-d) - 1) / -d;
          }
        }
      }
    if (m_lo > m_hi) continue;
    for (Int128 m = m_lo; m <= std::min(m_hi, m_lo + 1); ++m) {
      Int128 r_lo = -(Int128(1) << 100), r_hi = Int128(1) << 100;
      for (std::int64_t k = 1; k < levels; ++k) {
        Int128 K = (Int128(k) << s) + e(k);
        if (reached(k)) r_lo = std::max(r_lo, K - m * T(k));
        if (missed(k)) r_hi = std::min(r_hi, K - m * (T(k) - 1) - 1);
      }
      if (r_lo > r_hi) continue;
      Int128 r = r_lo <= 0 && r_hi >= 0 ? Int128(0) : r_lo > 0 ? r_lo : r_hi;  // the one nearest to 0
      Int128 top = std::max(m * (lo < 0 ? -Int128(lo) : lo), m * (hi < 0 ? -Int128(hi) : hi)) + (r < 0 ? -r : r);
      if (top >= (Int128(1) << 62)) continue;
      return MulShift{static_cast<std::int64_t>(m), static_cast<std::int64_t>(r), s, half_even, parity};
    }
  }
  return std::nullopt;
}

}  // namespace

std::int64_t MulShift::level(std::int64_t n, std::int64_t levels) const {
  std::int64_t v = m * n + r;
  std::int64_t i = half_even ? (v - (((v >> shift) + parity) & 1)) >> shift : v >> shift;
  return std::clamp<std::int64_t>(i, 0, levels - 1);
}

std::optional<MulShift> find_mul_shift(const Thresholds& t, Int128 lo, Int128 hi, int max_bits) {
  if (lo < -(Int128(1) << 40) || hi > (Int128(1) << 40) || t.t.size() > 4096) return std::nullopt;
  std::int64_t a = static_cast<std::int64_t>(lo), b = static_cast<std::int64_t>(hi);
  if (auto f = search(t, a, b, max_bits, false, 0)) return f;
  for (int parity : {0, 1})
    if (auto f = search(t, a, b, max_bits, true, parity)) return f;
  return std::nullopt;
}

}  // namespace tandem::ir
