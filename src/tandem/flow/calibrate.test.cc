#include "tandem/flow/calibrate.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>

#include "tandem/base/file.h"
#include "tandem/base/rng.h"
#include "tandem/flow/synthesis.h"
#include "tandem/tool/work.h"

namespace tandem {
namespace {
namespace fs = std::filesystem;
using plan::StageKind;

struct PrivateCache {
  tool::WorkFolder folder;
  std::optional<std::string> before;
  PrivateCache() {
    if (const char* v = ::getenv("TANDEM_CACHE")) before = v;
    ::setenv("TANDEM_CACHE", folder.path().c_str(), 1);
  }
  ~PrivateCache() {
    if (before) ::setenv("TANDEM_CACHE", before->c_str(), 1);
    else ::unsetenv("TANDEM_CACHE");
  }
  std::vector<fs::path> entries() const {
    std::vector<fs::path> r;
    for (const auto& e : fs::directory_iterator(folder / "synthesis")) r.push_back(e.path());
    std::sort(r.begin(), r.end());
    return r;
  }
};

// Counts that closed forms with known coefficients give are met again by the fitted ones.
TEST(Calibrate, FitFindsTheClosedFormBehindTheCounts) {
  plan::Calibration truth = plan::xcup_calibration();
  Rng r(5, "calibrate");
  for (auto& row : truth.lut4)
    for (double& c : row) c = r.chance(0.3) ? 0 : r.uniform() * 5;
  std::vector<flow::StageSample> samples;
  for (int i = 0; i < 400; ++i) {
    plan::StageShape s;
    s.kind = r.chance(0.5) ? StageKind::mvau : StageKind::replay;
    s.pe = r.range(1, 4), s.simd = r.range(1, 8);
    s.mh = s.pe * r.range(1, 30), s.mw = s.simd * r.range(1, 30);
    s.vectors = r.range(1, 50);
    s.lanes_in = s.simd, s.lanes_out = s.pe;
    s.bits_in = static_cast<int>(r.range(1, 8)), s.bits_out = static_cast<int>(r.range(4, 20)), s.weight_bits = static_cast<int>(r.range(2, 6));
    const plan::Cost c = plan::stage_def(s.kind).cost(s, truth);
    samples.push_back({s, c.lut4, c.bram});
  }
  const flow::CalibrationFit f = flow::fit(samples, plan::xcup_calibration());
  EXPECT_EQ(f.bram_differs, 0);
  for (const flow::KindFit& k : f.kinds) {
    if (k.kind == StageKind::mvau || k.kind == StageKind::replay) {
      EXPECT_GT(k.samples, 100);
      // Coordinate descent stops after a fixed number of turns; what is left is far below what yosys varies.
      EXPECT_LT(k.largest_error, 0.02) << plan::stage_def(k.kind).name;
    } else {
      EXPECT_EQ(k.samples, 0);
      EXPECT_EQ(k.lut, plan::xcup_calibration().lut4[static_cast<std::size_t>(k.kind)]);
    }
  }
}

// The rule of memories and multipliers against yosys, the cache, and a damaged entry of it.
TEST(Calibrate, StagesOfXcupAreSynthesisedOnce) {
  const PrivateCache cache;
  std::string tool;
  const auto samples = flow::sample_stages(plan::Family::xcup, 3, 0, 2, &tool);
  ASSERT_GT(samples.size(), 8u);
  const flow::CalibrationFit f = flow::fit(samples, plan::xcup_calibration());
  EXPECT_EQ(f.bram_differs, 0);
  const auto entries = cache.entries();
  ASSERT_GT(entries.size(), 4u);
  auto same = [&](const std::vector<flow::StageSample>& again) {
    ASSERT_EQ(again.size(), samples.size());
    for (std::size_t i = 0; i < samples.size(); ++i) {
      EXPECT_EQ(again[i].lut, samples[i].lut) << i;
      EXPECT_EQ(again[i].bram, samples[i].bram) << i;
    }
  };
  // An entry with a changed digit is not believed and written anew; the others are.
  const std::string good = read_file(entries[0]);
  std::string bad = good;
  const std::size_t at = bad.find("\"ff\": ") + 6;
  bad[at] = bad[at] == '9' ? '8' : static_cast<char>(bad[at] + 1);
  write_file(entries[0], bad);
  const auto time = fs::last_write_time(entries[1]);
  same(flow::sample_stages(plan::Family::xcup, 3, 0, 2));
  EXPECT_EQ(read_file(entries[0]), good);
  EXPECT_EQ(fs::last_write_time(entries[1]), time);
}

// Smallest number of blocks by trying every arrangement of equal blocks, whatever their order.
TEST(Calibrate, BlockRamsOfXcup) {
  Rng r(1, "brams");
  for (int i = 0; i < 2000; ++i) {
    const std::int64_t depth = r.range(1, 40000), width = r.range(1, 200);
    const std::int64_t n = plan::brams(plan::Family::xcup, depth, width, plan::Memory::writable);
    if (n == 0) {
      EXPECT_TRUE(depth <= 64 || depth * width <= 2048) << depth << "x" << width;
      continue;
    }
    EXPECT_GE(n * 18432, depth * width) << depth << "x" << width;
    const std::int64_t rom = plan::brams(plan::Family::xcup, depth, width, plan::Memory::constants);
    if (rom) EXPECT_GE(rom * 18432, depth * width);
    else EXPECT_LT(depth * width * 4, n * 18432);  // a block would be less than a quarter full
  }
  // Constants as yosys 0.23 lays them out: depth, width, blocks, banks.
  using plan::Family;
  const auto lays = [](Family f, std::int64_t depth, std::int64_t width, std::int64_t blocks, std::int64_t banks) {
    EXPECT_EQ(plan::brams(f, depth, width, plan::Memory::constants), blocks) << depth << "x" << width;
    EXPECT_EQ(plan::rom_banks(f, depth, width), banks) << depth << "x" << width;
  };
  lays(Family::xcup, 3584, 105, 21, 7), lays(Family::xcup, 8192, 24, 11, 4), lays(Family::xcup, 12000, 105, 70, 3), lays(Family::xcup, 4096, 35, 8, 1);
  lays(Family::xcup, 2600, 105, 18, 3), lays(Family::xcup, 9264, 20, 12, 5), lays(Family::xcup, 1500, 20, 2, 3);
  lays(Family::ice40, 700, 24, 5, 3), lays(Family::ice40, 1558, 24, 12, 1), lays(Family::ice40, 1582, 36, 16, 7), lays(Family::ice40, 2672, 48, 36, 3), lays(Family::ice40, 4118, 32, 36, 9);
  EXPECT_EQ(plan::brams(plan::Family::xcup, 512, 36, plan::Memory::writable), 1);
  EXPECT_EQ(plan::brams(plan::Family::xcup, 1024, 36, plan::Memory::writable), 2);
  EXPECT_EQ(plan::brams(plan::Family::xcup, 16384, 1, plan::Memory::writable), 1);
}

}  // namespace
}  // namespace tandem
