// One object that every reader of foreign input receives. Sizes found in a file are checked against
// the file's own length and these limits before anything is allocated.
#pragma once
#include <cstdint>
#include <string_view>

namespace tandem {

struct Limits {
  std::uint64_t memory_bytes = 8ull << 30;   // total a reader may allocate (`--memory`)
  std::uint64_t file_bytes = 4ull << 30;     // largest file read
  std::uint64_t elements = 1ull << 31;       // elements of one tensor
  std::uint64_t nodes = 1'000'000;           // nodes of a graph, entries of a YAML tree, members of an archive
  std::uint32_t depth = 256;                 // nesting
  std::uint32_t name_bytes = 4096;           // one identifier
  double compression_ratio = 2000;           // largest expansion of one archive member above 1 MiB

  // a*b, or throws Error(limit) naming `what` when it overflows or exceeds `cap`.
  static std::uint64_t product(std::uint64_t a, std::uint64_t b, std::uint64_t cap, std::string_view what);
};

}  // namespace tandem
