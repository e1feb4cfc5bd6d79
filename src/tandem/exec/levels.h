// The level of integers among ascending thresholds: how many of them are at most n. Exact, and fast where they are nearly equally
// spaced, as those of a quantiser are: a line through them guesses the level, two comparisons put the guess right.
#pragma once
#include <cstdint>
#include <span>
#include <vector>

namespace tandem::exec {

class LevelTable {
 public:
  // y = levels[number of thresholds <= n] (flip: <= -n). Everything within 32 bits, |n| too.
  static bool fits(std::span<const std::int64_t> thresholds, std::span<const std::int64_t> levels);
  LevelTable(std::span<const std::int64_t> thresholds, std::span<const std::int64_t> levels, bool flip);
  void run(const std::int32_t* x, std::int32_t* y, std::int64_t n) const;
  bool guessed() const { return guessed_; }  // else by search

 private:
  std::vector<std::int32_t> t_;        // one below all, the thresholds, one above all
  std::vector<std::int32_t> levels_;
  float first_ = 0, slope_ = 0;
  bool flip_ = false, guessed_ = false;
};

}  // namespace tandem::exec
