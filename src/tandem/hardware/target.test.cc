#include "tandem/hardware/target.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <functional>

#include "tandem/base/file.h"
#include "tandem/base/rng.h"

namespace tandem::hardware {
namespace {
namespace fs = std::filesystem;

const fs::path kFolder = fs::path(TANDEM_SOURCE_DIR) / "targets";

struct InOurFolder {
  InOurFolder() { ::setenv("TANDEM_TARGETS", kFolder.c_str(), 1); }
  ~InOurFolder() { ::unsetenv("TANDEM_TARGETS"); }
};

Error error_of(const std::function<void()>& f) {
  try {
    f();
  } catch (const Error& e) {
    return e;
  }
  return Error(Exit::done, "no error");
}

TEST(Target, BudgetsOfTheParts) {
  const InOurFolder env;
  const Target up = find_target("up5k"), hx = find_target("ice40hx8k-ct256");
  EXPECT_EQ(up.name, "ice40up5k-sg48");
  EXPECT_EQ(up.available("lut4"), 5280);
  EXPECT_EQ(up.available("bram"), 30);
  EXPECT_EQ(up.available("spram"), 4);
  EXPECT_EQ(up.available("dsp"), 8);
  EXPECT_EQ(up.available("pins"), 39);
  EXPECT_TRUE(up.dsp);
  EXPECT_EQ(up.store("spram")->bits, 32 * 1024 * 8);
  EXPECT_EQ(hx.available("lut4"), 7680);
  EXPECT_EQ(hx.available("bram"), 32);
  EXPECT_EQ(hx.available("dsp"), 0);
  EXPECT_FALSE(hx.dsp);
  EXPECT_EQ(hx.available("nothing"), 0);
  EXPECT_EQ(find_target("hx8k").name, hx.name);
  EXPECT_EQ(find_target((kFolder / "ice40up5k-sg48.yaml").string()).name, up.name);
}

TEST(Target, BudgetsOfUltraScalePlus) {
  const InOurFolder env;
  const Target z7 = find_target("xcup"), z3 = find_target("xczu3eg");
  EXPECT_EQ(z7.name, "xczu7ev");
  EXPECT_EQ(z7.available("lut6"), 230400);
  EXPECT_EQ(z7.available("ff"), 460800);
  EXPECT_EQ(z7.available("dsp"), 1728);
  EXPECT_EQ(z7.available("bram"), 2 * 312);
  EXPECT_EQ(z7.available("uram"), 96);
  EXPECT_EQ(z3.available("lut6"), 70560);
  EXPECT_EQ(z3.available("ff"), 141120);
  EXPECT_EQ(z3.available("dsp"), 360);
  EXPECT_EQ(z3.available("bram"), 2 * 216);
  EXPECT_EQ(z7.family, "xcup");
  EXPECT_NE(z7.clock_source.find("assumption"), std::string::npos);
}

// The contract: every registered target passes the same checks, and says where its numbers come from.
TEST(Target, EveryTargetKeepsTheContract) {
  const InOurFolder env;
  const auto all = all_targets();
  EXPECT_GE(all.size(), 2u);
  for (const auto& t : all) {
    check(t);
    EXPECT_FALSE(t.summary.empty()) << t.name;
    EXPECT_EQ(fs::path(t.file).stem(), t.name);
    for (const auto& [name, r] : t.budget) EXPECT_FALSE(r.source.empty()) << t.name << " " << name;
    for (const auto& s : t.stores) EXPECT_FALSE(s.source.empty()) << t.name << " " << s.name;
    // Every part of the graph is reachable from a compute unit and back.
    for (const auto& s : t.stores) {
      bool in = false, out = false;
      for (const auto& l : t.links) in = in || l.to == s.name, out = out || l.from == s.name;
      EXPECT_TRUE(in && out) << t.name << " " << s.name;
    }
  }
}

TEST(Target, ErrorsNameTheNearest) {
  const InOurFolder env;
  EXPECT_NE(error_of([] { find_target("up5"); }).fix().find("'up5k'"), std::string::npos);
  EXPECT_NE(error_of([] { find_target("ice40up5k"); }).fix().find("'ice40up5k-sg48'"), std::string::npos);
  const std::string good = read_file(kFolder / "ice40up5k-sg48.yaml");
  const auto with = [&](const std::string& from, const std::string& to) {
    std::string s = good;
    const auto at = s.find(from);
    EXPECT_NE(at, std::string::npos) << from;
    s.replace(at, from.size(), to);
    return error_of([&] { read_target(Config::parse(s, "t.yaml")); });
  };
  EXPECT_EQ(with("default_mhz", "default_mh").fix(), "did you mean 'default_mhz'?");
  EXPECT_EQ(with("default_mhz", "default_mh").where(), "t.yaml:9");
  EXPECT_EQ(with("policy: scratchpad", "policy: scratch").fix(), "did you mean 'scratchpad'?");
  EXPECT_NE(with("from: bram", "from: bramm").fix().find("'bram'"), std::string::npos);
  EXPECT_NE(with("words: 256", "words: 257").message().find("257 words"), std::string::npos);
  EXPECT_NE(with("bram: {count: 30, source", "bram: {count: 31, source").message().find("the budget has 31 bram"), std::string::npos);
  EXPECT_NE(with("lattice: [8]", "lattice: [-8]").code(), Exit::done);
  EXPECT_NE(with("ports: {read: 1, write: 1}", "ports: {}").message().find("no port"), std::string::npos);
  EXPECT_NE(with("target 1", "target 2").fix().find("newer"), std::string::npos);
  EXPECT_NE(with("name: ice40up5k-sg48", "name: 'a b; c'").code(), Exit::done);
}

TEST(Target, ANameUsedTwiceIsRefused) {
  std::string t = (fs::temp_directory_path() / "tandem-targets-XXXXXX").string();
  ASSERT_NE(::mkdtemp(t.data()), nullptr);
  const std::string good = read_file(kFolder / "ice40up5k-sg48.yaml");
  write_file(fs::path(t) / "a.yaml", good);
  write_file(fs::path(t) / "b.yaml", good);
  ::setenv("TANDEM_TARGETS", t.c_str(), 1);
  EXPECT_NE(error_of([] { all_targets(); }).message().find("used twice"), std::string::npos);
  ::setenv("TANDEM_TARGETS", (t + "/none").c_str(), 1);
  EXPECT_EQ(error_of([] { all_targets(); }).code(), Exit::bad_input);
  ::unsetenv("TANDEM_TARGETS");
  fs::remove_all(t);
}

// Mutated descriptions are refused or legal, never anything else.
TEST(Target, RandomMutations) {
  const std::string good = read_file(kFolder / "ice40up5k-sg48.yaml");
  Rng r(1, "targets");
  int legal = 0, refused = 0;
  for (int i = 0; i < 500; ++i) {
    std::string s = good;
    for (int k = 0; k < 2; ++k) {
      const auto p = static_cast<std::size_t>(r.range(0, static_cast<std::int64_t>(s.size()) - 1));
      s[p] = "09-:,{}[] \nax"[r.range(0, 12)];
    }
    try {
      check(read_target(Config::parse(s, "t.yaml")));
      ++legal;
    } catch (const Error& e) {
      EXPECT_TRUE(e.code() == Exit::bad_input || e.code() == Exit::limit) << e.full();
      ++refused;
    }
  }
  EXPECT_GT(legal, 10);
  EXPECT_GT(refused, 100);
}

}  // namespace
}  // namespace tandem::hardware
