// Estimates against synthesis: whole networks that no fit had seen. estimates.csv holds what yosys counted; the closed forms of
// today are judged by it. With TANDEM_FULL set the networks are synthesised again.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <map>
#include <sstream>

#include "tandem/base/file.h"
#include "tandem/base/rng.h"
#include "tandem/flow/calibrate.h"
#include "tandem/plan/constants.h"

namespace tandem::flow {
namespace {

struct Measured {
  std::int64_t network = 0;
  double lut = 0, ff = 0, bram = 0;
};
constexpr std::uint64_t kSeed = 1;

std::vector<Measured> measured(std::string_view family) {
  std::istringstream in(read_file(std::filesystem::path(TANDEM_SOURCE_DIR) / "src" / "tandem" / "flow" / "estimates.csv"));
  std::vector<Measured> r;
  for (std::string line; std::getline(in, line);) {
    std::istringstream l(line);
    std::string name;
    Measured m;
    char c = 0;
    if (!std::getline(l, name, ',') || name != family) continue;
    l >> m.network >> c >> m.lut >> c >> m.ff >> c >> m.bram;
    EXPECT_FALSE(l.fail()) << line;
    r.push_back(m);
  }
  return r;
}

// Errors of LUTs and of flip-flops, sorted; measured divided by estimated too.
struct Errors {
  std::vector<double> lut, ff;
  std::int64_t inside = 0, bram_differs = 0;  // within the range that is printed
  double median(const std::vector<double>& e) const { return e[e.size() / 2]; }
  double most(const std::vector<double>& e, double share) const { return e[static_cast<std::size_t>(share * static_cast<double>(e.size() - 1))]; }
};
Errors judge(plan::Family f, const std::vector<Measured>& all) {
  const plan::Calibration& c = plan::calibration(f);
  Errors r;
  for (const Measured& m : all) {
    double lut = 0, ff = 0, bram = 0;
    for (const plan::StageShape& s : sample_shapes(f, kSeed, m.network)) {
      const plan::Cost k = plan::stage_def(s.kind).cost(s, c);
      lut += k.lut4, ff += k.ff, bram += k.bram;
    }
    r.lut.push_back(std::abs(lut - m.lut) / m.lut);
    r.ff.push_back(std::abs(ff - m.ff) / m.ff);
    r.inside += m.lut >= lut * c.design.low && m.lut <= lut * c.design.high;
    r.bram_differs += bram != m.bram;
  }
  std::sort(r.lut.begin(), r.lut.end());
  std::sort(r.ff.begin(), r.ff.end());
  return r;
}

class Estimates : public testing::TestWithParam<plan::Family> {};
TEST_P(Estimates, WholeNetworksThatNoFitHadSeen) {
  const plan::Family f = GetParam();
  const char* names[] = {"ice40", "xcup", "cells"};
  const std::vector<Measured> all = measured(names[static_cast<int>(f)]);
  ASSERT_GE(all.size(), 50u);
  const Errors e = judge(f, all);
  fmt::print("{}: {} networks, LUTs median {:.1f} %, 90 % within {:.1f} %; flip-flops {:.1f} %, {:.1f} %; {} within the printed range; block RAMs differ in {}\n", names[static_cast<int>(f)], all.size(),
             100 * e.median(e.lut), 100 * e.most(e.lut, 0.9), 100 * e.median(e.ff), 100 * e.most(e.ff, 0.9), e.inside, e.bram_differs);
  EXPECT_LE(e.median(e.lut), 0.10);
  EXPECT_LE(e.most(e.lut, 0.9), 0.25);
  EXPECT_LE(e.median(e.ff), 0.10);
  EXPECT_LE(e.most(e.ff, 0.9), 0.25);
  EXPECT_LE(e.bram_differs, 2);  // yosys drops columns of zero weights
  EXPECT_GE(e.inside, static_cast<std::int64_t>(all.size()) * 85 / 100);
}
INSTANTIATE_TEST_SUITE_P(Families, Estimates, testing::Values(plan::Family::ice40, plan::Family::xcup, plan::Family::cells),
                         [](const auto& i) { return std::string(i.param == plan::Family::ice40 ? "ice40" : i.param == plan::Family::xcup ? "xcup" : "cells"); });

// The stored counts are those of today's Verilog, within what small changes of it may do.
TEST(EstimatesFull, CountsAreThoseOfTodaysVerilog) {
  if (!std::getenv("TANDEM_FULL")) GTEST_SKIP() << "long: set TANDEM_FULL";
  for (const auto& [f, name] : {std::pair{plan::Family::ice40, "ice40"}, {plan::Family::xcup, "xcup"}, {plan::Family::cells, "cells"}})
    for (const Measured& m : measured(name)) {
      double lut = 0, ff = 0;
      for (const StageSample& s : sample_stages(f, kSeed, m.network, 1)) lut += s.lut, ff += s.ff;
      EXPECT_NEAR(lut, m.lut, 0.05 * m.lut) << name << " " << m.network;
      EXPECT_NEAR(ff, m.ff, 0.05 * m.ff) << name << " " << m.network;
    }
}

// A table's LUTs counted by hand.
TEST(Constants, TablesInLogic) {
  using Columns = std::vector<std::vector<bool>>;
  EXPECT_EQ(plan::table_logic({}).nodes, 0);
  const plan::TableLogic zero = plan::table_logic(Columns{{false, false, false, false}});
  EXPECT_EQ(zero.leaves4 + zero.nodes + zero.columns, 0);
  // Twice the same column and once its complement: one function.
  const plan::TableLogic same = plan::table_logic(Columns{{false, true, true, false}, {false, true, true, false}, {true, false, false, true}});
  EXPECT_EQ(same.leaves4, 1);
  EXPECT_EQ(same.columns, 1);
  EXPECT_EQ(same.nodes, 2);  // of the exclusive or, its two inner functions being each other's complement
  // Random content repeats nowhere: depth / 16 leaves and one mux less, for each column.
  Rng r(1, "tables");
  Columns c(8, std::vector<bool>(256));
  for (auto& x : c)
    for (std::size_t i = 0; i < x.size(); ++i) x[i] = r.chance(0.5);
  const plan::TableLogic t = plan::table_logic(c);
  EXPECT_NEAR(t.leaves4, 8 * 16, 4);
  EXPECT_EQ(t.muxes4, 8 * 15);
  EXPECT_EQ(t.leaves6, 8 * 4);
  EXPECT_EQ(t.columns, 8);
}

}  // namespace
}  // namespace tandem::flow
