// Dot products of four bytes into 32 bits, exact: sum over i < 4 of a[i] * b[i], a unsigned, b signed, added to an int32. No
// intermediate saturates (Intel's vpmaddubsw does; oneDNN's int8 below VNNI therefore may). Signed a: add 128 to each and take
// 128 * sum(b) off the result, which numerics/int8.h does.
//
// The unit of work is a tile: up to eight rows by up to 64 columns, accumulators in registers over the whole depth.
#pragma once
#include <cstdint>
#include <span>
#include <string_view>

namespace tandem {

struct Dot4Tile {
  // Row r of the left side at step t: `depth` groups of four bytes from rows[t * count + r] on. Any alignment.
  const std::uint8_t* const* rows = nullptr;
  std::int64_t steps = 1, depth = 0;
  int count = 0;                          // rows, 1 to kDot4Rows
  const std::int8_t* panel = nullptr;     // [steps * depth][16 * vectors][4]
  int vectors = 0;                        // of 16 columns, 1 to kDot4Vectors
  const std::int32_t* start = nullptr;    // [16 * vectors]: what each column begins with
  std::int32_t* to = nullptr;             // [count][width], rows `stride` apart
  std::int64_t stride = 0;
  int width = 0;                          // columns written, at most 16 * vectors
};
inline constexpr int kDot4Rows = 8, kDot4Vectors = 4;
// Rows that a tile of so many vectors should have: as many as the registers hold.
inline int dot4_rows(int vectors) { return vectors == 4 ? 6 : 8; }

struct Dot4Kernel {
  std::string_view name;                  // "scalar", "avx2", "avx_vnni", "avx512_vnni"
  void (*tile)(const Dot4Tile&);
};
// Those that this machine runs, the slowest ("scalar", the definition) first. All give the same integers.
std::span<const Dot4Kernel> dot4_kernels();
inline const Dot4Kernel& dot4_best() { return dot4_kernels().back(); }

}  // namespace tandem
