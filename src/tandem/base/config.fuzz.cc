// Fuzz target: any bytes as a user's file, and as a target description. They are read or refused with an Error that
// names a place; what is read can be walked within the limits. Seeds: tests/corpus/config.
#include <cstddef>
#include <cstdint>
#include <cstdlib>

#include "tandem/base/config.h"

namespace {

std::uint64_t walk(const tandem::Config& c) {
  std::uint64_t n = 1;
  if (c.where().empty() || c.path().size() > 1 << 20) std::abort();
  switch (c.kind()) {
    case tandem::Config::Kind::map:
      for (const auto& [key, v] : c.entries()) {
        if (!c.has(key)) std::abort();
        n += walk(v);
      }
      break;
    case tandem::Config::Kind::list:
      for (const auto& v : c.items()) n += walk(v);
      break;
    case tandem::Config::Kind::scalar:
      for (int k = 0; k < 4; ++k) {
        try {
          if (k == 0) (void)c.as<std::int64_t>();
          if (k == 1) (void)c.as<double>();
          if (k == 2) (void)c.as<bool>();
          if (k == 3) (void)c.as<std::uint64_t>();
        } catch (const tandem::Error& e) {
          if (e.code() != tandem::Exit::bad_input) std::abort();
        }
      }
      break;
    case tandem::Config::Kind::null: break;
  }
  return n;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace tandem;
  if (size > 20000) return 0;
  Limits limits;
  limits.nodes = 10000;
  try {
    const Config c = Config::parse(std::string_view(reinterpret_cast<const char*>(data), size), "fuzz.yaml", limits);
    if (walk(c) > limits.nodes + 1) std::abort();
  } catch (const Error& e) {
    if (e.code() != Exit::bad_input && e.code() != Exit::limit) std::abort();
    if (e.where().empty()) std::abort();
  }
  return 0;
}
