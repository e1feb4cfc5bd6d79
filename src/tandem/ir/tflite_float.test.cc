#include "tandem/ir/tflite_float.h"

#include <gtest/gtest.h>

#include "tandem/base/error.h"
#include "tandem/ir/exact.h"
#include "tandem/ir/op.h"

namespace tandem::ir {
namespace {

// A model of one operator, by hand.
struct Made {
  TfliteModel m;
  std::vector<std::vector<float>> floats;
  std::vector<std::vector<std::int32_t>> integers;
  Made() {
    m.subgraphs.resize(1);
    floats.reserve(64), integers.reserve(64);
  }
  int tensor(Shape s, DType t = DType::f32) {
    TfliteTensor x;
    x.name = fmt::format("t{}", m.subgraphs[0].tensors.size());
    x.dtype = t, x.type = "made", x.shape = std::move(s);
    m.subgraphs[0].tensors.push_back(x);
    return static_cast<int>(m.subgraphs[0].tensors.size()) - 1;
  }
  int input(Shape s) {
    const int t = tensor(std::move(s));
    m.subgraphs[0].inputs.push_back(t);
    return t;
  }
  int constant(Shape s, std::vector<float> v) {
    floats.push_back(std::move(v));
    const int t = tensor(std::move(s));
    auto& x = m.subgraphs[0].tensors[static_cast<std::size_t>(t)];
    x.constant = true, x.data = {reinterpret_cast<const char*>(floats.back().data()), floats.back().size() * 4};
    return t;
  }
  int ints(Shape s, std::vector<std::int32_t> v) {
    integers.push_back(std::move(v));
    const int t = tensor(std::move(s), DType::i32);
    auto& x = m.subgraphs[0].tensors[static_cast<std::size_t>(t)];
    x.constant = true, x.data = {reinterpret_cast<const char*>(integers.back().data()), integers.back().size() * 4};
    return t;
  }
  int op(std::string name, std::vector<int> in, Shape out, std::map<std::string, double> numbers = {}, DType t = DType::f32) {
    const int y = tensor(std::move(out), t);
    TfliteOperator o;
    o.op = std::move(name), o.inputs = std::move(in), o.outputs = {y}, o.numbers = std::move(numbers);
    m.subgraphs[0].operators.push_back(o);
    m.subgraphs[0].outputs = {y};
    return y;
  }
  std::vector<double> run(const std::vector<Tensor>& in) const {
    const Tensor y = evaluate_float(tflite_float_graph(m), in)[0];
    std::vector<double> v;
    for (std::int64_t i = 0; i < y.size(); ++i) v.push_back(y.at(i));
    return v;
  }
};
Tensor counted(Shape s, double first = 0, double step = 1) {
  Tensor t(DType::f32, std::move(s));
  for (std::int64_t i = 0; i < t.size(); ++i) t.set(i, first + step * static_cast<double>(i));
  return t;
}
using V = std::vector<double>;

TEST(TfliteOperators, MovesKeepTheFilesOrder) {
  {
    Made k;  // [1, 2, 2, 2] padded by one column, then every second row
    const int x = k.input({1, 2, 2, 2}), p = k.op("PAD", {x, k.ints({4, 2}, {0, 0, 0, 0, 1, 0, 0, 0})}, {1, 2, 3, 2});
    k.op("STRIDED_SLICE", {p, k.ints({4}, {0, 1, 0, 0}), k.ints({4}, {1, 2, 3, 2}), k.ints({4}, {1, 1, 2, 1})}, {1, 2, 2}, {{"begin_mask", 0}, {"end_mask", 0}, {"shrink_axis_mask", 2}});
    EXPECT_EQ(k.run({counted({1, 2, 2, 2})}), (V{0, 0, 6, 7}));
  }
  {
    Made k;
    k.op("TRANSPOSE", {k.input({1, 2, 3}), k.ints({3}, {2, 0, 1})}, {3, 1, 2});
    EXPECT_EQ(k.run({counted({1, 2, 3})}), (V{0, 3, 1, 4, 2, 5}));
  }
  {
    Made k;
    k.op("DEPTH_TO_SPACE", {k.input({1, 1, 2, 4})}, {1, 2, 4, 1}, {{"block_size", 2}});
    EXPECT_EQ(k.run({counted({1, 1, 2, 4})}), (V{0, 1, 4, 5, 2, 3, 6, 7}));
  }
  {
    Made k;
    k.op("SPACE_TO_DEPTH", {k.input({1, 2, 2, 2})}, {1, 1, 1, 8}, {{"block_size", 2}});
    EXPECT_EQ(k.run({counted({1, 2, 2, 2})}), (V{0, 1, 2, 3, 4, 5, 6, 7}));
  }
  {
    Made k;
    const int x = k.input({1, 2, 2, 2});
    k.op("MEAN", {x, k.ints({2}, {1, 2})}, {1, 2}, {{"keep_dims", 0}});
    EXPECT_EQ(k.run({counted({1, 2, 2, 2})}), (V{3, 4}));
  }
  {
    Made k;
    k.op("ARG_MAX", {k.input({1, 2, 3}), k.ints({1}, {-1})}, {1, 2}, {}, DType::i32);
    EXPECT_EQ(k.run({Tensor::of<float>({1, 2, 3}, std::vector<float>{1, 5, 2, 7, 0, 7})}), (V{1, 0}));
  }
  {
    Made k;
    const int x = k.input({2, 2});
    k.op("PACK", {x, x}, {2, 2, 2}, {{"axis", 1}});
    EXPECT_EQ(k.run({counted({2, 2})}), (V{0, 1, 0, 1, 2, 3, 2, 3}));
  }
  {
    Made k;
    k.op("REVERSE_V2", {k.input({2, 3}), k.ints({1}, {1})}, {2, 3});
    EXPECT_EQ(k.run({counted({2, 3})}), (V{2, 1, 0, 5, 4, 3}));
  }
}

TEST(TfliteOperators, WindowsAreTensorFlows) {
  {
    Made k;  // 3 positions, stride 2, SAME: the padding's odd one is behind
    const int x = k.input({1, 1, 4, 1});
    k.op("CONV_2D", {x, k.constant({1, 1, 3, 1}, {1, 10, 100}), k.constant({1}, {0.5})}, {1, 1, 2, 1}, {{"padding", 0}, {"stride_w", 2}, {"stride_h", 1}});
    EXPECT_EQ(k.run({counted({1, 1, 4, 1}, 1)}), (V{321.5, 43.5}));
  }
  {
    Made k;  // depthwise with multiplier 2: output channel c * 2 + m
    const int x = k.input({1, 1, 1, 2});
    k.op("DEPTHWISE_CONV_2D", {x, k.constant({1, 1, 1, 4}, {1, 2, 3, 4}), k.constant({4}, {0, 0, 0, 0})}, {1, 1, 1, 4}, {{"padding", 1}, {"stride_w", 1}, {"stride_h", 1}, {"depth_multiplier", 2}});
    EXPECT_EQ(k.run({counted({1, 1, 1, 2}, 10, 10)}), (V{10, 20, 60, 80}));
  }
  {
    Made k;  // an average that leaves padding out
    k.op("AVERAGE_POOL_2D", {k.input({1, 1, 3, 1})}, {1, 1, 2, 1}, {{"padding", 0}, {"stride_w", 2}, {"stride_h", 1}, {"filter_width", 2}, {"filter_height", 1}});
    EXPECT_EQ(k.run({counted({1, 1, 3, 1}, 1)}), (V{1.5, 3}));
  }
  {
    Made k;  // a zero padding becomes the convolution's own
    const int x = k.input({1, 1, 2, 1}), p = k.op("PAD", {x, k.ints({4, 2}, {0, 0, 0, 0, 1, 2, 0, 0})}, {1, 1, 5, 1});
    k.op("CONV_2D", {p, k.constant({1, 1, 2, 1}, {1, 10})}, {1, 1, 4, 1}, {{"padding", 1}, {"stride_w", 1}, {"stride_h", 1}});
    EXPECT_EQ(k.run({counted({1, 1, 2, 1}, 1)}), (V{10, 21, 2, 0}));
    const Graph g = tflite_float_graph(k.m);
    EXPECT_TRUE(std::none_of(g.nodes.begin(), g.nodes.end(), [](const Node& n) { return n.op == "Pad"; }));
  }
  {
    Made k;  // y[2 i + k] += x[i] w[k]
    const int x = k.input({1, 1, 2, 1});
    k.op("TRANSPOSE_CONV", {k.ints({4}, {1, 1, 5, 1}), k.constant({1, 1, 3, 1}, {1, 10, 100}), x}, {1, 1, 5, 1}, {{"padding", 1}, {"stride_w", 2}, {"stride_h", 1}});
    EXPECT_EQ(k.run({counted({1, 1, 2, 1}, 1)}), (V{1, 10, 102, 20, 200}));
  }
  {
    Made k;
    k.op("RESIZE_BILINEAR", {k.input({1, 1, 2, 1}), k.ints({2}, {1, 4})}, {1, 1, 4, 1}, {{"half_pixel_centers", 1}});
    EXPECT_EQ(k.run({counted({1, 1, 2, 1}, 0, 4)}), (V{0, 1, 3, 4}));
  }
  {
    Made k;
    k.op("RESIZE_NEAREST_NEIGHBOR", {k.input({1, 1, 4, 1}), k.ints({2}, {1, 3})}, {1, 1, 3, 1});
    EXPECT_EQ(k.run({counted({1, 1, 4, 1})}), (V{0, 1, 2}));
  }
}

TEST(TfliteOperators, ElementsAndMatrices) {
  {
    Made k;  // a per-channel operand beside an image that is channels first by then
    const int x = k.input({1, 1, 2, 2}), c = k.op("MAX_POOL_2D", {x}, {1, 1, 2, 2}, {{"padding", 1}, {"stride_w", 1}, {"stride_h", 1}, {"filter_width", 1}, {"filter_height", 1}});
    k.op("ADD", {c, k.constant({2}, {10, 20})}, {1, 1, 2, 2}, {{"fused_activation_function", 3}});
    EXPECT_EQ(k.run({counted({1, 1, 2, 2}, -12)}), (V{0, 6, 0, 6}));
  }
  {
    Made k;  // an image flattened and multiplied: rows in the file's order
    const int x = k.input({1, 2, 1, 2}), c = k.op("MAX_POOL_2D", {x}, {1, 2, 1, 2}, {{"padding", 1}, {"stride_w", 1}, {"stride_h", 1}, {"filter_width", 1}, {"filter_height", 1}});
    const int r = k.op("RESHAPE", {c, k.ints({2}, {-1, 4})}, {1, 4});
    k.op("FULLY_CONNECTED", {r, k.constant({2, 4}, {1, 10, 100, 1000, 0, 0, 1, 0})}, {1, 2});
    EXPECT_EQ(k.run({counted({1, 2, 1, 2}, 1)}), (V{4321, 3}));
  }
  {
    Made k;
    k.op("BATCH_MATMUL", {k.input({1, 1, 2}), k.constant({1, 2, 2}, {1, 2, 3, 4})}, {1, 1, 2}, {{"adj_y", 1}});
    EXPECT_EQ(k.run({counted({1, 1, 2}, 1)}), (V{5, 11}));
  }
  {
    Made k;
    k.op("RSQRT", {k.op("SQUARED_DIFFERENCE", {k.input({2}), k.constant({2}, {1, 1})}, {2})}, {2});
    EXPECT_EQ(k.run({counted({2}, 3, 2)}), (V{0.5, 0.25}));
  }
  {
    Made k;
    k.op("LEAKY_RELU", {k.input({2})}, {2}, {{"alpha", 0.25}});
    EXPECT_EQ(k.run({counted({2}, -4, 8)}), (V{-1, 4}));
  }
}

TEST(TfliteOperators, WhatHasNoFormIsRefusedByOperator) {
  const auto refusal = [](const Made& k) -> std::string {
    try {
      tflite_float_graph(k.m);
    } catch (const Error& e) {
      EXPECT_EQ(e.code(), Exit::bad_input) << e.full();
      return e.full();
    }
    return "read";
  };
  Made a;
  a.op("SVDF", {a.input({1, 4})}, {1, 4});
  EXPECT_NE(refusal(a).find("the operator SVDF has no form"), std::string::npos);
  EXPECT_NE(refusal(a).find("operator 0 (SVDF"), std::string::npos) << refusal(a);
  Made b;
  b.op("CONV_2D", {b.input({1, 4, 4, 3}), b.constant({1, 3, 3, 2}, std::vector<float>(18))}, {1, 2, 2, 1}, {{"padding", 1}, {"stride_w", 1}, {"stride_h", 1}});
  EXPECT_NE(refusal(b).find("weights of shape [1, 3, 3, 2] for 3 channels"), std::string::npos) << refusal(b);
  Made c;  // a shape that is computed
  c.op("TILE", {c.input({2}), c.input({1})}, {2});
  EXPECT_NE(refusal(c).find("is computed"), std::string::npos) << refusal(c);
  Made d;  // the file's shapes are wrong
  d.op("RELU", {d.input({2})}, {3});
  EXPECT_NE(refusal(d).find("the result has shape [2], the file says [3]"), std::string::npos) << refusal(d);
  Made e;
  e.op("CONV_2D", {e.input({1, 4, 4, 1}), e.constant({1, 3, 3, 1}, std::vector<float>(9))}, {1, 2, 2, 1}, {{"padding", 1}, {"stride_w", 0}, {"stride_h", 1}});
  EXPECT_NE(refusal(e).find("below 1"), std::string::npos) << refusal(e);
  Made f;
  f.op("ADD", {f.input({2}), 99}, {2});
  f.m.subgraphs[0].operators[0].inputs[1] = -1;
  EXPECT_NE(refusal(f).find("input 1 is missing"), std::string::npos) << refusal(f);
}

}  // namespace
}  // namespace tandem::ir
