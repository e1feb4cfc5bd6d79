#include "tandem/exec/exec.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <numeric>

#include "tandem/base/parallel.h"
#include "tandem/exec/float.h"
#include "tandem/exec/levels.h"
#include "tandem/ir/arrays.h"
#include "tandem/ir/op.h"
#include "tandem/ir/ops/by_table.h"
#include "tandem/numerics/int8.h"

// One binary, the widest vectors of the machine it runs on. Sanitizers do not survive ifunc resolvers.
#if defined(__GNUC__) && !defined(__clang__) && defined(__x86_64__) && !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
#define TANDEM_CLONES __attribute__((target_clones("avx512f", "avx2", "default")))
#else
#define TANDEM_CLONES
#endif

namespace tandem::exec {
namespace {

using namespace tandem::ir;

// y[r, j] += a[r, k] * w[k, j]; rows in blocks of four so that w is read once per block.
#define TANDEM_GEMM(NAME, T)                                                                                     \
  TANDEM_CLONES void NAME(const T* a, const T* w, T* y, std::int64_t rows, std::int64_t k, std::int64_t m) {      \
    std::int64_t r = 0;                                                                                          \
    for (; r + 4 <= rows; r += 4) {                                                                              \
      T *y0 = y + r * m, *y1 = y0 + m, *y2 = y1 + m, *y3 = y2 + m;                                               \
      const T* a0 = a + r * k;                                                                                   \
      for (std::int64_t i = 0; i < k; ++i) {                                                                     \
        const T p = a0[i], q = a0[k + i], s = a0[2 * k + i], t = a0[3 * k + i];                                  \
        const T* v = w + i * m;                                                                                  \
        for (std::int64_t j = 0; j < m; ++j) {                                                                   \
          y0[j] += p * v[j];                                                                                     \
          y1[j] += q * v[j];                                                                                     \
          y2[j] += s * v[j];                                                                                     \
          y3[j] += t * v[j];                                                                                     \
        }                                                                                                        \
      }                                                                                                          \
    }                                                                                                            \
    for (; r < rows; ++r)                                                                                        \
      for (std::int64_t i = 0; i < k; ++i) {                                                                     \
        const T p = a[r * k + i];                                                                                \
        const T* v = w + i * m;                                                                                  \
        for (std::int64_t j = 0; j < m; ++j) y[r * m + j] += p * v[j];                                           \
      }                                                                                                          \
  }
TANDEM_GEMM(gemm, std::int32_t)
TANDEM_GEMM(gemm, std::int64_t)
TANDEM_GEMM(gemm, Int128)
#undef TANDEM_GEMM

int width_of(Int128 magnitude) { return magnitude <= INT32_MAX ? 32 : magnitude <= INT64_MAX ? 64 : 128; }
Int128 magnitude(const Buffer& b) { return std::max<Int128>(b.lo < 0 ? -b.lo : b.lo, b.hi < 0 ? -b.hi : b.hi); }
Int128 magnitude(const Grouped<Int128>& g) {
  Int128 m = 0;
  for (Int128 v : g.v) m = std::max(m, v < 0 ? -v : v);
  return m;
}
// Saturating: only the width is read from it.
Int128 times(Int128 a, Int128 b) {
  Int128 r;
  constexpr Int128 top = static_cast<Int128>((static_cast<unsigned __int128>(1) << 127) - 1);
  return __builtin_mul_overflow(a, b, &r) ? top : r;
}
Int128 plus(Int128 a, Int128 b) {
  Int128 r;
  constexpr Int128 top = static_cast<Int128>((static_cast<unsigned __int128>(1) << 127) - 1);
  return __builtin_add_overflow(a, b, &r) ? top : r;
}

// A contraction whose operands fit bytes (numerics/int8.h): its input as codes N + zero in 0 to 255.
struct Bytes {
  std::unique_ptr<Int8Convolution> conv;
  std::optional<Int8Weights> product;
  std::int32_t zero = 0;
  Int8Options options;
  bool taken() const { return conv || product; }
};
// The code of N = 0 with which all of [lo, hi] are codes.
std::optional<std::int32_t> zero_code(const Buffer& b) {
  if (!b.integer) return {};
  for (const Int128 z : {Int128(0), Int128(128), -b.lo})
    if (z >= 0 && z <= 255 && b.lo + z >= 0 && b.hi + z <= 255) return static_cast<std::int32_t>(z);
  return {};
}
bool are_bytes(const std::vector<std::int64_t>& weights) {
  return std::all_of(weights.begin(), weights.end(), [](std::int64_t w) { return w >= -128 && w <= 127; });
}

struct Store {
  int width = 32;
  std::vector<std::int32_t> i32;
  std::vector<std::int64_t> i64;
  std::vector<Int128> i128;
  std::vector<double> f;
  template <class T> std::vector<T>& as() {
    if constexpr (sizeof(T) == 4) return i32;
    else if constexpr (sizeof(T) == 8) return i64;
    else return i128;
  }
};

}  // namespace

struct Executor::Impl {
  ExactProgram p;
  std::vector<Store> d;
  std::vector<int> width;                            // of the arithmetic of each step
  std::vector<std::vector<std::int32_t>> group;      // requantisers: group of each element (empty: one group)
  std::vector<std::vector<std::vector<std::int64_t>>> table;  // requantisers: thresholds as 64-bit, per group
  std::vector<std::vector<LevelTable>> levels;       // the same where everything fits 32 bits
  std::vector<std::int64_t> run_length;              // requantisers: so many neighbours share a group
  std::vector<std::vector<std::int64_t>> states;
  std::vector<Bytes> bytes;                          // of each step
  std::vector<Places> places;                        // of each step; empty but for transposes and concatenations
  Lined<std::uint8_t> codes;                         // the input of a step in bytes
  std::vector<std::int32_t> accumulators;            // what came of it, channels last
  ContractionHook hook;

  explicit Impl(ExactProgram program) : p(std::move(program)) {
    d.resize(p.buffers.size());
    for (std::size_t i = 0; i < d.size(); ++i) {
      const Buffer& b = p.buffers[i];
      std::size_t n = static_cast<std::size_t>(element_count(b.shape));
      if (!b.integer) {
        d[i].f.assign(n, 0);
        if (b.constant) d[i].f = array_of(*b.constant).v;
        continue;
      }
      d[i].width = width_of(magnitude(b));
      if (d[i].width == 32) d[i].i32.assign(n, 0);
      else if (d[i].width == 64) d[i].i64.assign(n, 0);
      else d[i].i128.assign(n, 0);
      for (std::size_t k = 0; k < b.int_constant.size(); ++k) {
        if (d[i].width == 32) d[i].i32[k] = static_cast<std::int32_t>(b.int_constant[k]);
        else if (d[i].width == 64) d[i].i64[k] = b.int_constant[k];
        else d[i].i128[k] = b.int_constant[k];
      }
    }
    for (const Step& s : p.steps) {
      width.push_back(step_width(s));
      bytes.push_back(width.back() == 32 ? bytes_of(s) : Bytes());
      group.emplace_back();
      table.emplace_back();
      levels.emplace_back();
      run_length.push_back(1);
      places.emplace_back();
      if (auto* v = std::get_if<IntMove>(&s.params); v && v->kind != IntMove::gather) places.back() = places_of(*v, shapes_of(p, s), p.buffers[s.out].shape);
      if (auto* r = std::get_if<IntRequant>(&s.params)) prepare(*r, s);
      if (auto* q = std::get_if<QuantizeFloat>(&s.params)) group.back() = group_index(q->cast.group, p.buffers[s.out].shape);
    }
    states.resize(p.states.size());
  }

  const Buffer& buf(int i) const { return p.buffers[static_cast<std::size_t>(i)]; }

  Bytes bytes_of(const Step& s) const {
    Bytes b;
    const auto* c = std::get_if<IntConv>(&s.params);
    const auto* m = std::get_if<IntMatMul>(&s.params);
    if ((!c && (!m || m->weights.empty())) || !are_bytes(c ? c->weights : m->weights)) return b;
    const auto zero = zero_code(buf(s.in[0]));
    if (!zero) return b;
    b.zero = *zero;
    const Shape& xs = buf(s.in[0]).shape;
    double products = static_cast<double>(element_count(buf(s.out).shape));
    if (m) {
      const std::vector<std::int8_t> w(m->weights.begin(), m->weights.end());
      b.product = pack_int8(w.data(), m->m, 1, m->k, 1, m->m, nullptr, b.zero);
      products *= static_cast<double>(m->k);
    } else {
      Int8Geometry g;
      g.height = xs[2], g.width = xs[3], g.in = xs[1], g.out = c->out_channels, g.group = c->group;
      g.kernel_h = c->kh, g.kernel_w = c->kw, g.stride_h = c->stride_h, g.stride_w = c->stride_w, g.dilation_h = c->dilation_h, g.dilation_w = c->dilation_w;
      g.top = c->pad_top, g.left = c->pad_left, g.bottom = c->pad_bottom, g.right = c->pad_right;
      const std::int64_t each = g.in / g.group, taps = g.kernel_h * g.kernel_w;
      if (g.out_height() != buf(s.out).shape[2] || g.out_width() != buf(s.out).shape[3] || g.height * g.width > INT32_MAX) return b;
      std::vector<std::int8_t> w(c->weights.size());
      for (std::int64_t o = 0; o < g.out; ++o)
        for (std::int64_t k = 0; k < each; ++k)
          for (std::int64_t t = 0; t < taps; ++t) w[static_cast<std::size_t>((o * taps + t) * each + k)] = static_cast<std::int8_t>(c->weights[static_cast<std::size_t>((o * each + k) * taps + t)]);
      b.conv = std::make_unique<Int8Convolution>(g, w.data(), nullptr, static_cast<std::uint8_t>(b.zero));
      products *= static_cast<double>(each * taps);
    }
    b.options.threads = products < 1e6 ? 1 : 0;
    return b;
  }
  // Axes of extents [n, a, b] become [n, b, a]; each row of `to` has `room` elements.
  template <class From, class To>
  static void swapped(const From* x, std::int64_t n, std::int64_t a, std::int64_t b, std::int64_t room, std::int32_t add, To* to) {
    constexpr std::int64_t block = 32;
    for (std::int64_t k = 0; k < n; ++k)
      for (std::int64_t i = 0; i < b; i += block)
        for (std::int64_t j = 0; j < a; ++j)
          for (std::int64_t q = i; q < std::min(b, i + block); ++q) to[(k * b + q) * room + j] = static_cast<To>(x[(k * a + j) * b + q] + add);
  }
  void in_bytes(const Bytes& b, const std::vector<std::int32_t>& x, const Shape& xs, const Shape& ys, std::vector<std::int32_t>& y) {
    if (b.product) {
      const std::int64_t k = b.product->depth, rows = static_cast<std::int64_t>(x.size()) / k, lda = b.product->groups() * 4;
      codes.resize(static_cast<std::size_t>(rows * lda));
      for (std::int64_t r = 0; r < rows; ++r)
        for (std::int64_t i = 0; i < k; ++i) codes[static_cast<std::size_t>(r * lda + i)] = static_cast<std::uint8_t>(x[static_cast<std::size_t>(r * k + i)] + b.zero);
      return gemm_int8(codes.data(), rows, lda, *b.product, y.data(), b.product->columns, b.options);
    }
    const std::int64_t inner = xs[2] * xs[3], outer = ys[2] * ys[3];
    codes.resize(static_cast<std::size_t>(xs[0] * inner * b.conv->channels() + 3));
    swapped(x.data(), xs[0], xs[1], inner, b.conv->channels(), b.zero, codes.data());
    accumulators.resize(y.size());
    b.conv->run(codes.data(), xs[0], accumulators.data(), b.options);
    swapped(accumulators.data(), xs[0], outer, ys[1], outer, 0, y.data());
  }

  void prepare(const IntRequant& r, const Step& s) {
    group.back() = group_index(r.tables.empty() ? r.cast_group : r.group, buf(s.out).shape);
    const Buffer& in = buf(s.in[0]);
    if (r.tables.empty() || magnitude(in) >= INT64_MAX) return;
    for (const Thresholds& t : r.tables) {
      std::vector<std::int64_t> v;
      for (Int128 x : t.t) v.push_back(static_cast<std::int64_t>(x));
      table.back().push_back(std::move(v));
    }
    if (width.back() == 32 && std::all_of(table.back().begin(), table.back().end(), [&](const auto& t) { return LevelTable::fits(t, r.levels); }))
      for (std::size_t k = 0; k < r.tables.size(); ++k) levels.back().emplace_back(table.back()[k], r.levels, r.tables[k].flip);
    const auto& g = group.back();
    std::int64_t length = static_cast<std::int64_t>(g.size());
    for (std::size_t i = 1; i < g.size(); ++i)
      if (g[i] != g[i - 1]) length = std::gcd(length, static_cast<std::int64_t>(i));
    run_length.back() = std::max<std::int64_t>(length, 1);
  }

  // Every partial result of the step fits this many bits.
  int step_width(const Step& s) const {
    Int128 m = 0;
    for (int i : s.in)
      if (i >= 0 && buf(i).integer) m = std::max(m, magnitude(buf(i)));
    if (s.out >= 0 && buf(s.out).integer) m = std::max(m, magnitude(buf(s.out)));
    if (auto* c = std::get_if<IntConv>(&s.params)) {
      std::int64_t per = static_cast<std::int64_t>(c->weights.size()) / c->out_channels;
      for (std::int64_t o = 0; o < c->out_channels; ++o) {
        Int128 sum = 0;
        for (std::int64_t i = 0; i < per; ++i) sum = plus(sum, std::llabs(c->weights[o * per + i]));
        m = std::max(m, times(sum, magnitude(buf(s.in[0]))));
        for (std::int64_t i = 0; i < per; ++i) m = std::max<Int128>(m, std::llabs(c->weights[o * per + i]));
      }
    } else if (auto* k = std::get_if<IntMatMul>(&s.params)) {
      if (k->weights.empty()) {
        m = std::max(m, times(times(magnitude(buf(s.in[0])), magnitude(buf(s.in[1]))), k->k));
      } else {
        for (std::int64_t j = 0; j < k->m; ++j) {
          Int128 sum = 0;
          for (std::int64_t i = 0; i < k->k; ++i) {
            sum = plus(sum, std::llabs(k->weights[i * k->m + j]));
            m = std::max<Int128>(m, std::llabs(k->weights[i * k->m + j]));
          }
          m = std::max(m, times(sum, magnitude(buf(s.in[0]))));
        }
      }
    } else if (auto* l = std::get_if<IntLinear>(&s.params)) {
      Int128 sum = magnitude(l->c);
      for (std::size_t j = 0; j < l->k.size(); ++j) {
        sum = plus(sum, times(magnitude(l->k[j]), magnitude(buf(s.in[j]))));
        m = std::max(m, magnitude(l->k[j]));
      }
      if (l->lo) m = std::max(m, magnitude(*l->lo));
      if (l->hi) m = std::max(m, magnitude(*l->hi));
      m = std::max(m, sum);
    } else if (auto* q = std::get_if<IntPool>(&s.params)) {
      if (q->kind == IntPool::sum) {
        std::int64_t f = 1;
        for (auto x : q->position_factor) f = std::max(f, x);
        m = std::max(m, times(times(magnitude(buf(s.in[0])), q->kh * q->kw), f));
      }
    }
    return width_of(m);
  }

  // ---- typed access: inputs widened to the step's width -----------------------------------------
  template <class T>
  const std::vector<T>& get(int b, std::vector<T>& scratch) {
    Store& s = d[b];
    if (s.width == static_cast<int>(sizeof(T) * 8)) return s.as<T>();
    if (s.width == 32) scratch.assign(s.i32.begin(), s.i32.end());
    else if (s.width == 64) scratch.assign(s.i64.begin(), s.i64.end());
    else scratch.assign(s.i128.begin(), s.i128.end());
    return scratch;
  }
  template <class T>
  void put(int b, std::vector<T>&& v) {
    Store& s = d[b];
    if (s.width == static_cast<int>(sizeof(T) * 8)) s.as<T>() = std::move(v);
    else if (s.width == 32) s.i32.assign(v.begin(), v.end());
    else if (s.width == 64) s.i64.assign(v.begin(), v.end());
    else s.i128.assign(v.begin(), v.end());
  }

  // f(the integers along the axis, their results).
  template <class T, class F>
  static void along(std::int64_t axis, const std::vector<T>& x, const Shape& xs, const Shape& ys, std::vector<T>& y, F f) {
    const auto a = static_cast<std::size_t>(axis);
    const std::size_t n = static_cast<std::size_t>(xs[a]), k = static_cast<std::size_t>(ys[a]);
    const auto inner = static_cast<std::size_t>(element_count(Shape(xs.begin() + axis + 1, xs.end()))), vectors = n ? x.size() / n : 0;
    std::vector<T> from(n), to(k);
    for (std::size_t v = 0; v < vectors; ++v) {
      const std::size_t o = v / inner, i = v % inner;
      for (std::size_t j = 0; j < n; ++j) from[j] = x[(o * n + j) * inner + i];
      f(from, to);
      for (std::size_t j = 0; j < k; ++j) y[(o * k + j) * inner + i] = to[j];
    }
  }

  template <class T>
  void integer_step(std::size_t index) {
    const Step& s = p.steps[index];
    std::vector<T> sa, sb, y(static_cast<std::size_t>(element_count(buf(s.out).shape)), T(0));
    const Shape& ys = buf(s.out).shape;
    auto shape = [&](std::size_t i) -> const Shape& { return buf(s.in[i]).shape; };
    if (std::is_same_v<T, std::int32_t> && bytes[index].taken()) {
      if constexpr (std::is_same_v<T, std::int32_t>) in_bytes(bytes[index], get<T>(s.in[0], sa), shape(0), ys, y);
    } else if (auto* c = std::get_if<IntConv>(&s.params)) {
      conv(*c, get<T>(s.in[0], sa), shape(0), ys, y);
    } else if (auto* m = std::get_if<IntMatMul>(&s.params)) {
      matmul(*m, s, get<T>(s.in[0], sa), m->weights.empty() ? get<T>(s.in[1], sb) : sb, y);
    } else if (auto* l = std::get_if<IntLinear>(&s.params)) {
      linear<T>(*l, s, ys, y);
    } else if (std::get_if<IntMul>(&s.params)) {
      const auto &a = get<T>(s.in[0], sa), &b = get<T>(s.in[1], sb);
      auto ia = group_index(aligned(shape(0), ys.size()), ys), ib = group_index(aligned(shape(1), ys.size()), ys);
      for (std::size_t i = 0; i < y.size(); ++i) y[i] = a[ia[i]] * b[ib[i]];
    } else if (auto* k = std::get_if<IntPool>(&s.params)) {
      pool(*k, get<T>(s.in[0], sa), shape(0), ys, y);
    } else if (auto* v = std::get_if<IntMove>(&s.params)) {
      const Places& at = places[index];
      const std::vector<std::int64_t>& from = v->kind == IntMove::gather ? v->index : at.index;
      if (at.source.empty()) {
        const auto& a = get<T>(s.in[0], sa);
        if (from.empty()) y = a;
        else
          for (std::size_t i = 0; i < y.size(); ++i) y[i] = from[i] < 0 ? static_cast<T>(v->fill) : a[from[i]];
      } else {
        std::vector<std::vector<T>> scratch(s.in.size());
        std::vector<const std::vector<T>*> in;
        for (std::size_t i = 0; i < s.in.size(); ++i) in.push_back(&get<T>(s.in[i], scratch[i]));
        for (std::size_t i = 0; i < y.size(); ++i) y[i] = (*in[at.source[i]])[from[i]];
      }
    } else if (auto* r = std::get_if<IntRequant>(&s.params)) {
      requant(*r, index, get<T>(s.in[0], sa), ys, y);
    } else if (auto* a = std::get_if<IntArgMax>(&s.params)) {
      const auto& x = get<T>(s.in[0], sa);
      const Shape& xs = shape(0);
      std::int64_t n = xs[a->axis], outer = element_count(Shape(xs.begin(), xs.begin() + a->axis)), inner = element_count(Shape(xs.begin() + a->axis + 1, xs.end()));
      for (std::int64_t o = 0; o < outer; ++o)
        for (std::int64_t i = 0; i < inner; ++i) {
          std::int64_t best = 0;
          for (std::int64_t q = 1; q < n; ++q) {
            T e = x[(o * n + q) * inner + i], b = x[(o * n + best) * inner + i];
            if (e > b || (a->last && e == b)) best = q;
          }
          y[o * inner + i] = static_cast<T>(best);
        }
    } else if (auto* t = std::get_if<IntTopK>(&s.params)) {
      along(t->axis, get<T>(s.in[0], sa), shape(0), ys, y, [&](const std::vector<T>& x, std::vector<T>& r) {
        std::vector<std::size_t> place(x.size());
        std::iota(place.begin(), place.end(), std::size_t(0));
        std::partial_sort(place.begin(), place.begin() + t->k, place.end(), [&](std::size_t a, std::size_t b) { return x[a] == x[b] ? a < b : (x[a] > x[b]) == t->largest; });
        for (std::size_t j = 0; j < r.size(); ++j) r[j] = t->places ? static_cast<T>(place[j]) : x[place[j]];
      });
    } else if (auto* f = std::get_if<IntSoftmax>(&s.params)) {
      std::vector<std::int64_t> below, code;
      along(f->axis, get<T>(s.in[0], sa), shape(0), ys, y, [&](const std::vector<T>& x, std::vector<T>& r) {
        const T most = *std::max_element(x.begin(), x.end());
        below.clear();
        for (T v : x) below.push_back(static_cast<std::int64_t>(most - v));
        code.resize(x.size());
        softmax_by_table(below, f->exps, f->bits, code);
        r.assign(code.begin(), code.end());
      });
    } else if (auto* z = std::get_if<IntNormalize>(&s.params)) {
      std::vector<std::int64_t> narrow, code;
      along(z->axis, get<T>(s.in[0], sa), shape(0), ys, y, [&](const std::vector<T>& x, std::vector<T>& r) {
        narrow.assign(x.begin(), x.end());
        code.resize(x.size());
        normalise_by_table(narrow, z->roots, z->root_bits, z->bits, z->epsilon, code);
        r.assign(code.begin(), code.end());
      });
    } else {
      bug(__FILE__, __LINE__, "not an integer step");
    }
    put<T>(s.out, std::move(y));
  }

  static Shape aligned(Shape s, std::size_t rank) {
    while (s.size() < rank) s.insert(s.begin(), 1);
    return s;
  }

  template <class T>
  static void conv(const IntConv& c, const std::vector<T>& x, const Shape& xs, const Shape& ys, std::vector<T>& y) {
    std::int64_t C = xs[1], H = xs[2], W = xs[3], O = ys[1], P = ys[2], Q = ys[3], Cg = C / c.group, Og = O / c.group, K = Cg * c.kh * c.kw;
    std::vector<T> w(static_cast<std::size_t>(K * Og)), patch(static_cast<std::size_t>(P * Q * K)), out(static_cast<std::size_t>(P * Q * Og));
    for (std::int64_t g = 0; g < c.group; ++g) {
      for (std::int64_t o = 0; o < Og; ++o)
        for (std::int64_t k = 0; k < K; ++k) w[k * Og + o] = static_cast<T>(c.weights[(g * Og + o) * K + k]);
      for (std::int64_t n = 0; n < ys[0]; ++n) {
        T* at = patch.data();
        for (std::int64_t i = 0; i < P; ++i)
          for (std::int64_t j = 0; j < Q; ++j)
            for (std::int64_t k = 0; k < Cg; ++k)
              for (std::int64_t r = 0; r < c.kh; ++r) {
                std::int64_t h = i * c.stride_h - c.pad_top + r * c.dilation_h;
                for (std::int64_t s = 0; s < c.kw; ++s) {
                  std::int64_t v = j * c.stride_w - c.pad_left + s * c.dilation_w;
                  *at++ = h < 0 || h >= H || v < 0 || v >= W ? T(0) : x[((n * C + g * Cg + k) * H + h) * W + v];
                }
              }
        std::fill(out.begin(), out.end(), T(0));
        gemm(patch.data(), w.data(), out.data(), P * Q, K, Og);
        for (std::int64_t o = 0; o < Og; ++o)
          for (std::int64_t q = 0; q < P * Q; ++q) y[(n * O + g * Og + o) * P * Q + q] = out[q * Og + o];
      }
    }
  }

  template <class T>
  void matmul(const IntMatMul& m, const Step& s, const std::vector<T>& a, const std::vector<T>& b, std::vector<T>& y) {
    if (!m.weights.empty()) {
      std::vector<T> w(m.weights.begin(), m.weights.end());
      gemm(a.data(), w.data(), y.data(), static_cast<std::int64_t>(a.size()) / m.k, m.k, m.m);
      return;
    }
    Shape as = buf(s.in[0]).shape, bs = buf(s.in[1]).shape;
    if (as.size() == 1) as.insert(as.begin(), 1);
    if (bs.size() == 1) bs.push_back(1);
    std::int64_t rows = as[as.size() - 2];
    Shape ab(as.begin(), as.end() - 2), bb(bs.begin(), bs.end() - 2), batch(std::max(ab.size(), bb.size()), 1);
    ab = aligned(ab, batch.size());
    bb = aligned(bb, batch.size());
    for (std::size_t i = 0; i < batch.size(); ++i) batch[i] = std::max(ab[i], bb[i]);
    auto ia = group_index(ab, batch), ib = group_index(bb, batch);
    for (std::size_t i = 0; i < ia.size(); ++i)
      gemm(a.data() + ia[i] * rows * m.k, b.data() + ib[i] * m.k * m.m, y.data() + static_cast<std::int64_t>(i) * rows * m.m, rows, m.k, m.m);
  }

  template <class T>
  void linear(const IntLinear& l, const Step& s, const Shape& ys, std::vector<T>& y) {
    auto gc = group_index(l.c.shape, ys);
    for (std::size_t i = 0; i < y.size(); ++i) y[i] = static_cast<T>(l.c.v[gc[i]]);
    for (std::size_t j = 0; j < l.k.size(); ++j) {
      std::vector<T> scratch;
      const auto& x = get<T>(s.in[j], scratch);
      auto g = group_index(l.k[j].shape, ys), at = group_index(aligned(buf(s.in[j]).shape, ys.size()), ys);
      std::vector<T> k(l.k[j].v.begin(), l.k[j].v.end());
      for (std::size_t i = 0; i < y.size(); ++i) y[i] += k[g[i]] * x[at[i]];
    }
    auto bound = [&](const std::optional<Grouped<Int128>>& b, bool lower) {
      if (!b) return;
      auto g = group_index(b->shape, ys);
      for (std::size_t i = 0; i < y.size(); ++i) {
        T v = static_cast<T>(b->v[g[i]]);
        y[i] = lower ? std::max(y[i], v) : std::min(y[i], v);
      }
    };
    bound(l.lo, true);
    bound(l.hi, false);
  }

  template <class T>
  static void pool(const IntPool& k, const std::vector<T>& x, const Shape& xs, const Shape& ys, std::vector<T>& y) {
    std::int64_t H = xs[2], W = xs[3], P = ys[2], Q = ys[3];
    for (std::int64_t i = 0; i < ys[0] * ys[1]; ++i) {
      bool minimum = k.kind == IntPool::min || (!k.min_channel.empty() && k.min_channel[i % ys[1]]);
      for (std::int64_t a = 0; a < P; ++a)
        for (std::int64_t b = 0; b < Q; ++b) {
          std::int64_t h0 = std::max<std::int64_t>(0, a * k.stride_h - k.pad_top), h1 = std::min(H, a * k.stride_h - k.pad_top + k.kh);
          std::int64_t w0 = std::max<std::int64_t>(0, b * k.stride_w - k.pad_left), w1 = std::min(W, b * k.stride_w - k.pad_left + k.kw);
          T acc = 0;
          if (k.kind == IntPool::sum) {
            for (std::int64_t h = h0; h < h1; ++h)
              for (std::int64_t w = w0; w < w1; ++w) acc += x[(i * H + h) * W + w];
            if (!k.position_factor.empty()) acc *= static_cast<T>(k.position_factor[a * Q + b]);
          } else {
            acc = x[(i * H + h0) * W + w0];
            for (std::int64_t h = h0; h < h1; ++h)
              for (std::int64_t w = w0; w < w1; ++w) {
                T v = x[(i * H + h) * W + w];
                acc = minimum ? std::min(acc, v) : std::max(acc, v);
              }
          }
          y[(i * P + a) * Q + b] = acc;
        }
    }
  }

  template <class T>
  void requant(const IntRequant& r, std::size_t index, const std::vector<T>& x, const Shape& ys, std::vector<T>& y) {
    const auto& g = group[index];
    if (r.tables.empty()) {
      values(r.in, ys, x, [&](std::size_t i, const Rational& q) {
        const Cast& c = r.casts[g[i]];
        std::int64_t k = cast_code(c, q);
        y[i] = static_cast<T>(r.plain_codes ? k : c.level(k));
      });
      return;
    }
    const auto& tables = table[index];
    if (tables.empty()) {
      for (std::size_t i = 0; i < y.size(); ++i) y[i] = static_cast<T>(r.levels[level_of(r.tables[g[i]], x[i])]);
      return;
    }
    if constexpr (std::is_same_v<T, std::int32_t>)
      if (!levels[index].empty()) {
        const std::int64_t length = run_length[index], runs = static_cast<std::int64_t>(y.size()) / length;
        parallel_for(runs, std::max<std::int64_t>(1, (1 << 14) / length), [&](std::int64_t k) {
          levels[index][static_cast<std::size_t>(g[static_cast<std::size_t>(k * length)])].run(x.data() + k * length, y.data() + k * length, length);
        });
        return;
      }
    for (std::size_t i = 0; i < y.size(); ++i) {
      const auto& t = tables[g[i]];
      std::int64_t n = static_cast<std::int64_t>(x[i]);
      if (r.tables[g[i]].flip) n = -n;
      std::int64_t level = 0;
      if (t.size() <= 16) {
        for (std::int64_t v : t) level += v <= n;
      } else {
        level = std::upper_bound(t.begin(), t.end(), n) - t.begin();
      }
      y[i] = static_cast<T>(r.levels[level]);
    }
  }

  // The exact rational of every element.
  template <class T, class F>
  static void values(const Carrier& c, const Shape& shape, const std::vector<T>& n, F f) {
    auto is = group_index(c.s.shape, shape), ib = group_index(c.b.shape, shape);
    auto il = group_index(c.lo ? c.lo->shape : Shape{}, shape), ih = group_index(c.hi ? c.hi->shape : Shape{}, shape);
    for (std::size_t i = 0; i < n.size(); ++i) f(i, rational(c, is[i], ib[i], il[i], ih[i], n[i]));
  }
  static Rational rational(const Carrier& c, int s, int b, int lo, int hi, Int128 n) {
    Rational x = c.s.v[s] * from_int128(n) + c.b.v[b];
    if (c.lo && x < c.lo->v[lo]) x = c.lo->v[lo];
    if (c.hi && x > c.hi->v[hi]) x = c.hi->v[hi];
    return x;
  }

  // Exact values rounded once to float: in double where that decides the rounding, else by rationals. Integers (`whole`) beyond f32 stay what they are.
  template <class T>
  static void to_floats(const Carrier& c, const Shape& shape, const std::vector<T>& n, double* out, bool whole = false) {
    auto is = group_index(c.s.shape, shape), ib = group_index(c.b.shape, shape);
    auto il = group_index(c.lo ? c.lo->shape : Shape{}, shape), ih = group_index(c.hi ? c.hi->shape : Shape{}, shape);
    auto doubles = [](const Grouped<Rational>& g) {
      std::vector<double> v;
      for (const Rational& q : g.v) v.push_back(nearest_double(q));
      return v;
    };
    std::vector<double> s = doubles(c.s), b = doubles(c.b);
    for (std::size_t i = 0; i < n.size(); ++i) {
      if (!c.lo && !c.hi && n[i] > -(Int128(1) << 53) && n[i] < (Int128(1) << 53)) {
        double a = s[is[i]] * static_cast<double>(n[i]), v = a + b[ib[i]];
        double error = (std::abs(a) + std::abs(b[ib[i]]) + std::abs(v)) * 0x1p-51;
        float lo = static_cast<float>(v - error), hi = static_cast<float>(v + error);
        if (lo == hi && std::isnormal(lo) && !(whole && std::abs(lo) >= 0x1p24f)) {
          out[i] = lo;
          continue;
        }
      }
      const Rational x = rational(c, is[i], ib[i], il[i], ih[i], n[i]);
      out[i] = whole ? nearest_double(x) : static_cast<double>(nearest_float(x));
    }
  }

  void quantize(const QuantizeFloat& q, std::size_t index) {
    const Step& s = p.steps[index];
    const auto& x = d[s.in[0]].f;
    const auto& g = group[index];
    std::vector<std::int64_t> y(x.size());
    std::vector<std::int32_t> gc;
    if (q.thresholds.empty()) gc = group_index(q.cast.cast_group, buf(s.out).shape);
    for (std::size_t i = 0; i < x.size(); ++i) {
      if (!std::isfinite(x[i]))
        throw bad_input("element {} of '{}' is not finite: an integer format has no code for it", i, buf(s.in[0]).name).at(s.node);
      if (!q.thresholds.empty() && static_cast<double>(static_cast<float>(x[i])) == x[i]) {
        const auto& t = q.thresholds[g[i]];
        y[i] = q.cast.levels[std::upper_bound(t.begin(), t.end(), static_cast<float>(x[i])) - t.begin()];
      } else {
        y[i] = cast_one(q.cast, q.cast.custom_steps.empty() ? (gc.empty() ? group_of(q, s, i) : gc[i]) : 0, q.cast.custom_steps.empty() ? 0 : g[i], x[i]);
      }
    }
    put<std::int64_t>(s.out, std::move(y));
  }
  std::int32_t group_of(const QuantizeFloat& q, const Step& s, std::size_t i) const { return group_index(q.cast.cast_group, buf(s.out).shape)[i]; }
  static std::int64_t cast_one(const IntRequant& r, std::int32_t cast_group, std::int32_t table_group, double x) {
    if (!r.custom_steps.empty()) {
      const auto& t = r.custom_steps[r.custom_steps.size() == 1 ? 0 : table_group];
      Rational e = exact(x);
      return r.levels[std::count_if(t.begin(), t.end(), [&](const Rational& v) { return e >= v; })];
    }
    const Cast& c = r.casts[cast_group];
    std::int64_t k = cast_code(c, exact(x));
    return r.plain_codes ? k : c.level(k);
  }

  void float_op(const FloatOp& f, const Step& s) {
    const Graph& g = *p.graph;
    const Node& n = g.nodes[f.node];
    std::vector<Array<double>> in(s.in.size()), o(n.outputs.size());
    EvalArgs<double> e{g, n, {}, o};
    for (std::size_t i = 0; i < s.in.size(); ++i) {
      if (s.in[i] >= 0) {
        in[i].shape = buf(s.in[i]).shape;
        in[i].v = d[s.in[i]].f;
      }
      e.in.push_back(s.in[i] < 0 ? nullptr : &in[i]);
    }
    op_of(g, n).eval.as_double(e);
    std::vector<double>& y = o[static_cast<std::size_t>(f.output)].v;
    const DType t = g.values[n.outputs[static_cast<std::size_t>(f.output)]].type.dtype;
    for (double& v : y) v = held_as(t, v);
    d[s.out].f = t == DType::f32 ? std::move(y) : array_of(tensor_of(o[static_cast<std::size_t>(f.output)], t)).v;
  }

  bool hooked(const Step& s) {
    if (!hook || (!std::holds_alternative<IntConv>(s.params) && !std::holds_alternative<IntMatMul>(s.params))) return false;
    std::vector<std::vector<std::int64_t>> x;
    for (int i : s.in) {
      if (d[i].width == 128) return false;
      std::vector<std::int64_t> scratch;
      x.push_back(get<std::int64_t>(i, scratch));
    }
    if (d[s.out].width == 128) return false;
    std::vector<std::int64_t> y(static_cast<std::size_t>(element_count(buf(s.out).shape)));
    if (!hook(s, x, y)) return false;
    put<std::int64_t>(s.out, std::move(y));
    return true;
  }

  void run(std::size_t i) {
    const Step& s = p.steps[i];
    if (auto* q = std::get_if<QuantizeFloat>(&s.params)) return quantize(*q, i);
    if (auto* f = std::get_if<FloatOp>(&s.params)) return float_op(*f, s);
    if (auto* t = std::get_if<ToFloat>(&s.params)) {
      std::vector<Int128> scratch;
      to_floats(t->in, buf(s.out).shape, get<Int128>(s.in[0], scratch), d[s.out].f.data(), t->whole);
      return;
    }
    if (auto* r = std::get_if<DelayRead>(&s.params)) {
      const State& st = p.states[r->state];
      const auto& v = states[r->state].empty() ? st.init : states[r->state];
      put<std::int64_t>(s.out, std::vector<std::int64_t>(v.begin(), v.begin() + element_count(st.shape)));
      return;
    }
    if (auto* w = std::get_if<DelayWrite>(&s.params)) {
      const State& st = p.states[w->state];
      auto& v = states[w->state];
      if (v.empty())
        for (std::int64_t k = 0; k < st.depth; ++k) v.insert(v.end(), st.init.begin(), st.init.end());
      std::vector<std::int64_t> scratch;
      const auto& x = get<std::int64_t>(s.in[0], scratch);
      v.erase(v.begin(), v.begin() + static_cast<std::int64_t>(x.size()));
      v.insert(v.end(), x.begin(), x.end());
      return;
    }
    if (hooked(s)) return;
    if (width[i] == 32) integer_step<std::int32_t>(i);
    else if (width[i] == 64) integer_step<std::int64_t>(i);
    else integer_step<Int128>(i);
  }
};

Executor::Executor(ExactProgram program) : impl_(std::make_unique<Impl>(std::move(program))) {}
Executor::~Executor() = default;
Executor::Executor(Executor&&) noexcept = default;
const ExactProgram& Executor::program() const { return impl_->p; }
int Executor::steps_in_bytes() const {
  return static_cast<int>(std::count_if(impl_->bytes.begin(), impl_->bytes.end(), [](const Bytes& b) { return b.taken(); }));
}
void Executor::reset_state() {
  for (auto& s : impl_->states) s.clear();
}
void Executor::set_contraction_hook(ContractionHook hook) { impl_->hook = std::move(hook); }

std::vector<std::int64_t> Executor::integers(int buffer) const {
  std::vector<std::int64_t> scratch;
  const Store& s = impl_->d.at(static_cast<std::size_t>(buffer));
  TANDEM_CHECK(impl_->buf(buffer).integer && s.width <= 64, "buffer {} does not hold integers of 64 bits", buffer);
  return s.width == 32 ? std::vector<std::int64_t>(s.i32.begin(), s.i32.end()) : s.i64;
}

std::vector<Tensor> Executor::run(const std::vector<Tensor>& inputs) {
  Impl& m = *impl_;
  if (inputs.size() != m.p.inputs.size()) throw bad_input("the graph has {} inputs, {} were given", m.p.inputs.size(), inputs.size());
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    int b = m.p.inputs[i].buffer;
    const Buffer& info = m.buf(b);
    if (inputs[i].shape() != info.shape)
      throw bad_input("input '{}' has shape {}, the graph expects {}", info.name, tandem::to_string(inputs[i].shape()), tandem::to_string(info.shape));
    if (info.integer) {
      std::vector<std::int64_t> v(static_cast<std::size_t>(inputs[i].size()));
      for (std::int64_t k = 0; k < inputs[i].size(); ++k) v[k] = inputs[i].int_at(k);
      m.put<std::int64_t>(b, std::move(v));
    } else if (inputs[i].dtype() == DType::f32) {
      auto v = inputs[i].values<float>();
      m.d[b].f.assign(v.begin(), v.end());
    } else {
      m.d[b].f = array_of(inputs[i]).v;
    }
  }
  for (std::size_t i = 0; i < m.p.steps.size(); ++i) m.run(i);
  std::vector<Tensor> out;
  for (const Port& o : m.p.outputs) {
    const Buffer& b = m.buf(o.buffer);
    Array<double> a(b.shape);
    if (!o.exact) {
      a.v = m.d[o.buffer].f;
    } else if (o.dtype == DType::f32) {
      std::vector<Int128> scratch;
      Impl::to_floats(o.carrier, b.shape, m.get<Int128>(o.buffer, scratch), a.v.data());
    } else {
      std::vector<Int128> scratch;
      Array<Rational> q(b.shape);
      Impl::values(o.carrier, b.shape, m.get<Int128>(o.buffer, scratch), [&](std::size_t i, const Rational& x) { q.v[i] = x; });
      out.push_back(tensor_of(q, o.dtype));
      continue;
    }
    out.push_back(tensor_of(a, o.dtype));
  }
  return out;
}

std::vector<Tensor> in_portions(const Tensor& x, std::int64_t rows, const std::function<std::vector<Tensor>(const Tensor&)>& run) {
  const std::int64_t n = x.rank() ? x.shape()[0] : 0;
  const auto copy = [](const Tensor& from, std::int64_t i, Tensor& to, std::int64_t j, std::int64_t count) {
    const std::size_t row = from.bytes() / static_cast<std::size_t>(from.shape()[0]);
    std::copy_n(static_cast<const std::byte*>(from.raw()) + row * static_cast<std::size_t>(i), row * static_cast<std::size_t>(count),
                static_cast<std::byte*>(to.raw_mutable()) + row * static_cast<std::size_t>(j));
  };
  std::vector<Tensor> out;
  for (std::int64_t at = 0; at < n; at += rows) {
    const std::int64_t have = std::min(rows, n - at);
    Tensor portion = x.rows(at, at + have);
    if (have < rows) {
      Shape whole = x.shape();
      whole[0] = rows;
      Tensor padded(x.dtype(), whole);
      for (std::int64_t r = 0; r < rows; ++r) copy(portion, std::min(r, have - 1), padded, r, 1);
      portion = padded;
    }
    const std::vector<Tensor> y = run(portion);
    for (std::size_t i = 0; i < y.size(); ++i) {
      Shape s = y[i].shape();
      if (s.empty() || s[0] != rows) throw bad_input("output of shape {} has no batch axis", tandem::to_string(s)).fix(fmt::format("give {} rows at a time", rows));
      s[0] = n;
      if (at == 0) out.emplace_back(y[i].dtype(), s);
      copy(y[i], 0, out[i], at, have);
    }
  }
  return out;
}

namespace {
// But for the order in which floats are added.
bool same_row(const Tensor& a, const Tensor& b) {
  if (a.shape() != b.shape()) return false;
  double most = 0, off = 0;
  for (std::int64_t i = 0; i < a.size(); ++i) {
    const double u = a.at(i), v = b.at(i);
    if (u == v || (std::isnan(u) && std::isnan(v))) continue;
    most = std::max({most, std::abs(u), std::abs(v)}), off = std::max(off, std::abs(u - v));
    if (!(std::isfinite(u) && std::isfinite(v))) return false;
  }
  return off <= 1e-4 * most;
}
}  // namespace

std::vector<Tensor> run_rows(const Graph& graph, const Tensor& x, std::int64_t batch) {
  if (graph.inputs.size() != 1) throw bad_input("the graph has {} inputs; rows of data need one", graph.inputs.size());
  const Value& in = graph.values[graph.inputs[0]];
  if (!in.type.dims || in.type.dims->empty()) throw bad_input("input '{}' has no batch axis", in.name);
  const std::int64_t n = x.rank() ? x.shape()[0] : 0;
  struct Bound {
    std::optional<Executor> exact;
    std::optional<FloatExecutor> floating;  // instead, where nothing is quantised
    std::vector<Tensor> run(const Tensor& portion) { return floating ? floating->run({portion}) : exact->run({portion}); }
  };
  const auto bind_rows = [&](std::int64_t rows) {
    Graph g = graph;
    Dims& d = *g.values[g.inputs[0]].type.dims;
    d[0] = Dim(rows);
    ExactProgram p = lower_exact(g);
    const auto on_host = [](const Step& s) { return std::holds_alternative<FloatOp>(s.params); };
    Bound b;
    if (std::all_of(p.steps.begin(), p.steps.end(), on_host)) b.floating.emplace(std::move(g));
    else b.exact.emplace(std::move(p));
    return b;
  };
  const Tensor rows = x.dtype() == in.type.dtype ? x : x.cast(in.type.dtype);
  const bool known = (*in.type.dims)[0].known();
  const std::int64_t stated = known ? (*in.type.dims)[0].n : 0, most = std::max<std::int64_t>(1, std::min(batch, n));
  // A stated batch of 1 is only a habit of exporters where nothing else depends on it: where the graph takes more rows at a time, and the
  // first and the last of them come out as they do alone.
  std::optional<Bound> many;
  if (stated == 1 && n > 1) try {
      many.emplace(bind_rows(most));
      Bound one = bind_rows(1);
      const std::vector<Tensor> y = many->run(rows.rows(0, most));
      bool apart = true;
      for (std::int64_t r : {std::int64_t{0}, most - 1}) {
        const std::vector<Tensor> alone = one.run(rows.rows(r, r + 1));
        for (std::size_t i = 0; i < y.size() && apart; ++i) apart = y[i].rank() > 0 && y[i].shape()[0] == most && same_row(y[i].rows(r, r + 1), alone[i]);
      }
      if (!apart) many.reset();
    } catch (const Error&) {
      many.reset();
    }
  const std::int64_t at_once = many || !known ? most : stated;
  Bound b = many ? std::move(*many) : bind_rows(at_once);
  return in_portions(rows, at_once, [&](const Tensor& portion) { return b.run(portion); });
}

}  // namespace tandem::exec
