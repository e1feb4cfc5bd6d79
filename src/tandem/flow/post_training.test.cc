#include "tandem/ir/post_training.h"

#include <gtest/gtest.h>

#include <cmath>
#include <map>

#include "tandem/base/rng.h"
#include "tandem/exec/exec.h"
#include "tandem/ir/dump.h"
#include "tandem/ir/exact.h"
#include "tandem/ir/onnx.h"
#include "tandem/ir/op.h"
#include "tandem/plan/stage_graph.h"

namespace tandem::ir {
namespace {
using I = std::int64_t;

// A random float network: convolutions, BatchNormalization, pools, residual additions, joins, dense layers.
struct FloatNet {
  Graph g;
  Rng r;
  bool concat = false;
  explicit FloatNet(std::uint64_t seed) : r(seed, "float net") {}

  std::vector<float> draws(I n, double spread) {
    std::vector<float> v;
    for (I i = 0; i < n; ++i) v.push_back(static_cast<float>(r.normal() * spread));
    return v;
  }
  ValueId constant(Shape s, double spread) { return g.add_constant(g.unique_name("c"), Tensor::of<float>(s, draws(element_count(s), spread))); }
  ValueId conv(ValueId x, I in, I out) {
    std::vector<ValueId> inputs{x, constant({out, in, 3, 3}, 0.4)};
    if (r.chance(0.5)) inputs.push_back(constant({out}, 0.5));
    return g.add_node("Conv", inputs, {{"pads", std::vector<I>{1, 1, 1, 1}}}, g.unique_name("conv"));
  }
  ValueId norm(ValueId x, I c) {
    std::vector<float> var = draws(c, 0.3);
    for (float& v : var) v = std::abs(v) + 0.5f;
    return g.add_node("BatchNormalization", {x, constant({c}, 1), constant({c}, 0.3), constant({c}, 0.3), g.add_constant(g.unique_name("v"), Tensor::of<float>({c}, var))}, {}, g.unique_name("bn"));
  }
  void run() {
    I c = r.range(1, 3), side = 4;
    ValueId x = g.add_input("x", DType::f32, {Dim(1), Dim(c), Dim(side), Dim(side)});
    const I blocks = r.range(1, 3);
    for (I b = 0; b < blocks; ++b) {
      const I out = r.range(1, 4);
      ValueId y = conv(x, c, out);
      if (r.chance(0.5)) y = norm(y, out);
      if (r.chance(0.8)) y = g.add_node("Relu", {y});
      x = y, c = out;
      const double u = r.uniform();
      if (u < 0.3) {
        x = g.add_node(r.chance(0.7) ? "Add" : "Sub", {conv(x, c, c), x});
        if (r.chance(0.5)) x = g.add_node("Relu", {x});
      } else if (u < 0.5) {
        x = g.add_node("Concat", {conv(x, c, 2), x}, {{"axis", I(1)}});
        c += 2;
        concat = true;
      } else if (u < 0.7 && side == 4) {
        x = g.add_node(r.chance(0.5) ? "MaxPool" : "AveragePool", {x}, {{"kernel_shape", std::vector<I>{2, 2}}, {"strides", std::vector<I>{2, 2}}});
        side = 2;
      }
    }
    x = g.add_node("Flatten", {x});
    const I features = c * side * side;
    if (r.chance(0.5)) {
      x = g.add_node("Gemm", {x, constant({3, features}, 0.3), constant({3}, 0.5)}, {{"transB", I(1)}});
    } else {
      x = g.add_node("MatMul", {x, constant({features, 3}, 0.3)});
      if (r.chance(0.7)) x = g.add_node("Add", {x, constant({3}, 0.5)});
    }
    g.outputs = {x};
    infer_shapes(g);
  }
  Tensor sample() {
    Shape s;
    for (const Dim& d : *g.values[static_cast<std::size_t>(g.inputs[0])].type.dims) s.push_back(d.n);
    return Tensor::of<float>(s, draws(element_count(s), 1));
  }
};

std::vector<ValueRange> ranges_of(const QuantPlan& p, const std::vector<Tensor>& samples) {
  std::vector<ValueRange> r(p.points.size(), {1e30, -1e30});
  for (const Tensor& x : samples) {
    std::vector<Tensor> all;
    evaluate_float(p.graph, {x}, &all);
    for (std::size_t k = 0; k < r.size(); ++k) {
      const Tensor& v = all[static_cast<std::size_t>(p.points[k].value)];
      for (I i = 0; i < v.size(); ++i) r[k].lo = std::min(r[k].lo, v.at(i)), r[k].hi = std::max(r[k].hi, v.at(i));
    }
  }
  return r;
}
PostTraining format(const std::string& f, bool per_channel = false) {
  return {post_training_format(f, "--format"), post_training_format(f, "--format"), per_channel};
}

TEST(PostTraining, RandomNetworksAgreeToTheBitAndMoreBitsErrLess) {
  double error[3] = {};
  int built = 0;
  for (std::uint64_t seed = 0; seed < 40; ++seed) {
    FloatNet n(seed);
    n.run();
    std::vector<Tensor> samples;
    for (int i = 0; i < 6; ++i) samples.push_back(n.sample());
    const QuantPlan plan = plan_quantisation(n.g);
    const std::vector<ValueRange> ranges = ranges_of(plan, samples);
    const char* const formats[] = {"int4", "int6", "int8", "uint8", "fixed<10,4>"};
    for (int f = 0; f < 5; ++f) {
      SCOPED_TRACE(fmt::format("seed {} {}", seed, formats[f]));
      const Quantised q = quantise(plan, ranges, format(formats[f], f < 3 && seed % 2));
      EXPECT_EQ(first_difference(parse_onnx(onnx_bytes(q.graph)), q.graph), "");
      std::map<int, double> scale;  // one scale for each group
      for (std::size_t k = 0; k < plan.points.size(); ++k) {
        const auto [at, first] = scale.emplace(plan.points[k].group, q.points[k].scale);
        EXPECT_TRUE(first || at->second == q.points[k].scale);
      }
      for (const Node& a : q.graph.nodes) {  // biases lie on the grid of the sums: no rounding of the grid to f32
        if (a.name.find("_bias_quant") == std::string::npos) continue;
        EXPECT_EQ(q.graph.constant(a.inputs[3])->at(0), 32);
      }
      exec::Executor e(lower_exact(q.graph));
      for (const Tensor& x : {samples[0], n.sample()}) {
        const Tensor want = to_tensors(q.graph, evaluate_literal(q.graph, {x}))[0], got = e.run({x})[0];
        ASSERT_TRUE(want.same(got));
        const Tensor plain = evaluate_float(n.g, {x})[0];
        for (I i = 0; i < got.size() && f < 3; ++i) error[f] += std::abs(got.at(i) - plain.at(i));
      }
      if (!n.concat && f == 2) {
        plan::stages_from(lower_exact(q.graph, 64));  // what hardware has stages for must be accepted
        ++built;
      }
    }
  }
  EXPECT_LT(error[1], error[0]);
  EXPECT_LT(error[2], error[1]);
  EXPECT_GT(built, 10);
}

// Absolute weight errors are not ordered element by element; the bound of half a scale is, channel by channel.
TEST(PostTraining, PerChannelScalesAreNeverLarger) {
  for (std::uint64_t seed = 0; seed < 20; ++seed) {
    FloatNet n(seed);
    n.run();
    const QuantPlan plan = plan_quantisation(n.g);
    const std::vector<ValueRange> ranges = ranges_of(plan, {n.sample()});
    const Quantised t = quantise(plan, ranges, format("int6")), c = quantise(plan, ranges, format("int6", true));
    for (std::size_t k = 0; k < t.weights.size(); ++k) EXPECT_EQ(c.weights[k].scale, t.weights[k].scale);  // the largest channel's
  }
}

TEST(PostTraining, RefusesWithTheReason) {
  const auto why = [](const auto& f) {
    try {
      f();
    } catch (const Error& e) {
      EXPECT_EQ(e.code(), Exit::bad_input);
      return e.full();
    }
    return std::string("accepted");
  };
  FloatNet n(1);
  n.run();
  const QuantPlan plan = plan_quantisation(n.g);
  const Quantised q = quantise(plan, ranges_of(plan, {n.sample()}), format("int8"));
  EXPECT_NE(why([&] { plan_quantisation(q.graph); }).find("quantised already"), std::string::npos);
  for (const char* f : {"int1", "int17", "f16", "ufixed<8,2>", "bipolar"}) EXPECT_NE(why([&] { post_training_format(f, "--format"); }).find("intN"), std::string::npos) << f;
  Graph g;
  g.outputs = {g.add_node("Relu", {g.add_input("x", DType::f32, {Dim(1), Dim(2)})})};
  infer_shapes(g);
  EXPECT_NE(why([&] { plan_quantisation(g); }).find("nothing to quantise"), std::string::npos);
}

}  // namespace
}  // namespace tandem::ir
