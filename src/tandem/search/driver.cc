#include "tandem/search/driver.h"

#include <atomic>
#include <chrono>
#include <cmath>
#include <map>
#include <mutex>
#include <thread>
#include <tuple>

#include "tandem/base/error.h"

namespace tandem::search {
namespace {
using Clock = std::chrono::steady_clock;

constexpr double kCheap = 5e-3;       // seconds: below, a result is quicker made again than written alone
constexpr double kLease = 24 * 3600;  // whether the holder lives is what decides; see Store::take

double since(Clock::time_point t) { return std::chrono::duration<double>(Clock::now() - t).count(); }

using CacheKey = std::tuple<std::string, int, std::uint64_t>;
CacheKey cache_key(const TrialRow& t) { return {t.point, t.fidelity, t.seed}; }

struct Batch {
  const Environment& env;
  Store& store;
  const DriveParams& params;
  const Cancel& cancel;
  Clock::time_point start;
  DriveState state;
  const Problem* problem = nullptr;

  // Fills rows[i].result for every i in `todo`; true when all were done, false when the time was spent. Expensive results are
  // in the store afterwards; `pending` receives the indices of the others.
  bool run(std::vector<TrialRow>& rows, const std::vector<Point>& points, const std::vector<std::size_t>& todo, std::vector<std::size_t>& pending) {
    std::vector<std::vector<std::size_t>> groups;
    std::map<std::string, std::size_t> of;
    for (std::size_t i : todo) {
      const std::string g = env.group(points[i], rows[i].fidelity);
      if (g.empty()) {
        groups.push_back({i});
        continue;
      }
      const auto [it, fresh] = of.try_emplace(g, groups.size());
      if (fresh) groups.emplace_back();
      groups[it->second].push_back(i);
    }
    std::atomic<std::size_t> next{0};
    std::atomic<bool> stop{false};
    bool late = false;
    std::mutex m;
    std::exception_ptr error;
    const auto work = [&] {
      for (std::size_t g; !stop && (g = next++) < groups.size();)
        for (std::size_t i : groups[g]) {
          if (stop) return;
          try {
            cancel.check();
            if (params.budget_s > 0 && since(start) > params.budget_s) {
              const std::lock_guard lock(m);
              late = true;
              stop = true;
              return;
            }
            const auto begin = Clock::now();
            Result r = evaluate_safely(env, points[i], rows[i].fidelity, rows[i].seed, cancel);
            r.seconds = since(begin);
            const std::lock_guard lock(m);
            rows[i].result = std::move(r);
            if (rows[i].result.seconds >= kCheap) store.add({&rows[i], 1});
            else pending.push_back(i);
            ++state.done;
            if (problem && judge(*problem, rows[i].result).feasible()) ++state.feasible;
            if (params.report) params.report(state);
          } catch (...) {
            const std::lock_guard lock(m);
            if (!error) error = std::current_exception();
            stop = true;
            return;
          }
        }
    };
    const std::size_t workers = std::min<std::size_t>(static_cast<std::size_t>(std::max(1, params.jobs)), groups.size());
    if (workers <= 1) {
      work();
    } else {
      std::vector<std::thread> threads;
      for (std::size_t w = 0; w < workers; ++w) threads.emplace_back(work);
      for (std::thread& t : threads) t.join();
    }
    if (error || late) {
      flush(rows, pending);
      if (error) std::rethrow_exception(error);
    }
    return !late;
  }
  void flush(const std::vector<TrialRow>& rows, std::vector<std::size_t>& pending) {
    std::vector<TrialRow> some;
    for (std::size_t i : pending) some.push_back(rows[i]);
    if (!some.empty()) store.add(some);
    pending.clear();
  }
};

}  // namespace

Result evaluate_safely(const Environment& e, const Point& p, int fidelity, std::uint64_t seed, const Cancel& cancel) {
  Result r;
  const auto failed = [&](std::string why) {
    Result f;
    f.reason = printable(why);
    return f;
  };
  try {
    r = e.evaluate(p, fidelity, seed, cancel);
  } catch (const Error& x) {
    switch (x.code()) {
      case Exit::no:
      case Exit::bad_input: return failed(x.message());
      case Exit::bug: return failed("a defect of tandem: " + x.message());
      default: throw;
    }
  } catch (const std::bad_alloc&) {
    return failed("out of memory");
  } catch (const std::exception& x) {
    return failed(std::string("a defect of tandem: ") + x.what());
  }
  for (const auto& [name, m] : r.metrics)
    if (!std::isfinite(m.value)) return failed(fmt::format("the figure '{}' is not finite", name));
  for (const auto& [name, v] : r.violations)
    if (!std::isfinite(v)) return failed(fmt::format("the violation '{}' is not finite", name));
  return r;
}

DriveResult drive(const Environment& env, const Problem& problem, Searcher& searcher, Store& store, const DriveParams& params, const Cancel& cancel) {
  const auto start = Clock::now();
  store.take(kLease);
  StudyRow study = store.study();
  if (study.environment != env.version())
    throw bad_input("the study was made with another environment: model, data, program or settings have changed").fix("start again in another folder");
  DriveResult result;
  std::map<CacheKey, Result> cache;
  for (TrialRow& t : store.trials()) {
    if (t.fidelity == 0 && t.generation <= study.generation) result.trials.push_back(std::move(t));
    else cache.emplace(cache_key(t), std::move(t.result));
  }
  std::vector<Key> asked;
  for (const TrialRow& t : result.trials) asked.push_back(key_of_text(t.point));
  if (const std::string state = store.searcher_state(); !state.empty()) searcher.load(state, asked);

  Batch batch{env, store, params, cancel, start, {result.trials.size(), params.trials, 0}, &problem};
  for (const TrialRow& t : result.trials) batch.state.feasible += judge(problem, t.result).feasible();
  while (result.trials.size() < params.trials) {
    const std::vector<Trial> trials = searcher.ask(std::min(searcher.batch(), params.trials - result.trials.size()));
    if (trials.empty()) break;  // the space has no more
    std::vector<TrialRow> rows;
    std::vector<Point> points;
    std::vector<std::size_t> todo, pending;
    for (const Trial& t : trials) {
      TrialRow row{t.id, env.space().text(t.point), 0, study.seed, t.parents, t.note, study.generation + 1, {}};
      if (const auto it = cache.find(cache_key(row)); it != cache.end()) {
        row.result = it->second;
        ++batch.state.done;
        batch.state.feasible += judge(problem, row.result).feasible();
      } else {
        todo.push_back(rows.size());
      }
      rows.push_back(std::move(row));
      points.push_back(t.point);
    }
    if (!batch.run(rows, points, todo, pending)) {
      result.out_of_time = true;
      break;
    }
    std::vector<Told> told;
    for (std::size_t i = 0; i < rows.size(); ++i) told.push_back({rows[i].id, points[i], judge(problem, rows[i].result)});
    searcher.tell(told);
    std::vector<TrialRow> some;
    for (std::size_t i : pending) some.push_back(rows[i]);
    ++study.generation;
    store.finish_generation(some, searcher.save(), study.generation);
    for (TrialRow& r : rows) result.trials.push_back(std::move(r));
  }
  return result;
}

std::vector<TrialRow> promote(const Environment& env, std::span<const TrialRow> base, int fidelity, Store& store, const DriveParams& params, const Cancel& cancel) {
  const StudyRow study = store.study();
  std::map<CacheKey, Result> cache;
  for (TrialRow& t : store.trials())
    if (t.fidelity == fidelity) cache.emplace(cache_key(t), std::move(t.result));
  std::vector<TrialRow> rows;
  std::vector<Point> points;
  std::vector<std::size_t> todo, pending;
  Batch batch{env, store, params, cancel, Clock::now(), {0, base.size(), 0}};
  for (const TrialRow& b : base) {
    TrialRow row{b.id + fidelity * kFidelityIds, b.point, fidelity, study.seed, {b.id}, "promoted", study.generation, {}};
    points.push_back(env.space().parse(b.point));
    if (const auto it = cache.find(cache_key(row)); it != cache.end()) {
      row.result = it->second;
      ++batch.state.done;
    } else {
      todo.push_back(rows.size());
    }
    rows.push_back(std::move(row));
  }
  const bool all = batch.run(rows, points, todo, pending);
  batch.flush(rows, pending);
  if (!all) {
    std::map<CacheKey, bool> there;
    for (const TrialRow& t : store.trials()) there[cache_key(t)] = true;
    for (TrialRow& r : rows)
      if (!there.count(cache_key(r))) r.id = -1;
  }
  return rows;
}

}  // namespace tandem::search
