#include "tandem/ir/quantize.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "tandem/base/rng.h"
#include "tandem/ir/exact.h"
#include "tandem/ir/op.h"
#include "tandem/ir/sequential.h"

namespace tandem::ir {
namespace {

Graph net(const std::string& layers, const std::string& input = "[1, 8, 8]") {
  return build_sequential(Config::parse("{input: " + input + ", layers: " + layers + "}"), 1);
}
int count(const Graph& g, std::string_view op) {
  return static_cast<int>(std::count_if(g.nodes.begin(), g.nodes.end(), [&](const Node& n) { return n.op == op; }));
}
const Node& named(const Graph& g, const std::string& name) {
  for (const Node& n : g.nodes)
    if (n.name == name) return n;
  throw bad_input("no node {}", name);
}
std::string error_of(const std::function<void()>& f) {
  try {
    f();
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), Exit::bad_input);
    return e.full();
  }
  return "accepted";
}

TEST(Sequential, ShapesAndNames) {
  const Graph g = net("[conv: {channels: 8, kernel: 3, pad: 1}, batchnorm, relu, conv: {channels: 16, kernel: 3, stride: 2, pad: 1}, relu, maxpool: {kernel: 2}, dense: {features: 10}]");
  EXPECT_EQ(to_string(*g.values[static_cast<std::size_t>(g.outputs[0])].type.dims), "[batch, 10]");
  EXPECT_EQ(g.constant(g.find("conv2_weight"))->shape(), (Shape{16, 8, 3, 3}));
  EXPECT_EQ(g.constant(g.find("dense1_weight"))->shape(), (Shape{10, 64}));
  EXPECT_EQ(named(g, "conv1").inputs.size(), 2u);  // a batchnorm follows: no bias
  EXPECT_EQ(named(g, "conv2").inputs.size(), 3u);
  // The same seed gives the same weights; their deviation is that of He et al.
  double ss = 0;
  const Tensor& w = *g.constant(g.find("conv2_weight"));
  for (float v : w.values<float>()) ss += v * v;
  EXPECT_NEAR(ss / static_cast<double>(w.size()), 2.0 / 72, 0.3 * 2.0 / 72);  // 1152 draws: 4 % deviation expected
  EXPECT_TRUE(w.same(*net("[conv: {channels: 8, kernel: 3, pad: 1}, batchnorm, relu, conv: {channels: 16, kernel: 3}]").constant(g.find("conv2_weight"))));
}

TEST(Sequential, RefusesWithPlaceAndNearestWord) {
  EXPECT_NE(error_of([] { net("[convv: {channels: 8, kernel: 3}]"); }).find("'conv'"), std::string::npos);
  EXPECT_NE(error_of([] { net("[conv: {channels: 8, kernel: 9}]"); }).find("larger than its input"), std::string::npos);
  EXPECT_NE(error_of([] { net("[conv: {chanels: 8, kernel: 3}]"); }).find("channels"), std::string::npos);
  EXPECT_NE(error_of([] { net("[dense: {features: 4}, maxpool: {kernel: 2}]"); }).find("needs an image"), std::string::npos);
  EXPECT_NE(error_of([] { net("[conv: {channels: 8, kernel: 3, group: 3}]"); }).find("divide"), std::string::npos);
}

TEST(Quantise, InsertsWhatTheSpecificationSays) {
  const Graph f = net("[conv: {channels: 8, kernel: 3, pad: 1}, batchnorm, relu, maxpool: {kernel: 2}, conv: {channels: 4, kernel: 3, pad: 1}, batchnorm, averagepool: {kernel: 2}, dense: {features: 10}]");
  const Graph g = insert_quantisers(f, parse_quant_spec(Config::parse(R"(
input: {bits: 4, signed: false, scale: 0.0625}
weights: {bits: 3, per: channel, narrow: true, scale: learned}
activations: {bits: 5, scale: learned}
layers:
  - {nodes: "dense*", weights: {bits: 6, per: tensor, narrow: false}}
)")));
  // input, three weights, one behind relu, one behind batchnorm2 (signed; it reaches dense1 through a pool)
  EXPECT_EQ(count(g, "Quant"), 6);
  auto bits = [&](const std::string& q) { return g.constant(named(g, q).in(3))->at(0); };
  EXPECT_EQ(bits("x_quant"), 4);
  EXPECT_EQ(bits("conv1_weight_quant"), 3);
  EXPECT_EQ(bits("dense1_weight_quant"), 6);
  EXPECT_EQ(named(g, "relu1_quant").attr_int("signed", 9), 0);
  EXPECT_EQ(named(g, "batchnorm2_quant").attr_int("signed", 9), 1);
  EXPECT_EQ(g.constant(named(g, "conv2_weight_quant").in(1))->shape(), (Shape{4, 1, 1, 1}));
  EXPECT_EQ(g.constant(named(g, "dense1_weight_quant").in(1))->shape(), (Shape{}));
  EXPECT_EQ(scale_source(g, g.values[static_cast<std::size_t>(named(g, "relu1_quant").in(1))].name), "learned");
  EXPECT_EQ(scale_source(g, g.values[static_cast<std::size_t>(named(g, "x_quant").in(1))].name), "fixed");
  // Every contraction of it is exact, and the carrier can hold it.
  EXPECT_NO_THROW(lower_exact(bind(g, {{"batch", 2}})));
  // Quantising twice changes nothing.
  EXPECT_EQ(insert_quantisers(g, parse_quant_spec(Config::parse("{input: {bits: 8}}"))).nodes.size(), g.nodes.size());
}

TEST(Quantise, AbsmaxReachesTheLastCode) {
  // With absmax scales no weight saturates and each channel's largest one has the largest code.
  const Graph f = net("[conv: {channels: 5, kernel: 3}, relu, dense: {features: 3}]");
  for (const char* per : {"channel", "tensor"}) {
    const Graph g = insert_quantisers(f, parse_quant_spec(Config::parse(fmt::format("weights: {{bits: 4, per: {}, narrow: true, scale: absmax}}", per))));
    const Tensor& w = *g.constant(g.find("conv1_weight"));
    const Tensor& s = *g.constant(g.find("conv1_weight_scale"));
    for (std::int64_t c = 0; c < s.size(); ++c) {
      double top = 0;
      for (std::int64_t i = 0; i < w.size(); ++i)
        if (s.size() == 1 || i / 9 == c) top = std::max(top, std::abs(w.at(i) / s.at(c)));
      EXPECT_NEAR(top, 7, 1e-5) << per;
    }
  }
}

TEST(Quantise, BipolarAndFloatLayers) {
  const Graph f = net("[conv: {channels: 4, kernel: 3}, relu, conv: {channels: 4, kernel: 3}, relu, dense: {features: 3}]");
  const Graph g = insert_quantisers(f, parse_quant_spec(Config::parse(R"(
weights: {bits: 1, scale: absmax}
activations: {bits: 2}
layers: [{nodes: conv1, weights: {bits: 0}}]
)")));
  EXPECT_EQ(count(g, "BipolarQuant"), 2);
  EXPECT_EQ(named(g, "conv1").in(1), g.find("conv1_weight"));
}

TEST(Quantise, RefusesAPatternThatMatchesNothing) {
  const Graph f = net("[dense: {features: 3}]");
  EXPECT_NE(error_of([&] { insert_quantisers(f, parse_quant_spec(Config::parse("layers: [{nodes: conv9, weights: {bits: 2}}]"))); }).find("conv9"), std::string::npos);
  EXPECT_NE(error_of([] { parse_quant_spec(Config::parse("weights: {bits: 40}")); }).find("32"), std::string::npos);
  EXPECT_NE(error_of([] { parse_quant_spec(Config::parse("weights: {bitz: 4}")); }).find("bits"), std::string::npos);
  EXPECT_NE(error_of([] { parse_quant_spec(Config::parse("weights: {bits: 4, scale: -1}")); }).find("positive"), std::string::npos);
}

TEST(Quantise, PatternsEqualTheirDefinition) {
  // Against the recursive definition, on random strings of a small alphabet.
  std::function<bool(std::string_view, std::string_view)> slow = [&](std::string_view p, std::string_view s) -> bool {
    if (p.empty()) return s.empty();
    if (p[0] == '*') return slow(p.substr(1), s) || (!s.empty() && slow(p, s.substr(1)));
    return !s.empty() && (p[0] == '?' || p[0] == s[0]) && slow(p.substr(1), s.substr(1));
  };
  Rng r(1, "patterns");
  int matched = 0;
  for (int i = 0; i < 5000; ++i) {
    std::string p, s;
    for (std::int64_t k = r.range(0, 5); k > 0; --k) p += "ab*?"[r.range(0, 3)];
    for (std::int64_t k = r.range(0, 6); k > 0; --k) s += "ab"[r.range(0, 1)];
    ASSERT_EQ(name_matches(p, s), slow(p, s)) << p << " on " << s;
    matched += slow(p, s);
  }
  EXPECT_GT(matched, 500);
}

}  // namespace
}  // namespace tandem::ir
