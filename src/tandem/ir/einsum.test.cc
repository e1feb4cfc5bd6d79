#include "tandem/ir/einsum.h"

#include <gtest/gtest.h>

#include "tandem/base/error.h"

namespace tandem::ir {
namespace {

Einsum conv() {
  Einsum e;
  e.ranks = {{"n", 1, false}, {"o", 4, false}, {"p", 5, false}, {"q", 5, false}, {"c", 3, true}, {"r", 3, true}, {"s", 3, true}};
  e.output = {"Y", {{{{0, 1}}}, {{{1, 1}}}, {{{2, 1}}}, {{{3, 1}}}}};
  e.inputs = {{"X", {{{{0, 1}}}, {{{4, 1}}}, {{{2, 2}, {5, 1}}, -1}, {{{3, 2}, {6, 1}}, -1}}},
              {"W", {{{{1, 1}}}, {{{4, 1}}}, {{{5, 1}}}, {{{6, 1}}}}}};
  return e;
}

TEST(einsum, text) {
  EXPECT_EQ(conv().text(), "Y[n,o,p,q] += X[n,c,2*p+r-1,2*q+s-1] * W[o,c,r,s]");
  Einsum e = conv();
  e.map = "copy";
  e.reduce = "max";
  e.inputs.pop_back();
  EXPECT_EQ(e.text(), "Y[n,o,p,q] max= X[n,c,2*p+r-1,2*q+s-1]");
  e = Einsum{{{"i", 7, false}}, {{"X", {{{{0, -1}}, 6}}}}, {"Y", {{{{0, 1}}}}}, "relu", "none"};
  EXPECT_EQ(e.text(), "Y[i] = relu(X[-i+6])");
}

TEST(einsum, iterations) {
  EXPECT_EQ(conv().iterations(), 1 * 4 * 5 * 5 * 3 * 3 * 3);
  Einsum e;
  e.ranks = {{"a", std::int64_t(1) << 32, false}, {"b", std::int64_t(1) << 31, true}};
  EXPECT_THROW(e.iterations(), Error);
  e.ranks[1].extent = (std::int64_t(1) << 31) - 1;
  EXPECT_EQ(e.iterations(), (std::int64_t(1) << 32) * ((std::int64_t(1) << 31) - 1));
  e.ranks.push_back({"c", 0, true});  // empty whatever the order of the ranks
  EXPECT_EQ(e.iterations(), 0);
}

}  // namespace
}  // namespace tandem::ir
