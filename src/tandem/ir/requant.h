// Requantiser forms: arithmetic with the same steps as a table of thresholds (docs/semantics.md).
#pragma once
#include <optional>

#include "tandem/ir/exact.h"

namespace tandem::ir {

// Level index of integer n (negated first where the table says flip):
//     v = m*n + r;    half_even = false: clamp(v >> shift, 0, levels - 1)
//                     half_even = true:  clamp((v - (((v >> shift) + parity) & 1)) >> shift, 0, levels - 1)
// The second form has real ties that go to even codes; r absorbs offset and half.
struct MulShift {
  std::int64_t m = 0, r = 0;
  int shift = 0;
  bool half_even = false;
  int parity = 0;
  std::int64_t level(std::int64_t n, std::int64_t levels) const;
};

// The form with the narrowest m whose steps equal those of `t` on every n in [lo, hi] (after the flip),
// or nothing when no m of at most `max_bits` has them. Found directly: m / 2^shift must lie in the open
// interval that the differences of the steps give, r in the closed one that remains. O(levels^2).
std::optional<MulShift> find_mul_shift(const Thresholds& t, Int128 lo, Int128 hi, int max_bits = 31);

}  // namespace tandem::ir
