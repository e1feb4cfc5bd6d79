// Matrix products and convolutions of 8-bit integers, accumulated exactly in 32 bits, on numerics/dot4.h.
//
//   Int8Weights w = pack_int8(weights, columns, depth);               // once
//   gemm_int8(a, rows, lda, w, c, ldc);                               // c[r, j] = sum_k a[r, k] * weights[j, k] (+ bias[j])
//
//   Int8Convolution conv(geometry, weights, bias, zero);              // once; TFLite's order: NHWC, weights [out, kh, kw, in]
//   conv.run(x, batch, y);                                            // int32 accumulators, [batch, oh, ow, out]
//
// Left operands are u8. Signed ones are given as u8 with 128 added (x ^ 0x80) and `zero` = 128: then the sums are those of x.
// Padding stands for the real 0, which is the code `zero`. Sums beyond 32 bits wrap: the caller proves that there are none
// (depth * 255 * 128 < 2^31 suffices: a depth below 65793).
#pragma once
#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>
#include <vector>

#include "tandem/numerics/dot4.h"

namespace tandem {

template <class T>
struct CacheLined {  // memory that begins at a cache line
  using value_type = T;
  CacheLined() = default;
  template <class U> CacheLined(const CacheLined<U>&) {}
  T* allocate(std::size_t n) { return static_cast<T*>(::operator new(n * sizeof(T), std::align_val_t{64})); }
  void deallocate(T* p, std::size_t) { ::operator delete(p, std::align_val_t{64}); }
  bool operator==(const CacheLined&) const { return true; }
};
template <class T> using Lined = std::vector<T, CacheLined<T>>;

// Packed for tiles: panels of 64 columns, the last of as many 16 as it needs; groups of four along the depth, zeros behind its end.
struct Int8Weights {
  std::int64_t columns = 0, steps = 1, depth = 0;  // depth of one step, in bytes, before padding to fours
  Lined<std::int8_t> data;
  Lined<std::int32_t> start;                       // bias - zero * sum of the weights, per column, zeros behind the last
  std::int64_t groups() const { return (depth + 3) / 4; }
  std::int64_t panels() const { return (columns + 63) / 64; }
  int vectors(std::int64_t panel) const { const std::int64_t left = columns - 64 * panel; return left >= 64 ? 4 : static_cast<int>((left + 15) / 16); }
  const std::int8_t* panel(std::int64_t p) const { return data.data() + p * 64 * 4 * steps * groups(); }
};
// weights[j * columns_apart + k * depth_apart], j < columns, k < steps * depth. `bias` may be null.
Int8Weights pack_int8(const std::int8_t* weights, std::int64_t columns, std::int64_t steps, std::int64_t depth, std::int64_t columns_apart, std::int64_t depth_apart,
                      const std::int32_t* bias = nullptr, std::int32_t zero = 0);

// What becomes of the accumulators, where they are not wanted themselves: y = clamp(round(acc * multiplier[j] / 2^shift[j]) + zero, lo, hi),
// half rounds up; in 64 bits, exact while |acc * multiplier| < 2^62. shift 1 to 62.
struct Int8Requant {
  std::vector<std::int32_t> multiplier, shift;     // per column
  std::int32_t zero = 0, lo = -128, hi = 127;
};

struct Int8Options {
  int threads = 0;                                 // 0: the thread budget; 1: the caller's alone
  const Dot4Kernel* kernel = nullptr;              // null: the best
};
// rows of `a` lie `lda` bytes apart; up to 3 bytes behind the depth of each row are read where the depth is no multiple of four
// (they meet zeros), so that `a` needs `rows * lda` bytes with lda >= 4 * groups(), or 3 more at its end.
void gemm_int8(const std::uint8_t* a, std::int64_t rows, std::int64_t lda, const Int8Weights& w, std::int32_t* c, std::int64_t ldc, const Int8Options& o = {});
void gemm_int8(const std::uint8_t* a, std::int64_t rows, std::int64_t lda, const Int8Weights& w, const Int8Requant& q, std::int8_t* c, std::int64_t ldc, const Int8Options& o = {});

struct Int8Geometry {
  std::int64_t height = 1, width = 1, in = 1, out = 1, group = 1;
  std::int64_t kernel_h = 1, kernel_w = 1, stride_h = 1, stride_w = 1, dilation_h = 1, dilation_w = 1;
  std::int64_t top = 0, left = 0, bottom = 0, right = 0;
  std::int64_t out_height() const { return (height + top + bottom - dilation_h * (kernel_h - 1) - 1) / stride_h + 1; }
  std::int64_t out_width() const { return (width + left + right - dilation_w * (kernel_w - 1) - 1) / stride_w + 1; }
};

class Int8Convolution {
 public:
  // weights [out, kernel_h, kernel_w, in / group]; bias [out] or null; zero: see above.
  Int8Convolution(const Int8Geometry& g, const std::int8_t* weights, const std::int32_t* bias = nullptr, std::uint8_t zero = 0);
  const Int8Geometry& geometry() const { return g_; }
  // Channels of `x` in memory: `in`, rounded up to four where tiles then need no copy; what lies in the added ones does not matter. x is
  // [batch, height, width, channels()] plus 3 bytes behind its end.
  std::int64_t channels() const { return channels_; }
  void run(const std::uint8_t* x, std::int64_t batch, std::int32_t* y, const Int8Options& o = {}) const;  // y [batch, oh, ow, out]
  void run(const std::uint8_t* x, std::int64_t batch, const Int8Requant& q, std::int8_t* y, const Int8Options& o = {}) const;
  std::size_t bytes() const;                       // prepared weights and tables

 private:
  template <class Store>
  void tiles(const std::uint8_t* x, std::int64_t batch, const Int8Options& o, Store store) const;
  void depthwise(const std::uint8_t* x, std::int64_t batch, std::int32_t* y, const Int8Options& o) const;

  Int8Geometry g_;
  std::int64_t channels_ = 0;
  bool whole_rows_ = false;                        // few channels: a row of the window is one step, over a padded copy of the image
  std::vector<Int8Weights> weights_;               // per group
  std::vector<std::int32_t> offset_;               // [positions][taps]: of the pixel in elements / channels, -1: padding; of whole rows in bytes
  Lined<std::uint8_t> padding_;                    // one pixel of zeros (codes)
  Lined<std::int16_t> each_;                       // depthwise: [taps][channels]
  Lined<std::int32_t> bias_;
};

}  // namespace tandem
