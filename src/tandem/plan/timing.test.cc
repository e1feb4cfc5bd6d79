#include "tandem/plan/timing.h"

#include <gtest/gtest.h>

#include "tandem/base/rng.h"

namespace tandem::plan {
namespace {
using I = std::int64_t;

StageShape stage(StageKind k, int from, I beats_in, I beats_out) {
  StageShape s;
  s.kind = k;
  s.in[0] = from;
  s.beats_in = beats_in;
  s.beats_out = beats_out;
  return s;
}

// A matrix-vector unit behind a replay buffer, by hand: 4 beats come in; the buffer offers the first in cycle 5 and
// then one a cycle, the fourth in cycle 8; 3 registers later the first sum is there.
TEST(PlanTiming, KnownByHand) {
  StageShape r = stage(StageKind::replay, -1, 4, 12), m = stage(StageKind::mvau, 0, 12, 3);
  r.mw = m.mw = 4;
  r.mh = m.mh = 3;
  const Timing t = simulate(std::vector<StageShape>{r, m});
  EXPECT_TRUE(t.known && t.steady());
  EXPECT_EQ(t.first_in, 0);
  EXPECT_EQ(t.latency(), 8 + 3);
  EXPECT_EQ(t.interval(), 12);
  EXPECT_EQ(t.end(0), 5 + 11 + 3);
  EXPECT_EQ(t.end(1000), t.end(0) + 12000);
}

// What repeats itself is what stepping on would give.
TEST(PlanTiming, ExtrapolationIsExact) {
  StageShape a = stage(StageKind::skid, -1, 6, 6), b = stage(StageKind::threshold, 0, 6, 6), c = stage(StageKind::convert, 1, 6, 2);
  b.serial = true;
  b.level_bits = 3;
  c.lanes_out = 3;
  const std::vector<StageShape> s{a, b, c};
  const Timing t = simulate(s), long_run = simulate(s, {.frames = 50});
  for (I f = 0; f < 50; ++f) EXPECT_EQ(t.end(f), long_run.end(f)) << f;
  EXPECT_EQ(t.interval(), 18);
}

TEST(PlanTiming, EveryKindHasATwin) {
  for (const StageDef& d : all_stages()) {
    StageShape s;
    s.kind = d.kind;
    EXPECT_TRUE(twin_of(s)) << d.name;
  }
}

// Two copies of a stream, one through a unit that needs four beats before it gives one: a queue of one beat on the
// other side stands still for ever, one of 4 does not.
TEST(PlanTiming, SeesADeadlock) {
  for (I depth : {1, 4}) {
    StageShape f = stage(StageKind::fork, -1, 4, 4), w = stage(StageKind::window, 0, 4, 4), q = stage(StageKind::fifo, 0, 4, 4), a = stage(StageKind::add, 1, 4, 4);
    f.ports_out = 2;
    w.w = 4;
    w.ow = 4;
    w.rows = 2;
    q.in_port[0] = 1;
    q.depth = depth;
    a.in[1] = 2;
    const Timing t = simulate(std::vector<StageShape>{f, w, q, a});
    EXPECT_EQ(t.deadlock, depth == 1);
    EXPECT_EQ(t.steady(), depth != 1);
  }
}

// Chains of random stages, with forks and joins, some of which stand still: by beats as cycle by cycle.
struct Chain {
  Rng r;
  std::vector<StageShape> s;
  I beats;  // of the stream that comes out of the last stage
  bool lengthy;  // hundreds of beats, where short frames leave no room for runs and bursts of them
  explicit Chain(std::uint64_t seed, bool lengthy_frames) : r(seed, "chain"), beats(r.range(1, 24)), lengthy(lengthy_frames) {
    const std::vector<I> some{48, 64, 96, 128, 144, 192, 240, 256};
    if (lengthy) beats = r.pick(some);
  }

  StageShape& add(StageKind k, int from, I out) {
    s.push_back(stage(k, from, beats, out));
    beats = out;
    return s.back();
  }
  void any(int from) {
    std::vector<I> divisors;
    for (I d = 1; d <= (lengthy ? 12 : beats); ++d)
      if (beats % d == 0) divisors.push_back(d);
    const I d = r.pick(divisors), n = beats;
    auto mask = [&](I size, I kept) {
      auto m = std::make_shared<std::vector<bool>>(static_cast<std::size_t>(size));
      for (I i = 0; i < kept; ++i) (*m)[static_cast<std::size_t>(i)] = true;
      for (I i = size - 1; i > 0; --i) {
        const std::size_t a = static_cast<std::size_t>(i), b = static_cast<std::size_t>(r.range(0, i));
        const bool t = (*m)[a];
        (*m)[a] = (*m)[b], (*m)[b] = t;
      }
      return m;
    };
    const std::vector<I> likely{1, 2, 3, 3, 5, 13};
    switch (lengthy && r.chance(0.6) ? r.pick(likely) : r.range(0, 13)) {
      case 0: add(StageKind::skid, from, n); break;
      case 1: add(StageKind::fifo, from, n).depth = r.range(1, 40); break;
      case 2: {
        StageShape& x = add(StageKind::threshold, from, n);
        x.serial = r.chance(0.5), x.level_bits = static_cast<int>(r.range(1, 9));
        break;
      }
      case 3: {
        StageShape& x = add(StageKind::mvau, from, n / d);
        x.mw = d * 4, x.simd = 4, x.pe = x.mh = 1;
        break;
      }
      case 4: {
        const I times = r.range(1, 5);
        StageShape& x = add(StageKind::replay, from, n * times);
        x.mw = d, x.simd = 1, x.mh = times, x.pe = 1;
        break;
      }
      case 5: {
        const I pieces = r.range(2, 5);
        StageShape& x = add(StageKind::convert, from, n * pieces);
        x.lanes_in = pieces, x.lanes_out = 1;
        break;
      }
      case 6: {
        StageShape& x = add(StageKind::convert, from, n / d);
        if (d > 1) x.lanes_in = 1, x.lanes_out = d;
        else x.kind = StageKind::skid;
        break;
      }
      case 7: {  // rows of d beats
        const I top = r.range(0, 1), left = r.range(0, 2), w = d, h = n / d;
        StageShape& x = add(StageKind::pad, from, (h + 2 * top) * (w + left + 1));
        x.h = h, x.w = w, x.kh = top, x.kw = left, x.oh = h + 2 * top, x.ow = w + left + 1;
        break;
      }
      case 8: {
        const I w = d, h = n / d, k = r.range(1, std::min<I>(3, std::min(w, h))), stride = r.range(1, 2), reps = r.range(1, 3);
        const I oh = (h - k) / stride + 1, ow = (w - k) / stride + 1;
        StageShape& x = add(StageKind::window, from, oh * ow * k * k * reps);
        x.h = h, x.w = w, x.kh = x.kw = k, x.sh = x.sw = stride, x.oh = oh, x.ow = ow, x.reps = reps;
        const I least = std::max(k + stride, h - (oh - 1) * stride);
        x.rows = r.range(std::max(least, oh == 1 ? h : 0), least + h);
        break;
      }
      case 9: {
        StageShape& x = add(StageKind::total, from, d);
        x.c = d;
        break;
      }
      case 10: {
        const I kept = r.range(1, n);
        add(StageKind::select, from, kept).keep = mask(n, kept);
        break;
      }
      case 11: {
        const I all = n + r.range(0, 6);
        add(StageKind::insert, from, all).keep = mask(all, n);
        break;
      }
      case 12: add(StageKind::reorder, from, r.range(1, 2 * n)); break;
      case 13: add(StageKind::rescale, from, n).serial = r.chance(0.3); break;
    }
  }
  int last() const { return static_cast<int>(s.size()) - 1; }
  // Two ways from a fork to a join, of which one may hold a few beats only.
  void diamond(int from) {
    const I n = beats;
    const int f = static_cast<int>(s.size());
    add(StageKind::fork, from, n).ports_out = 2;
    auto way = [&](std::uint8_t port) {
      beats = n;
      if (lengthy && r.chance(0.7)) {  // bursts of `pieces` beats, one every times * pieces cycles
        std::vector<I> parts, vectors;
        for (I d : {1, 2, 3, 4, 8})
          if (n % d == 0) parts.push_back(d);
        for (I d = 1; d <= 96; ++d)
          if (n % d == 0) vectors.push_back(d);
        const I pieces = r.pick(parts), times = r.range(1, 3);
        const std::size_t at = s.size();
        if (times > 1) {
          StageShape& x = add(StageKind::replay, f, n * times);
          x.mw = r.pick(vectors), x.simd = 1, x.mh = times, x.pe = 1;
        }
        if (times * pieces > 1) {
          StageShape& x = add(StageKind::mvau, times > 1 ? last() : f, n / pieces);
          x.mw = times * pieces * 4, x.simd = 4, x.pe = x.mh = 1;
        }
        if (r.chance(0.5) || s.size() == at) add(r.chance(0.7) ? StageKind::affine : StageKind::skid, s.size() == at ? f : last(), n / pieces);
        if (pieces > 1) {
          StageShape& x = add(StageKind::convert, last(), n);
          x.lanes_in = pieces, x.lanes_out = 1;
        }
        add(StageKind::fifo, last(), n).depth = r.chance(0.3) ? 1 : r.range(1, 60);
        s[at].in_port[0] = port;
        return last();
      }
      for (I i = r.range(0, 3), at = f; i >= 0; --i) {
        const bool narrow = r.chance(0.3);
        StageShape& x = add(i == 0 ? StageKind::fifo : narrow ? StageKind::threshold : StageKind::affine, static_cast<int>(at), n);
        if (at == f) x.in_port[0] = port;
        x.depth = r.range(1, lengthy ? 60 : 12);
        x.serial = narrow && r.chance(0.5), x.level_bits = static_cast<int>(r.range(1, 6));
        at = last();
      }
      return last();
    };
    const int a = way(0), b = way(1);
    const I turns = r.range(1, n);
    if (r.chance(0.3) && n % turns == 0) {
      StageShape& x = add(StageKind::concat, a, 2 * n);
      x.in[1] = b, x.mw = x.mh = turns;
    } else {
      add(r.chance(0.5) ? StageKind::add : StageKind::product, a, n).in[1] = b;
    }
  }
};

TEST(PlanTiming, ByBeatsAsCycleByCycle) {
  I steady = 0, stuck = 0, unknown = 0, longer = 0;
  std::vector<std::uint64_t> seeds(10000);
  for (std::size_t i = 0; i < seeds.size(); ++i) seeds[i] = i;
  // Frames of which 45 differ before they repeat; a design that stands still before anything enters it.
  seeds.insert(seeds.end(), {39409, 39628});
  for (const std::uint64_t seed : seeds) {
    Chain c(seed, seed >= 6000 && seed < 10000);
    for (I i = c.r.range(1, 9); i-- > 0;) {
      if (c.beats > (c.lengthy ? 1000 : 300)) break;
      if (c.r.chance(c.lengthy ? 0.4 : 0.25)) c.diamond(c.last());
      else c.any(c.last());
    }
    const Timing slow = simulate_cycles(c.s, {.steps = 3'000'000}), fast = simulate(c.s, {.steps = 300'000'000});
    if (!slow.known) {
      ++unknown;
      continue;
    }
    ASSERT_EQ(fast.known, slow.known) << seed;
    ASSERT_EQ(fast.deadlock, slow.deadlock) << seed;
    EXPECT_EQ(fast.first_in, slow.first_in) << seed;
    stuck += slow.deadlock;
    if (slow.deadlock) continue;
    ASSERT_TRUE(fast.steady()) << seed;
    EXPECT_EQ(fast.first_out, slow.first_out) << seed;
    EXPECT_EQ(fast.repeat_cycles * slow.repeat_frames, slow.repeat_cycles * fast.repeat_frames) << seed;
    for (I f = 0; f < 40; ++f) ASSERT_EQ(fast.end(f), slow.end(f)) << seed << ", frame " << f;
    ++steady;
    longer += slow.repeat_frames > 1;
  }
  fmt::print("{} steady ({} of more than one frame), {} stand still, {} too long\n", steady, longer, stuck, unknown);
  EXPECT_GT(steady, 4000);
  EXPECT_GT(stuck, 50);
  EXPECT_GT(longer, 20);
  EXPECT_LT(unknown, 300);
}

}  // namespace
}  // namespace tandem::plan
