#include "tandem/tool/hdf5.h"

#include <dlfcn.h>
#include <unistd.h>

#include <atomic>
#include <bit>
#include <chrono>
#include <cmath>
#include <cstring>

#include "tandem/base/error.h"
#include "tandem/base/file.h"
#include "tandem/base/hash.h"
#include "tandem/tool/process.h"
#include "tandem/tool/work.h"

namespace tandem::tool {
namespace fs = std::filesystem;
namespace {

// The numbers of hdf5_child/main.cc.
enum : std::uint8_t { kEnd = 0, kGroup = 1, kDataset = 2, kAttribute = 3, kSkipped = 4, kRefused = 5, kText = 64 };
constexpr std::string_view kMagic = "TANDEMH5";
constexpr std::string_view kSignature("\x89HDF\r\n\x1a\n", 8);

std::optional<DType> dtype_of_code(std::uint8_t c) {
  switch (c) {
    case 0: return DType::f32;
    case 1: return DType::f64;
    case 4: return DType::i8;
    case 5: return DType::i16;
    case 6: return DType::i32;
    case 7: return DType::i64;
    case 8: return DType::u8;
    case 9: return DType::u16;
    case 10: return DType::u32;
    case 11: return DType::u64;
    default: return std::nullopt;
  }
}

struct Reader {
  std::string_view bytes;
  const Limits& limits;
  std::size_t at = 0;

  [[noreturn]] void fail(std::string_view what) const {
    throw bad_input("{} at byte {} of {} of the extracted HDF5 file", what, at, bytes.size()).expected("what tandem-hdf5 writes");
  }
  std::string_view take(std::uint64_t n) {
    if (n > bytes.size() - at) fail(fmt::format("{} bytes are missing", n - (bytes.size() - at)));
    const auto s = bytes.substr(at, static_cast<std::size_t>(n));
    at += static_cast<std::size_t>(n);
    return s;
  }
  template <class T>
  T number() {
    static_assert(std::endian::native == std::endian::little);
    T v;
    std::memcpy(&v, take(sizeof v).data(), sizeof v);
    return v;
  }
  std::string text() { return std::string(take(number<std::uint32_t>())); }
  std::string name() {
    std::string s = text();
    if (s.size() > limits.name_bytes) fail(fmt::format("a name of {} bytes", s.size()));
    for (unsigned char c : s)
      if (c < 0x20 || c == 0x7F) fail(fmt::format("a control character in the name '{}'", printable(s)));
    return s;
  }
};

Hdf5Array array_of(Reader& r) {
  Hdf5Array a;
  const auto code = r.number<std::uint8_t>();
  const auto rank = r.number<std::uint8_t>();
  if (rank > 32) r.fail(fmt::format("rank {}", rank));
  std::uint64_t n = 1;
  for (int i = 0; i < rank; ++i) {
    const auto d = r.number<std::uint64_t>();
    if (d > r.limits.elements) r.fail(fmt::format("an extent of {}", d));
    n = Limits::product(n, d, r.limits.elements, "the elements of an array");
    a.shape.push_back(static_cast<std::int64_t>(d));
  }
  if (code == kText) {
    a.is_text = true;
    if (n > (r.bytes.size() - r.at) / 4) r.fail(fmt::format("{} strings", n));
    a.text.reserve(static_cast<std::size_t>(n));
    for (std::uint64_t i = 0; i < n; ++i) a.text.push_back(r.text());
    return a;
  }
  const auto t = dtype_of_code(code);
  if (!t) r.fail(fmt::format("element type {}", code));
  const auto raw = r.take(Limits::product(n, size_of(*t), r.limits.memory_bytes, "the bytes of an array"));
  a.numbers = Tensor(*t, a.shape);
  if (!raw.empty()) std::memcpy(a.numbers.raw_mutable(), raw.data(), raw.size());
  return a;
}

}  // namespace

const Hdf5Array* Hdf5File::dataset(const std::string& path) const {
  const auto f = datasets.find(path);
  return f == datasets.end() ? nullptr : &f->second;
}
const Hdf5Array* Hdf5File::attribute(const std::string& path, const std::string& name) const {
  const auto o = attributes.find(path);
  if (o == attributes.end()) return nullptr;
  const auto f = o->second.find(name);
  return f == o->second.end() ? nullptr : &f->second;
}

Hdf5File parse_hdf5_container(std::string_view bytes, std::uint64_t nonce, const Limits& limits) {
  Reader r{bytes, limits};
  if (r.take(kMagic.size()) != kMagic || r.number<std::uint64_t>() != nonce) r.fail("another beginning");
  Hdf5File f;
  std::uint64_t entries = 0;
  for (std::uint8_t kind = r.number<std::uint8_t>(); kind != kEnd; kind = r.number<std::uint8_t>()) {
    if (kind > kRefused) r.fail(fmt::format("an entry of kind {}", kind));
    if (++entries > limits.nodes) throw Error(Exit::limit, fmt::format("the HDF5 file has more than {} objects", limits.nodes));
    const std::string path = r.name(), name = r.name();
    if (kind == kRefused) throw bad_input("the HDF5 file is refused: {}", printable(r.text())).fix("export the weights again into one plain HDF5 file");
    if (kind == kGroup) f.groups.push_back(path);
    else if (kind == kSkipped) f.skipped[name.empty() ? path : path + "@" + name] = r.text();
    else if (kind == kDataset ? !f.datasets.emplace(path, array_of(r)).second : !f.attributes[path].emplace(name, array_of(r)).second)
      r.fail(fmt::format("'{}' appears twice", printable(path)));
  }
  if (r.number<std::uint64_t>() != entries) r.fail("another number of entries");
  const std::uint64_t hash = fnv1a(bytes.substr(0, r.at));
  if (r.number<std::uint64_t>() != hash) r.fail("another hash");
  if (r.at != bytes.size()) r.fail("bytes left over");
  return f;
}

fs::path hdf5_program() {
  std::vector<fs::path> folders;
  std::error_code ec;
  Dl_info self;
  if (dladdr(reinterpret_cast<const void*>(&hdf5_program), &self) && self.dli_fname) folders.push_back(fs::weakly_canonical(self.dli_fname, ec).parent_path());
  folders.push_back(fs::weakly_canonical("/proc/self/exe", ec).parent_path());
  for (const fs::path& f : folders)  // a build folder; lib/, lib/<architecture>/ or bin/ of a prefix
    for (const char* to : {"tandem-hdf5", "../libexec/tandem/tandem-hdf5", "../../libexec/tandem/tandem-hdf5"}) {
      const fs::path p = (f / to).lexically_normal();
      if (fs::is_regular_file(p, ec) && ::access(p.c_str(), X_OK) == 0) return p;
    }
  return {};
}

Hdf5File read_hdf5(const fs::path& path, const Limits& limits, const Cancel& cancel) {
  const std::string where = path.string();
  const std::string bytes = read_file(path, limits);
  // The superblock lies at 0 or behind a user block of 512, 1024, 2048 ... bytes.
  bool found = false;
  for (std::size_t at = 0; !found && at < bytes.size(); at = at == 0 ? 512 : 2 * at) found = bytes.compare(at, kSignature.size(), kSignature) == 0;
  if (!found) throw bad_input("no HDF5 file").at(where).expected("the signature of HDF5").fix("give the file that Keras wrote with save_weights or save");
  const fs::path program = hdf5_program();
  if (program.empty())
    throw Error(Exit::tool_missing, "reading HDF5 needs tandem-hdf5, which was not built").at(where).expected("libhdf5 when Tandem was built").fix("apt-get install libhdf5-dev, then build Tandem again");
  static std::atomic<std::uint64_t> count{0};
  const std::uint64_t nonce = fnv1a(fmt::format("{} {} {} {}", where, ::getpid(), count++, std::chrono::steady_clock::now().time_since_epoch().count()));
  const WorkFolder folder;
  folder.put("in.h5", bytes);
  Process p;
  p.argv = {program.string(), "in.h5", "out.bin", std::to_string(nonce), std::to_string(limits.memory_bytes / 4),
            std::to_string(static_cast<std::uint64_t>(std::clamp(limits.compression_ratio, 1.0, 1e9)))};
  p.folder = folder.path();
  p.env["HDF5_USE_FILE_LOCKING"] = "FALSE";
  p.seconds = 60;
  p.memory_bytes = limits.memory_bytes + (1ull << 30);  // the libraries themselves take address space
  p.file_bytes = limits.memory_bytes;
  p.trust = Trust::foreign;
  const ProcessResult r = p.run(cancel);
  if (!folder.has("out.bin")) {
    if (r.timed_out) throw Error(Exit::limit, "the HDF5 library did not finish with this file: " + r.summary()).at(where);
    throw bad_input("the HDF5 library failed on this file: {}", r.summary()).at(where).fix("the file is damaged: write or copy it again");
  }
  try {
    return parse_hdf5_container(folder.get("out.bin", limits.memory_bytes), nonce, limits);
  } catch (Error& e) {
    throw e.at(e.where().empty() ? where : where + ": " + e.where());
  }
}

}  // namespace tandem::tool
