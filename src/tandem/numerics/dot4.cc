#include "tandem/numerics/dot4.h"

#include <cstring>
#include <vector>

#if defined(__x86_64__) && defined(__GNUC__)
#define TANDEM_X86 1
#include <immintrin.h>
#endif

namespace tandem {
namespace {

// The definition. In unsigned arithmetic: a sum beyond 32 bits wraps, as the instructions do.
void tile_scalar(const Dot4Tile& t) {
  for (int r = 0; r < t.count; ++r) {
    std::uint32_t acc[16 * kDot4Vectors];
    const int columns = 16 * t.vectors;
    for (int j = 0; j < columns; ++j) acc[j] = static_cast<std::uint32_t>(t.start[j]);
    const std::int8_t* b = t.panel;
    for (std::int64_t s = 0; s < t.steps; ++s) {
      const std::uint8_t* a = t.rows[s * t.count + r];
      for (std::int64_t k = 0; k < t.depth; ++k, a += 4)
        for (int j = 0; j < columns; ++j, b += 4) acc[j] += static_cast<std::uint32_t>(a[0] * b[0] + a[1] * b[1] + a[2] * b[2] + a[3] * b[3]);
    }
    std::memcpy(t.to + r * t.stride, acc, static_cast<std::size_t>(t.width) * 4);
  }
}

#ifdef TANDEM_X86
#define TANDEM_INLINE inline __attribute__((always_inline))

// One tile of R rows by V vectors of 16 columns. Rows beyond `count` repeat the last and are not written.
template <int R, int V>
__attribute__((target("avx512f,avx512bw,avx512vl,avx512vnni"))) void tile_512(const Dot4Tile& t) {
  __m512i acc[R][V];
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) acc[r][v] = _mm512_loadu_si512(t.start + 16 * v);
  const std::int8_t* b = t.panel;
  for (std::int64_t s = 0; s < t.steps; ++s) {
    const std::uint8_t* a[R];
    const std::uint8_t* const* from = t.rows + s * t.count;
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) a[r] = from[r < t.count ? r : t.count - 1];
    for (std::int64_t k = 0; k < t.depth; ++k, b += 64 * V) {
      __m512i w[V];
#pragma GCC unroll 4
      for (int v = 0; v < V; ++v) w[v] = _mm512_loadu_si512(b + 64 * v);
#pragma GCC unroll 8
      for (int r = 0; r < R; ++r) {
        std::int32_t four;
        std::memcpy(&four, a[r] + 4 * k, 4);
        const __m512i x = _mm512_set1_epi32(four);
#pragma GCC unroll 4
        for (int v = 0; v < V; ++v) acc[r][v] = _mm512_dpbusd_epi32(acc[r][v], x, w[v]);
      }
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r) {
    if (r >= t.count) break;
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) {
      const int left = t.width - 16 * v;
      if (left >= 16) _mm512_storeu_si512(t.to + r * t.stride + 16 * v, acc[r][v]);
      else if (left > 0) _mm512_mask_storeu_epi32(t.to + r * t.stride + 16 * v, static_cast<__mmask16>((1u << left) - 1), acc[r][v]);
    }
  }
}
void tile_avx512(const Dot4Tile& t) {
  switch (t.vectors) {
    case 1: return tile_512<8, 1>(t);
    case 2: return tile_512<8, 2>(t);
    case 3: return tile_512<8, 3>(t);
    default:
      if (t.count > 6) return tile_512<8, 4>(t);
      return tile_512<6, 4>(t);
  }
}

// With registers of eight columns: the tile in pieces of four rows by two registers. `DOT` adds the four products of each column to `acc`.
#define TANDEM_TILE_256(NAME, TARGET, DOT)                                                                             \
  __attribute__((target(TARGET))) void NAME(const Dot4Tile& t) {                                                       \
    for (int column = 0; column < t.width; column += 16)                                                               \
      for (int first = 0; first < t.count; first += 4) {                                                               \
        const int count = t.count - first < 4 ? t.count - first : 4;                                                   \
        __m256i acc[4][2];                                                                                             \
        for (int r = 0; r < 4; ++r)                                                                                    \
          for (int v = 0; v < 2; ++v) acc[r][v] = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(t.start + column + 8 * v)); \
        const std::int8_t* b = t.depth ? t.panel + 4 * column : nullptr;                                               \
        for (std::int64_t s = 0; s < t.steps; ++s) {                                                                   \
          const std::uint8_t* a[4];                                                                                    \
          for (int r = 0; r < 4; ++r) a[r] = t.rows[s * t.count + first + (r < count ? r : count - 1)];                \
          for (std::int64_t k = 0; k < t.depth; ++k, b += 64 * t.vectors) {                                            \
            const __m256i w0 = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(b));                                \
            const __m256i w1 = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(b + 32));                           \
            for (int r = 0; r < 4; ++r) {                                                                              \
              std::int32_t four;                                                                                       \
              std::memcpy(&four, a[r] + 4 * k, 4);                                                                     \
              const __m256i x = _mm256_set1_epi32(four);                                                               \
              DOT(acc[r][0], x, w0);                                                                                   \
              DOT(acc[r][1], x, w1);                                                                                   \
            }                                                                                                          \
          }                                                                                                            \
        }                                                                                                              \
        for (int r = 0; r < count; ++r) {                                                                              \
          alignas(32) std::int32_t line[16];                                                                           \
          _mm256_store_si256(reinterpret_cast<__m256i*>(line), acc[r][0]);                                             \
          _mm256_store_si256(reinterpret_cast<__m256i*>(line + 8), acc[r][1]);                                         \
          const int width = t.width - column < 16 ? t.width - column : 16;                                             \
          std::memcpy(t.to + (first + r) * t.stride + column, line, static_cast<std::size_t>(width) * 4);              \
        }                                                                                                              \
      }                                                                                                                \
  }
// Even and odd bytes as 16-bit numbers: each pair of products fits 32 bits.
#define TANDEM_DOT_WIDENED(ACC, X, W)                                                                                  \
  do {                                                                                                                 \
    const __m256i even = _mm256_madd_epi16(_mm256_and_si256(X, _mm256_set1_epi16(255)), _mm256_srai_epi16(_mm256_slli_epi16(W, 8), 8)); \
    const __m256i odd = _mm256_madd_epi16(_mm256_srli_epi16(X, 8), _mm256_srai_epi16(W, 8));                           \
    ACC = _mm256_add_epi32(ACC, _mm256_add_epi32(even, odd));                                                          \
  } while (false)
#define TANDEM_DOT_VEX(ACC, X, W) ACC = _mm256_dpbusd_avx_epi32(ACC, X, W)
TANDEM_TILE_256(tile_avx2, "avx2", TANDEM_DOT_WIDENED)
#if __GNUC__ >= 11 || defined(__clang__)
#define TANDEM_AVX_VNNI 1
TANDEM_TILE_256(tile_avx_vnni, "avx2,avxvnni", TANDEM_DOT_VEX)
#endif
#endif

std::vector<Dot4Kernel> available() {
  std::vector<Dot4Kernel> k{{"scalar", tile_scalar}};
#ifdef TANDEM_X86
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx2")) k.push_back({"avx2", tile_avx2});
#ifdef TANDEM_AVX_VNNI
  // Not among the names that __builtin_cpu_supports knows here: leaf 7.1, bit 4 of eax.
  std::uint32_t a = 7, b = 0, c = 1, d = 0;
  if (__builtin_cpu_supports("avx2")) {
    __asm__("cpuid" : "+a"(a), "=b"(b), "+c"(c), "=d"(d));
    if (a & 16) k.push_back({"avx_vnni", tile_avx_vnni});
  }
#endif
  if (__builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl")) k.push_back({"avx512_vnni", tile_avx512});
#endif
  return k;
}

}  // namespace

std::span<const Dot4Kernel> dot4_kernels() {
  static const std::vector<Dot4Kernel> kernels = available();
  return kernels;
}

}  // namespace tandem
