// Estimated clocks against placed ones: clocks.csv holds what nextpnr found. The closed forms of today are judged by the networks that
// no fit had seen. With TANDEM_FULL set some of them are placed again.
#include "tandem/flow/clocks.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>

#include "tandem/base/file.h"
#include "tandem/flow/build.h"
#include "tandem/flow/calibrate.h"
#include "tandem/ir/op.h"

namespace tandem::flow {
namespace {

const std::filesystem::path kRoot = TANDEM_SOURCE_DIR;

std::vector<ClockSample> measured(std::string_view device, bool fitted) {
  std::vector<ClockSample> r;
  for (ClockSample& s : read_samples(read_file(kRoot / "src" / "tandem" / "flow" / "clocks.csv")))
    if (s.device == device && s.fitted == fitted) r.push_back(std::move(s));
  return r;
}

class Clocks : public testing::TestWithParam<std::size_t> {};
TEST_P(Clocks, NetworksThatNoFitHadSeen) {
  const plan::ClockPart& part = plan::clock_parts()[GetParam()];
  const std::vector<ClockSample> all = measured(part.device, false);
  ASSERT_GE(all.size(), 20u);
  const std::vector<double> mhz = estimated(all, part);
  std::vector<double> errors;
  std::int64_t inside = 0;
  for (std::size_t i = 0; i < all.size(); ++i) {
    EXPECT_EQ(all[i].fmax.size(), 3u) << all[i].network;
    EXPECT_LT(all[i].network % kForms, kClockFit);
    errors.push_back(std::abs(mhz[i] - all[i].median()) / all[i].median());
    inside += all[i].median() >= mhz[i] * part.spread.low && all[i].median() <= mhz[i] * part.spread.high;
  }
  std::sort(errors.begin(), errors.end());
  const double median = errors[errors.size() / 2], most = errors[static_cast<std::size_t>(0.9 * static_cast<double>(errors.size() - 1))];
  fmt::print("{}: {} networks, median error {:.1f} %, 90 % within {:.1f} %, largest {:.1f} %; {} within the printed range\n", part.device, all.size(), 100 * median, 100 * most,
             100 * errors.back(), inside);
  EXPECT_LE(median, 0.15);
  EXPECT_LE(most, 0.35);
  EXPECT_GE(inside, static_cast<std::int64_t>(all.size()) * 75 / 100);
}
// The rows of plan/clock.cc are about what the fit finds: another fit is hardly better.
TEST_P(Clocks, RowsAreFitted) {
  const plan::ClockPart& part = plan::clock_parts()[GetParam()];
  const std::vector<ClockSample> all = measured(part.device, true);
  ASSERT_GE(all.size(), 20u);
  const auto mean_error = [&](const plan::ClockPart& p) {
    const std::vector<double> mhz = estimated(all, p);
    double sum = 0;
    for (std::size_t i = 0; i < all.size(); ++i) sum += std::abs(std::log(mhz[i] / all[i].median()));
    return sum / static_cast<double>(all.size());
  };
  EXPECT_LE(mean_error(part), mean_error(fit_clock(all, part)) + 0.01);
}
INSTANTIATE_TEST_SUITE_P(Parts, Clocks, testing::Values(0, 1), [](const auto& i) { return std::string(plan::clock_parts()[i.param].device); });

TEST(Clock, LongerPathsAreSlower) {
  plan::StageShape s;
  s.kind = plan::StageKind::mvau_constant;
  s.bits_out = 8;
  const plan::ClockPart& part = plan::clock_parts()[0];
  const auto mhz = [&](int bits, int stages) {
    s.bits_out = bits;
    std::vector<plan::StageShape> all(static_cast<std::size_t>(stages), s);
    for (int i = 0; i < stages; ++i) all[static_cast<std::size_t>(i)].in[0] = i - 1;
    return plan::clock_of(plan::paths(all, false), part).mhz;
  };
  EXPECT_GT(mhz(8, 1), mhz(60, 1));
  EXPECT_GT(mhz(8, 1), mhz(8, 10));  // one ready through all of them
  EXPECT_FALSE(plan::clock_estimate(std::vector{s}, false, "xczu3eg").has_value());
}

TEST(Clock, StageOfACell) {
  EXPECT_EQ(stage_of_cell("u_net.u05.acc_1_SB_DFFE_Q_1_DFFLC"), 5);
  EXPECT_EQ(stage_of_cell("u_net.u123.x"), 123);
  EXPECT_EQ(stage_of_cell("u_fifo.held_SB_DFFESR_Q_D"), -1);
  EXPECT_EQ(stage_of_cell("u_net.e04_0_tdata"), -1);
  EXPECT_EQ(stage_of_cell("busu05.x"), -1);
  EXPECT_EQ(stage_of_cell("u05"), -1);
}

TEST(Clock, LinesAreReadBack) {
  const std::string line = "judge,hx8k,7,512,-1,90.25,91.50,99.00";
  const std::vector<ClockSample> s = read_samples("# a comment\n" + line + "\n");
  ASSERT_EQ(s.size(), 1u);
  EXPECT_EQ(to_line(s[0]), line);
  EXPECT_EQ(s[0].median(), 91.5);
  EXPECT_THROW(read_samples("judged,hx8k,7,512,-1,90.25\n"), Error);
  EXPECT_THROW(read_samples("fit,hx8k,7,512,-1\n"), Error);
}

// Printed for iCE40 with its range, and for nothing else.
TEST(Clock, OnlyIce40IsEstimated) {
  using namespace tandem::ir;
  Graph g;
  auto c = [&](Shape s, std::vector<float> v) { return g.add_constant(g.unique_name("c"), Tensor::of<float>(s, v)); };
  auto quant = [&](ValueId v, float bits) { return g.add_node("Quant", {v, c({}, {1}), c({}, {0}), c({}, {bits})}, {{"signed", std::int64_t(1)}}, "", "qonnx.custom_op.general"); };
  const ValueId x = g.add_input("x", DType::f32, {Dim(1), Dim(4)});
  g.outputs = {quant(g.add_node("MatMul", {quant(x, 4), quant(c({4, 2}, {1, -2, 3, 1, 2, -1, 0, 3}), 3)}), 6)};
  infer_shapes(g);
  for (const auto& [file, estimated] : {std::pair{"ice40hx8k-ct256.yaml", true}, {"ice40up5k-sg48.yaml", true}, {"xczu3eg.yaml", false}, {"asic45.yaml", false}}) {
    BuildParams p;
    p.target = hardware::find_target((kRoot / "targets" / file).string());
    p.dry_run = true;
    const BuildResult r = build(g, p);
    const auto m = std::find_if(r.metrics.begin(), r.metrics.end(), [](const NamedMetric& x) { return x.name == "Fmax"; });
    ASSERT_EQ(m != r.metrics.end(), estimated) << file;
    if (!estimated) continue;
    EXPECT_EQ(m->metric.fidelity, Fidelity::estimated);
    ASSERT_TRUE(m->metric.low && m->metric.high);
    EXPECT_LT(*m->metric.low, m->metric.value);
    EXPECT_GT(*m->metric.high, m->metric.value);
    EXPECT_NE(summary_text(r).find("Fmax"), std::string::npos);
    EXPECT_NE(to_json(r).find("\"Fmax\""), std::string::npos);
  }
}

// The stored clocks are those of today's Verilog, within what small changes of it may do.
TEST(RtlClocksFull, ClocksAreThoseOfTodaysVerilog) {
  if (!std::getenv("TANDEM_FULL")) GTEST_SKIP() << "long: set TANDEM_FULL";
  for (const auto& [device, file] : {std::pair{"hx8k", "ice40hx8k-ct256.yaml"}, {"up5k", "ice40up5k-sg48.yaml"}}) {
    const std::vector<ClockSample> all = measured(device, false);
    for (std::size_t i = 0; i < all.size(); i += 5) {
      const auto s = place_sample(hardware::find_target((kRoot / "targets" / file).string()), all[i].network, 3, 0, 1e9);
      ASSERT_TRUE(s) << all[i].network;
      EXPECT_NEAR(s->median(), all[i].median(), 0.15 * all[i].median()) << device << " " << all[i].network;
    }
  }
}

}  // namespace
}  // namespace tandem::flow
