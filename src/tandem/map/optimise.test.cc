#include "tandem/map/optimise.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>

#include "tandem/base/error.h"
#include "tandem/base/rng.h"
#include "tandem/ir/op.h"
#include "tandem/solve/integer_program.h"

namespace tandem::map {
namespace {
using namespace ir;
using I = std::int64_t;
using plan::LayerKind;
using plan::StageGraph;

template <class T>
const T& pick(Rng& r, const std::vector<T>& of) { return of[static_cast<std::size_t>(r.range(0, static_cast<I>(of.size()) - 1))]; }

struct Maker {
  Graph g;
  Rng r;
  explicit Maker(std::uint64_t seed) : r(seed, "optimise") {}
  ValueId c(Shape s, float v) { return g.add_constant(g.unique_name("c"), Tensor::of<float>(s, std::vector<float>(static_cast<std::size_t>(element_count(s)), v))); }
  ValueId quant(ValueId x, float s, float bits, I sign) { return g.add_node("Quant", {x, c({}, s), c({}, 0), c({}, bits)}, {{"signed", sign}}, "", "qonnx.custom_op.general"); }
  ValueId weights(Shape s, int bits) {
    std::vector<float> w(static_cast<std::size_t>(element_count(s)));
    const I m = I(1) << (bits - 1);
    for (float& v : w) v = static_cast<float>(r.range(-m, m - 1));
    return quant(g.add_constant(g.unique_name("w"), Tensor::of<float>(s, w)), 1, static_cast<float>(bits), 1);
  }
  ValueId conv(ValueId x, I in, I out, I k, int bits) { return g.add_node("Conv", {x, weights({out, in, k, k}, bits)}, {{"pads", std::vector<I>(4, k / 2)}}); }
};
// Dense layers, or convolutions with a join, of random sizes and precisions.
StageGraph net(std::uint64_t seed, I layers, bool narrow = false) {
  Maker m(seed);
  auto size = [&] { return pick(m.r, narrow ? std::vector<I>{2, 3, 4} : std::vector<I>{4, 6, 8, 12, 16}); };
  const int bits = static_cast<int>(m.r.range(2, 6));
  I n = size();
  ValueId x;
  if (m.r.chance(0.5)) {
    x = m.quant(m.g.add_input("x", DType::f32, {Dim(1), Dim(n)}), 1, 4, 0);
    for (I i = 0; i < layers; ++i) {
      const I out = size();
      x = m.g.add_node("MatMul", {x, m.weights({n, out}, bits)});
      if (i + 1 < layers || m.r.chance(0.5)) x = m.quant(x, 4, static_cast<float>(m.r.range(2, 5)), 0);
      n = out;
    }
  } else {
    n = pick(m.r, narrow ? std::vector<I>{2, 3} : std::vector<I>{2, 4, 6});
    x = m.quant(m.g.add_input("x", DType::f32, {Dim(1), Dim(n), Dim(6), Dim(6)}), 1, 4, 0);
    for (I i = 0; i < layers; ++i) {
      const bool join = i > 0 && m.r.chance(0.4);
      const I out = join ? n : pick(m.r, narrow ? std::vector<I>{2, 3} : std::vector<I>{2, 4, 6});
      const ValueId y = m.quant(m.conv(x, n, out, m.r.chance(0.5) ? 3 : 1, bits), 4, 4, 0);
      x = join ? m.quant(m.g.add_node("Add", {y, x}), 1, 4, 0) : y;
      n = out;
    }
  }
  m.g.outputs = {x};
  infer_shapes(m.g);
  return plan::stages_from(lower_exact(m.g, 64), "net");
}
std::vector<I> divisors(I n) {
  std::vector<I> d;
  for (I i = 1; i <= n; ++i)
    if (n % i == 0) d.push_back(i);
  return d;
}
std::vector<plan::Fold> folds(const plan::Layer& l) {
  if (l.kind != LayerKind::dense) return {plan::Fold{}};
  std::vector<plan::Fold> r;
  for (I pe : divisors(l.mh))
    for (I simd : divisors(l.window ? l.window->c : l.mw))
      for (bool logic : {false, true}) r.push_back({pe, simd, plan::Requantiser::automatic, logic, {}});
  return r;
}
plan::Folding random_folding(const StageGraph& g, Rng& r) {
  plan::Folding f = plan::smallest_folding(g);
  for (std::size_t i = 0; i < g.layers.size(); ++i) f.of[i] = pick(r, folds(g.layers[i]));
  return f;
}
double share(const Estimate& e, const Budget& b, bool dsp) { return e.lut4(dsp) / (b.lut4 * b.fill) + e.cost.bram / std::max(1.0, b.bram); }
bool fits(const StageGraph& g, const plan::Folding& f, const Estimate& e, const Budget& b, bool dsp) {
  return e.lut4(dsp) <= b.lut4 * b.fill - b.reserved_lut4 && e.cost.bram <= b.bram && (!dsp || e.cost.dsp <= b.dsp) && (b.multipliers == 0 || multipliers(g, f) <= b.multipliers);
}
// A budget that some foldings keep and some do not.
Budget budget(const StageGraph& g, Rng& r) {
  std::vector<plan::StageShape> s;
  const Estimate low = evaluate(g, plan::smallest_folding(g), s);
  Budget b;
  b.device = "a part";
  b.lut4 = low.cost.lut4 * (1 + 2 * r.uniform()) / b.fill;
  b.bram = std::floor(low.cost.bram * (0.6 + 1.4 * r.uniform()));
  b.dsp = r.chance(0.5) ? static_cast<double>(r.range(1, 8)) : 0;
  if (r.chance(0.3)) b.multipliers = r.range(static_cast<I>(g.layers.size()), 64);
  return b;
}

TEST(MapOptimise, TablesAddUpToTheDesign) {
  std::vector<plan::StageShape> s;
  for (std::uint64_t seed = 0; seed < 200; ++seed) {
    const StageGraph g = net(seed, 1 + static_cast<I>(seed % 4));
    Rng r(seed, "folding");
    plan::Folding f = random_folding(g, r);
    f.interval = evaluate(g, f, s).interval;
    const Estimate a = evaluate(g, f, s), b = by_tables(g, f, plan::ice40_calibration());
    EXPECT_EQ(a.interval, f.interval) << seed;
    EXPECT_EQ(a.interval, b.interval) << seed;
    EXPECT_NEAR(a.cost.lut4, b.cost.lut4, 1e-6) << seed;
    EXPECT_EQ(a.cost.bram, b.cost.bram) << seed;
    EXPECT_EQ(a.cost.dsp, b.cost.dsp) << seed;
  }
}

// All foldings of networks of one or two layers, and of narrow ones of four: the program's throughput is the best there is, its resources
// at an interval the least.
TEST(MapOptimise, ExactEqualsBruteForce) {
  if (!integer_solver_available()) {
    ASSERT_EQ(std::getenv("CI"), nullptr) << "CBC is missing (package coinor-libcbc3), and CI is set";
    GTEST_SKIP() << "CBC is not installed";
  }
  std::vector<plan::StageShape> s;
  int compared = 0, infeasible = 0, of_four = 0;
  for (std::uint64_t seed = 0; seed < 64; ++seed) {
    const bool narrow = seed >= 40;
    const StageGraph g = narrow ? net(seed, 4, true) : net(seed, 1 + static_cast<I>(seed % 2));
    Rng r(seed, "budget");
    const Budget b = budget(g, r);
    std::vector<std::vector<plan::Fold>> choices;
    double count = 1;
    for (const plan::Layer& l : g.layers) {
      choices.push_back(folds(l));
      count *= static_cast<double>(choices.back().size());
    }
    if (count > 20000 || (narrow && of_four == 8)) continue;
    of_four += narrow;
    // Interval -> least share over the foldings that keep within it.
    std::map<I, double> best;
    std::vector<std::size_t> at(choices.size(), 0);
    for (bool more = true; more;) {
      plan::Folding f = plan::smallest_folding(g);
      for (std::size_t i = 0; i < at.size(); ++i) f.of[i] = choices[i][at[i]];
      const I cycles = evaluate(g, f, s).interval;
      f.interval = cycles;
      const Estimate e = evaluate(g, f, s);
      for (bool dsp : {false, true})
        if ((!dsp || (b.dsp > 0 && e.cost.dsp > 0)) && fits(g, f, e, b, dsp)) {
          const auto [it, fresh] = best.try_emplace(cycles, share(e, b, dsp));
          if (!fresh) it->second = std::min(it->second, share(e, b, dsp));
        }
      more = false;
      for (std::size_t i = 0; i < at.size() && !more; ++i) {
        more = ++at[i] < choices[i].size();
        if (!more) at[i] = 0;
      }
    }
    FoldingStats st;
    try {
      const Choice c = optimise_folding(g, b, {.objective = Objective::throughput, .method = Method::exact}, &st);
      ASSERT_FALSE(best.empty()) << seed;
      EXPECT_EQ(c.estimate.interval, best.begin()->first) << seed;
      EXPECT_TRUE(fits(g, c.folding, c.estimate, b, c.uses_dsp)) << seed;
      EXPECT_LE(st.share, best.begin()->second + 1e-9) << seed;
      ++compared;
    } catch (const Error& e) {
      EXPECT_EQ(e.code(), Exit::no) << e.full();
      EXPECT_TRUE(best.empty()) << seed << ": " << e.full();
      ++infeasible;
    }
  }
  EXPECT_GT(compared, 12);
  EXPECT_GT(infeasible, 2);
  EXPECT_EQ(of_four, 8);
}

// Within 2 %, in the interval, or at a given interval in the resources.
TEST(MapOptimise, HeuristicIsClose) {
  if (!integer_solver_available()) {
    ASSERT_EQ(std::getenv("CI"), nullptr) << "CBC is missing (package coinor-libcbc3), and CI is set";
    GTEST_SKIP() << "CBC is not installed";
  }
  double worst = 0, sum = 0;
  int n = 0;
  for (std::uint64_t seed = 100; seed < 140; ++seed) {
    const StageGraph g = net(seed, 2 + static_cast<I>(seed % 4));
    Rng r(seed, "budget");
    const Budget b = budget(g, r);
    FoldingStats fast, exact;
    try {
      const Choice x = optimise_folding(g, b, {.objective = Objective::throughput, .method = Method::exact}, &exact);
      const Choice h = optimise_folding(g, b, {.objective = Objective::throughput, .method = Method::heuristic}, &fast);
      const double gap = static_cast<double>(h.estimate.interval) / static_cast<double>(x.estimate.interval) - 1;
      EXPECT_LE(gap, 0.02) << "seed " << seed << ": " << h.estimate.interval << " and " << x.estimate.interval;
      const I interval = x.estimate.interval * r.range(1, 6);
      optimise_folding(g, b, {.objective = Objective::resource, .method = Method::exact, .interval = interval}, &exact);
      optimise_folding(g, b, {.objective = Objective::resource, .method = Method::heuristic, .interval = interval}, &fast);
      const double more = fast.share / exact.share - 1;
      EXPECT_LE(more, 0.02) << "seed " << seed << ": " << fast.share << " and " << exact.share;
      EXPECT_GE(more, -1e-6) << "seed " << seed;
      worst = std::max({worst, gap, more});
      sum += more;
      ++n;
    } catch (const Error& e) {
      EXPECT_EQ(e.code(), Exit::no) << e.full();
    }
  }
  EXPECT_GT(n, 20);
  fmt::print("{} networks: resources {:.3f} % above the optimum in the mean, the worst figure {:.3f} %\n", n, 100 * sum / n, 100 * worst);
}

// The limits that exclude each other, none of them in vain, and the change that is named makes it possible.
TEST(MapOptimise, SaysWhatConflicts) {
  if (!integer_solver_available()) {
    ASSERT_EQ(std::getenv("CI"), nullptr) << "CBC is missing (package coinor-libcbc3), and CI is set";
    GTEST_SKIP() << "CBC is not installed";
  }
  const StageGraph g = net(4, 3);
  Budget b;
  b.device = "a part";
  b.lut4 = 1e6;
  b.bram = 1000;
  b.dsp = 0;
  const Choice fast = optimise_folding(g, b, {.method = Method::exact});
  b.multipliers = 3;
  const I wish = fast.estimate.interval;
  std::string text;
  try {
    optimise_folding(g, b, {.method = Method::exact, .interval = wish});
    FAIL();
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), Exit::no);
    EXPECT_EQ(e.message(), fmt::format("no folding keeps together {} cycles a frame and 3 multipliers on a part", wish));
    text = e.fix();
  }
  I at = 0, more = 0;
  ASSERT_EQ(std::sscanf(text.c_str(), "it is possible at %ld cycles a frame, or with %ld more multipliers", &at, &more), 2) << text;
  EXPECT_EQ(optimise_folding(g, b, {.method = Method::exact, .interval = at}).estimate.interval, at);
  EXPECT_THROW(optimise_folding(g, b, {.method = Method::exact, .interval = at - 1}), Error);
  b.multipliers += more;
  EXPECT_LE(optimise_folding(g, b, {.method = Method::exact, .interval = wish}).estimate.interval, wish);
  --b.multipliers;
  EXPECT_THROW(optimise_folding(g, b, {.method = Method::exact, .interval = wish}), Error);
}

}  // namespace
}  // namespace tandem::map
