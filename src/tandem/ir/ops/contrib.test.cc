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

TEST(Contrib, QuantisedProducts) {
  const auto number = [](const Build& b, std::size_t i, DType t) { return b.in(i) == kNone ? b.number(0, t) : b.in(i); };
  // (B - zero) * scale by columns.
  const auto columns = [](const Build& b, ValueId x, ValueId scale, ValueId zero) {
    const ValueId whole = b("Cast", {x}, {{"to", std::int64_t{1}}});
    return b("Mul", {zero == kNone ? whole : b("Sub", {whole, b("Cast", {zero}, {{"to", std::int64_t{1}}})}), scale});
  };
  const auto biased = [](const Build& b, ValueId y, std::size_t i) { return Ids{b.in(i) == kNone ? y : b("Add", {y, b.in(i)})}; };
  compare(kMs, "MatMulIntegerToFloat", 1e-5, [&](const Build& b) {
    return biased(b, b("MatMul", {b("DequantizeLinear", {b.in(0), b.in(2), number(b, 4, DType::u8)}), columns(b, b.in(1), b.in(3), b.in(5))}), 6);
  });
  compare(kMs, "DynamicQuantizeMatMul", 1e-5, [&](const Build& b) {
    const ValueId a = b("DynamicQuantizeLinear", {b.in(0)}), scale = b.g.add_value("scale"), zero = b.g.add_value("zero", {DType::u8, std::nullopt});
    b.g.nodes.back().outputs = {a, scale, zero};
    return biased(b, b("MatMul", {b("DequantizeLinear", {a, scale, zero}), columns(b, b.in(1), b.in(2), b.in(3))}), 4);
  });
  compare(kMs, "QGemm", 0, [&](const Build& b) {  // powers of two: everything before the quotient is exact
    const ValueId c = b.in(6) == kNone ? kNone : b("Mul", {b("Cast", {b.in(6)}, {{"to", std::int64_t{1}}}), b.number(0.125 * 0.25 * 0.5)});
    const ValueId acc = b("Gemm", {b("DequantizeLinear", {b.in(0), b.in(1), b.in(2)}), b("DequantizeLinear", {b.in(3), b.in(4), b.in(5)}), c},
                          {{"alpha", 0.5}, {"transA", b.n.attr_int("transA", 0)}, {"transB", b.n.attr_int("transB", 0)}});
    return Ids{b.in(7) == kNone ? acc : b("QuantizeLinear", {acc, b.in(7), b.in(8)})};
  });
  compare(kMs, "NhwcMaxPool", 0, [](const Build& b) {
    return Ids{b("Transpose", {b("MaxPool", {b("Transpose", {b.in(0)}, {{"perm", Ints{0, 3, 1, 2}}})}, b.n.attrs)}, {{"perm", Ints{0, 2, 3, 1}}})};
  });
  // Codes unpacked by dividing: those of a byte are its digits of base 2^bits, the lowest first.
  compare(kMs, "MatMulNBits", 1e-5, [&](const Build& b) {
    const std::int64_t K = b.n.attr_int("K", 0), N = b.n.attr_int("N", 0), bits = b.n.attr_int("bits", 0), block = b.n.attr_int("block_size", 0), blocks = (K + block - 1) / block, base = std::int64_t{1} << bits, each = 8 / bits;
    const auto digits = [&](const Tensor& t, std::int64_t bytes) {  // [N][bytes * each]
      std::vector<Ints> rows;
      for (std::int64_t n = 0; n < N; ++n) {
        rows.emplace_back();
        for (std::int64_t i = 0; i < bytes; ++i)
          for (std::int64_t k = 0, rest = t.int_at(n * bytes + i); k < each; ++k, rest /= base) rows.back().push_back(rest % base);
      }
      return rows;
    };
    const Tensor codes = *b.g.constant(b.in(1)), scale = *b.g.constant(b.in(2));
    const std::vector<Ints> code = digits(codes, blocks * block * bits / 8);
    const Tensor* zero = b.in(3) == kNone ? nullptr : b.g.constant(b.in(3));
    std::vector<Ints> packed;
    if (zero && zero->dtype() == DType::u8) packed = digits(*zero, (blocks * bits + 7) / 8);
    Tensor w(DType::f32, {K, N});
    for (std::int64_t n = 0; n < N; ++n)
      for (std::int64_t k = 0; k < K; ++k) {
        const std::int64_t at = k / block;
        const double z = !zero ? static_cast<double>(base) / 2 : packed.empty() ? zero->at(n * blocks + at) : static_cast<double>(packed[static_cast<std::size_t>(n)][static_cast<std::size_t>(at)]);
        w.set(k * N + n, (static_cast<double>(code[static_cast<std::size_t>(n)][static_cast<std::size_t>(k)]) - z) * scale.at(n * blocks + at));
      }
    return biased(b, b("MatMul", {b.in(0), b.g.add_constant("weights", std::move(w))}), 5);
  });
}

TEST(Contrib, Refusals) {
  const auto expect = [](const char* op, const Attrs& attrs, const std::vector<Tensor>& in, std::string_view part) {
    Graph g;
    Ids ids;
    for (const Tensor& t : in) ids.push_back(g.add_input(g.unique_name("x"), t.dtype(), dims_of(t.shape())));
    g.outputs = {g.add_node(op, ids, attrs, "probe", kMs)};
    try {
      verify(g);
      infer_shapes(g);
      evaluate_float(g, in);
      ADD_FAILURE() << "accepted: " << part;
    } catch (const Error& e) {
      EXPECT_EQ(e.code(), Exit::bad_input);
      EXPECT_NE(e.full().find(part), std::string::npos) << e.full();
      EXPECT_NE(e.full().find("probe"), std::string::npos) << e.full();
    }
  };
  const Tensor x(DType::f32, {2, 3}), y(DType::f32, {4}), u(DType::u8, {2, 3}), i(DType::i8, {3, 2}), zero(DType::u8, Shape{}), one = Tensor::scalar(1.f), image(DType::f32, {1, 1, 3, 3}), taps(DType::f32, {1, 1, 2, 2});
  expect("FusedMatMul", {}, {x, x}, "inner extents");
  expect("FusedMatMul", {{"transBatchA", std::int64_t{1}}}, {x, x}, "transBatchA is 1");
  expect("BiasGelu", {}, {x, y}, "a bias [4]");
  expect("SkipLayerNormalization", {}, {x, x, y}, "4 elements for 3 columns");
  expect("SkipLayerNormalization", {}, {x, y, y}, "do not broadcast");
  expect("FusedConv", {{"activation", std::string("Sine")}}, {image, taps}, "'Sine'");
  expect("FusedConv", {{"activation", std::string("Clip")}, {"activation_params", std::vector<double>{1}}}, {image, taps}, "1 activation_params");
  expect("QLinearAdd", {}, {x, one, zero, u, one, zero, one}, "input 0 holds f32");
  expect("QLinearSigmoid", {}, {u, one, zero, Tensor::scalar(0.f)}, "a scale of 0");
  expect("QLinearGlobalAveragePool", {{"channels_last", std::int64_t{1}}}, {u, one, zero, one}, "channels_last is 1");
  expect("QLinearConcat", {{"axis", std::int64_t{0}}}, {one, zero, u, one}, "4 inputs");
  expect("QGemm", {}, {u, one, zero, u, one, zero}, "inner extents 3 and 2");
  expect("MatMulIntegerToFloat", {}, {u, i, one, y}, "for an axis of 2");
  const auto bits = [&](const char* key, std::int64_t v, std::string_view part) {
    Attrs a{{"K", std::int64_t{3}}, {"N", std::int64_t{1}}, {"bits", std::int64_t{4}}, {"block_size", std::int64_t{16}}};
    a[key] = v;
    expect("MatMulNBits", a, {x, Tensor(DType::u8, {1, 1, 8}), Tensor(DType::f32, {1, 1})}, part);
  };
  bits("bits", 3, "bits is 3");
  bits("block_size", 12, "block_size is 12");
  bits("K", 4, "K is 4");
  bits("N", 2, "B is");
  bits("N", 0, "N is 0");
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
