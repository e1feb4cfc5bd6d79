#include "tandem/base/rng.h"

#include <cmath>
#include <numbers>

#include "tandem/base/error.h"
#include "tandem/base/hash.h"

namespace tandem {
namespace {

std::uint64_t mix(std::uint64_t z) {  // splitmix64
  z += 0x9e3779b97f4a7c15ull;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
  return z ^ (z >> 31);
}

}  // namespace

std::array<std::uint32_t, 4> philox4x32_10(std::array<std::uint32_t, 4> c, std::array<std::uint32_t, 2> k) {
  for (int round = 0; round < 10; ++round) {
    if (round > 0) {
      k[0] += 0x9E3779B9u;
      k[1] += 0xBB67AE85u;
    }
    const std::uint64_t p0 = std::uint64_t{0xD2511F53u} * c[0];
    const std::uint64_t p1 = std::uint64_t{0xCD9E8D57u} * c[2];
    c = {static_cast<std::uint32_t>(p1 >> 32) ^ c[1] ^ k[0], static_cast<std::uint32_t>(p1),
         static_cast<std::uint32_t>(p0 >> 32) ^ c[3] ^ k[1], static_cast<std::uint32_t>(p0)};
  }
  return c;
}

Rng::Rng(std::uint64_t seed, std::string_view stream) : key_(mix(mix(seed) ^ fnv1a(stream))) {}

Rng Rng::fork(std::string_view name) const { return Rng(key_, name); }

Rng Rng::fork(std::uint64_t index) const {
  Rng r(key_, "#");
  r.key_ = mix(r.key_ ^ mix(index));
  return r;
}

std::array<std::uint32_t, 4> Rng::block(std::uint64_t i) const {
  return philox4x32_10({static_cast<std::uint32_t>(i), static_cast<std::uint32_t>(i >> 32), 0, 0},
                       {static_cast<std::uint32_t>(key_), static_cast<std::uint32_t>(key_ >> 32)});
}

std::uint32_t Rng::u32() {
  if (used_ == 4) {
    buf_ = block(cursor_++);
    used_ = 0;
  }
  return buf_[static_cast<std::size_t>(used_++)];
}

std::uint64_t Rng::u64() {
  const std::uint64_t lo = u32();
  return lo | (std::uint64_t{u32()} << 32);
}

std::int64_t Rng::range(std::int64_t lo, std::int64_t hi) {
  TANDEM_CHECK(lo <= hi, "Rng::range({}, {}) is empty", lo, hi);
  const std::uint64_t n = static_cast<std::uint64_t>(hi) - static_cast<std::uint64_t>(lo) + 1;
  if (n == 0) return static_cast<std::int64_t>(u64());  // all 2^64 values
  // Lemire's multiply and reject: the low word below 2^64 mod n would favour some results.
  const std::uint64_t reject = (0 - n) % n;
  for (;;) {
    const unsigned __int128 m = static_cast<unsigned __int128>(u64()) * n;
    if (static_cast<std::uint64_t>(m) >= reject)
      return static_cast<std::int64_t>(static_cast<std::uint64_t>(lo) + static_cast<std::uint64_t>(m >> 64));
  }
}

double Rng::uniform() { return static_cast<double>(u64() >> 11) * 0x1p-53; }

double Rng::normal() {
  const double u = 1.0 - uniform();  // (0, 1]: the logarithm is finite
  const double v = uniform();
  return std::sqrt(-2.0 * std::log(u)) * std::cos(2.0 * std::numbers::pi * v);
}

}  // namespace tandem
