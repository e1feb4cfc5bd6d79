#include "tandem/base/nearest.h"

#include <algorithm>
#include <cstdlib>

namespace tandem {
namespace {
char lower(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; }
}  // namespace

int edit_distance(std::string_view a, std::string_view b) {
  const std::size_t n = a.size(), m = b.size();
  std::vector<int> two(m + 1), one(m + 1), now(m + 1);
  for (std::size_t j = 0; j <= m; ++j) one[j] = static_cast<int>(j);
  for (std::size_t i = 1; i <= n; ++i) {
    now[0] = static_cast<int>(i);
    for (std::size_t j = 1; j <= m; ++j) {
      const bool same = lower(a[i - 1]) == lower(b[j - 1]);
      now[j] = std::min({one[j] + 1, now[j - 1] + 1, one[j - 1] + (same ? 0 : 1)});
      if (i > 1 && j > 1 && lower(a[i - 1]) == lower(b[j - 2]) && lower(a[i - 2]) == lower(b[j - 1]))
        now[j] = std::min(now[j], two[j - 2] + 1);
    }
    std::swap(two, one);
    std::swap(one, now);
  }
  return one[m];
}

std::string nearest(std::string_view word, std::span<const std::string_view> candidates) {
  if (word.size() > 200) return "";  // hostile: nobody mistypes this
  std::string_view best;
  int least = 1 << 30;
  for (const auto c : candidates) {
    if (c.empty() || c.size() > 200) continue;
    const int d = edit_distance(word, c);
    const std::size_t k = std::min(word.size(), c.size());
    const bool prefix = k >= 2 && edit_distance(word.substr(0, k), c.substr(0, k)) == 0;
    if (d < least && (prefix || 2 * d <= static_cast<int>(std::max(word.size(), c.size())))) {
      least = d;
      best = c;
    }
  }
  return std::string(best);
}

std::string nearest(std::string_view word, const std::vector<std::string>& candidates) {
  std::vector<std::string_view> v(candidates.begin(), candidates.end());
  return nearest(word, std::span<const std::string_view>(v));
}

std::string suggest(std::string_view word, const std::vector<std::string>& known) {
  if (known.empty()) return "none is known here";
  if (const std::string n = nearest(word, known); !n.empty()) return "did you mean '" + n + "'?";
  std::string s = "known: ";
  for (std::size_t i = 0; i < known.size(); ++i) {
    if (i == 12) return s + ", ...";
    s += (i ? ", " : "") + known[i];
  }
  return s;
}

}  // namespace tandem
