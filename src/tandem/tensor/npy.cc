#include "tandem/tensor/npy.h"

#include <zip.h>

#include <algorithm>
#include <bit>
#include <charconv>
#include <cstring>
#include <memory>
#include <optional>

#include "tandem/base/file.h"

static_assert(std::endian::native == std::endian::little, "tensors are written as they lie in memory");

namespace tandem {
namespace {

constexpr std::string_view magic = "\x93NUMPY";
constexpr std::size_t largest_rank = 64;  // NumPy's own limit

struct Header {
  DType dtype = DType::f32;
  bool big_endian = false;
  bool fortran = false;
  Shape shape;
};

// The header is a Python dictionary literal of three known keys. This reads just that.
class HeaderParser {
 public:
  HeaderParser(std::string_view text, const std::string& where) : s_(text), where_(where) {}

  Header parse() {
    Header h;
    bool descr = false, order = false, shape = false;
    expect('{');
    while (!accept('}')) {
      const std::string key = string();
      expect(':');
      if (key == "descr" && !descr) {
        descr = true;
        this->descr(h);
      } else if (key == "fortran_order" && !order) {
        order = true;
        h.fortran = boolean();
      } else if (key == "shape" && !shape) {
        shape = true;
        h.shape = tuple();
      } else {
        fail(fmt::format("key '{}' is unknown or repeated", printable(key)));
      }
      if (!accept(',')) {
        expect('}');
        break;
      }
    }
    skip();
    if (i_ != s_.size()) fail("text after the dictionary");
    if (!descr || !order || !shape) fail("a key is missing");
    return h;
  }

 private:
  [[noreturn]] void fail(const std::string& what) const {
    throw bad_input("the .npy header is malformed at byte {}: {}", i_, what)
        .at(where_)
        .expected("a dictionary with descr, fortran_order and shape");
  }
  void skip() {
    while (i_ < s_.size() && (s_[i_] == ' ' || s_[i_] == '\n' || s_[i_] == '\t' || s_[i_] == '\r')) ++i_;
  }
  bool accept(char c) {
    skip();
    if (i_ >= s_.size() || s_[i_] != c) return false;
    ++i_;
    return true;
  }
  void expect(char c) {
    if (!accept(c)) fail(fmt::format("'{}' expected", c));
  }
  std::string string() {
    skip();
    if (i_ >= s_.size() || (s_[i_] != '\'' && s_[i_] != '"')) fail("a string expected");
    const std::size_t end = s_.find(s_[i_], i_ + 1);
    if (end == std::string_view::npos) fail("a string does not end");
    std::string r(s_.substr(i_ + 1, end - i_ - 1));
    i_ = end + 1;
    return r;
  }
  bool boolean() {
    skip();
    for (const auto& [word, value] : {std::pair<std::string_view, bool>{"True", true}, {"False", false}})
      if (s_.substr(i_).starts_with(word)) {
        i_ += word.size();
        return value;
      }
    fail("True or False expected");
  }
  Shape tuple() {
    Shape shape;
    expect('(');
    while (!accept(')')) {
      skip();
      std::int64_t v = 0;
      const auto [end, e] = std::from_chars(s_.data() + i_, s_.data() + s_.size(), v);
      if (e != std::errc() || v < 0) fail("an extent expected");
      i_ = static_cast<std::size_t>(end - s_.data());
      if (i_ < s_.size() && s_[i_] == 'L') ++i_;  // written by Python 2
      shape.push_back(v);
      if (shape.size() > largest_rank) fail(fmt::format("more than {} axes", largest_rank));
      if (!accept(',')) {
        expect(')');
        break;
      }
    }
    return shape;
  }
  void descr(Header& h) {
    skip();
    if (i_ < s_.size() && s_[i_] == '[') refuse("a structured type");
    const std::string d = string();
    static const std::map<std::string, DType, std::less<>> known{
        {"f4", DType::f32}, {"f8", DType::f64}, {"f2", DType::f16}, {"V2", DType::bf16}, {"i1", DType::i8},
        {"i2", DType::i16}, {"i4", DType::i32}, {"i8", DType::i64}, {"u1", DType::u8}, {"u2", DType::u16},
        {"u4", DType::u32}, {"u8", DType::u64}, {"b1", DType::boolean},
    };
    std::string_view code = d;
    char order = '|';
    if (!code.empty() && (code[0] == '<' || code[0] == '>' || code[0] == '|' || code[0] == '=')) {
      order = code[0];
      code.remove_prefix(1);
    }
    const auto it = known.find(code);
    if (it == known.end()) {
      if (code.starts_with('O')) refuse("Python objects (pickle)");
      if (code.starts_with('U') || code.starts_with('S')) refuse("text");
      if (code.starts_with('c')) refuse("complex numbers");
      refuse(fmt::format("elements of type '{}'", printable(d)));
    }
    h.dtype = it->second;
    h.big_endian = order == '>';
  }
  [[noreturn]] void refuse(const std::string& what) const {
    throw bad_input("the array holds {}, which is not read", what)
        .at(where_)
        .expected("floats of 2, 4 or 8 bytes, integers of 1, 2, 4 or 8 bytes, or booleans");
  }

  std::string_view s_;
  const std::string& where_;
  std::size_t i_ = 0;
};

// Copies elements of `w` bytes from Fortran order to C order.
void from_fortran(const std::byte* in, std::byte* out, const Shape& shape, std::size_t w) {
  const std::size_t rank = shape.size();
  std::vector<std::size_t> index(rank), stride(rank);
  std::size_t n = 1, offset = 0;
  for (std::size_t a = 0; a < rank; ++a) {
    stride[a] = n;
    n *= static_cast<std::size_t>(shape[a]);
  }
  for (std::size_t i = 0; i < n; ++i) {
    std::memcpy(out + i * w, in + offset * w, w);
    for (std::size_t a = rank; a-- > 0;) {
      offset += stride[a];
      if (++index[a] < static_cast<std::size_t>(shape[a])) break;
      offset -= stride[a] * index[a];
      index[a] = 0;
    }
  }
}

struct ZipClose { void operator()(zip_t* z) const { zip_discard(z); } };
struct FileClose { void operator()(zip_file_t* f) const { zip_fclose(f); } };
struct SourceFree { void operator()(zip_source_t* s) const { zip_source_free(s); } };
using Zip = std::unique_ptr<zip_t, ZipClose>;
using ZipFile = std::unique_ptr<zip_file_t, FileClose>;
using ZipSource = std::unique_ptr<zip_source_t, SourceFree>;

}  // namespace

Tensor parse_npy(std::string_view bytes, const Limits& limits, const std::string& where) {
  const auto truncated = [&](std::uint64_t needed) {
    return bad_input("the .npy data ends early: {} bytes of {}", bytes.size(), needed)
        .at(where)
        .fix("the file is truncated; write or fetch it again");
  };
  if (!bytes.starts_with(magic)) {
    if (!bytes.empty() && magic.starts_with(bytes.substr(0, magic.size()))) throw truncated(10);
    throw bad_input("this is not a .npy array").at(where).expected("a file that begins with \\x93NUMPY");
  }
  if (bytes.size() < 8) throw truncated(10);
  const auto byte = [&](std::size_t i) { return static_cast<std::uint64_t>(static_cast<unsigned char>(bytes[i])); };
  const unsigned version = static_cast<unsigned>(byte(6));
  if (version < 1 || version > 3 || byte(7) != 0)
    throw bad_input("this .npy has version {}.{}", version, byte(7)).at(where).expected("version 1.0, 2.0 or 3.0");
  const std::size_t start = version == 1 ? 10 : 12;
  if (bytes.size() < start) throw truncated(start);
  std::uint64_t length = 0;
  for (std::size_t i = start; i-- > 8;) length = length << 8 | byte(i);
  if (length > bytes.size() - start) throw truncated(start + length);
  if (length > (1u << 20)) throw Error(Exit::limit, fmt::format("a .npy header of {} bytes", length)).at(where);

  const Header h = HeaderParser(bytes.substr(start, length), where).parse();
  const std::string_view data = bytes.substr(start + length);
  std::uint64_t count = 1, size = 0;
  try {
    count = static_cast<std::uint64_t>(element_count(h.shape));
    if (count > limits.elements) throw Error(Exit::limit, fmt::format("more than {} elements", limits.elements)).expected(fmt::format("at most {}", limits.elements));
    size = Limits::product(count, size_of(h.dtype), limits.memory_bytes, "bytes of the array");
  } catch (Error& e) {
    throw Error(e).at(fmt::format("{}: array {} of {}", where, to_string(h.shape), to_string(h.dtype)));
  }
  if (data.size() != size)
    throw bad_input("the array {} of {} needs {} bytes, {} are there", to_string(h.shape), to_string(h.dtype), size, data.size())
        .at(where)
        .fix(data.size() < size ? "the file is truncated; write or fetch it again" : "the file holds more than one array; store it as .npz");

  Tensor t(h.dtype, h.shape);
  if (size == 0) return t;
  auto* out = static_cast<std::byte*>(t.raw_mutable());
  const auto* in = reinterpret_cast<const std::byte*>(data.data());
  const std::size_t w = size_of(h.dtype);
  if (h.fortran && h.shape.size() > 1) from_fortran(in, out, h.shape, w);
  else std::memcpy(out, in, size);
  if (h.big_endian && w > 1)
    for (std::size_t i = 0; i < size; i += w) std::reverse(out + i, out + i + w);
  if (h.dtype == DType::boolean)
    for (std::size_t i = 0; i < size; ++i) out[i] = std::byte(out[i] != std::byte{0});
  return t;
}

Members parse_zip(std::string_view bytes, const Limits& limits, const std::string& where, const std::function<bool(const std::string&)>& take) {
  if (bytes.empty())  // libzip would call this an empty archive
    throw bad_input("the file is empty").at(where).expected("a zip archive");
  zip_error_t error;
  zip_error_init(&error);
  const auto reason = [&] {
    std::string r = zip_error_strerror(&error);
    zip_error_fini(&error);
    return r;
  };
  ZipSource source(zip_source_buffer_create(bytes.data(), bytes.size(), 0, &error));
  if (!source) throw bad_input("the archive cannot be read: {}", reason()).at(where);
  Zip zip(zip_open_from_source(source.get(), ZIP_RDONLY, &error));
  if (!zip)
    throw bad_input("the archive cannot be read: {}", reason()).at(where).expected("a zip archive").fix(
        "if the file was fetched, it may be truncated: fetch it again");
  (void)source.release();  // the archive owns it now
  const auto entries = static_cast<std::uint64_t>(std::max<zip_int64_t>(0, zip_get_num_entries(zip.get(), 0)));
  if (entries > limits.nodes)
    throw Error(Exit::limit, fmt::format("the archive has {} members; the limit is {}", entries, limits.nodes)).at(where);

  Members members;
  std::uint64_t unpacked = 0, packed = 0;
  for (std::uint64_t i = 0; i < entries; ++i) {
    zip_stat_t st;
    if (zip_stat_index(zip.get(), i, ZIP_FL_ENC_RAW, &st) != 0)
      throw bad_input("member {} cannot be read: {}", i, zip_strerror(zip.get())).at(where);
    constexpr zip_uint64_t needed = ZIP_STAT_NAME | ZIP_STAT_SIZE | ZIP_STAT_COMP_SIZE | ZIP_STAT_ENCRYPTION_METHOD;
    if ((st.valid & needed) != needed) throw bad_input("member {} has no name or size", i).at(where);
    std::string name = st.name;  // a key, never a path
    if (name.size() > limits.name_bytes)
      throw Error(Exit::limit, fmt::format("member {} has a name of {} bytes", i, name.size())).at(where);
    const std::string member = fmt::format("{}: member '{}'", where, printable(name));
    if (take && !take(name)) continue;
    if (members.contains(name)) throw bad_input("the name occurs twice").at(member).expected("one member per name");
    if (st.encryption_method != ZIP_EM_NONE) throw bad_input("the member is encrypted").at(member).expected("an archive without a password");
    // What the directory says is checked against what is there, before memory is taken.
    packed += std::min<std::uint64_t>(st.comp_size, bytes.size() + 1);
    if (packed > bytes.size()) throw bad_input("the members claim more bytes than the archive has").at(member);
    if (st.size > limits.memory_bytes || (unpacked += st.size) > limits.memory_bytes)
      throw Error(Exit::limit, fmt::format("the archive unpacks to more than {} bytes", limits.memory_bytes)).at(member);
    if (st.size > (1u << 20) && static_cast<double>(st.size) > limits.compression_ratio * static_cast<double>(st.comp_size))
      throw Error(Exit::limit, fmt::format("{} bytes unpack to {}: more than {} times", st.comp_size, st.size, limits.compression_ratio))
          .at(member);
    ZipFile file(zip_fopen_index(zip.get(), i, 0));
    if (!file) throw bad_input("the member cannot be read: {}", zip_strerror(zip.get())).at(member);
    std::string content(st.size, '\0');
    std::uint64_t got = 0;
    zip_int64_t n = 0;
    while (got < st.size && (n = zip_fread(file.get(), content.data() + got, st.size - got)) > 0) got += static_cast<std::uint64_t>(n);
    char beyond;  // reading to the end is what checks the CRC
    if (n >= 0) n = zip_fread(file.get(), &beyond, 1);
    if (n != 0 || got != st.size)
      throw bad_input("the member is damaged: {} of {} bytes ({})", got, st.size, n > 0 ? "more follow" : zip_file_strerror(file.get())).at(member);
    members.emplace(std::move(name), std::move(content));
  }
  return members;
}

Archive parse_npz(std::string_view bytes, const Limits& limits, const std::string& where) {
  const auto member = [&](const std::string& name) { return fmt::format("{}: member '{}'", where, printable(name)); };
  Archive archive;
  try {
    Members members = parse_zip(bytes, limits, where, [&](const std::string& name) {
      if (!name.ends_with(".npy")) throw bad_input("the member is not a .npy array").at(member(name)).expected("a name that ends in .npy");
      return true;
    });
    for (auto& [name, content] : members) {
      archive.emplace(name.substr(0, name.size() - 4), parse_npy(content, limits, member(name)));
      content = {};
    }
  } catch (Error& e) {
    if (e.expected() == "a zip archive") e.expected("a zip of .npy arrays (numpy.savez)");
    throw;
  }
  return archive;
}

std::string npy_bytes(const Tensor& t) {
  static constexpr auto descr = [](DType d) -> std::string_view {
    switch (d) {
      case DType::f32: return "<f4";
      case DType::f64: return "<f8";
      case DType::f16: return "<f2";
      case DType::bf16: return "<V2";
      case DType::i8: return "|i1";
      case DType::i16: return "<i2";
      case DType::i32: return "<i4";
      case DType::i64: return "<i8";
      case DType::u8: return "|u1";
      case DType::u16: return "<u2";
      case DType::u32: return "<u4";
      case DType::u64: return "<u8";
      case DType::boolean: return "|b1";
    }
    bug(__FILE__, __LINE__, "unknown element type");
  };
  const std::string shape = t.rank() == 1 ? fmt::format("({},)", t.shape()[0]) : fmt::format("({})", fmt::join(t.shape(), ", "));
  std::string header = fmt::format("{{'descr': '{}', 'fortran_order': False, 'shape': {}, }}", descr(t.dtype()), shape);
  header.append(63 - (10 + header.size()) % 64, ' ');  // the data begins at a multiple of 64
  header += '\n';
  std::string out(magic);
  out += {'\x01', '\x00', static_cast<char>(header.size() & 0xff), static_cast<char>(header.size() >> 8)};
  out += header;
  if (t.bytes() != 0) out.append(static_cast<const char*>(t.raw()), t.bytes());
  return out;
}

std::string zip_bytes(const Members& members) {
  zip_error_t error;
  zip_error_init(&error);
  const auto fail = [&](const std::string& why) { throw Error(Exit::limit, fmt::format("the archive cannot be packed: {}", why)); };
  ZipSource sink(zip_source_buffer_create(nullptr, 0, 0, &error));
  if (!sink) fail(zip_error_strerror(&error));
  zip_source_keep(sink.get());  // one reference for the archive, one to read the result
  zip_t* raw = zip_open_from_source(sink.get(), ZIP_TRUNCATE, &error);
  if (!raw) {
    zip_source_free(sink.get());
    fail(zip_error_strerror(&error));
  }
  Zip zip(raw);
  if (members.empty()) return std::string("PK\5\6", 4) + std::string(18, '\0');  // libzip writes no empty archive
  for (const auto& [name, content] : members) {
    zip_source_t* source = zip_source_buffer(zip.get(), content.data(), content.size(), 0);
    if (!source) fail(zip_strerror(zip.get()));
    const zip_int64_t index = zip_file_add(zip.get(), name.c_str(), source, ZIP_FL_ENC_UTF_8);
    if (index < 0) {
      zip_source_free(source);
      throw bad_input("nothing can be stored under the name '{}': {}", printable(name), zip_strerror(zip.get()));
    }
    const auto i = static_cast<zip_uint64_t>(index);
    if (zip_set_file_compression(zip.get(), i, ZIP_CM_DEFLATE, 6) != 0 || zip_file_set_dostime(zip.get(), i, 0, 0x21, 0) != 0)
      fail(zip_strerror(zip.get()));
  }
  if (zip_close(zip.get()) != 0) fail(zip_strerror(zip.get()));
  (void)zip.release();
  zip_stat_t st;
  if (zip_source_stat(sink.get(), &st) != 0 || zip_source_open(sink.get()) != 0) fail("no result");
  std::string out(st.size, '\0');
  const zip_int64_t n = zip_source_read(sink.get(), out.data(), out.size());
  zip_source_close(sink.get());
  if (n < 0 || static_cast<std::uint64_t>(n) != out.size()) fail("no result");
  return out;
}

std::string npz_bytes(const Archive& archive) {
  Members members;
  for (const auto& [name, tensor] : archive) {
    if (name.empty() || name.find('\0') != std::string::npos || name.size() > 60000)
      throw bad_input("an array cannot be stored under the name '{}'", printable(name.substr(0, 80)));
    members.emplace(name + ".npy", npy_bytes(tensor));
  }
  return zip_bytes(members);
}

Tensor read_npy(const std::filesystem::path& path, const Limits& limits) {
  return parse_npy(read_file(path, limits), limits, path.string());
}
Archive read_npz(const std::filesystem::path& path, const Limits& limits) {
  return parse_npz(read_file(path, limits), limits, path.string());
}
void write_npy(const std::filesystem::path& path, const Tensor& t, bool overwrite) { write_file(path, npy_bytes(t), overwrite); }
void write_npz(const std::filesystem::path& path, const Archive& archive, bool overwrite) {
  write_file(path, npz_bytes(archive), overwrite);
}

}  // namespace tandem
