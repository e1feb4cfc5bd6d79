#include "tandem/numerics/int8.h"

#include <algorithm>
#include <cstring>
#include <functional>

#include "tandem/base/error.h"
#include "tandem/base/parallel.h"

// One binary, the widest vectors of the machine it runs on. Sanitizers do not survive ifunc resolvers.
#if defined(__GNUC__) && !defined(__clang__) && defined(__x86_64__) && !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
#define TANDEM_WIDEST __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define TANDEM_WIDEST
#endif

namespace tandem {
namespace {

void ranges(const Int8Options& o, std::int64_t n, std::int64_t grain, const std::function<void(std::int64_t, std::int64_t)>& body) {
  if (o.threads == 1 || n <= grain) body(0, n);
  else parallel_ranges(n, grain, body);
}
TANDEM_WIDEST void requantise_row(const std::int32_t* acc, std::int64_t n, const std::int32_t* multiplier, const std::int32_t* shift, std::int64_t zero, std::int64_t lo, std::int64_t hi, std::int8_t* to) {
  for (std::int64_t j = 0; j < n; ++j) {
    std::int64_t v = ((static_cast<std::int64_t>(acc[j]) * multiplier[j] + (std::int64_t{1} << (shift[j] - 1))) >> shift[j]) + zero;
    v = v < lo ? lo : v;
    to[j] = static_cast<std::int8_t>(v > hi ? hi : v);
  }
}
void requantise(const std::int32_t* acc, std::int64_t n, std::int64_t first, const Int8Requant& q, std::int8_t* to) {
  requantise_row(acc, n, q.multiplier.data() + first, q.shift.data() + first, q.zero, q.lo, q.hi, to);
}

// Where the tile of rows [row, row + count) and columns [first, first + width) goes.
struct Accumulators {
  std::int32_t* c;
  std::int64_t ldc;
  void operator()(Dot4Tile& t, void (*tile)(const Dot4Tile&), std::int64_t row, std::int64_t first) const {
    t.to = c + row * ldc + first, t.stride = ldc;
    tile(t);
  }
};
struct Bytes {
  std::int8_t* c;
  std::int64_t ldc;
  const Int8Requant& q;
  void operator()(Dot4Tile& t, void (*tile)(const Dot4Tile&), std::int64_t row, std::int64_t first) const {
    alignas(64) std::int32_t acc[kDot4Rows * 16 * kDot4Vectors];
    t.to = acc, t.stride = 16 * kDot4Vectors;
    tile(t);
    for (int r = 0; r < t.count; ++r) requantise(acc + r * t.stride, t.width, first, q, c + (row + r) * ldc + first);
  }
};

template <class Store>
void gemm(const std::uint8_t* a, std::int64_t rows, std::int64_t lda, const Int8Weights& w, const Int8Options& o, Store store) {
  const Dot4Kernel& kernel = o.kernel ? *o.kernel : dot4_best();
  // Parts of rows that stay in the second level of the cache while the panels pass.
  const std::int64_t part = std::clamp<std::int64_t>((std::int64_t{1} << 18) / std::max<std::int64_t>(w.groups() * 4, 1) / 24 * 24, 24, 480);
  const std::int64_t parts = (rows + part - 1) / part, jobs = parts * w.panels();
  ranges(o, jobs, 1, [&](std::int64_t from, std::int64_t to) {
    const std::uint8_t* pointer[kDot4Rows];
    for (std::int64_t job = from; job < to; ++job) {
      const std::int64_t p = job % w.panels(), begin = job / w.panels() * part, end = std::min(rows, begin + part);
      Dot4Tile t;
      t.rows = pointer, t.depth = w.groups(), t.panel = w.panel(p), t.vectors = w.vectors(p), t.start = w.start.data() + 64 * p;
      t.width = static_cast<int>(std::min<std::int64_t>(64, w.columns - 64 * p));
      const int step = dot4_rows(t.vectors);
      for (std::int64_t r = begin; r < end; r += step) {
        t.count = static_cast<int>(std::min<std::int64_t>(step, end - r));
        for (int i = 0; i < t.count; ++i) pointer[i] = a + (r + i) * lda;
        store(t, kernel.tile, r, 64 * p);
      }
    }
  });
}

}  // namespace

Int8Weights pack_int8(const std::int8_t* weights, std::int64_t columns, std::int64_t steps, std::int64_t depth, std::int64_t columns_apart, std::int64_t depth_apart,
                      const std::int32_t* bias, std::int32_t zero) {
  Int8Weights w;
  w.columns = columns, w.steps = steps, w.depth = depth;
  const std::int64_t groups = w.groups(), padded = (columns + 15) / 16 * 16;
  w.data.assign(static_cast<std::size_t>(padded * steps * groups * 4), 0);
  w.start.assign(static_cast<std::size_t>(padded), 0);
  for (std::int64_t j = 0; j < columns; ++j) {
    const std::int64_t p = j / 64, lane = j % 64, wide = 16 * w.vectors(p);
    std::int8_t* to = w.data.data() + p * 64 * 4 * steps * groups;
    std::uint32_t sum = 0;
    for (std::int64_t s = 0; s < steps; ++s)
      for (std::int64_t k = 0; k < depth; ++k) {
        const std::int8_t v = weights[j * columns_apart + (s * depth + k) * depth_apart];
        to[((s * groups + k / 4) * wide + lane) * 4 + k % 4] = v;
        sum += static_cast<std::uint32_t>(v);
      }
    w.start[static_cast<std::size_t>(j)] = static_cast<std::int32_t>(static_cast<std::uint32_t>(bias ? bias[j] : 0) - static_cast<std::uint32_t>(zero) * sum);
  }
  return w;
}

void gemm_int8(const std::uint8_t* a, std::int64_t rows, std::int64_t lda, const Int8Weights& w, std::int32_t* c, std::int64_t ldc, const Int8Options& o) {
  gemm(a, rows, lda, w, o, Accumulators{c, ldc});
}
void gemm_int8(const std::uint8_t* a, std::int64_t rows, std::int64_t lda, const Int8Weights& w, const Int8Requant& q, std::int8_t* c, std::int64_t ldc, const Int8Options& o) {
  TANDEM_CHECK(static_cast<std::int64_t>(q.multiplier.size()) == w.columns && q.shift.size() == q.multiplier.size(), "a requantiser of {} columns for {}", q.multiplier.size(), w.columns);
  gemm(a, rows, lda, w, o, Bytes{c, ldc, q});
}

Int8Convolution::Int8Convolution(const Int8Geometry& g, const std::int8_t* weights, const std::int32_t* bias, std::uint8_t zero) : g_(g) {
  const std::int64_t taps = g.kernel_h * g.kernel_w, each = g.in / g.group, outs = g.out / g.group, oh = g.out_height(), ow = g.out_width();
  TANDEM_CHECK(g.group > 0 && each * g.group == g.in && outs * g.group == g.out && oh > 0 && ow > 0, "an inconsistent convolution");
  const bool depthwise = each == 1 && outs == 1;
  whole_rows_ = g.group == 1 && g.in < 16 && g.kernel_w > 1 && g.dilation_w == 1 && (g.height + g.top + g.bottom) * (g.width + g.left + g.right) * g.in < INT32_MAX;
  channels_ = g.group == 1 && !whole_rows_ ? (g.in + 3) / 4 * 4 : g.in;
  padding_.assign(static_cast<std::size_t>(channels_ + 64), zero);
  if (whole_rows_) {
    const std::int64_t line = (g.width + g.left + g.right) * g.in;
    for (std::int64_t y = 0; y < oh; ++y)
      for (std::int64_t x = 0; x < ow; ++x)
        for (std::int64_t r = 0; r < g.kernel_h; ++r) offset_.push_back(static_cast<std::int32_t>((y * g.stride_h + r * g.dilation_h) * line + x * g.stride_w * g.in));
    weights_.push_back(pack_int8(weights, g.out, g.kernel_h, g.kernel_w * g.in, taps * g.in, 1, bias, zero));
    return;
  }
  offset_.reserve(static_cast<std::size_t>(oh * ow * taps));
  for (std::int64_t y = 0; y < oh; ++y)
    for (std::int64_t x = 0; x < ow; ++x)
      for (std::int64_t r = 0; r < g.kernel_h; ++r)
        for (std::int64_t s = 0; s < g.kernel_w; ++s) {
          const std::int64_t h = y * g.stride_h - g.top + r * g.dilation_h, w = x * g.stride_w - g.left + s * g.dilation_w;
          offset_.push_back(h < 0 || h >= g.height || w < 0 || w >= g.width ? -1 : static_cast<std::int32_t>(h * g.width + w));
        }
  if (depthwise) {
    each_.resize(static_cast<std::size_t>(taps * g.in));
    bias_.resize(static_cast<std::size_t>(g.in));
    for (std::int64_t c = 0; c < g.in; ++c) {
      std::uint32_t sum = 0;
      for (std::int64_t t = 0; t < taps; ++t) {
        each_[static_cast<std::size_t>(t * g.in + c)] = weights[c * taps + t];
        sum += static_cast<std::uint32_t>(weights[c * taps + t]);
      }
      bias_[static_cast<std::size_t>(c)] = static_cast<std::int32_t>(static_cast<std::uint32_t>(bias ? bias[c] : 0) - static_cast<std::uint32_t>(zero) * sum);
    }
    return;
  }
  for (std::int64_t k = 0; k < g.group; ++k)
    weights_.push_back(pack_int8(weights + k * outs * taps * each, outs, taps, each, taps * each, 1, bias ? bias + k * outs : nullptr, zero));
}

template <class Store>
void Int8Convolution::tiles(const std::uint8_t* x, std::int64_t batch, const Int8Options& o, Store store) const {
  const Dot4Kernel& kernel = o.kernel ? *o.kernel : dot4_best();
  const std::int64_t taps = whole_rows_ ? g_.kernel_h : g_.kernel_h * g_.kernel_w, each = g_.in / g_.group, outs = g_.out / g_.group;
  const std::int64_t positions = g_.out_height() * g_.out_width(), panels = weights_[0].panels();
  constexpr std::int64_t part = 96;
  const std::int64_t parts = (positions + part - 1) / part, jobs = batch * parts * g_.group * panels;
  const std::int64_t line = (g_.width + g_.left + g_.right) * g_.in, padded = (g_.height + g_.top + g_.bottom) * line;
  Lined<std::uint8_t> copy;
  if (whole_rows_) {
    copy.assign(static_cast<std::size_t>(batch * padded + 3), padding_[0]);
    for (std::int64_t r = 0; r < batch * g_.height; ++r)
      std::memcpy(copy.data() + r / g_.height * padded + (g_.top + r % g_.height) * line + g_.left * g_.in, x + r * g_.width * g_.in, static_cast<std::size_t>(g_.width * g_.in));
  }
  const std::int64_t unit = whole_rows_ ? 1 : channels_;
  ranges(o, jobs, 1, [&](std::int64_t from, std::int64_t to) {
    constexpr std::int64_t near = 64;
    const std::uint8_t* few[near * kDot4Rows];
    std::vector<const std::uint8_t*> many(taps > near ? static_cast<std::size_t>(taps * kDot4Rows) : 0);
    const std::uint8_t** pointer = taps > near ? many.data() : few;
    for (std::int64_t job = from; job < to; ++job) {
      // Panels innermost: the pixels of a part stay near.
      const std::int64_t p = job % panels, k = job / panels % g_.group, begin = job / panels / g_.group % parts * part, n = job / panels / g_.group / parts;
      const std::int64_t end = std::min(positions, begin + part);
      const Int8Weights& w = weights_[static_cast<std::size_t>(k)];
      const std::uint8_t* image = whole_rows_ ? copy.data() + n * padded : x + n * g_.height * g_.width * channels_ + k * each;
      Dot4Tile t;
      t.rows = pointer, t.steps = taps, t.depth = w.groups(), t.panel = w.panel(p), t.vectors = w.vectors(p), t.start = w.start.data() + 64 * p;
      t.width = static_cast<int>(std::min<std::int64_t>(64, outs - 64 * p));
      const int step = dot4_rows(t.vectors);
      for (std::int64_t r = begin; r < end; r += step) {
        t.count = static_cast<int>(std::min<std::int64_t>(step, end - r));
        const std::int32_t* offset = offset_.data() + r * taps;
        for (int i = 0; i < t.count; ++i)
          for (std::int64_t s = 0; s < taps; ++s, ++offset) pointer[s * t.count + i] = *offset < 0 ? padding_.data() : image + *offset * unit;
        store(t, kernel.tile, n * positions + r, k * outs + 64 * p);
      }
    }
  });
}

TANDEM_WIDEST static void add_products(const std::uint8_t* x, const std::int16_t* w, std::int32_t* y, std::int64_t n) {
  for (std::int64_t c = 0; c < n; ++c) y[c] += static_cast<std::int32_t>(x[c]) * w[c];
}

void Int8Convolution::depthwise(const std::uint8_t* x, std::int64_t batch, std::int32_t* y, const Int8Options& o) const {
  const std::int64_t taps = g_.kernel_h * g_.kernel_w, positions = g_.out_height() * g_.out_width(), C = g_.in;
  ranges(o, batch * positions, std::max<std::int64_t>(1, (1 << 14) / std::max<std::int64_t>(C * taps, 1)), [&](std::int64_t from, std::int64_t to) {
    for (std::int64_t i = from; i < to; ++i) {
      const std::int64_t n = i / positions, at = i % positions;
      std::int32_t* acc = y + i * C;
      std::copy(bias_.begin(), bias_.end(), acc);
      for (std::int64_t t = 0; t < taps; ++t) {
        const std::int32_t off = offset_[static_cast<std::size_t>(at * taps + t)];
        add_products(off < 0 ? padding_.data() : x + (n * g_.height * g_.width + off) * channels_, each_.data() + t * C, acc, C);
      }
    }
  });
}

void Int8Convolution::run(const std::uint8_t* x, std::int64_t batch, std::int32_t* y, const Int8Options& o) const {
  if (weights_.empty()) return depthwise(x, batch, y, o);
  tiles(x, batch, o, Accumulators{y, g_.out});
}
void Int8Convolution::run(const std::uint8_t* x, std::int64_t batch, const Int8Requant& q, std::int8_t* y, const Int8Options& o) const {
  TANDEM_CHECK(static_cast<std::int64_t>(q.multiplier.size()) == g_.out && q.shift.size() == q.multiplier.size(), "a requantiser of {} columns for {}", q.multiplier.size(), g_.out);
  if (weights_.empty()) {
    const std::int64_t rows = batch * g_.out_height() * g_.out_width();
    std::vector<std::int32_t> acc(static_cast<std::size_t>(rows * g_.out));
    depthwise(x, batch, acc.data(), o);
    for (std::int64_t r = 0; r < rows; ++r) requantise(acc.data() + r * g_.out, g_.out, 0, q, y + r * g_.out);
    return;
  }
  tiles(x, batch, o, Bytes{y, g_.out, q});
}
std::size_t Int8Convolution::bytes() const {
  std::size_t n = offset_.size() * 4 + padding_.size() + each_.size() * 2 + bias_.size() * 4;
  for (const Int8Weights& w : weights_) n += w.data.size() + w.start.size() * 4;
  return n;
}

}  // namespace tandem
