#include "tandem/base/limits.h"

#include "tandem/base/error.h"

namespace tandem {

std::uint64_t Limits::product(std::uint64_t a, std::uint64_t b, std::uint64_t cap, std::string_view what) {
  std::uint64_t r = 0;
  if (__builtin_mul_overflow(a, b, &r) || r > cap)
    throw Error(Exit::limit, fmt::format("{}: {} x {} is more than the limit of {}", printable(what), a, b, cap))
        .fix("raise the limit with --memory when the file is trusted");
  return r;
}

}  // namespace tandem
