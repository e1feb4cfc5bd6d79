#include "tandem/search/space.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>
#include <set>

#include "tandem/base/config.h"
#include "tandem/base/json.h"

namespace tandem::search {
namespace {
using I = std::int64_t;
using List = std::vector<std::int32_t>;
constexpr int kTries = 10000;

bool has_words(Kind k) { return k == Kind::categorical || k == Kind::ordinal; }
bool has_levels(Kind k) { return has_words(k) || k == Kind::integer; }

std::string real_text(double v) {
  if (v == 0) v = 0;  // no minus zero
  return fmt::format("{}", v);
}

double to_unit(const Parameter& p, double v) {
  if (p.high == p.low) return 0.5;
  return p.log ? std::log(v / p.low) / std::log(p.high / p.low) : (v - p.low) / (p.high - p.low);
}
double from_unit_real(const Parameter& p, double u) {
  u = std::clamp(u, 0.0, 1.0);
  const double v = p.log ? p.low * std::pow(p.high / p.low, u) : p.low + u * (p.high - p.low);
  return std::clamp(v, p.low, p.high) + 0.0;
}
I cell(double u, I n) { return std::clamp<I>(static_cast<I>(std::floor(u * static_cast<double>(n))), 0, n - 1); }

}  // namespace

std::string_view to_string(Kind k) {
  switch (k) {
    case Kind::categorical: return "categorical";
    case Kind::ordinal: return "ordinal";
    case Kind::integer: return "int";
    case Kind::real: return "real";
    case Kind::permutation: return "permutation";
    case Kind::sequence: return "sequence";
  }
  return "";
}

std::string Key::hex() const { return fmt::format("{:016x}{:016x}", hi, lo); }

Key key_of_text(std::string_view s) {
  // FNV-1a with 128 bits.
  unsigned __int128 h = static_cast<unsigned __int128>(0x6c62272e07bb0142ull) << 64 | 0x62b821756295c58dull;
  const unsigned __int128 prime = static_cast<unsigned __int128>(1) << 88 | 0x13bu;
  for (unsigned char c : s) {
    h ^= c;
    h *= prime;
  }
  return {static_cast<std::uint64_t>(h >> 64), static_cast<std::uint64_t>(h)};
}

Space::Space(std::vector<Parameter> parameters, std::function<bool(const Point&)> valid)
    : parameters_(std::move(parameters)), valid_(std::move(valid)) {
  if (parameters_.empty()) throw bad_input("a space needs at least one parameter");
  for (std::size_t i = 0; i < parameters_.size(); ++i) {
    const Parameter& p = parameters_[i];
    const auto fail = [&](std::string what) { return bad_input("parameter '{}': {}", printable(p.name), what); };
    if (p.name.empty() || p.name.size() > 100) throw fail("a name has 1 to 100 characters");
    for (unsigned char c : p.name)
      if (!std::isalnum(c) && c != '_' && c != '.' && c != '-') throw fail("a name is made of letters, digits, _ . and -");
    if (index(p.name) != static_cast<int>(i)) throw fail("the name is used twice");
    if (has_words(p.kind) || p.kind == Kind::sequence) {
      if (p.words.empty()) throw fail("no values");
      if (std::set<std::string>(p.words.begin(), p.words.end()).size() != p.words.size()) throw fail("a value appears twice");
    }
    if (p.kind == Kind::integer) {
      if (p.lo > p.hi) throw fail(fmt::format("the range {} to {} is empty", p.lo, p.hi));
      if (p.step < 1) throw fail("the step must be positive");
      if (p.lo < -(I{1} << 53) || p.hi > (I{1} << 53)) throw fail("integers up to 2^53");
    }
    if (p.kind == Kind::real) {
      if (!std::isfinite(p.low) || !std::isfinite(p.high) || !(p.low <= p.high)) throw fail("the range is empty");
      if (p.log && !(p.low > 0)) throw fail("a logarithmic range begins above 0");
    }
    if ((p.kind == Kind::permutation && (p.length < 1 || p.length > 1000)) || (p.kind == Kind::sequence && (p.length < 0 || p.length > 1000)))
      throw fail("the length must be at most 1000");
    int up = -1;
    if (!p.parent.empty()) {
      up = index(p.parent);
      if (up < 0 || up >= static_cast<int>(i)) throw fail(fmt::format("its parent '{}' must come before it", printable(p.parent)));
      const Parameter& q = parameters_[static_cast<std::size_t>(up)];
      if (!has_levels(q.kind)) throw fail(fmt::format("its parent '{}' must be a word or an integer", q.name));
      if (p.when.empty()) throw fail("a condition names at least one value of the parent");
      for (I w : p.when) {
        const bool ok = has_words(q.kind) ? w >= 0 && w < static_cast<I>(q.words.size()) : w >= q.lo && w <= q.hi && (w - q.lo) % q.step == 0;
        if (!ok) throw fail(fmt::format("its parent '{}' never has the value {}", q.name, w));
      }
    }
    parent_.push_back(up);
  }
}

int Space::index(std::string_view name) const {
  for (std::size_t i = 0; i < parameters_.size(); ++i)
    if (parameters_[i].name == name) return static_cast<int>(i);
  return -1;
}

I Space::levels(std::size_t i) const {
  const Parameter& p = parameters_[i];
  return p.kind == Kind::integer ? (p.hi - p.lo) / p.step + 1 : static_cast<I>(p.words.size());
}

// Whether the parent's value switches parameter i on; parents before i are settled.
bool Space::on(const Point& p, std::size_t i) const {
  const int up = parent_[i];
  if (up < 0) return true;
  const I* v = std::get_if<I>(&p.at[static_cast<std::size_t>(up)]);
  return v && std::find(parameters_[i].when.begin(), parameters_[i].when.end(), *v) != parameters_[i].when.end();
}

bool Space::active(const Point& p, std::size_t i) const { return on(p, i); }

bool Space::contains(const Point& p) const {
  if (p.at.size() != parameters_.size()) return false;
  for (std::size_t i = 0; i < parameters_.size(); ++i) {
    const Parameter& q = parameters_[i];
    const Value& v = p.at[i];
    if (!on(p, i)) {
      if (!std::holds_alternative<std::monostate>(v)) return false;
      continue;
    }
    if (has_levels(q.kind)) {
      const I* n = std::get_if<I>(&v);
      if (!n) return false;
      if (q.kind == Kind::integer ? *n < q.lo || *n > q.hi || (*n - q.lo) % q.step : *n < 0 || *n >= levels(i)) return false;
    } else if (q.kind == Kind::real) {
      const double* x = std::get_if<double>(&v);
      if (!x || !(*x >= q.low && *x <= q.high)) return false;
    } else {
      const List* l = std::get_if<List>(&v);
      if (!l) return false;
      if (q.kind == Kind::permutation) {
        if (l->size() != static_cast<std::size_t>(q.length)) return false;
        std::vector<bool> seen(l->size());
        for (std::int32_t e : *l) {
          if (e < 0 || e >= q.length || seen[static_cast<std::size_t>(e)]) return false;
          seen[static_cast<std::size_t>(e)] = true;
        }
      } else {
        if (l->size() > static_cast<std::size_t>(q.length)) return false;
        for (std::int32_t e : *l)
          if (e < 0 || e >= static_cast<I>(q.words.size())) return false;
      }
    }
  }
  return valid(p);
}

std::string Space::text(const Point& p) const {
  TANDEM_CHECK(p.at.size() == parameters_.size(), "a point of another space");
  std::string s = "{";
  for (std::size_t i = 0; i < parameters_.size(); ++i) {
    const Parameter& q = parameters_[i];
    if (std::holds_alternative<std::monostate>(p.at[i])) continue;
    if (s.size() > 1) s += ',';
    s += json_string(q.name) + ":";
    if (const I* n = std::get_if<I>(&p.at[i])) {
      s += q.kind == Kind::integer ? std::to_string(*n) : json_string(q.words[static_cast<std::size_t>(*n)]);
    } else if (const double* x = std::get_if<double>(&p.at[i])) {
      s += real_text(*x);
    } else {
      s += '[';
      const List& l = std::get<List>(p.at[i]);
      for (std::size_t k = 0; k < l.size(); ++k)
        s += (k ? "," : "") + (q.kind == Kind::permutation ? std::to_string(l[k]) : json_string(q.words[static_cast<std::size_t>(l[k])]));
      s += ']';
    }
  }
  return s + "}";
}

Point Space::parse(std::string_view json) const {
  const Config c = Config::parse(json, "point");
  Point p;
  p.at.resize(parameters_.size());
  std::vector<std::string_view> known;
  for (const Parameter& q : parameters_) known.push_back(q.name);
  c.only(std::span<const std::string_view>(known));
  for (std::size_t i = 0; i < parameters_.size(); ++i) {
    const Parameter& q = parameters_[i];
    const auto v = c.find(q.name);
    if (!v) continue;
    const auto word = [&](const Config& w) {
      const auto it = std::find(q.words.begin(), q.words.end(), w.as<std::string>());
      if (it == q.words.end()) throw w.error("no value of this parameter");
      return static_cast<I>(it - q.words.begin());
    };
    if (has_words(q.kind)) p.at[i] = word(*v);
    else if (q.kind == Kind::integer) p.at[i] = v->as<I>();
    else if (q.kind == Kind::real) p.at[i] = v->as<double>();
    else {
      List l;
      for (const Config& e : v->items()) l.push_back(static_cast<std::int32_t>(q.kind == Kind::permutation ? e.as<I>() : word(e)));
      p.at[i] = std::move(l);
    }
  }
  if (!contains(p)) throw bad_input("no point of this space: {}", printable(json));
  return p;
}

std::string Space::value_text(const Point& p, std::size_t i) const {
  const Parameter& q = parameters_[i];
  if (const I* n = std::get_if<I>(&p.at[i])) return q.kind == Kind::integer ? std::to_string(*n) : q.words[static_cast<std::size_t>(*n)];
  if (const double* x = std::get_if<double>(&p.at[i])) return real_text(*x);
  std::string s;
  if (const List* l = std::get_if<List>(&p.at[i]))
    for (std::size_t k = 0; k < l->size(); ++k)
      s += (k ? " " : "") + (q.kind == Kind::permutation ? std::to_string((*l)[k]) : q.words[static_cast<std::size_t>((*l)[k])]);
  return s;
}

std::optional<mpz_class> Space::size() const {
  // Conditions form a forest: the count below a parameter is a sum over its values of the product over its children.
  std::vector<mpz_class> below(parameters_.size());
  for (std::size_t i = parameters_.size(); i-- > 0;) {
    const Parameter& q = parameters_[i];
    if (q.kind == Kind::real) {
      if (q.low != q.high) return std::nullopt;
      below[i] = 1;
    } else if (q.kind == Kind::permutation) {
      mpz_fac_ui(below[i].get_mpz_t(), static_cast<unsigned long>(q.length));
    } else if (q.kind == Kind::sequence) {
      mpz_class power = 1;
      for (int k = 0; k <= q.length; ++k) {
        below[i] += power;
        power *= static_cast<unsigned long>(q.words.size());
      }
    } else {
      std::map<I, mpz_class> special;
      for (std::size_t k = i + 1; k < parameters_.size(); ++k)
        if (parent_[k] == static_cast<int>(i))
          for (I w : std::set<I>(parameters_[k].when.begin(), parameters_[k].when.end())) special.try_emplace(w, 1).first->second *= below[k];
      below[i] = mpz_class(std::to_string(levels(i) - static_cast<I>(special.size())));
      for (const auto& [w, n] : special) below[i] += n;
    }
  }
  mpz_class all = 1;
  for (std::size_t i = 0; i < parameters_.size(); ++i)
    if (parent_[i] < 0) all *= below[i];
  return all;
}

void Space::enumerate(const std::function<bool(const Point&)>& visit) const {
  for (const Parameter& q : parameters_)
    if (q.kind == Kind::real && q.low != q.high) throw bad_input("a space with the real parameter '{}' cannot be enumerated", q.name);
  Point p;
  p.at.resize(parameters_.size());
  const std::function<bool(std::size_t)> go = [&](std::size_t i) -> bool {
    if (i == parameters_.size()) return !valid(p) || visit(p);
    const Parameter& q = parameters_[i];
    bool more = true;
    if (!on(p, i)) {
      p.at[i] = std::monostate{};
      more = go(i + 1);
    } else if (has_levels(q.kind)) {
      for (I k = 0; k < levels(i) && more; ++k) {
        p.at[i] = q.kind == Kind::integer ? q.lo + k * q.step : k;
        more = go(i + 1);
      }
    } else if (q.kind == Kind::real) {
      p.at[i] = q.low;
      more = go(i + 1);
    } else if (q.kind == Kind::permutation) {
      List l(static_cast<std::size_t>(q.length));
      std::iota(l.begin(), l.end(), 0);
      do {
        p.at[i] = l;
        more = go(i + 1);
      } while (more && std::next_permutation(l.begin(), l.end()));
    } else {
      // By length, then lexicographic.
      for (int n = 0; n <= q.length && more; ++n) {
        List l(static_cast<std::size_t>(n), 0);
        for (bool next = true; next && more;) {
          p.at[i] = l;
          more = go(i + 1);
          next = false;
          for (std::size_t k = l.size(); k-- > 0;) {
            if (++l[k] < static_cast<std::int32_t>(q.words.size())) {
              next = true;
              break;
            }
            l[k] = 0;
          }
        }
      }
    }
    p.at[i] = std::monostate{};
    return more;
  };
  go(0);
}

Value Space::draw(std::size_t i, Rng& rng) const {
  const Parameter& q = parameters_[i];
  switch (q.kind) {
    case Kind::categorical:
    case Kind::ordinal: return rng.range(0, levels(i) - 1);
    case Kind::integer: return q.lo + q.step * rng.range(0, levels(i) - 1);
    case Kind::real: return from_unit_real(q, rng.uniform());
    case Kind::permutation: {
      List l(static_cast<std::size_t>(q.length));
      std::iota(l.begin(), l.end(), 0);
      rng.shuffle(l);
      return l;
    }
    case Kind::sequence: {
      List l(static_cast<std::size_t>(rng.range(0, q.length)));
      for (auto& e : l) e = static_cast<std::int32_t>(rng.range(0, static_cast<I>(q.words.size()) - 1));
      return l;
    }
  }
  return {};
}

Value Space::first(std::size_t i) const {
  const Parameter& q = parameters_[i];
  if (has_words(q.kind)) return I{0};
  if (q.kind == Kind::integer) return q.lo;
  if (q.kind == Kind::real) return q.low + 0.0;
  List l(q.kind == Kind::permutation ? static_cast<std::size_t>(q.length) : 0);
  std::iota(l.begin(), l.end(), 0);
  return l;
}

void Space::settle(Point& p, const std::function<Value(std::size_t)>& fill) const {
  for (std::size_t i = 0; i < parameters_.size(); ++i) {
    const bool there = !std::holds_alternative<std::monostate>(p.at[i]);
    if (!on(p, i)) p.at[i] = std::monostate{};
    else if (!there) p.at[i] = fill(i);
  }
}

Point Space::sample(Rng& rng) const {
  for (int t = 0; t < kTries; ++t) {
    Point p;
    p.at.resize(parameters_.size());
    settle(p, [&](std::size_t i) { return draw(i, rng); });
    if (valid(p)) return p;
  }
  throw Error(Exit::no, fmt::format("{} draws found no point that obeys the space's rule", kTries)).fix("wider ranges, or a weaker rule");
}

Point Space::mutate(const Point& p, Rng& rng, double rate) const {
  for (int t = 0; t < kTries; ++t) {
    Point m = p;
    std::vector<std::size_t> active;
    for (std::size_t i = 0; i < parameters_.size(); ++i)
      if (!std::holds_alternative<std::monostate>(p.at[i])) active.push_back(i);
    std::vector<std::size_t> change;
    for (std::size_t i : active)
      if (rng.chance(rate)) change.push_back(i);
    if (change.empty()) change.push_back(rng.pick(active));
    for (std::size_t i : change) {
      const Parameter& q = parameters_[i];
      if (has_levels(q.kind)) {
        const I n = levels(i), old = q.kind == Kind::integer ? (std::get<I>(m.at[i]) - q.lo) / q.step : std::get<I>(m.at[i]);
        if (n < 2) continue;
        I now;
        if (q.kind != Kind::categorical && rng.chance(0.5)) {
          // A step to a neighbour, mirrored at the ends.
          now = old + (rng.chance(0.5) ? 1 : -1);
          if (now < 0) now = 1;
          if (now >= n) now = n - 2;
        } else {
          now = rng.range(0, n - 2);
          if (now >= old) ++now;
        }
        m.at[i] = q.kind == Kind::integer ? q.lo + now * q.step : now;
      } else if (q.kind == Kind::real) {
        // Polynomial mutation, eta 20 (Deb and Goyal, 1996).
        const double r = rng.uniform(), d = r < 0.5 ? std::pow(2 * r, 1 / 21.0) - 1 : 1 - std::pow(2 - 2 * r, 1 / 21.0);
        m.at[i] = from_unit_real(q, to_unit(q, std::get<double>(m.at[i])) + d);
      } else if (q.kind == Kind::permutation) {
        List& l = std::get<List>(m.at[i]);
        if (l.size() < 2) continue;
        const I a = rng.range(0, q.length - 1);
        I b = rng.range(0, q.length - 2);
        if (b >= a) ++b;
        if (rng.chance(0.5)) std::swap(l[static_cast<std::size_t>(a)], l[static_cast<std::size_t>(b)]);
        else {
          const auto e = l[static_cast<std::size_t>(a)];
          l.erase(l.begin() + a);
          l.insert(l.begin() + b, e);
        }
      } else {
        List& l = std::get<List>(m.at[i]);
        const I what = rng.range(0, 2), n = static_cast<I>(l.size());
        const auto element = [&] { return static_cast<std::int32_t>(rng.range(0, static_cast<I>(q.words.size()) - 1)); };
        if ((what == 0 || n == 0) && n < q.length) l.insert(l.begin() + rng.range(0, n), element());
        else if (what == 1 && n > 0) l.erase(l.begin() + rng.range(0, n - 1));
        else if (n > 0) l[static_cast<std::size_t>(rng.range(0, n - 1))] = element();
      }
    }
    settle(m, [&](std::size_t i) { return draw(i, rng); });
    if (valid(m)) return m;
  }
  throw Error(Exit::no, fmt::format("{} mutations found no point that obeys the space's rule", kTries));
}

Point Space::crossover(const Point& a, const Point& b, Rng& rng) const {
  for (int t = 0; t < kTries; ++t) {
    Point c;
    c.at.resize(parameters_.size());
    for (std::size_t i = 0; i < parameters_.size(); ++i) {
      const Parameter& q = parameters_[i];
      const bool in_a = !std::holds_alternative<std::monostate>(a.at[i]), in_b = !std::holds_alternative<std::monostate>(b.at[i]);
      if (!in_a || !in_b) {
        c.at[i] = in_a ? a.at[i] : b.at[i];
        continue;
      }
      const bool left = rng.chance(0.5);
      const Point &p = left ? a : b, &o = left ? b : a;
      if (q.kind == Kind::real && rng.chance(0.5)) {
        const double x = to_unit(q, std::get<double>(p.at[i])), y = to_unit(q, std::get<double>(o.at[i])), r = rng.uniform();
        const double beta = r < 0.5 ? std::pow(2 * r, 1 / 16.0) : std::pow(1 / (2 - 2 * r), 1 / 16.0);
        c.at[i] = from_unit_real(q, 0.5 * ((1 + beta) * x + (1 - beta) * y));
      } else if (q.kind == Kind::permutation && q.length > 1) {
        const List &u = std::get<List>(p.at[i]), &v = std::get<List>(o.at[i]);
        I lo = rng.range(0, q.length - 1), hi = rng.range(0, q.length - 1);
        if (lo > hi) std::swap(lo, hi);
        const std::set<std::int32_t> kept(u.begin() + lo, u.begin() + hi + 1);
        List l;
        for (std::int32_t e : v)
          if (!kept.count(e)) l.push_back(e);
        l.insert(l.begin() + lo, u.begin() + lo, u.begin() + hi + 1);
        c.at[i] = l;
      } else if (q.kind == Kind::sequence) {
        const List &u = std::get<List>(p.at[i]), &v = std::get<List>(o.at[i]);
        const I cut = rng.range(0, static_cast<I>(std::min(u.size(), v.size())));
        List l(u.begin(), u.begin() + cut);
        l.insert(l.end(), v.begin() + cut, v.end());
        c.at[i] = l;
      } else {
        c.at[i] = p.at[i];
      }
    }
    settle(c, [&](std::size_t i) { return draw(i, rng); });
    if (valid(c)) return c;
  }
  return rng.chance(0.5) ? a : b;
}

std::vector<Point> Space::neighbours(const Point& p) const {
  std::vector<Point> r;
  const auto add = [&](std::size_t i, Value v) {
    Point n = p;
    n.at[i] = std::move(v);
    settle(n, [&](std::size_t k) { return first(k); });
    if (valid(n) && !(n == p)) r.push_back(std::move(n));
  };
  for (std::size_t i = 0; i < parameters_.size(); ++i) {
    const Parameter& q = parameters_[i];
    if (std::holds_alternative<std::monostate>(p.at[i])) continue;
    if (q.kind == Kind::categorical) {
      for (I k = 0; k < levels(i); ++k)
        if (k != std::get<I>(p.at[i])) add(i, k);
    } else if (has_levels(q.kind)) {
      const I s = q.kind == Kind::integer ? q.step : 1, lo = q.kind == Kind::integer ? q.lo : 0, v = std::get<I>(p.at[i]);
      if (v - s >= lo) add(i, v - s);
      if (v + s <= lo + s * (levels(i) - 1)) add(i, v + s);
    } else if (q.kind == Kind::real) {
      const double u = to_unit(q, std::get<double>(p.at[i]));
      for (double d : {-0.01, 0.01}) add(i, from_unit_real(q, u + d));
    } else if (q.kind == Kind::permutation) {
      for (std::size_t k = 0; k + 1 < static_cast<std::size_t>(q.length); ++k) {
        List l = std::get<List>(p.at[i]);
        std::swap(l[k], l[k + 1]);
        add(i, l);
      }
    } else {
      const List& old = std::get<List>(p.at[i]);
      const auto n = static_cast<std::int32_t>(q.words.size());
      for (std::size_t k = 0; k < old.size(); ++k)
        for (std::int32_t e = 0; e < n; ++e)
          if (e != old[k]) {
            List l = old;
            l[k] = e;
            add(i, l);
          }
      if (!old.empty()) add(i, List(old.begin(), old.end() - 1));
      if (old.size() < static_cast<std::size_t>(q.length))
        for (std::int32_t e = 0; e < n; ++e) {
          List l = old;
          l.push_back(e);
          add(i, l);
        }
    }
  }
  return r;
}

std::vector<I> Space::indices(const Point& p) const {
  std::vector<I> v;
  for (std::size_t i = 0; i < parameters_.size(); ++i) {
    const Parameter& q = parameters_[i];
    const Value& x = p.at[i];
    const bool there = !std::holds_alternative<std::monostate>(x);
    if (q.kind == Kind::real) throw bad_input("the real parameter '{}' has no index", q.name);
    if (has_levels(q.kind)) {
      v.push_back(!there ? -1 : q.kind == Kind::integer ? (std::get<I>(x) - q.lo) / q.step : std::get<I>(x));
    } else {
      const List none, &l = there ? std::get<List>(x) : none;
      if (q.kind == Kind::sequence) v.push_back(there ? static_cast<I>(l.size()) : -1);
      for (std::size_t k = 0; k < static_cast<std::size_t>(q.length); ++k) v.push_back(k < l.size() ? l[k] : -1);
    }
  }
  return v;
}

Point Space::from_indices(std::span<const I> v) const {
  Point p;
  std::size_t at = 0;
  const auto next = [&] {
    if (at >= v.size()) throw bad_input("an index vector of {} values is too short", v.size());
    return v[at++];
  };
  for (const Parameter& q : parameters_) {
    if (q.kind == Kind::real) throw bad_input("the real parameter '{}' has no index", q.name);
    if (has_levels(q.kind)) {
      const I k = next();
      p.at.push_back(k < 0 ? Value{} : q.kind == Kind::integer ? Value{q.lo + k * q.step} : Value{k});
    } else {
      const I n = q.kind == Kind::sequence ? next() : q.length;
      List l;
      bool there = n >= 0;
      for (int k = 0; k < q.length; ++k) {
        const I e = next();
        if (q.kind == Kind::permutation && e < 0) there = false;
        if (k < n) l.push_back(static_cast<std::int32_t>(e));
      }
      p.at.push_back(there ? Value{l} : Value{});
    }
  }
  if (at != v.size() || !contains(p)) throw bad_input("the index vector is no point of this space");
  return p;
}

std::size_t Space::one_hot_width() const {
  std::size_t n = 0;
  for (std::size_t i = 0; i < parameters_.size(); ++i) {
    const Parameter& q = parameters_[i];
    const auto len = static_cast<std::size_t>(q.length);
    n += parent_[i] >= 0;
    n += has_words(q.kind) ? q.words.size() : q.kind == Kind::permutation ? len * len : q.kind == Kind::sequence ? len * q.words.size() : 1;
  }
  return n;
}

std::vector<double> Space::one_hot(const Point& p) const {
  std::vector<double> v;
  for (std::size_t i = 0; i < parameters_.size(); ++i) {
    const Parameter& q = parameters_[i];
    const bool there = !std::holds_alternative<std::monostate>(p.at[i]);
    if (parent_[i] >= 0) v.push_back(there);
    const auto hot = [&](std::size_t n, I k) {
      for (std::size_t e = 0; e < n; ++e) v.push_back(static_cast<I>(e) == k);
    };
    if (has_words(q.kind)) hot(q.words.size(), there ? std::get<I>(p.at[i]) : -1);
    else if (q.kind == Kind::integer) v.push_back(there && q.hi > q.lo ? static_cast<double>(std::get<I>(p.at[i]) - q.lo) / static_cast<double>(q.hi - q.lo) : 0);
    else if (q.kind == Kind::real) v.push_back(there ? to_unit(q, std::get<double>(p.at[i])) : 0);
    else {
      const List none, &l = there ? std::get<List>(p.at[i]) : none;
      const std::size_t n = q.kind == Kind::permutation ? static_cast<std::size_t>(q.length) : q.words.size();
      for (std::size_t k = 0; k < static_cast<std::size_t>(q.length); ++k) hot(n, k < l.size() ? l[k] : -1);
    }
  }
  return v;
}

std::size_t Space::unit_width() const {
  std::size_t n = 0;
  for (const Parameter& q : parameters_)
    n += q.kind == Kind::permutation ? static_cast<std::size_t>(q.length) : q.kind == Kind::sequence ? 1 + static_cast<std::size_t>(q.length) : 1;
  return n;
}

std::vector<double> Space::unit(const Point& p) const {
  std::vector<double> v;
  const auto centre = [](I k, I n) { return (static_cast<double>(k) + 0.5) / static_cast<double>(n); };
  for (std::size_t i = 0; i < parameters_.size(); ++i) {
    const Parameter& q = parameters_[i];
    const bool there = !std::holds_alternative<std::monostate>(p.at[i]);
    if (has_levels(q.kind)) v.push_back(!there ? 0 : centre(q.kind == Kind::integer ? (std::get<I>(p.at[i]) - q.lo) / q.step : std::get<I>(p.at[i]), levels(i)));
    else if (q.kind == Kind::real) v.push_back(there ? to_unit(q, std::get<double>(p.at[i])) : 0);
    else if (q.kind == Kind::permutation) {
      // The rank at which each element stands.
      std::vector<double> rank(static_cast<std::size_t>(q.length), 0);
      if (there)
        for (std::size_t k = 0; k < rank.size(); ++k) rank[static_cast<std::size_t>(std::get<List>(p.at[i])[k])] = centre(static_cast<I>(k), q.length);
      v.insert(v.end(), rank.begin(), rank.end());
    } else {
      const List none, &l = there ? std::get<List>(p.at[i]) : none;
      v.push_back(there ? centre(static_cast<I>(l.size()), q.length + 1) : 0);
      for (std::size_t k = 0; k < static_cast<std::size_t>(q.length); ++k) v.push_back(k < l.size() ? centre(l[k], static_cast<I>(q.words.size())) : 0);
    }
  }
  return v;
}

Point Space::from_unit(std::span<const double> u) const {
  if (u.size() != unit_width()) throw bad_input("{} coordinates for a cube of {}", u.size(), unit_width());
  Point p;
  p.at.resize(parameters_.size());
  std::size_t at = 0;
  for (std::size_t i = 0; i < parameters_.size(); ++i) {
    const Parameter& q = parameters_[i];
    if (has_levels(q.kind)) {
      const I k = cell(u[at++], levels(i));
      p.at[i] = q.kind == Kind::integer ? q.lo + k * q.step : k;
    } else if (q.kind == Kind::real) {
      p.at[i] = from_unit_real(q, u[at++]);
    } else if (q.kind == Kind::permutation) {
      List l(static_cast<std::size_t>(q.length));
      std::iota(l.begin(), l.end(), 0);
      std::stable_sort(l.begin(), l.end(), [&](std::int32_t a, std::int32_t b) { return u[at + static_cast<std::size_t>(a)] < u[at + static_cast<std::size_t>(b)]; });
      at += l.size();
      p.at[i] = l;
    } else {
      List l(static_cast<std::size_t>(cell(u[at], q.length + 1)));
      for (std::size_t k = 0; k < l.size(); ++k) l[k] = static_cast<std::int32_t>(cell(u[at + 1 + k], static_cast<I>(q.words.size())));
      at += 1 + static_cast<std::size_t>(q.length);
      p.at[i] = l;
    }
  }
  settle(p, [&](std::size_t i) { return first(i); });
  return p;
}

}  // namespace tandem::search
