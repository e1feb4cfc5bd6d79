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

// What is written is read back: every kind of index, guard and cascade.
TEST(einsum, parsed) {
  const std::map<std::string, std::int64_t> extents{{"n", 1}, {"o", 4}, {"p", 5}, {"q", 5}, {"c", 3}, {"r", 3}, {"s", 3}, {"i", 2}, {"b", 6}, {"e", 8}, {"t", 7}, {"h", 2}, {"k", 2}, {"x", 9}};
  for (const char* text : {
           "Y[n,o,p,q] += X[n,c,2*p+r-1,2*q+s-1] * W[o,c,r,s]",
           "Y[n,o,p,q] = B[o]\nY[n,o,p,q] += X[n,c,2*p+r-1,2*q+s-1] * W[o,c,r,s]",
           "U[p] = {(2*p+1)/3}\nH[p,i] = hat(U[p], {i+floor(U[p])})\nY[p] += X[clamp(i+floor(U[p]))] * H[p,i]",
           "Y[p] = X[clamp(floor((2*p-1)/3))]",
           "S[0,h] = 0.5\nfor t: G[t,h] += W[h,k] * S[t,k]\nfor t: S[t+1,h] = tanh(G[t,h])",
           "Y[b,o] += G[b,e] * W[e,o,i] * X[b,i] where S[b,e] (2 of e)",
           "Y[floor(I[p]),q] = U[p,q] where {p+1} and {-floor(L[q])+4}",
           "Y argmax= copy(X[p], {-p+3})",
       }) {
    const Einsum e = parse_einsum(text, extents);
    std::string want = text;
    if (const auto at = want.find("copy("); at != std::string::npos) want.erase(at, 5), want.pop_back();  // a copy is written without its name
    EXPECT_EQ(e.text(), want);
  }
  EXPECT_EQ(parse_einsum("Y[n,o,p,q] += X[n,c,2*p+r-1,2*q+s-1] * W[o,c,r,s]", extents).text(), conv().text());
  const Einsum guarded = parse_einsum("Y[b,o] += G[b,e] * W[e,o,i] * X[b,i] where S[b,e] (2 of e)", extents);
  EXPECT_EQ(guarded.macs(), 6 * 4 * 2 * 2);
  const Einsum cascade = parse_einsum("S[0,h] = 0\nfor t: G[t,h] += W[h,k] * S[t,k]\nfor t: G[t,h] += V[h,x] * X[t,x]\nfor t: S[t+1,h] = tanh(G[t,h])", extents);
  EXPECT_EQ(cascade.macs(), 7 * 2 * 2 + 7 * 2 * 9);
  EXPECT_EQ(cascade.iterations(), 7 * 2);
  EXPECT_EQ(parse_einsum("Y[p] += X[p,i] * X[p,i]\nZ[p] = Y[p] * Y[p]", extents).macs(), 10);  // the second sums nothing
}

}  // namespace
}  // namespace tandem::ir
