#include "tandem/proof/cause.h"

#include <algorithm>
#include <bit>
#include <optional>

#include "tandem/base/error.h"

namespace tandem::proof {
namespace {
using I = std::int64_t;

struct Pairs {
  std::span<const I> e, a;       // expected and actual, equally long
  std::vector<std::size_t> at;   // where they differ
  I per = 1;                     // elements of a frame
};

std::string count_of(std::size_t n, std::string_view what = "element that differs", std::string_view whats = "elements that differ") {
  return n == 1 ? fmt::format("the one {}", what) : fmt::format("all {} {}", n, whats);
}

// The same values in each frame, in other places; or all of them some places late or early.
std::optional<Cause> order(const Pairs& p) {
  std::size_t frames = 0;
  bool permuted = true;
  for (std::size_t f = 0; permuted && f * static_cast<std::size_t>(p.per) < p.e.size(); ++f) {
    const std::size_t from = f * static_cast<std::size_t>(p.per), to = std::min(p.e.size(), from + static_cast<std::size_t>(p.per));
    std::vector<I> e(p.e.begin() + static_cast<std::ptrdiff_t>(from), p.e.begin() + static_cast<std::ptrdiff_t>(to)),
        a(p.a.begin() + static_cast<std::ptrdiff_t>(from), p.a.begin() + static_cast<std::ptrdiff_t>(to));
    if (e == a) continue;
    ++frames;
    std::sort(e.begin(), e.end());
    std::sort(a.begin(), a.end());
    permuted = e == a;
  }
  if (permuted && p.at.size() > 1)
    return Cause{CauseKind::order, fmt::format("{} hold the expected values of the same frame in other places ({})", count_of(frames, "frame that differs", "frames that differ"), count_of(p.at.size()))};
  // From the first difference on, all values are those expected k places before or behind.
  const std::size_t from = p.at.front(), n = p.e.size();
  for (std::size_t k = 1; k <= static_cast<std::size_t>(std::min<I>(p.per, 4096)); ++k)
    for (const bool late : {true, false}) {
      std::size_t checked = 0;
      bool same = true;
      std::vector<I> seen;
      for (std::size_t i = from; same && i < n; ++i) {
        if (late ? i < from + k : i + k >= n) continue;
        same = p.a[i] == p.e[late ? i - k : i + k];
        if (++checked <= 64) seen.push_back(p.a[i]);
      }
      std::sort(seen.begin(), seen.end());
      if (same && checked >= 8 && checked + k >= p.at.size() && std::unique(seen.begin(), seen.end()) - seen.begin() > 2)
        return Cause{CauseKind::order, fmt::format("from the first difference on, {} values are those expected {} place{} {}", checked, k, k > 1 ? "s" : "", late ? "earlier: something was sent twice or inserted" : "later: something was left out")};
    }
  return {};
}

// What came is expected, in that order, but some of it is left out.
std::optional<Cause> missing(std::span<const I> e, std::span<const I> a) {
  if (a.size() >= e.size() || a.size() < 4) return {};
  std::size_t i = 0, first = e.size();
  for (I v : a) {
    for (; i < e.size() && e[i] != v; ++i) first = std::min(first, i);
    if (i++ >= e.size()) return {};
  }
  return Cause{CauseKind::missing, fmt::format("the {} elements that came are expected ones in their order; left out are {}, from element {} of the stream at the latest", a.size(), e.size() - a.size(), std::min(first, a.size()))};
}

I wrapped(I v, int bits, bool is_signed) {
  std::uint64_t u = static_cast<std::uint64_t>(v) & ((1ull << bits) - 1);
  if (is_signed && (u >> (bits - 1))) u |= ~0ull << bits;
  return static_cast<I>(u);
}
// Every value, also of those that agree, is the expected one cut to some bits.
std::optional<Cause> width(const Pairs& p, const CauseContext& c) {
  for (int k = std::min(c.bits, 62); k >= 1; --k)
    for (const bool sign : {c.is_signed, !c.is_signed}) {
      if (!std::all_of(p.at.begin(), p.at.end(), [&](std::size_t i) { return wrapped(p.e[i], k, sign) == p.a[i]; })) continue;
      bool all = true;
      for (std::size_t i = 0; all && i < p.e.size(); ++i) all = wrapped(p.e[i], k, sign) == p.a[i];
      if (!all) continue;
      if (k == c.bits && sign != c.is_signed)
        return Cause{CauseKind::width, fmt::format("every value is the expected one with its top bit taken as {} ({} bits)", sign ? "a sign" : "a magnitude", k)};
      return Cause{CauseKind::width, fmt::format("every value is the expected one cut to {} of {} bits, {}", k, c.bits, sign ? "signed" : "unsigned")};
    }
  // One bit lost or stuck: all differences are one power of two, upwards or downwards.
  std::uint64_t flipped = 0;
  for (std::size_t i : p.at) flipped |= static_cast<std::uint64_t>(p.e[i] ^ p.a[i]);
  if (p.at.size() >= 4 && flipped && (flipped & (flipped - 1)) == 0 && flipped > 1) {
    const int bit = static_cast<int>(std::countr_zero(flipped));
    const bool to = (p.a[p.at[0]] >> bit) & 1;
    if (std::all_of(p.a.begin(), p.a.end(), [&](I v) { return ((v >> bit) & 1) == to; }))
      return Cause{CauseKind::width, fmt::format("bit {} is always {}", bit, to ? 1 : 0)};
  }
  return {};
}

std::optional<Cause> saturation(const Pairs& p, const CauseContext& c) {
  std::string said;
  for (const bool up : {true, false}) {
    std::vector<std::size_t> side;  // clamped from above: actual < expected; or the other way round: the actual goes beyond
    for (std::size_t i : p.at)
      if (up == (std::max(p.e[i], p.a[i]) == p.e[i])) side.push_back(i);
    if (side.empty()) continue;
    const auto same = [&](std::span<const I> v) { return std::all_of(side.begin(), side.end(), [&](std::size_t i) { return v[i] == v[side[0]]; }); };
    const auto far = [&](std::span<const I> v, bool most) {
      I x = v[side[0]];
      for (std::size_t i : side) x = most ? std::max(x, v[i]) : std::min(x, v[i]);
      return x;
    };
    const auto bound = [&](std::span<const I> v, bool top) { return v[side[0]] == (top ? *std::max_element(v.begin(), v.end()) : *std::min_element(v.begin(), v.end())); };
    // Actual stops at a bound that the expected passes: on this side above it (up) or below it.
    if (same(p.a) && bound(p.a, up) && (far(p.e, true) != far(p.e, false) || p.a[side[0]] == (up ? c.hi : c.lo)))
      said += fmt::format("{}{} stop at {}, where {} {} is expected", said.empty() ? "" : "; ", count_of(side.size()), p.a[side[0]], up ? "up to" : "down to", far(p.e, up));
    // Expected stops at a bound that the actual passes.
    else if (same(p.e) && (side.size() > 2 || p.e[side[0]] == (up ? c.lo : c.hi)) && bound(p.e, !up) && (far(p.a, true) != far(p.a, false) || far(p.a, true) > c.hi || far(p.a, false) < c.lo))
      said += fmt::format("{}{} should stop at {} and go on {} {}", said.empty() ? "" : "; ", count_of(side.size()), p.e[side[0]], up ? "down to" : "up to", far(p.a, !up));
    else
      return {};
  }
  return Cause{CauseKind::saturation, said};
}

// Wrong only where a bound is expected: what should stop there wraps.
std::optional<Cause> wraps(const Pairs& p, const CauseContext& c) {
  std::size_t bound = 0;
  for (I v : p.e) bound += v == c.lo || v == c.hi;
  if (p.at.size() < 3 || bound == p.e.size() || !std::all_of(p.at.begin(), p.at.end(), [&](std::size_t i) { return p.e[i] == c.lo || p.e[i] == c.hi; })) return {};
  return Cause{CauseKind::saturation, fmt::format("{} are expected at {} or {} and do not stop there; the {} expected between them are right", count_of(p.at.size()), c.lo, c.hi, p.e.size() - bound)};
}

std::optional<Cause> rounding(const Pairs& p, const CauseContext& c, bool only_steps) {
  std::size_t up = 0, on = 0;
  for (std::size_t i : p.at) {
    if (std::max(p.e[i], p.a[i]) - std::min(p.e[i], p.a[i]) != 1) return {};
    up += p.a[i] > p.e[i];
    on += !c.on_step.empty() && c.on_step[i];
  }
  if (only_steps && (c.on_step.empty() || on != p.at.size())) return {};
  std::string s = fmt::format("{} {} one code {}", count_of(p.at.size()), p.at.size() == 1 ? "is" : "are", up == 0 ? "low" : up == p.at.size() ? "high" : "off");
  if (!c.on_step.empty()) s += fmt::format("; the quantiser's input lies on a step or next to it in {} of them", on);
  return Cause{CauseKind::rounding, s};
}

std::optional<Cause> range(const Pairs& p, const CauseContext& c) {
  const auto outside = [&](I v) { return v < c.lo || v > c.hi; };
  const auto n = static_cast<std::size_t>(std::count_if(p.at.begin(), p.at.end(), [&](std::size_t i) { return outside(p.a[i]); }));
  const auto m = static_cast<std::size_t>(std::count_if(p.at.begin(), p.at.end(), [&](std::size_t i) { return outside(p.e[i]); }));
  if (n == 0 && m == 0) return {};
  const bool actual = n >= m;
  return Cause{CauseKind::range, fmt::format("{} of {} elements that differ {} outside [{}, {}]", actual ? n : m, p.at.size(), actual ? "lie" : "are expected", c.lo, c.hi)};
}

}  // namespace

std::string_view name_of(CauseKind k) {
  switch (k) {
    case CauseKind::none: return "";
    case CauseKind::rounding: return "rounding";
    case CauseKind::saturation: return "saturation";
    case CauseKind::order: return "order";
    case CauseKind::range: return "range";
    case CauseKind::width: return "width";
    case CauseKind::missing: return "missing";
    case CauseKind::other: return "other";
  }
  return "?";
}

Cause find_cause(std::span<const I> expected, std::span<const I> actual, I per_frame, const CauseContext& c) {
  const std::size_t n = std::min(expected.size(), actual.size());
  Pairs p{expected.first(n), actual.first(n), {}, std::max<I>(1, per_frame)};
  for (std::size_t i = 0; i < n; ++i)
    if (p.e[i] != p.a[i]) p.at.push_back(i);
  const std::string amount = expected.size() == actual.size() ? "" : fmt::format("{} elements instead of {}", actual.size(), expected.size());
  if (p.at.empty()) return amount.empty() ? Cause{} : Cause{CauseKind::missing, amount + ", the others as expected"};
  std::optional<Cause> r = missing(expected, actual);
  if (!r) r = order(p);
  if (!r) r = rounding(p, c, true);
  if (!r) r = saturation(p, c);
  if (!r) r = width(p, c);
  if (!r) r = wraps(p, c);
  if (!r) r = range(p, c);
  if (!r) r = rounding(p, c, false);
  if (!r) {
    const auto [lo, hi] = std::minmax_element(p.at.begin(), p.at.end(), [&](std::size_t i, std::size_t j) { return p.a[i] - p.e[i] < p.a[j] - p.e[j]; });
    const bool negated = std::all_of(p.at.begin(), p.at.end(), [&](std::size_t i) { return p.a[i] == -p.e[i]; });
    r = Cause{CauseKind::other, negated ? fmt::format("{} have the other sign", count_of(p.at.size()))
                                        : fmt::format("no experiment held: differences from {} to {} in {} of {} elements", p.a[*lo] - p.e[*lo], p.a[*hi] - p.e[*hi], p.at.size(), n)};
  }
  if (r->kind == CauseKind::other && !amount.empty()) r->kind = CauseKind::missing;
  if (!amount.empty()) r->evidence += "; " + amount;
  return *r;
}

}  // namespace tandem::proof
