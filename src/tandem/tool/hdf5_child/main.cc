// tandem-hdf5 IN OUT NONCE BYTES RATIO: everything in an HDF5 file as the flat container of tool/hdf5.h.
//
// A program of its own, so that libhdf5, which crashes and hangs on hostile files, runs in a sandbox with
// nothing but the file. It refuses links that leave the file, external and virtual storage, and filters that
// would be loaded from a plugin; sizes are compared with the budget before memory is taken. A refusal is an
// entry of the container: the parent reads no text of ours.
#include <hdf5.h>

#include <charconv>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <set>
#include <string>
#include <string_view>
#include <vector>

namespace {

struct Refused {
  std::string what;
};

std::uint64_t g_budget = 0, g_ratio = 0;
std::string g_out;
std::uint64_t g_entries = 0;

void put(const void* p, std::size_t n) { g_out.append(static_cast<const char*>(p), n); }
template <class T>
void put(T v) { put(&v, sizeof v); }
void put_text(std::string_view s) {
  put(static_cast<std::uint32_t>(s.size()));
  put(s.data(), s.size());
}
void spend(std::uint64_t n, const std::string& what) {
  if (n > g_budget) throw Refused{what + " is larger than the memory allowed"};
  g_budget -= n;
}

struct Id {
  hid_t id;
  herr_t (*close)(hid_t);
  Id(hid_t i, herr_t (*c)(hid_t), const std::string& what) : id(i), close(c) {
    if (id < 0) throw Refused{what + " cannot be opened"};
  }
  Id(const Id&) = delete;
  Id& operator=(const Id&) = delete;
  ~Id() { close(id); }
  operator hid_t() const { return id; }
};

// Kinds and element types: the numbers of tool/hdf5.cc.
enum : std::uint8_t { kGroup = 1, kDataset = 2, kAttribute = 3, kSkipped = 4, kRefused = 5 };
enum : std::uint8_t { kF32 = 0, kF64 = 1, kI8 = 4, kI16 = 5, kI32 = 6, kI64 = 7, kU8 = 8, kU16 = 9, kU32 = 10, kU64 = 11, kText = 64 };

void begin(std::uint8_t kind, const std::string& path, const std::string& name) {
  put(kind);
  put_text(path);
  put_text(name);
  ++g_entries;
}

struct Native {
  std::uint8_t code = 0;
  hid_t type = -1;
  std::size_t bytes = 0;
};
// How a number is read; type < 0: not at all. Half floats widen; enumerations (h5py's bool) are their integers.
Native native_of(hid_t type) {
  const H5T_class_t c = H5Tget_class(type);
  const std::size_t n = H5Tget_size(type);
  if (c == H5T_FLOAT) return n <= 4 ? Native{kF32, H5T_NATIVE_FLOAT, 4} : Native{kF64, H5T_NATIVE_DOUBLE, 8};
  if (c == H5T_INTEGER || c == H5T_ENUM) {
    const bool u = c == H5T_INTEGER && H5Tget_sign(type) == H5T_SGN_NONE;
    if (n <= 1) return u ? Native{kU8, H5T_NATIVE_UINT8, 1} : Native{kI8, H5T_NATIVE_INT8, 1};
    if (n <= 2) return u ? Native{kU16, H5T_NATIVE_UINT16, 2} : Native{kI16, H5T_NATIVE_INT16, 2};
    if (n <= 4) return u ? Native{kU32, H5T_NATIVE_UINT32, 4} : Native{kI32, H5T_NATIVE_INT32, 4};
    if (n <= 8) return u ? Native{kU64, H5T_NATIVE_UINT64, 8} : Native{kI64, H5T_NATIVE_INT64, 8};
  }
  return {};
}

// A dataset or an attribute: header, extents, values.
template <class Read>
void values(std::uint8_t kind, const std::string& path, const std::string& name, hid_t type, hid_t space, std::uint64_t stored, Read read) {
  const std::string what = "'" + path + (name.empty() ? "'" : "', attribute '" + name + "'");
  const auto skip = [&](const char* why) {
    begin(kSkipped, path, name);
    put_text(why);
  };
  if (H5Sget_simple_extent_type(space) == H5S_NULL) return skip("it is empty");
  const int rank = H5Sget_simple_extent_ndims(space);
  if (rank < 0 || rank > 32) throw Refused{what + " has no extents"};
  hsize_t dims[32] = {};
  if (rank > 0 && H5Sget_simple_extent_dims(space, dims, nullptr) < 0) throw Refused{what + " has no extents"};
  std::uint64_t n = 1;
  for (int i = 0; i < rank; ++i)
    if (__builtin_mul_overflow(n, static_cast<std::uint64_t>(dims[i]), &n)) throw Refused{what + " has more elements than can be counted"};
  const H5T_class_t c = H5Tget_class(type);
  const auto head = [&](std::uint8_t code) {
    begin(kind, path, name);
    put(code);
    put(static_cast<std::uint8_t>(rank));
    for (int i = 0; i < rank; ++i) put(static_cast<std::uint64_t>(dims[i]));
  };
  if (c == H5T_STRING) {
    const bool variable = H5Tis_variable_str(type) > 0;
    const std::size_t each = variable ? sizeof(char*) : H5Tget_size(type);
    std::uint64_t bytes = 0;
    if (each == 0 || __builtin_mul_overflow(n, static_cast<std::uint64_t>(each), &bytes)) throw Refused{what + " has strings without a size"};
    spend(2 * bytes, what);
    Id mem(H5Tcopy(H5T_C_S1), H5Tclose, what);
    H5Tset_size(mem, variable ? H5T_VARIABLE : each);
    H5Tset_cset(mem, H5Tget_cset(type));
    H5Tset_strpad(mem, H5Tget_strpad(type));
    std::vector<char> raw(bytes);
    if (n > 0 && read(mem, raw.data()) < 0) throw Refused{what + " cannot be read"};
    head(kText);
    for (std::uint64_t i = 0; i < n; ++i) {
      if (variable) {
        const char* s = nullptr;
        std::memcpy(&s, raw.data() + i * sizeof s, sizeof s);
        const std::string_view v = s ? std::string_view(s) : std::string_view();
        spend(v.size(), what);
        put_text(v);
      } else {
        std::string_view v(raw.data() + i * each, each);
        if (const auto z = v.find('\0'); z != v.npos) v = v.substr(0, z);
        if (H5Tget_strpad(type) == H5T_STR_SPACEPAD)
          while (!v.empty() && v.back() == ' ') v.remove_suffix(1);
        put_text(v);
      }
    }
    return;
  }
  const Native t = native_of(type);
  if (t.type < 0) return skip("its elements are neither numbers nor strings");
  std::uint64_t bytes = 0;
  if (__builtin_mul_overflow(n, static_cast<std::uint64_t>(t.bytes), &bytes)) throw Refused{what + " has more elements than can be counted"};
  spend(bytes, what);
  if (bytes > (1u << 20) && bytes / g_ratio > stored)
    throw Refused{what + " claims " + std::to_string(bytes) + " bytes and " + std::to_string(stored) + " are in the file"};
  head(t.code);
  const std::size_t at = g_out.size();
  g_out.resize(at + bytes);
  if (bytes > 0 && read(t.type, g_out.data() + at) < 0) throw Refused{what + " cannot be read"};
}

void attributes(hid_t object, const std::string& path) {
  struct Pass {
    std::vector<std::string> names;
  } pass;
  hsize_t at = 0;
  if (H5Aiterate2(object, H5_INDEX_NAME, H5_ITER_INC, &at,
                  [](hid_t, const char* n, const H5A_info_t*, void* p) -> herr_t {
                    static_cast<Pass*>(p)->names.emplace_back(n);
                    return 0;
                  },
                  &pass) < 0)
    throw Refused{"the attributes of '" + path + "' cannot be listed"};
  for (const std::string& name : pass.names) {
    const std::string what = "attribute '" + name + "' of '" + path + "'";
    spend(name.size() + path.size() + 64, what);
    Id a(H5Aopen(object, name.c_str(), H5P_DEFAULT), H5Aclose, what);
    Id type(H5Aget_type(a), H5Tclose, what), space(H5Aget_space(a), H5Sclose, what);
    values(kAttribute, path, name, type, space, ~0ull, [&](hid_t t, void* p) { return H5Aread(a, t, p); });
  }
}

void dataset(hid_t d, const std::string& path) {
  const std::string what = "'" + path + "'";
  Id plist(H5Dget_create_plist(d), H5Pclose, what);
  if (H5Pget_layout(plist) == H5D_VIRTUAL) throw Refused{what + " lies in other files (a virtual dataset)"};
  if (H5Pget_external_count(plist) > 0) throw Refused{what + " lies in another file (external storage)"};
  const int filters = H5Pget_nfilters(plist);
  for (int i = 0; i < filters; ++i) {
    unsigned flags = 0, config = 0;
    std::size_t n = 0;
    char name[64] = "";
    const H5Z_filter_t f = H5Pget_filter2(plist, static_cast<unsigned>(i), &flags, &n, nullptr, sizeof name, name, &config);
    if (f != H5Z_FILTER_DEFLATE && f != H5Z_FILTER_SHUFFLE && f != H5Z_FILTER_FLETCHER32 && f != H5Z_FILTER_SCALEOFFSET && f != H5Z_FILTER_NBIT)
      throw Refused{what + " is packed by filter " + std::to_string(f) + ", which is not part of HDF5"};
  }
  Id type(H5Dget_type(d), H5Tclose, what), space(H5Dget_space(d), H5Sclose, what);
  values(kDataset, path, "", type, space, H5Dget_storage_size(d), [&](hid_t t, void* p) { return H5Dread(d, t, H5S_ALL, H5S_ALL, H5P_DEFAULT, p); });
}

struct Link {
  std::string name;
  H5L_type_t type;
};

void group(hid_t g, const std::string& path, int depth, std::set<std::uint64_t>& seen) {
  if (depth > 64) throw Refused{"groups are nested more than 64 deep"};
  begin(kGroup, path.empty() ? "/" : path, "");
  attributes(g, path.empty() ? "/" : path);
  std::vector<Link> links;
  hsize_t at = 0;
  if (H5Literate(g, H5_INDEX_NAME, H5_ITER_INC, &at,
                 [](hid_t, const char* n, const H5L_info_t* i, void* p) -> herr_t {
                   static_cast<std::vector<Link>*>(p)->push_back({n, i->type});
                   return 0;
                 },
                 &links) < 0)
    throw Refused{"the group '" + path + "' cannot be listed"};
  for (const Link& l : links) {
    const std::string below = path + "/" + l.name, what = "'" + below + "'";
    spend(below.size() + 64, what);
    if (l.type == H5L_TYPE_EXTERNAL) throw Refused{what + " is a link into another file"};
    if (l.type != H5L_TYPE_HARD) throw Refused{what + " is a symbolic link"};
    Id o(H5Oopen(g, l.name.c_str(), H5P_DEFAULT), H5Oclose, what);
    H5O_info_t info;
    if (H5Oget_info2(o, &info, H5O_INFO_BASIC) < 0) throw Refused{what + " cannot be read"};
    if (!seen.insert(info.addr).second) throw Refused{what + " is an object that the file names twice"};
    if (info.type == H5O_TYPE_GROUP) {
      group(o, below, depth + 1, seen);
    } else if (info.type == H5O_TYPE_DATASET) {
      dataset(o, below);
      attributes(o, below);
    } else {
      begin(kSkipped, below, "");
      put_text("it is neither a group nor a dataset");
    }
  }
}

bool number(const char* s, std::uint64_t& v) {
  const char* end = s + std::strlen(s);
  const auto [p, ec] = std::from_chars(s, end, v);
  return ec == std::errc() && p == end;
}

// The hash of base/hash.h.
std::uint64_t fnv1a(std::string_view s) {
  std::uint64_t h = 14695981039346656037ull;
  for (unsigned char c : s) h = (h ^ c) * 1099511628211ull;
  return h;
}

}  // namespace

int main(int argc, char** argv) {
  std::uint64_t nonce = 0;
  if (argc != 6 || !number(argv[3], nonce) || !number(argv[4], g_budget) || !number(argv[5], g_ratio) || g_ratio == 0) {
    std::fputs("usage: tandem-hdf5 IN OUT NONCE BYTES RATIO\n", stderr);
    return 2;
  }
  H5open();
  H5PLset_loading_state(0);
  H5Eset_auto2(H5E_DEFAULT, nullptr, nullptr);
  g_out = "TANDEMH5";
  put(nonce);
  const std::size_t start = g_out.size();
  try {
    Id file(H5Fopen(argv[1], H5F_ACC_RDONLY, H5P_DEFAULT), H5Fclose, "the file");
    Id root(H5Gopen2(file, "/", H5P_DEFAULT), H5Gclose, "'/'");
    std::set<std::uint64_t> seen;
    H5O_info_t info;
    if (H5Oget_info2(root, &info, H5O_INFO_BASIC) >= 0) seen.insert(info.addr);
    group(root, "", 0, seen);
  } catch (const Refused& r) {
    g_out.resize(start);
    g_entries = 0;
    begin(kRefused, "", "");
    put_text(r.what);
  } catch (const std::exception&) {
    g_out.resize(start);
    g_entries = 0;
    begin(kRefused, "", "");
    put_text("it needs more memory than allowed");
  }
  put(static_cast<std::uint8_t>(0));
  put(g_entries);
  put(fnv1a(g_out));
  std::FILE* f = std::fopen(argv[2], "wb");
  if (!f) return 1;
  const bool ok = std::fwrite(g_out.data(), 1, g_out.size(), f) == g_out.size();
  return std::fclose(f) == 0 && ok ? 0 : 1;
}
