// Pages and charts: hostile names are harmless in every place, the policy holds, the markup is balanced, numbers finite.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "tandem/base/config.h"
#include "tandem/base/rng.h"
#include "tandem/base/sha256.h"
#include "tandem/report/chart.h"
#include "tandem/report/design.h"
#include "tandem/report/escape.h"
#include "tandem/report/page.h"
#include "tandem/report/study_page.h"

namespace tandem::report {
namespace {

// The first fault of a page's markup, "" when there is none: every tag closed in order, every attribute quoted,
// no '<' in text, no element that asks a server, no inline handler or style.
std::string fault(const std::string& t) {
  std::vector<std::string> open;
  const std::vector<std::string> single = {"meta", "link", "br", "input"};
  std::size_t i = 0;
  while (i < t.size()) {
    if (t[i] != '<') { ++i; continue; }
    if (t.compare(i, 9, "<!DOCTYPE") == 0) { i = t.find('>', i) + 1; continue; }
    const bool closing = i + 1 < t.size() && t[i + 1] == '/';
    std::size_t p = i + 1 + closing;
    const std::size_t begin = p;
    while (p < t.size() && (std::isalnum(static_cast<unsigned char>(t[p])) || t[p] == '-')) ++p;
    const std::string name = t.substr(begin, p - begin);
    const auto here = [&] { return t.substr(i, 80); };
    if (name.empty()) return "a '<' that opens no tag: " + here();
    bool self = false;
    for (;;) {
      while (p < t.size() && (t[p] == ' ' || t[p] == '\n')) ++p;
      if (p >= t.size()) return "a tag without an end: " + here();
      if (t[p] == '>') { ++p; break; }
      if (t[p] == '/') { self = true; ++p; continue; }
      const std::size_t a = p;
      while (p < t.size() && (std::isalnum(static_cast<unsigned char>(t[p])) || t[p] == '-')) ++p;
      const std::string attribute = t.substr(a, p - a);
      if (attribute.empty()) return "an odd character in a tag: " + here();
      if (attribute.starts_with("on") || attribute == "style" || attribute == "src") return "attribute " + attribute + ": " + here();
      if (t[p] != '=') continue;
      if (t[++p] != '"') return "an attribute without quotes: " + here();
      const std::size_t end = t.find('"', p + 1);
      const std::string value = t.substr(p + 1, end - p - 1);
      if (attribute == "href" && value[0] != '#' && !value.starts_with("./") && !value.starts_with("../") && value != "data:,") return "a link elsewhere: " + value;
      if (value.find('<') != value.npos && attribute != "content") return "a '<' in an attribute: " + here();
      p = end + 1;
    }
    if (closing) {
      if (open.empty() || open.back() != name) return "</" + name + "> closes " + (open.empty() ? "nothing" : open.back());
      open.pop_back();
    } else if (!self && std::find(single.begin(), single.end(), name) == single.end()) {
      if (name == "script" || name == "style") {
        const std::size_t end = t.find("</" + name, p);
        if (end == t.npos) return "no end of " + name;
        p = end + name.size() + 3;
      } else if (name == "img" || name == "iframe" || name == "object" || name == "form" || name == "base") {
        return "element " + name;
      } else {
        open.push_back(name);
      }
    }
    i = p;
  }
  return open.empty() ? "" : "open: " + open.back();
}

std::string hostile(Rng& r) {
  static const std::vector<std::string> parts = {"<img src=x onerror=alert(1)>", "</script><script>alert(1)</script>", "=cmd()", "\x1b]0;t\x07", "\xe2\x80\xae", "\" onload=\"x", "' x='", "&lt;", "]]>", "<!--", "-->",
                                                 "\n", "\r", "\t", std::string(1, '\0'), "\xff\xfe", "http://a.example/", "javascript:alert(1)", "../../etc", "\xe2\x80\xa8", "</title>", "</style>", "{}", "{0}", "%s", "\\", "ü", "名", "a", "-1", "+1", "@x"};
  std::string s;
  for (std::int64_t n = r.range(1, 6); n > 0; --n) s += parts[static_cast<std::size_t>(r.range(0, static_cast<std::int64_t>(parts.size()) - 1))];
  return s;
}
double odd(Rng& r) {
  const double v[] = {0, 1, -1, 3.5, 1e-300, 1e300, -1e308, 1e308, std::numeric_limits<double>::infinity(), std::nan(""), 5e-324, 1e16, 12345.678, static_cast<double>(r.range(-1000, 1000)), static_cast<double>(r.range(1, 100000))};
  return v[r.range(0, 14)];
}

Study random_study(Rng& r, std::int64_t trials, int objectives, bool bad) {
  Study s;
  auto name = [&](const std::string& plain) { return bad ? hostile(r) + plain : plain; };
  s.name = name("study");
  s.searcher = name("nsga2");
  s.budget = trials;
  for (int o = 0; o < objectives; ++o) s.objectives.push_back({name(fmt::format("metric{}", o)), name("unit"), o % 2 == 1});
  if (objectives) s.constraints.push_back({s.objectives[0].metric, true, bad ? odd(r) : 900});
  const std::vector<std::string> parameters = {name("bits"), name("width"), name("kind"), name("depth")};
  s.provenance = {{name("model"), name("m")}};
  for (std::int64_t i = 0; i < trials; ++i) {
    Trial t;
    t.id = i;
    for (const std::string& p : parameters) t.parameters.emplace_back(p, bad ? hostile(r) : std::to_string(r.range(1, 12)));
    for (const Objective& o : s.objectives) {
      Metric m{bad ? odd(r) : static_cast<double>(r.range(1, 100000)) / 7, o.unit, static_cast<Fidelity>(r.range(0, 8)), name("s"), {}, {}};
      if (bad && r.range(0, 1)) { m.low = odd(r); m.high = odd(r); }
      t.metrics.emplace_back(o.metric, m);
    }
    t.feasible = r.range(0, 3) > 0;
    t.front = t.feasible && r.range(0, 60) == 0;
    if (!t.feasible) t.reason = name("too many LUTs");
    if (t.front) t.design = bad ? hostile(r) : fmt::format("designs/{}", i);
    t.seconds = 0.25;
    s.trials.push_back(std::move(t));
  }
  return s;
}

Design random_design(Rng& r) {
  Design d;
  d.name = hostile(r);
  d.target = hostile(r);
  d.hash = hostile(r);
  d.reason = hostile(r);
  d.limit = hostile(r);
  d.frames = hostile(r);
  d.host = {hostile(r)};
  for (std::int64_t n = r.range(0, 4); n > 0; --n) {
    DesignLayer l;
    l.name = hostile(r);
    l.node = hostile(r);
    l.kind = hostile(r);
    l.shape = hostile(r);
    l.cycles = r.range(0, 1000);
    l.macs = r.range(0, 1000);
    l.lut4 = odd(r);
    l.bram = odd(r);
    d.layers.push_back(l);
    Distribution q{hostile(r), hostile(r), odd(r), odd(r), odd(r), odd(r), 5, {1, 0, r.range(0, 9)}, odd(r), odd(r)};
    d.precision.push_back(q);
  }
  for (const char* n : {"LUT4", "LUT4", "cycles per frame", "mismatches", "Fmax", "throughput"}) d.metrics.push_back({n, {odd(r), hostile(r), static_cast<Fidelity>(r.range(0, 8)), hostile(r), {}, {}}});
  d.budgets = {{"lut4", 5280, hostile(r)}};
  d.unit = hostile(r);
  for (std::int64_t n = r.range(0, 4); n > 0; --n) d.stages.push_back({hostile(r), odd(r), odd(r), odd(r), odd(r)});
  for (std::int64_t n = r.range(0, 4); n > 0; --n) d.differences.push_back({hostile(r), odd(r), odd(r), odd(r), hostile(r), hostile(r)});
  Waveform w;
  w.id = "wave-0";
  w.title = hostile(r);
  w.signals = {{hostile(r), 1, {1, 0, {}}}, {hostile(r), 8, {5, 5, {}, -3}}};
  d.waves = {w};
  d.provenance = {{hostile(r), hostile(r)}};
  d.files = {{hostile(r), "00", 1}};
  d.notices = {{hostile(r), hostile(r)}};
  return d;
}

void check_page(const std::string& page) {
  EXPECT_EQ(fault(page), "");
  EXPECT_EQ(page.find("nan"), page.find("nan", page.find("<style>")));  // never before the style: titles
  for (const char* bad : {"\xe2\x80\xae", "\x1b", "\xff", "=\"NaN", "unsafe"}) EXPECT_EQ(page.find(bad), page.npos) << bad;
  // The policy admits this very script and style.
  for (const char* tag : {"script", "style"}) {
    const std::string open = std::string("<") + tag + ">";
    const std::size_t a = page.find(open) + open.size(), b = page.find(std::string("</") + tag + ">", a);
    const auto h = sha256(std::string_view(page).substr(a, b - a));
    EXPECT_NE(page.find("'sha256-" + base64(std::string(h.begin(), h.end())) + "'"), page.npos) << tag;
  }
  EXPECT_NE(page.find("default-src 'none'"), page.npos);
}

TEST(Report, hostile_names_are_harmless_everywhere) {
  Rng r(11, "hostile");
  for (int i = 0; i < 60; ++i) {
    check_page(design_page(random_design(r)));
    if (HasFailure()) FAIL() << "design " << i;
    check_page(study_page(random_study(r, r.range(0, 30), static_cast<int>(r.range(0, 4)), true)));
    if (HasFailure()) FAIL() << "study " << i;
  }
}

TEST(Report, stages_and_differences_are_shown) {
  Design d;
  d.name = "net";
  d.unit = "LUT6";
  d.stages = {{"net_00_mvau", 100, 90, 115, 104}, {"net_01_skid", 20, 20, 20, 30}, {"net_02_gone", 5, 4, 6, 0}};
  d.differences = {{"s00_conv", 0, 0, 0, "", ""}, {"s01_relu", 3, 0.5, 0.25, "frame 0, element 7: 4 instead of 1", "saturation"}};
  const std::string page = design_page(d);
  EXPECT_EQ(fault(page), "");
  EXPECT_NE(page.find("1 of 2 stages lie within"), page.npos);
  EXPECT_NE(page.find("net_00_mvau: -4 %"), page.npos);
  EXPECT_NE(page.find("frame 0, element 7: 4 instead of 1"), page.npos);
  EXPECT_NE(page.find("saturation"), page.npos);
}

TEST(Report, study_of_20000_trials_stays_below_3_MB) {
  Rng r(5, "size");
  const Study s = random_study(r, 20000, 3, false);
  const std::string page = study_page(s);
  check_page(page);
  EXPECT_LE(page.size(), 3u << 20);
  EXPECT_EQ(page, study_page(s));
  // The script's data is a document that a strict reader takes.
  const std::string open = "id=\"trials-data\">";
  const std::size_t a = page.find(open) + open.size();
  const Config c = Config::parse(page.substr(a, page.find("</script>", a) - a), "trials", {});
  EXPECT_EQ(c.at("id").size(), 20000u);
}

TEST(Report, links_stay_below_the_page) {
  EXPECT_EQ(link("designs/7/report.html"), "./designs/7/report.html");
  EXPECT_EQ(link("javascript:alert(1)"), "./javascript%3Aalert%281%29");
  EXPECT_EQ(link("//host/x"), std::nullopt);
  EXPECT_EQ(link("a/../../x"), std::nullopt);
  EXPECT_EQ(link("..\\x"), "./..%5Cx");
  EXPECT_EQ(link("a b", "../"), "../a%20b");
}

TEST(Report, ticks_are_round_inside_and_at_least_two) {
  Rng r(3, "ticks");
  for (int i = 0; i < 3000; ++i) {
    double a = odd(r), b = odd(r);
    if (!std::isfinite(a) || !std::isfinite(b) || std::abs(a) > 1e300 || std::abs(b) > 1e300) continue;
    const Scale s = scale_for(std::min(a, b), std::max(a, b));
    const auto t = ticks(s);
    ASSERT_GE(t.size(), 2u) << a << ' ' << b;
    ASSERT_LE(t.size(), 45u) << a << ' ' << b;
    for (std::size_t k = 0; k < t.size(); ++k) {
      ASSERT_TRUE(std::isfinite(s.at(t[k])));
      ASSERT_GE(s.at(t[k]), -1e-6);
      ASSERT_LE(s.at(t[k]), 1 + 1e-6);
      if (k) ASSERT_GT(t[k], t[k - 1]);
    }
  }
  EXPECT_EQ(tick_labels(ticks(Scale{0, 1, false})), (std::vector<std::string>{"0", "0.2", "0.4", "0.6", "0.8", "1.0"}));
  EXPECT_EQ(tick_labels(ticks(Scale{0, 50000, false})), (std::vector<std::string>{"0", "10k", "20k", "30k", "40k", "50k"}));
  EXPECT_EQ(tick_labels(ticks(Scale{1, 1000, true})), (std::vector<std::string>{"1", "10", "100", "1000"}));
}

TEST(Report, hypervolume_of_two_objectives_is_the_area_of_a_fine_grid) {
  Rng r(9, "volume");
  for (int i = 0; i < 20; ++i) {
    Study s = random_study(r, r.range(2, 40), 2, false);
    const auto c = convergence(s);
    double lo[2] = {1e9, 1e9}, hi[2] = {-1e9, -1e9};
    std::vector<std::array<double, 2>> v;
    for (const Trial& t : s.trials) {
      if (!t.feasible) continue;
      v.push_back({t.metrics[0].second.value, -t.metrics[1].second.value});
      for (int d = 0; d < 2; ++d) { lo[d] = std::min(lo[d], v.back()[d]); hi[d] = std::max(hi[d], v.back()[d]); }
    }
    if (v.size() < 2) continue;
    int in = 0;
    constexpr int n = 300;
    for (int x = 0; x < n; ++x)
      for (int y = 0; y < n; ++y)
        for (const auto& q : v)
          if ((q[0] - lo[0]) / (hi[0] - lo[0]) <= (x + 0.5) / n && (q[1] - lo[1]) / (hi[1] - lo[1]) <= (y + 0.5) / n) { ++in; break; }
    // A staircase of at most 40 steps cuts at most 2 n cells of the grid: 2 / n of the area.
    EXPECT_NEAR(c.back().second, static_cast<double>(in) / (n * n), 2.0 / n);
    for (std::size_t k = 1; k < c.size(); ++k) EXPECT_GE(c[k].second, c[k - 1].second - 1e-12);
  }
}

TEST(Report, charts_of_no_one_and_many_points) {
  Rng r(4, "many");
  for (int n : {0, 1, 100000}) {
    Scatter s;
    s.id = "s";
    for (int i = 0; i < n; ++i) {
      Point p;
      p.x = static_cast<double>(r.range(0, 1000000));
      p.y = static_cast<double>(r.range(0, 1000000));
      p.front = i % 50 == 0;
      s.points.push_back(p);
    }
    const Chart c = draw(s);
    EXPECT_EQ(fault(c.svg), "");
    EXPECT_LE(c.svg.size(), 400000u);
    EXPECT_EQ(c.note.empty(), n <= 1);
    EXPECT_EQ(c.svg.find("no data") != c.svg.npos, n == 0);
  }
}

}  // namespace
}  // namespace tandem::report
