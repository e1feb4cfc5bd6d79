// Estimates against synthesis: whole networks that no fit had seen. estimates.csv holds what yosys counted; the closed forms of
// today are judged by it. With TANDEM_FULL set every fifth network is synthesised again.
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
  double lut = 0, ff = 0, bram = 0, dsp = 0;
};
// Networks of chains, and those with forms of the matrix unit or moves. No fit uses these seeds.
struct Sort {
  plan::Family family;
  std::string_view name;
  std::uint64_t seed;
};
constexpr Sort kSorts[] = {{plan::Family::ice40, "ice40", 1},       {plan::Family::xcup, "xcup", 1}, {plan::Family::cells, "cells", 1},
                           {plan::Family::ice40, "ice40_forms", 2}, {plan::Family::xcup, "xcup_forms", 2}, {plan::Family::cells, "cells_forms", 2}};

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
    if (m.network >= kForms) l >> c >> m.dsp;
    EXPECT_FALSE(l.fail()) << line;
    r.push_back(m);
  }
  return r;
}

// Errors of LUTs and of flip-flops, sorted; measured divided by estimated too.
struct Errors {
  std::vector<double> lut, ff;
  std::int64_t inside = 0, ff_inside = 0, bram_differs = 0, dsp_differs = 0;  // within the range that is printed
  double median(const std::vector<double>& e) const { return e[e.size() / 2]; }
  double most(const std::vector<double>& e, double share) const { return e[static_cast<std::size_t>(share * static_cast<double>(e.size() - 1))]; }
};
// Only units whose rows share multipliers have DSPs here.
bool with_dsp(const plan::StageShape& s) { return s.kind == plan::StageKind::mvau_packed; }
Errors judge(const Sort& sort, const std::vector<Measured>& all) {
  const plan::Calibration& c = plan::calibration(sort.family);
  Errors r;
  for (const Measured& m : all) {
    double lut = 0, ff = 0, bram = 0, dsp = 0;
    for (const plan::StageShape& s : sample_shapes(sort.family, sort.seed, m.network)) {
      const plan::Cost k = plan::stage_def(s.kind).cost(s, c);
      lut += k.lut4, ff += k.ff, bram += k.bram;
      if (with_dsp(s)) lut -= k.dsp_lut4, ff -= k.dsp_ff, dsp += k.dsp;
    }
    r.lut.push_back(std::abs(lut - m.lut) / m.lut);
    r.ff.push_back(std::abs(ff - m.ff) / m.ff);
    r.inside += m.lut >= lut * c.design.low && m.lut <= lut * c.design.high;
    r.ff_inside += m.ff >= ff * c.design_ff.low && m.ff <= ff * c.design_ff.high;
    r.bram_differs += bram != m.bram;
    r.dsp_differs += dsp != m.dsp;
  }
  std::sort(r.lut.begin(), r.lut.end());
  std::sort(r.ff.begin(), r.ff.end());
  return r;
}

class Estimates : public testing::TestWithParam<Sort> {};
TEST_P(Estimates, WholeNetworksThatNoFitHadSeen) {
  const std::vector<Measured> all = measured(GetParam().name);
  ASSERT_GE(all.size(), 50u);
  const Errors e = judge(GetParam(), all);
  fmt::print("{}: {} networks, LUTs median {:.1f} %, 90 % within {:.1f} %; flip-flops {:.1f} %, {:.1f} %; {} and {} within the printed range; block RAMs differ in {}, DSPs in {}\n", GetParam().name, all.size(),
             100 * e.median(e.lut), 100 * e.most(e.lut, 0.9), 100 * e.median(e.ff), 100 * e.most(e.ff, 0.9), e.inside, e.ff_inside, e.bram_differs, e.dsp_differs);
  EXPECT_LE(e.median(e.lut), 0.10);
  EXPECT_LE(e.most(e.lut, 0.9), 0.25);
  EXPECT_LE(e.median(e.ff), 0.10);
  EXPECT_LE(e.most(e.ff, 0.9), 0.25);
  EXPECT_LE(e.bram_differs, 2);  // yosys drops columns of zero weights
  EXPECT_LE(e.dsp_differs, 2);   // and products with them
  EXPECT_GE(e.inside, static_cast<std::int64_t>(all.size()) * 85 / 100);
  EXPECT_GE(e.ff_inside, static_cast<std::int64_t>(all.size()) * 85 / 100);
}
INSTANTIATE_TEST_SUITE_P(Families, Estimates, testing::ValuesIn(kSorts), [](const auto& i) { return std::string(i.param.name); });

// The stored counts are those of today's Verilog, within what small changes of it may do.
TEST(EstimatesFull, CountsAreThoseOfTodaysVerilog) {
  if (!std::getenv("TANDEM_FULL")) GTEST_SKIP() << "long: set TANDEM_FULL";
  for (const Sort& sort : kSorts) {
    const std::vector<Measured> all = measured(sort.name);
    for (std::size_t i = 0; i < all.size(); i += 5) {  // each takes 10 to 30 s
      const Measured& m = all[i];
      double lut = 0, ff = 0, dsp = 0;
      for (const StageSample& s : sample_stages(sort.family, sort.seed, m.network, 1)) lut += s.lut, ff += s.ff, dsp += s.dsps;
      EXPECT_NEAR(lut, m.lut, 0.05 * m.lut) << sort.name << " " << m.network;
      EXPECT_NEAR(ff, m.ff, 0.05 * m.ff) << sort.name << " " << m.network;
      EXPECT_EQ(dsp, m.dsp) << sort.name << " " << m.network;
    }
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
