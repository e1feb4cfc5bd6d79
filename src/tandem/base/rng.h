// Counter-based random numbers (Philox4x32-10; Salmon et al., SC'11): no hidden state, no order
// dependence. A value is a pure function of (seed, stream name, index).
#pragma once
#include <array>
#include <cstdint>
#include <string_view>
#include <utility>

namespace tandem {

// The block function: ten rounds over a 128-bit counter under a 64-bit key.
std::array<std::uint32_t, 4> philox4x32_10(std::array<std::uint32_t, 4> counter, std::array<std::uint32_t, 2> key);

class Rng {
 public:
  explicit Rng(std::uint64_t seed, std::string_view stream = "");
  // A stream of its own below this one.
  Rng fork(std::string_view name) const;
  Rng fork(std::uint64_t index) const;

  // The i-th block of four words of this stream; does not move the cursor.
  std::array<std::uint32_t, 4> block(std::uint64_t index) const;

  // Sequential use: a cursor over the same stream.
  std::uint32_t u32();
  std::uint64_t u64();
  std::int64_t range(std::int64_t lo, std::int64_t hi);  // inclusive, unbiased
  double uniform();                                      // [0, 1), 53 bits
  double normal();                                       // mean 0, deviation 1 (Box-Muller)
  bool chance(double p) { return uniform() < p; }
  template <class C>
  auto& pick(C& c) { return c[static_cast<std::size_t>(range(0, static_cast<std::int64_t>(c.size()) - 1))]; }
  template <class C>
  void shuffle(C& c) {
    for (std::int64_t i = static_cast<std::int64_t>(c.size()) - 1; i > 0; --i)
      std::swap(c[static_cast<std::size_t>(i)], c[static_cast<std::size_t>(range(0, i))]);
  }

 private:
  std::uint64_t key_;
  std::uint64_t cursor_ = 0;
  std::array<std::uint32_t, 4> buf_{};
  int used_ = 4;
};

}  // namespace tandem
