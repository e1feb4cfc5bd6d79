#include "tandem/proof/extremes.h"

#include <gtest/gtest.h>

#include <algorithm>

namespace tandem::proof {
namespace {
using I = std::int64_t;

// y_o = sum_i w[i][o] x_i with x in [-4, 3]: the extremes are known, and random codes come nowhere near them.
TEST(Extremes, OfAMatrixAreReached) {
  ir::ExactProgram p;
  const auto buffer = [&](I n, I lo, I hi) {
    ir::Buffer b;
    b.name = fmt::format("v{}", p.buffers.size());
    b.shape = {1, n};
    b.lo = lo, b.hi = hi;
    p.buffers.push_back(b);
    return static_cast<int>(p.buffers.size()) - 1;
  };
  constexpr I kIn = 16, kOut = 3;
  ir::IntMatMul m{{}, kIn, kOut};
  I lo[kOut] = {}, hi[kOut] = {};
  for (I i = 0; i < kIn; ++i)
    for (I o = 0; o < kOut; ++o) {
      const I w = (i * 5 + o * 7) % 11 - 5;
      m.weights.push_back(w);
      lo[o] += std::min(-4 * w, 3 * w);
      hi[o] += std::max(-4 * w, 3 * w);
    }
  const int x = buffer(kIn, -4, 3), y = buffer(kOut, *std::min_element(lo, lo + kOut), *std::max_element(hi, hi + kOut));
  p.inputs.push_back({"x", x, DType::f32, true, {}});
  p.steps.push_back({std::move(m), {x}, y, "node 'm'"});
  p.outputs.push_back({"y", y, DType::f32, true, {}});
  const plan::StageGraph g = plan::stages_from(p, "net");
  const std::vector<Tensor> frames = extreme_frames(p, g, 1, 4000, 6);
  EXPECT_LE(frames.size(), 6u);
  exec::Executor e(p);
  I least[kOut] = {}, most[kOut] = {};
  for (const Tensor& f : frames) {
    e.run({f});
    const std::vector<I> v = e.integers(y);
    for (I o = 0; o < kOut; ++o) least[o] = std::min(least[o], v[static_cast<std::size_t>(o)]), most[o] = std::max(most[o], v[static_cast<std::size_t>(o)]);
  }
  for (I o = 0; o < kOut; ++o) {
    EXPECT_EQ(least[o], lo[o]);
    EXPECT_EQ(most[o], hi[o]);
  }
  EXPECT_LE(extreme_frames(p, g, 1, 4000, 2).size(), 2u);
}

}  // namespace
}  // namespace tandem::proof
