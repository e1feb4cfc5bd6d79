#include "tandem/map/queues.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <map>
#include <mutex>
#include <utility>

#include "tandem/base/parallel.h"
#include "tandem/plan/timing.h"

namespace tandem::map {
namespace {
using I = std::int64_t;
using plan::StageKind;
using plan::StageShape;

std::size_t idx(int i) { return static_cast<std::size_t>(i); }
bool is_join(const StageShape& s) { return s.in[1] >= 0; }
bool endless(const StageShape& s) { return s.kind == StageKind::fifo && s.depth >= kUnlimited; }

// What remains in one piece when endless queues are cut out, each a design of its own.
std::vector<std::vector<StageShape>> pieces(std::span<const StageShape> s) {
  std::vector<std::size_t> root(s.size());
  for (std::size_t i = 0; i < s.size(); ++i) root[i] = i;
  auto find = [&](std::size_t i) {
    while (root[i] != i) i = root[i] = root[root[i]];
    return i;
  };
  for (std::size_t i = 0; i < s.size(); ++i)
    for (int k : s[i].in)
      if (k >= 0 && !endless(s[i]) && !endless(s[idx(k)])) root[find(i)] = find(idx(k));
  // A queue within a piece stays there: what it holds is limited by the piece.
  std::vector<int> reader(s.size(), -1);
  for (std::size_t i = 0; i < s.size(); ++i)
    for (int k : s[i].in)
      if (k >= 0) reader[idx(k)] = static_cast<int>(i);
  std::vector<bool> cut(s.size());
  for (std::size_t i = 0; i < s.size(); ++i) {
    if (!endless(s[i])) continue;
    cut[i] = s[i].in[0] < 0 || find(idx(s[i].in[0])) != find(idx(reader[i]));
    if (!cut[i]) root[i] = find(idx(reader[i]));
  }
  std::vector<std::vector<StageShape>> all;
  std::vector<int> piece(s.size(), -1), place(s.size());
  for (std::size_t i = 0; i < s.size(); ++i) {
    if (cut[i]) continue;
    int& p = piece[find(i)];
    if (p < 0) {
      p = static_cast<int>(all.size());
      all.emplace_back();
    }
    std::vector<StageShape>& to = all[idx(p)];
    place[i] = static_cast<int>(to.size());
    to.push_back(s[i]);
    for (std::size_t k = 0; k < 2; ++k)
      if (int& from = to.back().in[k]; from >= 0) from = !cut[idx(from)] ? place[idx(from)] : k == 0 ? -1 : plan::kSource;
  }
  return all;
}

// The last stage that every way from the input to each stage passes; -1: only the input itself.
std::vector<int> dominators(std::span<const StageShape> s) {
  std::vector<int> by(s.size(), -1);
  for (std::size_t i = 0; i < s.size(); ++i) {
    int a = s[i].in[0];
    if (is_join(s[i]))
      for (int b = s[i].in[1]; a != b;) (a > b ? a : b) = by[idx(std::max(a, b))];
    by[i] = a;
  }
  return by;
}

// The part of a design from a fork to a stage it dominates, as a design of its own; of its joins those behind `join` have
// queues without a limit.
using Depths = std::array<I, 2>;
struct Block {
  std::vector<StageShape> stages;
  std::array<std::size_t, 2> queue{};  // of `join`, places in `stages`
  Depths least{1, 1};                  // they are known to need no less
};
Block block_of(std::span<const StageShape> s, std::size_t join, int from, std::size_t end, const Depths& least) {
  std::vector<bool> in(s.size());
  in[end] = true;
  for (std::size_t i = end; i > idx(from); --i)
    if (in[i])
      for (int k : s[i].in)
        if (k >= 0) in[idx(k)] = true;
  Block b{.least = least};
  std::vector<int> now(s.size(), -1);
  for (std::size_t i = idx(from); i <= end; ++i) {
    if (!in[i]) continue;
    now[i] = static_cast<int>(b.stages.size());
    b.stages.push_back(s[i]);
    for (int& k : b.stages.back().in) k = k >= from && i > idx(from) ? now[idx(k)] : -1;
    b.stages.back().layer = -1;
    if (i <= join || !is_join(s[i])) continue;
    for (int k : b.stages.back().in)
      if (b.stages[idx(k)].kind == StageKind::fifo) b.stages[idx(k)].depth = kUnlimited;
  }
  for (std::size_t k = 0; k < 2; ++k) b.queue[k] = idx(now[idx(s[join].in[k])]);
  return b;
}

// Input beats before output beat m (1 is the first) of a frame can leave; 0 where that is not known.
I inputs_for(const StageShape& s, I m) {
  const I groups = s.c / s.lanes_in;
  switch (s.kind) {
    case StageKind::pad: {
      const I at = m - 1, part = at % groups, x = at / groups % s.ow - s.kw, y = at / groups / s.ow - s.kh;
      const I rows = std::clamp<I>(y, 0, s.h) * s.w * groups;
      if (y < 0 || y >= s.h) return rows;
      return rows + std::clamp<I>(x, 0, s.w) * groups + (x >= 0 && x < s.w ? part + 1 : 0);
    }
    case StageKind::window: {
      const I row = (m - 1) / (s.ow * s.reps * s.kh * s.kw * groups), span = (s.kh - 1) * s.dh + 1;
      return (row == s.oh - 1 ? s.h : row * s.sh + std::max(span, s.sh)) * s.w * groups;
    }
    case StageKind::replay: return ((m - 1) / (s.mw / s.simd * (s.mh / s.pe)) + 1) * (s.mw / s.simd);
    case StageKind::mvau:
    case StageKind::mvau_logic:
    case StageKind::mvau_packed: return m * (s.mw / s.simd);
    case StageKind::depthwise:
    case StageKind::depthwise_logic:
    case StageKind::pool: return m * s.mw;
    case StageKind::convert: return s.lanes_out > s.lanes_in ? m * (s.lanes_out / s.lanes_in) : (m + s.lanes_in / s.lanes_out - 1) / (s.lanes_in / s.lanes_out);
    case StageKind::threshold:
    case StageKind::rescale:
    case StageKind::affine:
    case StageKind::mvau_constant:
    case StageKind::fork:
    case StageKind::fifo:
    case StageKind::skid: return m;
    default: return 0;
  }
}

class Sizer {
 public:
  Sizer(std::vector<StageShape>& stages, QueueStats& stats) : s_(stages), stats_(stats) {}

  // False where the design is too large to be stepped.
  bool run() {
    const std::vector<std::size_t> queues = join_queues(s_);
    stats_.queues = static_cast<I>(queues.size());
    Rate target{0, 1};
    for (const StageShape& s : s_) target.cycles = std::max(target.cycles, stage_def(s.kind).cycles(s));
    const std::vector<int> by = dominators(s_);
    const std::vector<I> bound = queue_bounds(s_);
    const std::size_t joins = queues.size() / 2;
    auto join = [&](std::size_t j) { return reader(queues[2 * j]); };
    // A join alone.
    auto alone = [&](std::size_t j) { return block_of(s_, join(j), by[join(j)], join(j), {bound[2 * j], bound[2 * j + 1]}); };
    // Again with its neighbours: from the fork before (or the input) to the join behind.
    auto among = [&](std::size_t j, const Depths& least) {
      int from = by[idx(by[join(j)])];
      while (from >= 0 && s_[idx(from)].kind != StageKind::fork) from = by[idx(from)];
      std::size_t end = j + 1 < joins ? join(j + 1) : join(j);
      if (by[end] < static_cast<int>(join(j))) end = join(j);
      return block_of(s_, join(j), std::max(0, from), end, least);
    };
    auto set_join = [&](std::size_t j, const Depths& d) {
      for (std::size_t k : {0u, 1u}) s_[idx(s_[join(j)].in[k])].depth = d[k];
    };
    if (ThreadBudget::jobs() > 1) {  // what the loop below is about to search, as far as it can be foreseen: neighbours change little
      const std::vector<StageShape> before = s_;
      std::vector<Block> first, second;
      for (std::size_t j = 0; j < joins; ++j) first.push_back(alone(j));
      if (search_all(first, target)) {
        std::vector<Depths> found;
        for (std::size_t j = 0; j < joins; ++j) {
          found.push_back(*search(first[j], target).depths);
          set_join(j, found.back());
        }
        for (std::size_t j = 0; j < joins; ++j) second.push_back(among(j, found[j]));
        search_all(second, target);
        s_ = before;
      }
    }
    std::vector<I> depth;
    for (std::size_t j = 0; j < joins; ++j) {
      const Found* found = &count(search(alone(j), target));
      if (found->depths) found = &count(search(among(j, *found->depths), target));
      if (!found->depths) return false;
      set_join(j, *found->depths);
      depth.insert(depth.end(), found->depths->begin(), found->depths->end());
    }
    Rate whole = rate_of(s_);
    if (!whole.known) return false;
    if (!whole.slower(target)) return true;
    // The parts influence each other, or the design is slower than its slowest stage.
    stats_.whole = false;
    auto set = [&](std::size_t limited) {
      for (std::size_t q = 0; q < queues.size(); ++q) s_[queues[q]].depth = q < limited ? depth[q] : kUnlimited;
    };
    set(0);
    target = rate_of(s_);
    if (!target.known || target.frames == 0) return false;
    auto rate = [&](std::size_t limited) {
      set(limited);
      return rate_of(s_);
    };
    auto ok = [&](std::size_t limited) {
      const Rate r = rate(limited);
      return r.known && !r.slower(target);
    };
    for (std::size_t good = 0; !ok(queues.size());) {
      std::size_t bad = queues.size();  // the first so many queues are too short
      while (bad - good > 1) {
        const std::size_t middle = (good + bad) / 2;
        (ok(middle) ? good : bad) = middle;
      }
      depth[bad - 1] = least(depth[bad - 1] + 1, target, [&](I d) {
        depth[bad - 1] = d;
        return rate(bad);
      });
      good = bad;
      if (good == queues.size()) break;
    }
    set(queues.size());
    return true;
  }

 private:
  std::vector<StageShape>& s_;
  QueueStats& stats_;
  struct Simulation {
    Rate rate;
    bool counted = false;
  };
  struct Found {
    std::optional<Depths> depths;     // none where the block cannot be stepped
    std::vector<Simulation*> used;
    bool counted = false;
  };
  std::mutex mutex_;                                // of these:
  std::map<std::vector<I>, Simulation> rates_;      // of pieces
  std::map<std::vector<I>, Found> searched_;        // of blocks

  // What was looked at on the way to the answer, not what was searched in vain.
  const Found& count(Found& f) {
    stats_.blocks += !f.counted;
    f.counted = true;
    count(f.used);
    return f;
  }
  void count(const std::vector<Simulation*>& used) {
    for (Simulation* s : used) {
      stats_.simulations += !s->counted;
      s->counted = true;
    }
  }

  // What decides the timing of these stages; empty where a stage has no twin.
  static std::vector<I> key_of(std::span<const StageShape> stages) {
    std::vector<I> key;
    for (const StageShape& s : stages) {
      const auto t = plan::twin_of(s);
      if (!t) return {};
      key.insert(key.end(), {static_cast<I>(s.kind), s.in[0], s.in[1], s.in_port[0], s.in_port[1], s.serial, static_cast<I>(t->pipe), s.beats_out});
      key.insert(key.end(), t->limit.begin(), t->limit.end());
      if (t->mask) {
        I word = 1;  // a one in front of at most 62 bits
        for (const bool keep : *t->mask) {
          word = word << 1 | static_cast<I>(keep);
          if (word >> 62) key.push_back(std::exchange(word, 1));
        }
        key.push_back(word);
      }
    }
    return key;
  }
  Rate rate_of(std::span<const StageShape> stages) {
    std::vector<Simulation*> used;
    const Rate r = rate_of(stages, used);
    count(used);
    return r;
  }
  Rate rate_of(std::span<const StageShape> stages, std::vector<Simulation*>& used) {
    Rate slowest{0, 1};
    for (const auto& piece : pieces(stages)) {
      const std::vector<I> key = key_of(piece);
      auto known = [&]() -> Simulation* {
        const std::lock_guard lock(mutex_);
        const auto it = rates_.find(key);
        return it == rates_.end() ? nullptr : &it->second;
      };
      Simulation* s = known();
      if (!s) {
        const Rate r = steady_rate(piece);
        const std::lock_guard lock(mutex_);
        s = &rates_.try_emplace(key, Simulation{r}).first->second;
      }
      used.push_back(s);
      if (!s->rate.known || s->rate.frames == 0) return s->rate;
      if (s->rate.slower(slowest)) slowest = s->rate;
    }
    return slowest;
  }
  std::size_t reader(std::size_t queue) const {
    for (std::size_t i = queue + 1;; ++i)
      if (s_[i].in[0] == static_cast<int>(queue) || s_[i].in[1] == static_cast<int>(queue)) return i;
  }

  // The least d >= from whose rate is the target: between one that is too slow and one that is not, where the rates of the last two that
  // are too slow point.
  template <class F>
  static I least(I from, Rate target, F rate) {
    I slow = from - 1, enough = kUnlimited, step = 1 + from / 32, passed = 0;
    struct Point {
      I depth = 0;
      double cycles = 0;
    } last, before;
    while (enough - slow > 1) {
      I d = slow < from ? from : enough < kUnlimited ? slow + (enough - slow) / 2 : slow + step;
      if (slow > from && before.cycles > last.cycles) {
        const double most = static_cast<double>(target.cycles) / static_cast<double>(target.frames);
        const double more = (last.cycles - most) * static_cast<double>(last.depth - before.depth) / (before.cycles - last.cycles);
        if (passed < 3 && more < 1e12) d = last.depth + static_cast<I>(std::ceil(more));
      }
      d = std::clamp(d, slow + 1, enough - 1);
      const Rate r = rate(d);
      if (r.known && !r.slower(target)) {
        enough = d;
        ++passed;
      } else {
        step *= slow < from ? 1 : 2;
        slow = d;
        before = last;
        last = {d, r.known && r.frames > 0 ? static_cast<double>(r.cycles) / static_cast<double>(r.frames) : 0.0};
      }
    }
    return enough;
  }

  static std::vector<I> key_of(const Block& b) {
    std::vector<I> key = key_of(b.stages);
    key.insert(key.end(), {static_cast<I>(b.queue[0]), b.least[0], b.least[1]});
    return key;
  }
  // Whether all of them could be stepped; after one that cannot no more are begun.
  bool search_all(std::span<const Block> blocks, Rate target) {
    std::map<std::vector<I>, const Block*> different;
    std::vector<const Block*> todo;
    for (const Block& b : blocks)
      if (const std::vector<I> key = key_of(b); !searched_.contains(key) && different.emplace(key, &b).second) todo.push_back(&b);
    std::atomic<bool> all = true;
    parallel_for(static_cast<I>(todo.size()), 1, [&](I i) {
      if (all && !search(*todo[static_cast<std::size_t>(i)], target).depths) all = false;
    });
    return all;
  }
  Found& search(const Block& b, Rate target) {
    const std::vector<I> key = key_of(b);
    {
      const std::lock_guard lock(mutex_);
      if (const auto it = searched_.find(key); it != searched_.end()) return it->second;
    }
    Found f;
    f.depths = least_depths(b, target, f.used);
    const std::lock_guard lock(mutex_);
    return searched_.try_emplace(key, std::move(f)).first->second;
  }
  std::optional<Depths> least_depths(Block b, Rate target, std::vector<Simulation*>& used) {
    auto depth = [&](std::size_t k) -> I& { return b.stages[b.queue[k]].depth; };
    auto from = [&](std::size_t k) {
      // One place takes a beat every other cycle.
      const bool two = 2 * b.stages[b.queue[k]].beats_in * target.frames > target.cycles;
      return std::max<I>(b.least[k], two ? 2 : 1);
    };
    for (std::size_t k : {0u, 1u}) depth(k) = from(k);
    if (const Rate r = rate_of(b.stages, used); r.known && !r.slower(target)) return Depths{depth(0), depth(1)};
    depth(0) = depth(1) = kUnlimited;
    const Rate free = rate_of(b.stages, used);
    if (!free.known || free.frames == 0) return std::nullopt;
    if (free.slower(target)) target = free;
    for (std::size_t k : {0u, 1u})
      depth(k) = least(from(k), target, [&](I d) {
        depth(k) = d;
        return rate_of(b.stages, used);
      });
    return Depths{depth(0), depth(1)};
  }
};

}  // namespace

Rate steady_rate(std::span<const StageShape> stages) {
  Rate slowest{0, 1};
  for (const auto& piece : pieces(stages)) {
    const plan::Timing t = plan::simulate(piece);
    const Rate r{t.repeat_cycles, t.repeat_frames, t.known};
    if (!t.steady()) return r;
    if (r.slower(slowest)) slowest = r;
  }
  return slowest;
}

std::vector<std::size_t> join_queues(std::span<const StageShape> stages) {
  std::vector<std::size_t> r;
  for (const StageShape& s : stages)
    if (is_join(s) && stages[idx(s.in[0])].kind == StageKind::fifo && stages[idx(s.in[1])].kind == StageKind::fifo) r.insert(r.end(), {idx(s.in[0]), idx(s.in[1])});
  return r;
}

std::vector<std::int64_t> queue_bounds(std::span<const StageShape> stages) {
  const std::vector<int> by = dominators(stages);
  std::vector<I> r;
  for (const StageShape& join : stages) {
    if (!is_join(join) || stages[idx(join.in[0])].kind != StageKind::fifo || stages[idx(join.in[1])].kind != StageKind::fifo) continue;
    const int fork = by[static_cast<std::size_t>(&join - stages.data())];
    for (std::size_t k = 0; k < 2; ++k) {
      I least = 1;
      const bool both = join.kind == StageKind::add || join.kind == StageKind::product;  // one beat of each at a time
      if (both && stages[idx(join.in[k])].in[0] == fork) {  // nothing but the queue on this side
        I m = 1;
        int i = join.in[1 - k];
        for (; m > 0 && i != fork; i = stages[idx(i)].in[0]) m = is_join(stages[idx(i)]) ? 0 : inputs_for(stages[idx(i)], m);
        // Beside the memory one beat waits in the queue's output register, one is still offered by the fork.
        if (i == fork) least = std::max<I>(1, m - 2);
      }
      r.push_back(least);
    }
  }
  return r;
}

namespace {
// The stages that a stage reads from, itself included.
std::vector<bool> above(std::span<const StageShape> s, int stage) {
  std::vector<bool> seen(s.size());
  std::vector<int> todo{stage};
  while (!todo.empty()) {
    const int i = todo.back();
    todo.pop_back();
    if (i < 0 || seen[idx(i)]) continue;
    seen[idx(i)] = true;
    for (int j : s[idx(i)].in) todo.push_back(j);
  }
  return seen;
}
// Registers of a stage that gaps can fill; those of the others keep every beat.
std::int64_t registers_of(const StageShape& s) {
  using plan::StageKind;
  for (StageKind k : {StageKind::fifo, StageKind::skid, StageKind::fork, StageKind::convert, StageKind::pad, StageKind::window, StageKind::replay})
    if (s.kind == k) return 0;
  return stage_def(s.kind).pipeline(s);
}
// Beats on top of the queue of each operand of a join.
std::array<std::int64_t, 2> room_for_gaps(std::span<const StageShape> s, const StageShape& join) {
  const std::array<std::vector<bool>, 2> up{above(s, join.in[0]), above(s, join.in[1])};
  std::array<std::int64_t, 2> room{0, 0};
  const bool turns = join.kind == plan::StageKind::concat;  // it reads nothing of one while the other's run comes
  std::array<bool, 2> holds{turns, turns};
  for (std::size_t k : {0u, 1u})
    for (std::size_t i = 0; i < s.size(); ++i) {
      if (!up[k][i] || up[1 - k][i]) continue;
      holds[k] = holds[k] || stage_def(s[i].kind).needs(s[i]) != 1;
      const std::int64_t beats = s[idx(join.in[k])].beats_in, own = std::max<std::int64_t>(1, s[i].beats_out);
      room[k] += (registers_of(s[i]) * beats + own - 1) / own;
    }
  return {holds[1] ? room[0] : 0, holds[0] ? room[1] : 0};
}
}  // namespace

void size_queues(const plan::StageGraph& g, plan::Folding& f, QueueStats* stats, Room room) {
  QueueStats none;
  QueueStats& st = stats ? *stats : none;
  plan::Folding sized = f;
  for (plan::Fold& x : sized.of) x.queues.clear();
  std::vector<StageShape> s;
  expand(g, sized, s);
  if (join_queues(s).empty() || !Sizer(s, st).run()) {
    f = sized;
    return;
  }
  for (const StageShape& x : s)
    if (is_join(x) && x.layer >= 0) {
      const std::array<std::int64_t, 2> more = room == Room::least ? std::array<std::int64_t, 2>{} : room_for_gaps(s, x);
      sized.of[idx(x.layer)].queues = {s[idx(x.in[0])].depth + more[0], s[idx(x.in[1])].depth + more[1]};
    }
  f = sized;
}

}  // namespace tandem::map
