#include "tandem/ir/differentiate.h"

#include <gtest/gtest.h>

#include <cmath>

#include "tandem/ir/exact.h"
#include "tandem/ir/op.h"
#include "tandem/ir/random_differentiable.h"

namespace tandem::ir {
namespace {

// <output, seed> of a graph whose wrt values are replaced.
double loss_of(const Graph& g, const std::vector<Tensor>& inputs, const Tensor& seed) {
  const Tensor y = evaluate_float(g, inputs).at(0);
  double s = 0;
  for (std::int64_t i = 0; i < y.size(); ++i) s += y.at(i) * seed.at(i);
  return s;
}

Tensor pattern(const Shape& s) {
  Tensor t(DType::f64, s);
  for (std::int64_t i = 0; i < t.size(); ++i) t.set(i, 1.0 + 0.37 * static_cast<double>(i % 7) - 0.9 * static_cast<double>(i % 3));
  return t;
}

TEST(Differentiate, EqualsFiniteDifferencesOnRandomGraphs) {
  int compared = 0;
  for (std::uint64_t seed = 1; seed <= 60; ++seed) {
    DifferentiableGraph d = random_differentiable(seed, false);
    const Tensor y = evaluate_float(d.graph, d.inputs).at(0);
    const Tensor s = pattern(y.shape());
    Graph with_seed = d.graph;
    const ValueId sv = with_seed.add_constant("seed", s);
    const Joint j = differentiate(with_seed, with_seed.outputs[0], d.wrt, sv);
    const std::vector<Tensor> out = evaluate_float(j.graph, d.inputs);
    ASSERT_EQ(out.size(), 1 + d.wrt.size());
    for (std::size_t k = 0; k < d.wrt.size(); ++k) {
      const Tensor& grad = out[k + 1];
      const bool is_input = k == 0;
      const Tensor x = is_input ? d.inputs[0] : *d.graph.constant(d.wrt[k]);
      ASSERT_EQ(grad.shape(), x.shape()) << "seed " << seed;
      // BatchNormalization's factor scale / sqrt(var + eps) is rounded to f32 by definition: in these two
      // it is a staircase of relative height 2^-24, seen by a difference quotient as 2^-24 / h.
      bool staircase = false;
      for (const Node& n : d.graph.nodes)
        staircase = staircase || (n.op == "BatchNormalization" && (n.inputs[1] == d.wrt[k] || n.inputs[4] == d.wrt[k]));
      const double tolerance = staircase ? 3e-4 : 1e-6;
      for (std::int64_t e = 0; e < x.size(); e += 1 + x.size() / 5) {
        auto at = [&](double h) {
          Tensor moved = x;
          moved.set(e, x.at(e) + h);
          Graph g = d.graph;
          std::vector<Tensor> in = d.inputs;
          if (is_input) in[0] = moved;
          else g.initialisers[d.wrt[k]] = moved;
          return loss_of(g, in, s);
        };
        // Fourth-order central differences: error about h^4 + 2^-53 / h of the values' size. A kink (ReLU,
        // a maximum) within 2h spoils one step size; a wrong adjoint spoils all three.
        double numeric = 0, error = INFINITY;
        for (double h : {1e-3, 1e-4, 1e-5}) {
          const double d4 = (8 * (at(h) - at(-h)) - (at(2 * h) - at(-2 * h))) / (12 * h);
          if (std::abs(d4 - grad.at(e)) < error) {
            error = std::abs(d4 - grad.at(e));
            numeric = d4;
          }
        }
        EXPECT_LE(error, tolerance * std::max({1.0, std::abs(numeric), std::abs(loss_of(d.graph, d.inputs, s))}))
            << "seed " << seed << " value " << d.graph.values[static_cast<std::size_t>(d.wrt[k])].name << " element " << e << ": "
            << grad.at(e) << " against " << numeric;
        ++compared;
      }
    }
  }
  EXPECT_GT(compared, 500);
}

TEST(Differentiate, NamesTheThreeProductsOfAContraction) {
  Graph g;
  const ValueId x = g.add_input("x", DType::f32, {2, 1, 4, 4});
  const ValueId w = g.add_constant("w", Tensor::of<float>({1, 1, 3, 3}, std::vector<float>{1, 2, 3, 4, 5, 6, 7, 8, 9}));
  const ValueId y = g.add_node("Conv", {x, w}, {{"kernel_shape", std::vector<std::int64_t>{3, 3}}}, "conv");
  g.outputs = {y};
  infer_shapes(g);
  const Joint j = differentiate(g, y, {x, w});
  ASSERT_EQ(j.products.size(), 1u);
  EXPECT_EQ(j.products[0].forward, "conv/fwd");
  EXPECT_EQ(j.products[0].to_data, "conv/dX");
  EXPECT_EQ(j.products[0].to_weight, "conv/dW");
  // All three multiply the same pairs: as many steps each.
  std::vector<std::int64_t> macs;
  for (const Node& n : j.graph.nodes)
    if (n.name.starts_with("conv/")) macs.push_back(op_of(j.graph, n).einsum(j.graph, n).iterations());
  EXPECT_EQ(macs, (std::vector<std::int64_t>{2 * 4 * 9, 2 * 4 * 9, 2 * 4 * 9}));
  // Without the data's gradient there is no product for it.
  EXPECT_EQ(differentiate(g, y, {w}).products[0].to_data, "");
}

TEST(Differentiate, RefusesByName) {
  Graph g;
  const ValueId x = g.add_input("x", DType::f32, {2, 3});
  const ValueId y = g.add_node("ArgMax", {x}, {{"axis", std::int64_t{1}}}, "decide");
  g.outputs = {y};
  infer_shapes(g);
  try {
    differentiate(g, y, {x});
    FAIL();
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), Exit::bad_input);
    EXPECT_NE(e.full().find("decide"), std::string::npos) << e.full();
  }
}

}  // namespace
}  // namespace tandem::ir
