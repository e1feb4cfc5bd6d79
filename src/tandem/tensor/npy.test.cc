#include "tandem/tensor/npy.h"

#include <gtest/gtest.h>
#include <zip.h>

#include <algorithm>
#include <cstring>
#include <unistd.h>

#include <filesystem>

#include "tandem/base/file.h"
#include "tandem/base/rng.h"

namespace tandem {
namespace {

namespace fs = std::filesystem;

constexpr DType all_types[] = {DType::f32, DType::f64, DType::f16, DType::bf16, DType::i8, DType::i16, DType::i32,
                               DType::i64, DType::u8, DType::u16, DType::u32, DType::u64, DType::boolean};

fs::path corpus(const char* name) { return fs::path(TANDEM_SOURCE_DIR) / "tests/corpus/npz" / name; }

Tensor random_tensor(Rng& rng, DType type) {
  Shape s;
  for (std::int64_t r = rng.range(0, 4); r > 0; --r) s.push_back(rng.range(rng.chance(0.1) ? 0 : 1, 5));
  Tensor t(type, s);
  auto* p = static_cast<unsigned char*>(t.raw_mutable());
  for (std::size_t i = 0; i < t.bytes(); ++i) p[i] = static_cast<unsigned char>(type == DType::boolean ? rng.range(0, 1) : rng.range(0, 255));
  return t;
}

// What `f` throws, as text; fails the test when it does not throw a tandem::Error for the user.
template <class F>
std::string refused(F&& f) {
  try {
    f();
  } catch (const Error& e) {
    EXPECT_NE(e.code(), Exit::bug) << e.full();
    EXPECT_FALSE(e.where().empty()) << e.full();
    return e.full();
  }
  ADD_FAILURE() << "not refused";
  return "";
}

std::string header_only(const std::string& dict) {
  std::string s = "\x93NUMPY";
  s += {'\1', '\0', static_cast<char>(dict.size() & 0xff), static_cast<char>(dict.size() >> 8)};
  return s + dict;
}

// A zip made with libzip itself: duplicate names are possible, method and content are free.
std::string zip_of(const std::vector<std::pair<std::string, std::string>>& members) {
  zip_error_t error;
  zip_source_t* sink = zip_source_buffer_create(nullptr, 0, 0, &error);
  zip_source_keep(sink);
  zip_t* z = zip_open_from_source(sink, ZIP_TRUNCATE, &error);
  for (const auto& [name, content] : members)
    zip_file_add(z, name.c_str(), zip_source_buffer(z, content.data(), content.size(), 0), 0);
  EXPECT_EQ(zip_close(z), 0);
  zip_stat_t st;
  zip_source_stat(sink, &st);
  std::string out(st.size, '\0');
  zip_source_open(sink);
  zip_source_read(sink, out.data(), out.size());
  zip_source_close(sink);
  zip_source_free(sink);
  return out;
}

TEST(Npy, RoundTripOfEveryType) {
  Rng rng(1, "npy");
  Archive all;
  for (int i = 0; i < 200; ++i) {
    const DType type = all_types[i % std::size(all_types)];
    const Tensor t = random_tensor(rng, type);
    EXPECT_TRUE(parse_npy(npy_bytes(t)).same(t)) << to_string(type) << to_string(t.shape());
    all.emplace(fmt::format("layer/{}", i), t);
  }
  const std::string bytes = npz_bytes(all);
  EXPECT_EQ(bytes, npz_bytes(all));
  const Archive back = parse_npz(bytes);
  ASSERT_EQ(back.size(), all.size());
  for (const auto& [name, t] : all) EXPECT_TRUE(back.at(name).same(t)) << name;
  EXPECT_TRUE(parse_npz(npz_bytes({})).empty());
}

TEST(Npy, FilesOnDisk) {
  const fs::path dir = fs::temp_directory_path() / fmt::format("tandem-npy-{}", ::getpid());
  fs::create_directory(dir);
  const Tensor t = Tensor::of<float>({2, 2}, std::vector<float>{1, 2, 3, 4});
  write_npy(dir / "a.npy", t);
  write_npz(dir / "a.npz", {{"x", t}, {"../y", t}});
  EXPECT_TRUE(read_npy(dir / "a.npy").same(t));
  EXPECT_TRUE(read_npz(dir / "a.npz").at("../y").same(t));
  EXPECT_FALSE(fs::exists(dir.parent_path() / "y.npy"));
  fs::remove_all(dir);
}

// The corpus was written by NumPy 1.24 (see tests/corpus/npz/README.md).
TEST(Npy, ReadsWhatNumPyWrote) {
  const Archive a = read_npz(corpus("mixed.npz"));
  ASSERT_EQ(a.size(), 8u);
  EXPECT_TRUE(a.at("f4").same(Tensor::of<float>({2, 3}, std::vector<float>{0, .25, .5, .75, 1, 1.25})));
  EXPECT_TRUE(a.at("f8_big").same(Tensor::of<double>({2, 3}, std::vector<double>{0, .25, .5, .75, 1, 1.25})));
  EXPECT_TRUE(a.at("fortran").same(Tensor::of<std::int32_t>({2, 3}, std::vector<std::int32_t>{0, 1, 2, 3, 4, 5})));
  EXPECT_EQ(a.at("half").dtype(), DType::f16);
  EXPECT_EQ(a.at("half").at(5), 1.25);
  EXPECT_EQ(a.at("flags").dtype(), DType::boolean);
  EXPECT_EQ(a.at("flags").int_at(4), 1);
  EXPECT_EQ(a.at("scalar").shape(), Shape{});
  EXPECT_EQ(a.at("scalar").int_at(0), 7);
  EXPECT_EQ(a.at("empty").shape(), (Shape{0, 3}));
  EXPECT_EQ(a.at("../escape").int_at(2), 2);  // a key, not a path
  const Tensor cube = read_npy(corpus("cube_fortran_big.npy"));
  EXPECT_EQ(cube.shape(), (Shape{2, 3, 4}));
  for (int i = 0; i < 24; ++i) EXPECT_EQ(cube.int_at(i), i);
  EXPECT_EQ(read_npy(corpus("version2.npy")).dtype(), DType::u16);
  EXPECT_EQ(read_npy(corpus("version3.npy")).int_at(5), 5);
}

TEST(Npy, ForeignTypesAreRefusedByName) {
  const auto message = [](const char* f) { return refused([&] { read_npy(corpus(f)); }); };
  EXPECT_NE(message("object.npy").find("pickle"), std::string::npos);
  EXPECT_NE(message("text.npy").find("text"), std::string::npos);
  EXPECT_NE(message("complex.npy").find("complex"), std::string::npos);
  EXPECT_NE(message("structured.npy").find("structured"), std::string::npos);
}

TEST(Npy, HugeShapesAreRefusedBeforeAllocation) {
  // 2^40 bytes would fail to allocate here; the limits alone would allow it.
  Limits wide;
  wide.elements = wide.memory_bytes = UINT64_MAX;
  const std::string huge = header_only("{'descr': '|u1', 'fortran_order': False, 'shape': (1099511627776,), }");
  EXPECT_NE(refused([&] { parse_npy(huge, wide); }).find("0 are there"), std::string::npos);
  refused([&] { parse_npy(huge); });
  refused([&] { parse_npy(header_only("{'descr': '<f8', 'fortran_order': False, 'shape': (4294967296, 4294967296), }"), wide); });
  refused([&] { parse_npy(header_only("{'descr': '<f8', 'fortran_order': False, 'shape': (-1,), }"), wide); });
}

TEST(Npy, EveryTruncationIsRefused) {
  const std::string npy = npy_bytes(Tensor::of<std::int16_t>({3}, std::vector<std::int16_t>{1, 2, 3}));
  for (std::size_t n = 0; n < npy.size(); ++n) refused([&] { parse_npy(npy.substr(0, n)); });
  refused([&] { parse_npy(npy + "x"); });
  const std::string npz = read_file(corpus("mixed.npz"));
  for (std::size_t n = 0; n < npz.size(); n += 7) refused([&] { parse_npz(npz.substr(0, n)); });
}

TEST(Npy, MalformedHeaders) {
  for (const char* dict : {"", "{}", "{'descr': '<f4', 'fortran_order': False}", "{'descr': '<f4', 'fortran_order': 0, 'shape': ()}",
                           "{'descr': '<f4', 'fortran_order': False, 'shape': ()} x", "{'descr': '<f4', 'descr': '<f4', 'fortran_order': False, 'shape': ()}",
                           "{'descr': '<f3', 'fortran_order': False, 'shape': ()}", "{'descr': '<f4', 'fortran_order': False, 'shape': (1 2)}",
                           "{'descr': '<f4', 'fortran_order': False, 'shape': (1,", "{'descr': '<f4", "{'evil': 1, 'descr': '<f4', 'fortran_order': False, 'shape': ()}",
                           "{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999999999999,)}"})
    refused([&] { parse_npy(header_only(dict) + std::string(4, '\0')); });
  EXPECT_EQ(parse_npy(header_only("{ \"shape\" : (1L , ), 'fortran_order':True,'descr':'=i1'}") + "\x05").int_at(0), 5);
}

TEST(Npz, HostileArchives) {
  const std::string a = npy_bytes(Tensor::scalar(1.0f));
  refused([&] { parse_npz("not a zip"); });
  EXPECT_NE(refused([&] { parse_npz(zip_of({{"a.txt", a}})); }).find("a.txt"), std::string::npos);
  EXPECT_EQ(parse_npz(zip_of({{"a.npy", a}})).size(), 1u);
  // libzip refuses to write a name twice: rename in the bytes, both headers.
  std::string twice = zip_of({{"a.npy", a}, {"b.npy", a}});
  for (std::size_t i; (i = twice.find("b.npy")) != std::string::npos;) twice[i] = 'a';
  EXPECT_NE(refused([&] { parse_npz(twice); }).find("twice"), std::string::npos);
  // 64 MiB of zeros in some 64 kB: ratio about 1000.
  const std::string bomb = npz_bytes({{"z", Tensor(DType::u8, {64 << 20})}});
  EXPECT_LT(bomb.size(), 100000u);
  Limits limits;
  EXPECT_EQ(parse_npz(bomb, limits).at("z").size(), 64 << 20);
  limits.compression_ratio = 500;
  EXPECT_NE(refused([&] { parse_npz(bomb, limits); }).find("500"), std::string::npos);
  limits = {};
  limits.memory_bytes = 1 << 20;
  refused([&] { parse_npz(bomb, limits); });
  limits = {};
  limits.nodes = 1;
  refused([&] { parse_npz(zip_of({{"a.npy", a}, {"b.npy", a}}), limits); });
}

// Any single damaged byte is refused or leaves a readable archive; never a crash, never a bug report.
TEST(Npz, DamagedBytes) {
  const std::string good = read_file(corpus("mixed.npz"));
  Rng rng(2, "damage");
  int refusals = 0;
  for (int i = 0; i < 3000; ++i) {
    std::string bad = good;
    for (std::int64_t j = rng.range(1, 3); j > 0; --j) rng.pick(bad) = static_cast<char>(rng.range(0, 255));
    try {
      parse_npz(bad);
    } catch (const Error& e) {
      ASSERT_NE(e.code(), Exit::bug) << e.full();
      ++refusals;
    }
  }
  EXPECT_GT(refusals, 1500);
}

}  // namespace
}  // namespace tandem
