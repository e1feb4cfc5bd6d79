#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <csignal>
#include <filesystem>
#include <functional>
#include <map>
#include <set>

#include "tandem/base/error.h"
#include "tandem/base/file.h"
#include "tandem/base/hash.h"
#include "tandem/base/limits.h"
#include "tandem/base/metric.h"
#include "tandem/base/rng.h"

namespace tandem {
namespace {
namespace fs = std::filesystem;

struct TempFolder {
  fs::path path;
  TempFolder() {
    std::string t = (fs::temp_directory_path() / "tandem-test-XXXXXX").string();
    path = ::mkdtemp(t.data());
  }
  ~TempFolder() {
    std::error_code ec;
    fs::remove_all(path, ec);
  }
  std::size_t entries() const { return static_cast<std::size_t>(std::distance(fs::directory_iterator(path), fs::directory_iterator())); }
};

Exit code_of(const std::function<void()>& f) {
  try {
    f();
  } catch (const Error& e) {
    return e.code();
  }
  return Exit::done;
}

// Salmon et al., SC'11, kat_vectors of Random123: philox 4x32, 10 rounds.
TEST(Rng, PublishedVectors) {
  using A4 = std::array<std::uint32_t, 4>;
  EXPECT_EQ(philox4x32_10({0, 0, 0, 0}, {0, 0}), (A4{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  EXPECT_EQ(philox4x32_10({~0u, ~0u, ~0u, ~0u}, {~0u, ~0u}), (A4{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
  EXPECT_EQ(philox4x32_10({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0}),
            (A4{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}));
}

TEST(Rng, PureFunctionOfSeedStreamIndex) {
  Rng a(7, "weights"), b(7, "weights"), c(7, "data"), d(8, "weights");
  const auto block5 = a.block(5);
  std::vector<std::uint32_t> first;
  for (int i = 0; i < 40; ++i) first.push_back(a.u32());
  for (int i = 0; i < 40; ++i) EXPECT_EQ(first[static_cast<std::size_t>(i)], b.u32());
  for (std::size_t i = 0; i < 4; ++i) EXPECT_EQ(first[20 + i], block5[i]);
  EXPECT_NE(c.block(0), b.block(0));
  EXPECT_NE(d.block(0), b.block(0));
  std::set<std::uint32_t> starts;
  for (std::uint64_t i = 0; i < 200; ++i) starts.insert(Rng(7).fork(i).block(0)[0]);
  for (int i = 0; i < 200; ++i) starts.insert(Rng(7).fork(std::to_string(i)).block(0)[0]);
  EXPECT_EQ(starts.size(), 400u);
}

TEST(Rng, RangeIsUnbiasedAndInclusive) {
  Rng r(1, "range");
  std::map<std::int64_t, int> n;
  for (int i = 0; i < 60000; ++i) ++n[r.range(-2, 3)];
  ASSERT_EQ(n.size(), 6u);
  // Deviation of a count is sqrt(60000/6 * 5/6) = 91; 6 deviations for a fixed seed.
  for (const auto& [k, v] : n) EXPECT_NEAR(v, 10000, 6 * 91) << k;
  EXPECT_EQ(r.range(5, 5), 5);
  for (int i = 0; i < 100; ++i) {
    const auto v = r.range(INT64_MAX - 1, INT64_MAX);
    EXPECT_TRUE(v == INT64_MAX || v == INT64_MAX - 1);
  }
  bool negative = false, positive = false;
  for (int i = 0; i < 100; ++i) (r.range(INT64_MIN, INT64_MAX) < 0 ? negative : positive) = true;
  EXPECT_TRUE(negative && positive);
  EXPECT_EQ(code_of([&] { r.range(1, 0); }), Exit::bug);
}

TEST(Rng, MomentsOfUniformAndNormal) {
  Rng r(2, "moments");
  double u = 0, n1 = 0, n2 = 0, n4 = 0;
  const int k = 200000;
  for (int i = 0; i < k; ++i) {
    const double x = r.uniform();
    ASSERT_TRUE(x >= 0 && x < 1);
    u += x;
    const double z = r.normal();
    ASSERT_TRUE(std::isfinite(z));
    n1 += z, n2 += z * z, n4 += z * z * z * z;
  }
  // Six standard errors of each mean: deviations sqrt(1/12), 1, sqrt(2), sqrt(96).
  const double e = 6 / std::sqrt(double(k));
  EXPECT_NEAR(u / k, 0.5, e * std::sqrt(1.0 / 12));
  EXPECT_NEAR(n1 / k, 0, e);
  EXPECT_NEAR(n2 / k, 1, e * std::sqrt(2.0));
  EXPECT_NEAR(n4 / k, 3, e * std::sqrt(96.0));
}

TEST(Rng, ShuffleIsAPermutation) {
  std::vector<int> v(50), w;
  for (int i = 0; i < 50; ++i) v[static_cast<std::size_t>(i)] = i;
  w = v;
  Rng r(3);
  r.shuffle(w);
  EXPECT_NE(v, w);
  std::sort(w.begin(), w.end());
  EXPECT_EQ(v, w);
}

TEST(Error, PrintableStopsWhatSteersATerminal) {
  EXPECT_EQ(printable("conv1"), "conv1");
  EXPECT_EQ(printable("größe 層"), "größe 層");
  EXPECT_EQ(printable("\x1b]0;title\x07"), "\\x1b]0;title\\x07");
  EXPECT_EQ(printable("a\nb\tc\rd"), "a\\nb\\tc\\rd");
  EXPECT_EQ(printable("\xe2\x80\xae"
                      "evil"),
            "\\u{202e}evil");
  EXPECT_EQ(printable(std::string_view("\0", 1)), "\\x00");
  EXPECT_EQ(printable("\xc0\xaf"), "\\xc0\\xaf");          // overlong
  EXPECT_EQ(printable("\xed\xa0\x80"), "\\xed\\xa0\\x80");  // surrogate
  EXPECT_EQ(printable("\xf4\x90\x80\x80"), "\\xf4\\x90\\x80\\x80");  // above U+10FFFF
  EXPECT_EQ(printable("x\xe2\x82"), "x\\xe2\\x82");         // truncated
  EXPECT_EQ(printable("\xc2\x9b"), "\\x9b");                // C1 control sequence introducer
  // Random bytes: nothing that steers survives, and cleaning is idempotent.
  Rng r(4, "printable");
  for (int i = 0; i < 2000; ++i) {
    std::string s;
    for (int k = 0; k < 20; ++k) s += static_cast<char>(r.range(0, 255));
    const std::string p = printable(s);
    for (unsigned char c : p) EXPECT_TRUE(c >= 0x20 && c != 0x7F);
    EXPECT_EQ(printable(p), p);
  }
}

TEST(Error, FullNamesEveryPart) {
  const auto e = bad_input("no key '{}'", "x\x1b").at("a.yaml:3").expected("one of p, q").fix("remove it");
  EXPECT_EQ(e.code(), Exit::bad_input);
  EXPECT_EQ(e.full(), "no key 'x\\x1b'\n  where:    a.yaml:3\n  expected: one of p, q\n  fix:      remove it");
  try {
    TANDEM_CHECK(1 == 2, "{} differ", 3);
    FAIL();
  } catch (const Error& b) {
    EXPECT_EQ(b.code(), Exit::bug);
    EXPECT_NE(b.full().find("3 differ"), std::string::npos);
    EXPECT_NE(b.where().find("base.test.cc:"), std::string::npos);
  }
}

TEST(Limits, ProductChecksOverflowAndCap) {
  EXPECT_EQ(Limits::product(1u << 20, 1u << 20, 1ull << 40, "x"), 1ull << 40);
  EXPECT_EQ(Limits::product(0, ~0ull, 5, "x"), 0u);
  EXPECT_EQ(code_of([] { Limits::product(1ull << 40, 1ull << 40, ~0ull, "x"); }), Exit::limit);
  EXPECT_EQ(code_of([] { Limits::product(3, 4, 11, "x"); }), Exit::limit);
}

TEST(Hash, KnownAnswersAndSpread) {
  static_assert(fnv1a("") == 0xcbf29ce484222325ull);
  static_assert(fnv1a("a") == 0xaf63dc4c8601ec8cull);       // published FNV-1a vectors
  static_assert(fnv1a("foobar") == 0x85944171f73967e8ull);
  EXPECT_EQ(fnv1a("bar", fnv1a("foo")), fnv1a("foobar"));
  EXPECT_EQ(hex16(1).size(), 16u);
  std::set<std::string> s;
  for (std::uint64_t i = 0; i < 1000; ++i) s.insert(hex16(i));
  EXPECT_EQ(s.size(), 1000u);  // the final mix is a bijection
}

TEST(Metric, FidelitiesHaveDistinctNames) {
  std::set<std::string_view> s;
  for (int i = 0; i <= static_cast<int>(Fidelity::published); ++i) s.insert(to_string(static_cast<Fidelity>(i)));
  EXPECT_EQ(s.size(), 9u);
  EXPECT_EQ(s.count("unknown"), 0u);
}

TEST(File, RoundTripAndHash) {
  TempFolder t;
  const std::string bytes = std::string("a\0b\r\n", 5) + std::string(100000, 'x');
  FileWriter w(t.path / "f");
  w.write(bytes.substr(0, 7));
  w.write(bytes.substr(7));
  EXPECT_FALSE(fs::exists(t.path / "f"));  // not visible before commit
  EXPECT_EQ(w.commit(), hex16(fnv1a(bytes)));
  EXPECT_EQ(read_file(t.path / "f"), bytes);
  EXPECT_EQ(t.entries(), 1u);
  write_file(t.path / "f", "short");
  EXPECT_EQ(read_file(t.path / "f"), "short");
}

TEST(File, NothingIsLeftWithoutCommit) {
  TempFolder t;
  write_file(t.path / "f", "old");
  {
    FileWriter w(t.path / "f");
    w.write("new");
  }
  EXPECT_EQ(read_file(t.path / "f"), "old");
  EXPECT_EQ(t.entries(), 1u);
}

TEST(File, RefusesWhatItShould) {
  TempFolder t;
  write_file(t.path / "f", "old");
  EXPECT_EQ(code_of([&] { write_file(t.path / "f", "new", false); }), Exit::bad_input);
  {  // the name appears between the check and the commit
    FileWriter w(t.path / "late", false);
    w.write("mine");
    write_file(t.path / "late", "theirs");
    EXPECT_EQ(code_of([&] { w.commit(); }), Exit::bad_input);
    EXPECT_EQ(read_file(t.path / "late"), "theirs");
  }
  fs::create_symlink("f", t.path / "link");
  EXPECT_EQ(code_of([&] { write_file(t.path / "link", "new"); }), Exit::bad_input);
  EXPECT_EQ(read_file(t.path / "f"), "old");
  fs::create_directory(t.path / "d");
  EXPECT_EQ(code_of([&] { write_file(t.path / "d", "new"); }), Exit::bad_input);
  EXPECT_EQ(code_of([&] { write_file(t.path / "a\nb", "new"); }), Exit::bad_input);
  EXPECT_EQ(code_of([&] { write_file(t.path / "none" / "f", "new"); }), Exit::bad_input);
  EXPECT_EQ(code_of([&] { write_file(t.path / std::string(300, 'n'), "new"); }), Exit::bad_input);
  EXPECT_EQ(code_of([&] { write_file("/proc/x", "new"); }), Exit::bad_input);
  EXPECT_EQ(t.entries(), 4u);  // f, late, link, d
}

TEST(File, ReadErrors) {
  TempFolder t;
  EXPECT_EQ(code_of([&] { read_file(t.path / "none"); }), Exit::bad_input);
  EXPECT_EQ(code_of([&] { read_file(t.path); }), Exit::bad_input);
  ASSERT_EQ(::mkfifo((t.path / "fifo").c_str(), 0600), 0);
  EXPECT_EQ(code_of([&] { read_file(t.path / "fifo"); }), Exit::bad_input);  // and does not hang
  write_file(t.path / "f", "12345");
  Limits l;
  l.file_bytes = 4;
  EXPECT_EQ(code_of([&] { read_file(t.path / "f", l); }), Exit::bad_input);
  l.file_bytes = 5;
  EXPECT_EQ(read_file(t.path / "f", l), "12345");
  EXPECT_FALSE(read_file("/proc/self/status").empty());  // states no size
  l.file_bytes = 1;
  EXPECT_EQ(code_of([&] { read_file("/proc/self/status", l); }), Exit::bad_input);
}

// The limit on file size stands for a full disk: same code path, and it needs no privilege.
TEST(File, FullDiskIsALimitAndLeavesNothing) {
  TempFolder t;
  const auto child = ::fork();
  if (child == 0) {
    std::signal(SIGXFSZ, SIG_IGN);
    rlimit r{4096, 4096};
    ::setrlimit(RLIMIT_FSIZE, &r);
    int code = 0;
    try {
      write_file(t.path / "f", std::string(10000, 'x'));
    } catch (const Error& e) {
      code = e.code() == Exit::limit && e.expected().find("10000 bytes") != std::string::npos ? 42 : 1;
    }
    ::_exit(code);
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  EXPECT_TRUE(WIFEXITED(status));
  EXPECT_EQ(WEXITSTATUS(status), 42);
  EXPECT_EQ(t.entries(), 0u);
}

TEST(File, WritableFolder) {
  TempFolder t;
  require_writable_folder(t.path / "a" / "b");
  EXPECT_TRUE(fs::is_directory(t.path / "a" / "b"));
  EXPECT_TRUE(fs::is_empty(t.path / "a" / "b"));
  write_file(t.path / "f", "x");
  EXPECT_EQ(code_of([&] { require_writable_folder(t.path / "f"); }), Exit::bad_input);
  EXPECT_EQ(code_of([&] { require_writable_folder(t.path / "f" / "g"); }), Exit::bad_input);
  EXPECT_EQ(code_of([] { require_writable_folder("/proc/tandem"); }), Exit::bad_input);
  require_space(t.path / "not" / "yet", 1, "a byte");
  EXPECT_EQ(code_of([&] { require_space(t.path / "not" / "yet", 1e30, "the universe"); }), Exit::limit);
}

}  // namespace
}  // namespace tandem
