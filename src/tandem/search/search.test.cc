#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <set>

#include "tandem/base/error.h"
#include "tandem/base/file.h"
#include "tandem/base/rng.h"
#include "tandem/search/driver.h"
#include "tandem/search/searcher.h"
#include "tandem/search/store.h"

namespace tandem::search {
namespace {
namespace fs = std::filesystem;

struct Temp {
  fs::path path;
  Temp() {
    std::string t = (fs::temp_directory_path() / "tandem-search-XXXXXX").string();
    path = mkdtemp(t.data());
  }
  ~Temp() { fs::remove_all(path); }
};

// A few parameters of every kind without reals, some conditional.
Space random_space(Rng& r) {
  std::vector<Parameter> all;
  const auto n = r.range(1, 4);
  for (std::int64_t i = 0; i < n; ++i) {
    Parameter p;
    p.name = fmt::format("p{}", i);
    switch (r.range(0, 4)) {
      case 0: p.kind = Kind::categorical; break;
      case 1: p.kind = Kind::ordinal; break;
      case 2: p.kind = Kind::integer; break;
      case 3: p.kind = Kind::permutation; break;
      default: p.kind = Kind::sequence; break;
    }
    if (p.kind == Kind::integer) {
      p.lo = r.range(-3, 3);
      p.step = r.range(1, 3);
      p.hi = p.lo + p.step * r.range(0, 3);
    } else if (p.kind == Kind::permutation) {
      p.length = static_cast<int>(r.range(1, 4));
    } else {
      for (std::int64_t k = r.range(1, 3); k-- > 0;) p.words.push_back(fmt::format("w{}", k));
      p.length = static_cast<int>(r.range(0, 2));
    }
    if (i > 0 && r.chance(0.5)) {
      const Parameter& parent = all[static_cast<std::size_t>(r.range(0, i - 1))];
      if (parent.kind == Kind::integer || parent.kind == Kind::categorical || parent.kind == Kind::ordinal) {
        p.parent = parent.name;
        p.when = {parent.kind == Kind::integer ? parent.lo : 0};
      }
    }
    all.push_back(std::move(p));
  }
  return Space(std::move(all));
}

TEST(SearchSpace, SizeEncodersAndMovesOnRandomSpaces) {
  for (std::uint64_t seed = 0; seed < 150; ++seed) {
    Rng r(seed, "space");
    const Space s = random_space(r);
    std::set<std::string> texts;
    std::set<Key> keys;
    std::vector<Point> points;
    s.enumerate([&](const Point& p) {
      EXPECT_TRUE(s.contains(p));
      EXPECT_EQ(s.parse(s.text(p)), p) << s.text(p);
      EXPECT_EQ(s.from_indices(s.indices(p)), p) << s.text(p);
      EXPECT_EQ(s.from_unit(s.unit(p)), p) << s.text(p);
      EXPECT_EQ(s.one_hot(p).size(), s.one_hot_width());
      texts.insert(s.text(p));
      keys.insert(s.key(p));
      points.push_back(p);
      return points.size() < 5000;
    });
    if (points.size() < 5000) {
      EXPECT_EQ(*s.size(), static_cast<long>(points.size())) << "seed " << seed;
    }
    EXPECT_EQ(texts.size(), points.size());
    EXPECT_EQ(keys.size(), points.size());
    for (int i = 0; i < 20; ++i) {
      const Point a = s.sample(r), b = s.sample(r);
      for (const Point& p : {a, s.mutate(a, r, 0.5), s.crossover(a, b, r)}) EXPECT_TRUE(s.contains(p)) << s.text(p);
      for (const Point& p : s.neighbours(a)) {
        EXPECT_TRUE(s.contains(p));
        EXPECT_FALSE(p == a);
      }
    }
  }
}

// ZDT1 (Zitzler, Deb, Thiele 2000) on ten reals: f1 = x0, f2 = g (1 - sqrt(x0 / g)).
class Zdt1 : public Environment {
 public:
  Zdt1() {
    std::vector<Parameter> p;
    for (int i = 0; i < 10; ++i) {
      Parameter x;
      x.name = fmt::format("x{}", i);
      x.kind = Kind::real;
      p.push_back(x);
    }
    space_ = Space(std::move(p));
  }
  const Space& space() const override { return space_; }
  std::vector<MetricInfo> metrics() const override { return {{"f1", "", ""}, {"f2", "", ""}}; }
  std::string version() const override { return "1"; }
  Result evaluate(const Point& p, int, std::uint64_t, const Cancel&) const override {
    double g = 0;
    for (std::size_t i = 1; i < 10; ++i) g += std::get<double>(p.at[i]);
    g = 1 + g;  // 1 + 9 * mean
    const double f1 = std::get<double>(p.at[0]);
    Result r;
    r.metrics = {{"f1", {f1, "", Fidelity::estimated, "ZDT1", {}, {}}}, {"f2", {g * (1 - std::sqrt(f1 / g)), "", Fidelity::estimated, "ZDT1", {}, {}}}};
    return r;
  }

 private:
  Space space_;
};
const Problem kBoth{{{"f1", false}, {"f2", false}}, {}};

std::vector<TrialRow> search_with(const Environment& e, std::string_view name, std::size_t trials, int jobs, const fs::path& file, std::uint64_t seed = 3) {
  if (!fs::exists(file)) Store::create(file, {.name = "t", .text = "t", .environment = e.version(), .searcher = std::string(name), .seed = seed, .generation = 0, .finished = false});
  Store store(file);
  store.take(60);
  const auto s = find_searcher(name).make(e.space(), 2, {seed, 20});
  DriveParams p;
  p.trials = trials;
  p.jobs = jobs;
  auto trials_told = drive(e, kBoth, *s, store, p).trials;
  store.release();
  return trials_told;
}
double area(const std::vector<TrialRow>& trials) {  // dominated, up to (1.1, 11)
  std::vector<std::pair<double, double>> f;
  for (const TrialRow& t : trials) f.emplace_back(t.result.metric("f1")->value, t.result.metric("f2")->value);
  std::sort(f.begin(), f.end());
  double sum = 0, best = 11;
  for (const auto& [x, y] : f)
    if (y < best && x < 1.1) {
      sum += (1.1 - x) * (best - y);
      best = y;
    }
  return sum;
}

TEST(SearchNsga2, BeatsRandomOnZdt1) {
  const Zdt1 e;
  Temp t;
  const double evolved = area(search_with(e, "nsga2", 1200, 2, t.path / "a.db")), drawn = area(search_with(e, "random", 1200, 2, t.path / "b.db"));
  // The front itself, f2 = 1 - sqrt(f1), leaves 1/3 of the unit square: 1.1 * 11 - 1/3 - what lies right of 1.
  EXPECT_GT(evolved, drawn + 0.5);
  EXPECT_LT(evolved, 1.1 * 11 - 1.0 / 3);
}

std::string all_text(const std::vector<TrialRow>& trials) {
  std::string s;
  for (const TrialRow& t : trials) {
    s += fmt::format("{} {} {}", t.id, t.point, t.note);
    for (const auto& [n, m] : t.result.metrics) s += fmt::format(" {}={}", n, m.value);
    for (std::int64_t p : t.parents) s += fmt::format(" <{}", p);
    s += "\n";
  }
  return s;
}

TEST(SearchDriver, ResultsDoNotDependOnWorkersNorOnStops) {
  const Zdt1 e;
  Temp t;
  const std::string one = all_text(search_with(e, "nsga2", 200, 1, t.path / "1.db"));
  EXPECT_EQ(all_text(search_with(e, "nsga2", 200, 2, t.path / "2.db")), one);
  EXPECT_EQ(all_text(search_with(e, "nsga2", 200, 4, t.path / "4.db")), one);
  EXPECT_NE(all_text(search_with(e, "nsga2", 200, 1, t.path / "5.db", 4)), one);  // another seed
  // The same study in five sittings, each from the store alone.
  std::string last;
  for (std::size_t n : {40u, 80u, 120u, 160u, 200u}) last = all_text(search_with(e, "nsga2", n, 2, t.path / "r.db"));
  EXPECT_EQ(last, one);
}

TEST(SearchStore, EmptyForeignAndDamagedFilesAreRefused) {
  Temp t;
  const fs::path empty = t.path / "empty.db", foreign = t.path / "foreign.db", good = t.path / "good.db";
  std::ofstream(empty).close();
  EXPECT_THROW(Store{empty}, Error);
  std::ofstream(foreign) << "not a store";
  EXPECT_THROW(Store{foreign}, Error);
  EXPECT_THROW(Store{t.path / "missing.db"}, Error);
  const std::string before = all_text(search_with(Zdt1(), "random", 60, 1, good));
  const std::string bytes = read_file(good);
  EXPECT_EQ(all_text(Store(good).trials()), before);
  // One byte changed: an error, or nothing that a reader sees. Never other figures.
  Rng r(1, "damage");
  int refused = 0;
  for (int i = 0; i < 200; ++i) {
    std::string b = bytes;
    b[static_cast<std::size_t>(r.range(0, static_cast<std::int64_t>(b.size()) - 1))] ^= static_cast<char>(r.range(1, 255));
    const fs::path bad = t.path / fmt::format("bad{}.db", i);
    std::ofstream(bad, std::ios::binary) << b;
    try {
      EXPECT_EQ(all_text(Store(bad).trials()), before) << "damage " << i;
    } catch (const Error&) {
      ++refused;
    }
  }
  EXPECT_GT(refused, 20);
}

TEST(SearchStore, OneWriterAtATime) {
  Temp t;
  const fs::path file = t.path / "s.db";
  Store::create(file, {.name = "t", .text = "t", .environment = "1", .searcher = "random", .seed = 0, .generation = 0, .finished = false});
  EXPECT_THROW(Store::create(file, {}), Error);
  TrialRow row;
  row.point = "{}";
  row.result.metrics = {{"f", {1, "", Fidelity::estimated, "", {}, {}}}};
  Store a(file);
  a.take(60);
  EXPECT_EQ(a.add({&row, 1}), 1u);
  EXPECT_EQ(a.add({&row, 1}), 0u);  // the first result counts
  EXPECT_EQ(a.trials().size(), 1u);
}

TEST(SearchProblem, TheSmallestConflict) {
  auto trial = [](double a, double b, double c) {
    Result r;
    r.metrics = {{"a", {a, "", Fidelity::estimated, "", {}, {}}}, {"b", {b, "", Fidelity::estimated, "", {}, {}}}, {"c", {c, "", Fidelity::estimated, "", {}, {}}}};
    return r;
  };
  // a <= 1 and b <= 1 are met by some trial each, never together; c <= 9 always.
  const Problem p{{{"a", false}}, {{"c", true, 9}, {"a", true, 1}, {"b", true, 1}}};
  const Conflict c = explain(p, {trial(1, 5, 2), trial(4, 1, 2), trial(2, 1, 2)});
  EXPECT_EQ(c.limits, (std::vector<std::string>{"a <= 1", "b <= 1"}));
  EXPECT_EQ(c.nearest, 2u);
}

}  // namespace
}  // namespace tandem::search
