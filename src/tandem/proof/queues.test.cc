// Queues in front of joins: of random residual and branching networks, at random foldings, the computed depths run at the rate
// of unlimited queues, and one beat less in any of them does not. In the twins for all, in Verilator for some.
#include "tandem/map/queues.h"

#include <gtest/gtest.h>

#include "tandem/base/rng.h"
#include "tandem/exec/exec.h"
#include "tandem/ir/op.h"
#include "tandem/ir/random_graph.h"
#include "tandem/plan/timing.h"
#include "tandem/proof/verify.h"

namespace tandem {
namespace {
using I = std::int64_t;
using namespace ir;

struct Residual {
  Graph g;
  Rng r;
  explicit Residual(std::uint64_t seed) : r(seed, "residual") {}

  ValueId c(Shape s, float v) { return g.add_constant(g.unique_name("c"), Tensor::of<float>(s, std::vector<float>(static_cast<std::size_t>(element_count(s)), v))); }
  ValueId quant(ValueId x, float s, float bits, I sign) { return g.add_node("Quant", {x, c({}, s), c({}, 0), c({}, bits)}, {{"signed", sign}}, "", "qonnx.custom_op.general"); }
  ValueId conv(ValueId x, I in, I out, I k) {
    std::vector<float> w(static_cast<std::size_t>(out * in * k * k));
    for (float& v : w) v = static_cast<float>(r.range(-1, 1));
    const ValueId q = quant(g.add_constant(g.unique_name("w"), Tensor::of<float>({out, in, k, k}, w)), 1, 2, 1);
    const std::map<std::string, Attribute> pads{{"pads", std::vector<I>(4, k / 2)}};
    return quant(g.add_node("Conv", {x, q}, pads), 2, 3, 1);
  }
  // Convolutions one after the other.
  ValueId branch(ValueId x, I channels, I length) {
    for (I i = 0; i < length; ++i) x = conv(x, channels, channels, r.chance(0.7) ? 3 : 1);
    return x;
  }
  ValueId block(ValueId x, I channels, int deep) {
    const ValueId a = deep > 0 && r.chance(0.4) ? block(x, channels, deep - 1) : branch(x, channels, r.range(1, 2));
    const ValueId b = branch(x, channels, r.chance(0.6) ? 0 : 1);
    const ValueId y = quant(r.chance(0.5) ? g.add_node("Add", {a, b}) : g.add_node("Add", {b, a}), 1, 3, 1);
    return r.chance(0.3) ? branch(y, channels, 1) : y;
  }
};
plan::StageGraph residual(std::uint64_t seed, ExactProgram* program = nullptr) {
  Residual n(seed);
  const I channels = n.r.range(1, 4), h = n.r.range(3, 7), w = n.r.range(3, 7);
  ValueId x = n.quant(n.g.add_input("x", DType::f32, {Dim(1), Dim(channels), Dim(h), Dim(w)}), 1, 3, 1);
  if (n.r.chance(0.5)) x = n.branch(x, channels, 1);
  for (I i = n.r.range(1, 3); i-- > 0;) x = n.block(x, channels, 1);
  n.g.outputs = {x};
  infer_shapes(n.g);
  ExactProgram p = lower_exact(n.g, 64);
  plan::StageGraph s = plan::stages_from(p, "residual");
  if (program) *program = std::move(p);
  return s;
}
plan::Folding random_folding(const plan::StageGraph& g, std::uint64_t seed) {
  Rng r(seed, "folding");
  plan::Folding f = plan::smallest_folding(g);
  auto divisor = [&](I n) {
    std::vector<I> d;
    for (I i = 1; i <= n; ++i)
      if (n % i == 0) d.push_back(i);
    return r.pick(d);
  };
  for (std::size_t i = 0; i < g.layers.size(); ++i)
    if (const plan::Layer& l = g.layers[i]; l.kind == plan::LayerKind::dense) f.of[i].pe = divisor(l.mh), f.of[i].simd = divisor(l.window ? l.window->c : l.mw);
  return f;
}

using map::Rate;
Rate rate_of(const std::vector<plan::StageShape>& s) {
  const Rate r = map::steady_rate(s);
  EXPECT_TRUE(r.known);
  return r;
}

TEST(MapQueues, FullRateAndNotABeatMore) {
  I queues = 0, deeper_than_bound = 0, bounds = 0, shrunk = 0, deadlocks = 0, repaired = 0;
  for (std::uint64_t seed = 0; seed < 150; ++seed) {
    const plan::StageGraph g = residual(seed);
    plan::Folding f = random_folding(g, seed);
    map::QueueStats stats;
    map::size_queues(g, f, &stats, map::Room::least);
    repaired += !stats.whole;
    std::vector<plan::StageShape> s;
    expand(g, f, s);
    const auto at = map::join_queues(s);
    ASSERT_EQ(static_cast<I>(at.size()), stats.queues);
    const auto bound = map::queue_bounds(s);
    const Rate rate = rate_of(s);
    const plan::Timing slow = plan::simulate_cycles(s), fast = plan::simulate(s);
    EXPECT_EQ(fast.repeat_cycles * slow.repeat_frames, slow.repeat_cycles * fast.repeat_frames) << "seed " << seed;
    EXPECT_EQ(fast.first_out, slow.first_out) << "seed " << seed;
    for (I frame = 0; frame < 20; ++frame) EXPECT_EQ(fast.end(frame), slow.end(frame)) << "seed " << seed << ", frame " << frame;
    std::vector<plan::StageShape> free = s;
    for (std::size_t q : at) free[q].depth = map::kUnlimited;
    EXPECT_FALSE(rate.slower(rate_of(free))) << "seed " << seed;
    for (std::size_t q = 0; q < at.size(); ++q) {
      const I depth = s[at[q]].depth;
      ++queues;
      EXPECT_GE(depth, bound[q]) << "seed " << seed << ", queue " << q;
      bounds += bound[q] > 1;
      deeper_than_bound += depth > bound[q];
      if (depth == 1) continue;
      std::vector<plan::StageShape> less = s;
      --less[at[q]].depth;
      const Rate slow = rate_of(less);
      EXPECT_TRUE(slow.slower(rate)) << "seed " << seed << ", queue " << q << " of depth " << depth;
      ++shrunk;
      // Below the closed form the design stands still.
      if (bound[q] < 2) continue;
      less[at[q]].depth = bound[q] - 1;
      EXPECT_EQ(rate_of(less).frames, 0) << "seed " << seed << ", queue " << q << ", closed form " << bound[q];
      ++deadlocks;
    }
    EXPECT_EQ(plan::folding_from_json(g, plan::to_json(g, f)), f);
  }
  EXPECT_GT(shrunk, 200);
  EXPECT_GT(deadlocks, 50);
  RecordProperty("queues", static_cast<int>(queues));
  fmt::print("{} queues, {} of more than one beat and minimal; closed form above one beat for {}, exceeded by {}; {} designs needed the whole\n", queues, shrunk, bounds, deeper_than_bound, repaired);
}

// A shortcut that leaves every second row out: its window holds the rows of a step while those of the next come in. With one row less
// the stage before the fork, which is busy all the time, would wait.
TEST(MapQueues, AShortcutThatSkipsRowsHoldsThemAll) {
  Residual n(1);
  auto conv = [&](ValueId x, I in, I out, I k, I stride) {
    std::vector<float> w(static_cast<std::size_t>(out * in * k * k), 1.0f);
    const ValueId q = n.quant(n.g.add_constant(n.g.unique_name("w"), Tensor::of<float>({out, in, k, k}, w)), 1, 2, 1);
    return n.quant(n.g.add_node("Conv", {x, q}, {{"pads", std::vector<I>(4, k / 2)}, {"strides", std::vector<I>{stride, stride}}}), 2, 3, 1);
  };
  const ValueId x = conv(n.quant(n.g.add_input("x", DType::f32, {Dim(1), Dim(8), Dim(8), Dim(64)}), 1, 3, 1), 8, 8, 3, 1);
  n.g.outputs = {n.quant(n.g.add_node("Add", {conv(conv(x, 8, 16, 3, 2), 16, 16, 3, 1), conv(x, 8, 16, 1, 2)}), 1, 3, 1)};
  infer_shapes(n.g);
  const plan::StageGraph g = plan::stages_from(lower_exact(n.g, 64), "shortcut");
  plan::Folding f = plan::smallest_folding(g);
  for (std::size_t i = 0; i < g.layers.size(); ++i)  // as many cycles each; the shortcut takes fewer
    if (const plan::Layer& l = g.layers[i]; l.kind == plan::LayerKind::dense) f.of[i].simd = l.mw == 72 ? (l.mh == 8 ? 4 : 2) : l.mw == 144 ? 4 : 1;
  map::size_queues(g, f, nullptr, map::Room::least);
  std::vector<plan::StageShape> s;
  expand(g, f, s);
  const Rate rate = rate_of(s);
  EXPECT_EQ(rate.cycles, 73728 * rate.frames);  // of its slowest stages
  for (plan::StageShape& t : s)
    if (t.kind == plan::StageKind::window && t.kh < t.sh) {
      EXPECT_EQ(t.rows, 4);
      t.rows = 3;
    }
  EXPECT_TRUE(rate_of(s).slower(rate));
}

// Two blocks that differ in nothing but which half of the channels comes first to each operand.
TEST(MapQueues, HalvesOfAStreamAreNotMixedUp) {
  Residual n(1);
  auto ints = [&](std::vector<I> v) { return n.g.add_constant(n.g.unique_name("i"), Tensor::of<I>({static_cast<I>(v.size())}, v)); };
  auto half = [&](ValueId x, I from) { return n.g.add_node("Slice", {x, ints({from}), ints({from + 4}), ints({1})}); };
  ValueId x = n.quant(n.g.add_input("x", DType::f32, {Dim(1), Dim(4), Dim(6), Dim(6)}), 1, 3, 1);
  for (const I first : {0, 4}) {
    const ValueId both = n.conv(x, 4, 8, 3);
    x = n.quant(n.g.add_node("Add", {half(both, first), half(both, 4 - first)}), 1, 3, 1);
  }
  n.g.outputs = {x};
  infer_shapes(n.g);
  const plan::StageGraph g = plan::stages_from(lower_exact(n.g, 64), "halves");
  plan::Folding f = plan::smallest_folding(g);
  map::QueueStats stats;
  map::size_queues(g, f, &stats, map::Room::least);
  std::vector<plan::StageShape> s;
  expand(g, f, s);
  const auto at = map::join_queues(s);
  ASSERT_EQ(at.size(), 4u);
  EXPECT_TRUE(stats.whole);
  EXPECT_GT(s[at[0]].depth, s[at[1]].depth);
  EXPECT_EQ(s[at[0]].depth, s[at[3]].depth);
  EXPECT_EQ(s[at[1]].depth, s[at[2]].depth);
}

// Whatever stands still for a while, a design goes on: random networks with queues that have room for gaps, every stream held back at
// random, then one after the other for long. Of the least queues some stand still for ever, which shows that this would be seen.
TEST(MapQueues, StallsDoNotStopADesign) {
  I designs = 0, frames = 0, least_stuck = 0;
  const I networks = std::getenv("TANDEM_FULL") ? 2000 : 150;
  for (std::uint64_t seed = 0; static_cast<I>(seed) < networks; ++seed) {
    plan::StageGraph g;
    try {
      g = plan::stages_from(lower_exact(random_graph({.max_layers = 5, .streaming = true, .moves = true}, seed).graph, 64), "stalled");
    } catch (const Error& e) {
      ASSERT_EQ(e.code(), Exit::no) << e.message();
      continue;  // hardware refuses it
    }
    Rng r(seed, "stalls");
    const plan::Folding folding = random_folding(g, seed);
    const bool bare = r.chance(0.2);  // queues of a frame
    for (const map::Room room : {map::Room::for_gaps, map::Room::least}) {
      plan::Folding f = folding;
      if (!bare) map::size_queues(g, f, nullptr, room);
      std::vector<plan::StageShape> s;
      expand(g, f, s);
      if (map::join_queues(s).empty()) break;
      bool stuck = false;
      for (int way = 0; way < 3 && !stuck; ++way) {
        const double share = r.chance(0.5) ? 0.5 : 0.1;
        const I longest = I(1) << r.range(1, 9);
        const std::uint64_t salt = static_cast<std::uint64_t>(r.range(0, 1 << 30));
        auto random = [&](std::uint64_t a, std::uint64_t b) {
          std::uint64_t h = (a * 0x9e3779b97f4a7c15ull ^ b) * 0xbf58476d1ce4e5b9ull ^ salt * 0x94d049bb133111ebull;
          h = (h ^ h >> 31) * 0xd6e8feb86659fd93ull;
          return h ^ h >> 32;
        };
        plan::TimingOptions o{.frames = 3, .steps = 500'000};
        o.shut = [&](std::size_t stage, I cycle) -> std::uint64_t {
          if (way == 0) return (random(stage, static_cast<std::uint64_t>(cycle)) % 1000 < share * 1000 ? 1 : 0) | (random(stage + 1000, static_cast<std::uint64_t>(cycle)) % 1000 < share * 1000 ? 2 : 0);
          const std::uint64_t turn = random(7, static_cast<std::uint64_t>(cycle / longest));  // one stream at a time
          return turn % (s.size() + 1) == stage ? 1 + (turn >> 40) % 3 : 0;
        };
        const plan::Timing t = plan::simulate(s, o);
        if (!t.known) break;  // too slow to wait for, or a stage without a twin
        stuck = t.deadlock;
        frames += static_cast<I>(t.ends.size());
      }
      if (room == map::Room::least) least_stuck += stuck;
      else EXPECT_FALSE(stuck) << "seed " << seed << (bare ? ", queues of a frame" : "");
      ++designs;
      if (bare) break;
    }
  }
  fmt::print("{} designs, {} frames; with the least queues {} stand still\n", designs, frames, least_stuck);
  EXPECT_GT(designs, 50);
  EXPECT_GT(least_stuck, 0);
}

// The same in Verilator: as computed, and with one beat less in one queue.
TEST(RtlQueues, FullRateAndNotABeatMore) {
  std::vector<rtl::Design> designs;
  std::vector<proof::Stimulus> stimuli;
  std::vector<Rate> free;
  std::vector<bool> shrunk;
  for (std::uint64_t seed = 1000; designs.size() < 6; ++seed) {
    ExactProgram p;
    const plan::StageGraph g = residual(seed, &p);
    plan::Folding f = random_folding(g, seed);
    map::size_queues(g, f, nullptr, map::Room::least);
    std::vector<plan::StageShape> s;
    expand(g, f, s);
    for (std::size_t q : map::join_queues(s)) s[q].depth = map::kUnlimited;
    proof::Stimulus st;
    exec::Executor x(p);
    Rng r(seed, "frames");
    for (int frame = 0; frame < 14; ++frame) {
      Tensor t(DType::f32, p.buffers[static_cast<std::size_t>(p.inputs[0].buffer)].shape);
      for (I i = 0; i < t.size(); ++i) t.set(i, static_cast<double>(r.range(-4, 3)));
      x.run({t});
      for (auto [v, b, to] : {std::tuple(&g.input, g.input_buffer, &st.in), std::tuple(&g.output, g.output_buffer, &st.expected)}) {
        const std::vector<I> n = x.integers(b);
        const std::vector<I> y = plan::to_stream(*v, std::vector<Int128>(n.begin(), n.end()).data());
        to->insert(to->end(), y.begin(), y.end());
      }
    }
    auto add = [&](const plan::Folding& of, bool less) {
      designs.push_back(rtl::generate(g, of, fmt::format("q{}", designs.size())));
      stimuli.push_back(st);
      free.push_back(rate_of(s));
      shrunk.push_back(less);
    };
    add(f, false);
    for (plan::Fold& x : f.of) {
      const auto most = std::max_element(x.queues.begin(), x.queues.end());
      if (x.queues.empty() || *most == 1) continue;
      --*most;
      add(f, true);
      break;
    }
  }
  const auto results = proof::verify(designs, stimuli, {.stalls = {0.5}});
  for (std::size_t i = 0; i < results.size(); ++i) {
    const proof::VerifyResult& v = results[i];
    EXPECT_TRUE(v.predicted.known);
    EXPECT_EQ(v.mismatches, 0) << i;
    const double best = static_cast<double>(free[i].cycles) / static_cast<double>(free[i].frames);
    if (!shrunk[i]) {
      EXPECT_TRUE(v.ok) << i << ": " << v.text();
      EXPECT_EQ(v.interval, best) << i;
    } else if (v.ok) {
      EXPECT_GT(v.interval, best) << i;
    } else {
      EXPECT_TRUE(v.predicted.deadlock && v.fault == "no progress: a deadlock") << i << ": " << v.text();
    }
  }
}

}  // namespace
}  // namespace tandem
