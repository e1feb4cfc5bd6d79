#include "tandem/flow/selftest.h"

#include <gtest/gtest.h>

#include "tandem/base/error.h"

namespace tandem::flow {
namespace {

TEST(Selftest, GraphsOfEveryOperator) {
  SelftestParams p;
  p.graphs = 400;
  p.operators = "all";
  p.out = ::testing::TempDir();
  const SelftestStats s = selftest(p);
  EXPECT_EQ(s.graphs, 400);
  for (const SelftestMismatch& m : s.mismatches) ADD_FAILURE() << m.engine << " seed " << m.seed << ": " << m.what << " (" << m.file << ")";
  EXPECT_GE(s.operators.size(), 150u);
  EXPECT_GT(s.engines.at("exec").values, 10'000);
}

TEST(Selftest, RefusesEnginesThatCannotRunThem) {
  SelftestParams p;
  p.operators = "all";
  p.engines = {"ref", "rtl"};
  EXPECT_THROW(selftest(p), Error);
  p.operators = "some";
  EXPECT_THROW(selftest(p), Error);
}

}  // namespace
}  // namespace tandem::flow
