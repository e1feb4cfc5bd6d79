#include "tandem/report/escape.h"

#include <cmath>

#include "tandem/base/error.h"

namespace tandem::report {

std::string html(std::string_view s) {
  std::string r;
  for (char c : printable(s)) {
    switch (c) {
      case '&': r += "&amp;"; break;
      case '<': r += "&lt;"; break;
      case '>': r += "&gt;"; break;
      case '"': r += "&quot;"; break;
      case '\'': r += "&#39;"; break;
      default: r += c;
    }
  }
  return r;
}

std::string json(std::string_view s) {
  std::string r = "\"";
  for (char c : printable(s)) {
    switch (c) {
      case '"': r += "\\\""; break;
      case '\\': r += "\\\\"; break;
      case '<': r += "\\u003c"; break;
      case '>': r += "\\u003e"; break;
      case '&': r += "\\u0026"; break;
      default: r += c;  // printable() left no control character and no U+2028
    }
  }
  return r + '"';
}

std::string json(double v, int digits) {
  if (!std::isfinite(v)) return "null";
  return fmt::format("{:.{}g}", v, digits);
}

std::optional<std::string> link(std::string_view path, std::string_view up) {
  if (path.empty() || path[0] == '/') return std::nullopt;
  std::string r(up.empty() ? "./" : up);
  for (std::size_t i = 0; i <= path.size();) {
    std::size_t end = path.find('/', i);
    if (end == path.npos) end = path.size();
    if (path.substr(i, end - i) == "..") return std::nullopt;
    i = end + 1;
  }
  for (unsigned char c : path) {
    const bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' || c == '_' || c == '-' || c == '/';
    if (plain) r += static_cast<char>(c);
    else r += fmt::format("%{:02X}", c);
  }
  return r;
}

std::string slug(std::string_view s) {
  std::string r;
  for (char c : s) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
    if ((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9')) r += c;
    else if (!r.empty() && r.back() != '-') r += '-';
  }
  while (!r.empty() && r.back() == '-') r.pop_back();
  return r.empty() ? "x" : r;
}

std::string number(double v) {
  if (std::isnan(v)) return "not a number";
  if (std::isinf(v)) return v > 0 ? "infinite" : "-infinite";
  const bool whole = v == std::floor(v) && std::abs(v) < 1e15;
  std::string s = whole || std::abs(v) >= 10000 ? fmt::format("{:.0f}", v) : fmt::format("{:.4g}", v);
  if (s == "-0") s = "0";
  if (s.find_first_of(".e") != s.npos || s.size() > 20) return s;
  for (std::size_t i = s.size(), first = s[0] == '-' ? 1 : 0; i > first + 3;) s.insert(i -= 3, ",");
  return s;
}

}  // namespace tandem::report
