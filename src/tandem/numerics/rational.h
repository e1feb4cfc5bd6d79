// Exact numbers: rationals (GMP) for definitions, 128-bit integers for computing.
#pragma once
#include <gmpxx.h>

#include <cstdint>
#include <string>
#include <vector>

#include "tandem/tensor/tensor.h"

namespace tandem {

using Rational = mpq_class;
using Integer = mpz_class;
using Int128 = __int128;

Rational exact(double v);                 // the dyadic value of a finite double; throws Error on NaN, Inf
Rational pow2(int e);                     // 2^e, e may be negative
Integer floor_of(const Rational& q);
Integer ceil_of(const Rational& q);
bool is_integer(const Rational& q);
float nearest_float(const Rational& q);   // round to nearest even, once (denormals and overflow included)
double nearest_double(const Rational& q);
// The same for any binary float of at most 53 significant bits: `precision` of them, the last bit never below
// 2^min_unit, exponents up to max_exponent (f16: 11, -24, 15); infinite when it overflows.
double nearest_binary(const Rational& q, int precision, int min_unit, int max_exponent);
Int128 to_int128(const Integer& z);       // throws Error(no) when it does not fit
bool fits_int128(const Integer& z);
Integer from_int128(Int128 v);
std::string to_string(Int128 v);
// The largest g > 0 with q[i]/g integer for all i (0 entries ignored; 1 when all are 0).
Rational common_grid(const std::vector<Rational>& q);
// Bits of the smallest two's complement type holding [lo, hi] (unsigned when lo >= 0).
int signed_bits(Int128 lo, Int128 hi);

}  // namespace tandem
