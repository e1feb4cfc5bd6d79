// Grids, crops, columns, counted n-grams and optimiser steps against second formulations.
#include <gtest/gtest.h>

#include <cmath>

#include "tandem/ir/arrays.h"
#include "tandem/ir/exact.h"
#include "tandem/ir/ops/kit.h"

namespace tandem::ir {
namespace {

using Attrs = std::map<std::string, Attribute>;

// Inputs of integers are constants, so that shapes follow from them.
std::vector<Tensor> run(const char* op, const Attrs& attrs, const std::vector<Tensor>& in, const char* domain = "", std::size_t outputs = 1) {
  Graph g;
  std::vector<ValueId> ids;
  std::vector<Tensor> data;
  for (const Tensor& t : in)
    if (t.dtype() == DType::i64 && *domain == 0 && ids.size() > 0) {
      ids.push_back(g.add_constant(g.unique_name("c"), t));
    } else {
      ids.push_back(g.add_input(g.unique_name("x"), t.dtype(), dims_of(t.shape())));
      data.push_back(t);
    }
  std::vector<ValueId> out{g.add_node(op, ids, attrs, "probe", domain)};
  for (std::size_t i = 1; i < outputs; ++i) out.push_back(g.add_value(g.unique_name("more")));
  g.nodes.back().outputs = out;
  g.outputs = out;
  verify(g);
  infer_shapes(g);
  std::vector<Tensor> y = evaluate_float(g, data);
  for (std::size_t i = 0; i < y.size(); ++i) EXPECT_EQ(dims_of(y[i].shape()), *g.values[static_cast<std::size_t>(out[i])].type.dims);
  return y;
}
Tensor random(Rng& r, const Shape& s) {
  Tensor t(DType::f32, s);
  for (std::int64_t i = 0; i < t.size(); ++i) t.set(i, static_cast<double>(r.range(-64, 64)) / 64);
  return t;
}
Tensor ints(const Ints& v) { return Tensor::of<std::int64_t>({static_cast<std::int64_t>(v.size())}, v); }

TEST(Arrange, Grids) {
  for (std::uint64_t seed = 0; seed < 200; ++seed) {
    Rng r(seed, "grids");
    const std::int64_t N = r.range(1, 2), H = r.range(1, 4), W = r.range(1, 4), D = r.range(1, 3);
    const bool corners = r.chance(0.5), deep = r.chance(0.5);
    const Tensor theta = random(r, deep ? Shape{N, 3, 4} : Shape{N, 2, 3});
    const Tensor y = run("AffineGrid", {{"align_corners", std::int64_t{corners}}}, {theta, ints(deep ? Ints{N, 1, D, H, W} : Ints{N, 1, H, W})})[0];
    const auto coordinate = [&](std::int64_t i, std::int64_t n) {  // from -1 to 1 in equal steps, ends at the centres or half a step inside
      const double step = corners ? 2.0 / static_cast<double>(std::max<std::int64_t>(n - 1, 1)) : 2.0 / static_cast<double>(n);
      return -1 + (corners ? 0 : step / 2) + static_cast<double>(i) * step;
    };
    std::int64_t to = 0;
    for (std::int64_t n = 0; n < N; ++n)
      for (std::int64_t d = 0; d < (deep ? D : 1); ++d)
        for (std::int64_t h = 0; h < H; ++h)
          for (std::int64_t w = 0; w < W; ++w) {
            const double p[] = {coordinate(w, W), coordinate(h, H), deep ? coordinate(d, D) : 1, 1};
            const int axes = deep ? 3 : 2;
            for (int a = 0; a < axes; ++a) {
              double want = 0;
              for (int k = 0; k <= axes; ++k) want += theta.at((n * axes + a) * (axes + 1) + k) * p[k];
              ASSERT_NEAR(y.at(to++), want, 1e-6) << seed;
            }
          }
    ASSERT_EQ(to, y.size());
  }
}

// The identity as theta: GridSample reads the image itself.
TEST(Arrange, IdentityGrid) {
  Rng r(3, "identity");
  const Tensor x = random(r, {1, 2, 4, 5}), theta = Tensor::of<float>({1, 2, 3}, std::vector<float>{1, 0, 0, 0, 1, 0});
  for (const std::int64_t corners : {0, 1}) {
    const Tensor grid = run("AffineGrid", {{"align_corners", corners}}, {theta, ints({1, 2, 4, 5})})[0];
    const Tensor y = run("GridSample", {{"align_corners", corners}}, {x, grid})[0];
    for (std::int64_t i = 0; i < x.size(); ++i) EXPECT_NEAR(y.at(i), x.at(i), 1e-5);
  }
}

TEST(Arrange, Crops) {
  for (std::uint64_t seed = 0; seed < 300; ++seed) {
    Rng r(seed, "crops");
    const Shape s{r.range(1, 6), r.range(1, 6)}, to{r.range(0, 8), r.range(0, 8)};
    const Tensor x = random(r, s), y = run("CenterCropPad", {}, {x, ints(to)})[0];
    ASSERT_EQ(y.shape(), to);
    // numpy's slices: [d/2, d/2 + new) of the old where it shrinks; the old at [d/2, d/2 + old) of zeros where it grows.
    for (std::int64_t i = 0; i < to[0]; ++i)
      for (std::int64_t j = 0; j < to[1]; ++j) {
        const std::int64_t at[] = {i, j};
        std::int64_t from[2];
        bool inside = true;
        for (int d = 0; d < 2; ++d) {
          from[d] = to[d] < s[d] ? at[d] + (s[d] - to[d]) / 2 : at[d] - (to[d] - s[d]) / 2;
          inside = inside && from[d] >= 0 && from[d] < s[d];
        }
        EXPECT_EQ(y.at(i * to[1] + j), inside ? x.at(from[0] * s[1] + from[1]) : 0) << seed;
      }
    const Tensor one = run("CenterCropPad", {{"axes", Ints{-1}}}, {x, ints({to[1]})})[0];
    EXPECT_EQ(one.shape(), (Shape{s[0], to[1]}));
  }
}

// <Col2Im(x), y> = <x, columns cut out of y>.
TEST(Arrange, ColumnsAreTheAdjointOfCutting) {
  for (std::uint64_t seed = 0; seed < 200; ++seed) {
    Rng r(seed, "columns");
    const std::int64_t H = r.range(3, 6), W = r.range(3, 6), kh = r.range(1, 2), kw = r.range(1, 3), sh = r.range(1, 2), sw = r.range(1, 2), p = r.range(0, 1), q = r.range(0, 1), d = r.range(1, 2), C = r.range(1, 2);
    if (H + 2 * p < d * (kh - 1) + 1 || W + p + q < d * (kw - 1) + 1) continue;
    const std::int64_t P = (H + 2 * p - d * (kh - 1) - 1) / sh + 1, Q = (W + p + q - d * (kw - 1) - 1) / sw + 1;
    const Tensor x = random(r, {1, C * kh * kw, P * Q}), y = random(r, {1, C, H, W});
    const Tensor z = run("Col2Im", {{"strides", Ints{sh, sw}}, {"dilations", Ints{d, d}}, {"pads", Ints{p, p, p, q}}}, {x, ints({H, W}), ints({kh, kw})})[0];
    double left = 0, right = 0;
    for (std::int64_t i = 0; i < y.size(); ++i) left += z.at(i) * y.at(i);
    for (std::int64_t c = 0; c < C; ++c)
      for (std::int64_t u = 0; u < kh; ++u)
        for (std::int64_t v = 0; v < kw; ++v)
          for (std::int64_t a = 0; a < P; ++a)
            for (std::int64_t b = 0; b < Q; ++b) {
              const std::int64_t h = a * sh - p + u * d, w = b * sw - p + v * d;
              if (h >= 0 && h < H && w >= 0 && w < W) right += x.at((((c * kh + u) * kw + v) * P + a) * Q + b) * y.at((c * H + h) * W + w);
            }
    EXPECT_NEAR(left, right, 1e-5 * (1 + std::abs(right))) << seed;
  }
}

// Counted by going through the pool: each n-gram at each place and each step between its elements.
TEST(Arrange, CountedGrams) {
  static const char* modes[] = {"TF", "IDF", "TFIDF"};
  const Ints pool{0, 2, 3, 1, 2, 0, 0, 1, 1, 2, 3}, begins{0, 3, 5}, columns{2, 0, 1, 4, 5, 3};
  const std::vector<Ints> grams{{0}, {2}, {3}, {1, 2}, {0, 0, 1}, {1, 2, 3}};
  const std::vector<double> weights{1, 0.5, 2, 3, 0.25, 4};
  for (std::uint64_t seed = 0; seed < 300; ++seed) {
    Rng r(seed, "grams");
    const std::int64_t length = r.range(1, 12), longest = r.range(1, 3), shortest = r.range(1, longest), skips = r.range(0, 3);
    Tensor x(DType::i64, {2, length});
    for (std::int64_t i = 0; i < x.size(); ++i) x.set(i, static_cast<double>(r.range(0, 3)));
    const std::string mode = modes[seed % 3];
    const Tensor y = run("TfIdfVectorizer", {{"mode", mode}, {"min_gram_length", shortest}, {"max_gram_length", longest}, {"max_skip_count", skips}, {"ngram_counts", begins}, {"ngram_indexes", columns}, {"pool_int64s", pool}, {"weights", weights}}, {x})[0];
    ASSERT_EQ(y.shape(), (Shape{2, 6}));
    for (std::int64_t row = 0; row < 2; ++row)
      for (std::size_t k = 0; k < grams.size(); ++k) {
        const auto n = static_cast<std::int64_t>(grams[k].size());
        double count = 0;
        if (n >= shortest && n <= longest)
          for (std::int64_t step = 1; step <= (n == 1 ? 1 : skips + 1); ++step)
            for (std::int64_t at = 0; at < length; ++at) {
              bool same = true;
              for (std::int64_t i = 0; i < n && same; ++i) same = at + i * step < length && x.int_at(row * length + at + i * step) == grams[k][static_cast<std::size_t>(i)];
              count += same;
            }
        const double want = mode == "TF" ? count : mode == "IDF" ? (count > 0 ? weights[k] : 0) : count * weights[k];
        EXPECT_EQ(y.at(row * 6 + columns[k]), want) << seed;
      }
  }
}

// Steps of the optimisers from zero states, after ONNX's formulas in f64.
TEST(Training, Steps) {
  constexpr const char* kDomain = "ai.onnx.preview.training";
  for (std::uint64_t seed = 0; seed < 200; ++seed) {
    Rng r(seed, "steps");
    const Tensor rate = Tensor::scalar(0.125f), x = random(r, {3}), g = random(r, {3}), u = random(r, {2, 2}), h = random(r, {2, 2}), zero(DType::f32, {3}), none(DType::f32, {2, 2});
    Tensor t(DType::i64, Shape{});
    t.set(0, static_cast<double>(seed % 3));
    const auto T = static_cast<double>(seed % 3);
    const auto check = [&](const std::vector<Tensor>& y, std::size_t state, auto f) {
      for (const auto& [value, gradient, at] : {std::tuple(&x, &g, std::size_t{0}), std::tuple(&u, &h, std::size_t{1})})
        for (std::int64_t i = 0; i < value->size(); ++i) {
          const auto [now, kept] = f(value->at(i), gradient->at(i) + 0.0625 * value->at(i));
          EXPECT_NEAR(y[at].at(i), now, 1e-5 * (1 + std::abs(now))) << seed;
          EXPECT_NEAR(y[state + at].at(i), kept, 1e-5 * (1 + std::abs(kept))) << seed;
        }
    };
    const std::pair<std::string, Attribute> decay{"norm_coefficient", 0.0625};
    check(run("Adagrad", {decay, {"decay_factor", 0.5}, {"epsilon", 0.25}}, {rate, t, x, u, g, h, zero, none}, kDomain, 4), 2, [&](double v, double d) { return std::pair(v - 0.125 / (1 + 0.5 * T) * d / (std::abs(d) + 0.25), d * d); });
    for (const std::string mode : {"standard", "nesterov"})
      check(run("Momentum", {decay, {"alpha", 0.5}, {"beta", 0.75}, {"mode", mode}}, {rate, t, x, u, g, h, zero, none}, kDomain, 4), 2, [&](double v, double d) {
        const double m = (T > 0 ? 0.75 : 1) * d;
        return std::pair(v - 0.125 * (mode == "nesterov" ? d + 0.5 * m : m), m);
      });
    const std::vector<Tensor> y = run("Adam", {decay, {"alpha", 0.5}, {"beta", 0.75}, {"epsilon", 0.25}, {"norm_coefficient_post", 0.125}}, {rate, t, x, u, g, h, zero, none, zero, none}, kDomain, 6);
    check(y, 2, [&](double v, double d) {
      const double a = T > 0 ? 0.125 * std::sqrt(1 - std::pow(0.75, T)) / (1 - std::pow(0.5, T)) : 0.125;
      return std::pair(0.875 * (v - a * 0.5 * d / (0.5 * std::abs(d) + 0.25)), 0.5 * d);
    });
    check({y[0], y[1], y[2], y[3], y[4], y[5]}, 4, [&](double v, double d) {
      const double a = T > 0 ? 0.125 * std::sqrt(1 - std::pow(0.75, T)) / (1 - std::pow(0.5, T)) : 0.125;
      return std::pair(0.875 * (v - a * 0.5 * d / (0.5 * std::abs(d) + 0.25)), 0.25 * d * d);
    });
  }
}

TEST(Arrange, Refusals) {
  const auto expect = [](const char* op, const Attrs& a, const std::vector<Tensor>& in, std::string_view part, const char* domain = "", std::size_t outputs = 1) {
    try {
      run(op, a, in, domain, outputs);
      ADD_FAILURE() << "accepted: " << part;
    } catch (const Error& e) {
      EXPECT_EQ(e.code(), Exit::bad_input);
      EXPECT_NE(e.full().find(part), std::string::npos) << e.full();
      EXPECT_NE(e.full().find("probe"), std::string::npos) << e.full();
    }
  };
  const Tensor theta(DType::f32, {1, 2, 3}), x(DType::f32, {2, 3}), words(DType::i64, {3}), columns(DType::f32, {1, 4, 5});
  expect("AffineGrid", {}, {theta, ints({2, 1, 3, 3})}, "does not fit");
  expect("AffineGrid", {}, {theta, ints({1, 1, 3})}, "size has 3 entries");
  expect("AffineGrid", {}, {theta, ints({1, 1, -3, 3})}, "an extent of -3");
  expect("CenterCropPad", {{"axes", Ints{0, -2}}}, {x, ints({1, 1})}, "axis 0 twice");
  expect("CenterCropPad", {{"axes", Ints{4}}}, {x, ints({1})}, "axis 4");
  expect("CenterCropPad", {}, {x, ints({1})}, "1 extents for 2 axes");
  expect("Col2Im", {}, {columns, ints({3, 3}), ints({2, 2})}, "5 columns for 4 blocks");
  expect("Col2Im", {}, {columns, ints({3, 3}), ints({3, 1})}, "no multiple");
  expect("Col2Im", {}, {columns, ints({3, 0}), ints({2, 2})}, "an image");
  const Attrs good{{"mode", std::string("TF")}, {"min_gram_length", std::int64_t{1}}, {"max_gram_length", std::int64_t{2}}, {"max_skip_count", std::int64_t{0}}, {"ngram_counts", Ints{0, 2}}, {"ngram_indexes", Ints{0, 1, 2}}, {"pool_int64s", Ints{1, 2, 3, 4}}};
  EXPECT_EQ(run("TfIdfVectorizer", good, {words})[0].shape(), (Shape{3}));
  const auto gram = [&](const Attrs& change, std::string_view part) {
    Attrs a = good;
    for (const auto& [k, v] : change) a[k] = v;
    expect("TfIdfVectorizer", a, {words}, part);
  };
  gram({{"mode", std::string("COUNT")}}, "'COUNT'");
  gram({{"ngram_counts", Ints{0, 9}}}, "ngram_counts holds 0");
  gram({{"ngram_counts", Ints{0, 3}}}, "no n-grams of 2");
  gram({{"ngram_indexes", Ints{0, 1}}}, "3 n-grams, ngram_indexes has 2");
  gram({{"ngram_indexes", Ints{0, 1, -1}}}, "holds -1");
  gram({{"weights", std::vector<double>{1}}}, "1 weights for 3");
  gram({{"pool_strings", std::vector<std::string>{"a"}}}, "number the words");
  gram({{"min_gram_length", std::int64_t{3}}}, "n-grams of 3 to 2");
  Tensor t(DType::i64, Shape{});
  expect("Momentum", {{"alpha", 0.5}, {"beta", 0.5}, {"mode", std::string("other")}}, {Tensor::scalar(1.f), t, x, x, x}, "'other'", "ai.onnx.preview.training");
  expect("Momentum", {{"alpha", 0.5}, {"beta", 0.5}, {"mode", std::string("standard")}}, {Tensor::scalar(1.f), t, x, x}, "4 inputs", "ai.onnx.preview.training");
  expect("Adagrad", {}, {Tensor::scalar(1.f), t, x, theta, x}, "has the shape", "ai.onnx.preview.training", 2);
  expect("Adagrad", {}, {Tensor::scalar(1.f), t, x, x, x}, "1 outputs for 1 tensors", "ai.onnx.preview.training");
  expect("Gradient", {}, {x}, "gradient of the graph", "ai.onnx.preview.training");
}

}  // namespace
}  // namespace tandem::ir
