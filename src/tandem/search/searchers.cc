// The table of searchers, and the two that are here: random and NSGA-II.
#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <set>

#include "tandem/base/config.h"
#include "tandem/base/json.h"
#include "tandem/base/nearest.h"
#include "tandem/search/searcher.h"
#include "tandem/solve/pareto.h"

namespace tandem::search {
namespace {

// What both share: ids, and the promise that no point is asked twice.
class Base : public Searcher {
 public:
  Base(const Space& space, const SearcherParams& p, std::string_view name) : space_(space), params_(p), rng_(p.seed, name) {
    if (p.population < 2 || p.population > 100000) throw bad_input("a population of {}", p.population).expected("2 to 100000");
  }
  std::size_t batch() const override { return params_.population; }

 protected:
  // The point, when it is new; then it counts as asked.
  bool take(const Point& p) { return asked_.insert(space_.key(p)).second; }
  // A new point near `make`'s taste: a few attempts, then samples, then the first unasked one of a small space.
  template <class Make>
  std::optional<Point> fresh(Rng& rng, Trial& trial, Make make) {
    for (int t = 0; t < 20; ++t)
      if (Point p = make(); take(p)) return p;
    trial.parents.clear();
    trial.note = "random";
    for (int t = 0; t < 50; ++t)
      if (Point p = space_.sample(rng); take(p)) return p;
    // The remainder of a small space, shuffled once by the seed.
    if (!listed_) {
      listed_ = true;
      if (const auto n = space_.size(); n && *n <= 1000000) {
        space_.enumerate([&](const Point& p) {
          rest_.push_back(p);
          return true;
        });
        Rng order(params_.seed, "rest");
        order.shuffle(rest_);
      }
    }
    for (; at_ < rest_.size(); ++at_)
      if (take(rest_[at_])) return rest_[at_];
    return std::nullopt;
  }
  void remember(std::span<const Key> asked) {
    asked_.clear();
    asked_.insert(asked.begin(), asked.end());
    next_ = static_cast<std::int64_t>(asked.size());
    at_ = 0;
  }

  const Space& space_;
  SearcherParams params_;
  Rng rng_;
  std::int64_t next_ = 0;

 private:
  std::set<Key> asked_;
  bool listed_ = false;
  std::vector<Point> rest_;
  std::size_t at_ = 0;
};

class RandomSearcher : public Base {
 public:
  RandomSearcher(const Space& space, const SearcherParams& p) : Base(space, p, "random") {}
  std::vector<Trial> ask(std::size_t n) override {
    std::vector<Trial> r;
    while (r.size() < n) {
      Rng rng = rng_.fork(static_cast<std::uint64_t>(next_));
      Trial t{next_, {}, {}, "random"};
      auto p = fresh(rng, t, [&] { return space_.sample(rng); });
      if (!p) break;
      t.point = std::move(*p);
      ++next_;
      r.push_back(std::move(t));
    }
    return r;
  }
  void tell(std::span<const Told>) override {}
  std::string save() const override { return "{}"; }
  void load(std::string_view, std::span<const Key> asked) override { remember(asked); }
};

// NSGA-II (Deb, Pratap, Agarwal, Meyarivan, 2002) with constrained dominance: a feasible point before an infeasible one,
// feasible ones by front and crowding distance, infeasible ones by how much they overshoot.
class Nsga2 : public Base {
 public:
  Nsga2(const Space& space, std::size_t objectives, const SearcherParams& p) : Base(space, p, "nsga2"), m_(objectives) {
    if (m_ == 0) throw bad_input("nsga2 needs an objective");
  }

  std::vector<Trial> ask(std::size_t n) override {
    select();
    const std::vector<Rank> ranks = rank(population_);
    std::vector<Trial> r;
    while (r.size() < n) {
      Rng rng = rng_.fork(static_cast<std::uint64_t>(next_));
      Trial t{next_, {}, {}, "random"};
      std::optional<Point> p;
      if (population_.size() < 2) {
        p = fresh(rng, t, [&] { return space_.sample(rng); });
      } else {
        const auto tournament = [&] {
          const auto last = static_cast<std::int64_t>(population_.size()) - 1;
          const auto a = static_cast<std::size_t>(rng.range(0, last)), b = static_cast<std::size_t>(rng.range(0, last));
          return better(ranks, b, a) ? b : a;
        };
        p = fresh(rng, t, [&] {
          const std::size_t a = tournament(), b = tournament();
          const bool cross = rng.chance(0.9) && a != b;
          t.parents = {population_[a].id};
          if (cross) t.parents.push_back(population_[b].id);
          t.note = cross ? "crossover" : "mutation";
          const double rate = 1.0 / static_cast<double>(space_.dimensions());
          Point c = cross ? space_.crossover(population_[a].point, population_[b].point, rng) : population_[a].point;
          // A crossover may keep what it made; a copy must change.
          return cross && rng.chance(std::pow(1 - rate, static_cast<double>(space_.dimensions()))) ? c : space_.mutate(c, rng, rate);
        });
      }
      if (!p) break;
      t.point = std::move(*p);
      ++next_;
      r.push_back(std::move(t));
    }
    return r;
  }

  void tell(std::span<const Told> completed) override {
    for (const Told& t : completed) {
      TANDEM_CHECK(t.judged.failed || t.judged.objectives.size() == m_, "a trial was told with {} objectives", t.judged.objectives.size());
      population_.push_back(t);
    }
  }

  std::string save() const override {
    std::vector<Told> all = population_;
    std::sort(all.begin(), all.end(), by_id);
    all = selected(std::move(all));
    std::string s = "[";
    for (const Told& t : all) {
      s += s.size() > 1 ? ",\n" : "\n";
      s += fmt::format("{{\"id\":{},\"point\":{},\"failed\":{},\"objectives\":[", t.id, json_string(space_.text(t.point)), t.judged.failed);
      for (std::size_t k = 0; k < t.judged.objectives.size(); ++k) s += fmt::format("{}{}", k ? "," : "", t.judged.objectives[k]);
      s += fmt::format("],\"violation\":{}}}", t.judged.failed ? 0 : t.judged.violation);
    }
    return s + "]";
  }

  void load(std::string_view state, std::span<const Key> asked) override {
    remember(asked);
    population_.clear();
    for (const Config& c : Config::parse(state, "state of nsga2").items()) {
      Told t;
      t.id = c.required<std::int64_t>("id");
      t.point = space_.parse(c.required<std::string>("point"));
      t.judged.failed = c.required<bool>("failed");
      t.judged.objectives = c.at("objectives").list<double>();
      t.judged.violation = t.judged.failed ? std::numeric_limits<double>::infinity() : c.required<double>("violation");
      if (!t.judged.failed && t.judged.objectives.size() != m_) throw c.error("another number of objectives");
      population_.push_back(std::move(t));
    }
  }

 private:
  struct Rank {
    std::size_t front = 0;
    double crowding = 0;
  };
  static bool by_id(const Told& a, const Told& b) { return a.id < b.id; }
  static bool better(const std::vector<Rank>& r, std::size_t a, std::size_t b) {
    return r[a].front != r[b].front ? r[a].front < r[b].front : r[a].crowding > r[b].crowding;
  }

  std::vector<Rank> rank(const std::vector<Told>& all) const {
    std::vector<Rank> r(all.size());
    std::vector<std::size_t> feasible, rest;
    for (std::size_t i = 0; i < all.size(); ++i) (all[i].judged.feasible() ? feasible : rest).push_back(i);
    std::vector<double> points;
    for (std::size_t i : feasible) points.insert(points.end(), all[i].judged.objectives.begin(), all[i].judged.objectives.end());
    std::size_t fronts = 0;
    if (!feasible.empty()) {
      const std::vector<Goal> goals(m_, Goal::minimise);
      const auto of = pareto_ranks(points, goals);
      for (std::size_t k = 0; k < feasible.size(); ++k) {
        r[feasible[k]].front = of[k];
        fronts = std::max(fronts, of[k] + 1);
      }
    }
    // Infeasible ones: each overshoot a rank of its own.
    std::stable_sort(rest.begin(), rest.end(), [&](std::size_t a, std::size_t b) { return all[a].judged.violation < all[b].judged.violation; });
    for (std::size_t k = 0; k < rest.size(); ++k) {
      if (k > 0 && all[rest[k]].judged.violation > all[rest[k - 1]].judged.violation) ++fronts;
      r[rest[k]].front = fronts;
    }
    // Crowding within each front of feasible points.
    constexpr double inf = std::numeric_limits<double>::infinity();
    std::stable_sort(feasible.begin(), feasible.end(), [&](std::size_t a, std::size_t b) { return r[a].front < r[b].front; });
    for (std::size_t first = 0; first < feasible.size();) {
      std::size_t last = first;
      while (last < feasible.size() && r[feasible[last]].front == r[feasible[first]].front) ++last;
      std::vector<std::size_t> f(feasible.begin() + static_cast<std::ptrdiff_t>(first), feasible.begin() + static_cast<std::ptrdiff_t>(last));
      for (std::size_t k = 0; k < m_; ++k) {
        std::stable_sort(f.begin(), f.end(), [&](std::size_t a, std::size_t b) { return all[a].judged.objectives[k] < all[b].judged.objectives[k]; });
        const double lo = all[f.front()].judged.objectives[k], hi = all[f.back()].judged.objectives[k];
        r[f.front()].crowding = r[f.back()].crowding = inf;
        if (hi > lo)
          for (std::size_t e = 1; e + 1 < f.size(); ++e)
            r[f[e]].crowding += (all[f[e + 1]].judged.objectives[k] - all[f[e - 1]].judged.objectives[k]) / (hi - lo);
      }
      first = last;
    }
    return r;
  }

  // The best of parents and offspring, in order of id.
  std::vector<Told> selected(std::vector<Told> all) const {
    if (all.size() <= params_.population) return all;
    const std::vector<Rank> r = rank(all);
    std::vector<std::size_t> order(all.size());
    std::iota(order.begin(), order.end(), 0);
    std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) { return better(r, a, b); });
    order.resize(params_.population);
    std::sort(order.begin(), order.end());
    std::vector<Told> kept;
    for (std::size_t i : order) kept.push_back(std::move(all[i]));
    return kept;
  }
  void select() {
    std::sort(population_.begin(), population_.end(), by_id);
    population_ = selected(std::move(population_));
  }

  std::size_t m_;
  std::vector<Told> population_;
};

constexpr SearcherDef kSearchers[] = {
    {"random", "Points drawn independently and uniformly; no point twice. The yardstick for every other searcher.", "",
     [](const Space& s, std::size_t, const SearcherParams& p) -> std::unique_ptr<Searcher> { return std::make_unique<RandomSearcher>(s, p); }},
    {"nsga2", "Evolution by non-dominated sorting and crowding distance, constraints by how much they are overshot; any mix of parameters.",
     "Deb, Pratap, Agarwal, Meyarivan: A fast and elitist multiobjective genetic algorithm, IEEE TEC 2002",
     [](const Space& s, std::size_t m, const SearcherParams& p) -> std::unique_ptr<Searcher> { return std::make_unique<Nsga2>(s, m, p); }},
};

}  // namespace

std::span<const SearcherDef> all_searchers() { return kSearchers; }

const SearcherDef& find_searcher(std::string_view name) {
  std::vector<std::string> known;
  for (const SearcherDef& d : kSearchers) {
    if (d.name == name) return d;
    known.emplace_back(d.name);
  }
  throw bad_input("there is no searcher '{}'", printable(name)).fix(suggest(name, known));
}

}  // namespace tandem::search
