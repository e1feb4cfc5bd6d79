// Every dot product of four bytes that the machine has against the plain loop.
#include "tandem/numerics/dot4.h"

#include <gtest/gtest.h>

#include "tandem/base/rng.h"

namespace tandem {
namespace {

struct Case {
  std::vector<std::uint8_t> a;
  std::vector<std::int8_t> b;
  std::vector<std::int32_t> start;
  std::vector<const std::uint8_t*> rows;
  Dot4Tile t;
  void set(int count, int vectors, std::int64_t steps, std::int64_t depth, int width) {
    a.resize(static_cast<std::size_t>(count * steps * depth * 4));
    b.resize(static_cast<std::size_t>(steps * depth * vectors * 64));
    start.resize(static_cast<std::size_t>(vectors * 16));
    rows.clear();
    for (std::int64_t s = 0; s < steps; ++s)
      for (int r = 0; r < count; ++r) rows.push_back(a.data() + (r * steps + s) * depth * 4);
    t.rows = rows.data(), t.steps = steps, t.depth = depth, t.count = count, t.panel = b.data(), t.vectors = vectors, t.start = start.data(), t.width = width;
  }
  // What the kernel writes, and what it must not.
  std::vector<std::int32_t> run(const Dot4Kernel& k) {
    std::vector<std::int32_t> c(static_cast<std::size_t>(t.count * 70), 0x5a5a5a5a);
    t.to = c.data(), t.stride = 70;
    k.tile(t);
    return c;
  }
};

// Each pair of bytes in each of the four places, beside extremes that make a saturating instruction saturate.
TEST(Dot4, EveryPairOfBytes) {
  const int extremes[3][2] = {{255, -128}, {255, 127}, {0, 0}};
  Case c;
  c.set(1, 4, 1, 1, 64);
  for (int place = 0; place < 4; ++place)
    for (const auto& e : extremes)
      for (int a = 0; a < 256; ++a)
        for (int first = -128; first < 128; first += 64) {
          for (int i = 0; i < 4; ++i) c.a[static_cast<std::size_t>(i)] = static_cast<std::uint8_t>(i == place ? a : e[0]);
          for (int j = 0; j < 64; ++j)
            for (int i = 0; i < 4; ++i) c.b[static_cast<std::size_t>(4 * j + i)] = static_cast<std::int8_t>(i == place ? first + j : e[1]);
          for (const Dot4Kernel& k : dot4_kernels()) {
            const auto got = c.run(k);
            for (int j = 0; j < 64; ++j) ASSERT_EQ(got[static_cast<std::size_t>(j)], a * (first + j) + 3 * e[0] * e[1]) << k.name << " " << a << " * " << first + j;
          }
        }
}

TEST(Dot4, TilesEqualThePlainLoop) {
  int compared = 0;
  for (std::uint64_t seed = 0; seed < 3000; ++seed) {
    Rng r(seed, "dot4");
    Case c;
    const int vectors = static_cast<int>(r.range(1, kDot4Vectors));
    c.set(static_cast<int>(r.range(1, kDot4Rows)), vectors, r.range(1, 5), r.range(0, 20), static_cast<int>(r.range(1, 16 * vectors)));
    const bool extreme = r.chance(0.3);
    for (auto& x : c.a) x = static_cast<std::uint8_t>(extreme ? 255 : r.range(0, 255));
    for (auto& x : c.b) x = static_cast<std::int8_t>(extreme ? -128 : r.range(-128, 127));
    for (auto& x : c.start) x = static_cast<std::int32_t>(r.range(-2147483648ll, 2147483647));  // sums wrap alike
    const auto want = c.run(dot4_kernels()[0]);
    for (const Dot4Kernel& k : dot4_kernels().subspan(1)) {
      ASSERT_EQ(c.run(k), want) << k.name << " seed " << seed;
      ++compared;
    }
  }
  if (dot4_kernels().size() == 1) GTEST_SKIP() << "this machine has only the plain loop";
  EXPECT_GE(compared, 3000);
}

}  // namespace
}  // namespace tandem
