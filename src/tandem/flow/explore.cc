#include "tandem/flow/explore.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <set>

#include "tandem/base/file.h"
#include "tandem/base/json.h"
#include "tandem/base/progress.h"
#include "tandem/base/table.h"
#include "tandem/flow/study.h"
#include "tandem/search/driver.h"
#include "tandem/search/store.h"
#include "tandem/solve/pareto.h"
#include "tandem/tool/work.h"

namespace tandem::flow {
namespace {

constexpr double kTrialBytes = 1500, kStudyBytes = 100000;  // of the store and its tables
using I = std::int64_t;
namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;
using search::TrialRow;

double since(Clock::time_point t) { return std::chrono::duration<double>(Clock::now() - t).count(); }

// What the store keeps of a study: enough to read it again without the user's file.
std::string stored_text(const Study& s) { return fmt::format("{{\"trials\":{},\"study\":{}}}", s.trials, s.text); }
// The part that may not change when a study is resumed.
std::string meaning_of(const std::string& stored) {
  const std::size_t at = stored.find("\"study\":");
  return at == std::string::npos ? stored : stored.substr(at);
}

search::Problem problem_of(const Config& study) {
  search::Problem p;
  for (const auto& [name, v] : study.at("objectives").entries()) p.objectives.push_back({name, v.as<std::string>() == "maximise"});
  if (const auto k = study.find("constraints"))
    for (const auto& [name, v] : k->entries()) {
      const std::string t = v.as<std::string>();
      std::string_view rest = std::string_view(t).substr(2);
      while (!rest.empty() && rest.front() == ' ') rest.remove_prefix(1);
      p.constraints.push_back({name, t.starts_with("<="), parse_double(rest).value_or(0)});
    }
  return p;
}

// A trial at the highest fidelity it reached. Whether it is feasible is judged before building; a build can only take that away.
struct Merged {
  TrialRow judged;             // search, or training for the front
  const TrialRow* built = nullptr;
  bool feasible = false;
};
std::vector<Merged> merge(const std::vector<TrialRow>& rows, const search::Problem& p) {
  std::map<I, Merged> all;
  for (const TrialRow& t : rows)
    if (t.fidelity == kSearch) all[t.id].judged = t;
  for (const TrialRow& t : rows) {
    const auto it = all.find(t.id % search::kFidelityIds);
    if (it == all.end()) continue;
    if (t.fidelity == kFront) {
      const I id = it->second.judged.id;
      const double seconds = it->second.judged.result.seconds;
      it->second.judged = t;
      it->second.judged.id = id;
      it->second.judged.result.seconds += seconds;
    }
    if (t.fidelity == kBuild) it->second.built = &t;
  }
  std::vector<Merged> r;
  for (auto& [id, m] : all) {
    m.feasible = search::judge(p, m.judged.result).feasible() && (!m.built || m.built->result.violations.empty());
    r.push_back(std::move(m));
  }
  return r;
}
// Indices of the feasible ones that no feasible one dominates.
std::vector<std::size_t> front_of(const std::vector<Merged>& all, const search::Problem& p) {
  std::vector<std::size_t> feasible;
  std::vector<double> points;
  for (std::size_t i = 0; i < all.size(); ++i) {
    if (!all[i].feasible) continue;
    feasible.push_back(i);
    const auto o = search::judge(p, all[i].judged.result).objectives;
    points.insert(points.end(), o.begin(), o.end());
  }
  std::vector<std::size_t> r;
  if (feasible.empty()) return r;
  const std::vector<Goal> goals(p.objectives.size(), Goal::minimise);
  for (std::size_t k : pareto_front(points, goals)) r.push_back(feasible[k]);
  return r;
}

std::string unit_of(std::string_view name) {
  for (const auto& m : study_metrics(true))
    if (m.name == name) return m.unit;
  return "";
}

report::Study study_of(const search::StudyRow& row, const std::vector<TrialRow>& rows) {
  const Config stored = Config::parse(row.text, "study");
  const Config c = stored.at("study");
  const search::Problem p = problem_of(c);
  report::Study s;
  s.name = row.name;
  s.searcher = row.searcher;
  s.seed = row.seed;
  s.budget = stored.required<I>("trials");
  for (const auto& o : p.objectives) s.objectives.push_back({o.metric, unit_of(o.metric), o.maximise});
  for (const auto& k : p.constraints) s.constraints.push_back({k.metric, k.at_most, k.bound});
  const std::vector<Merged> all = merge(rows, p);
  std::vector<bool> front(all.size(), false);
  for (std::size_t i : front_of(all, p)) front[i] = true;
  for (std::size_t i = 0; i < all.size(); ++i) {
    const Merged& m = all[i];
    report::Trial t;
    t.id = m.judged.id;
    for (const auto& [name, v] : Config::parse(m.judged.point, "point").entries()) {
      std::string text;
      if (v.is_list())
        for (const Config& e : v.items()) text += fmt::format("{}{}", text.empty() ? "" : " ", e.as<std::string>());
      else text = v.as<std::string>();
      t.parameters.emplace_back(name, std::move(text));
    }
    t.metrics = (m.built ? m.built : &m.judged)->result.metrics;
    t.feasible = m.feasible;
    t.front = front[i];
    t.seconds = m.judged.result.seconds + (m.built ? m.built->result.seconds : 0);
    if (m.built && !m.built->result.artefacts.empty()) t.design = m.built->result.artefacts[0].path;
    if (!t.feasible) {
      t.reason = m.built && !m.built->result.reason.empty() ? m.built->result.reason : m.judged.result.reason;
      for (const auto& k : p.constraints) {
        const Metric* v = m.judged.result.metric(k.metric);
        if (v && (k.at_most ? v->value > k.bound : v->value < k.bound)) t.reason += fmt::format("{}{} is {:.6g}, wanted {}", t.reason.empty() ? "" : "; ", k.metric, v->value, k.text().substr(k.metric.size() + 1));
      }
    }
    s.trials.push_back(std::move(t));
  }
  s.provenance = {{"tandem", TANDEM_VERSION}, {"environment", row.environment}};
  if (const auto m = c.find("model")) s.provenance.emplace_back("model", m->as<std::string>());
  if (const auto t = c.find("train")) s.provenance.emplace_back("data", t->required<std::string>("data"));
  if (const auto h = c.find("hardware"))
    if (const auto t = h->find("target")) s.provenance.emplace_back("target", t->as<std::string>());
  return s;
}

std::string size_text(const search::Space& s) {
  const auto n = s.size();
  return n ? n->get_str() : "infinite";
}

std::string conflict_text(const search::Problem& p, const std::vector<TrialRow>& rows) {
  std::vector<search::Result> results;
  std::vector<I> ids;
  std::map<std::string, int> reasons;
  for (const TrialRow& t : rows)
    if (t.fidelity == kSearch) {
      results.push_back(t.result);
      ids.push_back(t.id);
      if (t.result.metrics.empty()) ++reasons[t.result.reason];
    }
  if (results.empty()) return "no trial was evaluated";
  const search::Conflict c = search::explain(p, results);
  if (c.limits == std::vector<std::string>{"evaluated"}) {
    std::string most;
    int n = 0;
    for (const auto& [why, k] : reasons)
      if (k > n) most = why, n = k;
    return fmt::format("none of {} trials could be evaluated; {} of them: {}", results.size(), n, most);
  }
  std::string s = c.limits.size() == 1 ? fmt::format("no trial of {} satisfies: ", results.size()) : fmt::format("no trial of {} satisfies together: ", results.size());
  for (std::size_t i = 0; i < c.limits.size(); ++i) s += (i ? ", " : "") + c.limits[i];
  const search::Result& near = results[c.nearest];
  s += fmt::format(". Nearest is trial {}: ", ids[c.nearest]);
  for (std::size_t i = 0; i < c.limits.size(); ++i) {
    std::string have = fmt::format("over by {:.1f} %", 100 * c.overshoot[i]);
    for (const auto& k : p.constraints)
      if (k.text() == c.limits[i])
        if (const Metric* m = near.metric(k.metric)) have = fmt::format("{} = {:.6g}{}", k.metric, m->value, c.overshoot[i] > 0 ? fmt::format(" ({:.1f} % off)", 100 * c.overshoot[i]) : "");
    s += (i ? ", " : "") + have;
  }
  if (!near.reason.empty()) s += "; " + near.reason;
  return s;
}

}  // namespace

ExploreResult explore(const fs::path& file, const ExploreParams& params, const Cancel& cancel) {
  const auto start = Clock::now();
  const auto say = [&](std::string s) {
    if (params.say) params.say(s);
  };
  const Study s = read_study(Config::read(file, params.limits), file.parent_path(), params.seed, params.limits);
  const fs::path out = params.out, db = out / "study.db";
  require_writable_folder(out);
  const double bytes = static_cast<double>(s.trials) * kTrialBytes + kStudyBytes;
  require_space(out, bytes, "the study");
  if (s.train || s.front != "none") say(fmt::format("{} trials, about {:.1f} MB in --out beside networks and designs; --dry-run tells the time", s.trials, bytes / 1e6));
  std::error_code ec;
  if (fs::exists(db, ec) && params.overwrite && !params.resume)
    for (const char* n : {"study.db", "study.db-wal", "study.db-shm"}) fs::remove(out / n, ec);
  if (fs::exists(db, ec) && !params.resume) throw bad_input("the folder holds a study").at(db.string()).fix("--resume goes on with it, --force starts again, or choose another --out");
  // What killed runs left behind.
  if (fs::exists(out / "networks", ec))
    for (const auto& e : fs::directory_iterator(out / "networks", ec))
      if (e.path().extension() == ".tmp") fs::remove_all(e.path(), ec);

  const StudyEnvironment env(s, out, params.limits);
  if (!fs::exists(db, ec)) {
    search::StudyRow row;
    row.name = s.name;
    row.text = stored_text(s);
    row.environment = env.version();
    row.searcher = s.searcher;
    row.seed = s.seed;
    search::Store::create(db, row);
  }
  search::Store store(db);
  store.take(24 * 3600);
  if (const std::string had = store.study().text; had != stored_text(s)) {
    if (meaning_of(had) != meaning_of(stored_text(s))) throw bad_input("the study has changed since it was begun").at(file.string()).fix("only searcher.trials may change: explore the changed study in another folder");
    store.reopen(stored_text(s));
  }
  const auto searcher = search::find_searcher(s.searcher).make(s.space, s.problem.objectives.size(), {s.seed, s.population});

  ExploreResult r;
  r.space_size = size_text(s.space);
  const std::string again = fmt::format("tandem explore '{}' --out '{}' --resume", printable(file.string()), printable(out.string()));
  const auto left = [&] { return params.budget_s > 0 ? std::max(1e-3, params.budget_s - since(start)) : 0.0; };
  try {
    search::DriveParams d;
    d.trials = s.trials;
    d.jobs = params.jobs;
    d.budget_s = left();
    const auto mode = params.progress ? Progress::Mode::automatic : Progress::Mode::none;
    const auto phase = [&](const char* what, std::size_t n, auto run) {
      Progress bar(what, n, mode);
      d.report = [&](const search::DriveState& st) { bar.update(st.done, fmt::format("{} feasible", st.feasible)); };
      return run();
    };
    const search::DriveResult found = phase("trials", s.trials, [&] { return search::drive(env, s.problem, *searcher, store, d, cancel); });
    r.out_of_time = found.out_of_time;
    const bool retrain = s.train && s.epochs_front != s.epochs_search;
    // Training longer may bring others to the front: until all on it were trained so.
    for (int round = 0; retrain && !r.out_of_time && round < 20; ++round) {
      const auto rows = store.trials();
      const auto all = merge(rows, s.problem);
      std::set<I> have;
      for (const TrialRow& t : rows)
        if (t.fidelity == kFront) have.insert(t.id % search::kFidelityIds);
      std::vector<TrialRow> todo;
      for (std::size_t i : front_of(all, s.problem))
        if (!have.count(all[i].judged.id)) todo.push_back(all[i].judged);
      if (todo.empty()) break;
      say(fmt::format("training {} of the front for {} epochs", todo.size(), s.epochs_front));
      d.budget_s = left();
      const auto done = phase("front", todo.size(), [&] { return search::promote(env, todo, kFront, store, d, cancel); });
      for (const TrialRow& t : done) r.out_of_time |= t.id < 0;
    }
    // A design that closed forms promised and tools refuse leaves the front; then another is built.
    std::set<I> refused;
    for (int round = 0; s.front != "none" && !r.out_of_time && round < 5; ++round) {
      const auto rows = store.trials();
      auto all = merge(rows, s.problem);
      // Whatever was built before: a resumed study goes the same way.
      for (Merged& m : all) m.feasible = !refused.count(m.judged.id) && search::judge(s.problem, m.judged.result).feasible();
      auto front = front_of(all, s.problem);
      // Spread along the first objective, its ends included; the others decide between equals.
      std::stable_sort(front.begin(), front.end(), [&](std::size_t a, std::size_t b) {
        return search::judge(s.problem, all[a].judged.result).objectives < search::judge(s.problem, all[b].judged.result).objectives;
      });
      std::vector<TrialRow> todo;
      const std::size_t n = std::min(front.size(), static_cast<std::size_t>(s.front_most));
      for (std::size_t k = 0; k < n; ++k) todo.push_back(all[front[n == 1 ? 0 : k * (front.size() - 1) / (n - 1)]].judged);
      if (!todo.empty()) say(fmt::format("building {} designs of the front", todo.size()));
      d.budget_s = left();
      const auto done = phase("designs", todo.size(), [&] { return search::promote(env, todo, kBuild, store, d, cancel); });
      const std::size_t before = refused.size();
      for (const TrialRow& t : done) {
        r.out_of_time |= t.id < 0;
        if (t.id >= 0 && !t.result.violations.empty()) refused.insert(t.id % search::kFidelityIds);
      }
      if (refused.size() == before) break;
      say(fmt::format("{} cannot be built as the closed forms said", refused.size() - before));
    }
  } catch (const Error& e) {
    if (e.code() != Exit::interrupted && e.code() != Exit::terminated) throw;
    store.release();
    throw Error(e.code(), "stopped; everything evaluated is kept").fix("go on with: " + again);
  }
  if (!r.out_of_time) store.finish();
  const auto rows = store.trials();
  r.study = study_of(store.study(), rows);
  const bool any = std::any_of(r.study.trials.begin(), r.study.trials.end(), [](const report::Trial& t) { return t.feasible; });
  if (!any) r.why_infeasible = conflict_text(s.problem, rows);
  std::set<std::string> networks;
  for (const TrialRow& t : rows)
    if (t.fidelity == kSearch) networks.insert(env.group(s.space.parse(t.point), kSearch));
  r.networks = static_cast<I>(networks.size());
  r.seconds = since(start);
  write_file(out / "front.json", front_json(r.study));
  write_file(out / "front.csv", front_csv(r.study));
  write_file(out / "trials.csv", trials_csv(r.study));
  write_file(out / "summary.txt", front_text(r.study) + (any ? "" : r.why_infeasible + "\n"));
  store.release();
  return r;
}

ExplorePlan plan_study(const fs::path& file, const ExploreParams& params, const Cancel& cancel) {
  const Study s = read_study(Config::read(file, params.limits), file.parent_path(), params.seed, params.limits);
  ExplorePlan p;
  p.name = s.name;
  p.space_size = size_text(s.space);
  p.trials = static_cast<I>(s.trials);
  if (const auto n = s.space.size(); n && *n < p.trials) p.trials = n->get_si();
  for (const auto& q : s.space.parameters()) {
    std::string v;
    if (q.kind == search::Kind::integer) v = fmt::format("{} to {} step {}", q.lo, q.hi, q.step);
    else if (q.kind == search::Kind::real) v = fmt::format("{} to {}{}", q.low, q.high, q.log ? ", logarithmic" : "");
    else if (q.kind == search::Kind::permutation) v = fmt::format("orders of {}", q.length);
    else
      for (const auto& w : q.words) v += (v.empty() ? "" : ", ") + w;
    if (!q.parent.empty()) v += fmt::format(" (depends on {})", q.parent);
    p.parameters.emplace_back(q.name, fmt::format("{}: {}", search::to_string(q.kind), v));
  }
  for (const auto& m : study_metrics(s.train.has_value())) p.metrics.emplace_back(m.name, m.unit.empty() ? m.doc : m.unit + ": " + m.doc);

  // A few points now, in a folder that goes away.
  tool::WorkFolder work;
  const StudyEnvironment env(s, work.path(), params.limits);
  std::set<std::string> networks;
  const int probes = 200;
  Rng rng(s.seed, "plan");
  double one = 0;
  for (int i = 0; i < probes; ++i) {
    Rng r = rng.fork(static_cast<std::uint64_t>(i));
    const search::Point x = s.space.sample(r);
    if (s.train) networks.insert(env.group(x, kSearch));
    if (i > 1) continue;
    cancel.check();
    const auto start = Clock::now();
    search::evaluate_safely(env, x, kSearch, s.seed, cancel);
    one = since(start);  // of the second: caches are warm where they will be
    if (s.train) break;
  }
  if (s.train) {
    for (int i = 1; i < probes; ++i) {
      Rng r = rng.fork(static_cast<std::uint64_t>(i));
      networks.insert(env.group(s.space.sample(r), kSearch));
    }
    // As many as the sample suggests: all that were seen when it repeats itself, else one per trial.
    p.networks = static_cast<I>(networks.size()) < probes * 9 / 10 ? std::min<I>(p.trials, static_cast<I>(networks.size())) : p.trials;
    p.seconds = one * static_cast<double>(p.networks) / std::max(1, params.jobs);
    p.bytes = static_cast<std::uint64_t>(p.networks) * 40000;
  } else {
    p.seconds = (one + 1e-3) * static_cast<double>(p.trials);
  }
  if (s.front == "place") p.seconds += 20.0 * s.front_most;
  if (s.front == "verify") p.seconds += 10.0 * s.front_most;
  p.bytes += static_cast<std::uint64_t>(static_cast<double>(p.trials) * kTrialBytes + kStudyBytes);
  return p;
}

report::Study load_study(const fs::path& folder) {
  search::Store store(folder / "study.db");
  return study_of(store.study(), store.trials());
}

namespace {
const Metric* metric_of(const report::Trial& t, std::string_view name) {
  for (const auto& [n, m] : t.metrics)
    if (n == name) return &m;
  return nullptr;
}
std::string number(double v) { return v == std::floor(v) && std::abs(v) < 1e15 ? fmt::format("{}", static_cast<I>(v)) : fmt::format("{:.6g}", v); }
// Parameters in the order of their first appearance; conditional ones are absent from some trials.
std::vector<std::string> parameter_names(const report::Study& s) {
  std::vector<std::string> r;
  for (const auto& t : s.trials)
    for (const auto& [n, v] : t.parameters)
      if (std::find(r.begin(), r.end(), n) == r.end()) r.push_back(n);
  return r;
}
std::string parameter_of(const report::Trial& t, std::string_view name) {
  for (const auto& [n, v] : t.parameters)
    if (n == name) return v;
  return "";
}
std::vector<std::string> metric_names(const report::Study& s) {
  std::vector<std::string> r;
  for (const auto& t : s.trials)
    for (const auto& [n, m] : t.metrics)
      if (std::find(r.begin(), r.end(), n) == r.end()) r.push_back(n);
  return r;
}
std::string csv(const report::Study& s, bool front_only) {
  Table t;
  const auto parameters = parameter_names(s), metrics = metric_names(s);
  t.columns = {{"id"}};
  for (const auto& n : parameters) t.columns.push_back({n});
  for (const auto& n : metrics) {
    t.columns.push_back({n});
    t.columns.push_back({n + " fidelity"});
  }
  t.columns.insert(t.columns.end(), {{"feasible"}, {"front"}, {"reason"}, {"design"}});
  for (const auto& x : s.trials) {
    if (front_only && !x.front) continue;
    std::vector<std::string> row{std::to_string(x.id)};
    for (const auto& n : parameters) row.push_back(parameter_of(x, n));
    for (const auto& n : metrics) {
      const Metric* m = metric_of(x, n);
      row.push_back(m ? fmt::format("{}", m->value) : "");
      row.push_back(m ? std::string(to_string(m->fidelity)) : "");
    }
    row.insert(row.end(), {x.feasible ? "1" : "0", x.front ? "1" : "0", x.reason, x.design});
    t.add(std::move(row));
  }
  return render(t, TableStyle::csv);
}
}  // namespace

std::string front_text(const report::Study& s) {
  std::size_t front = 0, feasible = 0;
  for (const auto& t : s.trials) front += t.front, feasible += t.feasible;
  Table t;
  const auto parameters = parameter_names(s);
  t.columns = {{"id", true}};
  for (const auto& n : parameters) t.columns.push_back({n, true});
  for (const auto& o : s.objectives) t.columns.push_back({o.unit.empty() || o.unit == o.metric ? o.metric : o.metric + ", " + o.unit, true});
  t.columns.push_back({"fidelity"});
  t.columns.push_back({"design"});
  std::vector<const report::Trial*> rows;
  for (const auto& x : s.trials)
    if (x.front) rows.push_back(&x);
  if (!s.objectives.empty())
    std::stable_sort(rows.begin(), rows.end(), [&](const report::Trial* a, const report::Trial* b) {
      const Metric *m = metric_of(*a, s.objectives[0].metric), *n = metric_of(*b, s.objectives[0].metric);
      return m && n && (s.objectives[0].maximise ? m->value > n->value : m->value < n->value);
    });
  for (const report::Trial* x : rows) {
    std::vector<std::string> row{std::to_string(x->id)};
    for (const auto& n : parameters) row.push_back(parameter_of(*x, n));
    std::string fidelity;
    for (const auto& o : s.objectives) {
      const Metric* m = metric_of(*x, o.metric);
      row.push_back(m ? number(m->value) : "");
      if (m && fidelity.find(to_string(m->fidelity)) == std::string::npos) fidelity += (fidelity.empty() ? "" : ", ") + std::string(to_string(m->fidelity));
    }
    row.push_back(fidelity);
    row.push_back(x->design);
    t.add(std::move(row));
  }
  return fmt::format("{}: {} trials by {}, seed {}; {} feasible, {} on the front\n", printable(s.name), s.trials.size(), s.searcher, s.seed, feasible, front) +
         (front ? "\n" + render(t, TableStyle::text) : "");
}

std::string front_json(const report::Study& s) {
  JsonWriter j;
  std::size_t feasible = 0;
  for (const auto& t : s.trials) feasible += t.feasible;
  j.object().field("format", "tandem.front").field("version", 1).field("name", s.name).field("searcher", s.searcher).field("seed", s.seed);
  j.field("trials", static_cast<I>(s.trials.size())).field("feasible", static_cast<I>(feasible)).key("objectives").array();
  for (const auto& o : s.objectives) j.object().field("metric", o.metric).field("unit", o.unit).field("goal", o.maximise ? "maximise" : "minimise").end();
  j.end().key("constraints").array();
  for (const auto& c : s.constraints) j.object().field("metric", c.metric).field("at_most", c.at_most).field("bound", c.bound).end();
  j.end().key("front").array();
  for (const auto& t : s.trials) {
    if (!t.front) continue;
    j.object().field("id", t.id).key("parameters").object();
    for (const auto& [n, v] : t.parameters) j.field(n, v);
    j.end().key("metrics").object();
    for (const auto& [n, m] : t.metrics) {
      j.key(n).object().field("value", m.value).field("unit", m.unit).field("fidelity", to_string(m.fidelity)).field("source", m.source);
      if (m.low) j.field("low", *m.low);
      if (m.high) j.field("high", *m.high);
      j.end();
    }
    j.end().field("design", t.design).end();
  }
  return j.end().end().text();
}

std::string front_csv(const report::Study& s) { return csv(s, true); }
std::string trials_csv(const report::Study& s) { return csv(s, false); }

std::string_view study_template() {
  return R"(# A study: which networks and hardware to look at, and what is wanted of them.
#   tandem explore study.yaml --out found
name: digits

# A family of networks: a recipe (tandem train) in which $name stands for a parameter of `space`.
# In lists, {when: {depth: 2}, layers: [...]} enters only for that value. One quantised network instead of a family:
#   model: net.onnx
train:
  data: digits
  validation: 0.15                  # what accuracy is judged on; the test split plays no part
  model:
    input: [1, 8, 8]
    layers:
      - conv: {channels: $width, kernel: 3, pad: 1}
      - batchnorm
      - relu
      - conv: {channels: 8, kernel: 3, pad: 1, stride: 2}
      - batchnorm
      - relu
      - dense: {features: 10}
  quantisation:
    input: {bits: 4, signed: false, scale: 0.0625}
    weights: {bits: $bits, per: channel, narrow: true, scale: learned}
    activations: {bits: $bits, scale: learned}
  train:
    batch: 32
    optimiser: {name: adam, rate: 0.01}
    schedule: {name: cosine}

space:
  width: {int: [4, 8], step: 4}     # also {real: [a, b], scale: log}, {choice: [...]}; any may have when: {name: value}
  bits: [3, 4]
  speedup: [1, 4, 16]               # hardware parameters share the training of their network

hardware:
  target: up5k                      # tandem targets
  clock: 12                         # MHz
  speedup: $speedup                 # times the speed of the smallest folding; or cycles:, throughput:, folding: layers

objectives: {accuracy: maximise, lut4: minimise, cycles: minimise}
constraints: {lut4: "<= 4400"}

searcher: {name: nsga2, population: 6, trials: 12, seed: 0}   # tandem searchers
epochs: {search: 3, front: 6}       # short training for all, longer for what reaches the front
front: {build: none}                # none, verify (Verilator), place (yosys and nextpnr too); most: 3
limits: {seconds: 300, memory: 4G}  # of one training
)";
}

}  // namespace tandem::flow
