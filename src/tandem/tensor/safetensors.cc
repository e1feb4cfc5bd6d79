#include "tandem/tensor/safetensors.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <utility>

#include "tandem/base/config.h"
#include "tandem/base/file.h"
#include "tandem/base/json.h"

namespace tandem {
namespace {

constexpr std::array<std::pair<std::string_view, DType>, 13> kTypes{{{"F32", DType::f32}, {"F64", DType::f64}, {"F16", DType::f16}, {"BF16", DType::bf16},
    {"I8", DType::i8}, {"I16", DType::i16}, {"I32", DType::i32}, {"I64", DType::i64}, {"U8", DType::u8}, {"U16", DType::u16}, {"U32", DType::u32},
    {"U64", DType::u64}, {"BOOL", DType::boolean}}};
constexpr std::uint64_t kHeader = 100'000'000;  // the format's own limit

}  // namespace

Archive parse_safetensors(std::string_view bytes, const Limits& limits, const std::string& where) {
  static_assert(std::endian::native == std::endian::little);
  std::uint64_t length = 0;
  if (bytes.size() < 8) throw bad_input("{} bytes", bytes.size()).at(where).expected("a safetensors file: eight bytes of header length, a header, data").fix("copy or export it again");
  std::memcpy(&length, bytes.data(), 8);
  if (length > kHeader || length > bytes.size() - 8)
    throw bad_input("a header of {} bytes in a file of {}", length, bytes.size()).at(where).expected("a safetensors file, whole").fix("copy or export it again");
  const std::string_view data = bytes.substr(8 + length);
  const std::string_view text = bytes.substr(8, length);
  if (text.empty() || text[0] != '{') throw bad_input("the header does not start with '{{'").at(where).expected("a JSON object");
  const Config header = Config::parse(text, where, limits);
  if (!header.is_map()) throw bad_input("the header is no JSON object").at(where).expected("array names with dtype, shape and data_offsets");

  struct Span { std::uint64_t begin, end; std::string name; };
  std::vector<Span> spans;
  Archive r;
  std::uint64_t memory = 0;
  for (const auto& [name, entry] : header.entries()) {
    if (name == "__metadata__") continue;
    const std::string what = fmt::format("{}: array '{}'", where, printable(name));
    if (name.size() > limits.name_bytes || printable(name) != name) throw bad_input("the name '{}' is too long, or has control characters", printable(name.substr(0, 60))).at(where).expected("a plain name");
    if (!entry.is_map()) throw bad_input("an entry without dtype, shape and data_offsets").at(what).expected("a JSON object");
    entry.only({"dtype", "shape", "data_offsets"});
    const std::string dtype = entry.required<std::string>("dtype");
    const auto type = std::find_if(kTypes.begin(), kTypes.end(), [&](const auto& t) { return t.first == dtype; });
    if (type == kTypes.end()) throw bad_input("elements of type {}", printable(dtype)).at(what).expected("F64, F32, F16, BF16, I8 to I64, U8 to U64 or BOOL").fix("convert the array before it is saved");
    Shape shape;
    std::uint64_t count = 1;
    for (const Config& d : entry.at("shape").items()) {
      const auto n = d.as<std::int64_t>();
      if (n < 0) throw bad_input("an extent of {}", n).at(what).expected("0 or more");
      shape.push_back(n);
    }
    if (shape.size() > 64) throw bad_input("{} axes", shape.size()).at(what).expected("at most 64");
    if (std::find(shape.begin(), shape.end(), 0) != shape.end()) count = 0;
    else for (std::int64_t n : shape) count = Limits::product(count, static_cast<std::uint64_t>(n), limits.elements, "elements of " + what);
    const std::vector<std::uint64_t> at = entry.at("data_offsets").list<std::uint64_t>();
    const std::uint64_t want = count * size_of(type->second);
    if (at.size() != 2 || at[0] > at[1] || at[1] > data.size() || at[1] - at[0] != want)
      throw bad_input("data_offsets [{}] of {} bytes of data", fmt::join(at, ", "), data.size()).at(what).expected(fmt::format("begin and end, {} bytes apart", want)).fix("the file is truncated or damaged: copy or export it again");
    memory += want;
    if (memory > limits.memory_bytes) throw Error(Exit::limit, fmt::format("the arrays take more than {} MiB", limits.memory_bytes >> 20)).at(where).fix("raise --memory");
    Tensor t(type->second, shape);
    if (want) std::memcpy(t.raw_mutable(), data.data() + at[0], want);
    if (type->second == DType::boolean)
      for (std::int64_t i = 0; i < t.size(); ++i)
        if (static_cast<unsigned char>(data[at[0] + static_cast<std::uint64_t>(i)]) > 1) throw bad_input("element {} is {}", i, static_cast<unsigned char>(data[at[0] + static_cast<std::uint64_t>(i)])).at(what).expected("booleans of 0 and 1");
    spans.push_back({at[0], at[1], name});
    r.emplace(name, std::move(t));
  }
  std::sort(spans.begin(), spans.end(), [](const Span& a, const Span& b) { return std::pair(a.begin, a.end) < std::pair(b.begin, b.end); });
  std::uint64_t end = 0;
  for (const Span& s : spans) {
    if (s.begin != end) throw bad_input("the array '{}' begins at byte {} of the data", s.name, s.begin).at(where).expected(fmt::format("byte {}: arrays follow each other without holes", end));
    end = s.end;
  }
  if (end != data.size()) throw bad_input("{} bytes of data, of which the arrays use {}", data.size(), end).at(where).expected("no bytes left over");
  return r;
}

Archive read_safetensors(const std::filesystem::path& path, const Limits& limits) { return parse_safetensors(read_file(path, limits), limits, path.string()); }

std::string safetensors_bytes(const Archive& archive) {
  JsonWriter j;
  j.object();
  std::uint64_t at = 0;
  for (const auto& [name, t] : archive) {
    const auto type = std::find_if(kTypes.begin(), kTypes.end(), [&](const auto& k) { return k.second == t.dtype(); });
    j.key(name).object().field("dtype", type->first).field("shape", t.shape()).key("data_offsets").array().value(static_cast<std::int64_t>(at)).value(static_cast<std::int64_t>(at + t.bytes())).end().end();
    at += t.bytes();
  }
  std::string header = j.end().text();
  while ((8 + header.size()) % 8) header += ' ';
  const std::uint64_t length = header.size();
  std::string bytes(reinterpret_cast<const char*>(&length), 8);
  bytes += header;
  bytes.reserve(bytes.size() + at);
  for (const auto& [name, t] : archive)
    if (t.bytes()) bytes.append(static_cast<const char*>(t.raw()), t.bytes());
  return bytes;
}

void write_safetensors(const std::filesystem::path& path, const Archive& archive, bool overwrite) { write_file(path, safetensors_bytes(archive), overwrite); }

Archive read_arrays(const std::filesystem::path& path, const Limits& limits) {
  const std::string bytes = read_file(path, limits);
  if (bytes.starts_with("\x93NUMPY")) return {{"array", parse_npy(bytes, limits, path.string())}};
  if (bytes.starts_with("PK")) return parse_npz(bytes, limits, path.string());
  if (bytes.size() > 8 && bytes[8] == '{') return parse_safetensors(bytes, limits, path.string());
  throw bad_input("'{}' holds no arrays", path.string()).at(path.string()).expected(".npz, .npy or .safetensors").fix("the content counts, not the name");
}

}  // namespace tandem
