#include "tandem/numerics/format.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <map>

#include "tandem/base/nearest.h"

namespace tandem {
namespace {

template <class T>
using Words = std::vector<std::pair<std::string, T>>;

const Words<Overflow> overflows{{"saturate", Overflow::saturate}, {"saturate_symmetric", Overflow::saturate_symmetric},
                                {"saturate_zero", Overflow::saturate_zero}, {"wrap", Overflow::wrap},
                                {"to_inf", Overflow::to_inf}, {"to_nan", Overflow::to_nan}};
const Words<CastSpec::Kind> casts{{"rounding", CastSpec::Kind::rounding}, {"nearest_lower_tie", CastSpec::Kind::nearest_lower_tie},
                                  {"stochastic", CastSpec::Kind::stochastic}, {"learned", CastSpec::Kind::learned},
                                  {"thresholds", CastSpec::Kind::thresholds}};
const Words<Element::Specials> specials_words{{"none", Element::Specials::none}, {"ieee", Element::Specials::ieee},
                                              {"ocp_nan", Element::Specials::ocp_nan}};
const Words<Granularity> granularities{{"tensor", Granularity::tensor}, {"channel", Granularity::channel},
                                       {"token", Granularity::token}, {"block", Granularity::block}, {"element", Granularity::element}};
using Encoding = ScaleSpec::Encoding;
const Words<Encoding> encodings{{"one", Encoding::one}, {"pow2", Encoding::pow2}, {"fp16", Encoding::f16}, {"bf16", Encoding::bf16},
                                {"fp32", Encoding::f32}, {"int", Encoding::integer_of_parent}, {"f16", Encoding::f16}, {"f32", Encoding::f32}};
using Source = ScaleSpec::Source;
const Words<Source> sources{{"fixed", Source::fixed}, {"absmax", Source::absmax}, {"percentile", Source::percentile},
                            {"mse", Source::mse}, {"learned_step", Source::learned_step}, {"learned_exponent", Source::learned_exponent},
                            {"dynamic_absmax", Source::dynamic_absmax}, {"dynamic_absmean", Source::dynamic_absmean}};
const Words<ScaleSpec::Round> scale_rounds{{"nearest", ScaleSpec::Round::nearest}, {"up_to_pow2", ScaleSpec::Round::up_to_pow2},
                                           {"floor_pow2", ScaleSpec::Round::floor_pow2}};

template <class T>
const T* find(const Words<T>& words, std::string_view w) {
  for (const auto& [name, v] : words)
    if (name == w) return &v;
  return nullptr;
}
template <class T>
const std::string& word_of(const Words<T>& words, T v) {
  for (const auto& [name, x] : words)
    if (x == v) return name;
  bug(__FILE__, __LINE__, "a value without a word");
}
template <class T>
void add_names(std::vector<std::string>& out, const Words<T>& words) {
  for (const auto& [name, v] : words) out.push_back(name);
}

// Splits at `sep` outside brackets.
std::vector<std::string_view> split(std::string_view s, char sep) {
  std::vector<std::string_view> r;
  int depth = 0;
  std::size_t begin = 0;
  for (std::size_t i = 0; i < s.size(); ++i) {
    if (s[i] == '(' || s[i] == '[' || s[i] == '<') ++depth;
    else if (s[i] == ')' || s[i] == ']' || s[i] == '>') --depth;
    else if (s[i] == sep && depth <= 0) r.push_back(s.substr(begin, i - begin)), begin = i + 1;
  }
  r.push_back(s.substr(begin));
  return r;
}
std::string_view trim(std::string_view s) {
  while (!s.empty() && s.front() == ' ') s.remove_prefix(1);
  while (!s.empty() && s.back() == ' ') s.remove_suffix(1);
  return s;
}

class Parser {
 public:
  explicit Parser(std::string_view text) : text_(text) {}

  Format format() {
    if (text_.size() > 65536) throw Error(Exit::limit, "a number format of more than 65536 characters");
    const auto parts = split(text_, ';');
    Format f;
    head(trim(parts[0]), f.elem, &f);
    for (std::size_t i = 1; i < parts.size(); ++i) {
      const auto part = trim(parts[i]);
      const auto eq = part.find('=');
      const std::string key(trim(part.substr(0, eq)));
      const std::string_view value = eq == std::string_view::npos ? std::string_view() : trim(part.substr(eq + 1));
      if (element_part(f.elem, key, value)) continue;
      if (key == "scale") scale(f.scale, value);
      else if (key == "zero") f.zero.bits = value == "none" ? 0 : integer(value.starts_with("int") ? value.substr(3) : value, 1, 64, key);
      else if (key == "round") f.cast.rounding = parse_rounding(value);
      else if (key == "overflow") f.cast.overflow = word(overflows, value, key);
      else if (key == "cast") f.cast.kind = word(casts, value, key);
      else if (key == "flush") f.cast.flush_subnormals = true;
      else if (key == "types") types(f.types, value);
      else if (key == "pack") pack(f.layout, value);
      else if (key == "first") f.layout.first_code_low = word(Words<bool>{{"low", true}, {"high", false}}, value, key);
      else
        throw fail("the part '{}' is not known", printable(key))
            .fix(suggest(key, {"narrow", "bias", "specials", "no_subnormal", "bits", "scale", "zero", "round", "overflow", "cast",
                               "flush", "types", "pack", "first"}));
    }
    finish(f.elem);
    if (f.layout.kind == Layout::Kind::planes) {
      int sum = 0;
      for (int w : f.layout.planes) sum += w;
      if (sum != f.elem.bits) throw fail("planes of {} bits do not make codes of {}", sum, f.elem.bits);
    }
    if (f.layout.kind == Layout::Kind::pad && f.layout.pad_bits < f.elem.bits)
      throw fail("codes of {} bits do not fit pad({})", f.elem.bits, f.layout.pad_bits);
    return f;
  }

 private:
  template <class... A>
  Error fail(fmt::format_string<A...> what, A&&... a) const {
    return bad_input("number format '{}': {}", printable(text_.substr(0, 200)), fmt::format(what, std::forward<A>(a)...))
        .expected("such as int8, uint4, fixed<16,6>, ternary, bipolar, f16, fp6_e3m2;scale=row:fp16");
  }
  int integer(std::string_view s, int lo, int hi, std::string_view what) const {
    int v = 0;
    const auto [end, e] = std::from_chars(s.data(), s.data() + s.size(), v);
    if (e != std::errc() || end != s.data() + s.size() || v < lo || v > hi)
      throw fail("'{}' is not a value for {}", printable(s), what).expected(fmt::format("an integer from {} to {}", lo, hi));
    return v;
  }
  template <class T>
  T word(const Words<T>& words, std::string_view w, std::string_view what) const {
    if (const T* v = find(words, w)) return *v;
    std::vector<std::string> names;
    add_names(names, words);
    throw fail("'{}' is not a value for {}", printable(w), what).fix(suggest(w, names));
  }
  // "name(a,b)" -> name and its integers.
  std::pair<std::string_view, std::vector<int>> call(std::string_view s) const {
    const auto open = s.find('(');
    if (open == std::string_view::npos) return {s, {}};
    if (s.back() != ')') throw fail("'{}' does not end with ')'", printable(s));
    std::vector<int> args;
    for (auto a : split(s.substr(open + 1, s.size() - open - 2), ',')) args.push_back(integer(trim(a), -(1 << 30), 1 << 30, s.substr(0, open)));
    return {s.substr(0, open), args};
  }

  Rational rational(std::string_view s) const {
    const auto bad = [&] { return fail("'{}' is not a number", printable(s)).expected("such as -1, 0.25 or 3/8"); };
    std::string digits;
    std::size_t i = !s.empty() && s[0] == '-' ? 1 : 0, decimals = 0;
    bool point = false, slash = false;
    std::string den;
    for (; i < s.size(); ++i) {
      if (s[i] >= '0' && s[i] <= '9') (slash ? den : digits) += s[i], decimals += point;
      else if (s[i] == '.' && !point && !slash) point = true;
      else if (s[i] == '/' && !point && !slash) slash = true;
      else throw bad();
    }
    if (digits.empty() || (slash && den.empty()) || digits.size() > 400 || den.size() > 400) throw bad();
    Integer d = slash ? Integer(den, 10) : Integer(1);
    if (d == 0) throw bad();
    for (std::size_t j = 0; j < decimals; ++j) d *= 10;
    Rational q(Integer(digits, 10), d);
    q.canonicalize();
    return s[0] == '-' ? Rational(-q) : q;
  }

  // Sets the element and, where the word has them, the defaults of the other parts.
  void head(std::string_view w, Element& e, Format* f) {
    const auto c_float = [&](int bits, int exponent, int mantissa) {
      e.kind = Element::Kind::floating;
      e.bits = bits, e.exponent_bits = exponent, e.mantissa_bits = mantissa, e.bias = (1 << (exponent - 1)) - 1;
      e.specials = Element::Specials::ieee;
      if (f) f->scale.encoding = Encoding::one, f->cast.overflow = Overflow::to_inf;
    };
    const auto digits = [](std::string_view s) { return !s.empty() && std::all_of(s.begin(), s.end(), [](char c) { return c >= '0' && c <= '9'; }); };
    if (w == "f32" || w == "fp32") return c_float(32, 8, 23);
    if (w == "f16" || w == "fp16") return c_float(16, 5, 10);
    if (w == "bf16") return c_float(16, 8, 7);
    if (w == "bipolar") { e.bits = 1; return; }
    if (w == "ternary") { e.bits = 2; e.narrow = true; return; }
    if (w.starts_with("int") && digits(w.substr(3))) { e.bits = integer(w.substr(3), 1, 64, "bits"); return; }
    if (w.starts_with("uint") && digits(w.substr(4))) { e.bits = integer(w.substr(4), 1, 64, "bits"); e.is_signed = false; return; }
    if (w.starts_with("sm") && digits(w.substr(2))) { e.kind = Element::Kind::sign_magnitude; e.bits = integer(w.substr(2), 2, 64, "bits"); return; }
    if (w.starts_with("fixed<") || w.starts_with("ufixed<")) {
      e.is_signed = w[0] == 'f';
      const auto open = w.find('<');
      if (w.back() != '>') throw fail("'{}' does not end with '>'", printable(w));
      const auto args = split(w.substr(open + 1, w.size() - open - 2), ',');
      if (args.size() != 2) throw fail("fixed takes <width, integer bits>");
      e.bits = integer(trim(args[0]), 1, 64, "the width");
      e.fraction_bits = e.bits - integer(trim(args[1]), -1000, 1000, "the integer bits");
      if (f) f->scale.encoding = Encoding::one;
      return;
    }
    if (w.starts_with("fp") || w.starts_with("ufp")) {
      const std::size_t at = w[0] == 'u' ? 3 : 2, us = w.find("_e"), m = w.find('m', us == std::string_view::npos ? 0 : us);
      if (us != std::string_view::npos && m != std::string_view::npos) {
        e.kind = Element::Kind::floating;
        e.is_signed = at == 2;
        e.bits = integer(w.substr(at, us - at), 1, 64, "bits");
        e.exponent_bits = integer(w.substr(us + 2, m - us - 2), 1, 11, "exponent bits");
        e.mantissa_bits = integer(w.substr(m + 1), 0, 52, "mantissa bits");
        e.bias = (1 << (e.exponent_bits - 1)) - 1;
        e.specials = named_specials(e);
        return;
      }
    }
    if (w.starts_with("codebook[") && w.back() == ']') {
      e.kind = Element::Kind::codebook;
      for (auto v : split(w.substr(9, w.size() - 10), ',')) e.codebook.push_back(rational(trim(v)));
      e.bits = 1;
      while ((std::size_t(1) << e.bits) < e.codebook.size()) ++e.bits;
      return;
    }
    std::vector<std::string> names;
    for (const auto& d : list_formats()) names.push_back(d.example.substr(0, d.example.find(';')));
    throw fail("the element '{}' is not known", printable(w)).fix(suggest(w, names));
  }

 public:
  static Element::Specials named_specials(const Element& e) {
    if (e.is_signed && e.bits == 8 && e.exponent_bits == 4) return Element::Specials::ocp_nan;
    if (e.is_signed && e.bits == 8 && e.exponent_bits == 5) return Element::Specials::ieee;
    return Element::Specials::none;
  }

 private:
  bool element_part(Element& e, const std::string& key, std::string_view value) {
    const auto only = [&](Element::Kind kind) {
      if (e.kind != kind) throw fail("'{}' does not apply to this element", key);
    };
    if (key == "narrow") only(Element::Kind::integer), e.narrow = true;
    else if (key == "bias") only(Element::Kind::floating), e.bias = integer(value, -10000, 10000, key);
    else if (key == "specials") only(Element::Kind::floating), e.specials = word(specials_words, value, key);
    else if (key == "no_subnormal") only(Element::Kind::floating), e.subnormal = false;
    else if (key == "bits") only(Element::Kind::codebook), e.bits = integer(value, 1, 64, key);
    else return false;
    return true;
  }
  void finish(const Element& e) const {
    try {
      check(e);
    } catch (const Error& error) {
      throw fail("{}", error.message());
    }
  }
  void scale(ScaleSpec& s, std::string_view value) {
    for (auto part : split(value, ':')) {
      auto [w, args] = call(trim(part));
      const auto arity = [&](std::size_t n) {
        if (args.size() > n) throw fail("'{}' takes at most {} numbers", printable(w), n);
      };
      if (w == "row") {
        arity(0);
        s.granularity = Granularity::channel, s.axis = 0;
      } else if (const auto* g = find(granularities, w)) {
        arity(2);
        s.granularity = *g;
        if (!args.empty()) s.axis = args[0];
        if (args.size() > 1) s.block = args[1];
        if (*g == Granularity::block && s.block < 1) throw fail("a block has {} elements", s.block).expected("block(axis,n) with n of 1 or more");
        if (s.block < 0) throw fail("a block has {} elements", s.block);
      } else if (const auto* e = find(encodings, w)) {
        arity(1);
        s.encoding = *e;
        s.bits = args.empty() ? 0 : args[0];
        if (s.bits < 0 || s.bits > 64) throw fail("a scale of {} bits", s.bits);
      } else if (const auto* o = find(sources, w)) {
        arity(0);
        s.source = *o;
      } else if (const auto* r = find(scale_rounds, w)) {
        arity(0);
        s.rounding = *r;
      } else {
        std::vector<std::string> names{"row"};
        add_names(names, granularities), add_names(names, encodings), add_names(names, sources), add_names(names, scale_rounds);
        throw fail("the scale has no '{}'", printable(w)).fix(suggest(w, names));
      }
    }
  }
  void types(std::vector<Element>& out, std::string_view value) {
    for (auto t : split(value, '|')) {
      t = trim(t);
      if (t.size() < 2 || t.front() != '(' || t.back() != ')') throw fail("a type is written in parentheses").expected("types=(int4)|(fp4_e2m1)");
      const auto parts = split(t.substr(1, t.size() - 2), ';');
      Element e;
      head(trim(parts[0]), e, nullptr);
      for (std::size_t i = 1; i < parts.size(); ++i) {
        const auto p = trim(parts[i]);
        const auto eq = p.find('=');
        if (!element_part(e, std::string(p.substr(0, eq)), eq == std::string_view::npos ? std::string_view() : p.substr(eq + 1)))
          throw fail("'{}' is not part of an element", printable(p));
      }
      finish(e);
      out.push_back(std::move(e));
    }
  }
  void pack(Layout& l, std::string_view value) {
    const auto [w, args] = call(value);
    if (w == "continuous" && args.empty()) l.kind = Layout::Kind::continuous;
    else if (w == "trits" && args.empty()) l.kind = Layout::Kind::trits;
    else if (w == "pad" && args.size() == 1) l.kind = Layout::Kind::pad, l.pad_bits = integer(std::to_string(args[0]), 1, 64, "pad");
    else if (!value.empty() && value[0] >= '0' && value[0] <= '9') {
      l.kind = Layout::Kind::planes;
      for (auto p : split(value, '+')) l.planes.push_back(integer(p, 1, 64, "a plane"));
    } else throw fail("'{}' is not a way to pack", printable(value)).fix(suggest(w, {"continuous", "trits", "pad(8)", "2+4"}));
  }

  std::string_view text_;
};

std::string element_text(const Element& e) {
  switch (e.kind) {
    case Element::Kind::integer: {
      const char* u = e.is_signed ? "" : "u";
      if (e.fraction_bits != 0) return fmt::format("{}fixed<{},{}>{}", u, e.bits, e.bits - e.fraction_bits, e.narrow ? ";narrow" : "");
      if (e.is_signed && e.bits == 1 && !e.narrow) return "bipolar";
      if (e.is_signed && e.bits == 2 && e.narrow) return "ternary";
      return fmt::format("{}int{}{}", u, e.bits, e.narrow ? ";narrow" : "");
    }
    case Element::Kind::sign_magnitude: return fmt::format("sm{}", e.bits);
    case Element::Kind::floating: {
      std::string s;
      auto named = Element::Specials::ieee;
      if (e.is_signed && e.bits == 32 && e.exponent_bits == 8) s = "f32";
      else if (e.is_signed && e.bits == 16 && e.exponent_bits == 5) s = "f16";
      else if (e.is_signed && e.bits == 16 && e.exponent_bits == 8) s = "bf16";
      else {
        s = fmt::format("{}fp{}_e{}m{}", e.is_signed ? "" : "u", e.bits, e.exponent_bits, e.mantissa_bits);
        named = Parser::named_specials(e);
      }
      if (e.bias != (1 << (e.exponent_bits - 1)) - 1) s += fmt::format(";bias={}", e.bias);
      if (e.specials != named) s += ";specials=" + word_of(specials_words, e.specials);
      if (!e.subnormal) s += ";no_subnormal";
      return s;
    }
    case Element::Kind::codebook: {
      std::vector<std::string> v;
      for (const auto& q : e.codebook) v.push_back(q.get_str());
      std::string s = fmt::format("codebook[{}]", fmt::join(v, ","));
      int bits = 1;
      while ((std::size_t(1) << bits) < e.codebook.size()) ++bits;
      if (bits != e.bits) s += fmt::format(";bits={}", e.bits);
      return s;
    }
  }
  bug(__FILE__, __LINE__, "unknown kind of element");
}

std::uint64_t mask(int bits) { return bits >= 64 ? ~0ull : (1ull << bits) - 1; }

}  // namespace

void check(const Element& e) {
  if (e.bits < 1 || e.bits > 64) throw bad_input("an element of {} bits", e.bits).expected("1 to 64 bits");
  switch (e.kind) {
    case Element::Kind::integer:
      if (e.narrow && e.bits == 1) throw bad_input("an integer of 1 bit cannot be narrow");
      if (e.is_signed && e.bits == 1 && e.fraction_bits != 0) throw bad_input("bipolar codes have no fraction bits");
      return;
    case Element::Kind::sign_magnitude:
      if (e.bits < 2) throw bad_input("sign-magnitude of {} bits", e.bits).expected("2 or more bits");
      return;
    case Element::Kind::floating:
      if (e.exponent_bits < 1 || e.exponent_bits > 11 || e.mantissa_bits < 0 || e.mantissa_bits > 52)
        throw bad_input("a float with {} exponent and {} mantissa bits", e.exponent_bits, e.mantissa_bits);
      if (e.bits != e.is_signed + e.exponent_bits + e.mantissa_bits)
        throw bad_input("{} sign, {} exponent and {} mantissa bits do not make {} bits", int(e.is_signed), e.exponent_bits, e.mantissa_bits, e.bits);
      if (e.specials == Element::Specials::ieee && e.mantissa_bits == 0) throw bad_input("without mantissa bits a float has no room for both infinity and NaN");
      return;
    case Element::Kind::codebook:
      if (e.codebook.empty()) throw bad_input("a codebook without values");
      if (e.bits < 64 && e.codebook.size() > (1ull << e.bits))
        throw bad_input("a codebook of {} values does not fit {} bits", e.codebook.size(), e.bits);
      return;
  }
}

bool is_number(const Element& e, std::uint64_t code) {
  if (code > mask(e.bits)) return false;
  switch (e.kind) {
    case Element::Kind::integer:
      return !e.narrow || code != (e.is_signed ? 1ull << (e.bits - 1) : mask(e.bits));
    case Element::Kind::sign_magnitude: return true;
    case Element::Kind::floating: {
      const std::uint64_t magnitude = code & mask(e.exponent_bits + e.mantissa_bits);
      if (e.specials == Element::Specials::ieee) return (magnitude >> e.mantissa_bits) != mask(e.exponent_bits);
      if (e.specials == Element::Specials::ocp_nan) return magnitude != mask(e.exponent_bits + e.mantissa_bits);
      return true;
    }
    case Element::Kind::codebook: return code < e.codebook.size();
  }
  return false;
}

Rational decode(const Element& e, std::uint64_t code) {
  if (!is_number(e, code)) throw bad_input("code {:#x} of {} is not a number", code, element_text(e));
  const auto big = [](std::uint64_t v) { return Rational(Integer(static_cast<unsigned long>(v))); };
  switch (e.kind) {
    case Element::Kind::integer: {
      if (e.is_signed && e.bits == 1) return code ? 1 : -1;
      Rational v = big(code);
      if (e.is_signed && (code >> (e.bits - 1)) != 0) v -= pow2(e.bits);
      return v * pow2(-e.fraction_bits);
    }
    case Element::Kind::sign_magnitude: {
      const Rational v = big(code & mask(e.bits - 1));
      return (code >> (e.bits - 1)) != 0 ? Rational(-v) : v;
    }
    case Element::Kind::floating: {
      const std::uint64_t field = (code >> e.mantissa_bits) & mask(e.exponent_bits), m = code & mask(e.mantissa_bits);
      if (field == 0 && !e.subnormal) return 0;
      const Rational v = (field == 0 ? big(m) : big(m | (1ull << e.mantissa_bits))) *
                         pow2(static_cast<int>(std::max<std::uint64_t>(field, 1)) - e.bias - e.mantissa_bits);
      return e.is_signed && (code >> (e.bits - 1)) != 0 ? Rational(-v) : v;
    }
    case Element::Kind::codebook: return e.codebook[code];
  }
  bug(__FILE__, __LINE__, "unknown kind of element");
}

std::vector<GridPoint> grid(const Element& e) {
  check(e);
  if (e.bits > 16) throw bad_input("a grid of {} bits is not listed", e.bits).expected("16 bits or fewer");
  std::vector<GridPoint> g;
  for (std::uint64_t c = 0; c <= mask(e.bits); ++c)
    if (is_number(e, c)) g.push_back({decode(e, c), c});
  std::stable_sort(g.begin(), g.end(), [](const GridPoint& a, const GridPoint& b) { return a.value < b.value; });
  g.erase(std::unique(g.begin(), g.end(), [](const GridPoint& a, const GridPoint& b) { return a.value == b.value; }), g.end());
  return g;
}

Cast integer_cast(const Element& e, const CastSpec& c) {
  check(e);
  if (e.kind != Element::Kind::integer) throw bad_input("{} is not an integer format", element_text(e)).expected("int, uint, fixed, ternary or bipolar");
  if (e.bits > 63 + e.is_signed) throw bad_input("{} has codes beyond 64-bit integers", element_text(e));
  if (c.kind != CastSpec::Kind::rounding) throw bad_input("the cast '{}' is not a rounding", word_of(casts, c.kind));
  if (c.overflow == Overflow::to_inf || c.overflow == Overflow::to_nan) throw bad_input("an integer format has no infinity and no NaN to overflow to");
  Cast r;
  r.scale = pow2(-e.fraction_bits);
  r.rounding = c.rounding;
  r.overflow = c.overflow;
  if (e.is_signed && e.bits == 1) {
    r.bipolar = true;
    r.kmax = 1;
  } else if (e.is_signed) {
    r.kmin = -(std::int64_t(1) << (e.bits - 2)) * 2 + e.narrow;
    r.kmax = static_cast<std::int64_t>(mask(e.bits - 1));
  } else {
    r.kmax = static_cast<std::int64_t>(mask(e.bits)) - e.narrow;
  }
  return r;
}

Format Format::parse(std::string_view text) { return Parser(text).format(); }

std::string Format::text() const {
  std::string s = element_text(elem);
  const Format d = parse(s);
  if (scale != d.scale) {
    std::string g = word_of(granularities, scale.granularity);
    if (scale.block != 0) g += fmt::format("({},{})", scale.axis, scale.block);
    else if (scale.axis != 1) g += fmt::format("({})", scale.axis);
    s += ";scale=" + g;
    if (scale.encoding != d.scale.encoding || scale.bits != 0) {
      s += ":" + word_of(encodings, scale.encoding);
      if (scale.bits != 0) s += fmt::format("({})", scale.bits);
    }
    if (scale.source != d.scale.source) s += ":" + word_of(sources, scale.source);
    if (scale.rounding != d.scale.rounding) s += ":" + word_of(scale_rounds, scale.rounding);
  }
  if (zero.bits != 0) s += fmt::format(";zero=int{}", zero.bits);
  if (cast.kind != d.cast.kind) s += ";cast=" + word_of(casts, cast.kind);
  if (cast.rounding != d.cast.rounding) s += fmt::format(";round={}", to_string(cast.rounding));
  if (cast.overflow != d.cast.overflow) s += ";overflow=" + word_of(overflows, cast.overflow);
  if (cast.flush_subnormals) s += ";flush";
  if (!types.empty()) {
    std::vector<std::string> t;
    for (const auto& e : types) t.push_back("(" + element_text(e) + ")");
    s += fmt::format(";types={}", fmt::join(t, "|"));
  }
  switch (layout.kind) {
    case Layout::Kind::continuous: break;
    case Layout::Kind::trits: s += ";pack=trits"; break;
    case Layout::Kind::pad: s += fmt::format(";pack=pad({})", layout.pad_bits); break;
    case Layout::Kind::planes: s += fmt::format(";pack={}", fmt::join(layout.planes, "+")); break;
  }
  if (!layout.first_code_low) s += ";first=high";
  return s;
}

const std::vector<FormatDoc>& list_formats() {
  static const std::vector<FormatDoc> docs{
      {"intN", "two's complement integer, 1 to 64 bits, times a scale; int1 is bipolar", "int8"},
      {"uintN", "unsigned integer times a scale; with zero=int8 asymmetric", "uint4;zero=int8"},
      {"narrow", "integer without its most negative code (signed) or its largest (unsigned)", "int4;narrow"},
      {"fixed<W,I>", "fixed point: W bits, I of them before the point; ufixed<W,I> is unsigned", "fixed<16,6>"},
      {"ternary", "-1, 0, +1 times a scale, 2 bits, or 5 codes a byte with pack=trits", "ternary;scale=tensor:dynamic_absmean"},
      {"bipolar", "-1 and +1 times a scale; x >= 0 gives +1", "bipolar"},
      {"smN", "sign-magnitude integer, two zeros", "sm4"},
      {"f32", "IEEE single precision", "f32"},
      {"f16", "IEEE half precision", "f16"},
      {"bf16", "the upper half of f32", "bf16"},
      {"fpB_eEmM", "minifloat of B = 1 + E + M bits, subnormals, no infinity, no NaN; times a scale", "fp6_e3m2;scale=row:fp16;pack=2+4"},
      {"fp8_e4m3", "FP8 of the OCP standard: one NaN, no infinity", "fp8_e4m3"},
      {"fp8_e5m2", "FP8 of the OCP standard: IEEE specials", "fp8_e5m2"},
      {"codebook[...]", "any table of rational values, by code", "codebook[-1,-1/4,1/4,1];scale=block(1,64)"},
  };
  return docs;
}

}  // namespace tandem
