#include "tandem/map/multipliers.h"

#include <gtest/gtest.h>

#include "tandem/base/rng.h"

namespace tandem::map {
namespace {
using I = std::int64_t;
using plan::Multipliers;

// Dense layers one after the other, without requantisers: only their shapes and weights matter here.
plan::StageGraph dense(std::vector<I> widths, int bits, I most, double zeros, std::uint64_t seed) {
  Rng r(seed, "multipliers");
  ir::ExactProgram p;
  auto buffer = [&](I n, Int128 lo, Int128 hi) {
    ir::Buffer b;
    b.name = fmt::format("v{}", p.buffers.size());
    b.shape = {1, n};
    b.lo = lo;
    b.hi = hi;
    p.buffers.push_back(b);
  };
  Int128 hi = (Int128(1) << bits) - 1;
  buffer(widths[0], 0, hi);
  for (std::size_t i = 1; i < widths.size(); ++i) {
    ir::IntMatMul m;
    m.k = widths[i - 1];
    m.m = widths[i];
    for (I k = 0; k < m.k * m.m; ++k) m.weights.push_back(r.chance(zeros) ? 0 : r.range(0, most));
    hi *= most * m.k;
    ir::Step s;
    s.params = m;
    s.in = {static_cast<int>(i) - 1};
    s.out = static_cast<int>(i);
    s.node = fmt::format("layer {}", i);
    p.steps.push_back(s);
    buffer(m.m, 0, hi);
  }
  p.inputs.push_back({"x", 0, DType::f32, true, {}});
  p.outputs.push_back({"y", static_cast<int>(widths.size()) - 1, DType::f32, true, {}});
  return plan::stages_from(p);
}

TEST(MapMultipliers, WithinTheBudgetAndNeverWorseThanPlain) {
  std::vector<plan::StageShape> scratch;
  int packed = 0, logic = 0;
  for (std::uint64_t seed = 0; seed < 30; ++seed) {
    Rng r(seed, "budgets");
    const plan::StageGraph g = dense({16, 24, 8}, 4, 7, 0, seed);
    plan::Folding f = plan::smallest_folding(g);
    f.of[0] = {.pe = I{1} << r.range(0, 3), .simd = I{1} << r.range(0, 4)};
    f.of[1] = {.pe = I{1} << r.range(0, 3), .simd = I{1} << r.range(0, 3)};
    for (plan::Family family : {plan::Family::ice40, plan::Family::xcup})
      for (double dsp : {0.0, 4.0, 30.0, 1000.0}) {
        const Budget b{"a part", 20000, 30, dsp, 0.85, 0, family, 0};
        const MultiplierChoice c = choose_multipliers(g, f, b);
        plan::check_folding(g, c.folding);
        const plan::Calibration& cal = plan::calibration(family);
        const Estimate plain = evaluate(g, f, scratch, cal), chosen = evaluate(g, c.folding, scratch, cal);
        EXPECT_LE(chosen.lut4(c.uses_dsp), plain.lut4(false) + 1e-6) << "seed " << seed << ", " << dsp << " DSPs";
        EXPECT_LE(chosen.interval, plain.interval);
        if (c.uses_dsp) EXPECT_LE(chosen.cost.dsp, dsp);
        for (const plan::Fold& x : c.folding.of) {
          EXPECT_NE(x.multipliers, Multipliers::automatic);
          EXPECT_TRUE(c.uses_dsp || x.multipliers != Multipliers::packed);
          packed += x.multipliers == Multipliers::packed;
          logic += x.multipliers == Multipliers::logic;
        }
      }
  }
  EXPECT_GT(packed, 10);
  EXPECT_GT(logic, 10);
}

TEST(MapMultipliers, SparseUnfoldedLayersBecomeConstants) {
  const plan::StageGraph g = dense({16, 8}, 4, 7, 0.8, 1);
  plan::Folding f = plan::smallest_folding(g);
  f.of[0] = {.pe = 8, .simd = 16};
  const Budget b{"a part", 5000, 30, 8, 0.85, 0, plan::Family::ice40, 0};
  EXPECT_EQ(choose_multipliers(g, f, b).folding.of[0].multipliers, Multipliers::constant);
  f.of[0].multipliers = Multipliers::logic;  // by hand: kept
  EXPECT_EQ(choose_multipliers(g, f, b).folding.of[0].multipliers, Multipliers::logic);
  // Without zeros and a vector in 1024 cycles, one multiplier is less than all the sums.
  const plan::StageGraph full = dense({32, 32}, 4, 7, 0, 1);
  EXPECT_NE(choose_multipliers(full, plan::smallest_folding(full), b).folding.of[0].multipliers, Multipliers::constant);
}

}  // namespace
}  // namespace tandem::map
