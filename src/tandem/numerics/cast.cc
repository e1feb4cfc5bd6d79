#include "tandem/numerics/cast.h"

#include <array>
#include <utility>

namespace tandem {

namespace {
constexpr std::array<std::pair<std::string_view, Rounding>, 9> names{{
    {"half_even", Rounding::half_even}, {"half_up", Rounding::half_up}, {"half_down", Rounding::half_down},
    {"half_away", Rounding::half_away}, {"half_zero", Rounding::half_zero}, {"floor", Rounding::floor},
    {"ceil", Rounding::ceil}, {"to_zero", Rounding::to_zero}, {"away", Rounding::away},
}};
// QONNX's words; UP, DOWN, HALF_UP and HALF_DOWN are symmetric about zero there.
constexpr std::array<std::pair<std::string_view, Rounding>, 12> aliases{{
    {"ROUND", Rounding::half_even}, {"HALF_EVEN", Rounding::half_even}, {"CEIL", Rounding::ceil},
    {"FLOOR", Rounding::floor}, {"UP", Rounding::away}, {"DOWN", Rounding::to_zero},
    {"ROUND_TO_ZERO", Rounding::to_zero}, {"HALF_UP", Rounding::half_away}, {"HALF_DOWN", Rounding::half_zero},
    {"rne", Rounding::half_even}, {"trn", Rounding::floor}, {"toward_zero", Rounding::to_zero},
}};

void require_sane(const Cast& c) {
  if (sgn(c.scale) <= 0) throw bad_input("a quantiser has scale {}", c.scale.get_str()).expected("a scale above zero");
  if (c.kmin > c.kmax) throw bad_input("a quantiser has the empty code range [{}, {}]", c.kmin, c.kmax);
  if (c.bipolar && (sgn(c.zero) != 0 || c.kmin != 0 || c.kmax != 1))
    throw bad_input("a 1-bit signed quantiser has zero point {} and codes [{}, {}]", c.zero.get_str(), c.kmin, c.kmax)
        .expected("zero point 0 and codes [0, 1]");
}
}  // namespace

std::string_view to_string(Rounding r) {
  for (const auto& [name, v] : names)
    if (v == r) return name;
  bug(__FILE__, __LINE__, "unknown rounding mode");
}

Rounding parse_rounding(std::string_view s) {
  for (const auto& [name, v] : names)
    if (name == s) return v;
  for (const auto& [name, v] : aliases)
    if (name == s) return v;
  throw bad_input("'{}' is not a rounding mode", printable(s))
      .expected("half_even, half_up, half_down, half_away, half_zero, floor, ceil, to_zero, away, or QONNX's "
                "ROUND, HALF_EVEN, CEIL, FLOOR, UP, DOWN, HALF_UP, HALF_DOWN");
}

Integer round_to_integer(const Rational& q, Rounding r) {
  const Integer lo = floor_of(q);
  if (is_integer(q)) return lo;
  const Integer hi = lo + 1;
  const bool negative = sgn(q) < 0;
  switch (r) {
    case Rounding::floor: return lo;
    case Rounding::ceil: return hi;
    case Rounding::to_zero: return negative ? hi : lo;
    case Rounding::away: return negative ? lo : hi;
    default: break;
  }
  const int c = cmp(Rational(q - lo), Rational(1, 2));
  if (c != 0) return c < 0 ? lo : hi;
  switch (r) {
    case Rounding::half_even: return mpz_even_p(lo.get_mpz_t()) ? lo : hi;
    case Rounding::half_up: return hi;
    case Rounding::half_down: return lo;
    case Rounding::half_away: return negative ? lo : hi;
    case Rounding::half_zero: return negative ? hi : lo;
    default: break;
  }
  bug(__FILE__, __LINE__, "unknown rounding mode");
}

std::int64_t lowest_code(const Cast& c) {
  if (c.bipolar || c.overflow != Overflow::saturate_symmetric || c.zero > c.kmax) return c.kmin;
  const Integer mirrored = 2 * c.zero - c.kmax;  // level -(kmax - Z)
  return mirrored > c.kmin ? mirrored.get_si() : c.kmin;
}

std::int64_t cast_code(const Cast& c, const Rational& x) {
  require_sane(c);
  if (c.bipolar) return sgn(x) >= 0 ? 1 : 0;
  const Rational y = x / c.scale;
  const Integer n = c.zero_after ? Integer(round_to_integer(y, c.rounding) + c.zero)
                                 : round_to_integer(y + Rational(c.zero), c.rounding);
  const Integer lo = lowest_code(c), hi = c.kmax;
  if (n >= lo && n <= hi) return n.get_si();
  switch (c.overflow) {
    case Overflow::saturate:
    case Overflow::saturate_symmetric: return (n < lo ? lo : hi).get_si();
    case Overflow::saturate_zero: return (c.zero < lo ? lo : c.zero > hi ? hi : c.zero).get_si();
    case Overflow::wrap: {
      const Integer range = hi - lo + 1, d = n - lo;
      Integer r;
      mpz_fdiv_r(r.get_mpz_t(), d.get_mpz_t(), range.get_mpz_t());
      r += lo;
      return r.get_si();
    }
    case Overflow::to_inf:
    case Overflow::to_nan: break;
  }
  throw bad_input("an integer grid has no infinity and no NaN to overflow to")
      .expected("saturate, saturate_symmetric, saturate_zero or wrap");
}

Rational cast_value(const Cast& c, const Rational& x) {
  const std::int64_t k = cast_code(c, x);
  const Integer level = c.bipolar ? Integer(2 * k - 1) : Integer(Integer(k) - c.zero);
  return c.scale * level;
}

CastStep step_of(const Cast& c, std::int64_t k) {
  require_sane(c);
  TANDEM_CHECK(k > lowest_code(c) && k <= c.kmax, "no step into code {} of a cast to [{}, {}]", k, lowest_code(c), c.kmax);
  if (c.bipolar) return {0, true};
  TANDEM_CHECK(c.overflow == Overflow::saturate || c.overflow == Overflow::saturate_symmetric,
               "a cast that does not saturate has no steps");
  const Integer level = Integer(k) - c.zero;
  const Integer judged = c.zero_after ? level : Integer(k);  // whose parity and sign decide
  const auto half = [&](bool up) { return CastStep{c.scale * (level - Rational(1, 2)), up}; };
  const auto floor = [&] { return CastStep{c.scale * level, true}; };
  const auto ceil = [&] { return CastStep{c.scale * (level - 1), false}; };
  switch (c.rounding) {
    case Rounding::half_even: return half(mpz_even_p(judged.get_mpz_t()));
    case Rounding::half_up: return half(true);
    case Rounding::half_down: return half(false);
    case Rounding::half_away: return half(judged > 0);
    case Rounding::half_zero: return half(judged <= 0);
    case Rounding::floor: return floor();
    case Rounding::ceil: return ceil();
    case Rounding::to_zero: return judged > 0 ? floor() : ceil();
    case Rounding::away: return judged > 0 ? ceil() : floor();
  }
  bug(__FILE__, __LINE__, "unknown rounding mode");
}

}  // namespace tandem
