// 8-bit products and convolutions against their definitions, written out.
#include "tandem/numerics/int8.h"

#include <gtest/gtest.h>

#include "tandem/base/rng.h"

namespace tandem {
namespace {

template <class T>
std::vector<T> draw(Rng& r, std::int64_t n, int lo, int hi) {
  std::vector<T> v(static_cast<std::size_t>(n));
  for (T& x : v) x = static_cast<T>(r.range(lo, hi));
  return v;
}
// The definition in 128 bits: the floor of (acc * m + half) / 2^shift.
std::int8_t requant_twin(std::int32_t acc, const Int8Requant& q, std::size_t j) {
  const __int128 v = static_cast<__int128>(acc) * q.multiplier[j] + (static_cast<__int128>(1) << (q.shift[j] - 1));
  const __int128 d = static_cast<__int128>(1) << q.shift[j];
  __int128 f = v / d;
  if (v % d < 0) --f;
  f += q.zero;
  return static_cast<std::int8_t>(f < q.lo ? q.lo : f > q.hi ? q.hi : static_cast<int>(f));
}
Int8Requant draw_requant(Rng& r, std::int64_t columns) {
  Int8Requant q;
  for (std::int64_t j = 0; j < columns; ++j) q.multiplier.push_back(static_cast<std::int32_t>(r.range(-2147483648ll, 2147483647))), q.shift.push_back(static_cast<std::int32_t>(r.range(30, 46)));
  q.zero = static_cast<std::int32_t>(r.range(-128, 127));
  if (r.chance(0.5)) q.lo = q.zero, q.hi = std::min(127, q.zero + 50);
  return q;
}

TEST(Int8, ProductsEqualTheirDefinition) {
  for (std::uint64_t seed = 0; seed < 400; ++seed) {
    Rng r(seed, "gemm");
    const std::int64_t rows = r.range(1, 40), columns = r.range(1, 150), depth = r.range(1, 90), lda = (depth + 3) / 4 * 4 + r.range(0, 5);
    const bool is_signed = r.chance(0.5), transposed = r.chance(0.5);
    const std::int32_t zero = is_signed ? 128 : 0;
    const auto a = draw<std::uint8_t>(r, rows * lda + 3, 0, 255);
    const auto w = draw<std::int8_t>(r, columns * depth, -128, 127);
    const auto bias = draw<std::int32_t>(r, columns, -100000, 100000);
    const Int8Weights packed = transposed ? pack_int8(w.data(), columns, 1, depth, 1, columns, bias.data(), zero) : pack_int8(w.data(), columns, 1, depth, depth, 1, bias.data(), zero);
    const Int8Requant q = draw_requant(r, columns);
    for (const Dot4Kernel& kernel : dot4_kernels()) {
      Int8Options o;
      o.kernel = &kernel;
      o.threads = static_cast<int>(r.range(0, 1));
      std::vector<std::int32_t> c(static_cast<std::size_t>(rows * (columns + 3)), -7);
      std::vector<std::int8_t> b(c.size(), -7);
      gemm_int8(a.data(), rows, lda, packed, c.data(), columns + 3, o);
      gemm_int8(a.data(), rows, lda, packed, q, b.data(), columns + 3, o);
      for (std::int64_t i = 0; i < rows; ++i)
        for (std::int64_t j = 0; j < columns + 3; ++j) {
          const auto at = static_cast<std::size_t>(i * (columns + 3) + j);
          if (j >= columns) {
            ASSERT_EQ(c[at], -7) << "wrote beside the result";
            ASSERT_EQ(b[at], -7);
            continue;
          }
          std::int32_t want = bias[static_cast<std::size_t>(j)];
          for (std::int64_t k = 0; k < depth; ++k) want += (a[static_cast<std::size_t>(i * lda + k)] - zero) * w[static_cast<std::size_t>(transposed ? k * columns + j : j * depth + k)];
          ASSERT_EQ(c[at], want) << kernel.name << " seed " << seed;
          ASSERT_EQ(b[at], requant_twin(want, q, static_cast<std::size_t>(j))) << kernel.name << " seed " << seed;
        }
    }
  }
}

TEST(Int8, ConvolutionsEqualTheirDefinition) {
  int depthwise = 0, grouped = 0;
  for (std::uint64_t seed = 0; seed < 500; ++seed) {
    Rng r(seed, "conv");
    Int8Geometry g;
    g.group = r.chance(0.3) ? r.range(2, 5) : 1;
    const bool deep = g.group > 1 && r.chance(0.5);
    g.in = g.group * (deep ? 1 : r.range(1, 9)), g.out = g.group * (deep ? 1 : r.range(1, 80));
    g.kernel_h = r.range(1, 4), g.kernel_w = r.range(1, 4), g.dilation_h = r.range(1, 2), g.dilation_w = r.range(1, 2);
    g.stride_h = r.range(1, 2), g.stride_w = r.range(1, 3);
    g.top = r.range(0, 2), g.bottom = r.range(0, 2), g.left = r.range(0, 2), g.right = r.range(0, 2);
    g.height = g.dilation_h * (g.kernel_h - 1) + 1 + r.range(0, 9), g.width = g.dilation_w * (g.kernel_w - 1) + 1 + r.range(0, 9);
    if (seed == 0) g = {12, 12, 20, 5, 1, 9, 9, 1, 1, 1, 1, 4, 4, 4, 4};  // more taps than the table on the stack holds
    const std::int64_t each = g.in / g.group, outs = g.out / g.group, oh = g.out_height(), ow = g.out_width(), batch = r.range(1, 2);
    depthwise += deep, grouped += g.group > 1 && !deep;
    const auto zero = static_cast<std::uint8_t>(r.range(0, 255));
    const auto w = draw<std::int8_t>(r, g.out * g.kernel_h * g.kernel_w * each, -128, 127);
    const auto bias = draw<std::int32_t>(r, g.out, -100000, 100000);
    const Int8Convolution conv(g, w.data(), bias.data(), zero);
    const std::int64_t C = conv.channels();
    const auto x = draw<std::uint8_t>(r, batch * g.height * g.width * C + 3, 0, 255);
    std::vector<std::int32_t> want;
    for (std::int64_t n = 0; n < batch; ++n)
      for (std::int64_t i = 0; i < oh; ++i)
        for (std::int64_t j = 0; j < ow; ++j)
          for (std::int64_t o = 0; o < g.out; ++o) {
            std::int32_t sum = bias[static_cast<std::size_t>(o)];
            for (std::int64_t s = 0; s < g.kernel_h; ++s)
              for (std::int64_t t = 0; t < g.kernel_w; ++t)
                for (std::int64_t c = 0; c < each; ++c) {
                  const std::int64_t h = i * g.stride_h - g.top + s * g.dilation_h, v = j * g.stride_w - g.left + t * g.dilation_w;
                  if (h < 0 || h >= g.height || v < 0 || v >= g.width) continue;  // the real 0
                  sum += (x[static_cast<std::size_t>(((n * g.height + h) * g.width + v) * C + o / outs * each + c)] - zero) * w[static_cast<std::size_t>(((o * g.kernel_h + s) * g.kernel_w + t) * each + c)];
                }
            want.push_back(sum);
          }
    const Int8Requant q = draw_requant(r, g.out);
    for (const Dot4Kernel& kernel : dot4_kernels()) {
      Int8Options o;
      o.kernel = &kernel;
      o.threads = static_cast<int>(r.range(0, 1));
      std::vector<std::int32_t> y(want.size(), -7);
      conv.run(x.data(), batch, y.data(), o);
      ASSERT_EQ(y, want) << kernel.name << " seed " << seed;
      std::vector<std::int8_t> b(want.size());
      conv.run(x.data(), batch, q, b.data(), o);
      for (std::size_t i = 0; i < b.size(); ++i) ASSERT_EQ(b[i], requant_twin(want[i], q, i % static_cast<std::size_t>(g.out))) << kernel.name << " seed " << seed;
    }
  }
  EXPECT_GT(depthwise, 30);
  EXPECT_GT(grouped, 30);
}

}  // namespace
}  // namespace tandem
