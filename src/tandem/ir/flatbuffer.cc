#include "tandem/ir/flatbuffer.h"

namespace tandem::ir {

void FlatBytes::outside(std::uint64_t at, std::uint64_t n, std::string_view what) const {
  throw bad_input("{} takes {} bytes at byte {} of {}", what, n, at, bytes_.size())
      .expected("a FlatBuffers file, whole")
      .fix("the file is truncated or damaged: export or copy it again");
}
void FlatBytes::spend(std::uint64_t bytes, std::uint64_t objects) {
  memory_ += bytes, objects_ += objects;
  if (memory_ > limits_.memory_bytes)
    throw Error(Exit::limit, fmt::format("the model would take more than {} MiB of memory", limits_.memory_bytes >> 20)).fix("raise --memory");
  if (objects_ > 8 * limits_.nodes) throw Error(Exit::limit, fmt::format("the model has more than {} tables", 8 * limits_.nodes));
}

FlatTable::FlatTable(FlatBytes& b, std::uint64_t at, std::string_view what) : b_(&b), at_(at) {
  b.spend(320, 1);
  const auto back = b.read<std::int32_t>(at, what);  // the vtable lies that far before the table, or behind it
  const std::int64_t vtable = static_cast<std::int64_t>(at) - back;
  if (vtable < 0) b.outside(static_cast<std::uint64_t>(at), 4, what);
  vtable_ = static_cast<std::uint64_t>(vtable);
  vtable_bytes_ = b.read<std::uint16_t>(vtable_, what);
  table_bytes_ = b.read<std::uint16_t>(vtable_ + 2, what);
  b.slice(vtable_, vtable_bytes_, what);
  b.slice(at_, table_bytes_, what);
  if (vtable_bytes_ < 4 || vtable_bytes_ % 2 || table_bytes_ < 4)
    throw bad_input("{} has a table of {} bytes with {} bytes of fields", what, table_bytes_, vtable_bytes_).expected("at least 4 of each");
}
FlatTable FlatTable::root(FlatBytes& b, std::string_view what) { return FlatTable(b, b.read<std::uint32_t>(0, what), what); }

std::uint64_t FlatTable::field(int slot, std::uint64_t size, std::string_view what) const {
  const std::uint64_t entry = 4 + 2 * static_cast<std::uint64_t>(slot);
  if (entry + 2 > vtable_bytes_) return 0;
  const std::uint64_t offset = b_->read<std::uint16_t>(vtable_ + entry, what);
  if (offset == 0) return 0;
  if (offset + size > table_bytes_) throw bad_input("{} lies at byte {} of a table of {} bytes", what, offset, table_bytes_).fix("the file is damaged: export or copy it again");
  return at_ + offset;
}
std::uint64_t FlatTable::target(std::uint64_t at, std::string_view what) const {
  const std::uint64_t by = b_->read<std::uint32_t>(at, what);
  if (by == 0) throw bad_input("{} has an offset of 0 at byte {}", what, at).fix("the file is damaged: export or copy it again");
  return at + by;
}
std::optional<FlatTable> FlatTable::table(int slot, std::string_view what) const {
  const std::uint64_t at = field(slot, 4, what);
  if (!at) return std::nullopt;
  return FlatTable(*b_, target(at, what), what);
}
std::string_view FlatTable::vector(int slot, std::uint64_t element, std::string_view what) const {
  const std::uint64_t at = field(slot, 4, what);
  if (!at) return {};
  const std::uint64_t v = target(at, what), n = b_->read<std::uint32_t>(v, what);
  return b_->slice(v + 4, n * element, what);  // n below 2^32: no overflow
}
std::vector<FlatTable> FlatTable::tables(int slot, std::string_view what) const {
  const std::string_view v = vector(slot, 4, what);
  const std::uint64_t first = static_cast<std::uint64_t>(v.data() - b_->all().data());
  std::vector<FlatTable> r;
  for (std::uint64_t i = 0; i < v.size() / 4; ++i) r.emplace_back(*b_, target(first + 4 * i, what), what);
  return r;
}
std::string_view FlatTable::text(int slot, std::string_view what) const { return vector(slot, 1, what); }
std::string_view FlatTable::bytes(int slot, std::string_view what) const { return vector(slot, 1, what); }

}  // namespace tandem::ir
