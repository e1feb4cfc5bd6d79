#include "tandem/tasks/task.h"

#include <gtest/gtest.h>

#include <cmath>

namespace tandem::tasks {
namespace {

data::Dataset four() {
  data::Dataset d;
  d.name = "four";
  d.x = Tensor::of<std::uint8_t>({4, 1}, std::vector<std::uint8_t>{0, 51, 255, 102});
  d.y = Tensor::of<std::int64_t>({4}, std::vector<std::int64_t>{0, 2, 2, 1});
  d.classes = {"a", "b", "c"};
  d.full_scale = 255;
  return d;
}

// Wilson's interval is the set of p with |k/n - p| <= z sqrt(p (1 - p) / n): its ends solve that equation.
TEST(Wilson, EndsSolveTheEquation) {
  for (int n : {1, 7, 500, 100000})
    for (int k : {0, 1, n / 3, n - 1, n}) {
      const double z = 1.959963984540054, p = double(k) / n;
      const Interval w = wilson(k, n, z);
      EXPECT_LE(w.low, p);
      EXPECT_GE(w.high, p);
      // 1e-12: the ends carry a few rounding errors of 1e-16, which the equation magnifies by less than n.
      for (double e : {w.low, w.high}) EXPECT_NEAR(std::fabs(p - e), z * std::sqrt(e * (1 - e) / n), 1e-12 * n);
    }
  EXPECT_EQ(wilson(0, 10).low, 0);
  EXPECT_EQ(wilson(10, 10).high, 1);
  EXPECT_EQ(wilson(0, 0).high, 1);
  // k = 480 of n = 500, by bisection of that equation.
  EXPECT_NEAR(wilson(480, 500).low, 0.939026, 1e-6);
  EXPECT_NEAR(wilson(480, 500).high, 0.973959, 1e-6);
}

TEST(Classification, PrepareScales) {
  const Tensor x = find_task("classification").prepare(four());
  EXPECT_TRUE(x.same(Tensor::of<float>({4, 1}, std::vector<float>{0, 51 / 255.0f, 1, 102 / 255.0f})));
}

TEST(Classification, Score) {
  const Task& t = find_task("classification");
  const data::Dataset d = four();
  // Answers 0 (tie 0 and 1: the lower), 2, 0, 1.
  const Tensor out = Tensor::of<float>({4, 3}, std::vector<float>{1, 1, 0, -3, -2, -1, 5, 4, 3, 0, 9, 9});
  const Score s = t.score(out, d, {.data = "four", .split = "test", .seed = 3});
  EXPECT_EQ(s.n, 4);
  EXPECT_EQ(s.correct, 3);
  EXPECT_EQ(s.metric.value, 75);
  EXPECT_EQ(s.metric.unit, "%");
  EXPECT_EQ(s.metric.fidelity, Fidelity::executed);
  EXPECT_EQ(s.metric.source, "four test, n = 4, split seed 3");
  EXPECT_DOUBLE_EQ(*s.metric.low, 100 * wilson(3, 4).low);
  EXPECT_EQ(s.baseline->value, 50);
  EXPECT_TRUE(s.confusion.same(Tensor::of<std::int64_t>({3, 3}, std::vector<std::int64_t>{1, 0, 0, 0, 1, 0, 1, 0, 1})));
  // Integer scores and class indices are judged alike.
  const Tensor codes = Tensor::of<std::int32_t>({4, 3}, std::vector<std::int32_t>{1, 1, 0, -3, -2, -1, 5, 4, 3, 0, 9, 9});
  EXPECT_TRUE(t.score(codes, d, {}).confusion.same(s.confusion));
  EXPECT_TRUE(t.score(Tensor::of<std::int64_t>({4}, std::vector<std::int64_t>{0, 2, 0, 1}), d, {}).confusion.same(s.confusion));
}

TEST(Classification, Refusals) {
  const Task& t = find_task("classification");
  const data::Dataset d = four();
  EXPECT_THROW(t.score(Tensor(DType::f32, {3, 3}), d, {}), Error);
  EXPECT_THROW(t.score(Tensor(DType::f32, {4, 2}), d, {}), Error);
  EXPECT_THROW(t.score(Tensor(DType::f32, {4}), d, {}), Error);
  EXPECT_THROW(t.score(Tensor::of<std::int64_t>({4}, std::vector<std::int64_t>{0, 1, 2, 3}), d, {}), Error);
  Tensor nan(DType::f32, {4, 3});
  nan.set(5, std::nan(""));
  EXPECT_THROW(t.score(nan, d, {}), Error);
  data::Dataset bad = d;
  bad.classes.pop_back();  // a label out of range
  EXPECT_THROW(t.prepare(bad), Error);
  bad = d;
  bad.classes.clear();
  EXPECT_THROW(t.prepare(bad), Error);
  EXPECT_THROW(find_task("clasification"), Error);
  for (const Task* each : list_tasks()) EXPECT_EQ(&find_task(each->name()), each);
}

}  // namespace
}  // namespace tandem::tasks
