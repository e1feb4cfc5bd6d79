// Softmax and normalisation by table, and the largest k: what they compute, and that all evaluators agree.
#include <gtest/gtest.h>

#include <cmath>

#include "tandem/base/rng.h"
#include "tandem/exec/exec.h"
#include "tandem/ir/exact.h"
#include "tandem/ir/op.h"
#include "tandem/ir/ops/by_table.h"

namespace tandem::ir {
namespace {
using I = std::int64_t;

// Of a float input, a quantiser and the operator.
Graph graph_of(Rng& r, const Shape& shape, const std::string& op, I axis, float scale, const std::vector<std::int32_t>& table, std::map<std::string, Attribute> attrs) {
  Graph g;
  Dims d;
  for (I n : shape) d.emplace_back(n);
  const ValueId x = g.add_input("x", DType::f32, d);
  auto scalar = [&](float v) { return g.add_constant(g.unique_name("c"), Tensor::scalar(v)); };
  const I zero = r.range(0, 1) ? r.range(-5, 5) : 0;
  const ValueId q = g.add_node("Quant", {x, scalar(scale), scalar(static_cast<float>(zero)), scalar(static_cast<float>(r.range(2, 8)))},
                               {{"signed", I{r.chance(0.5)}}, {"narrow", I{0}}, {"rounding_mode", std::string("ROUND")}}, "", "qonnx.custom_op.general");
  attrs["axis"] = axis;
  attrs["x_scale"] = static_cast<double>(scale);
  ValueId y = g.add_node(op, {q, g.add_constant("table", Tensor::of<std::int32_t>({static_cast<I>(table.size())}, table))}, attrs, "", "tandem");
  if (r.chance(0.5))
    y = g.add_node("Quant", {y, scalar(static_cast<float>(r.range(1, 9)) / 128), scalar(0), scalar(6)}, {{"signed", I{1}}, {"narrow", I{0}}, {"rounding_mode", std::string("ROUND")}}, "", "qonnx.custom_op.general");
  g.outputs = {y};
  infer_shapes(g);
  return g;
}
Tensor some_input(Rng& r, const Shape& shape, float scale) {
  Tensor x(DType::f32, shape);
  for (I i = 0; i < x.size(); ++i) x.set(i, static_cast<float>(r.normal() * 40 * scale));
  return x;
}

// TensorFlow Lite's form on the stored integers, and the table on the numbers they stand for.
TEST(ByTable, SoftmaxIsThatOfTensorFlowLite) {
  Rng r(1, "by_table");
  for (int k = 0; k < 200; ++k) {
    const bool wide = r.chance(0.3);
    const I n = k < 20 ? k + 1 : r.range(1, 500);
    const float scale = static_cast<float>(std::exp(5 * r.uniform() - 4)), beta = r.chance(0.8) ? 1.0f : 0.5f;
    Tensor codes(DType::i8, {2, n});
    for (I i = 0; i < codes.size(); ++i) codes.set(i, static_cast<double>(r.chance(0.1) ? (r.chance(0.5) ? -128 : 127) : r.range(-128, 127)));
    Graph form;
    const ValueId x = form.add_input("x", DType::i8, {Dim(2), Dim(n)});
    form.outputs = {form.add_node("Softmax", {x}, {{"x_scale", static_cast<double>(scale)}, {"x_zero", I{3}}, {"beta", static_cast<double>(beta)}, {"y_scale", wide ? 1.0 / 65536 : 1.0 / 256}, {"y_zero", I{wide ? -32768 : -128}},
                                                   {"to", onnx_number(wide ? DType::i16 : DType::i8)}}, "", "tflite")};
    infer_shapes(form);
    const Tensor want = evaluate_float(form, {codes})[0];
    const std::vector<std::int32_t> table = tflite_exponentials(scale, beta, 256);
    for (I row = 0; row < 2; ++row) {
      std::vector<I> below, got(static_cast<std::size_t>(n));
      I most = -128;
      for (I i = 0; i < n; ++i) most = std::max(most, codes.int_at(row * n + i));
      for (I i = 0; i < n; ++i) below.push_back(most - codes.int_at(row * n + i));
      softmax_by_table(below, table, wide ? 16 : 8, got);
      for (I i = 0; i < n; ++i) ASSERT_EQ(got[static_cast<std::size_t>(i)] - (wide ? 32768 : 128), want.int_at(row * n + i)) << "n " << n << " scale " << scale << " element " << i;
    }
  }
}

TEST(ByTable, SoftmaxIsNearSoftmax) {
  Rng r(2, "by_table");
  double worst = 0;
  for (int k = 0; k < 100; ++k) {
    const I n = r.range(1, 1500);
    const float scale = static_cast<float>(r.range(1, 30)) / 128;
    std::vector<I> below{0}, got(static_cast<std::size_t>(n));
    for (I i = 1; i < n; ++i) below.push_back(r.range(0, 255));
    softmax_by_table(below, tflite_exponentials(scale, 1, 256), 16, got);
    double sum = 0;
    for (I d : below) sum += std::exp(-scale * static_cast<double>(d));
    for (std::size_t i = 0; i < got.size(); ++i)
      worst = std::max(worst, std::abs(static_cast<double>(got[i]) - std::min(65535.0, 65536 * std::exp(-scale * static_cast<double>(below[i])) / sum)));
  }
  EXPECT_LE(worst, 0.75);  // half a unit of the result, and what the table leaves out and rounds
}

TEST(ByTable, NormalisationKeepsItsStatedError) {
  Rng r(3, "by_table");
  double closest = 0;
  for (int k = 0; k < 300; ++k) {
    const int a = static_cast<int>(r.range(3, 10)), f = static_cast<int>(r.range(8, 18)), bits = static_cast<int>(r.range(2, f - 1));
    const I n = r.range(1, 200);
    const auto roots = root_table(a, f);
    std::vector<I> x, y(static_cast<std::size_t>(n));
    const I reach = I(1) << r.range(1, 10);
    for (I i = 0; i < n; ++i) x.push_back(r.range(-reach, reach));
    const I epsilon = r.range(0, 50);
    normalise_by_table(x, roots, f, bits, epsilon, y);
    double sum = 0, spread = static_cast<double>(epsilon);
    for (I v : x) sum += static_cast<double>(v);
    for (I v : x) spread += static_cast<double>(n) * static_cast<double>(v * v);
    spread -= sum * sum;
    for (std::size_t i = 0; i < x.size(); ++i) {
      const double want = spread > 0 ? (static_cast<double>(n * x[i]) - sum) / std::sqrt(spread) : 0;
      const double bound = std::abs(want) * (std::ldexp(1.0, -a) * 1.5 + std::ldexp(1.0, -f)) + std::ldexp(0.5, -bits) + 1e-9, error = std::abs(std::ldexp(static_cast<double>(y[i]), -bits) - want);
      ASSERT_LE(error, bound) << "n " << n << " table " << a << " bits " << bits;
      closest = std::max(closest, error / bound);
      ASSERT_LE(std::llabs(y[i]), normalised_bound(n, roots, f, bits));
    }
  }
  EXPECT_GT(closest, 0.8);  // the bound is no empty one
}

// Literal, carrier and fast evaluator; and what each says about the largest elements.
TEST(ByTable, EvaluatorsAgree) {
  Rng r(4, "by_table");
  int seen = 0;
  for (int k = 0; k < 120; ++k) {
    const Shape shape = r.chance(0.5) ? Shape{1, r.range(1, 9)} : Shape{2, r.range(1, 4), r.range(1, 4), r.range(1, 4)};
    const I axis = r.range(1, static_cast<I>(shape.size()) - 1);
    const float scale = static_cast<float>(r.range(1, 20)) / 64;
    const bool soft = r.chance(0.5);
    const I root = r.range(8, 16);
    const Graph g = soft ? graph_of(r, shape, "TableSoftmax", axis, scale, tflite_exponentials(scale, 1, 256), {{"bits", r.range(1, 16)}})
                         : graph_of(r, shape, "TableNormalize", axis, scale, root_table(static_cast<int>(r.range(3, 9)), static_cast<int>(root)), {{"root_bits", root}, {"bits", r.range(0, root - 1)}, {"epsilon", 0.001}});
    const Tensor x = some_input(r, shape, scale);
    const auto want = to_tensors(prepare(g), evaluate_literal(prepare(g), {x}));
    const ExactProgram p = lower_exact(g, 64);
    EXPECT_TRUE(p.host_nodes.empty());
    exec::Executor e(p);
    EXPECT_TRUE(evaluate_carrier(p, {x})[0].same(want[0]));
    EXPECT_TRUE(e.run({x})[0].same(want[0]));
    ++seen;
  }
  EXPECT_EQ(seen, 120);
}

TEST(ByTable, TopKIsExactAndKeepsTheLowerPlaceFirst) {
  Rng r(5, "by_table");
  for (int k = 0; k < 100; ++k) {
    const Shape shape = r.chance(0.5) ? Shape{1, r.range(1, 9)} : Shape{2, r.range(1, 4), r.range(1, 4), r.range(1, 4)};
    const I axis = r.range(1, static_cast<I>(shape.size()) - 1), keep = r.range(1, shape[static_cast<std::size_t>(axis)]);
    Graph g;
    Dims d;
    for (I n : shape) d.emplace_back(n);
    const ValueId x = g.add_input("x", DType::f32, d);
    auto scalar = [&](float v) { return g.add_constant(g.unique_name("c"), Tensor::scalar(v)); };
    const ValueId q = g.add_node("Quant", {x, scalar(0.5f), scalar(0), scalar(static_cast<float>(r.range(1, 3)))}, {{"signed", I{1}}, {"narrow", I{0}}, {"rounding_mode", std::string("ROUND")}}, "", "qonnx.custom_op.general");
    g.add_node("TopK", {q, g.add_constant("k", Tensor::of<I>({1}, std::vector<I>{keep}))}, {{"axis", axis}, {"largest", I{r.chance(0.5)}}});
    g.nodes.back().outputs.push_back(g.add_value("places"));
    g.outputs = g.nodes.back().outputs;
    infer_shapes(g);
    const Tensor in = some_input(r, shape, 0.05f);
    const Graph ready = prepare(g);
    const auto want = to_tensors(ready, evaluate_literal(ready, {in}));
    const auto floats = evaluate_float(g, {in});
    const ExactProgram p = lower_exact(g, 64);
    EXPECT_TRUE(p.host_nodes.empty());
    exec::Executor e(p);
    const auto slow = evaluate_carrier(p, {in}), fast = e.run({in});
    for (std::size_t o = 0; o < 2; ++o) {
      for (I i = 0; i < want[o].size(); ++i) EXPECT_EQ(want[o].at(i), floats[o].at(i));  // a float 0 may have a sign
      EXPECT_TRUE(slow[o].same(want[o]));
      EXPECT_TRUE(fast[o].same(want[o]));
    }
  }
}

// Values whose common grid takes more than 64 bits are still compared as they are.
TEST(ByTable, TopKOfWideIntegers) {
  Graph g;
  const ValueId x = g.add_input("x", DType::f32, {Dim(2), Dim(4)});
  auto scalar = [&](float v) { return g.add_constant(g.unique_name("c"), Tensor::scalar(v)); };
  auto row = [&](std::vector<float> v) { return g.add_constant(g.unique_name("r"), Tensor::of<float>({4}, std::move(v))); };
  const ValueId q = g.add_node("Quant", {x, scalar(0.01f), scalar(0), scalar(11)}, {{"signed", I{1}}, {"narrow", I{0}}, {"rounding_mode", std::string("ROUND")}}, "", "qonnx.custom_op.general");
  const ValueId m = g.add_node("Mul", {q, row({0.31f, 1.7e-9f, -0.77f, 0.123f})}), a = g.add_node("Add", {m, row({1e-3f, 2.5f, 1e-7f, -0.3f})});
  g.outputs = {g.add_node("TopK", {a, g.add_constant("k", Tensor::of<I>({1}, std::vector<I>{3}))}, {{"axis", I{1}}})};
  g.nodes.back().outputs.push_back(g.add_value("places"));
  g.outputs.push_back(g.nodes.back().outputs[1]);
  infer_shapes(g);
  const ExactProgram p = lower_exact(g);
  EXPECT_TRUE(std::any_of(p.buffers.begin(), p.buffers.end(), [](const Buffer& b) { return b.integer && signed_bits(b.lo, b.hi) > 64; }));
  exec::Executor e(p);
  Rng r(8, "by_table");
  for (int k = 0; k < 10; ++k) {
    const Tensor in = some_input(r, {2, 4}, 0.05f);
    const auto want = to_tensors(prepare(g), evaluate_literal(prepare(g), {in})), got = e.run({in});
    for (std::size_t o = 0; o < 2; ++o) EXPECT_TRUE(got[o].same(want[o]));
  }
}

TEST(ByTable, RefusesWhatHasNoTable) {
  Rng r(6, "by_table");
  Graph g;
  const ValueId x = g.add_input("x", DType::f32, {Dim(1), Dim(4)});
  auto scalar = [&](float v) { return g.add_constant(g.unique_name("c"), Tensor::scalar(v)); };
  const ValueId q = g.add_node("Quant", {x, scalar(0.01f), scalar(0), scalar(14)}, {{"signed", I{1}}, {"narrow", I{0}}, {"rounding_mode", std::string("ROUND")}}, "", "qonnx.custom_op.general");
  g.outputs = {g.add_node("TableSoftmax", {q, g.add_constant("t", Tensor::of<std::int32_t>({1}, std::vector<std::int32_t>{1 << 30}))}, {{"x_scale", 0.01}}, "", "tandem")};
  infer_shapes(g);
  try {
    lower_exact(g, 64);
    FAIL();
  } catch (const Error& e) {
    EXPECT_NE(e.message().find("16384 values"), std::string::npos) << e.message();
    EXPECT_NE(e.fix().find("12 bits"), std::string::npos);
  }
}

}  // namespace
}  // namespace tandem::ir
