#include "tandem/numerics/format.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>

#include "tandem/base/rng.h"

namespace tandem {
namespace {

Element random_element(Rng& rng) {
  Element e;
  switch (rng.range(0, 3)) {
    case 0:
      e.is_signed = rng.chance(0.5);
      e.bits = static_cast<int>(rng.range(1, 64));
      e.narrow = e.bits > 1 && rng.chance(0.3);
      if (!(e.is_signed && e.bits == 1) && rng.chance(0.4)) e.fraction_bits = static_cast<int>(rng.range(-10, 70));
      break;
    case 1:
      e.kind = Element::Kind::sign_magnitude;
      e.bits = static_cast<int>(rng.range(2, 64));
      break;
    case 2: {
      e.kind = Element::Kind::floating;
      e.is_signed = rng.chance(0.8);
      const std::pair<int, int> common[] = {{4, 3}, {5, 2}, {5, 10}, {8, 7}, {8, 23}};
      std::tie(e.exponent_bits, e.mantissa_bits) =
          rng.chance(0.5) ? std::pair<int, int>(rng.range(1, 11), rng.range(0, 20)) : common[rng.range(0, 4)];
      e.bits = e.is_signed + e.exponent_bits + e.mantissa_bits;
      e.bias = rng.chance(0.5) ? (1 << (e.exponent_bits - 1)) - 1 : static_cast<int>(rng.range(-50, 50));
      e.subnormal = rng.chance(0.8);
      e.specials = static_cast<Element::Specials>(rng.range(0, 2));
      if (e.mantissa_bits == 0 && e.specials == Element::Specials::ieee) e.specials = Element::Specials::none;
      break;
    }
    default:
      e.kind = Element::Kind::codebook;
      for (std::int64_t n = rng.range(1, 16); n > 0; --n) {
        e.codebook.emplace_back(static_cast<long>(rng.range(-99, 99)), static_cast<long>(rng.range(1, 64)));
        e.codebook.back().canonicalize();
      }
      e.bits = 1;
      while ((1u << e.bits) < e.codebook.size()) ++e.bits;
      if (rng.chance(0.2)) e.bits += 2;
  }
  return e;
}

TEST(Format, TextRoundTrip) {
  Rng rng(1, "format");
  for (int i = 0; i < 20000; ++i) {
    Format f;
    f.elem = random_element(rng);
    const auto any = [&]<class T>(T& v, int last) { if (rng.chance(0.5)) v = static_cast<T>(rng.range(0, last)); };
    any(f.scale.granularity, 4);
    if (rng.chance(0.5)) f.scale.axis = static_cast<int>(rng.range(-2, 4));
    if (f.scale.granularity == Granularity::block || rng.chance(0.1)) f.scale.block = static_cast<int>(rng.range(1, 256));
    any(f.scale.encoding, 5);
    if (rng.chance(0.3)) f.scale.bits = static_cast<int>(rng.range(0, 16));
    any(f.scale.source, 7);
    any(f.scale.rounding, 2);
    if (rng.chance(0.3)) f.zero.bits = static_cast<int>(rng.range(1, 16));
    any(f.cast.kind, 4);
    any(f.cast.rounding, 8);
    any(f.cast.overflow, 5);
    f.cast.flush_subnormals = rng.chance(0.2);
    if (rng.chance(0.2))
      for (std::int64_t n = rng.range(1, 4); n > 0; --n) f.types.push_back(random_element(rng));
    switch (rng.range(0, 3)) {
      case 1: f.layout.kind = Layout::Kind::trits; break;
      case 2: f.layout.kind = Layout::Kind::pad; f.layout.pad_bits = static_cast<int>(rng.range(f.elem.bits, 64)); break;
      case 3:
        f.layout.kind = Layout::Kind::planes;
        for (int left = f.elem.bits; left > 0; left -= f.layout.planes.back())
          f.layout.planes.push_back(static_cast<int>(rng.range(1, left)));
        break;
      default: break;
    }
    f.layout.first_code_low = rng.chance(0.8);
    const std::string text = f.text();
    ASSERT_EQ(Format::parse(text), f) << text;
    ASSERT_EQ(Format::parse(text).text(), text);
  }
}

TEST(Format, Words) {
  EXPECT_EQ(Format::parse("int8"), Format{});
  EXPECT_EQ(Format{}.text(), "int8");
  EXPECT_EQ(Format::parse("int1").text(), "bipolar");
  EXPECT_EQ(Format::parse("int2;narrow").text(), "ternary");
  EXPECT_EQ(Format::parse("fp16_e5m10;specials=ieee;scale=tensor:one;overflow=to_inf").text(), "f16");
  EXPECT_EQ(Format::parse("codebook[-1,-0.25,0.25,1]").text(), "codebook[-1,-1/4,1/4,1]");
  const Format fp6 = Format::parse("fp6_e3m2;scale=row:fp16;pack=2+4");
  EXPECT_EQ(fp6.scale.granularity, Granularity::channel);
  EXPECT_EQ(fp6.scale.axis, 0);
  EXPECT_EQ(fp6.scale.encoding, ScaleSpec::Encoding::f16);
  EXPECT_EQ(fp6.layout.planes, (std::vector<int>{2, 4}));
  for (const auto& d : list_formats()) {
    const Format f = Format::parse(d.example);
    EXPECT_EQ(Format::parse(f.text()), f) << d.example;
  }
}

TEST(Format, BadTextIsRefusedWithTheNearestWord) {
  const auto message = [](std::string_view s) -> std::string {
    try {
      Format::parse(s);
    } catch (const Error& e) {
      EXPECT_EQ(e.code(), Exit::bad_input) << s;
      return e.full();
    }
    ADD_FAILURE() << s << " was not refused";
    return "";
  };
  EXPECT_NE(message("itn8").find("int8"), std::string::npos);
  EXPECT_NE(message("int8;scale=chanel").find("channel"), std::string::npos);
  EXPECT_NE(message("int8;overflw=wrap").find("overflow"), std::string::npos);
  for (const char* s : {"", ";", "int", "int0", "int65", "int8;", "uint4;zero=int0", "fixed<8>", "fixed<8,4", "fixed<0,0>", "fp6_e3m3", "fp6_e0m5",
                        "fp3_e2m0;specials=ieee", "codebook[]", "codebook[1/0]", "codebook[a]", "codebook[1,2,3];bits=1", "int1;narrow",
                        "fp6_e3m2;pack=2+3", "int8;pack=pad(4)", "int8;scale=block", "int8;scale=block(1,0)", "int8;types=int4", "sm1",
                        "int8;bias=3", "fp6_e3m2;narrow", "int8;round=sideways", "int99999999999", "int8;scale=tensor(1,2,3)"})
    message(s);
}

// Any text is a format or is refused.
TEST(Format, RandomTextNeverCrashes) {
  Rng rng(2, "text");
  const std::string_view words[] = {"int", "8", "fixed<", ",", ">", ";", "=", "scale", "block(", ")", "(", "fp", "_e", "m", "codebook[", "]", "/", "-", "99999999999999999999", "|", "types", "pack", "+", "\n", "\xff", "bits", "zero"};
  int read = 0;
  for (int i = 0; i < 50000; ++i) {
    std::string s;
    for (std::int64_t n = rng.range(0, 8); n > 0; --n) s += words[rng.range(0, std::ssize(words) - 1)];
    try {
      const Format f = Format::parse(s);
      ASSERT_EQ(Format::parse(f.text()), f) << s;
      ++read;
    } catch (const Error& e) {
      ASSERT_EQ(e.code(), Exit::bad_input) << s;
    }
  }
  EXPECT_GT(read, 10);
}

TEST(Format, DecodeAgreesWithMachineTypes) {
  const Element f16 = Format::parse("f16").elem, bf16 = Format::parse("bf16").elem, f32 = Format::parse("f32").elem;
  for (unsigned c = 0; c < 65536; ++c) {
    const auto h = static_cast<std::uint16_t>(c);
    ASSERT_EQ(is_number(f16, c), std::isfinite(half_to_float(h)));
    if (is_number(f16, c)) { ASSERT_EQ(decode(f16, c), exact(half_to_float(h))); }
    ASSERT_EQ(is_number(bf16, c), std::isfinite(bf16_to_float(h)));
    if (is_number(bf16, c)) { ASSERT_EQ(decode(bf16, c), exact(bf16_to_float(h))); }
  }
  Rng rng(3, "f32");
  for (int i = 0; i < 10000; ++i) {
    const std::uint32_t u = rng.u32();
    const float v = std::bit_cast<float>(u);
    ASSERT_EQ(is_number(f32, u), std::isfinite(v));
    if (std::isfinite(v)) { ASSERT_EQ(decode(f32, u), exact(v)); }
  }
}

// Published extremes of the OCP FP8 (E4M3, E5M2) and Microscaling (FP6, FP4) specifications.
TEST(Format, PublishedExtremes) {
  const auto top = [](const char* s) { return grid(Format::parse(s).elem).back().value.get_d(); };
  EXPECT_EQ(top("fp8_e4m3"), 448);
  EXPECT_EQ(top("fp8_e5m2"), 57344);
  EXPECT_EQ(top("fp6_e3m2"), 28);
  EXPECT_EQ(top("fp6_e2m3"), 7.5);
  EXPECT_EQ(top("fp4_e2m1"), 6);
  std::vector<double> e2m1;
  for (const auto& p : grid(Format::parse("fp4_e2m1").elem)) e2m1.push_back(p.value.get_d());
  EXPECT_EQ(e2m1, (std::vector<double>{-6, -4, -3, -2, -1.5, -1, -0.5, 0, 0.5, 1, 1.5, 2, 3, 4, 6}));
  EXPECT_EQ(decode(Format::parse("fp8_e4m3").elem, 1), pow2(-9));
  EXPECT_EQ(decode(Format::parse("fp8_e5m2").elem, 1), pow2(-16));
}

TEST(Format, IntegerCastListsTheGrid) {
  for (const char* s : {"int8", "uint8", "int4;narrow", "uint4;narrow", "fixed<6,2>", "ufixed<5,-1>", "ternary", "bipolar", "uint1", "int2"}) {
    const Element e = Format::parse(s).elem;
    const Cast c = integer_cast(e);
    const auto g = grid(e);
    ASSERT_EQ(static_cast<std::int64_t>(g.size()), c.levels()) << s;
    for (std::int64_t k = c.kmin; k <= c.kmax; ++k) {
      const Rational v = c.scale * static_cast<long>(c.level(k));
      EXPECT_EQ(g[static_cast<std::size_t>(k - c.kmin)].value, v) << s;
      EXPECT_EQ(decode(e, static_cast<std::uint64_t>(k) & ((1ull << e.bits) - 1)), v) << s;
    }
  }
  const Cast wide = integer_cast(Format::parse("int64").elem);
  EXPECT_EQ(wide.kmin, INT64_MIN);
  EXPECT_EQ(wide.kmax, INT64_MAX);
  EXPECT_EQ(integer_cast(Format::parse("uint63").elem).kmax, INT64_MAX);
  EXPECT_THROW(integer_cast(Format::parse("uint64").elem), Error);
  EXPECT_THROW(integer_cast(Format::parse("f16").elem), Error);
}

}  // namespace
}  // namespace tandem
