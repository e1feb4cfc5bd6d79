// Fuzz target: any bytes as a target description: refused, or legal by the contract that every target passes.
#include <cstddef>
#include <cstdint>
#include <cstdlib>

#include "tandem/hardware/target.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace tandem;
  if (size > 20000) return 0;
  try {
    const auto t = hardware::read_target(Config::parse(std::string_view(reinterpret_cast<const char*>(data), size), "fuzz.yaml"));
    hardware::check(t);
    for (const auto& c : t.computes)
      if (c.units() < 1) std::abort();
  } catch (const Error& e) {
    if (e.code() != Exit::bad_input && e.code() != Exit::limit) std::abort();
  }
  return 0;
}
