// Fuzz target: any bytes as a llama2.c checkpoint. A file is read or refused with an Error; a graph that is read verifies. Seeds: tests/corpus/llama2.
#include <cstddef>
#include <cstdint>
#include <cstdlib>

#include "tandem/base/error.h"
#include "tandem/ir/llama2.h"
#include "tandem/ir/op.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace tandem;
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  Limits limits;
  limits.memory_bytes = 64 << 20;
  try {
    for (const bool cache : {false, true}) ir::verify(ir::parse_llama2(bytes, {.cache = cache}, limits));
    if (!ir::is_llama2(bytes, size)) std::abort();
  } catch (const Error& e) {
    if (e.code() == Exit::bug) std::abort();
  }
  return 0;
}
