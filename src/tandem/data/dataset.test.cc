#include "tandem/data/dataset.h"

#include <gtest/gtest.h>
#include <png.h>
#include <unistd.h>
#include <zlib.h>

#include <algorithm>
#include <cstdlib>
#include <numeric>

#include "tandem/base/file.h"
#include "tandem/base/rng.h"
#include "tandem/tensor/npy.h"

namespace tandem::data {
namespace {

namespace fs = std::filesystem;

class Data : public ::testing::Test {
 protected:
  void SetUp() override {
    dir = fs::temp_directory_path() / fmt::format("tandem-data-{}-{}", ::getpid(), ::testing::UnitTest::GetInstance()->current_test_info()->name());
    fs::remove_all(dir);
    fs::create_directories(dir);
  }
  void TearDown() override { fs::remove_all(dir); }
  fs::path put(const std::string& name, std::string_view bytes) const {
    fs::create_directories((dir / name).parent_path());
    write_file(dir / name, bytes);
    return dir / name;
  }
  fs::path dir;
};

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

std::string gzip(const std::string& s) {
  z_stream z{};
  deflateInit2(&z, 6, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY);
  std::string out(s.size() + 1000, '\0');
  z.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(s.data()));
  z.avail_in = static_cast<uInt>(s.size());
  z.next_out = reinterpret_cast<Bytef*>(out.data());
  z.avail_out = static_cast<uInt>(out.size());
  EXPECT_EQ(deflate(&z, Z_FINISH), Z_STREAM_END);
  out.resize(z.total_out);
  deflateEnd(&z);
  return out;
}

std::string idx(char type, const std::vector<std::uint32_t>& shape, const std::string& data) {
  std::string s{0, 0, type, static_cast<char>(shape.size())};
  for (std::uint32_t e : shape)
    for (int i = 24; i >= 0; i -= 8) s += static_cast<char>(e >> i);
  return s + data;
}

std::string png(int w, int h, bool colour, int seed) {
  std::vector<unsigned char> p(static_cast<std::size_t>(w * h * (colour ? 3 : 1)));
  for (std::size_t i = 0; i < p.size(); ++i) p[i] = static_cast<unsigned char>(i * 7 + seed);
  png_image image{};
  image.version = PNG_IMAGE_VERSION;
  image.width = static_cast<png_uint_32>(w);
  image.height = static_cast<png_uint_32>(h);
  image.format = colour ? PNG_FORMAT_RGB : PNG_FORMAT_GRAY;
  png_alloc_size_t size = 0;
  png_image_write_to_memory(&image, nullptr, &size, 0, p.data(), 0, nullptr);
  std::string out(size, '\0');
  png_image_write_to_memory(&image, out.data(), &size, 0, p.data(), 0, nullptr);
  return out;
}

// ---- IDX ----

TEST_F(Data, Idx) {
  const std::string plain = idx(0x08, {2, 2, 2}, std::string("\1\2\3\4\5\6\7\x08", 8));
  const Tensor want = Tensor::of<std::uint8_t>({2, 2, 2}, std::vector<std::uint8_t>{1, 2, 3, 4, 5, 6, 7, 8});
  EXPECT_TRUE(read_idx(put("a", plain)).same(want));
  EXPECT_TRUE(read_idx(put("a.gz", gzip(plain))).same(want));
  EXPECT_TRUE(read_idx(put("two.gz", gzip(plain.substr(0, 9)) + gzip(plain.substr(9)))).same(want));
  EXPECT_TRUE(read_idx(put("b", idx(0x0b, {2}, std::string("\xff\xfe\0\3", 4)))).same(Tensor::of<std::int16_t>({2}, std::vector<std::int16_t>{-2, 3})));
  EXPECT_TRUE(read_idx(put("f", idx(0x0d, {1}, std::string("\x3f\x80\0\0", 4)))).same(Tensor::of<float>({1}, std::vector<float>{1})));
  for (std::size_t n = 0; n < plain.size(); ++n) refused([&] { read_idx(put("t", plain.substr(0, n))); });
  refused([&] { read_idx(put("t", plain + "x")); });
  const std::string packed = gzip(plain);
  for (std::size_t n = 2; n < packed.size(); ++n) refused([&] { read_idx(put("t", packed.substr(0, n))); });
  std::string bad = packed;
  bad[bad.size() - 6] ^= 1;  // CRC
  refused([&] { read_idx(put("t", bad)); });
  EXPECT_NE(refused([&] { read_idx(put("t", idx(0x07, {1}, "x"))); }).find("type"), std::string::npos);
  refused([&] { read_idx(put("t", idx(0x08, {0xffffffff, 0xffffffff, 0xffffffff}, ""))); });
  refused([&] { read_idx(dir / "missing"); });
}

TEST_F(Data, IdxPair) {
  const auto images = put("x-images-idx3-ubyte", idx(0x08, {2, 1, 2}, "abcd")), labels = put("x-labels-idx1-ubyte", idx(0x08, {2}, std::string("\0\2", 2)));
  const Dataset d = open(images.string());
  EXPECT_EQ(d.classes.size(), 3u);
  EXPECT_EQ(d.full_scale, 255);
  EXPECT_EQ(d.y.int_at(1), 2);
  refused([&] { read_idx_pair(images, put("l", idx(0x08, {3}, "abc"))); });
  refused([&] { read_idx_pair(images, put("l", idx(0x09, {2}, "\xff\x01"))); });  // label -1
}

TEST_F(Data, GzipBomb) {
  std::string zeros(1 << 26, '\0');
  const auto bomb = put("bomb.gz", gzip(idx(0x08, {1u << 26}, zeros)));
  EXPECT_EQ(read_idx(bomb).size(), 1 << 26);
  Limits limits;
  limits.compression_ratio = 500;
  refused([&] { read_idx(bomb, limits); });
  limits = {};
  limits.memory_bytes = 1 << 20;
  refused([&] { read_idx(bomb, limits); });
}

// ---- CSV ----

TEST_F(Data, Csv) {
  const Dataset iris = read_csv(put("iris.csv", "5.1,3.5,setosa\r\n4.9,-3e0, virginica\r\n\r\n1,2,setosa"));
  EXPECT_TRUE(iris.x.same(Tensor::of<float>({3, 2}, std::vector<float>{5.1f, 3.5f, 4.9f, -3, 1, 2})));
  EXPECT_EQ(iris.classes, (std::vector<std::string>{"setosa", "virginica"}));
  EXPECT_EQ(iris.y.int_at(1), 1);
  const Dataset named = read_csv(put("h.csv", "a,class,\"b, \"\"c\"\"\"\n1,0,2\n3,2,4\n"));
  EXPECT_EQ(named.features, (std::vector<std::string>{"a", "b, \"c\""}));
  EXPECT_EQ(named.classes.size(), 3u);
  EXPECT_TRUE(named.x.same(Tensor::of<float>({2, 2}, std::vector<float>{1, 2, 3, 4})));
  const Dataset target = read_csv(put("r.csv", "1,0.5\n2,-1\n"));
  EXPECT_FALSE(target.labelled());
  EXPECT_TRUE(target.y.same(Tensor::of<float>({2}, std::vector<float>{0.5f, -1})));
  EXPECT_EQ(read_csv(dir / "r.csv", {.label = "0"}).y.int_at(1), 2);
  EXPECT_EQ(read_csv(dir / "r.csv", {.no_label = true}).x.shape(), (Shape{2, 2}));
  EXPECT_EQ(read_csv(put("g.csv.gz", gzip("1,0\n2,1\n"))).size(), 2);
}

TEST_F(Data, CsvRefusals) {
  const auto message = [&](std::string_view text, CsvParams p = {}) { return refused([&] { read_csv(put("bad.csv", text), p); }); };
  EXPECT_NE(message("1,2,a\n1,2\n").find("bad.csv:2"), std::string::npos);  // ragged
  EXPECT_NE(message("a,b,c\n1,2,x\n\n1,?,x\n").find("bad.csv:4"), std::string::npos);
  EXPECT_NE(message("1,\"2,a\n").find("does not end"), std::string::npos);
  EXPECT_NE(message("1,\"2\"x,a\n").find("after a quoted"), std::string::npos);
  EXPECT_NE(message("1,nan,a\n").find("number"), std::string::npos);
  EXPECT_NE(message("a,b\n1,2\n", {.label = "c"}).find("'c'"), std::string::npos);
  message("");
  message("\n\n");
  message("a,b\n");
  message("1\n2\n");
  message("1,x\n2,\n");
}

// ---- npz ----

TEST_F(Data, Npz) {
  const Tensor x(DType::u8, {3, 2, 2}), y = Tensor::of<std::int32_t>({3}, std::vector<std::int32_t>{0, 1, 1});
  write_npz(dir / "a.npz", {{"x", x}, {"y", y}, {"split", Tensor::of<std::uint8_t>({3}, std::vector<std::uint8_t>{0, 1, 2})}});
  const Dataset d = open((dir / "a.npz").string());
  EXPECT_EQ(d.part, (std::vector<Part>{Part::train, Part::test, Part::valid}));
  EXPECT_EQ(d.classes.size(), 2u);
  EXPECT_EQ(select(d, Part::valid).y.int_at(0), 1);
  write_npz(dir / "k.npz", {{"x_train", x}, {"y_train", y.reshaped({3, 1})}, {"x_test", x.rows(0, 2)}, {"y_test", y.rows(0, 2)}});
  const Dataset k = read_npz_dataset(dir / "k.npz");
  EXPECT_EQ(k.size(), 5);
  EXPECT_EQ(select(k, Part::test).size(), 2);
  const auto message = [&](const Archive& a) {
    write_npz(dir / "bad.npz", a);
    return refused([&] { read_npz_dataset(dir / "bad.npz"); });
  };
  EXPECT_NE(message({{"data", x}}).find("data"), std::string::npos);
  message({{"x", x}, {"y", y.rows(0, 2)}});
  message({{"x", x}, {"y", Tensor::of<std::int8_t>({3}, std::vector<std::int8_t>{0, -1, 0})}});
  message({{"x", x}, {"y", y.reshaped({1, 3})}});
  message({{"x", x}, {"y", y}, {"split", Tensor::of<std::uint8_t>({3}, std::vector<std::uint8_t>{0, 1, 3})}});
  message({{"x", x}, {"y", y}, {"split", Tensor(DType::u8, {2})}});
  message({{"x", Tensor::scalar(1.0f)}});
  message({{"x", Tensor::of<std::uint8_t>({1}, std::vector<std::uint8_t>{17})}, {"full_scale", Tensor::scalar(16.0)}});
}

// ---- images ----

TEST_F(Data, ImageFolder) {
  for (const char* part : {"train", "test"})
    for (const char* cls : {"dog", "cat"})
      for (int i = 0; i < 2; ++i) put(fmt::format("set/{}/{}/{}.png", part, cls, i), png(3, 2, false, i));
  put("set/train/cat/.hidden", "x");
  const Dataset d = open((dir / "set").string());
  EXPECT_EQ(d.x.shape(), (Shape{8, 1, 2, 3}));
  EXPECT_EQ(d.classes, (std::vector<std::string>{"cat", "dog"}));
  EXPECT_EQ(d.part[0], Part::test);
  EXPECT_EQ(d.y.int_at(0), 0);
  EXPECT_EQ(d.y.int_at(2), 1);
  for (int i = 0; i < 6; ++i) EXPECT_EQ(d.x.int_at(6 + i), i * 7 + 1);
  put("mixed/a/0.png", png(2, 1, false, 0));
  put("mixed/b/0.png", png(2, 1, true, 0));
  const Dataset m = read_image_folder(dir / "mixed");
  EXPECT_EQ(m.x.shape(), (Shape{2, 3, 1, 2}));
  // Grey repeats in every channel; colour is planar: 0 7 14 | 21 28 35 by pixel.
  const std::vector<int> want{0, 7, 0, 7, 0, 7, 0, 21, 7, 28, 14, 35};
  for (std::size_t i = 0; i < want.size(); ++i) EXPECT_EQ(m.x.int_at(static_cast<std::int64_t>(i)), want[i]);
  EXPECT_TRUE(m.part.empty());
}

TEST_F(Data, ImageRefusals) {
  const std::string good = png(8, 8, true, 0);
  for (std::size_t n = 0; n < good.size(); n += 3) refused([&] { read_image(put("t.png", good.substr(0, n))); });
  refused([&] { read_image(put("t.jpg", "\xff\xd8\xff\xe0 nothing")); });
  refused([&] { read_image(put("t.bmp", "BM")); });
  put("size/a/0.png", png(2, 2, false, 0));
  put("size/a/1.png", png(2, 3, false, 0));
  EXPECT_NE(refused([&] { read_image_folder(dir / "size"); }).find("1.png"), std::string::npos);
  put("stray/a/0.png", good);
  put("stray/readme.txt", "x");
  EXPECT_NE(refused([&] { read_image_folder(dir / "stray"); }).find("readme.txt"), std::string::npos);
  fs::create_directories(dir / "empty/a");
  refused([&] { read_image_folder(dir / "empty"); });
  Limits limits;
  limits.memory_bytes = 100;
  limits.file_bytes = 1 << 20;
  refused([&] { read_image(put("big.png", good), limits); });
}

TEST_F(Data, DamagedFilesNeverCrash) {
  const std::string files[] = {png(8, 8, true, 0), gzip(idx(0x08, {4, 2}, "abcdefgh"))};
  Rng rng(1, "damage");
  for (int i = 0; i < 1500; ++i) {
    std::string bad = files[i % 2];
    for (std::int64_t j = rng.range(1, 3); j > 0; --j) rng.pick(bad) = static_cast<char>(rng.range(0, 255));
    const auto path = put("damaged", bad);
    try {
      if (i % 2 == 0) read_image(path);
      else read_idx(path);
    } catch (const Error& e) {
      ASSERT_NE(e.code(), Exit::bug) << e.full();
    }
  }
}

// ---- splits ----

TEST(Split, CoversInProportionAndDependsOnSeedOnly) {
  Rng rng(1, "labels");
  Dataset d;
  d.classes = {"a", "b", "c"};
  d.x = Tensor(DType::u8, {101, 1});
  d.y = Tensor(DType::i64, {101});
  std::vector<std::int64_t> size(3);
  for (int i = 0; i < 101; ++i) ++size[static_cast<std::size_t>(d.y.data<std::int64_t>()[i] = rng.range(0, 2))];
  for (std::int64_t count : {0, 1, 17, 50, 100, 101}) {
    const Split s = split(d, count, 5);
    ASSERT_EQ(std::ssize(s.chosen), count);
    std::vector<std::int64_t> all = s.chosen, each(3);
    for (auto i : s.chosen) ++each[static_cast<std::size_t>(d.y.int_at(i))];
    for (std::size_t c = 0; c < 3; ++c) EXPECT_LT(std::abs(static_cast<double>(each[c]) - static_cast<double>(count * size[c]) / 101), 1);
    all.insert(all.end(), s.rest.begin(), s.rest.end());
    std::sort(all.begin(), all.end());
    for (std::int64_t i = 0; i < 101; ++i) ASSERT_EQ(all[static_cast<std::size_t>(i)], i);
    EXPECT_EQ(split(d, count, 5).chosen, s.chosen);
    if (count == 50) { EXPECT_NE(split(d, count, 6).chosen, s.chosen); }
  }
  EXPECT_EQ(split(d, 0.5, 5).chosen.size(), 51u);
  EXPECT_THROW(split(d, std::int64_t(102), 5), Error);
  EXPECT_THROW(split(d, 1.5, 5), Error);
}

// ---- named sets ----

TEST(Named, Digits) {
  const Dataset d = open("digits");
  EXPECT_EQ(d.x.shape(), (Shape{1797, 8, 8}));
  EXPECT_EQ(d.full_scale, 16);
  EXPECT_EQ(d.classes.size(), 10u);
  for (int i = 0; i < 10; ++i) EXPECT_EQ(d.y.int_at(i), i);  // the file begins 0 1 2 ... 9
  const Dataset train = select(d, Part::train), test = select(d, Part::test);
  EXPECT_EQ(train.size(), 1297);
  EXPECT_EQ(test.size(), 500);
  // The ink of the first sample, and the split that the NOTICE states.
  double ink = 0;
  for (int i = 0; i < 64; ++i) ink += d.x.at(i);
  EXPECT_EQ(ink, 294);
  const Split s = split(d, std::int64_t(500), 0);
  for (auto i : s.chosen) EXPECT_EQ(d.part[static_cast<std::size_t>(i)], Part::test);
  for (auto i : s.rest) EXPECT_EQ(d.part[static_cast<std::size_t>(i)], Part::train);
}

TEST(Named, Unknown) {
  try {
    open("digit");
    FAIL() << "not refused";
  } catch (const Error& e) {
    EXPECT_NE(e.fix().find("digits"), std::string::npos) << e.full();
  }
}

TEST(Named, Mnist) {
  if (!std::getenv("TANDEM_DATA")) ::setenv("TANDEM_DATA", TANDEM_SOURCE_DIR "/../shared/data", 0);
  std::error_code ec;
  if (!fs::is_directory(fs::path(std::getenv("TANDEM_DATA")) / "mnist", ec)) {
    if (std::getenv("CI")) FAIL() << "MNIST is missing: set TANDEM_DATA";
    GTEST_SKIP() << "MNIST is missing: set TANDEM_DATA to the folder that holds mnist/";
  }
  const Dataset d = open("mnist"), train = select(d, Part::train), test = select(d, Part::test);
  EXPECT_EQ(train.x.shape(), (Shape{60000, 28, 28}));
  EXPECT_EQ(test.size() % 5000, 0);
  const int first_train[] = {5, 0, 4, 1, 9, 2}, first_test[] = {7, 2, 1, 0, 4};
  for (int i = 0; i < 6; ++i) EXPECT_EQ(train.y.int_at(i), first_train[i]);
  for (int i = 0; i < 5; ++i) EXPECT_EQ(test.y.int_at(i), first_test[i]);
}

TEST(Named, SpeechCommands) {
  if (!std::getenv("TANDEM_DATA")) ::setenv("TANDEM_DATA", TANDEM_SOURCE_DIR "/../shared/data", 0);
  const fs::path folder = fs::path(std::getenv("TANDEM_DATA")) / "speech_commands_v2";
  std::error_code ec;
  if (!fs::is_directory(folder, ec)) {
    if (std::getenv("CI")) FAIL() << "Speech Commands are missing: set TANDEM_DATA";
    GTEST_SKIP() << "Speech Commands are missing: set TANDEM_DATA to the folder that holds speech_commands_v2/";
  }
  const Dataset d = open("speech_commands");
  EXPECT_EQ(d.x.shape(), (Shape{4255, 10, 49}));
  EXPECT_EQ(d.classes.size(), 12u);
  EXPECT_GT(select(d, Part::test).size(), 500);
  // A coefficient's course is a row: [clip, frame, coefficient] in the file.
  const Archive a = read_npz(folder / "features.npz");
  const Tensor stored = a.at("mfcc10").cast(DType::f32);
  for (const std::int64_t clip : {0, 17, 4254})
    for (const std::int64_t c : {0, 9})
      for (const std::int64_t t : {0, 48}) EXPECT_EQ(d.x.data<float>()[(clip * 10 + c) * 49 + t], stored.data<float>()[(clip * 49 + t) * 10 + c]);
}

}  // namespace
}  // namespace tandem::data
