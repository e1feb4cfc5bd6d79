// Scales, ticks and the parts that charts share.
#include <algorithm>
#include <cmath>

#include <fmt/format.h>

#include "tandem/report/chart.h"
#include "tandem/report/escape.h"

namespace tandem::report {

namespace {
// Beyond these an axis cannot be computed in doubles (its ends or its step overflow).
double tame(double v) { return std::abs(v) < 1e-280 ? 0.0 : std::clamp(v, -1e280, 1e280); }
}  // namespace

double Scale::at(double v) const {
  v = tame(v);
  if (log && !(v > 0)) return 0;
  const double x = log ? (std::log10(v) - std::log10(lo)) / (std::log10(hi) - std::log10(lo))
                       : (v / 2 - lo / 2) / (hi / 2 - lo / 2);  // halves: the difference of two large numbers stays finite
  return std::isfinite(x) ? std::clamp(x, -10.0, 10.0) : 0.0;
}

Scale scale_for(double lo, double hi, std::optional<bool> log, bool from_zero) {
  Scale s;
  if (!std::isfinite(lo) || !std::isfinite(hi) || lo > hi) return s;
  lo = tame(lo);
  hi = tame(hi);
  s.log = log.value_or(lo > 0 && hi / lo >= 100) && lo > 0;
  if (s.log) {
    if (hi / lo < 1.0001) { lo /= 2; hi *= 2; }
    const double room = 0.04 * (std::log10(hi) - std::log10(lo));
    s.lo = std::pow(10, std::log10(lo) - room);
    s.hi = std::pow(10, std::log10(hi) + room);
    return s;
  }
  const double size = std::max(std::abs(lo), std::abs(hi));
  if (from_zero) { lo = std::min(lo, 0.0); hi = std::max(hi, 0.0); }
  if (hi / 2 - lo / 2 <= 5e-10 * size || hi == lo) {
    const double room = size > 0 ? 0.1 * size : 1;
    lo -= room;
    hi += room;
    if (from_zero && lo < 0 && hi <= 2 * room) { lo = 0; hi = 1; }
  }
  const bool near_zero = lo >= 0 && lo < 0.35 * hi, below_zero = hi <= 0 && hi > 0.35 * lo;
  const double room = 0.05 * (hi - lo);
  s.lo = near_zero ? 0 : lo - room;
  s.hi = below_zero ? 0 : hi + room;
  return s;
}

std::vector<double> ticks(const Scale& s, int about) {
  std::vector<double> r;
  if (s.log) {
    const int first = static_cast<int>(std::ceil(std::log10(s.lo) - 1e-9)), last = static_cast<int>(std::floor(std::log10(s.hi) + 1e-9));
    const int decades = last - first + 1, every = std::max(1, (decades + about) / (about + 1));
    if (decades >= 3) {
      for (int e = first; e <= last; e += every) r.push_back(std::pow(10, e));
      return r;
    }
    for (int e = first - 1; e <= last; ++e)
      for (int m : {1, 2, 5})
        if (const double v = m * std::pow(10, e); v >= s.lo * (1 - 1e-9) && v <= s.hi * (1 + 1e-9)) r.push_back(v);
    if (r.size() >= 3) return r;
    r.clear();  // less than a decade: as on a linear axis
  }
  for (int n = std::max(about, 2);; n += 2) {
    const double raw = s.hi / n - s.lo / n;
    int e = static_cast<int>(std::floor(std::log10(raw)));
    double m = raw / std::pow(10, e);
    m = m <= 1.0001 ? 1 : m <= 2.0001 ? 2 : m <= 5.0001 ? 5 : 10;
    const double step = m * std::pow(10, e);
    if (!std::isfinite(raw) || !(step > 0)) return {s.lo, s.hi};
    const double a = std::ceil(s.lo / step - 1e-7), b = std::floor(s.hi / step + 1e-7);
    if (b - a >= 1 || n > 40) {
      // i * m / 10^-e is the nearest double to the decimal fraction; i * step is not always.
      if (!(b - a <= 1000)) return {s.lo, s.hi};
      for (double i = a; i <= b; ++i) r.push_back(e < 0 ? i * m / std::pow(10, -e) : i * step);
      for (double& v : r) v += 0.0;  // no -0
      return r;
    }
  }
}

namespace {

std::string trimmed(double v, int decimals) {
  std::string t = fmt::format("{:.{}f}", v, decimals);
  return t.find_first_not_of("-0.") == t.npos && t[0] == '-' ? t.substr(1) : t;
}

std::string short_exponent(std::string t) {  // 1e-07 -> 1e-7
  const std::size_t e = t.find('e');
  if (e == t.npos) return t;
  std::size_t d = e + 1;
  if (t[d] == '+') t.erase(d, 1);
  else if (t[d] == '-') ++d;
  while (d + 1 < t.size() && t[d] == '0') t.erase(d, 1);
  return t;
}

}  // namespace

std::vector<std::string> tick_labels(const std::vector<double>& at) {
  std::vector<std::string> r;
  double largest = 0, step = 0;
  for (double v : at) largest = std::max(largest, std::abs(v));
  for (std::size_t i = 1; i < at.size(); ++i) step = i == 1 ? at[1] - at[0] : std::min(step, at[i] - at[i - 1]);
  bool even = true;
  for (std::size_t i = 2; i < at.size(); ++i) even = even && std::abs(at[i] - at[i - 1] - step) <= 1e-6 * step;
  const std::pair<double, const char*> units[] = {{1e12, "T"}, {1e9, "G"}, {1e6, "M"}, {1e3, "k"}};
  auto power = [&](double v) { return short_exponent(fmt::format("{:g}", v)); };
  if (!even) {
    for (double v : at) {
      std::string t;
      if (std::abs(v) >= 1e15 || (v != 0 && std::abs(v) < 1e-3)) t = power(v);
      else
        for (auto [size, name] : units)
          if (t.empty() && largest >= 1e4 && std::abs(v) >= size) t = fmt::format("{:g}{}", v / size, name);
      r.push_back(t.empty() ? fmt::format("{:g}", v) : t);
    }
    return r;
  }
  if (largest >= 1e15 || (largest > 0 && largest < 1e-3)) {
    for (int digits = 1; digits <= 16; ++digits) {
      r.clear();
      for (double v : at) r.push_back(v == 0 ? "0" : short_exponent(fmt::format("{:.{}e}", v, digits - 1)));
      bool differ = true;
      for (std::size_t i = 1; i < r.size(); ++i) differ = differ && r[i] != r[i - 1];
      if (differ) break;
    }
    return r;
  }
  double unit = 1;
  const char* name = "";
  if (largest >= 1e4)
    for (auto [size, n] : units)
      if (unit == 1 && largest >= size) { unit = size; name = n; }
  for (int decimals = 0; decimals <= 9; ++decimals) {
    bool exact = true;
    const double p = std::pow(10, decimals);
    for (double v : at) exact = exact && std::abs(std::round(v / unit * p) / p - v / unit) <= 1e-3 * (step > 0 ? step : 1) / unit;
    if (!exact && decimals < 9) continue;
    for (double v : at) r.push_back(v == 0 ? "0" : trimmed(v / unit, decimals) + name);
    break;
  }
  return r;
}

Cell number_cell(double v, std::string_view unit) {
  if (!std::isfinite(v)) return Cell("");
  Cell c(v, number(v));
  if (!unit.empty()) c.text += " " + std::string(unit);
  return c;
}

}  // namespace tandem::report
