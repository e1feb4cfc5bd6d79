// Drawn numbers: their statistics, their keys, their shapes.
#include <gtest/gtest.h>

#include <cmath>
#include <set>

#include "tandem/ir/arrays.h"
#include "tandem/ir/exact.h"
#include "tandem/ir/ops/kit.h"

namespace tandem::ir {
namespace {

using Attrs = std::map<std::string, Attribute>;
Tensor run(const char* op, const Attrs& attrs, const std::vector<Tensor>& in, const char* name = "draws") {
  Graph g;
  std::vector<ValueId> ids;
  for (const Tensor& t : in) ids.push_back(g.add_input(g.unique_name("x"), t.dtype(), dims_of(t.shape())));
  g.outputs = {g.add_node(op, ids, attrs, name)};
  verify(g);
  infer_shapes(g);
  return evaluate_float(g, in)[0];
}
struct Moments {
  double mean = 0, deviation = 0, least = INFINITY, most = -INFINITY;
};
Moments moments(const Tensor& t) {
  Moments m;
  const auto n = static_cast<double>(t.size());
  for (std::int64_t i = 0; i < t.size(); ++i) m.mean += t.at(i) / n, m.least = std::min(m.least, t.at(i)), m.most = std::max(m.most, t.at(i));
  for (std::int64_t i = 0; i < t.size(); ++i) m.deviation += std::pow(t.at(i) - m.mean, 2) / n;
  m.deviation = std::sqrt(m.deviation);
  return m;
}

// 40000 draws: the mean is within 5 standard errors.
TEST(Random, Statistics) {
  const Shape shape{40, 1000};
  const Tensor like(DType::f64, shape);
  for (const bool by_shape : {true, false}) {
    const auto draw = [&](const char* op, Attrs a) {
      if (by_shape) a["shape"] = shape;
      return by_shape ? run(op, a, {}) : run(fmt::format("{}Like", op).c_str(), a, {like});
    };
    const Tensor u = draw("RandomUniform", {{"low", -1.0}, {"high", 3.0}}), z = draw("RandomNormal", {{"mean", 2.0}, {"scale", 0.5}});
    EXPECT_EQ(u.shape(), shape); EXPECT_EQ(u.dtype(), by_shape ? DType::f32 : DType::f64);
    const Moments a = moments(u), b = moments(z);
    EXPECT_NEAR(a.mean, 1, 5 * 4 / std::sqrt(12.0) / 200); EXPECT_NEAR(a.deviation, 4 / std::sqrt(12.0), 0.02); EXPECT_GE(a.least, -1); EXPECT_LE(a.most, 3);
    EXPECT_NEAR(b.mean, 2, 5 * 0.5 / 200); EXPECT_NEAR(b.deviation, 0.5, 0.01);
    double inside = 0;
    for (std::int64_t i = 0; i < z.size(); ++i) inside += std::abs(z.at(i) - 2) < 0.5;
    EXPECT_NEAR(inside / 40000, 0.6827, 5 * 0.4655 / 200);
  }
  Tensor p(DType::f32, shape);
  for (std::int64_t i = 0; i < p.size(); ++i) p.set(i, 0.25);
  const Tensor y = run("Bernoulli", {{"dtype", std::int64_t{7}}}, {p});
  EXPECT_EQ(y.dtype(), DType::i64);
  EXPECT_NEAR(moments(y).mean, 0.25, 5 * 0.433 / 200); EXPECT_EQ(moments(y).least, 0); EXPECT_EQ(moments(y).most, 1);
}

TEST(Random, MultinomialFrequencies) {
  Tensor x(DType::f32, {2, 4});
  const double probability[] = {0.1, 0.2, 0.3, 0.4};
  for (int k = 0; k < 4; ++k) x.set(k, std::log(probability[k]) + 7), x.set(4 + k, k == 2 ? 0 : -INFINITY);
  const Tensor y = run("Multinomial", {{"sample_size", std::int64_t{20000}}}, {x});
  ASSERT_EQ(y.shape(), (Shape{2, 20000}));
  EXPECT_EQ(y.dtype(), DType::i32);
  double count[4] = {};
  for (std::int64_t i = 0; i < 20000; ++i) {
    ASSERT_LT(y.int_at(i), 4);
    count[y.int_at(i)] += 1.0 / 20000;
    ASSERT_EQ(y.int_at(20000 + i), 2);  // the only class of probability above 0
  }
  for (int k = 0; k < 4; ++k) EXPECT_NEAR(count[k], probability[k], 5 * std::sqrt(probability[k] * (1 - probability[k]) / 20000));
}

// Seed and name are the key; nothing else is.
TEST(Random, Keys) {
  const Attrs a{{"shape", Shape{50}}, {"seed", 3.0}}, b{{"shape", Shape{50}}, {"seed", 4.0}};
  EXPECT_TRUE(run("RandomNormal", a, {}).same(run("RandomNormal", a, {})));
  EXPECT_FALSE(run("RandomNormal", a, {}).same(run("RandomNormal", b, {})));
  EXPECT_FALSE(run("RandomNormal", a, {}).same(run("RandomNormal", a, {}, "others")));
  Attrs longer = a;
  longer["shape"] = Shape{60};
  for (std::int64_t i = 0; i < 50; ++i) EXPECT_EQ(run("RandomUniform", longer, {}).at(i), run("RandomUniform", a, {}).at(i));
}

TEST(Random, Refusals) {
  const auto expect = [](const char* op, const Attrs& a, const std::vector<Tensor>& in, std::string_view part) {
    try {
      run(op, a, in);
      ADD_FAILURE() << "accepted: " << part;
    } catch (const Error& e) {
      EXPECT_EQ(e.code(), Exit::bad_input);
      EXPECT_NE(e.full().find(part), std::string::npos) << e.full();
      EXPECT_NE(e.full().find("draws"), std::string::npos) << e.full();
    }
  };
  expect("RandomUniform", {{"shape", Shape{-1}}}, {}, "an extent of -1");
  expect("RandomUniform", {{"shape", Shape{2}}, {"dtype", std::int64_t{7}}}, {}, "it draws");
  expect("RandomUniform", {{"shape", Shape{2}}, {"dtype", std::int64_t{8}}}, {}, "type number 8");
  expect("RandomUniform", {}, {}, "'shape' is missing");
  expect("Bernoulli", {}, {Tensor::of<float>({1}, std::vector<float>{1.5f})}, "a probability of 1.5");
  expect("Multinomial", {{"sample_size", std::int64_t{0}}}, {Tensor(DType::f32, {1, 2})}, "sample_size is 0");
  expect("Multinomial", {}, {Tensor(DType::f32, {2})}, "rank 1");
  expect("Multinomial", {}, {Tensor(DType::f32, {1, 0})}, "no classes");
}

}  // namespace
}  // namespace tandem::ir
