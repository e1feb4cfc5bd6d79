#include "tandem/exec/levels.h"

#include <algorithm>

#include "tandem/exec/kernels.h"

namespace tandem::exec {
namespace {

// Between 0 and `size`, and no smaller for a larger n: every step of it rounds monotonically.
inline __attribute__((always_inline)) std::int32_t guess(std::int32_t n, float first, float slope, float size) {
  float g = (static_cast<float>(n) - first) * slope + 1.f;
  g = g < 0.f ? 0.f : g;
  return static_cast<std::int32_t>(g > size ? size : g);
}
// t[0] lies below everything, t[size + 1] above: level k holds where t[k] <= n < t[k + 1].
TANDEM_WIDEST void by_guess(const std::int32_t* x, std::int32_t* y, std::int64_t n, const std::int32_t* t, const std::int32_t* levels, float first, float slope, float size, std::int32_t sign) {
  for (std::int64_t i = 0; i < n; ++i) {
    const std::int32_t v = x[i] * sign, k = guess(v, first, slope, size);
    y[i] = levels[k + (t[k + 1] <= v) - (t[k] > v)];
  }
}

}  // namespace

bool LevelTable::fits(std::span<const std::int64_t> thresholds, std::span<const std::int64_t> levels) {
  const auto narrow = [](std::int64_t v) { return v > INT32_MIN && v < INT32_MAX; };
  return thresholds.size() < (1u << 20) && std::all_of(thresholds.begin(), thresholds.end(), narrow) && std::all_of(levels.begin(), levels.end(), narrow);
}

LevelTable::LevelTable(std::span<const std::int64_t> thresholds, std::span<const std::int64_t> levels, bool flip) : levels_(levels.begin(), levels.end()), flip_(flip) {
  t_.push_back(INT32_MIN);
  t_.insert(t_.end(), thresholds.begin(), thresholds.end());
  t_.push_back(INT32_MAX);
  levels_.push_back(levels_.back());  // for n = INT32_MAX, which is not below that
  const auto size = static_cast<std::int32_t>(thresholds.size());
  if (size == 0) return;
  first_ = static_cast<float>(thresholds.front());
  const double span = static_cast<double>(thresholds.back()) - static_cast<double>(thresholds.front());
  slope_ = span > 0 ? static_cast<float>(static_cast<double>(size - 1) / span) : 0.f;
  // The guess never falls as n grows: right within one at both ends of each level, it is so between them.
  guessed_ = true;
  for (std::int32_t k = 0; k <= size && guessed_; ++k) {
    const std::int64_t from = k == 0 ? -INT32_MAX : t_[static_cast<std::size_t>(k)], to = k == size ? INT32_MAX : std::int64_t{t_[static_cast<std::size_t>(k) + 1]} - 1;
    if (from > to) continue;  // of several equal thresholds
    for (const std::int64_t n : {from, to}) {
      const std::int32_t g = guess(static_cast<std::int32_t>(n), first_, slope_, static_cast<float>(size));
      guessed_ &= g >= k - 1 && g <= k + 1;
    }
  }
}

void LevelTable::run(const std::int32_t* x, std::int32_t* y, std::int64_t n) const {
  if (guessed_) return by_guess(x, y, n, t_.data(), levels_.data(), first_, slope_, static_cast<float>(levels_.size() - 2), flip_ ? -1 : 1);
  for (std::int64_t i = 0; i < n; ++i) {
    const std::int32_t v = flip_ ? -x[i] : x[i];
    y[i] = levels_[static_cast<std::size_t>(std::upper_bound(t_.begin() + 1, t_.end() - 1, v) - t_.begin() - 1)];
  }
}

}  // namespace tandem::exec
