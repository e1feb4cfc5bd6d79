// Stable hashes for caches, provenance and file names (not cryptographic: FNV-1a with a final mix).
#pragma once
#include <cstdint>
#include <string>
#include <string_view>

namespace tandem {
constexpr std::uint64_t fnv1a(std::string_view s, std::uint64_t h = 14695981039346656037ull) {
  for (unsigned char c : s) { h ^= c; h *= 1099511628211ull; }
  return h;
}
std::string hex16(std::uint64_t h);
}  // namespace tandem
