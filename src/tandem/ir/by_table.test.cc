#include "tandem/ir/by_table.h"

#include <gtest/gtest.h>

#include <cmath>

#include "tandem/base/rng.h"
#include "tandem/ir/exact.h"
#include "tandem/ir/op.h"

namespace tandem::ir {
namespace {
using I = std::int64_t;

struct Net {
  Graph g;
  ValueId number(float v) { return g.add_constant(g.unique_name("c"), Tensor::scalar(v)); }
  ValueId quant(ValueId x, float scale, float bits) {
    return g.add_node("Quant", {x, number(scale), number(0), number(bits)}, {{"signed", I{1}}, {"narrow", I{0}}, {"rounding_mode", std::string("ROUND")}}, "", "qonnx.custom_op.general");
  }
  ValueId vector(std::vector<float> v) { return g.add_constant(g.unique_name("v"), Tensor::of<float>({static_cast<I>(v.size())}, std::move(v))); }
};
Tensor some_input(const Shape& s, std::uint64_t seed, double spread) {
  Rng r(seed, "by_table");
  Tensor x(DType::f32, s);
  for (I i = 0; i < x.size(); ++i) x.set(i, static_cast<float>(r.normal() * spread));
  return x;
}

// Nothing is left to the host, and the results are those of the float operators up to the last place of the table's form.
TEST(ByTablePass, SoftmaxBehindAQuantiser) {
  Net n;
  const ValueId x = n.g.add_input("x", DType::f32, {Dim(3), Dim(10)}), flat = n.quant(x, 0.125f, 8);
  n.g.outputs = {n.g.add_node("Softmax", {flat}, {{"axis", I{1}}}, "probs")};
  infer_shapes(n.g);
  ByTable s;
  const Graph t = by_table(n.g, &s);
  EXPECT_EQ(s.rewritten, 1);
  EXPECT_TRUE(s.left.empty());
  const ExactProgram p = lower_exact(t, 64);
  EXPECT_TRUE(p.host_nodes.empty());
  const ExactProgram before = lower_exact(n.g, 64);
  double worst = 0;
  for (std::uint64_t k = 0; k < 20; ++k) {
    const Tensor in = some_input({3, 10}, k, 4), a = evaluate_carrier(p, {in})[0], b = evaluate_carrier(before, {in})[0];
    for (I i = 0; i < a.size(); ++i) worst = std::max(worst, std::abs(a.at(i) - std::min(b.at(i), 255.0 / 256)));
  }
  EXPECT_LE(worst, 0.502 / 256);
  EXPECT_GT(worst, 0.4 / 256);
}

TEST(ByTablePass, LayerNormalizationWithScaleAndBias) {
  Net n;
  const ValueId x = n.g.add_input("x", DType::f32, {Dim(1), Dim(4), Dim(12)}), q = n.quant(x, 0.0625f, 8);
  std::vector<float> scale, bias;
  for (int i = 0; i < 12; ++i) scale.push_back(1 + static_cast<float>(i) / 16), bias.push_back(static_cast<float>(i - 6) / 8);
  n.g.outputs = {n.g.add_node("LayerNormalization", {q, n.vector(scale), n.vector(bias)}, {{"axis", I{-1}}, {"epsilon", 0.001}}, "norm")};
  infer_shapes(n.g);
  ByTable s;
  const Graph t = by_table(n.g, &s);
  EXPECT_EQ(s.rewritten, 1);
  const ExactProgram p = lower_exact(t, 64);
  EXPECT_TRUE(p.host_nodes.empty());
  const ExactProgram before = lower_exact(n.g, 64);
  double worst = 0;
  for (std::uint64_t k = 0; k < 20; ++k) {
    const Tensor in = some_input({1, 4, 12}, k, 2), a = evaluate_carrier(p, {in})[0], b = evaluate_carrier(before, {in})[0];
    for (I i = 0; i < a.size(); ++i) {
      const double z = std::abs((b.at(i) - bias[static_cast<std::size_t>(i % 12)]) / scale[static_cast<std::size_t>(i % 12)]);
      const double bound = scale[static_cast<std::size_t>(i % 12)] * (z * (std::ldexp(1, -9) + std::ldexp(1, -15)) + std::ldexp(1, -11)) + 1e-5;
      EXPECT_LE(std::abs(a.at(i) - b.at(i)), bound);
      worst = std::max(worst, std::abs(a.at(i) - b.at(i)) / bound);
    }
  }
  EXPECT_GT(worst, 0.4);
}

TEST(ByTablePass, SaysWhatStays) {
  Net n;
  const ValueId x = n.g.add_input("x", DType::f32, {Dim(1), Dim(4)});
  const ValueId a = n.g.add_node("Softmax", {x}, {{"axis", I{1}}}, "early"), b = n.g.add_node("Softmax", {n.quant(x, 0.01f, 14)}, {{"axis", I{1}}}, "wide");
  n.g.outputs = {n.g.add_node("Add", {a, b})};
  infer_shapes(n.g);
  ByTable s;
  const Graph t = by_table(n.g, &s);
  EXPECT_EQ(s.rewritten, 0);
  ASSERT_EQ(s.left.size(), 2u);
  EXPECT_NE(s.left[0].find("early"), std::string::npos);
  EXPECT_NE(s.left[0].find("no quantiser"), std::string::npos);
  EXPECT_NE(s.left[1].find("14 bits"), std::string::npos);
  EXPECT_EQ(t.nodes.size(), n.g.nodes.size());
}

}  // namespace
}  // namespace tandem::ir
