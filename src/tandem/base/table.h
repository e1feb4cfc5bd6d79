// A table for people (aligned text), for documents (Markdown) and for programs (CSV).
#pragma once
#include <string>
#include <string_view>
#include <vector>

namespace tandem {

struct Table {
  struct Column {
    std::string name;
    bool right = false;  // numbers
  };
  std::vector<Column> columns;
  std::vector<std::vector<std::string>> rows;  // as many cells as columns
  std::vector<std::string> foot;               // totals; may be empty

  void add(std::vector<std::string> row) { rows.push_back(std::move(row)); }
};

enum class TableStyle { text, markdown, csv };
// Control characters are made visible; CSV cells that a spreadsheet would take for a formula get a leading
// quote; Markdown escapes '|'. `width` > 0 cuts text tables to the terminal: the widest left-aligned columns shrink.
std::string render(const Table& t, TableStyle style, int width = 0);

// 1234567 -> "1 234 567"
std::string grouped(long long n);

}  // namespace tandem
