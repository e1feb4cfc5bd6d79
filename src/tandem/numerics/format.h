// One description of a number format (docs/number-formats.md). A format is data with six parts:
// element, type variants, scale, zero point, cast, layout. Every tensor's value is
//     x[i] = S(i) * (decode(code[i]) - Z(i)).
#pragma once
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "tandem/numerics/cast.h"

namespace tandem {

struct Element {
  enum class Kind { integer, sign_magnitude, floating, codebook };
  enum class Specials { none, ieee, ocp_nan };
  Kind kind = Kind::integer;
  int bits = 8;
  bool is_signed = true;
  bool narrow = false;             // integer: drops the most negative code (signed) or the largest (unsigned)
  int exponent_bits = 0, mantissa_bits = 0, bias = 0;  // floating
  bool subnormal = true;
  Specials specials = Specials::none;
  std::vector<Rational> codebook;  // 2^bits values or fewer, by code
  bool operator==(const Element&) const = default;
};

enum class Granularity { tensor, channel, token, block, element };
struct ScaleSpec {
  enum class Encoding { one, pow2, f16, bf16, f32, integer_of_parent };
  enum class Source { fixed, absmax, percentile, mse, learned_step, learned_exponent, dynamic_absmax, dynamic_absmean };
  Granularity granularity = Granularity::tensor;
  int axis = 1;
  int block = 0;
  Encoding encoding = Encoding::f32;
  int bits = 0;                    // pow2: exponent bits; integer_of_parent: width
  Source source = Source::absmax;
  enum class Round { nearest, up_to_pow2, floor_pow2 } rounding = Round::nearest;
  bool operator==(const ScaleSpec&) const = default;
};
struct ZeroSpec {
  int bits = 0;                    // 0: none
  bool operator==(const ZeroSpec&) const = default;
};
struct CastSpec {
  enum class Kind { rounding, nearest_lower_tie, stochastic, learned, thresholds };
  Kind kind = Kind::rounding;
  Rounding rounding = Rounding::half_even;
  Overflow overflow = Overflow::saturate;
  bool flush_subnormals = false;
  bool operator==(const CastSpec&) const = default;
};
struct Layout {
  enum class Kind { continuous, planes, trits, pad };
  Kind kind = Kind::continuous;
  bool first_code_low = true;
  std::vector<int> planes;
  int pad_bits = 0;
  bool operator==(const Layout&) const = default;
};

struct Format {
  Element elem;
  std::vector<Element> types;      // variants chosen per group; empty: elem only
  ScaleSpec scale;
  ZeroSpec zero;
  CastSpec cast;
  Layout layout;
  bool operator==(const Format&) const = default;

  // "int8", "uint4", "int4;narrow", "fixed<16,6>", "ternary", "bipolar", "f32", "f16", "bf16", "fp6_e3m2;scale=row:fp16;pack=2+4".
  // Throws Error(bad_input) naming the part and the nearest known word.
  static Format parse(std::string_view text);
  std::string text() const;        // parse(text()) == *this
};

// The values of a format's element with their codes, ascending by value (for bits <= 16).
struct GridPoint {
  Rational value;
  std::uint64_t code;
};
std::vector<GridPoint> grid(const Element& e);
Rational decode(const Element& e, std::uint64_t code);
// kmin..kmax and bipolar flag for integer elements, ready for a scale and zero point.
Cast integer_cast(const Element& e, const CastSpec& c = {});

}  // namespace tandem
