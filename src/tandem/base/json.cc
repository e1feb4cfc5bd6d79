#include "tandem/base/json.h"

#include <cmath>

#include "tandem/base/error.h"

namespace tandem {
namespace {

// Length of the valid UTF-8 sequence at s[i], 0 when there is none.
std::size_t utf8_length(std::string_view s, std::size_t i) {
  const auto c = static_cast<unsigned char>(s[i]);
  const std::size_t n = c < 0x80 ? 1 : c >= 0xC2 && c < 0xE0 ? 2 : c >= 0xE0 && c < 0xF0 ? 3 : c >= 0xF0 && c < 0xF5 ? 4 : 0;
  if (n == 0 || i + n > s.size()) return 0;
  for (std::size_t k = 1; k < n; ++k)
    if ((static_cast<unsigned char>(s[i + k]) & 0xC0) != 0x80) return 0;
  const auto d = n > 1 ? static_cast<unsigned char>(s[i + 1]) : 0;
  if ((c == 0xE0 && d < 0xA0) || (c == 0xED && d > 0x9F) || (c == 0xF0 && d < 0x90) || (c == 0xF4 && d > 0x8F)) return 0;
  return n;
}

std::string indented(const std::string& s) {
  std::string r;
  r.reserve(s.size() + 16);
  for (char c : s) {
    r += c;
    if (c == '\n') r += "  ";
  }
  return r;
}

}  // namespace

std::string json_string(std::string_view s) {
  std::string r = "\"";
  for (std::size_t i = 0; i < s.size();) {
    const std::size_t n = utf8_length(s, i);
    const char c = s[i];
    if (n == 0) { r += "\\ufffd"; ++i; continue; }
    if (n > 1) { r.append(s.substr(i, n)); i += n; continue; }
    ++i;
    switch (c) {
      case '"': r += "\\\""; break;
      case '\\': r += "\\\\"; break;
      case '\n': r += "\\n"; break;
      case '\t': r += "\\t"; break;
      case '\r': r += "\\r"; break;
      default:
        if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) r += fmt::format("\\u{:04x}", static_cast<unsigned>(static_cast<unsigned char>(c)));
        else r += c;
    }
  }
  return r + '"';
}

void JsonWriter::put(std::string v, bool scalar) {
  if (open_.empty()) {
    TANDEM_CHECK(done_.empty(), "two JSON documents in one");
    done_ = std::move(v);
    return;
  }
  Level& l = open_.back();
  if (l.is_object) {
    TANDEM_CHECK(!key_.empty(), "a JSON value without its key");
    l.keys.push_back(std::move(key_));
    key_.clear();
  }
  l.inline_ &= scalar;
  l.parts.push_back(std::move(v));
}

JsonWriter& JsonWriter::object() {
  Level l;
  l.is_object = true;
  if (!key_.empty()) l.keys.push_back(std::move(key_)), key_.clear();
  else l.keys.emplace_back();
  open_.push_back(std::move(l));
  return *this;
}

JsonWriter& JsonWriter::array() {
  object();
  open_.back().is_object = false;
  return *this;
}

JsonWriter& JsonWriter::end() {
  TANDEM_CHECK(!open_.empty() && key_.empty(), "JSON end() without a start, or after a key");
  Level l = std::move(open_.back());
  open_.pop_back();
  key_ = std::move(l.keys.front());  // the key under which this level itself stands
  std::string s(1, l.is_object ? '{' : '[');
  const bool on_one_line = !l.is_object && l.inline_;
  for (std::size_t i = 0; i < l.parts.size(); ++i) {
    if (i) s += on_one_line ? ", " : ",";
    if (!on_one_line) s += "\n  ";
    if (l.is_object) s += l.keys[i + 1] + ": ";
    s += on_one_line ? l.parts[i] : indented(l.parts[i]);
  }
  if (!on_one_line && !l.parts.empty()) s += "\n";
  s += l.is_object ? '}' : ']';
  put(std::move(s), false);
  return *this;
}

JsonWriter& JsonWriter::key(std::string_view k) {
  TANDEM_CHECK(!open_.empty() && open_.back().is_object && key_.empty(), "JSON key '{}' outside of an object", k);
  key_ = json_string(k);
  return *this;
}

JsonWriter& JsonWriter::value(std::string_view v) { put(json_string(v), true); return *this; }
JsonWriter& JsonWriter::value(bool v) { put(v ? "true" : "false", true); return *this; }
JsonWriter& JsonWriter::value(double v) {
  put(std::isfinite(v) ? fmt::format("{}", v) : std::string("null"), true);
  return *this;
}
JsonWriter& JsonWriter::value(std::int64_t v) { put(fmt::format("{}", v), true); return *this; }
JsonWriter& JsonWriter::value(std::uint64_t v) { put(fmt::format("{}", v), true); return *this; }
JsonWriter& JsonWriter::null() { put("null", true); return *this; }
JsonWriter& JsonWriter::raw(std::string_view json) {
  while (!json.empty() && (json.back() == '\n' || json.back() == ' ')) json.remove_suffix(1);
  put(std::string(json), false);
  return *this;
}

std::string JsonWriter::text() const {
  TANDEM_CHECK(open_.empty() && !done_.empty(), "JSON document not closed");
  return done_ + "\n";
}

}  // namespace tandem
