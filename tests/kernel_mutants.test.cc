// Single faults in the integer kernels: the self-test must find them. All faults of a file are compiled into one library, which
// stands in front of the real one; a variable of the environment switches one of them on. An element read past an end is a fault too.
#include <gtest/gtest.h>

#include <charconv>
#include <cstdlib>
#include <filesystem>
#include <set>

#include "tandem/base/file.h"
#include "tandem/base/rng.h"
#include "tandem/tool/find.h"
#include "tandem/tool/process.h"
#include "tandem/tool/work.h"

namespace tandem {
namespace {
namespace fs = std::filesystem;

struct Site {
  std::size_t line = 0;
  std::string before, after, faulty;
};

// Faults that change no result, and why. A guess in `levels` is only used where it is right within one at both ends of every level, and what
// is off by one is put right; else the steps are searched.
struct Equal {
  std::string_view line, faulty, why;
};
constexpr Equal kEqual[] = {
    {"for (Int128 v : g.v) m = std::max(m, v < 0 ? -v : v);", "std::max(m, v < 0 ? 1 + -v : v)", "only a bound, one wider"},
    {"if (!c.lo && !c.hi && n[i] > -(Int128(1) << 53)", "!c.lo && !c.hi && n[i] > -(Int128(2) << 53) && n[i] < (Int128(1) << 53)", "what rounding there adds is within the margin"},
    {"return w >= -128 && w <= 127;", "w > -128 && w <= 127", "the way of larger weights gives the same"},
    {"products *= static_cast<double>(each * taps);", "static_cast<double>(each + taps)", "only how much work there is"},
    {"const std::int64_t n = x.rank() ? x.shape()[0] : 0;", "x.rank() ? 1 + x.shape()[0] : 0", "a portion with a row to spare, or each row alone"},
    {"for (std::int64_t i = 0; i < a.size(); ++i) {", "i <= a.size()", "the check of the element stops it: then each row runs alone"},
    {"if (a.shape() != b.shape()) return false;", "a.shape() == b.shape()", "then each row runs alone"},
    {"vectors = n ? x.size() / n : 0;", "n ? x.size() / n : 1", "no axis has an extent of 0 here"},
    {"return off <= 1e-4 * most;", "off < 1e-4 * most", "equal rows that then run alone"},
    {"if (t.size() <= 16) {", "t.size() < 16", "both ways count the steps at or below n"},
    {"if (have < rows) {", "have <= rows", "a whole portion is copied to itself"},
    {"Bound one = bind_rows(", "bind_rows(2)", "refuses the row alone: then each runs alone"},
    {"if (stated == 1 && n > 1) try {", "stated == 1 || n > 1", "one row, or rows that no batch is stated for: the same either way"},
    {"= one.run(rows.rows(r, r + 1));", "one.run(rows.rows(r, r - 1))", "no rows: then each runs alone"},
    {"apart = y[i].rank() > 0 &&", "y[i].rank() > 0 && y[i].shape()[1] == most && same_row(y[i].rows(r, r + 1), alone[i])", "then each row runs alone"},
    {"if (lo == hi && std::isnormal(lo) && !(whole", "lo == hi && std::isnormal(lo) && !(whole || std::abs(lo) >= 0x1p24f)", "the slow way gives the same"},
    {"y[i] = cast_one(q.cast, q.cast.custom_steps.empty()", "cast_one(q.cast, q.cast.custom_steps.empty() ? (gc.empty() ? group_of(q, s, i) : gc[i]) : 0, q.cast.custom_steps.empty() ? 1 + 0 : g[i], x[i])", "the table's number is not looked at without a table"},
    {"y[i] = cast_one(q.cast, q.cast.custom_steps.empty()", "cast_one(q.cast, q.cast.custom_steps.empty() ? (gc.empty() ? group_of(q, s, i) : gc[i]) : 1, q.cast.custom_steps.empty() ? 0 : g[i], x[i])", "the cast's number is not looked at with a table"},
    {"for (Int128 v : g.v) m = std::max(m, v < 0 ? -v : v);", "std::max(m, v <= 0 ? -v : v)", "-0 is 0"},
    {"if (c.hi && x > c.hi->v[hi]) x = c.hi->v[hi];", "c.hi && x >= c.hi->v[hi]", "equal to the bound is the bound"},
    {"if (c.lo && x < c.lo->v[lo]) x = c.lo->v[lo];", "c.lo && x <= c.lo->v[lo]", "equal to the bound is the bound"},
    {"slope_ = span > 0", "span >= 0 ? static_cast<float>(static_cast<double>(size - 1) / span) : 0.f", "of equal steps: a guess that is no number is not used"},
    {"slope_ = span > 0", "span > 0 ? static_cast<float>(static_cast<double>(size - 2) / span) : 0.f", "only a guess"},
    {"return static_cast<std::int32_t>(g > size ? size : g);", "static_cast<std::int32_t>(g >= size ? size : g)", "equal to the bound is the bound"},
    {"return static_cast<std::int32_t>(g > size ? size : g);", "static_cast<std::int32_t>(g > size ? 1 + size : g)", "one too far above all steps is put right; the level behind the last is the last once more"},
    {"float g = (static_cast<float>(n) - first) * slope + 1.f;", "(static_cast<float>(n) - first) + slope + 1.f", "only a guess"},
    {"const double span = ", "static_cast<double>(thresholds.back()) + static_cast<double>(thresholds.front())", "only the slope of a guess"},
    {"= many->run(rows.rows(0, most));", "many->run(rows.rows(1, most))", "a row too few: then each runs alone"},
    {"if (lo == hi && std::isnormal(lo) && !(whole", "lo == hi && std::isnormal(lo) && !(whole && std::abs(lo) > 0x1p24f)", "2^24 is a float"},
    {"lda = b.product->groups() * 4;", "b.product->groups() * 5", "rows further apart"},
    {"g = g < 0.f ? 0.f : g;", "g <= 0.f ? 0.f : g", "0 is 0"},
    {"g = g < 0.f ? 0.f : g;", "g < 0.f ? 1 + 0.f : g", "one too far below all steps is put right"},
    {"for (; r + 4 <= rows; r += 4) {", "r + 4 < rows", "the last four rows one by one"},
    {"if (u == v || (std::isnan(u)", "u == v && (std::isnan(u) && std::isnan(v))", "rows with infinities or NaN then run alone, others differ by 0"},
    {"const std::int64_t n = x.rank() ? x.shape()[0] : 0;", "x.rank() ? x.shape()[0] : 1", "at least one row is bound either way"},
    {"if (stated == 1 && n > 1) try {", "stated != 1 && n > 1", "rows one by one, or more than stated where each comes out as it does alone"},
    {"std::upper_bound(t_.begin() + 1, t_.end() - 1, v)", "levels_[static_cast<std::size_t>(std::upper_bound(t_.begin() - 1, t_.end() - 1, v) - t_.begin() - 1)]", "nothing lies below the first step, so no search gets there"},
};
const Equal* equal_of(const Site& s) {
  for (const Equal& e : kEqual)
    if (s.faulty == e.faulty && s.before.find(e.line) != std::string::npos) return &e;
  return nullptr;
}

// The expression that begins at `from`: up to a comma, semicolon or bracket of its own depth.
std::size_t end_of(std::string_view t, std::size_t from) {
  int depth = 0;
  for (std::size_t i = from; i < t.size(); ++i) {
    const char c = t[i];
    if (c == '(' || c == '[' || c == '{') ++depth;
    if (c == ')' || c == ']' || c == '}') {
      if (--depth < 0) return i;
    }
    if (depth == 0 && (c == ',' || c == ';')) return i;
  }
  return std::string_view::npos;
}

// A fault in a line: one operator or constant of one expression, chosen while the program runs.
std::vector<Site> sites_of(const std::string& line, std::size_t number, int& next) {
  std::vector<Site> r;
  const std::size_t body = line.find_first_not_of(' ');
  if (body == std::string::npos) return r;
  const std::string_view s = std::string_view(line).substr(body);
  // What decides only how fast something is computed has no wrong value.
  for (const char* skip : {"//", "#", "template", "using", "namespace", "static_assert", "struct", "TANDEM_CHECK", "return bad_input", "throw"})
    if (s.starts_with(skip)) return r;
  for (const char* skip : {"constexpr", "auto*", "auto&", "reserve", "threads", "grain", "\"", "::npos", "sizeof", "std::move", "operator", "block", "parallel", "[&]", "nullopt", "magnitude", "width", "overflow", "error", "guess", "INT32_M"})
    if (s.find(skip) != std::string_view::npos) return r;
  std::vector<std::pair<std::size_t, std::size_t>> expressions;
  for (const std::string_view key : {" = ", " += ", " -= ", " *= ", "return ", "if (", "; "})
    for (std::size_t at = line.find(key); at != std::string::npos; at = line.find(key, at + 1)) {
      if (key == "; " && line.find("for (") >= at) continue;  // the condition of a loop
      const std::size_t from = at + key.size(), to = end_of(line, from);
      if (to != std::string::npos && to > from + 1 && line.find('{', from) >= to) expressions.emplace_back(from, to);
    }
  static constexpr std::pair<std::string_view, std::string_view> kSwaps[] = {{" + ", " - "}, {" - ", " + "}, {" * ", " + "}, {" < ", " <= "}, {" <= ", " < "}, {" > ", " >= "}, {" >= ", " > "},
                                                                             {" == ", " != "}, {" != ", " == "}, {" && ", " || "}, {" || ", " && "}, {" ? ", " ? 1 + "}};
  for (const auto& [from, to] : expressions) {
    const std::string e = line.substr(from, to - from);
    if (e.find('=') != std::string::npos && e.find("==") == std::string::npos && e.find("<=") == std::string::npos && e.find(">=") == std::string::npos && e.find("!=") == std::string::npos) continue;
    if (e.find("++") != std::string::npos || e.find("--") != std::string::npos) continue;
    const auto add = [&](std::string faulty) {
      std::string l = line;
      l.replace(from, to - from, fmt::format("(tandem_mutant({}) ? ({}) : ({}))", next++, faulty, e));
      r.push_back({number, line, std::move(l), faulty});
    };
    for (const auto& [a, b] : kSwaps)
      for (std::size_t at = e.find(a); at != std::string::npos; at = e.find(a, at + 1)) {
        std::string f = e;
        f.replace(at, a.size(), b);
        add(std::move(f));
      }
    for (std::size_t at = 0; at < e.size(); ++at)  // a number of its own
      if (e[at] >= '0' && e[at] <= '9' && (at == 0 || std::string_view(" ([-").find(e[at - 1]) != std::string_view::npos) && (at + 1 == e.size() || std::string_view(" )],").find(e[at + 1]) != std::string_view::npos)) {
        std::string f = e;
        f[at] = e[at] == '9' ? '8' : static_cast<char>(e[at] + 1);
        add(std::move(f));
      }
  }
  return r;
}

struct Tried {
  int mutant;
  Site site;
  bool found;
  const Equal* equal;
  bool timed_out = false;
};

// Compiles `count` faults of a file into a library and runs each.
void try_file(const std::string& file, int count, std::vector<Tried>& all) {
  const fs::path source = TANDEM_SOURCE_DIR;
  const fs::path build = fs::path(TANDEM_CLI).parent_path();
  const std::string text = read_file(source / "src/tandem" / file);
  std::vector<std::string> lines;
  for (std::size_t p = 0, e; (e = text.find('\n', p)) != std::string::npos; p = e + 1) lines.push_back(text.substr(p, e - p));
  int next = 0;
  std::vector<std::vector<Site>> sites;  // by line
  bool bound = false;  // inside what only chooses an integer's width, generously
  for (std::size_t i = 0; i < lines.size(); ++i) {
    bound = lines[i].find("int step_width(") != std::string::npos || (bound && lines[i] != "  }");
    if (bound) continue;
    if (std::vector<Site> s = sites_of(lines[i], i, next); !s.empty()) sites.push_back(std::move(s));
  }
  const char* draw = std::getenv("TANDEM_MUTANTS_SEED");  // another draw
  Rng r(draw ? std::strtoull(draw, nullptr, 10) : 5, file);
  std::vector<Site> chosen;
  while (static_cast<int>(chosen.size()) < count + count / 2 && !sites.empty()) {  // one a line, and some in reserve
    const std::size_t k = static_cast<std::size_t>(r.range(0, static_cast<std::int64_t>(sites.size()) - 1));
    chosen.push_back(r.pick(sites[k]));
    sites.erase(sites.begin() + static_cast<std::ptrdiff_t>(k));
  }
  const tool::WorkFolder w;
  tool::Process p;
  for (int attempt = 0; attempt < 4; ++attempt) {
    std::vector<std::string> out = lines;
    for (const Site& s : chosen) out[s.line] = s.after;
    std::string all_text = "#include <cstdlib>\nnamespace { bool tandem_mutant(int k) { static const char* const m = std::getenv(\"TANDEM_MUTANT\"); static const int n = m ? std::atoi(m) : -1; return n == k; } }\n#line 1\n";
    for (const std::string& l : out) all_text += l + "\n";
    w.put("mutants.cc", all_text);
    p = {};
    p.argv = {tool::find("g++").path.string(), "-DFMT_SHARED", "-DTANDEM_VERSION=\"0\"", "-I" + (source / "src").string(), "-O1", "-D_GLIBCXX_ASSERTIONS", "-fPIC", "-std=gnu++20", "-w", "-fmax-errors=0", "-shared",
              "-include", (build / "CMakeFiles/tandem.dir/cmake_pch.hxx").string(), "mutants.cc", "-o", "mutants.so"};
    p.folder = w.path();
    p.readable = {source, build};
    p.seconds = 600;
    const tool::ProcessResult c = p.run();
    if (c.ok()) break;
    ASSERT_LT(attempt, 3) << c.err.substr(0, 2000);
    std::set<std::size_t> bad;
    for (std::size_t at = c.err.find("mutants.cc:"); at != std::string::npos; at = c.err.find("mutants.cc:", at + 1)) {
      std::size_t n = 0;
      std::from_chars(c.err.data() + at + 11, c.err.data() + c.err.size(), n);
      bad.insert(n - 1);
    }
    std::erase_if(chosen, [&](const Site& s) { return bad.contains(s.line); });
  }
  if (static_cast<int>(chosen.size()) > count) chosen.resize(static_cast<std::size_t>(count));
  for (const Site& s : chosen) {
    int k = 0;
    const std::size_t at = s.after.find("tandem_mutant(") + 14;
    std::from_chars(s.after.data() + at, s.after.data() + s.after.size(), k);
    tool::Process run;
    run.argv = {TANDEM_CLI, "selftest", "--graphs", "600", "--seed", "4", "--engines", "ref,exec"};
    run.env = {{"LD_PRELOAD", (w / "mutants.so").string()}, {"TANDEM_MUTANT", std::to_string(k)}};
    run.folder = w.path();
    run.readable = {source, build, fs::canonical(w.path())};
    run.seconds = 120;
    const tool::ProcessResult x = run.run();
    all.push_back({k, s, !x.ok(), equal_of(s), x.timed_out});
    // What random graphs do not hold, the tests of the kernels may.
    if (x.ok() && fs::exists(build / "tandem_tests")) {
      run.argv = {(build / "tandem_tests").string(), "--gtest_filter=Exec.*:Levels.*", "--gtest_brief=1"};
      all.back().found = !run.run().ok();
    }
  }
  // Without a fault it is silent.
  tool::Process run;
  run.argv = {TANDEM_CLI, "selftest", "--graphs", "600", "--seed", "4", "--engines", "ref,exec"};
  run.env = {{"LD_PRELOAD", (w / "mutants.so").string()}};
  run.folder = w.path();
  run.readable = {source, build};
  run.seconds = 120;
  const tool::ProcessResult clean = run.run();
  EXPECT_TRUE(clean.ok()) << clean.summary() << clean.out;
}

TEST(KernelMutation, FaultsAreFound) {
  if (!std::getenv("TANDEM_FULL")) GTEST_SKIP() << "50 faults in the kernels: with ./x test --full";
  std::vector<Tried> all;
  for (const auto& [file, count] : {std::pair<const char*, int>{"exec/exec.cc", 40}, {"exec/levels.cc", 10}}) try_file(file, count, all);
  std::string survivors;
  int found = 0, equal = 0, late = 0;
  for (const Tried& t : all) {
    found += t.found;
    late += t.timed_out;
    equal += !t.found && t.equal;
    if (!t.found) survivors += fmt::format("{}\n  {}\n  {}\n", t.site.before, t.site.after, t.equal ? t.equal->why : "NOT FOUND");
  }
  std::puts(fmt::format("{} faults in kernels, {} found ({} because nothing came back in time), {} change no result\n{}", all.size(), found, late, equal, survivors).c_str());
  EXPECT_GE(all.size(), 45u);
  EXPECT_GE(found * 100, (static_cast<int>(all.size()) - equal) * 99) << survivors;
}

}  // namespace
}  // namespace tandem
