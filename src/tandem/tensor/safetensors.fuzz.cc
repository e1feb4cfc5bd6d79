// Fuzz target: any bytes as .safetensors. A file is read or refused with an Error; what is read survives a round trip.
// Seeds: tests/corpus/safetensors.
#include <cstddef>
#include <cstdint>
#include <cstdlib>

#include "tandem/tensor/safetensors.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace tandem;
  Limits limits;
  limits.memory_bytes = 64 << 20;
  try {
    const Archive a = parse_safetensors({reinterpret_cast<const char*>(data), size}, limits);
    const Archive b = parse_safetensors(safetensors_bytes(a), limits);
    if (a.size() != b.size()) std::abort();
    for (const auto& [name, t] : a)
      if (!b.at(name).same(t)) std::abort();
  } catch (const Error& e) {
    if (e.code() == Exit::bug) std::abort();
  }
  return 0;
}
