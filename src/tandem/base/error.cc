#include "tandem/base/error.h"

#include <cstdint>

namespace tandem {
namespace {

// Decodes one code point at s[i]; returns its length, 0 when the bytes are not valid UTF-8.
std::size_t decode_utf8(std::string_view s, std::size_t i, std::uint32_t& cp) {
  const auto b = [&](std::size_t k) { return static_cast<unsigned char>(s[i + k]); };
  const unsigned char c = b(0);
  std::size_t n = 0;
  if (c < 0x80) { cp = c; return 1; }
  if (c >= 0xC2 && c <= 0xDF) { n = 2; cp = c & 0x1Fu; }
  else if (c >= 0xE0 && c <= 0xEF) { n = 3; cp = c & 0x0Fu; }
  else if (c >= 0xF0 && c <= 0xF4) { n = 4; cp = c & 0x07u; }
  else return 0;
  if (i + n > s.size()) return 0;
  for (std::size_t k = 1; k < n; ++k) {
    if ((b(k) & 0xC0u) != 0x80u) return 0;
    cp = (cp << 6) | (b(k) & 0x3Fu);
  }
  if ((n == 3 && cp < 0x800) || (n == 4 && cp < 0x10000) || cp > 0x10FFFF || (cp >= 0xD800 && cp <= 0xDFFF)) return 0;
  return n;
}

// Code points that move the cursor, hide text or turn its direction.
bool steers(std::uint32_t cp) {
  return (cp >= 0x7F && cp <= 0x9F) || cp == 0xAD || cp == 0x061C || (cp >= 0x200B && cp <= 0x200F) ||
         (cp >= 0x2028 && cp <= 0x202E) || (cp >= 0x2060 && cp <= 0x206F) || cp == 0xFEFF || (cp >= 0xFFF9 && cp <= 0xFFFB) ||
         (cp >= 0xE0000 && cp <= 0xE007F);
}

std::string clean(std::string_view s, bool keep_newline) {
  std::string r;
  r.reserve(s.size());
  for (std::size_t i = 0; i < s.size();) {
    std::uint32_t cp = 0;
    const std::size_t n = decode_utf8(s, i, cp);
    if (n == 0) {
      r += fmt::format("\\x{:02x}", static_cast<unsigned char>(s[i]));
      ++i;
      continue;
    }
    if (cp == '\n' && keep_newline) r += '\n';
    else if (cp == '\n') r += "\\n";
    else if (cp == '\t') r += keep_newline ? " " : "\\t";
    else if (cp == '\r') r += "\\r";
    else if (cp < 0x20) r += fmt::format("\\x{:02x}", cp);
    else if (steers(cp)) r += cp < 0x100 ? fmt::format("\\x{:02x}", cp) : fmt::format("\\u{{{:04x}}}", cp);
    else r.append(s.substr(i, n));
    i += n;
  }
  return r;
}

std::string indent(const std::string& s) {
  std::string r;
  for (char c : s) {
    r += c;
    if (c == '\n') r += "            ";
  }
  return r;
}

}  // namespace

std::string printable(std::string_view s) { return clean(s, false); }

std::string Error::full() const {
  std::string r = clean(what_, true);
  if (!where_.empty()) r += "\n  where:    " + indent(clean(where_, true));
  if (!expected_.empty()) r += "\n  expected: " + indent(clean(expected_, true));
  if (!fix_.empty()) r += "\n  fix:      " + indent(clean(fix_, true));
  return r;
}

void bug(const char* file, int line, const std::string& what) {
  std::string_view f = file;
  if (const auto p = f.rfind("tandem/"); p != std::string_view::npos) f = f.substr(p);
  throw Error(Exit::bug, "internal error: " + what)
      .at(fmt::format("{}:{}", f, line))
      .fix("this is a defect of tandem, not of your input; please report it with the command you ran");
}

std::string shell_word(std::string_view s) {
  if (!s.empty() && s.find_first_not_of("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-/+=,:@%") == s.npos) return std::string(s);
  std::string quoted;
  for (char c : s) quoted += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return "'" + quoted + "'";
}

}  // namespace tandem
