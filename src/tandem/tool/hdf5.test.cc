#include "tandem/tool/hdf5.h"

#include <gtest/gtest.h>

#include <cstring>

#include "tandem/base/error.h"
#include "tandem/base/file.h"
#include "tandem/base/hash.h"
#include "tandem/tool/process.h"
#include "tandem/tool/work.h"

namespace tandem::tool {
namespace {
namespace fs = std::filesystem;

const fs::path kFiles = fs::path(TANDEM_SOURCE_DIR) / "tests/corpus/hdf5_files";

std::string refusal(const fs::path& p, const Limits& limits = {}) {
  try {
    read_hdf5(p, limits);
  } catch (const Error& e) {
    return fmt::format("{} {}", static_cast<int>(e.code()), e.full());
  }
  return "read";
}

class Hdf5 : public ::testing::Test {
 protected:
  void SetUp() override {
    if (hdf5_program().empty()) GTEST_SKIP() << "tandem-hdf5 was not built: libhdf5-dev is not installed";
    if (!sandbox_available()) GTEST_SKIP() << "no sandbox: " << sandbox_reason();
  }
};

TEST_F(Hdf5, EveryKindOfValue) {
  const Hdf5File f = read_hdf5(kFiles / "plain.h5");
  const auto numbers = [&](const std::string& path, DType t) {
    const Hdf5Array* a = f.dataset(path);
    std::vector<double> v;
    if (!a) return v;
    EXPECT_EQ(to_string(a->numbers.dtype()), to_string(t)) << path;
    for (std::int64_t i = 0; i < a->numbers.size(); ++i) v.push_back(a->numbers.at(i));
    return v;
  };
  using V = std::vector<double>;
  EXPECT_EQ(numbers("/layer/kernel", DType::f32), (V{1, -2, 3.5, 0, 1e-3f, 7}));
  EXPECT_EQ(f.dataset("/layer/kernel")->shape, (Shape{2, 3}));
  EXPECT_EQ(numbers("/layer/wide", DType::f64), (V{0.1, -1e300}));  // stored big-endian
  EXPECT_EQ(numbers("/layer/ints", DType::i32), (V{-5, 70000}));
  EXPECT_EQ(numbers("/layer/bytes", DType::u8), (V{0, 255}));
  EXPECT_EQ(numbers("/scalar", DType::i64), (V{-9000000000.0}));
  EXPECT_TRUE(f.dataset("/scalar")->shape.empty());
  EXPECT_EQ(numbers("/half", DType::f32), (V{1, -2}));
  EXPECT_EQ(numbers("/flags", DType::i8), (V{1, 0}));  // an enumeration, as h5py stores booleans
  V half;
  for (int i = 0; i < 64; ++i) half.push_back(i * 0.5);
  EXPECT_EQ(numbers("/packed", DType::f32), half);  // shuffled and deflated
  ASSERT_TRUE(f.attribute("/", "model_config"));
  EXPECT_EQ(f.attribute("/", "model_config")->text, (std::vector<std::string>{"{\"class_name\": \"Sequential\"}"}));
  EXPECT_EQ(f.attribute("/layer", "weight_names")->text, (std::vector<std::string>{"kernel", "bias:0"}));
  EXPECT_EQ(f.attribute("/layer", "count")->numbers.at(0), -5);
  EXPECT_EQ(f.groups, (std::vector<std::string>{"/", "/layer"}));
  EXPECT_EQ(f.skipped, (std::map<std::string, std::string>{{"/pairs", "its elements are neither numbers nor strings"}}));
}

TEST_F(Hdf5, HostileFilesAreRefusedByName) {
  const auto expect = [&](const char* file, const char* what) {
    const std::string r = refusal(kFiles / file);
    EXPECT_TRUE(r.starts_with("2 ")) << r;
    EXPECT_NE(r.find(what), r.npos) << r;
    EXPECT_NE(r.find(file), r.npos) << r;
  };
  expect("external_link.h5", "'/weights' is a link into another file");
  expect("external_storage.h5", "'/kernel' lies in another file (external storage)");
  expect("virtual.h5", "'/kernel' lies in other files (a virtual dataset)");
  expect("soft_link.h5", "'/b' is a symbolic link");
  expect("hard_link_cycle.h5", "'/a/root' is an object that the file names twice");
  expect("petabyte.h5", "'/kernel' is larger than the memory allowed");
  expect("unwritten.h5", "'/kernel' claims 67108864 bytes and 0 are in the file");
}

TEST_F(Hdf5, LimitsHold) {
  Limits small;
  small.memory_bytes = 2048;
  EXPECT_NE(refusal(kFiles / "plain.h5", small).find("larger than the memory allowed"), std::string::npos);
  Limits short_file;
  short_file.file_bytes = 100;
  EXPECT_TRUE(refusal(kFiles / "plain.h5", short_file).starts_with("2 "));
}

TEST_F(Hdf5, DamagedFilesNeverPassSilently) {
  const std::string whole = read_file(kFiles / "plain.h5");
  const WorkFolder w;
  // Cut short: HDF5 keeps the length of the file.
  for (std::size_t n : {std::size_t{0}, std::size_t{7}, std::size_t{8}, std::size_t{96}, std::size_t{1000}, whole.size() / 2, whole.size() - 1}) {
    w.put("cut.h5", whole.substr(0, n));
    EXPECT_TRUE(refusal(w / "cut.h5").starts_with("2 ")) << n;
  }
  // One byte changed: read, or refused; never a crash of ours, never a hang.
  for (std::size_t i = 0; i < 60; ++i) {
    std::string bad = whole;
    bad[(i * 7919 + 9) % bad.size()] ^= static_cast<char>(1 + i * 37 % 255);
    w.put("bad.h5", bad);
    const std::string r = refusal(w / "bad.h5");
    EXPECT_TRUE(r == "read" || r.starts_with("2 ") || r.starts_with("4 ")) << i << ": " << r;
  }
}

TEST(Hdf5Container, EveryCutAndEveryChangedByteIsNoticed) {
  const std::string whole = read_file(fs::path(TANDEM_SOURCE_DIR) / "tests/corpus/hdf5/dense.bin");
  EXPECT_EQ(parse_hdf5_container(whole, 7).datasets.size(), 4u);
  const auto bad = [](const std::string& s) {
    try {
      parse_hdf5_container(s, 7);
    } catch (const Error& e) {
      return e.code() == Exit::bad_input || e.code() == Exit::limit;
    }
    return false;
  };
  for (std::size_t i = 0; i < whole.size(); ++i) {
    EXPECT_TRUE(bad(whole.substr(0, i))) << i;
    std::string s = whole;
    s[i] ^= 0x40;
    EXPECT_TRUE(bad(s)) << i;
  }
  EXPECT_TRUE(bad(whole + "x"));
  EXPECT_THROW(parse_hdf5_container(whole, 8), Error);
}

TEST(Hdf5Container, WhatIsNoHdf5IsSaid) {
  const WorkFolder w;
  w.put("text.h5", "hello");
  EXPECT_NE(refusal(w / "text.h5").find("no HDF5 file"), std::string::npos);
}

}  // namespace
}  // namespace tandem::tool
