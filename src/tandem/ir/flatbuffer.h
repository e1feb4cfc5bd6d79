// FlatBuffers, read: tables, vectors and text, each bound-checked when it is asked for.
//
// A buffer is a graph of offsets from an untrusted file. Nothing is followed before it was checked against the
// bytes present, nothing recurses, and what is copied out of it is charged to one budget, so that many
// references to one long vector cannot multiply it. Errors name the field asked for and the byte.
// Source: the format's own description, flatbuffers.dev/internals.
#pragma once
#include <bit>
#include <cstring>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "tandem/base/error.h"
#include "tandem/base/limits.h"

namespace tandem::ir {

static_assert(std::endian::native == std::endian::little);

class FlatBytes {
 public:
  // `bytes` must outlive it.
  FlatBytes(std::string_view bytes, const Limits& limits) : bytes_(bytes), limits_(limits) {}
  std::string_view all() const { return bytes_; }
  const Limits& limits() const { return limits_; }
  template <class T>
  T read(std::uint64_t at, std::string_view what) const {
    if (at > bytes_.size() || bytes_.size() - at < sizeof(T)) outside(at, sizeof(T), what);
    T v;
    std::memcpy(&v, bytes_.data() + at, sizeof v);
    return v;
  }
  std::string_view slice(std::uint64_t at, std::uint64_t n, std::string_view what) const {
    if (at > bytes_.size() || bytes_.size() - at < n) outside(at, n, what);
    return bytes_.substr(at, n);
  }
  // Charges memory and objects to the budget; Error(limit) beyond it.
  void spend(std::uint64_t bytes, std::uint64_t objects = 0);
  [[noreturn]] void outside(std::uint64_t at, std::uint64_t n, std::string_view what) const;

 private:
  std::string_view bytes_;
  const Limits& limits_;
  std::uint64_t memory_ = 0, objects_ = 0;
};

// A table: fields by slot, in the order in which the schema declares them (a union takes two).
class FlatTable {
 public:
  FlatTable(FlatBytes& b, std::uint64_t at, std::string_view what);
  static FlatTable root(FlatBytes& b, std::string_view what);  // the first offset of the buffer

  // A number, or `fallback` where the field is absent.
  template <class T>
  T number(int slot, T fallback, std::string_view what) const {
    const std::uint64_t at = field(slot, sizeof(T), what);
    return at ? b_->read<T>(at, what) : fallback;
  }
  std::optional<FlatTable> table(int slot, std::string_view what) const;
  std::vector<FlatTable> tables(int slot, std::string_view what) const;  // empty where absent
  std::string_view text(int slot, std::string_view what) const;          // a view into the file
  std::string_view bytes(int slot, std::string_view what) const;
  bool has(int slot) const { return field(slot, 1, "a field") != 0; }
  template <class T>
  std::vector<T> numbers(int slot, std::string_view what) const {
    const auto v = vector(slot, sizeof(T), what);
    b_->spend(v.size());
    std::vector<T> r(v.size() / sizeof(T));
    if (!r.empty()) std::memcpy(r.data(), v.data(), v.size());
    return r;
  }

 private:
  std::uint64_t field(int slot, std::uint64_t size, std::string_view what) const;  // 0: absent
  std::uint64_t target(std::uint64_t at, std::string_view what) const;             // of the offset stored there
  std::string_view vector(int slot, std::uint64_t element, std::string_view what) const;
  FlatBytes* b_;
  std::uint64_t at_, vtable_;
  std::uint16_t vtable_bytes_, table_bytes_;
};

}  // namespace tandem::ir
