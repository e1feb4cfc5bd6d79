#include "tandem/base/table.h"

#include <algorithm>

#include "tandem/base/error.h"

namespace tandem {
namespace {

std::size_t columns_of(std::string_view s) {  // code points: one column each
  return static_cast<std::size_t>(std::count_if(s.begin(), s.end(), [](char c) { return (static_cast<unsigned char>(c) & 0xC0) != 0x80; }));
}

std::string cut(const std::string& s, std::size_t width) {
  if (columns_of(s) <= width) return s;
  std::size_t i = 0, n = 0;
  while (i < s.size() && n + 1 < width) {
    ++i;
    while (i < s.size() && (static_cast<unsigned char>(s[i]) & 0xC0) == 0x80) ++i;
    ++n;
  }
  return s.substr(0, i) + "~";
}

std::string csv_cell(std::string s) {
  const bool number = !s.empty() && s.find_first_not_of("0123456789.eE+-") == std::string::npos && s.find_first_of("0123456789") != std::string::npos;
  if (!s.empty() && !number && (s[0] == '=' || s[0] == '+' || s[0] == '-' || s[0] == '@')) s.insert(0, "'");
  if (s.find_first_of(",\"\n") == std::string::npos) return s;
  std::string r = "\"";
  for (char c : s) { r += c; if (c == '"') r += c; }
  return r + '"';
}

std::string md_cell(const std::string& s) {
  std::string r;
  for (char c : s) {
    if (c == '|') r += "\\|";
    else if (c == '<') r += "&lt;";
    else r += c;
  }
  return r;
}

}  // namespace

std::string grouped(long long n) {
  std::string s = fmt::format("{}", n);
  for (std::size_t i = s.size(), first = s[0] == '-' ? 1 : 0; i > first + 3;) s.insert(i -= 3, " ");
  return s;
}

std::string render(const Table& t, TableStyle style, int width) {
  const std::size_t m = t.columns.size();
  std::vector<std::vector<std::string>> cells;
  const auto take = [&](const std::vector<std::string>& row) {
    TANDEM_CHECK(row.size() == m, "a table row of {} cells in {} columns", row.size(), m);
    cells.emplace_back();
    for (const std::string& c : row) cells.back().push_back(printable(c));
  };
  cells.emplace_back();
  for (const Table::Column& c : t.columns) cells.back().push_back(printable(c.name));
  for (const auto& r : t.rows) take(r);
  if (!t.foot.empty()) take(t.foot);

  std::string s;
  if (style == TableStyle::csv) {
    for (const auto& r : cells) {
      for (std::size_t j = 0; j < m; ++j) {
        std::string c = r[j];
        if (t.columns[j].right) std::erase(c, ' ');  // digit groups
        s += (j ? "," : "") + csv_cell(std::move(c));
      }
      s += "\n";
    }
    return s;
  }
  if (style == TableStyle::markdown) {
    for (std::size_t i = 0; i < cells.size(); ++i) {
      s += "|";
      for (std::size_t j = 0; j < m; ++j) s += " " + md_cell(cells[i][j]) + " |";
      s += "\n";
      if (i == 0) {
        s += "|";
        for (std::size_t j = 0; j < m; ++j) s += t.columns[j].right ? "---:|" : "---|";
        s += "\n";
      }
    }
    return s;
  }
  std::vector<std::size_t> w(m, 0);
  for (const auto& r : cells)
    for (std::size_t j = 0; j < m; ++j) w[j] = std::max(w[j], columns_of(r[j]));
  if (width > 0) {
    std::size_t total = m ? 2 * (m - 1) : 0;
    for (std::size_t x : w) total += x;
    while (total > static_cast<std::size_t>(width)) {
      std::size_t widest = m;
      for (std::size_t j = 0; j < m; ++j)
        if (!t.columns[j].right && w[j] > 12 && (widest == m || w[j] > w[widest])) widest = j;
      if (widest == m) break;
      --w[widest], --total;
    }
  }
  const auto line = [&](const std::vector<std::string>& r) {
    std::string l;
    for (std::size_t j = 0; j < m; ++j) {
      const std::string c = cut(r[j], w[j]);
      const std::string pad(w[j] - std::min(w[j], columns_of(c)), ' ');
      l += (j ? "  " : "") + (t.columns[j].right ? pad + c : c + pad);
    }
    while (!l.empty() && l.back() == ' ') l.pop_back();
    return l + "\n";
  };
  std::size_t total = m ? 2 * (m - 1) : 0;
  for (std::size_t x : w) total += x;
  const std::string rule = std::string(total, '-') + "\n";
  for (std::size_t i = 0; i < cells.size(); ++i) {
    if (!t.foot.empty() && i + 1 == cells.size()) s += rule;
    s += line(cells[i]);
    if (i == 0) s += rule;
  }
  return s;
}

}  // namespace tandem
