// Fuzz target: any bytes as what tandem-hdf5 wrote. The nonce and the hash are made to fit, so that the rest is
// reached. Seeds: tests/corpus/hdf5.
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>

#include "tandem/base/error.h"
#include "tandem/base/hash.h"
#include "tandem/tool/hdf5.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace tandem;
  Limits limits;
  limits.memory_bytes = 64 << 20;
  limits.elements = 1 << 22;
  limits.nodes = 10000;
  std::string s(reinterpret_cast<const char*>(data), size);
  std::uint64_t nonce = 0;
  if (s.size() >= 16) std::memcpy(&nonce, s.data() + 8, sizeof nonce);
  if (s.size() >= 8) {
    const std::uint64_t hash = fnv1a(std::string_view(s).substr(0, s.size() - 8));
    std::memcpy(s.data() + s.size() - 8, &hash, sizeof hash);
  }
  try {
    const tool::Hdf5File f = tool::parse_hdf5_container(s, nonce, limits);
    for (const auto& [path, a] : f.datasets)
      if (a.is_text ? static_cast<std::int64_t>(a.text.size()) != element_count(a.shape) : a.numbers.shape() != a.shape) std::abort();
  } catch (const Error& e) {
    if (e.code() == Exit::bug) {
      std::fprintf(stderr, "%s\n", e.full().c_str());
      std::abort();
    }
  }
  return 0;
}
