// The cast: the one place where a real number is rounded (docs/semantics.md, "Rounding happens at
// quantisers, and only there").
//
// A cast turns an exact real x into a code k of an integer grid [kmin, kmax]; the value it stands for
// is S * (k - Z). It is *defined* by its steps t_k, the x from which the code is at least k: engines
// compare with steps or with a requantiser proven equal to them; no division is ever part of the meaning.
#pragma once
#include <cstdint>
#include <string_view>

#include "tandem/numerics/rational.h"

namespace tandem {

enum class Rounding {
  half_even, half_up, half_down, half_away, half_zero,  // nearest; ties to even / +inf / -inf / away from 0 / to 0
  floor, ceil, to_zero, away,                           // directed
};
std::string_view to_string(Rounding r);
// Our names in lower case, QONNX's in upper case: ROUND, HALF_EVEN, CEIL, FLOOR, UP, DOWN, HALF_UP, HALF_DOWN,
// ROUND_TO_ZERO. Case matters: "half_up" sends ties to +inf, QONNX's "HALF_UP" away from zero (half_away), and
// QONNX itself ignores case, so a reader of QONNX passes the upper-cased word. Throws Error(bad_input).
Rounding parse_rounding(std::string_view s);

// On integer grids: to the nearest end; to the nearest end of the levels -(kmax - Z) .. kmax - Z (a lower code
// is unused); to the code of zero; modulo the number of codes. to_inf and to_nan need a floating element.
enum class Overflow { saturate, saturate_symmetric, saturate_zero, wrap, to_inf, to_nan };

struct Cast {
  Rational scale = 1;              // S > 0
  Integer zero = 0;                // Z
  std::int64_t kmin = 0, kmax = 0; // code range, inclusive
  Rounding rounding = Rounding::half_even;
  // Where Z is added: after rounding (QuantizeLinear, TFLite: ties judged on k - Z) or before it
  // (QONNX: x/S + Z is rounded: ties judged on k).
  bool zero_after = false;
  Overflow overflow = Overflow::saturate;
  // 1-bit signed: codes {0, 1} stand for S * {-1, +1}; x >= 0 gives +1. kmin = 0, kmax = 1, Z = 0.
  bool bipolar = false;

  // The integer n for which the value is S * n: k - Z, or -1/+1 for bipolar.
  std::int64_t level(std::int64_t k) const { return bipolar ? 2 * k - 1 : k - zero.get_si(); }
  std::int64_t levels() const { return kmax - kmin + 1; }
};

// The code of x. Literal: x/S, Z, rounding, overflow, in that order of the definition.
// Throws Error(bad_input) when S <= 0, the code range is empty, or a bipolar cast has Z != 0.
std::int64_t cast_code(const Cast& c, const Rational& x);
// The value S * (code - Z).
Rational cast_value(const Cast& c, const Rational& x);

// The least code that occurs: kmin, or the mirror of kmax about Z when saturation is symmetric.
std::int64_t lowest_code(const Cast& c);

// The step into code k (lowest_code < k <= kmax): code >= k iff x >= t (inclusive) or x > t (not inclusive).
// Only for saturating casts (wrap and saturate_zero are not monotone).
struct CastStep {
  Rational t;
  bool inclusive;
};
CastStep step_of(const Cast& c, std::int64_t k);

// q rounded to an integer; parity and sign in the tie rules are those of q's neighbours and of q. (Where Z
// is added before or after rounding decides what q is: x/S + Z or x/S.)
Integer round_to_integer(const Rational& q, Rounding r);

}  // namespace tandem
