#include "tandem/report/draw.h"

#include <algorithm>
#include <cmath>

#include "tandem/base/error.h"
#include "tandem/report/escape.h"

namespace tandem::report {

std::string px(double v) {
  TANDEM_CHECK(std::isfinite(v), "report: a coordinate is not finite");
  std::string t = fmt::format("{:.1f}", std::clamp(v, -1e6, 1e6));
  if (t.ends_with(".0")) t.resize(t.size() - 2);
  return t == "-0" ? "0" : t;
}

bool usable(double v) { return std::isfinite(v) && std::abs(v) <= 1e300; }

double text_width(std::string_view s) {
  double w = 0;
  for (unsigned char c : s) {
    if ((c & 0xC0) == 0x80) continue;  // within a code point
    if (c >= 0xE0) w += 12;            // CJK and the like are wide
    else if (std::string_view("iljtfr.,:;|'!()[] ").find(static_cast<char>(c)) != std::string_view::npos) w += 4.2;
    else if (c >= 'A' && c <= 'Z') w += 8.4;
    else if (std::string_view("mwMW@%").find(static_cast<char>(c)) != std::string_view::npos) w += 10;
    else w += 6.9;
  }
  return w;
}

std::string fit(std::string_view s, double width) {
  std::string t = printable(s);
  if (text_width(t) <= width) return t;
  while (!t.empty() && text_width(t) > width - 9) {
    while (!t.empty() && (static_cast<unsigned char>(t.back()) & 0xC0) == 0x80) t.pop_back();
    if (!t.empty()) t.pop_back();
  }
  return t + "…";
}

Svg::Svg(const std::string& id, const std::string& title, const std::string& summary, double width, double height, std::string_view more) {
  s_ = fmt::format("<svg id=\"{0}-svg\" viewBox=\"0 0 {1} {2}\" role=\"img\" tabindex=\"0\" aria-labelledby=\"{0}-t {0}-d\"{3}><title id=\"{0}-t\">{4}</title><desc id=\"{0}-d\">{5}</desc>",
                   id, px(width), px(height), more, html(title), html(summary));
}
void Svg::text(double x, double y, std::string_view s, std::string_view anchor, std::string_view cls) {
  s_ += fmt::format("<text x=\"{}\" y=\"{}\" class=\"{}\"{}>{}</text>", px(x), px(y), cls, anchor == "start" ? std::string() : fmt::format(" text-anchor=\"{}\"", anchor), html(s));
}
void Svg::line(double x1, double y1, double x2, double y2, std::string_view cls) {
  s_ += fmt::format("<path d=\"M{} {}L{} {}\" class=\"{}\"/>", px(x1), px(y1), px(x2), px(y2), cls);
}
void Svg::rect(double x, double y, double w, double h, std::string_view cls) {
  s_ += fmt::format("<rect x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\" class=\"{}\"/>", px(x), px(y), px(std::max(w, 0.0)), px(std::max(h, 0.0)), cls);
}
void Svg::path(const std::string& d, std::string_view cls) {
  if (!d.empty()) s_ += fmt::format("<path d=\"{}\" class=\"{}\"/>", d, cls);
}
void Svg::mark(const std::string& tip, const std::string& row) {
  s_ += row.empty() ? "<g class=\"m\">" : fmt::format("<g class=\"m go\" data-row=\"{}\">", html(row));
  s_ += "<title>" + html(tip) + "</title>";
}

std::string axis_text(const AxisOf& a) {
  std::string t = a.label;
  if (!a.unit.empty() && a.unit != a.label) t += " (" + a.unit + ")";
  if (a.goal) t += a.maximise ? ", more is better" : ", less is better";
  return t;
}

double label_room(const Scale& y) {
  double w = 0;
  for (const std::string& t : tick_labels(ticks(y))) w = std::max(w, text_width(t));
  return w + 12;
}

void draw_axes(Svg& s, const Plot& p, const AxisOf& x, const AxisOf& y) {
  const std::vector<double> tx = ticks(p.x, p.width > 500 ? 8 : 5), ty = ticks(p.y, 5);
  const std::vector<std::string> lx = tick_labels(tx), ly = tick_labels(ty);
  std::string grid;
  for (double v : tx) grid += fmt::format("M{} {}V{}", px(p.px_of(v)), px(p.top), px(p.top + p.height));
  for (double v : ty) grid += fmt::format("M{} {}H{}", px(p.left), px(p.py_of(v)), px(p.left + p.width));
  s.path(grid, "gr");
  s.path(fmt::format("M{} {}V{}H{}", px(p.left), px(p.top), px(p.top + p.height), px(p.left + p.width)), "ax");
  double end = -1e9;  // labels that would touch are left out
  for (std::size_t i = 0; i < tx.size(); ++i) {
    const double at = p.px_of(tx[i]), w = text_width(lx[i]);
    if (at - w / 2 < end + 6) continue;
    s.text(at, p.top + p.height + 16, lx[i], "middle");
    end = at + w / 2;
  }
  double above = 1e9;
  for (std::size_t i = 0; i < ty.size(); ++i) {
    const double at = p.py_of(ty[i]);
    if (at > above - 13) continue;
    s.text(p.left - 6, at + 4, ly[i], "end");
    above = at;
  }
  s.text(p.left + p.width / 2, p.top + p.height + 36, fit(axis_text(x) + (p.x.log ? ", log" : ""), p.width + 40), "middle", "lb");
  // Above the axis, not turned by 90 degrees: easier to read.
  s.text(4, 13, fit(axis_text(y) + (p.y.log ? ", log" : ""), p.left + p.width - 4), "start", "lb");
}

std::string left_out(std::size_t n) {
  if (n == 0) return "";
  return n == 1 ? "One value that is no finite number is left out." : fmt::format("{} values that are no finite numbers are left out.", n);
}

}  // namespace tandem::report
