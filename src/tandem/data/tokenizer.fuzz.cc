// Fuzz target: any bytes as a tokenizer. A file is read or refused with an Error; what is encoded decodes. Seeds: tests/corpus/tokenizer.
#include <cstddef>
#include <cstdint>
#include <cstdlib>

#include "tandem/base/error.h"
#include "tandem/data/tokenizer.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace tandem;
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  Limits limits;
  limits.memory_bytes = 64 << 20;
  try {
    const data::Tokenizer t = data::Tokenizer::parse(bytes, 0, limits);
    t.decode(t.encode(bytes.substr(0, 200)));
  } catch (const Error& e) {
    if (e.code() == Exit::bug) std::abort();
  }
  return 0;
}
