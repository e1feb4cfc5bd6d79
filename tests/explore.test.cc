// `tandem explore` as users run it: the same study whatever the number of workers and however often it is killed.
#include <gtest/gtest.h>

#include <charconv>

#include "tandem/base/rng.h"
#include "tandem_run.h"

namespace tandem::shell {
namespace {

std::string whole(const fs::path& folder) { return read_file(folder / "front.json") + read_file(folder / "trials.csv"); }

TEST(Explore, EqualForAnyNumberOfWorkers) {
  Examples f;
  for (int jobs : {1, 2, 4}) {
    const Result r = f.run(fmt::format("tandem explore examples/explore-folding.yaml --out j{0} --jobs {0}", jobs));
    ASSERT_EQ(r.code, 0) << r.err;
  }
  EXPECT_EQ(whole(f.path / "j1"), whole(f.path / "j2"));
  EXPECT_EQ(whole(f.path / "j1"), whole(f.path / "j4"));
  EXPECT_NE(whole(f.path / "j1").find("\"s00_conv1.pe\""), std::string::npos);
}

// TANDEM_KILLS sets how many; each at a random moment of the study, which is resumed until it ends.
TEST(Explore, KilledAndResumedEqualsUndisturbed) {
  Examples f;
  const std::string study = "examples/explore-folding.yaml";
  ASSERT_EQ(f.run("tandem explore " + study + " --out calm").code, 0);
  const std::string calm = whole(f.path / "calm");
  const char* wanted = std::getenv("TANDEM_KILLS");
  std::int64_t kills = 12;
  if (wanted) std::from_chars(wanted, wanted + std::string_view(wanted).size(), kills);
  Rng r(7, "kills");
  std::int64_t killed = 0, studies = 0;
  for (std::int64_t tries = 0; killed < kills; ++tries) {
    ASSERT_LT(tries, 20 * kills + 100) << "the study ends before it can be killed";
    const std::string folder = fmt::format("storm{}", studies);
    // Killed before there is a store: begun anew, as a user would.
    const bool begun = fs::exists(f.path / folder / "study.db");
    const Result x = f.run(fmt::format("timeout -s KILL {:.3f} tandem explore {} --out {} {}", 0.005 + 0.12 * r.uniform(), study, folder, begun ? "--resume" : "--force"));
    if (x.code == 137 || x.code == 128 + 9) {
      ++killed;
      continue;
    }
    ASSERT_EQ(x.code, 0) << x.err;
    EXPECT_EQ(whole(f.path / folder), calm);
    ++studies;
  }
  const std::string folder = fmt::format("storm{}", studies);
  if (fs::exists(f.path / folder / "study.db")) {
    const Result x = f.run(fmt::format("tandem explore {} --out {} --resume", study, folder));
    ASSERT_EQ(x.code, 0) << x.err;
    EXPECT_EQ(whole(f.path / folder), calm);
  }
}

// The demo stopped in its trainings goes on; what was finished begins again; both end as one that nobody touched.
TEST(Explore, AStoppedDemoGoesOn) {
  if (!all_tools_here("learn verilator")) {
    if (std::getenv("CI")) FAIL() << "verilator and libtandem_learn are needed";
    GTEST_SKIP() << "verilator and libtandem_learn are needed";
  }
  Examples f;
  const std::string demo = "tandem demo --scale 0.025 --no-place --out ";
  const Result calm = f.run(demo + "calm");
  ASSERT_EQ(calm.code, 0) << calm.err;
  EXPECT_HAS(calm.out, "8 designs explored");
  EXPECT_TRUE(fs::exists(f.path / "calm/report.html"));
  ASSERT_EQ(f.run("timeout --preserve-status -s INT 2 " + demo + "storm").code, 130);
  EXPECT_FALSE(fs::exists(f.path / "storm/report.html"));
  const Result again = f.run(demo + "storm");
  ASSERT_EQ(again.code, 0) << again.err;
  EXPECT_HAS(again.err, "going on with the study");
  EXPECT_EQ(whole(f.path / "storm"), whole(f.path / "calm"));
}

// A training that takes too long is recorded as that, and the others stand; one that has no memory says so.
TEST(Explore, TrainingsKeepTheirLimits) {
  if (!all_tools_here("learn")) {
    ASSERT_EQ(std::getenv("CI"), nullptr) << "libtandem_learn.so is missing, and CI is set";
    GTEST_SKIP() << "built without libtorch";
  }
  Examples f;
  const std::string study = R"(name: limits
train:
  data: digits
  validation: 0.15
  model: {input: [1, 8, 8], layers: [{conv: {channels: 2, kernel: 3}}, relu, {dense: {features: 10}}]}
  quantisation: {input: {bits: 4, signed: false, scale: 0.0625}, weights: {bits: 3}, activations: {bits: 3}}
  train: {batch: $batch, optimiser: {name: adam, rate: 0.01}}
space: {batch: [1, 512]}
hardware: {target: up5k}
objectives: {accuracy: maximise}
searcher: {name: random, trials: 2}
epochs: {search: 200}
limits: )";
  write_file(f.path / "slow.yaml", study + "{seconds: 5}\n");
  const Result slow = f.run("tandem explore slow.yaml --out slow");
  EXPECT_EQ(slow.code, 0) << slow.err;
  const std::string trials = read_file(f.path / "slow/trials.csv");
  EXPECT_HAS(trials, "training: stopped after 5 s");
  EXPECT_HAS(trials, ",512,");
  EXPECT_HAS(slow.out, "1 feasible");
  write_file(f.path / "small.yaml", study + "{memory: 100M}\n");
  const Result small = f.run("tandem explore small.yaml --out small");
  EXPECT_EQ(small.code, 1) << small.err;
  EXPECT_HAS(small.err, "memory");
}

// Another family: its own closed forms and unit, and a design of the front that is verified takes the place of its estimate.
TEST(Explore, UltraScalePartsAreExploredToo) {
  Examples f;
  std::string study = read_file(f.path / "examples/explore-folding.yaml");
  for (const auto& [from, to] : {std::pair<std::string, std::string>{"up5k\n", "xcup\n"}, {"clock: 12\n", "clock: 200\n"}, {"lut4: minimise", "lut: minimise"}, {"lut4: \"<=", "lut: \"<="}}) {
    ASSERT_NE(study.find(from), std::string::npos) << from;
    study.replace(study.find(from), from.size(), to);
  }
  const bool verify = all_tools_here("verilator");
  write_file(f.path / "examples/x.yaml", study + (verify ? "front: {build: verify, most: 1}\n" : ""));
  const Result r = f.run("tandem explore examples/x.yaml --out x --json");
  ASSERT_EQ(r.code, 0) << r.err;
  const Config c = Config::parse(r.out, "front", {});
  bool built = false;
  for (const Config& t : c.at("front").items()) {
    EXPECT_NE(t.at("metrics").at("lut").required<std::string>("source").find("synth_xilinx"), std::string::npos);
    EXPECT_FALSE(t.at("metrics").has("lut4"));
    if (const auto m = t.at("metrics").find("mismatches")) {
      built = true;
      EXPECT_EQ(m->required<double>("value"), 0);
      EXPECT_EQ(t.at("metrics").at("cycles").required<std::string>("fidelity"), "rtl-simulated");
    }
  }
  EXPECT_EQ(built, verify);
  study.replace(study.find("lut: minimise"), 4, "lut4:");
  write_file(f.path / "examples/y.yaml", study);
  const Result wrong = f.run("tandem explore examples/y.yaml --out y");
  EXPECT_EQ(wrong.code, 2);
  EXPECT_HAS(wrong.err, "xczu7ev has no LUT4");
  EXPECT_HAS(wrong.err, "say lut");
}

TEST(Explore, TheReportShowsEveryTrial) {
  Examples f;
  ASSERT_EQ(f.run("tandem explore examples/explore-folding.yaml --out found").code, 0);
  ASSERT_EQ(f.run("tandem report found").code, 0);
  const std::string page = read_file(f.path / "found" / "report.html");
  EXPECT_HAS(page, "Content-Security-Policy");
  EXPECT_HAS(page, "s03_dense.simd");
  EXPECT_HAS(page, "<svg");
  EXPECT_EQ(f.run("tandem report found").code, 2);  // it exists
  EXPECT_EQ(f.run("head -c 3000 found/study.db > cut.db && mv cut.db found/study.db && tandem report found --force").code, 2);
}

TEST(Explore, AnImpossibleWishNamesWhatConflicts) {
  Examples f;
  ASSERT_EQ(f.run("sed 's/lut4: \"<= 4400\"/lut4: \"<= 10\", cycles: \"<= 100000\"/' examples/explore-folding.yaml > examples/no.yaml").code, 0);
  const Result r = f.run("tandem explore examples/no.yaml --out none");
  EXPECT_EQ(r.code, 1);
  EXPECT_HAS(r.out + r.err, "lut4 <= 10");
  EXPECT_EQ((r.out + r.err).find("cycles <= 100000"), std::string::npos) << r.out << r.err;
}

}  // namespace
}  // namespace tandem::shell
