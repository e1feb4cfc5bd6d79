#include "tandem/numerics/rational.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace tandem {

Rational exact(double v) {
  if (!std::isfinite(v)) throw bad_input("{} is not a real number", v).expected("a finite number");
  return Rational(v);
}

Rational pow2(int e) {
  Rational r = 1;
  if (e >= 0) mpq_mul_2exp(r.get_mpq_t(), r.get_mpq_t(), static_cast<mp_bitcnt_t>(e));
  else mpq_div_2exp(r.get_mpq_t(), r.get_mpq_t(), static_cast<mp_bitcnt_t>(-static_cast<std::int64_t>(e)));
  return r;
}

Integer floor_of(const Rational& q) {
  Integer z;
  mpz_fdiv_q(z.get_mpz_t(), q.get_num_mpz_t(), q.get_den_mpz_t());
  return z;
}

Integer ceil_of(const Rational& q) {
  Integer z;
  mpz_cdiv_q(z.get_mpz_t(), q.get_num_mpz_t(), q.get_den_mpz_t());
  return z;
}

bool is_integer(const Rational& q) { return mpz_cmp_ui(q.get_den_mpz_t(), 1) == 0; }

double nearest_binary(const Rational& q, int precision, int min_unit, int max_exponent) {
  const int s = sgn(q);
  if (s == 0) return 0;
  const Rational a = abs(q);
  // 2^(e-1) < a < 2^(e+1) from the lengths; then made exact: 2^e <= a.
  long e = static_cast<long>(mpz_sizeinbase(a.get_num_mpz_t(), 2)) - static_cast<long>(mpz_sizeinbase(a.get_den_mpz_t(), 2));
  const double inf = std::numeric_limits<double>::infinity();
  if (e > max_exponent + 2) return s * inf;
  if (e < min_unit - 4) return s * 0.0;
  if (a < pow2(static_cast<int>(e))) --e;
  const int unit = std::max<int>(static_cast<int>(e) - (precision - 1), min_unit);
  const Rational scaled = a * pow2(-unit);
  Integer n = floor_of(scaled);
  const int c = cmp(Rational(scaled - n), Rational(1, 2));
  if (c > 0 || (c == 0 && mpz_odd_p(n.get_mpz_t()))) ++n;
  const double v = std::ldexp(n.get_d(), unit);  // exact: n <= 2^precision
  return s * (v >= std::ldexp(1.0, max_exponent) * 2 ? inf : v);
}

float nearest_float(const Rational& q) { return static_cast<float>(nearest_binary(q, 24, -149, 127)); }
double nearest_double(const Rational& q) { return nearest_binary(q, 53, -1074, 1023); }

bool fits_int128(const Integer& z) {
  if (sgn(z) >= 0) return mpz_sizeinbase(z.get_mpz_t(), 2) <= 127;
  const Integer m = -z - 1;
  return mpz_sizeinbase(m.get_mpz_t(), 2) <= 127;
}

Int128 to_int128(const Integer& z) {
  if (!fits_int128(z))
    throw Error(Exit::no, fmt::format("the integer {} needs {} bits; 128 are available", z.get_str(),
                                      mpz_sizeinbase(z.get_mpz_t(), 2) + 1));
  unsigned __int128 u = 0;
  mpz_export(&u, nullptr, -1, sizeof u, 0, 0, z.get_mpz_t());
  return static_cast<Int128>(sgn(z) < 0 ? -u : u);
}

Integer from_int128(Int128 v) {
  unsigned __int128 u = static_cast<unsigned __int128>(v);
  if (v < 0) u = -u;
  Integer z;
  mpz_import(z.get_mpz_t(), 1, -1, sizeof u, 0, 0, &u);
  return v < 0 ? Integer(-z) : z;
}

std::string to_string(Int128 v) { return from_int128(v).get_str(); }

Rational common_grid(const std::vector<Rational>& q) {
  Integer num = 0, den = 1;
  for (const Rational& v : q) {
    if (sgn(v) == 0) continue;
    mpz_gcd(num.get_mpz_t(), num.get_mpz_t(), v.get_num_mpz_t());
    mpz_lcm(den.get_mpz_t(), den.get_mpz_t(), v.get_den_mpz_t());
  }
  if (sgn(num) == 0) return 1;
  // Canonical inputs: a prime of num divides every numerator, so it divides no denominator.
  return Rational(num, den);
}

int signed_bits(Int128 lo, Int128 hi) {
  const auto length = [](Int128 v) {
    int n = 0;
    for (auto u = static_cast<unsigned __int128>(v); u != 0; u >>= 1) ++n;
    return n;
  };
  if (lo >= 0) return std::max(1, length(hi));
  return 1 + std::max(length(-(lo + 1)), hi > 0 ? length(hi) : 0);
}

}  // namespace tandem
