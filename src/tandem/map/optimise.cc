#include "tandem/map/optimise.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>
#include <optional>
#include <set>

#include "tandem/base/nearest.h"
#include "tandem/solve/integer_program.h"

namespace tandem::map {
namespace {
using I = std::int64_t;
using plan::Layer;
using plan::LayerKind;
using plan::StageGraph;
using plan::StageKind;
using plan::StageShape;

constexpr I kForever = I(1) << 50;
std::size_t idx(int i) { return static_cast<std::size_t>(i); }

enum Quantity { lut, bram, dsp, mult, kQuantities };
using Amounts = std::array<double, kQuantities>;

struct Option {
  std::array<I, 2> in{1, 1};  // lanes of the operands; of an absent one 1
  I out = 1;
  plan::Fold fold;
  Amounts need{};
  double dsp_lut = 0;         // LUTs saved where DSPs are used
  I cycles = 0;
  double wait = 0;            // latency
};

std::vector<I> divisors(I n) {
  std::vector<I> d;
  for (I i = 1; i * i <= n; ++i)
    if (n % i == 0) {
      d.push_back(i);
      if (i * i != n) d.push_back(n / i);
    }
  std::sort(d.begin(), d.end());
  return d;
}
bool foldable(const Layer& l) { return l.kind == LayerKind::dense || l.kind == LayerKind::depthwise || l.kind == LayerKind::pool; }
bool weighted(const Layer& l) { return l.kind == LayerKind::dense || l.kind == LayerKind::depthwise; }
I wanted(const Layer& l, const plan::Fold& f) { return l.kind == LayerKind::dense ? f.simd : foldable(l) ? f.pe : 1; }

class Tables {
 public:
  // Options of at most `most` cycles; requantisers may take `interval`. `wait`, `count`: latency, multipliers matter.
  Tables(const StageGraph& g, const plan::Calibration& family, I interval, I most, bool use_dsp, bool wait, bool count)
      : g_(g), family_(family), use_dsp_(use_dsp), wait_(wait), count_(count), of(g.layers.size()) {
    f_ = plan::smallest_folding(g);
    f_.interval = interval;
    for (std::size_t i = 0; i < g.layers.size() && first_reader < 0; ++i)
      for (int j : g.layers[i].in)
        if (j < 0) first_reader = static_cast<int>(i);
    share_needed();
    std::vector<std::set<I>> lanes(g.layers.size() + 1);  // of each value, the input first
    for (const plan::Fold& f : folds(g.layers[idx(first_reader)])) lanes[0].insert(wanted(g.layers[idx(first_reader)], f));
    for (std::size_t i = 0; i < g.layers.size(); ++i) {
      const Layer& l = g.layers[i];
      std::vector<Option>& all = of[i];
      const std::set<I> one{1};
      const std::set<I>&a = lanes[idx(l.in[0] + 1)], &b = l.in.size() > 1 ? lanes[idx(l.in[1] + 1)] : one;
      std::map<std::array<I, 3>, std::vector<Option>> groups;
      auto keep = [&](Option o) {
        if (o.cycles > most) return;
        std::vector<Option>& group = groups[{o.in[0], o.in[1], o.out}];
        for (const Option& x : group)
          if (beats(x, o)) return;
        std::erase_if(group, [&](const Option& x) { return beats(o, x); });
        group.push_back(std::move(o));
      };
      for (const plan::Fold& fold : folds(l)) {
        if (foldable(l)) {
          if (l.kind == LayerKind::dense && l.vectors * (l.mh / fold.pe) * (l.mw / fold.simd) > most) continue;  // before it is expanded
          const I w = wanted(l, fold);
          const Option base = option(static_cast<int>(i), fold, {w, 1});
          if (base.cycles > most) continue;
          if (fold.logic && base.need[bram] >= plain_bram_) continue;  // nothing moved
          if (!fold.logic) plain_bram_ = base.need[bram];
          for (I x : a) {
            if (static_cast<int>(i) == first_reader && x != w) continue;
            keep(with_converter(base, x, w, g.values_of(l.in[0])));
          }
        } else {
          for (I x : a)
            for (I y : b)
              if (static_cast<int>(i) != first_reader || x == 1) keep(option(static_cast<int>(i), fold, {x, y}));
        }
      }
      for (auto& [key, group] : groups) all.insert(all.end(), group.begin(), group.end());
      for (const Option& o : all) lanes[i + 1].insert(o.out);
      options += static_cast<I>(all.size());
    }
    if (uses_of_input() > 1) {
      for (Option& o : of[idx(first_reader)]) add(o, fork_of_input(o.in[0]));
    }
  }
  Option option(int i, const plan::Fold& fold, std::array<I, 2> in) {
    const Layer& l = g_.layers[idx(i)];
    f_.of[idx(i)] = fold;
    Option o;
    o.in = in;
    o.fold = fold;
    o.out = expand_layer(g_, f_, i, {in.data(), l.in.size()}, scratch_);
    for (const StageShape& s : scratch_) add(o, s);
    if (count_ && weighted(l)) o.need[mult] = static_cast<double>(fold.pe * fold.simd);
    o.wait = static_cast<double>(o.cycles) * share_[idx(i)];
    return o;
  }

 private:
  const StageGraph& g_;
  const plan::Calibration& family_;
  bool use_dsp_, wait_, count_;
  plan::Folding f_;
  std::vector<StageShape> scratch_;
  std::vector<double> share_;
  double plain_bram_ = 0;

 public:
  std::vector<std::vector<Option>> of;
  int first_reader = -1;
  I options = 0;
  int uses_of_input() const {
    int n = 0;
    for (const Layer& l : g_.layers) n += static_cast<int>(std::count(l.in.begin(), l.in.end(), -1));
    return n;
  }
  StageShape fork_of_input(I lanes) const {
    StageShape s;
    s.kind = StageKind::fork;
    s.bits_in = s.bits_out = g_.input.bits;
    s.lanes_in = s.lanes_out = lanes;
    s.beats_in = s.beats_out = g_.input.elements / lanes;
    return s;
  }

 private:
  std::vector<plan::Fold> folds(const Layer& l) const {
    std::vector<plan::Fold> r;
    if (!foldable(l)) return {plan::Fold{}};
    const std::vector<I> inputs = l.kind == LayerKind::dense ? divisors(plan::most_simd(l)) : std::vector<I>{1};
    for (I pe : divisors(plan::most_pe(l)))
      for (I simd : inputs)
        for (bool logic : {false, true})
          if (!logic || (weighted(l) && !l.writable)) r.push_back({pe, simd, plan::Requantiser::automatic, logic, {}});
    return r;
  }
  void add(Option& o, const StageShape& s) const {
    const plan::StageDef& d = stage_def(s.kind);
    const plan::Cost c = d.cost(s, family_);
    o.need[lut] += std::max(0.0, c.lut4) - (use_dsp_ ? c.dsp_lut4 : 0);
    o.need[bram] += c.bram;
    if (use_dsp_) o.need[dsp] += c.dsp;
    o.cycles = std::max(o.cycles, d.cycles(s));
  }
  Option with_converter(Option o, I from_lanes, I to, const plan::Values& v) const {
    o.in[0] = from_lanes;
    I now = from_lanes;
    for (I next : {std::gcd(from_lanes, to), to}) {
      if (next == now) continue;
      StageShape s;
      s.kind = StageKind::convert;
      s.bits_in = s.bits_out = v.bits;
      s.lanes_in = now;
      s.lanes_out = next;
      s.beats_in = v.elements / now;
      s.beats_out = v.elements / next;
      add(o, s);
      now = next;
    }
    return o;
  }
  bool beats(const Option& x, const Option& y) const {  // no worse in anything
    for (int q = 0; q < kQuantities; ++q)
      if (x.need[static_cast<std::size_t>(q)] > y.need[static_cast<std::size_t>(q)]) return false;
    return !wait_ || x.wait <= y.wait;
  }
  // The share of a layer's result that those after it need before they can begin.
  void share_needed() {
    share_.assign(g_.layers.size(), 0);
    for (std::size_t i = g_.layers.size(); i-- > 0;) {
      const Layer& l = g_.layers[i];
      if (static_cast<int>(i) == g_.output_layer) share_[i] = 1.0 / static_cast<double>(std::max<I>(1, l.out.elements));
      double mine = share_[i];
      if (l.window) mine = std::min(1.0, static_cast<double>(std::max<I>(1, (l.window->kh - 1) * l.window->dh + 1 - l.window->pt)) / static_cast<double>(l.window->h));
      else if (l.kind == LayerKind::pool || l.kind == LayerKind::reorder) mine = 1;  // the whole frame
      else if (foldable(l) || l.kind == LayerKind::argmax || l.kind == LayerKind::topk || l.kind == LayerKind::softmax || l.kind == LayerKind::normalize) mine = 1.0 / static_cast<double>(l.vectors);
      for (int j : l.in)
        if (j >= 0) share_[idx(j)] = std::max(share_[idx(j)], mine);
    }
  }
};

struct Limits {
  Amounts most{};     // infinity where there is none
  I interval = kForever;
};
struct Found {
  plan::Folding folding;
  Amounts need{};
  double value = 0;   // of the objective
};
// value = sum of weight * need + wait_weight * wait
struct Weights {
  Amounts of{};
  double wait = 0;
  double operator()(const Option& o) const {
    double v = wait * o.wait;
    for (std::size_t q = 0; q < kQuantities; ++q) v += of[q] * o.need[q];
    return v;
  }
};

bool within(const Amounts& need, const Amounts& most) {
  for (std::size_t q = 0; q < kQuantities; ++q)
    if (need[q] > most[q] + 1e-9) return false;
  return true;
}

Found found_from(const StageGraph& g, const Tables& t, const std::vector<std::size_t>& pick, const Weights& w, I interval) {
  Found f;
  f.folding = plan::smallest_folding(g);
  f.folding.interval = interval;
  for (std::size_t i = 0; i < pick.size(); ++i) {
    const Option& o = t.of[i][pick[i]];
    f.folding.of[i] = o.fold;
    for (std::size_t q = 0; q < kQuantities; ++q) f.need[q] += o.need[q];
    f.value += w(o);
  }
  return f;
}

std::optional<Found> by_program(const StageGraph& g, const Tables& t, const Weights& w, const Limits& lim, I interval, const FoldingGoal& goal, FoldingStats& st) {
  IntegerProgram p;
  std::vector<std::vector<int>> x(t.of.size());
  std::array<std::vector<std::pair<int, double>>, kQuantities> sum;
  for (std::size_t i = 0; i < t.of.size(); ++i) {
    std::vector<std::pair<int, double>> one;
    for (const Option& o : t.of[i]) {
      const int v = p.variable(w(o));
      x[i].push_back(v);
      one.emplace_back(v, 1);
      for (std::size_t q = 0; q < kQuantities; ++q)
        if (o.need[q] != 0) sum[q].emplace_back(v, o.need[q]);
    }
    if (one.empty()) return std::nullopt;
    p.row(std::move(one), 1, 1);
  }
  for (std::size_t q = 0; q < kQuantities; ++q)
    if (std::isfinite(lim.most[q]) && !sum[q].empty()) p.row(sum[q], -IntegerProgram::kInfinity, lim.most[q]);
  auto link = [&](int from, std::size_t to, std::size_t k) {
    std::map<I, std::vector<std::pair<int, double>>> by;
    const std::size_t producer = from < 0 ? idx(t.first_reader) : idx(from);
    if (from < 0 && producer == to) return;
    for (std::size_t o = 0; o < t.of[producer].size(); ++o) by[from < 0 ? t.of[producer][o].in[0] : t.of[producer][o].out].emplace_back(x[producer][o], 1);
    for (std::size_t o = 0; o < t.of[to].size(); ++o) by[t.of[to][o].in[k]].emplace_back(x[to][o], -1);
    for (auto& [lanes, terms] : by) p.row(std::move(terms), 0, 0);
  };
  for (std::size_t i = 0; i < g.layers.size(); ++i)
    for (std::size_t k = 0; k < g.layers[i].in.size(); ++k)
      if (k == 0 || g.layers[i].in[k] != g.layers[i].in[0]) link(g.layers[i].in[k], i, k);
  ++st.programs;
  const IntegerSolution s = solve(p, {.seconds = goal.seconds, .start = {}});
  if (s.status == IntegerSolution::unfinished) throw Error(Exit::limit, fmt::format("the integer program was not solved in {} s", goal.seconds)).fix("--folding heuristic");
  if (!s.found) return std::nullopt;
  std::vector<std::size_t> pick(t.of.size());
  for (std::size_t i = 0; i < x.size(); ++i)
    for (std::size_t o = 0; o < x[i].size(); ++o)
      if (s.x[idx(x[i][o])] > 0.5) pick[i] = o;
  return found_from(g, t, pick, w, interval);
}

// The best folding for weights alone, by dynamic programming over the lanes of the values that are still needed.
std::optional<std::vector<std::size_t>> by_weights(const StageGraph& g, const Tables& t, const Weights& w) {
  struct Node {
    double value;
    int before;        // node of the layer before
    std::size_t pick;
  };
  const std::size_t n = g.layers.size();
  std::vector<int> last(n + 1, -1);  // the last layer that reads each value, the input first
  for (std::size_t i = 0; i < n; ++i)
    for (int j : g.layers[i].in) last[idx(j + 1)] = static_cast<int>(i);
  std::vector<std::vector<Node>> nodes(n);
  std::map<std::vector<I>, int> states{{{}, -1}};  // lanes of live values -> node
  std::vector<int> live;                           // whose
  for (std::size_t i = 0; i < n; ++i) {
    const Layer& l = g.layers[i];
    std::vector<int> next_live;
    for (int v : live)
      if (last[idx(v + 1)] > static_cast<int>(i)) next_live.push_back(v);
    const bool input_lives = static_cast<int>(i) == t.first_reader && last[0] > static_cast<int>(i);
    if (input_lives) next_live.push_back(-1);
    if (last[i + 1] > static_cast<int>(i)) next_live.push_back(static_cast<int>(i));
    // By the lanes they take, the best option for each of what follows.
    struct Best {
      I in, out;
      std::size_t option;
      double value;
    };
    std::map<std::array<I, 2>, std::vector<Best>> by;
    for (std::size_t o = 0; o < t.of[i].size(); ++o) {
      const Option& x = t.of[i][o];
      std::vector<Best>& all = by[x.in];
      const Best b{x.in[0], x.out, o, w(x)};
      const auto same = std::find_if(all.begin(), all.end(), [&](const Best& y) { return y.out == b.out; });
      if (same == all.end()) all.push_back(b);
      else if (b.value < same->value) *same = b;
    }
    std::map<std::vector<I>, int> next;
    for (const auto& [lanes, node] : states) {
      const double before = node < 0 ? 0 : nodes[i - 1][idx(node)].value;
      auto lanes_of = [&](int v) {
        for (std::size_t k = 0; k < live.size(); ++k)
          if (live[k] == v) return lanes[k];
        return I(0);
      };
      std::vector<I> key(next_live.size());
      auto take = [&](const std::vector<Best>& all) {
        for (const Best& x : all) {
          for (std::size_t k = 0; k < key.size(); ++k) {
            const int v = next_live[k];
            key[k] = v == static_cast<int>(i) ? x.out : v == -1 && input_lives ? x.in : lanes_of(v);
          }
          const double value = before + x.value;
          const auto [it, fresh] = next.try_emplace(key, static_cast<int>(nodes[i].size()));
          if (fresh) nodes[i].push_back({value, node, x.option});
          else if (Node& old = nodes[i][idx(it->second)]; value < old.value) old = {value, node, x.option};
        }
      };
      if (static_cast<int>(i) == t.first_reader) {
        for (const auto& [in, all] : by) take(all);
      } else if (const auto it = by.find({lanes_of(l.in[0]), l.in.size() > 1 ? lanes_of(l.in[1]) : 1}); it != by.end()) {
        take(it->second);
      }
    }
    if (next.empty()) return std::nullopt;
    states = std::move(next);
    live = std::move(next_live);
  }
  int node = -1;
  for (const auto& [lanes, k] : states)
    if (node < 0 || nodes[n - 1][idx(k)].value < nodes[n - 1][idx(node)].value) node = k;
  std::vector<std::size_t> pick(n);
  for (std::size_t i = n; i-- > 0;) {
    pick[i] = nodes[i][idx(node)].pick;
    node = nodes[i][idx(node)].before;
  }
  return pick;
}

// As by_weights, but each state keeps several ways to reach it, none of which another beats: up to kWays, those of least
// weight and those of least value. Nothing found means nothing more than that.
constexpr std::size_t kWays = 64;
std::optional<std::vector<std::size_t>> by_ways(const StageGraph& g, const Tables& t, const Weights& w, const Weights& dear, const Limits& lim) {
  struct Way {
    Amounts need{};
    double value = 0, dear = 0;
    int before = -1;
    std::size_t pick = 0;
  };
  const std::size_t n = g.layers.size();
  std::vector<int> last(n + 1, -1);
  for (std::size_t i = 0; i < n; ++i)
    for (int j : g.layers[i].in) last[idx(j + 1)] = static_cast<int>(i);
  std::vector<std::vector<Way>> ways(n + 1);
  ways[0].push_back({});
  std::map<std::vector<I>, std::vector<int>> states{{{}, {0}}};
  std::vector<int> live;
  for (std::size_t i = 0; i < n; ++i) {
    const Layer& l = g.layers[i];
    const bool first = static_cast<int>(i) == t.first_reader, input_lives = first && last[0] > static_cast<int>(i);
    std::vector<int> next_live;
    for (int v : live)
      if (last[idx(v + 1)] > static_cast<int>(i)) next_live.push_back(v);
    if (input_lives) next_live.push_back(-1);
    if (last[i + 1] > static_cast<int>(i)) next_live.push_back(static_cast<int>(i));
    std::map<std::vector<I>, std::vector<Way>> next;
    for (const auto& [lanes, reached] : states) {
      auto lanes_of = [&](int v) {
        for (std::size_t k = 0; k < live.size(); ++k)
          if (live[k] == v) return lanes[k];
        return I(0);
      };
      for (std::size_t o = 0; o < t.of[i].size(); ++o) {
        const Option& x = t.of[i][o];
        if (!first && (x.in[0] != lanes_of(l.in[0]) || (l.in.size() > 1 && x.in[1] != lanes_of(l.in[1])))) continue;
        std::vector<I> key;
        for (int v : next_live) key.push_back(v == static_cast<int>(i) ? x.out : v == -1 && input_lives ? x.in[0] : lanes_of(v));
        std::vector<Way>& to = next[std::move(key)];
        for (int b : reached) {
          const Way& before = ways[i][idx(b)];
          Way y{before.need, before.value + w(x), before.dear + dear(x), b, o};
          for (std::size_t q = 0; q < kQuantities; ++q) y.need[q] += x.need[q];
          if (within(y.need, lim.most)) to.push_back(y);
        }
      }
    }
    states.clear();
    for (auto& [key, all] : next) {
      auto keep = [&](auto less) {
        std::sort(all.begin(), all.end(), less);
        std::vector<Way> r;
        for (const Way& y : all) {
          if (r.size() == kWays / 2) break;
          const bool beaten = std::any_of(r.begin(), r.end(), [&](const Way& z) {
            for (std::size_t q = 0; q < kQuantities; ++q)
              if (std::isfinite(lim.most[q]) && z.need[q] > y.need[q]) return false;
            return z.value <= y.value;
          });
          if (!beaten) r.push_back(y);
        }
        return r;
      };
      std::vector<Way> cheap = keep([](const Way& a, const Way& b) { return a.dear < b.dear; });
      const std::vector<Way> good = keep([](const Way& a, const Way& b) { return a.value < b.value; });
      cheap.insert(cheap.end(), good.begin(), good.end());
      for (Way& y : cheap) {
        states[key].push_back(static_cast<int>(ways[i + 1].size()));
        ways[i + 1].push_back(y);
      }
    }
    if (ways[i + 1].empty()) return std::nullopt;
    live = std::move(next_live);
  }
  const auto& end = ways[n];
  int at = static_cast<int>(std::min_element(end.begin(), end.end(), [](const Way& a, const Way& b) { return a.value < b.value; }) - end.begin());
  std::vector<std::size_t> pick(n);
  for (std::size_t i = n; i-- > 0;) {
    pick[i] = ways[i + 1][idx(at)].pick;
    at = ways[i + 1][idx(at)].before;
  }
  return pick;
}

std::optional<Found> by_heuristic(const StageGraph& g, const Tables& t, const Weights& w, const Limits& lim, I interval) {
  std::optional<Found> best;
  Weights now = w;
  double scale = 0;  // of a penalty: the objective of the first choice
  for (int turn = 0; turn < 40; ++turn) {
    const auto pick = by_weights(g, t, now);
    if (!pick) return std::nullopt;
    // What keeps the limits weighs no more than they do; where even the least weight is more, nothing keeps them.
    double least = 0, allowed = 0;
    for (std::size_t i = 0; i < pick->size(); ++i) {
      const Option& o = t.of[i][(*pick)[i]];
      for (std::size_t q = 0; q < kQuantities; ++q)
        if (std::isfinite(lim.most[q])) least += now.of[q] * o.need[q];
    }
    bool all_limited = now.wait == 0;
    for (std::size_t q = 0; q < kQuantities; ++q) {
      if (std::isfinite(lim.most[q])) allowed += now.of[q] * lim.most[q];
      else all_limited = all_limited && now.of[q] == 0;
    }
    if (all_limited && least > allowed * (1 + 1e-9)) return std::nullopt;
    std::vector<std::size_t> p = *pick;
    Found f = found_from(g, t, p, w, interval);
    if (turn == 0) scale = std::max(1e-9, f.value);
    // Single layers: an option with the same lanes that is better, or that breaks the limits less.
    auto broken = [&](const Amounts& need) {
      double b = 0;
      for (std::size_t q = 0; q < kQuantities; ++q)
        if (std::isfinite(lim.most[q])) b += std::max(0.0, need[q] - lim.most[q]) / std::max(1.0, lim.most[q]);
      return b;
    };
    for (bool again = true; again;) {
      again = false;
      for (std::size_t i = 0; i < p.size(); ++i)
        for (std::size_t o = 0; o < t.of[i].size(); ++o) {
          const Option &x = t.of[i][o], &y = t.of[i][p[i]];
          if (x.in != y.in || x.out != y.out || o == p[i]) continue;
          Amounts need = f.need;
          for (std::size_t q = 0; q < kQuantities; ++q) need[q] += x.need[q] - y.need[q];
          const double before = broken(f.need), after = broken(need), gain = w(y) - w(x);
          if (after > before + 1e-12 || (after > before - 1e-12 && gain <= 1e-9 * scale)) continue;
          p[i] = o;
          f.need = need;
          f.value -= gain;
          again = true;
        }
    }
    if (within(f.need, lim.most) && (!best || f.value < best->value)) best = found_from(g, t, p, w, interval);
    // Dearer what there is too little of, cheaper what there is enough of.
    bool changed = false;
    const Found raw = found_from(g, t, *pick, w, interval);
    for (std::size_t q = 0; q < kQuantities; ++q) {
      if (!std::isfinite(lim.most[q])) continue;
      const double over = raw.need[q] / std::max(1e-9, lim.most[q]);
      const double extra = now.of[q] - w.of[q];
      const double step = scale / std::max(1.0, lim.most[q]) * 0.5;
      double to = extra;
      if (over > 1) to = extra > 0 ? extra * (1 + std::min(1.0, 2 * (over - 1)) + 0.05) : step * std::min(1.0, over - 1 + 0.05);
      else if (extra > 0) to = extra * (turn < 20 ? 0.7 : 0.9);
      if (to != extra) changed = true;
      now.of[q] = w.of[q] + to;
    }
    if (!changed) break;
  }
  if (!best)
    if (const auto pick = by_ways(g, t, w, now, lim)) best = found_from(g, t, *pick, w, interval);
  return best;
}

class Optimiser {
 public:
  Optimiser(const StageGraph& g, const Budget& b, const FoldingGoal& goal, FoldingStats& st) : g_(g), b_(b), goal_(goal), st_(st), family_(plan::calibration(b.family)) {
    const double infinity = std::numeric_limits<double>::infinity();
    limits_.most = {b.lut4 * b.fill - b.reserved_lut4, b.bram, b.dsp, b.multipliers > 0 ? static_cast<double>(b.multipliers) : infinity};
    limits_.interval = goal.interval > 0 ? goal.interval : kForever;
    share_.of = {1 / std::max(1.0, b.lut4 * b.fill), 1 / std::max(1.0, b.bram), 0, 0};
  }

  Choice run() {
    if (goal_.objective == Objective::resource && goal_.interval <= 0) throw bad_input("the least resources of what? There is no throughput to keep").fix("--throughput FRAMES, or --objective throughput");
    std::optional<Found> f;
    if (goal_.objective == Objective::throughput) f = fastest(limits_);
    else if (goal_.objective == Objective::resource) f = at(goal_.interval, share_, limits_);
    else f = soonest();
    if (!f) infeasible();
    Choice c;
    c.folding = f->folding;
    std::vector<StageShape> scratch;
    c.estimate = evaluate(g_, c.folding, scratch, family_);
    c.uses_dsp = b_.dsp > 0 && c.estimate.cost.dsp > 0 && c.estimate.cost.dsp <= b_.dsp;
    st_.share = share_.of[lut] * c.estimate.lut4(c.uses_dsp) + share_.of[bram] * c.estimate.cost.bram;
    const std::string_view how = goal_.method == Method::exact ? "proved by an integer program" : "found by the heuristic";
    c.limit = goal_.objective == Objective::resource ? fmt::format("{} cycles a frame were asked for, with the least resources ({})", goal_.interval, how)
                                                     : fmt::format("the {} of all foldings that {} holds ({})", goal_.objective == Objective::throughput ? "fastest" : "soonest", b_.device, how);
    return c;
  }

 private:
  const StageGraph& g_;
  const Budget& b_;
  const FoldingGoal& goal_;
  FoldingStats& st_;
  const plan::Calibration& family_;
  Limits limits_;
  Weights share_;

  // Within `interval` cycles, with and without DSPs.
  std::optional<Found> at(I interval, const Weights& w, const Limits& lim, bool wait = false) {
    std::optional<Found> best;
    for (bool use_dsp : {false, true}) {
      if (use_dsp && b_.dsp <= 0) continue;
      const Tables t(g_, family_, wait ? 1 : interval, interval, use_dsp, wait, b_.multipliers > 0);
      st_.options = t.options;
      auto f = goal_.method == Method::exact ? by_program(g_, t, w, lim, wait ? 1 : interval, goal_, st_) : by_heuristic(g_, t, w, lim, wait ? 1 : interval);
      if (f && (!best || f->value < best->value)) best = f;
    }
    return best;
  }
  std::vector<I> cycle_counts() {
    std::set<I> all;
    I least = 0;  // no folding is faster than the slowest of the fastest, or slower than the slowest of the slowest
    for (I interval : {kForever, I(1)}) {  // requantisers as slow, and as fast, as they come
      const Tables t(g_, family_, interval, kForever, false, true, false);
      least = 0;
      for (const auto& layer : t.of) {
        I fast = kForever;
        for (const Option& o : layer) fast = std::min(fast, o.cycles), all.insert(o.cycles);
        least = std::max(least, fast);
      }
    }
    return {all.lower_bound(least), all.end()};
  }
  // The least interval: feasibility only grows with it.
  std::optional<Found> fastest(const Limits& lim) {
    std::vector<I> counts = cycle_counts();
    while (!counts.empty() && counts.back() > lim.interval) counts.pop_back();
    std::optional<Found> best;
    std::size_t bad = 0, good = counts.size();  // counts[good] is feasible, all below `bad` are not
    while (bad < good) {
      const std::size_t middle = (bad + good) / 2;
      if (auto f = at(counts[middle], share_, lim)) {
        best = f;
        good = middle;
      } else {
        bad = middle + 1;
      }
    }
    return best;
  }
  std::optional<Found> soonest() {
    Weights w;
    w.wait = 1;
    return at(limits_.interval, w, limits_, true);
  }

  [[noreturn]] void infeasible() {
    enum { interval, luts, blocks, multipliers };
    struct Limit {
      int what;
      std::string text;
    };
    std::vector<Limit> all;
    if (goal_.interval > 0) all.push_back({interval, fmt::format("{} cycles a frame", goal_.interval)});
    all.push_back({luts, fmt::format("{:.0f} {}", limits_.most[lut], family_.lut)});
    all.push_back({blocks, fmt::format("{:.0f} block RAMs ({})", limits_.most[bram], family_.bram)});
    if (b_.multipliers > 0) all.push_back({multipliers, fmt::format("{} multipliers", b_.multipliers)});
    auto limits = [&](const std::vector<Limit>& of) {
      Limits l;
      l.most.fill(std::numeric_limits<double>::infinity());
      l.most[dsp] = limits_.most[dsp];
      for (const Limit& x : of) {
        if (x.what == interval) l.interval = limits_.interval;
        if (x.what == luts) l.most[lut] = limits_.most[lut];
        if (x.what == blocks) l.most[bram] = limits_.most[bram];
        if (x.what == multipliers) l.most[mult] = limits_.most[mult];
      }
      return l;
    };
    const I slowest = cycle_counts().back();
    auto feasible = [&](const Limits& l, const Weights& w) { return at(std::min(l.interval, slowest), w, l); };
    for (std::size_t i = 0; i < all.size();) {
      std::vector<Limit> rest = all;
      rest.erase(rest.begin() + static_cast<std::ptrdiff_t>(i));
      if (feasible(limits(rest), share_)) ++i;
      else all = rest;
    }
    std::string texts, changes;
    for (const Limit& x : all) {
      texts += (texts.empty() ? "" : " and ") + x.text;
      std::vector<Limit> rest;
      for (const Limit& y : all)
        if (y.what != x.what) rest.push_back(y);
      const Limits l = limits(rest);
      std::string change;
      if (x.what == interval) {
        if (const auto f = fastest(l)) change = fmt::format("at {} cycles a frame", f->folding.interval);
      } else {
        const Quantity q = x.what == luts ? lut : x.what == blocks ? bram : mult;
        Weights w;
        w.of[q] = 1;
        if (const auto f = feasible(l, w)) change = fmt::format("with {:.0f} more {}", std::ceil(f->need[q] - limits_.most[q] - 1e-9), q == lut ? std::string(family_.lut) : q == bram ? "block RAMs" : "multipliers");
      }
      if (!change.empty()) changes += (changes.empty() ? "" : ", or ") + change;
    }
    Error e(Exit::no, fmt::format("no folding keeps {}{} on {}", all.size() > 1 ? "together " : "", texts.empty() ? "the limits" : texts, b_.device));
    if (!changes.empty()) e.fix("it is possible " + changes);
    throw e;
  }
};

}  // namespace

Objective objective_of(std::string_view name) {
  if (name == "throughput") return Objective::throughput;
  if (name == "latency") return Objective::latency;
  if (name == "resource") return Objective::resource;
  throw bad_input("no objective '{}'", printable(name)).expected("throughput, latency or resource");
}

Choice optimise_folding(const StageGraph& g, const Budget& b, const FoldingGoal& goal, FoldingStats* stats) {
  FoldingStats none;
  if (goal.method == Method::exact && !integer_solver_available()) solve({});  // throws
  return Optimiser(g, b, goal, stats ? *stats : none).run();
}

Estimate by_tables(const StageGraph& g, const plan::Folding& f, const plan::Calibration& family) {
  Estimate e;
  std::vector<StageShape> s;
  std::vector<I> lanes(g.layers.size() + 1, input_lanes(g, f));
  auto add = [&](const StageShape& x) {
    const plan::Cost c = stage_def(x.kind).cost(x, family);
    e.cost.lut4 += std::max(0.0, c.lut4);
    e.cost.bram += c.bram;
    e.cost.dsp += c.dsp;
    e.cost.dsp_lut4 += c.dsp_lut4;
    e.interval = std::max(e.interval, stage_def(x.kind).cycles(x));
  };
  I readers = 0;
  for (std::size_t i = 0; i < g.layers.size(); ++i) {
    std::vector<I> in;
    for (int j : g.layers[i].in) in.push_back(lanes[idx(j + 1)]), readers += j < 0;
    lanes[i + 1] = expand_layer(g, f, static_cast<int>(i), in, s);
    for (const StageShape& x : s) add(x);
  }
  if (readers > 1) {
    StageShape x;
    x.kind = StageKind::fork;
    x.bits_in = x.bits_out = g.input.bits;
    x.lanes_in = x.lanes_out = lanes[0];
    x.beats_in = x.beats_out = g.input.elements / lanes[0];
    add(x);
  }
  return e;
}

}  // namespace tandem::map
