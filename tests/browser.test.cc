// The pages in a browser, as a person opens them: headless Chromium runs a script after the page's own, which does what hands
// do (theme, sorting, tooltips, keyboard, saving) and writes what it saw into the document that --dump-dom then prints.
#include <gtest/gtest.h>

#include <algorithm>

#include "tandem/flow/explore.h"
#include "tandem/flow/report.h"
#include "tandem/report/study_page.h"
#include "tests/tandem_run.h"

namespace tandem {
namespace {
using namespace shell;

// Findings go to data-found of the root element; an exception anywhere leaves it away.
constexpr const char* kHands = R"js(
addEventListener('load', () => {
  const d = document, root = d.documentElement, found = {}, bad = [];
  const all = what => Array.from(d.querySelectorAll(what));
  const check = (ok, what) => { if (!ok) bad.push(what); };
  found.theme = d.getElementById('theme').textContent;  // what it would change to
  found.charts = all('figure svg').length;
  found.rows = all('table.sort tbody tr').length;
  for (const s of all('figure svg')) {
    if (s.closest('.one') && !s.closest('.one').classList.contains('on')) continue;  // another picture is chosen
    const b = s.getBoundingClientRect();
    check(b.width > 50 && b.height > 20, 'a chart without an area: ' + s.closest('figure').id);
    check(s.querySelectorAll('path, rect, line, circle, text').length > 3, 'an empty chart: ' + s.closest('figure').id);
    check((s.getAttribute('aria-label') || '').length > 5, 'a chart without a name: ' + s.closest('figure').id);
  }
  check(root.scrollWidth <= innerWidth + 1, 'the page is wider than the window: ' + root.scrollWidth + ' of ' + innerWidth);
  check(performance.getEntriesByType('resource').length === 0, 'a request');
  check(d.title.length > 0, 'no title');
  // theme
  const ground = () => getComputedStyle(d.body).backgroundColor, before = ground();
  d.getElementById('theme').click();
  check(ground() !== before, 'the theme does not change');
  for (const s of all('figure svg text')) { check(getComputedStyle(s).fill !== ground(), 'text in the colour of the ground'); break; }
  d.getElementById('theme').click();
  check(ground() === before, 'the theme does not change back');
  // sorting: numbers by value
  const t = d.querySelector('table.sort');
  if (t && t.tBodies[0].rows.length > 1) {
    const numbers = i => Array.from(t.tBodies[0].rows).map(r => Number(r.cells[i].dataset.v)).filter(v => !Number.isNaN(v));
    const heads = Array.from(t.tHead.querySelectorAll('th'));
    const i = heads.findIndex((h, k) => { const v = numbers(k); return v.length === t.tBodies[0].rows.length && new Set(v).size > 1; });
    if (i >= 0) {
      heads[i].querySelector('button').click();
      const up = numbers(i);
      check(up.every((v, k) => !k || up[k - 1] <= v), 'not sorted upwards');
      heads[i].querySelector('button').click();
      const down = numbers(i);
      check(down.every((v, k) => !k || down[k - 1] >= v), 'not sorted downwards');
      found.sorted = 1;
    }
  }
  // marks: a tooltip, by pointer and by keyboard; a click goes to a row
  const mark = d.querySelector('.m'), tip = d.getElementById('tip');
  if (mark) {
    mark.dispatchEvent(new PointerEvent('pointermove', {bubbles: true, clientX: 50, clientY: 50}));
    check(getComputedStyle(tip).display !== 'none' && tip.textContent.length > 3, 'no tooltip');
    const svg = mark.closest('svg');
    svg.focus();
    check(d.activeElement === svg, 'a chart cannot be reached by keyboard');
    d.dispatchEvent(new KeyboardEvent('keydown', {key: 'ArrowRight', bubbles: true}));
    check(d.querySelector('.m.sel') !== null && d.getElementById('live').textContent.length > 3, 'the arrow keys select nothing');
    d.dispatchEvent(new KeyboardEvent('keydown', {key: 'Escape', bubbles: true}));
    check(getComputedStyle(tip).display === 'none', 'Escape leaves the tooltip');
  }
  const goes = d.querySelector('.m.go');
  if (goes) {
    goes.dispatchEvent(new MouseEvent('click', {bubbles: true}));
    check(d.querySelector('tr.hit') !== null, 'a click on a mark goes nowhere');
    found.goes = 1;
  }
  // saving: what would be downloaded
  const files = [];
  HTMLAnchorElement.prototype.click = function () { files.push(this.download); };
  for (const b of all('figure button[data-save]').slice(0, 4)) b.click();
  check(files.length > 0 && files.every(f => /^[-A-Za-z0-9_]+\.(svg|csv)$/.test(f)), 'files: ' + files);
  found.saved = files.length;
  for (const a of all('main a[href]')) check(a.getAttribute('href').startsWith('#') || a.getAttribute('href').startsWith('./'), 'a link out: ' + a.getAttribute('href'));
  check(!root.dataset.error, 'an error: ' + root.dataset.error);
  root.dataset.found = JSON.stringify(found);
  root.dataset.bad = bad.join(' | ');
});
)js";

std::string browser() {
  for (const char* b : {"chromium", "chromium-browser", "google-chrome"})
    if (all_tools_here(b)) return b;
  return "";
}
#define NEEDS(tools, missing)                                                  \
  if (!all_tools_here(tools)) {                                                \
    ASSERT_EQ(std::getenv("CI"), nullptr) << missing << ", and CI is set";     \
    GTEST_SKIP() << missing;                                                   \
  }
#define NEEDS_BROWSER()                                                                                \
  if (browser().empty()) {                                                                             \
    ASSERT_EQ(std::getenv("CI"), nullptr) << "chromium is missing (package chromium), and CI is set"; \
    GTEST_SKIP() << "no chromium: the pages are not tried in a browser";                               \
  }

std::string attribute(const std::string& dom, const std::string& name) {
  const std::size_t root = dom.find("<html"), end = dom.find('>', root), at = dom.find(" " + name + "=\"", root);
  if (root == dom.npos || at == dom.npos || at > end) return "-";
  const std::size_t from = at + name.size() + 3;
  std::string v = dom.substr(from, dom.find('"', from) - from);
  for (std::size_t q; (q = v.find("&quot;")) != v.npos;) v.replace(q, 6, "\"");
  return v;
}

void open(const Folder& f, const std::string& page, bool dark, int width, std::int64_t charts, std::int64_t rows, bool goes = true) {
  SCOPED_TRACE(fmt::format("{} theme, {} wide", dark ? "dark" : "light", width));
  write_file(f.path / "page.html", page);
  fs::remove_all(f.path / "profile");  // the theme chosen last would be remembered
  const Result r = f.run(fmt::format("HOME=\"$PWD\" timeout 120 {} --headless --no-sandbox --disable-gpu --disable-dev-shm-usage --no-first-run --user-data-dir=\"$PWD/profile\" "
                                     "--enable-logging=stderr --virtual-time-budget=5000 --window-size={},900 {} --dump-dom \"file://$PWD/page.html\"",
                                     browser(), width, dark ? "--force-dark-mode" : "--blink-settings=preferredColorScheme=1"));
  ASSERT_EQ(r.code, 0) << r.err;
  EXPECT_EQ(r.err.find("CONSOLE"), r.err.npos) << r.err;
  EXPECT_EQ(attribute(r.out, "data-bad"), "");
  const std::string found = attribute(r.out, "data-found");
  ASSERT_NE(found, "-") << "the script did not come to its end\n" << r.err;
  const Config c = Config::parse(found, "found", {});
  EXPECT_GE(c.required<std::int64_t>("charts"), charts);
  EXPECT_GE(c.required<std::int64_t>("rows"), rows);
  EXPECT_GE(c.required<std::int64_t>("saved"), 2);
  EXPECT_EQ(c.required<std::string>("theme"), dark ? "Light theme" : "Dark theme");
  EXPECT_TRUE(c.has("sorted"));
  EXPECT_EQ(c.has("goes"), goes);
}

TEST(Browser, ADesignsPage) {
  NEEDS_BROWSER();
  NEEDS("verilator", "no Verilator: no design to show");
  const Examples f;
  ASSERT_EQ(f.run("tandem build model.onnx --target up5k --no-place --frames 8 --out design").code, 0);
  const report::Design d = flow::load_design(f.path / "design");
  EXPECT_FALSE(d.precision.empty());
  EXPECT_FALSE(d.waves.empty());
  const std::string page = report::design_page(d, true, "", kHands);
  EXPECT_LE(page.size(), 3u << 20);
  for (bool dark : {false, true})
    for (int width : {1280, 500}) open(f, page, dark, width, 6, 4);
}

TEST(Browser, AStudysPage) {
  NEEDS_BROWSER();
  const Examples f;
  ASSERT_EQ(f.run("tandem explore examples/explore-folding.yaml --out found").code, 0);
  const std::string page = report::study_page(flow::load_study(f.path / "found"), true, "", kHands);
  EXPECT_LE(page.size(), 3u << 20);
  open(f, page, false, 1280, 3, 3);
  open(f, page, true, 500, 3, 3);
}

TEST(Browser, ATrainingsPage) {
  NEEDS_BROWSER();
  NEEDS("learn", "built without libtorch: no training to show");
  const Examples f;
  ASSERT_EQ(f.run("tandem train examples/digits-tiny.yaml --set train.epochs=3 --out run").code, 0);
  const std::string page = report::training_page(flow::load_training(f.path / "run"), kHands);
  EXPECT_EQ(f.run("tandem report run").code, 0);
  open(f, page, false, 1280, 3, 2, false);
  open(f, page, true, 500, 3, 2, false);
}

// The test must be able to fail: a script that throws, and a request, are seen.
TEST(Browser, FaultsAreSeen) {
  NEEDS_BROWSER();
  const Examples f;
  report::Design d;
  d.name = "broken";
  write_file(f.path / "page.html", report::design_page(d, true, "", "throw new Error('broken');"));
  const std::string line = "HOME=\"$PWD\" timeout 120 " + browser() + " --headless --no-sandbox --disable-gpu --disable-dev-shm-usage --user-data-dir=\"$PWD/profile\" --enable-logging=stderr --dump-dom \"file://$PWD/page.html\"";
  Result r = f.run(line);
  EXPECT_NE(r.err.find("CONSOLE"), r.err.npos) << r.err;
  EXPECT_EQ(attribute(r.out, "data-found"), "-");
  write_file(f.path / "page.html", report::design_page(d, true, "", "const i = new Image(); i.src = 'http://127.0.0.1:9/x.png'; document.body.append(i);"));
  r = f.run(line);
  EXPECT_NE(r.err.find("Content Security Policy"), r.err.npos) << r.err;
}

}  // namespace
}  // namespace tandem
