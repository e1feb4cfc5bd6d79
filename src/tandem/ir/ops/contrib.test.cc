// onnxruntime's operators and attention against graphs of ONNX's own operators that mean the same.
#include <gtest/gtest.h>

#include <cmath>
#include <functional>

#include "tandem/ir/arrays.h"
#include "tandem/ir/exact.h"
#include "tandem/ir/ops/kit.h"

namespace tandem::ir {
namespace {

using Attrs = std::map<std::string, Attribute>;
using Ids = std::vector<ValueId>;

struct Build {
  Graph& g;
  const Node& n;
  ValueId in(std::size_t i) const { return n.in(i); }
  Shape shape(ValueId v) const {
    Shape s;
    for (const Dim& d : *g.values[static_cast<std::size_t>(v)].type.dims) s.push_back(d.n);
    return s;
  }
  ValueId operator()(const char* op, Ids inputs, Attrs attrs = {}) const { return g.add_node(op, std::move(inputs), std::move(attrs)); }
  ValueId ints(const Ints& v) const { return g.add_constant(g.unique_name("i"), Tensor::of<std::int64_t>({static_cast<std::int64_t>(v.size())}, v)); }
  ValueId number(double v, DType t = DType::f32) const {
    Tensor x(t, Shape{});
    x.set(0, v);
    return g.add_constant(g.unique_name("s"), std::move(x));
  }
};
// Random cases of an operator, as its literal makes them, beside the graph that `build` makes of the same inputs.
void compare(const char* domain, const char* name, double tolerance, const std::function<Ids(const Build&)>& build, int cases = 200) {
  const OpDef& op = *find_op(domain, name);
  int compared = 0;
  for (std::uint64_t seed = 0; seed < static_cast<std::uint64_t>(cases); ++seed) {
    Rng r(seed, name);
    Graph g;
    std::vector<Tensor> inputs;
    Sample s{r, g, inputs};
    op.sample(op, s);
    Graph h = g;
    const Node n = h.nodes.back();
    h.nodes.clear();
    h.outputs = build(Build{h, n});
    infer_shapes(g), infer_shapes(h);
    const std::vector<Tensor> y = evaluate_float(g, inputs), z = evaluate_float(h, inputs);
    for (std::size_t i = 0; i < std::min(y.size(), z.size()); ++i) {
      ASSERT_EQ(y[i].shape(), z[i].shape()) << name << " seed " << seed << " output " << i;
      ASSERT_EQ(y[i].dtype(), z[i].dtype()) << name << " seed " << seed << " output " << i;
      for (std::int64_t k = 0; k < y[i].size(); ++k) {
        if (y[i].at(k) == z[i].at(k) || (std::isnan(y[i].at(k)) && std::isnan(z[i].at(k)))) continue;
        ASSERT_NEAR(y[i].at(k), z[i].at(k), tolerance * (1 + std::abs(z[i].at(k)))) << name << " seed " << seed << " output " << i << " element " << k;
      }
      ++compared;
    }
  }
  EXPECT_GE(compared, cases);
}
constexpr const char* kMs = "com.microsoft";

TEST(Contrib, FloatOperators) {
  compare(kMs, "FusedMatMul", 1e-5, [](const Build& b) {
    const auto turn = [&](std::size_t i, const char* key) {
      if (!b.n.attr_int(key, 0)) return b.in(i);
      Ints perm(b.shape(b.in(i)).size());
      std::iota(perm.begin(), perm.end(), 0);
      std::swap(perm[perm.size() - 1], perm[perm.size() - 2]);
      return b("Transpose", {b.in(i)}, {{"perm", perm}});
    };
    return Ids{b("Mul", {b("MatMul", {turn(0, "transA"), turn(1, "transB")}), b.number(b.n.attr_float("alpha", 1))})};
  });
  compare(kMs, "Gelu", 1e-6, [](const Build& b) { return Ids{b("Gelu", {b.in(0)})}; });
  compare(kMs, "BiasGelu", 1e-6, [](const Build& b) { return Ids{b("Gelu", {b("Add", {b.in(0), b.in(1)})})}; });
  compare(kMs, "FastGelu", 1e-6, [](const Build& b) { return Ids{b("Gelu", {b.in(1) == kNone ? b.in(0) : b("Add", {b.in(0), b.in(1)})}, {{"approximate", std::string("tanh")}})}; });
  compare(kMs, "QuickGelu", 1e-6, [](const Build& b) { return Ids{b("Mul", {b.in(0), b("Sigmoid", {b("Mul", {b.in(0), b.number(b.n.attr_float("alpha", 0))})})})}; });
  const auto sum = [](const Build& b, std::size_t bias) {
    const ValueId s = b("Add", {b.in(0), b.in(1)});
    return b.in(bias) == kNone ? s : b("Add", {s, b.in(bias)});
  };
  compare(kMs, "SkipLayerNormalization", 1e-5, [&](const Build& b) {
    const ValueId s = sum(b, 4), y = b("LayerNormalization", {s, b.in(2), b.in(3)}, {{"epsilon", b.n.attr_float("epsilon", 0)}});
    const ValueId mean = b.g.add_value("mean"), inverse = b.g.add_value("inverse");
    b.g.nodes.back().outputs = {y, mean, inverse};
    return Ids{y, mean, inverse, s};
  });
  const auto root = [](const Build& b, ValueId s, Ints axes) {
    return b("Reciprocal", {b("Sqrt", {b("Add", {b("ReduceMean", {b("Mul", {s, s})}, {{"axes", axes}, {"keepdims", std::int64_t{1}}}), b.number(b.n.attr_float("epsilon", 0))})})});
  };
  compare(kMs, "SkipSimplifiedLayerNormalization", 1e-5, [&](const Build& b) {
    const ValueId s = sum(b, 3), f = root(b, s, {-1});
    return Ids{b("Mul", {b("Mul", {s, f}), b.in(2)}), b("Sub", {f, f}), f, s};
  });
  for (const char* domain : {"", kMs})
    compare(domain, "SimplifiedLayerNormalization", 1e-5, [&](const Build& b) {
      const std::int64_t axis = b.n.attr_int("axis", -1);
      const ValueId f = root(b, b.in(0), axis == 2 || axis == -1 ? Ints{2} : Ints{1, 2});
      return Ids{b("Mul", {b("Mul", {b.in(0), f}), b.in(1)}), f};
    });
  compare(kMs, "FusedConv", 1e-5, [](const Build& b) {
    ValueId y = b("Conv", {b.in(0), b.in(1), b.in(2)});
    if (b.in(3) != kNone) y = b("Add", {y, b.in(3)});
    const std::string a = b.n.attr_string("activation", "");
    std::vector<double> p;
    if (b.n.has_attr("activation_params")) p = std::get<std::vector<double>>(b.n.attrs.at("activation_params"));
    if (a == "Clip") return Ids{b("Clip", {y, b.number(p[0]), b.number(p[1])})};
    if (a == "LeakyRelu") return Ids{b(a.c_str(), {y}, {{"alpha", p[0]}})};
    if (a == "HardSigmoid") return Ids{b(a.c_str(), {y}, {{"alpha", p[0]}, {"beta", p[1]}})};
    return Ids{b(a.c_str(), {y})};
  });
}

// Dequantised, computed in f32 and quantised again: all scales are powers of two, so that only the sigmoid and the mean round on the way.
TEST(Contrib, QuantisedOperators) {
  const auto real = [](const Build& b, std::size_t i) {
    const DType t = b.g.values[static_cast<std::size_t>(b.in(i))].type.dtype;
    return b("DequantizeLinear", {b.in(i), b.in(i + 1), b.in(i + 2) == kNone ? b.number(0, t) : b.in(i + 2)});
  };
  const auto stored = [](const Build& b, ValueId y, std::size_t i, DType t) { return Ids{b("QuantizeLinear", {y, b.in(i), b.in(i + 1) == kNone ? b.number(0, t) : b.in(i + 1)})}; };
  const auto type = [](const Build& b) { return b.g.values[static_cast<std::size_t>(b.in(0))].type.dtype; };
  for (const auto& [name, plain] : {std::pair("QLinearAdd", "Add"), std::pair("QLinearMul", "Mul")})
    compare(kMs, name, 0, [&, op = plain](const Build& b) { return stored(b, b(op, {real(b, 0), real(b, 3)}), 6, type(b)); }, 400);
  compare(kMs, "QLinearLeakyRelu", 0, [&](const Build& b) { return stored(b, b("LeakyRelu", {real(b, 0)}, {{"alpha", 0.25}}), 3, type(b)); });
  compare(kMs, "QLinearSigmoid", 0, [&](const Build& b) { return stored(b, b("Sigmoid", {real(b, 0)}), 3, type(b)); });
  compare(kMs, "QLinearAveragePool", 0, [&](const Build& b) { return stored(b, b("AveragePool", {real(b, 0)}, {{"kernel_shape", Shape{2, 2}}, {"pads", Shape{1, 0, 0, 1}}}), 3, type(b)); });
  compare(kMs, "QLinearGlobalAveragePool", 0, [&](const Build& b) { return stored(b, b("GlobalAveragePool", {real(b, 0)}), 3, type(b)); });
  compare(kMs, "QLinearConcat", 0, [&](const Build& b) {
    Ids parts;
    for (std::size_t i = 2; i < b.n.inputs.size(); i += 3) parts.push_back(real(b, i));
    return stored(b, b("Concat", parts, {{"axis", b.n.attr_int("axis", 0)}}), 0, DType::u8);
  });
}

// [batch, length, heads * size] as [batch, heads, length, size].
ValueId split(const Build& b, ValueId x, Shape s, std::int64_t heads) {
  if (s.size() == 4) return x;
  return b("Transpose", {b("Reshape", {x, b.ints({s[0], s[1], heads, s[2] / heads})})}, {{"perm", Ints{0, 2, 1, 3}}});
}
ValueId bias_of(const Build& b, std::int64_t rows, std::int64_t columns, const std::function<double(std::int64_t, std::int64_t)>& f) {
  Tensor t(DType::f32, {rows, columns});
  for (std::int64_t i = 0; i < rows; ++i)
    for (std::int64_t j = 0; j < columns; ++j) t.set(i * columns + j, f(i, j));
  return b.g.add_constant(b.g.unique_name("bias"), std::move(t));
}

TEST(Attention, AsAGraphOfMatMulAndSoftmax) {
  compare("", "Attention", 1e-5, [](const Build& b) {
    const Shape q = b.shape(b.in(0)), k = b.shape(b.in(1)), v = b.shape(b.in(2));
    const bool joined = q.size() == 3;
    const std::int64_t H = joined ? b.n.attr_int("q_num_heads", 0) : q[1], kv = joined ? b.n.attr_int("kv_num_heads", 0) : k[1], B = q[0], L = joined ? q[1] : q[2], D = joined ? q[2] / H : q[3], E = joined ? v[2] / kv : v[3];
    const ValueId Q = split(b, b.in(0), q, H);
    ValueId K = split(b, b.in(1), k, kv), V = split(b, b.in(2), v, kv);
    std::int64_t past = 0;
    if (b.in(4) != kNone) past = b.shape(b.in(4))[2], K = b("Concat", {b.in(4), K}, {{"axis", std::int64_t{2}}}), V = b("Concat", {b.in(5), V}, {{"axis", std::int64_t{2}}});
    const std::int64_t T = past + L;
    const auto repeat = [&](ValueId x, std::int64_t size) {
      return b("Reshape", {b("Expand", {b("Reshape", {x, b.ints({B, kv, 1, T, size})}), b.ints({B, kv, H / kv, T, size})}), b.ints({B, H, T, size})});
    };
    const ValueId products = b("Mul", {b("MatMul", {Q, b("Transpose", {repeat(K, D)}, {{"perm", Ints{0, 1, 3, 2}}})}), b.number(b.n.attr_float("scale", 1 / std::sqrt(static_cast<double>(D))))});
    ValueId capped = products;
    if (const double c = b.n.attr_float("softcap", 0); c > 0) capped = b("Mul", {b("Tanh", {b("Div", {products, b.number(c)})}), b.number(c)});
    ValueId masked = b.in(3) == kNone ? capped : b("Add", {capped, b.in(3)});
    if (b.n.attr_int("is_causal", 0)) masked = b("Add", {masked, bias_of(b, L, T, [&](auto i, auto j) { return j > i + past ? -INFINITY : 0; })});
    const ValueId weights = b("Softmax", {masked}, {{"axis", std::int64_t{-1}}});
    ValueId y = b("MatMul", {weights, repeat(V, E)});
    if (joined) y = b("Reshape", {b("Transpose", {y}, {{"perm", Ints{0, 2, 1, 3}}}), b.ints({B, L, H * E})});
    const ValueId scores[] = {products, capped, masked, weights};
    return Ids{y, b("Identity", {K}), b("Identity", {V}), b("Identity", {scores[b.n.attr_int("qk_matmul_output_mode", 0)]})};
  }, 400);
}

TEST(Attention, MultiHeadAsAGraph) {
  compare(kMs, "MultiHeadAttention", 1e-5, [](const Build& b) {
    const std::int64_t H = b.n.attr_int("num_heads", 0);
    std::int64_t first = 0;
    const auto part = [&](std::size_t i) {
      const Shape s = b.shape(b.in(i));
      ValueId x = b.in(i);
      if (b.in(3) != kNone) x = b("Add", {x, b("Slice", {b.in(3), b.ints({first}), b.ints({first + s[2]})})});
      first += s[2];
      return split(b, x, s, H);
    };
    const ValueId Q = part(0), K = part(1), V = part(2);
    const Shape q = b.shape(b.in(0)), v = b.shape(b.in(2));
    const std::int64_t B = q[0], L = q[1], T = v[1];
    ValueId s = b("Mul", {b("MatMul", {Q, b("Transpose", {K}, {{"perm", Ints{0, 1, 3, 2}}})}), b.number(1 / std::sqrt(static_cast<double>(q[2] / H)))});
    if (b.in(5) != kNone) s = b("Add", {s, b.in(5)});
    if (b.in(4) != kNone) {
      ValueId seen = b.in(4);
      if (b.shape(seen).size() == 1) seen = b("Cast", {b("Less", {b("Cast", {bias_of(b, 1, T, [](auto, auto j) { return j; })}, {{"to", std::int64_t{6}}}), b("Unsqueeze", {seen, b.ints({1})})})}, {{"to", std::int64_t{6}}});
      const ValueId f = b("Mul", {b("Sub", {b.number(1), b("Cast", {seen}, {{"to", std::int64_t{1}}})}), b.number(b.n.attr_float("mask_filter_value", 0))});
      s = b("Add", {s, b("Reshape", {f, b.ints({B, 1, 1, T})})});
    }
    if (b.n.attr_int("unidirectional", 0)) s = b("Add", {s, bias_of(b, L, T, [&](auto i, auto j) { return j > i ? b.n.attr_float("mask_filter_value", 0) : 0; })});
    const ValueId y = b("MatMul", {b("Softmax", {s}, {{"axis", std::int64_t{-1}}}), V});
    return Ids{b("Reshape", {b("Transpose", {y}, {{"perm", Ints{0, 2, 1, 3}}}), b.ints({B, L, v[2]})}), b("Identity", {K}), b("Identity", {V})};
  }, 400);
}

}  // namespace
}  // namespace tandem::ir
