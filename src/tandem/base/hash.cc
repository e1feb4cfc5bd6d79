#include "tandem/base/hash.h"

namespace tandem {

std::string hex16(std::uint64_t h) {
  // FNV's low bits mix well, its high bits less so: one round of splitmix64's finaliser.
  h ^= h >> 30;
  h *= 0xbf58476d1ce4e5b9ull;
  h ^= h >> 27;
  h *= 0x94d049bb133111ebull;
  h ^= h >> 31;
  std::string r(16, '0');
  for (int i = 15; i >= 0; --i, h >>= 4) r[static_cast<std::size_t>(i)] = "0123456789abcdef"[h & 15u];
  return r;
}

}  // namespace tandem
