// Why two lists of integers differ, found by experiments on the elements that do.
#pragma once
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace tandem::proof {

// What is known of the values when a cause is looked for. Values are integers in one order, whole frames.
struct CauseContext {
  int bits = 64;                 // of the format they should have
  bool is_signed = true;
  std::int64_t lo = INT64_MIN, hi = INT64_MAX;  // the range that is proven for them
  // Per element: the input of the quantiser lies on a step or next to it, where a tie decides; empty: not known.
  std::vector<bool> on_step;
};
enum class CauseKind { none, rounding, saturation, order, range, width, missing, other };
std::string_view name_of(CauseKind k);
struct Cause {
  CauseKind kind = CauseKind::none;
  std::string evidence;          // what was tried and held: "all 12 differing elements stop at 127, where up to 310 is expected"
};
// By experiments on the elements that differ: is the actual a permutation of the expected within each frame, or shifted; does it
// stop at a bound; does it agree modulo 2^k everywhere; does it differ by one where a tie decides; does it leave its range.
// `actual` may be shorter or longer.
Cause find_cause(std::span<const std::int64_t> expected, std::span<const std::int64_t> actual, std::int64_t per_frame, const CauseContext& context = {});

}  // namespace tandem::proof
