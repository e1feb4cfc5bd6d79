// Fuzz target: any bytes as .npz and as .npy. A file is read or refused with an Error; what is read survives
// a round trip. Seeds: tests/corpus/npz.
#include <cstddef>
#include <cstdint>
#include <cstdlib>

#include "tandem/tensor/npy.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace tandem;
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  Limits limits;
  limits.memory_bytes = 64 << 20;
  try {
    const Tensor t = parse_npy(bytes, limits);
    if (!parse_npy(npy_bytes(t), limits).same(t)) std::abort();
  } catch (const Error& e) {
    if (e.code() == Exit::bug) std::abort();
  }
  try {
    for (const auto& [name, t] : parse_npz(bytes, limits))
      if (!parse_npy(npy_bytes(t), limits).same(t)) std::abort();
  } catch (const Error& e) {
    if (e.code() == Exit::bug) std::abort();
  }
  return 0;
}
