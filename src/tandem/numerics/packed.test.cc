#include "tandem/numerics/packed.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <limits>

#include "tandem/base/rng.h"

namespace tandem {
namespace {

// The slow path, independent of steps: every grid point is looked at, distances are compared as rationals.
std::uint64_t by_search(const std::vector<GridPoint>& g, const Element& e, Rounding r, const Rational& y) {
  if (e.kind == Element::Kind::integer && e.bits == 1 && e.is_signed) return sgn(y) >= 0 ? 1 : 0;
  if (y <= g.front().value) return g.front().code;
  if (y >= g.back().value) return g.back().code;
  std::size_t i = 0, zero = 0;
  for (std::size_t k = 0; k < g.size(); ++k)
    if (g[k].value == 0) zero = k;
  while (g[i + 1].value <= y) ++i;
  if (g[i].value == y) return g[i].code;
  const Rational down = y - g[i].value, up = g[i + 1].value - y;
  const bool negative = sgn(y) < 0;
  const auto lo = g[i].code, hi = g[i + 1].code;
  switch (r) {
    case Rounding::floor: return lo;
    case Rounding::ceil: return hi;
    case Rounding::to_zero: return negative ? hi : lo;
    case Rounding::away: return negative ? lo : hi;
    default: break;
  }
  if (down != up) return down < up ? lo : hi;
  switch (r) {
    case Rounding::half_up: return hi;
    case Rounding::half_down: return lo;
    case Rounding::half_away: return negative ? lo : hi;
    case Rounding::half_zero: return negative ? hi : lo;
    default: return (i + 2 * g.size() - zero) % 2 == 0 ? lo : hi;
  }
}

constexpr const char* small_formats[] = {"int8", "int2", "uint3", "int5;narrow", "uint4;narrow", "ternary", "bipolar", "sm4", "fixed<6,2>", "fp4_e2m1",
                                         "fp6_e3m2", "fp6_e2m3", "fp8_e4m3", "fp8_e5m2", "fp5_e4m0", "ufp4_e2m2", "fp6_e3m2;no_subnormal", "codebook[0,1/2,-3,5,7/8]"};

TEST(Packed, FastPathAgreesWithSearchOnEveryStep) {
  for (const char* text : small_formats)
    for (int r = 0; r < 9; ++r) {
      Format f = Format::parse(text);
      f.cast.rounding = static_cast<Rounding>(r);
      f.scale.encoding = ScaleSpec::Encoding::f32;
      f.cast.overflow = Overflow::saturate;
      const float scale = 0x1.8p-3f;
      std::vector<float> x{0, 1e30f, -1e30f};
      const auto g = grid(f.elem);
      for (std::size_t i = 0; i + 1 < g.size(); ++i)  // points, middles, and their neighbours
        for (const Rational& v : {g[i].value, Rational((g[i].value + g[i + 1].value) / 2), g[i + 1].value}) {
          const float m = nearest_float(v * exact(scale));
          for (float w : {m, std::nextafter(m, 1e30f), std::nextafter(m, -1e30f)}) x.push_back(w);
        }
      const Shape shape{std::ssize(x)};
      const auto codes = unpack(quantise(x, shape, f, std::vector<float>{scale}).codes, std::ssize(x), f);
      for (std::size_t i = 0; i < x.size(); ++i)
        ASSERT_EQ(codes[i], by_search(g, f.elem, f.cast.rounding, exact(x[i]) / exact(scale))) << text << ' ' << to_string(f.cast.rounding) << ' ' << x[i];
    }
}

TEST(Packed, HalfAndBfloatAgreeWithTheMachine) {
  Rng rng(1, "half");
  std::vector<float> x;
  for (int i = 0; i < 20000; ++i) {
    const float v = std::bit_cast<float>(rng.u32());
    if (!std::isnan(v)) x.push_back(v == 0 ? 0.0f : v);  // an exact zero has no sign here
  }
  const Shape shape{std::ssize(x)};
  const auto compare = [&](const char* text, std::uint16_t (*to)(float)) {
    const Format f = Format::parse(text);
    const auto codes = unpack(quantise(x, shape, f).codes, std::ssize(x), f);
    for (std::size_t i = 0; i < x.size(); ++i) {
      std::uint16_t want = to(x[i]);
      if (want == 0x8000) want = 0;
      ASSERT_EQ(codes[i], want) << text << ' ' << x[i];
    }
  };
  compare("f16", float_to_half);
  compare("bf16", float_to_bf16);
  const Format f32 = Format::parse("f32");
  EXPECT_EQ(dequantise(quantise(x, shape, f32)), x);
}

TEST(Packed, RoundTripSizesAndLayouts) {
  Rng rng(2, "packed");
  const char* parts[] = {"", ";scale=tensor:fp16", ";scale=row:bf16", ";scale=channel(1):pow2", ";scale=block(1,4):pow2(8):up_to_pow2", ";scale=block(-1,3):dynamic_absmean"};
  for (int t = 0; t < 400; ++t) {
    std::string text = std::string(small_formats[rng.range(0, std::ssize(small_formats) - 1)]) + parts[rng.range(0, 5)];
    Format f = Format::parse(text);
    if (f.elem.kind == Element::Kind::integer && f.elem.fraction_bits == 0 && f.elem.bits > 1 && rng.chance(0.3)) f.zero.bits = 8;
    f.layout.first_code_low = rng.chance(0.5);
    const bool ternary = Format::parse("ternary").elem == f.elem;
    switch (rng.range(0, 3)) {
      case 1: f.layout.kind = Layout::Kind::pad; f.layout.pad_bits = f.elem.bits + 3; break;
      case 2: if (f.elem.bits > 1) { f.layout.kind = Layout::Kind::planes; f.layout.planes = {1, f.elem.bits - 1}; } break;
      case 3: if (ternary) f.layout.kind = Layout::Kind::trits; break;
      default: break;
    }
    const Shape shape{rng.range(1, 5), rng.range(1, 9), rng.range(1, 3)};
    std::vector<float> x(static_cast<std::size_t>(element_count(shape)));
    for (float& v : x) v = rng.chance(0.1) ? 0.0f : static_cast<float>(rng.normal() * 3);
    const Packed p = quantise(x, shape, f);
    const std::vector<float> back = dequantise(p);
    ASSERT_EQ(quantise(back, shape, f, p.scales, p.zeros).codes, p.codes) << f.text();
    const std::uint64_t per_scale = f.scale.encoding == ScaleSpec::Encoding::f32 ? 32 : f.scale.encoding == ScaleSpec::Encoding::pow2 ? 8 : f.scale.encoding == ScaleSpec::Encoding::one ? 0 : 16;
    const std::uint64_t bytes = p.codes.size() + p.scales.size() * per_scale / 8 + p.zeros.size() * static_cast<std::uint64_t>(f.zero.bits) / 8;
    ASSERT_EQ(packed_bytes(f, shape), bytes) << f.text();
    ASSERT_DOUBLE_EQ(bits_per_element(f, shape), 8.0 * static_cast<double>(bytes) / static_cast<double>(x.size()));
    if (f.zero.bits != 0 || f.elem.bits != 8 || f.elem.kind != Element::Kind::integer || f.scale.source != ScaleSpec::Source::absmax || f.scale.encoding == ScaleSpec::Encoding::pow2) continue;
    for (std::size_t i = 0; i < x.size(); ++i) {
      // int8 by absmax: at most half a step off, plus what the scale's own rounding (2^-9 at worst, bf16) clips at 127 steps.
      const float s = p.scales[static_cast<std::size_t>(group_of(f.scale, shape, static_cast<std::int64_t>(i)))];
      ASSERT_LE(std::fabs(back[i] - x[i]), s * (0.501 + 127.0 / 512)) << f.text();
    }
  }
}

TEST(Packed, KnownBytes) {
  const auto codes = [](const char* text, std::vector<std::uint64_t> c) { return pack(c, Format::parse(text)); };
  EXPECT_EQ(codes("uint4", {1, 2, 3}), (std::vector<std::uint8_t>{0x21, 0x03}));
  EXPECT_EQ(codes("uint4;first=high", {1, 2, 3}), (std::vector<std::uint8_t>{0x12, 0x30}));
  EXPECT_EQ(codes("uint4;pack=pad(8)", {1, 2}), (std::vector<std::uint8_t>{1, 2}));
  EXPECT_EQ(codes("fp6_e3m2;pack=2+4", {0b110001, 0b010010, 0, 0b111111}), (std::vector<std::uint8_t>{0b11000111, 0x21, 0xf0}));
  EXPECT_EQ(codes("ternary;pack=trits", {3, 0, 1, 0, 0}), (std::vector<std::uint8_t>{0 + 3 * 1 + 9 * 2 + 27 + 81}));
  EXPECT_THROW(codes("int4;pack=trits", {1}), Error);
  EXPECT_THROW(unpack(std::vector<std::uint8_t>{1}, 3, Format::parse("uint4")), Error);
}

TEST(Packed, ZeroGroupsSpecialsAndRefusals) {
  const float inf = std::numeric_limits<float>::infinity(), nan = std::numeric_limits<float>::quiet_NaN();
  const std::vector<float> zeros(4, 0.0f);
  const Packed z = quantise(zeros, {2, 2}, Format::parse("int8;scale=row"));
  EXPECT_EQ(z.scales, (std::vector<float>{1, 1}));
  EXPECT_EQ(dequantise(z), zeros);
  // E4M3: 464 lies half way between 448 and the NaN that would be 480: even is 448; above it overflows.
  const std::vector<float> one{1}, x{464, 465, -1e9f, inf, nan};
  const auto bits = [&](const char* text) { const Format f = Format::parse(text); return unpack(quantise(x, {5}, f, one).codes, 5, f); };
  EXPECT_EQ(bits("fp8_e4m3"), (std::vector<std::uint64_t>{0x7e, 0x7e, 0xfe, 0x7e, 0x7f}));
  EXPECT_EQ(bits("fp8_e4m3;overflow=to_nan"), (std::vector<std::uint64_t>{0x7e, 0x7f, 0x7f, 0x7f, 0x7f}));
  EXPECT_EQ(bits("fp8_e5m2;overflow=to_inf"), (std::vector<std::uint64_t>{0x5f, 0x5f, 0xfc, 0x7c, 0x7e}));
  const auto refuse = [&](const char* text, std::vector<float> v, std::vector<float> s = {}) {
    EXPECT_THROW(quantise(v, {std::ssize(v)}, Format::parse(text), s), Error) << text;
  };
  refuse("int8", {nan});
  refuse("int8", {nan}, one);
  refuse("int8;overflow=wrap", {inf}, one);
  refuse("int8;scale=tensor:learned_step", {1});
  refuse("int8;scale=element", {1});
  refuse("int8;cast=stochastic", {1});
  refuse("int8;types=(int4)|(uint4)", {1});
  refuse("int8;scale=tensor:int(8)", {1});
  refuse("int8", {1}, {0.0f});
  refuse("int8;scale=tensor:fp16", {1}, {0.1f});  // not a value of f16
  refuse("int8;scale=channel(3)", {1});
  refuse("fp6_e3m2;overflow=to_inf", {1});
  refuse("fp6_e3m2;overflow=wrap", {1});
}

}  // namespace
}  // namespace tandem
