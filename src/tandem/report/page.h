// One self-contained page: style, script and data inside, no request to anywhere. Its content security policy is
// `default-src 'none'`, and admits the one style and the one script by their SHA-256. The script is written by
// hand; it only moves focus, sorts, filters and saves what the page already holds. Without it everything but the table
// of all trials can still be read.
#pragma once
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "tandem/report/chart.h"

namespace tandem::report {

class Page {
 public:
  // `kind`: "design", "study" ...; a word above the title.
  Page(std::string_view kind, std::string_view title, std::string_view subtitle);
  // A verdict beside the title; `mark`: "good", "bad", "muted".
  void badge(std::string_view text, std::string_view mark);
  // Large figures at the top of the page: name, value, what it rests on.
  void figures(const std::vector<std::array<std::string, 3>>& figures);
  void section(std::string_view id, std::string_view title);
  void paragraph(std::string_view text, std::string_view mark = "");
  void list(const std::vector<std::string>& lines);
  // Charts stand side by side where there is room, until the next other thing.
  void chart(const Chart& c, std::string_view attributes = "");
  // Radio buttons that show one of several charts.
  void choose(std::string_view id, std::string_view label, const std::vector<std::pair<std::string, Chart>>& charts, const std::vector<std::string>& attributes = {});
  void table(std::string_view id, std::string_view caption, const Grid& g);
  void pairs(const std::vector<std::pair<std::string, std::string>>& p);
  void pre(std::string_view text);
  // Data for the script: an element of type application/json. `json` is a document written with report::json.
  void data(std::string_view id, const std::string& json);
  // An empty place that the script fills.
  void place(std::string_view id, std::string_view without_script);
  // `more_script` runs after the page's own script and is admitted with it: for tests of the page in a browser.
  std::string done(std::string_view more_script = "") const;

 private:
  void close();
  std::string kind_, title_, subtitle_, badges_, figures_, body_;
  std::vector<std::pair<std::string, std::string>> sections_;
  bool charts_open_ = false, section_open_ = false;
};

std::string_view page_script();  // the text whose hash the policy admits
std::string table_html(const Grid& g, std::string_view caption = "");

}  // namespace tandem::report
