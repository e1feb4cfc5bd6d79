#include "tandem/plan/timing.h"

#include <gtest/gtest.h>

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

}  // namespace
}  // namespace tandem::plan
