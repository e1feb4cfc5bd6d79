#include "tandem/map/folding.h"

#include <gtest/gtest.h>

#include "tandem/base/error.h"
#include "tandem/base/rng.h"
#include "tandem/ir/op.h"

namespace tandem::map {
namespace {
using namespace ir;

// Dense layers of 2-bit codes and weights: `widths` from input to output.
plan::StageGraph dense(const std::vector<std::int64_t>& widths, std::uint64_t seed) {
  Graph g;
  Rng r(seed, "dense");
  auto c = [&](Shape s, float v) { return g.add_constant(g.unique_name("c"), Tensor::of<float>(s, std::vector<float>(static_cast<std::size_t>(element_count(s)), v))); };
  auto quant = [&](ValueId x, float s, float bits, std::int64_t sign) {
    return g.add_node("Quant", {x, c({}, s), c({}, 0), c({}, bits)}, {{"signed", sign}}, "", "qonnx.custom_op.general");
  };
  ValueId x = quant(g.add_input("x", DType::f32, {Dim(1), Dim(widths[0])}), 1, 2, 0);
  for (std::size_t i = 1; i < widths.size(); ++i) {
    std::vector<float> w(static_cast<std::size_t>(widths[i - 1] * widths[i]));
    for (float& v : w) v = static_cast<float>(r.range(-2, 1));
    x = g.add_node("MatMul", {x, quant(g.add_constant(g.unique_name("w"), Tensor::of<float>({widths[i - 1], widths[i]}, w)), 1, 2, 1)});
    if (i + 1 < widths.size()) x = quant(x, 4, 2, 0);
  }
  g.outputs = {x};
  infer_shapes(g);
  return plan::stages_from(lower_exact(g, 64), "dense");
}

TEST(MapFolding, WeightsGoToLogicWhereBlocksRunOut) {
  std::vector<plan::StageShape> scratch;
  std::size_t moved = 0;
  for (std::uint64_t seed = 0; seed < 12; ++seed) {
    Rng r(seed, "budget");
    std::vector<std::int64_t> widths{std::int64_t{32} << r.range(0, 2)};
    for (std::int64_t i = r.range(2, 4); i-- > 0;) widths.push_back(std::int64_t{16} << r.range(0, 2));
    const plan::StageGraph g = dense(widths, seed);
    Budget b{"a part", 6000, 40, 0, 0.85, 250, plan::Family::ice40, 0};
    const Choice all = choose_folding(g, b, 1 << 20);  // slow: nothing is unfolded for speed
    for (b.bram = all.estimate.cost.bram - 1; b.bram >= 0; --b.bram) {
      // Every subset of layers at the folds of the fully folded design.
      bool possible = false;
      std::vector<std::size_t> layers;
      for (std::size_t i = 0; i < g.layers.size(); ++i)
        if (g.layers[i].kind == plan::LayerKind::dense) layers.push_back(i);
      for (std::size_t set = 0; set < std::size_t{1} << layers.size(); ++set) {
        plan::Folding f = plan::smallest_folding(g);
        for (std::size_t k = 0; k < layers.size(); ++k) f.of[layers[k]].logic = set >> k & 1;
        const Estimate e = evaluate(g, f, scratch);
        possible |= e.cost.bram <= b.bram && e.lut4(false) + b.reserved_lut4 <= b.lut4 * b.fill;
      }
      try {
        const Choice c = choose_folding(g, b, 1 << 20);
        EXPECT_LE(c.estimate.cost.bram, b.bram);
        const Estimate again = evaluate(g, c.folding, scratch);
        EXPECT_EQ(again.cost.bram, c.estimate.cost.bram);
        for (std::size_t i : layers) moved += c.folding.of[i].logic;
      } catch (const Error& e) {
        EXPECT_EQ(e.code(), Exit::no);
        EXPECT_FALSE(possible) << "seed " << seed << ", " << b.bram << " blocks: " << e.full();
      }
    }
  }
  EXPECT_GT(moved, 10u);
}

}  // namespace
}  // namespace tandem::map
