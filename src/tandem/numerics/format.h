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

// What a code word of `bits` bits stands for. Fields that the kind does not use keep their defaults.
struct Element {
  enum class Kind { integer, sign_magnitude, floating, codebook };
  enum class Specials { none, ieee, ocp_nan };
  Kind kind = Kind::integer;
  int bits = 8;                    // 1 .. 64
  bool is_signed = true;           // integer of 1 bit, signed: bipolar, codes {0, 1} stand for {-1, +1}
  bool narrow = false;             // integer: drops the most negative code (signed) or the largest (unsigned)
  int fraction_bits = 0;           // integer: fixed point, decode(code) = integer * 2^-fraction_bits
  int exponent_bits = 0, mantissa_bits = 0, bias = 0;  // floating; bits = is_signed + exponent_bits + mantissa_bits
  bool subnormal = true;           // floating: false makes every code with exponent field 0 a zero
  Specials specials = Specials::none;  // ieee: exponent field all ones is inf or NaN; ocp_nan: only the all-ones word is NaN
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

  // An element, then parts in any order, separated by ';'. Elements:
  //   int8 uint4 fixed<16,6> ufixed<8,0> (width, integer bits) ternary bipolar sm4 (sign-magnitude)
  //   f32 f16 bf16 fp6_e3m2 ufp4_e2m2 codebook[-1,-1/4,1/4,1]
  // fp8_e4m3 and fp8_e5m2 have the specials of the OCP FP8 standard, other minifloats none. Parts:
  //   narrow  bias=N  specials=none|ieee|ocp_nan  no_subnormal  bits=N (codebook)
  //   scale=GRANULARITY:ENCODING:SOURCE:ROUND   words in any order, any left out:
  //     tensor channel(axis) token(axis) block(axis,n) element row (= channel(0));
  //     one pow2 pow2(bits) fp16 bf16 fp32 int(bits) (times the parent's scale);
  //     fixed absmax percentile mse learned_step learned_exponent dynamic_absmax dynamic_absmean;
  //     nearest up_to_pow2 floor_pow2
  //   zero=int8|none  round=MODE (parse_rounding)  overflow=MODE  cast=KIND  flush
  //   types=(ELEMENT)|(ELEMENT)...   pack=continuous|trits|pad(n)|2+4 (planes, most significant first)  first=high
  // Defaults: scale tensor:fp32:absmax (floats of a C type, fixed point: one), half_even, saturate (f32, f16 and
  // bf16: to_inf), continuous with the first code in the low bits.
  // Throws Error(bad_input) naming the part and the nearest known word.
  static Format parse(std::string_view text);
  std::string text() const;        // shortest such text; parse(text()) == *this
};

// Throws Error(bad_input) when an element is impossible (widths that do not add up, an empty codebook ...).
void check(const Element& e);

// The distinct values of an element with their codes, ascending by value; of two codes of one value (two zeros)
// the lower. Infinities, NaN and the code that `narrow` drops are not in it. For bits <= 16.
struct GridPoint {
  Rational value;
  std::uint64_t code;
};
std::vector<GridPoint> grid(const Element& e);
// The value of a code. Throws Error(bad_input) for infinities and NaN, and for codes that no element has.
Rational decode(const Element& e, std::uint64_t code);
bool is_number(const Element& e, std::uint64_t code);
// kmin..kmax, 2^-fraction_bits as scale, and the bipolar flag of an integer element (at most 63 bits, or 64 signed),
// ready for a zero point and for a scale to be multiplied in. Rounding casts only.
Cast integer_cast(const Element& e, const CastSpec& c = {});

// What `tandem formats` shows: every element word with its meaning and an example that parses.
struct FormatDoc {
  std::string name, doc, example;
};
const std::vector<FormatDoc>& list_formats();

}  // namespace tandem
