// What the charts of this folder draw with. Private to report/.
#pragma once
#include <string>
#include <string_view>
#include <vector>

#include "tandem/report/chart.h"

namespace tandem::report {

// A coordinate: one decimal, always finite (a bug of ours otherwise).
std::string px(double v);
bool usable(double v);  // finite, and small enough that sums of a few stay so
// Text of about this many pixels at font size 12; longer ones end in an ellipsis.
double text_width(std::string_view s);
std::string fit(std::string_view s, double width);

class Svg {
 public:
  Svg(const std::string& id, const std::string& title, const std::string& summary, double width, double height, std::string_view more = "");
  // `anchor`: start, middle, end.
  void text(double x, double y, std::string_view s, std::string_view anchor = "start", std::string_view cls = "tk");
  void line(double x1, double y1, double x2, double y2, std::string_view cls);
  void rect(double x, double y, double w, double h, std::string_view cls);
  void path(const std::string& d, std::string_view cls);
  void raw(const std::string& s) { s_ += s; }
  // A mark: what a pointer or the arrow keys can reach; its text is a tooltip.
  void mark(const std::string& tip, const std::string& row);
  void end_mark() { s_ += "</g>"; }
  std::string done() { return s_ + "</svg>"; }

 private:
  std::string s_;
};

// A frame with two axes: grid, ticks, labels.
struct Plot {
  double left, top, width, height;
  Scale x, y;
  double px_of(double v) const { return left + width * x.at(v); }
  double py_of(double v) const { return top + height * (1 - y.at(v)); }
};
void draw_axes(Svg& s, const Plot& p, const AxisOf& x, const AxisOf& y);
std::string axis_text(const AxisOf& a);
// Width that the labels of a vertical axis need.
double label_room(const Scale& y);
std::string left_out(std::size_t n);  // "3 values that are no finite numbers are left out"; empty for none

}  // namespace tandem::report
