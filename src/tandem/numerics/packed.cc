#include "tandem/numerics/packed.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <optional>

namespace tandem {
namespace {

using Kind = Element::Kind;

std::uint64_t low_bits(int n) { return n >= 64 ? ~0ull : (1ull << n) - 1; }

Error cannot(const Format& f, std::string_view what) {
  return bad_input("arrays in '{}' are not made here: {}", f.text(), what);
}

bool is_f16(const Element& e) {
  return e.kind == Kind::floating && e.is_signed && e.subnormal && e.specials == Element::Specials::ieee && e.bits == 16 &&
         e.exponent_bits == 5 && e.bias == 15;
}
bool is_bf16(const Element& e) {
  return e.kind == Kind::floating && e.is_signed && e.subnormal && e.specials == Element::Specials::ieee && e.bits == 16 &&
         e.exponent_bits == 8 && e.bias == 127;
}
bool is_f32(const Element& e) {
  return e.kind == Kind::floating && e.is_signed && e.subnormal && e.specials == Element::Specials::ieee && e.bits == 32 &&
         e.exponent_bits == 8 && e.bias == 127;
}

std::uint64_t infinity_code(const Element& e, bool negative) {
  if (e.kind != Kind::floating || e.specials != Element::Specials::ieee)
    throw bad_input("this element has no infinity to overflow to").expected("saturate, or specials=ieee");
  return (low_bits(e.exponent_bits) << e.mantissa_bits) | (negative && e.is_signed ? 1ull << (e.bits - 1) : 0);
}
std::optional<std::uint64_t> nan_code(const Element& e) {
  if (e.kind != Kind::floating || e.specials == Element::Specials::none) return {};
  if (e.specials == Element::Specials::ocp_nan) return low_bits(e.exponent_bits + e.mantissa_bits);
  return (low_bits(e.exponent_bits) << e.mantissa_bits) | (1ull << (e.mantissa_bits - 1));
}
std::uint64_t require_nan(const Element& e) {
  if (const auto c = nan_code(e)) return *c;
  throw bad_input("this element has no NaN").expected("numbers, or an element with specials");
}

// The step into the upper of two neighbours of the grid. `steps_from_zero`: position of the upper one relative to zero.
CastStep table_step(const Rational& lo, const Rational& hi, std::int64_t steps_from_zero, Rounding r) {
  const Rational mid = (lo + hi) / 2;
  switch (r) {
    case Rounding::half_even: return {mid, steps_from_zero % 2 == 0};
    case Rounding::half_up: return {mid, true};
    case Rounding::half_down: return {mid, false};
    case Rounding::half_away: return {mid, sgn(mid) > 0};
    case Rounding::half_zero: return {mid, sgn(mid) <= 0};
    case Rounding::floor: return {hi, true};
    case Rounding::ceil: return {lo, false};
    case Rounding::to_zero: return sgn(hi) > 0 ? CastStep{hi, true} : CastStep{lo, false};
    case Rounding::away: return sgn(hi) > 0 ? CastStep{lo, false} : CastStep{hi, true};
  }
  bug(__FILE__, __LINE__, "unknown rounding mode");
}

// A monotone cast as its steps: the code of y is codes[number of steps that y reached].
struct Steps {
  std::vector<std::uint64_t> codes;
  std::vector<CastStep> steps;
  std::vector<double> t;   // the same, when each has at most 28 significant bits: S * t is then exact in double
  bool exact = true;
};

void flush(Steps& s, const Element& e) {
  if (e.kind != Kind::floating) return;
  for (auto& c : s.codes)
    if (is_number(e, c) && ((c >> e.mantissa_bits) & low_bits(e.exponent_bits)) == 0) c = 0;
}

Steps make_steps(const Element& e, const CastSpec& c) {
  Steps s;
  if (e.kind == Kind::integer) {
    const Cast cast = integer_cast(e, c);
    const std::uint64_t mask = low_bits(e.bits);
    for (std::int64_t k = lowest_code(cast); k <= cast.kmax; ++k) {
      s.codes.push_back(static_cast<std::uint64_t>(k) & mask);
      if (k > lowest_code(cast)) s.steps.push_back(step_of(cast, k));
    }
  } else {
    const auto g = grid(e);
    // A grid without zero counts from its lowest point.
    std::int64_t zero = 0;
    for (std::size_t i = 0; i < g.size(); ++i)
      if (sgn(g[i].value) == 0) zero = static_cast<std::int64_t>(i);
    for (std::size_t i = 0; i < g.size(); ++i) {
      s.codes.push_back(g[i].code);
      if (i > 0) s.steps.push_back(table_step(g[i - 1].value, g[i].value, static_cast<std::int64_t>(i) - zero, c.rounding));
    }
    if (c.overflow == Overflow::to_inf || c.overflow == Overflow::to_nan) {
      const auto top_code = g.back().code;
      const bool nan = c.overflow == Overflow::to_nan;
      const std::uint64_t above = nan ? require_nan(e) : infinity_code(e, false);
      const auto field = static_cast<int>(top_code >> e.mantissa_bits);
      const Rational next = g.back().value + pow2(std::max(field, 1) - e.bias - e.mantissa_bits);
      s.steps.push_back(table_step(g.back().value, next, std::ssize(g) - zero, c.rounding));
      s.codes.push_back(above);
      if (e.is_signed) {
        s.steps.insert(s.steps.begin(), table_step(-next, g[0].value, -zero, c.rounding));
        s.codes.insert(s.codes.begin(), nan ? above : infinity_code(e, true));
      }
    } else if (c.overflow != Overflow::saturate && c.overflow != Overflow::saturate_symmetric) {
      throw bad_input("this element overflows by saturation, to infinity or to NaN only");
    }
  }
  if (c.flush_subnormals) flush(s, e);
  for (const auto& step : s.steps) {
    const double v = nearest_double(step.t);
    int e2 = 0;
    const double m = std::ldexp(std::frexp(v, &e2), 28);
    s.exact &= exact(v) == step.t && m == std::trunc(m) && std::abs(e2) < 600;
    s.t.push_back(v);
  }
  return s;
}

}  // namespace

std::uint64_t code_of(const Element& e, const CastSpec& c, const Rational& y) {
  if (c.kind != CastSpec::Kind::rounding) throw bad_input("only rounding casts are made here");
  if (e.kind == Kind::integer) return static_cast<std::uint64_t>(cast_code(integer_cast(e, c), y)) & low_bits(e.bits);
  const Steps s = make_steps(e, c);
  std::size_t i = 0;
  while (i < s.steps.size() && (s.steps[i].inclusive ? y >= s.steps[i].t : y > s.steps[i].t)) ++i;
  return s.codes[i];
}

std::int64_t group_count(const ScaleSpec& s, const Shape& shape) {
  const std::int64_t n = element_count(shape);
  const std::int64_t rank = std::ssize(shape), axis = s.axis < 0 ? s.axis + rank : s.axis;
  if (s.granularity == Granularity::tensor) return 1;
  if (s.granularity == Granularity::element) return n;
  if (axis < 0 || axis >= rank) throw bad_input("a scale along axis {} of a tensor {}", s.axis, to_string(shape));
  const std::int64_t extent = shape[static_cast<std::size_t>(axis)];
  if (s.granularity != Granularity::block) return extent;
  if (s.block < 1) throw bad_input("a block of {} elements", s.block);
  return extent == 0 ? 0 : n / extent * ((extent + s.block - 1) / s.block);
}

std::int64_t group_of(const ScaleSpec& s, const Shape& shape, std::int64_t index) {
  if (s.granularity == Granularity::tensor) return 0;
  if (s.granularity == Granularity::element) return index;
  const std::int64_t axis = s.axis < 0 ? s.axis + std::ssize(shape) : s.axis;
  std::int64_t inner = 1;
  for (std::int64_t a = axis + 1; a < std::ssize(shape); ++a) inner *= shape[static_cast<std::size_t>(a)];
  const std::int64_t extent = shape[static_cast<std::size_t>(axis)], at = index / inner % extent;
  if (s.granularity != Granularity::block) return at;
  const std::int64_t blocks = (extent + s.block - 1) / s.block;
  return (index / (inner * extent) * blocks + at / s.block) * inner + index % inner;
}

namespace {

int scale_bits(const ScaleSpec& s) {
  switch (s.encoding) {
    case ScaleSpec::Encoding::one: return 0;
    case ScaleSpec::Encoding::pow2: return s.bits == 0 ? 8 : s.bits;
    case ScaleSpec::Encoding::f16:
    case ScaleSpec::Encoding::bf16: return 16;
    case ScaleSpec::Encoding::f32: return 32;
    case ScaleSpec::Encoding::integer_of_parent: return s.bits;
  }
  bug(__FILE__, __LINE__, "unknown scale encoding");
}

int floor_log2(const Rational& q) {
  int e = static_cast<int>(mpz_sizeinbase(q.get_num_mpz_t(), 2)) - static_cast<int>(mpz_sizeinbase(q.get_den_mpz_t(), 2));
  if (q < pow2(e)) --e;
  return e;
}

// A positive scale rounded into its encoding; never 0 and never infinite.
float encode_scale(const ScaleSpec& s, Rational q) {
  if (s.encoding == ScaleSpec::Encoding::one) return 1;
  const bool power = s.encoding == ScaleSpec::Encoding::pow2;
  if (power || s.rounding != ScaleSpec::Round::nearest) {
    int e = floor_log2(q);
    const bool above = q != pow2(e);
    if (s.rounding == ScaleSpec::Round::up_to_pow2) e += above;
    else if (s.rounding == ScaleSpec::Round::nearest) e += Rational(q * q) >= pow2(2 * e + 1);  // in the logarithm
    if (power) {
      const int top = scale_bits(s) > 9 ? 255 : (1 << (scale_bits(s) - 1)) - 1;
      e = std::clamp(e, std::max(-top, -149), std::min(top, 127));
    }
    q = pow2(e);
  }
  int precision = 24, unit = -149, top = 127;
  if (s.encoding == ScaleSpec::Encoding::f16) precision = 11, unit = -24, top = 15;
  if (s.encoding == ScaleSpec::Encoding::bf16) precision = 8, unit = -133;
  const double largest = std::ldexp(std::ldexp(1.0, precision) - 1, top - precision + 1);
  return static_cast<float>(std::clamp(nearest_binary(q, precision, unit, top), std::ldexp(1.0, unit), largest));
}

}  // namespace

Packed quantise(std::span<const float> x, const Shape& shape, const Format& f, std::span<const float> scales,
                std::span<const std::int64_t> zeros) {
  check(f.elem);
  if (std::ssize(x) != element_count(shape)) throw bad_input("{} values for a tensor {}", x.size(), to_string(shape));
  const Element& e = f.elem;
  const bool bits32 = is_f32(e) && f.scale.encoding == ScaleSpec::Encoding::one;
  if (!f.types.empty()) throw cannot(f, "type variants");
  if (f.cast.kind != CastSpec::Kind::rounding) throw cannot(f, "its cast is not a rounding");
  if (f.scale.encoding == ScaleSpec::Encoding::integer_of_parent) throw cannot(f, "scales of a parent scale");
  if (f.scale.granularity == Granularity::element) throw cannot(f, "a scale per element");
  if (e.kind != Kind::integer && e.bits > 16 && !bits32) throw cannot(f, "elements above 16 bits");
  if (f.zero.bits != 0 && (e.kind != Kind::integer || e.fraction_bits != 0 || (e.bits == 1 && e.is_signed) || e.bits > 24))
    throw cannot(f, "a zero point needs integers of at most 24 bits");
  using Source = ScaleSpec::Source;
  const std::int64_t groups = group_count(f.scale, shape);
  Packed p{f, shape, {}, {}, {}};
  std::vector<std::int64_t> group(x.size());
  for (std::size_t i = 0; i < x.size(); ++i) group[i] = group_of(f.scale, shape, static_cast<std::int64_t>(i));

  // (i) statistic, (ii) scale and zero point
  if (!scales.empty() || f.scale.encoding == ScaleSpec::Encoding::one) {
    if (scales.empty()) p.scales.assign(static_cast<std::size_t>(groups), 1.0f);
    else p.scales.assign(scales.begin(), scales.end());
    if (std::ssize(p.scales) != groups) throw bad_input("{} scales for {} groups", p.scales.size(), groups);
    for (float s : p.scales)
      if (!(s > 0) || !std::isfinite(s) || encode_scale(f.scale, exact(s)) != s)
        throw bad_input("{} is not a scale of '{}'", s, f.text());
    if (f.zero.bits != 0) {
      p.zeros.assign(zeros.begin(), zeros.end());
      if (p.zeros.empty()) p.zeros.assign(static_cast<std::size_t>(groups), 0);
      if (std::ssize(p.zeros) != groups) throw bad_input("{} zero points for {} groups", p.zeros.size(), groups);
    }
  } else {
    if (f.scale.source != Source::absmax && f.scale.source != Source::dynamic_absmax && f.scale.source != Source::dynamic_absmean)
      throw bad_input("'{}' takes its scales from elsewhere", f.text()).fix("give the scales, or use absmax");
    std::vector<float> lo(static_cast<std::size_t>(groups)), hi(lo);
    std::vector<Rational> sum(f.scale.source == Source::dynamic_absmean ? lo.size() : 0);
    std::vector<std::int64_t> count(lo.size());
    for (std::size_t i = 0; i < x.size(); ++i) {
      if (!std::isfinite(x[i])) throw bad_input("value {} is {}", i, x[i]).fix("give the scales, or remove what is not a number");
      const auto g = static_cast<std::size_t>(group[i]);
      lo[g] = std::min(lo[g], x[i]);
      hi[g] = std::max(hi[g], x[i]);
      if (!sum.empty()) sum[g] += abs(exact(x[i]));
      ++count[g];
    }
    Rational largest;  // magnitude of the grid
    std::int64_t levels = 0, kmin = 0, kmax = 0;
    if (e.kind == Kind::integer) {
      const Cast c = integer_cast(e);
      kmin = c.kmin, kmax = c.kmax, levels = kmax - kmin;
      largest = c.bipolar ? Rational(1) : Rational(c.scale * static_cast<long>(kmax));
    } else {
      const auto g = grid(e);
      largest = std::max(Rational(abs(g.front().value)), Rational(abs(g.back().value)));
    }
    if (sgn(largest) == 0) throw cannot(f, "its grid holds nothing but zero");
    for (std::size_t g = 0; g < lo.size(); ++g) {
      Rational s;
      if (!sum.empty()) s = count[g] == 0 ? Rational(0) : Rational(sum[g] / static_cast<long>(count[g]));
      else if (f.zero.bits != 0) s = (exact(hi[g]) - exact(lo[g])) / static_cast<long>(levels);
      else s = std::max(exact(hi[g]), Rational(-exact(lo[g]))) / largest;
      p.scales.push_back(sgn(s) == 0 ? 1.0f : encode_scale(f.scale, s));
      if (f.zero.bits != 0) {
        Integer z = round_to_integer(Rational(static_cast<long>(kmin)) - exact(lo[g]) / exact(p.scales.back()), Rounding::half_even);
        p.zeros.push_back(z < kmin ? kmin : z > kmax ? kmax : z.get_si());
      }
    }
  }

  // (iii) elements against the encoded scale
  std::vector<std::uint64_t> codes(x.size());
  std::optional<Steps> steps;
  const bool saturates = f.cast.overflow != Overflow::wrap && f.cast.overflow != Overflow::saturate_zero;
  if (!bits32 && e.bits <= 16 && saturates) steps = make_steps(e, f.cast);
  if (!bits32 && e.kind != Kind::integer && !steps) throw cannot(f, "its overflow");
  if (bits32 && (f.cast.rounding != Rounding::half_even || !saturates || f.cast.overflow == Overflow::to_nan || f.cast.flush_subnormals))
    throw cannot(f, "f32 with a cast of its own");
  for (std::size_t i = 0; i < x.size(); ++i) {
    const auto g = static_cast<std::size_t>(group[i]);
    const float s = p.scales[g], v = x[i];
    const std::int64_t z = p.zeros.empty() ? 0 : p.zeros[g];
    if (bits32) {
      float w = v;
      if (std::isinf(v) && f.cast.overflow != Overflow::to_inf) w = std::copysign(std::numeric_limits<float>::max(), v);
      codes[i] = std::bit_cast<std::uint32_t>(w);
    } else if (std::isnan(v)) {
      codes[i] = require_nan(e);
    } else if (steps && (std::isinf(v) || (steps->exact && z == 0))) {
      // Scale (24 bits) times step (28 bits) is exact in double.
      std::size_t a = 0, b = steps->t.size();
      while (a < b) {
        const std::size_t mid = (a + b) / 2;
        const double t = std::isinf(v) ? 0 : steps->t[mid] * static_cast<double>(s);
        if (std::isinf(v) ? v > 0 : steps->steps[mid].inclusive ? v >= t : v > t) a = mid + 1;
        else b = mid;
      }
      codes[i] = steps->codes[a];
    } else if (std::isinf(v)) {
      throw bad_input("value {} is {}", i, v).expected("a number, or a format that saturates");
    } else {
      const Rational y = exact(v) / exact(s) + static_cast<long>(z);
      codes[i] = code_of(e, f.cast, y);
    }
  }
  p.codes = pack(codes, f);
  return p;
}

std::vector<float> dequantise(const Packed& p) {
  const Element& e = p.format.elem;
  const std::int64_t n = element_count(p.shape);
  const auto codes = unpack(p.codes, n, p.format);
  if (std::ssize(p.scales) != group_count(p.format.scale, p.shape) || (!p.zeros.empty() && p.zeros.size() != p.scales.size()))
    throw bad_input("{} scales and {} zero points for {} groups", p.scales.size(), p.zeros.size(), group_count(p.format.scale, p.shape));
  std::vector<float> x(codes.size());
  for (std::size_t i = 0; i < codes.size(); ++i) {
    const auto g = static_cast<std::size_t>(group_of(p.format.scale, p.shape, static_cast<std::int64_t>(i)));
    const std::uint64_t c = codes[i];
    if (is_f32(e) && p.scales[g] == 1) x[i] = std::bit_cast<float>(static_cast<std::uint32_t>(c));
    else if (is_f16(e) && p.scales[g] == 1) x[i] = half_to_float(static_cast<std::uint16_t>(c));
    else if (is_bf16(e) && p.scales[g] == 1) x[i] = bf16_to_float(static_cast<std::uint16_t>(c));
    else if (!is_number(e, c)) {
      const bool infinite = e.kind == Kind::floating && e.specials == Element::Specials::ieee && (c & low_bits(e.mantissa_bits)) == 0;
      if (e.kind != Kind::floating) throw bad_input("code {:#x} of element {} is not a number", c, i);
      const float v = infinite ? std::numeric_limits<float>::infinity() : std::numeric_limits<float>::quiet_NaN();
      x[i] = e.is_signed && (c >> (e.bits - 1)) != 0 ? -v : v;
    } else {
      Rational v = decode(e, c);
      if (!p.zeros.empty()) v -= static_cast<long>(p.zeros[g]);
      x[i] = nearest_float(v * exact(p.scales[g]));
    }
  }
  return x;
}

namespace {

// A stream of bits: the first in the low bits of each byte, or in the high bits.
struct BitStream {
  std::vector<std::uint8_t>& bytes;
  bool low;
  std::size_t at = 0;
  void put(std::uint64_t v, int bits) {
    for (int b = 0; b < bits; ++b, ++at) {
      if (at % 8 == 0) bytes.push_back(0);
      const auto bit = static_cast<unsigned>(v >> (low ? b : bits - 1 - b)) & 1u;
      bytes.back() = static_cast<std::uint8_t>(bytes.back() | bit << (low ? at % 8 : 7 - at % 8));
    }
  }
};
std::uint64_t get(std::span<const std::uint8_t> bytes, std::size_t at, int bits, bool low) {
  std::uint64_t v = 0;
  for (int b = 0; b < bits; ++b, ++at) {
    const std::uint64_t bit = bytes[at / 8] >> (low ? at % 8 : 7 - at % 8) & 1u;
    v |= bit << (low ? b : bits - 1 - b);
  }
  return v;
}

std::uint64_t code_bytes(const Format& f, std::uint64_t n) {
  switch (f.layout.kind) {
    case Layout::Kind::continuous: return (n * static_cast<std::uint64_t>(f.elem.bits) + 7) / 8;
    case Layout::Kind::pad: return (n * static_cast<std::uint64_t>(f.layout.pad_bits) + 7) / 8;
    case Layout::Kind::trits: return (n + 4) / 5;
    case Layout::Kind::planes: {
      std::uint64_t bytes = 0;
      for (int w : f.layout.planes) bytes += (n * static_cast<std::uint64_t>(w) + 7) / 8;
      return bytes;
    }
  }
  bug(__FILE__, __LINE__, "unknown layout");
}

void require_trits(const Format& f) {
  if (f.elem.kind != Kind::integer || f.elem.bits != 2 || !f.elem.is_signed || !f.elem.narrow)
    throw cannot(f, "pack=trits is for ternary codes");
}

}  // namespace

std::vector<std::uint8_t> pack(std::span<const std::uint64_t> codes, const Format& f) {
  std::vector<std::uint8_t> out;
  out.reserve(code_bytes(f, codes.size()));
  if (f.layout.kind == Layout::Kind::trits) {
    require_trits(f);
    // 5 codes a byte, base 3, the first the least significant (or the most); -1, 0, 1 are the digits 0, 1, 2.
    for (std::size_t i = 0; i < codes.size(); i += 5) {
      unsigned v = 0;
      for (std::size_t j = 5; j-- > 0;) {
        const std::size_t k = i + (f.layout.first_code_low ? j : 4 - j);
        v = 3 * v + (k < codes.size() ? static_cast<unsigned>((codes[k] + 1) & 3) : 1u);
      }
      out.push_back(static_cast<std::uint8_t>(v));
    }
    return out;
  }
  std::vector<int> widths{f.elem.bits};
  if (f.layout.kind == Layout::Kind::planes) widths = f.layout.planes;
  int below = f.elem.bits;
  for (int w : widths) {
    below -= w;
    BitStream s{out, f.layout.first_code_low};
    for (std::uint64_t c : codes) s.put(c >> below & low_bits(w), f.layout.kind == Layout::Kind::pad ? f.layout.pad_bits : w);
  }
  return out;
}

std::vector<std::uint64_t> unpack(std::span<const std::uint8_t> bytes, std::int64_t count, const Format& f) {
  const auto n = static_cast<std::uint64_t>(count);
  if (bytes.size() != code_bytes(f, n))
    throw bad_input("{} bytes of codes for {} elements of '{}'", bytes.size(), count, f.text()).expected(fmt::format("{} bytes", code_bytes(f, n)));
  std::vector<std::uint64_t> codes(n);
  if (f.layout.kind == Layout::Kind::trits) {
    require_trits(f);
    for (std::size_t i = 0; i < codes.size(); ++i) {
      unsigned v = bytes[i / 5];
      if (v > 242) throw bad_input("byte {} is not five ternary digits", i / 5);
      for (std::size_t j = f.layout.first_code_low ? i % 5 : 4 - i % 5; j > 0; --j) v /= 3;
      codes[i] = (v % 3 + 3) & 3;
    }
    return codes;
  }
  std::vector<int> widths{f.elem.bits};
  if (f.layout.kind == Layout::Kind::planes) widths = f.layout.planes;
  std::size_t base = 0;
  for (int w : widths) {
    const int step = f.layout.kind == Layout::Kind::pad ? f.layout.pad_bits : w;
    for (std::size_t i = 0; i < codes.size(); ++i)
      codes[i] = codes[i] << (w & 63) | (get(bytes.subspan(base), i * static_cast<std::size_t>(step), step, f.layout.first_code_low) & low_bits(w));
    base += (codes.size() * static_cast<std::size_t>(step) + 7) / 8;
  }
  return codes;
}

std::uint64_t packed_bytes(const Format& f, const Shape& shape) {
  const auto n = static_cast<std::uint64_t>(element_count(shape)), groups = static_cast<std::uint64_t>(group_count(f.scale, shape));
  const auto round_up = [](std::uint64_t bits) { return (bits + 7) / 8; };
  return code_bytes(f, n) + round_up(groups * static_cast<std::uint64_t>(scale_bits(f.scale))) + round_up(groups * static_cast<std::uint64_t>(f.zero.bits));
}

double bits_per_element(const Format& f, const Shape& shape) {
  const std::int64_t n = element_count(shape);
  return n == 0 ? 0 : 8.0 * static_cast<double>(packed_bytes(f, shape)) / static_cast<double>(n);
}

}  // namespace tandem
