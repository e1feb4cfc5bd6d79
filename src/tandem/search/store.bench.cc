// The durable store against its goals, and against bare SQLite on the same rows (no checksums, no figures parsed).
#include <benchmark/benchmark.h>
#include <sqlite3.h>

#include <chrono>
#include <cmath>
#include <filesystem>

#include "tandem/search/driver.h"
#include "tandem/search/searcher.h"
#include "tandem/search/store.h"

namespace tandem::search {
namespace {
namespace fs = std::filesystem;

struct Folder {
  fs::path path;
  Folder() {
    std::string t = (fs::temp_directory_path() / "tandem-bench-XXXXXX").string();
    path = mkdtemp(t.data());
  }
  ~Folder() { fs::remove_all(path); }
};
double seconds() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

// As cheap as an evaluation can be: what remains is the search's own work.
class Cheap : public Environment {
 public:
  Cheap() {
    std::vector<Parameter> p(8);
    for (std::size_t i = 0; i < p.size(); ++i) p[i].name = fmt::format("x{}", i), p[i].kind = Kind::integer, p[i].hi = 99;
    space_ = Space(std::move(p));
  }
  const Space& space() const override { return space_; }
  std::vector<MetricInfo> metrics() const override { return {{"cost", "", ""}, {"time", "", ""}}; }
  std::string version() const override { return "1"; }
  Result evaluate(const Point& p, int, std::uint64_t, const Cancel&) const override {
    double cost = 0, time = 0;
    for (std::size_t i = 0; i < p.at.size(); ++i) {
      const auto v = static_cast<double>(std::get<std::int64_t>(p.at[i]));
      cost += v;
      time += 100 / (v + 1);
    }
    Result r;
    r.metrics = {{"cost", {cost, "LUT4", Fidelity::estimated, "closed form", {}, {}}}, {"time", {time, "cycles", Fidelity::estimated, "closed form", {}, {}}}};
    return r;
  }

 private:
  Space space_;
};

void create(const fs::path& file, const Environment& e, std::string_view searcher) {
  Store::create(file, {.name = "bench", .text = "bench", .environment = e.version(), .searcher = std::string(searcher), .seed = 1, .generation = 0, .finished = false});
}

// Goal: what asking, judging and storing durably add to one evaluation is at most 1 ms.
void Evaluations(benchmark::State& state, const char* searcher) {
  const Cheap e;
  const Problem p{{{"cost", false}, {"time", false}}, {}};
  constexpr std::size_t kTrials = 4000;
  double spent = 0;
  for (auto _ : state) {
    const Folder f;
    create(f.path / "study.db", e, searcher);
    Store store(f.path / "study.db");
    store.take(600);
    const auto s = find_searcher(searcher).make(e.space(), 2, {1, 20});
    DriveParams d;
    d.trials = kTrials;
    const double start = seconds();
    benchmark::DoNotOptimize(drive(e, p, *s, store, d).trials.size());
    spent += seconds() - start;
    store.release();
  }
  const double each = spent / static_cast<double>(state.iterations() * kTrials);
  state.counters["ms_per_evaluation"] = each * 1e3;
  state.counters["goal_over_measured"] = 1e-3 / each;
}
BENCHMARK_CAPTURE(Evaluations, random, "random")->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(Evaluations, nsga2, "nsga2")->Unit(benchmark::kMillisecond);

// Goal: 100,000 stored trials read, verified, in less than a second. `over_sqlite`: the same against bare SQLite reading as many bytes.
void ListTrials(benchmark::State& state) {
  const Cheap e;
  const Folder f;
  constexpr std::int64_t kTrials = 100'000;
  std::vector<TrialRow> rows(kTrials);
  for (std::int64_t i = 0; i < kTrials; ++i) {
    TrialRow& r = rows[static_cast<std::size_t>(i)];
    Point p;
    for (std::int64_t k = 0, v = i; k < 8; ++k, v /= 100) p.at.push_back(v % 100);
    r.id = i;
    r.point = e.space().text(p);
    r.note = "random";
    r.result = e.evaluate(p, 0, 0, Cancel::never());
  }
  create(f.path / "study.db", e, "random");
  Store store(f.path / "study.db");
  store.take(600);
  store.add(rows);
  // The peer: one table, the columns as they are.
  sqlite3* db = nullptr;
  sqlite3_open((f.path / "bare.db").c_str(), &db);
  sqlite3_exec(db, "CREATE TABLE t (id INTEGER PRIMARY KEY, point TEXT, note TEXT, metrics TEXT); BEGIN", nullptr, nullptr, nullptr);
  for (const TrialRow& r : rows) {
    std::string metrics;
    for (const auto& [name, m] : r.result.metrics) metrics += fmt::format("{}={}{};", name, m.value, m.unit);
    sqlite3_exec(db, fmt::format("INSERT INTO t VALUES ({}, '{}', '{}', '{}')", r.id, r.point, r.note, metrics).c_str(), nullptr, nullptr, nullptr);
  }
  sqlite3_exec(db, "COMMIT", nullptr, nullptr, nullptr);
  double ours = 0, bare = 0;
  for (auto _ : state) {
    double start = seconds();
    if (store.trials().size() != rows.size()) state.SkipWithError("trials are missing");
    ours += seconds() - start;
    start = seconds();
    std::size_t bytes = 0;
    sqlite3_exec(db, "SELECT * FROM t ORDER BY id", [](void* to, int n, char** v, char**) {
      for (int i = 0; i < n; ++i) *static_cast<std::size_t*>(to) += std::string(v[i]).size();
      return 0;
    }, &bytes, nullptr);
    benchmark::DoNotOptimize(bytes);
    bare += seconds() - start;
  }
  sqlite3_close(db);
  const auto n = static_cast<double>(state.iterations());
  state.counters["s_per_100000"] = ours / n;
  state.counters["goal_over_measured"] = n / ours;
  state.counters["over_sqlite"] = ours / bare;
}
BENCHMARK(ListTrials)->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace tandem::search
