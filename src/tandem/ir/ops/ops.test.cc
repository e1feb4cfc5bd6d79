// Properties that every operator literal must have, on random graphs; known answers on small cases.
#include <gtest/gtest.h>

#include <cmath>
#include <set>

#include "tandem/ir/arrays.h"
#include "tandem/ir/dump.h"
#include "tandem/ir/exact.h"
#include "tandem/ir/onnx.h"
#include "tandem/ir/op.h"
#include "tandem/ir/ops/kit.h"
#include "tandem/ir/random_graph.h"

namespace tandem::ir {
namespace {

// Runs an Einsum as it is written: loops over the ranks, operands read through their access functions.
// Operand indices outside the operand read 0 (add) or are skipped (max).
std::vector<Rational> interpret(const Einsum& e, const std::vector<Array<Rational>>& in, const Shape& out) {
  std::vector<Rational> y(static_cast<std::size_t>(element_count(out)));
  std::vector<bool> set(y.size());
  std::vector<std::int64_t> at(e.ranks.size());
  auto flat = [&](const Access& a, const Shape& s, std::int64_t& index) {
    index = 0;
    if (a.indices.size() != s.size()) return false;
    for (std::size_t d = 0; d < s.size(); ++d) {
      std::int64_t i = a.indices[d].offset;
      for (auto& t : a.indices[d].terms) i += t.coefficient * at[static_cast<std::size_t>(t.rank)];
      if (i < 0 || i >= s[d]) return false;
      index = index * s[d] + i;
    }
    return true;
  };
  for (std::int64_t n = e.iterations(), k = 0; k < n; ++k) {
    std::int64_t rest = k;
    for (std::size_t r = e.ranks.size(); r-- > 0;) {
      at[r] = rest % e.ranks[r].extent;
      rest /= e.ranks[r].extent;
    }
    Rational v = 1;
    bool inside = true;
    for (std::size_t i = 0; i < e.inputs.size(); ++i) {
      std::int64_t x;
      if (flat(e.inputs[i], in[i].shape, x)) v *= in[i].v[static_cast<std::size_t>(x)];
      else inside = false;
    }
    if (!inside) continue;
    std::int64_t o;
    if (!flat(e.output, out, o)) continue;  // a transposed convolution crops its output
    auto& acc = y[static_cast<std::size_t>(o)];
    if (e.reduce == "max") acc = set[static_cast<std::size_t>(o)] ? std::max(acc, v) : v;
    else acc += v;
    set[static_cast<std::size_t>(o)] = true;
  }
  return y;
}

// Every node of random graphs: executed shape == inferred shape; rational and float evaluators agree; the
// Einsum of contractions and pooling, run as it is written, gives the evaluator's result.
TEST(Ops, PropertiesOnRandomGraphs) {
  std::set<std::string> seen, einsums;
  for (std::uint64_t seed = 0; seed < 250; ++seed) {
    RandomGraph r = random_graph({}, 70'000 + seed);
    Graph g = prepare(r.graph);
    std::vector<LiteralValue> all;
    evaluate_literal(g, r.inputs, nullptr, &all);
    for (const Node& n : g.nodes) {
      const OpDef& op = op_of(g, n);
      seen.insert(n.op);
      const Dims& d = *g.values[static_cast<std::size_t>(n.outputs[0])].type.dims;
      const LiteralValue& y = all[static_cast<std::size_t>(n.outputs[0])];
      ASSERT_EQ(dims_of(y.shape), d) << g.describe(n) << " seed " << seed;
      if (!op.eval.as_rational || op.closure == Closure::state || op.closure == Closure::quantiser) continue;
      std::vector<Array<Rational>> q(n.inputs.size());
      std::vector<Array<double>> f(n.inputs.size());
      std::vector<Array<Rational>> yq(1);
      std::vector<Array<double>> yf(1);
      EvalArgs<Rational> eq{g, n, {}, yq};
      EvalArgs<double> ef{g, n, {}, yf};
      double largest = 0;
      for (std::size_t i = 0; i < n.inputs.size(); ++i) {
        if (n.inputs[i] != kNone) {
          const LiteralValue& x = all[static_cast<std::size_t>(n.inputs[i])];
          q[i].shape = f[i].shape = x.shape;
          for (std::size_t k = 0; k < (x.exact ? x.q.size() : x.f.size()); ++k) {
            double v = x.exact ? nearest_double(x.q[k]) : x.f[k];
            q[i].v.push_back(exact(v));
            f[i].v.push_back(v);
            largest = std::max(largest, std::abs(v));
          }
        }
        eq.in.push_back(n.inputs[i] == kNone ? nullptr : &q[i]);
        ef.in.push_back(n.inputs[i] == kNone ? nullptr : &f[i]);
      }
      op.eval.as_rational(eq);
      op.eval.as_double(ef);
      // Double rounding of at most a few hundred operations on numbers of this size.
      double bound = 1e-12 * (1 + largest * largest * 100);
      if (n.op != "ArgMax")  // its result jumps at ties
        for (std::size_t k = 0; k < yq[0].v.size(); ++k) ASSERT_NEAR(nearest_double(yq[0].v[k]), yf[0].v[k], bound) << g.describe(n) << " seed " << seed;
      static const std::set<std::string> contractions{"Conv", "MatMul", "Gemm", "MaxPool", "AveragePool", "GlobalAveragePool"};
      if (!contractions.count(n.op)) continue;
      Einsum e = op.einsum(g, n);
      std::vector<Array<Rational>> operands{q[0]};
      if (e.inputs.size() > 1) operands.push_back(q[1]);
      Shape out = yq[0].shape;
      if (n.op == "MatMul") {  // its Einsum names one batch rank
        MatMulShape s = matmul_shape(g, n, q[0].shape, q[1].shape);
        if (q[1].shape.size() != 2) continue;
        operands[0].shape = {element_count(s.batch), s.n, s.k};
        out = {element_count(s.batch), s.n, s.m};
      }
      auto z = interpret(e, operands, out);
      einsums.insert(n.op);
      std::vector<std::int64_t> counts;
      if (n.op == "AveragePool") {
        counts = window_counts(g, n, windows_of(g, n, spatial(q[0].shape), n.attr_ints("kernel_shape", {})), spatial(q[0].shape));
      }
      for (std::size_t k = 0; k < z.size(); ++k) {
        Rational want = yq[0].v[k];
        if (n.op == "AveragePool") want *= Rational(counts[k % counts.size()]);
        if (n.op == "GlobalAveragePool") want *= Rational(q[0].shape[2] * q[0].shape[3]);
        if (n.op == "Conv" && n.in(2) != kNone) want -= q[2].v[k / static_cast<std::size_t>(out[2] * out[3]) % static_cast<std::size_t>(out[1])];
        if (n.op == "Gemm") {
          if (n.in(2) != kNone) want -= q[2].v[k % q[2].v.size()];
          want /= exact(n.attr_float("alpha", 1));
        }
        ASSERT_EQ(z[k], want) << g.describe(n) << " seed " << seed << " element " << k << "\n" << e.text();
      }
    }
  }
  for (const char* op : {"Conv", "MatMul", "Gemm", "MaxPool", "AveragePool", "GlobalAveragePool"}) EXPECT_TRUE(einsums.count(op)) << op;
  for (const char* op : {"Add", "Sub", "Mul", "Div", "Pow", "BatchNormalization", "Relu", "Clip", "Flatten", "Reshape", "Transpose", "Gather",
                         "Concat", "ArgMax", "Softmax", "Identity", "Dropout", "Quant", "BipolarQuant", "Threshold", "Squeeze", "Unsqueeze"})
    EXPECT_TRUE(seen.count(op)) << op << " was never drawn";
}

// Every operator that samples itself, on random cases: verified, executed shape == inferred shape, and exported and imported it says the
// same and computes the same.
TEST(Ops, PropertiesOfEverySample) {
  int drawn = 0;
  for (const OpDef* o : all_ops()) {
    if (!o->sample) continue;
    for (std::uint64_t seed = 0; seed < 40; ++seed) {
      Rng r(seed, o->name);
      Graph g;
      std::vector<Tensor> inputs;
      Sample s{r, g, inputs};
      o->sample(*o, s);
      const std::string where = fmt::format("{} seed {}", o->name, seed);
      try {
        verify(g);
        const Graph plain = g;
        infer_shapes(g);
        const std::vector<Tensor> y = evaluate_float(g, inputs);
        ASSERT_EQ(y.size(), g.outputs.size());
        for (std::size_t i = 0; i < y.size(); ++i) {
          const TensorType& t = g.values[static_cast<std::size_t>(g.outputs[i])].type;
          EXPECT_EQ(t.dtype, y[i].dtype()) << where;
          if (!t.dims) continue;
          ASSERT_EQ(t.dims->size(), y[i].shape().size()) << where;
          for (std::size_t d = 0; d < t.dims->size(); ++d)
            if ((*t.dims)[d].known()) EXPECT_EQ((*t.dims)[d].n, y[i].shape()[d]) << where << " axis " << d;
        }
        Graph back = parse_onnx(onnx_bytes(g));
        EXPECT_EQ(first_difference(g, back), "") << where;
        infer_shapes(back);
        const std::vector<Tensor> z = evaluate_float(back, inputs);
        for (std::size_t i = 0; i < y.size(); ++i) EXPECT_TRUE(y[i].same(z[i])) << where;
        ++drawn;
      } catch (const Error& e) {
        ADD_FAILURE() << where << ": " << e.full() << "\n" << to_text(g);
        break;
      }
    }
  }
  EXPECT_GT(drawn, 40 * 60);
}

// Every literal says what it is.
TEST(Ops, LiteralsAreComplete) {
  std::set<std::pair<std::string_view, std::string_view>> names;
  for (const OpDef* o : all_ops()) {
    EXPECT_TRUE(names.insert({o->domain, o->name}).second) << o->name;
    EXPECT_FALSE(o->summary.empty()) << o->name;
    EXPECT_FALSE(o->doc.empty()) << o->name;
    EXPECT_FALSE(o->source.empty()) << o->name;
    EXPECT_FALSE(o->outputs.empty()) << o->name;
    EXPECT_NE(o->infer, nullptr) << o->name;
    EXPECT_NE(o->eval.as_double, nullptr) << o->name;
    if (o->closure != Closure::open && o->domain != "tandem") {
      EXPECT_NE(o->eval.as_rational, nullptr) << o->name;
    }
  }
}

// The Einsum of windows over one to three axes and of labelled sums, run as it is written, gives the evaluator's result.
TEST(Ops, EinsumOfEverySample) {
  for (const char* name : {"Conv", "ConvTranspose", "MaxPool", "GlobalAveragePool", "GlobalMaxPool", "Einsum"})
    for (std::uint64_t seed = 0; seed < 60; ++seed) {
      Rng r(seed, name);
      Graph g;
      std::vector<Tensor> inputs;
      Sample s{r, g, inputs};
      const OpDef& op = *find_op("", name);
      op.sample(op, s);
      infer_shapes(g);
      const Node& n = g.nodes.back();
      std::vector<Array<Rational>> q;
      std::vector<Array<double>> f;
      std::size_t input = 0;
      for (ValueId v : n.inputs) {
        const Tensor& t = g.constant(v) ? *g.constant(v) : inputs.at(input++);
        q.push_back(exact_array_of(t)), f.push_back(array_of(t));
      }
      std::vector<Array<double>> y(n.outputs.size());
      EvalArgs<double> e{g, n, {}, y};
      for (const Array<double>& a : f) e.in.push_back(&a);
      op.eval.as_double(e);
      const Einsum sum = op.einsum(g, n);
      const bool biased = n.op.starts_with("Conv") && q.size() > 2;
      const Array<Rational> bias = biased ? q[2] : Array<Rational>();
      if (biased) q.pop_back();
      const std::vector<Rational> z = interpret(sum, q, y[0].shape);
      const std::int64_t inner = n.op == "Einsum" ? 1 : element_count(spatial(y[0].shape));
      for (std::size_t k = 0; k < z.size(); ++k) {
        Rational want = z[k];
        if (biased) want += bias.v[k / static_cast<std::size_t>(inner) % bias.v.size()];
        if (n.op == "GlobalAveragePool") want /= Rational(static_cast<long>(element_count(spatial(q[0].shape))));
        ASSERT_NEAR(nearest_double(want), y[0].v[k], 1e-12) << g.describe(n) << " seed " << seed << " element " << k << "\n" << sum.text();
      }
    }
}

// Windows over one axis are closed over exact values: the carrier, which sees two axes, against one rational per element.
TEST(Ops, OneAxisIsExact) {
  for (std::uint64_t seed = 0; seed < 80; ++seed) {
    Rng r(seed, "one axis");
    Graph g;
    const auto quant = [&](ValueId v, float scale) {
      return g.add_node("Quant", {v, g.add_constant(g.unique_name("s"), Tensor::scalar(scale)), g.add_constant(g.unique_name("z"), Tensor::scalar(0.0f)), g.add_constant(g.unique_name("b"), Tensor::scalar(4.0f))},
                        {}, "", "qonnx.custom_op.general");
    };
    std::vector<Tensor> inputs;
    Sample s{r, g, inputs};
    const std::int64_t c = r.range(1, 3), k = r.range(1, 3), o = r.range(1, 3);
    ValueId x = quant(s.input({2, c, r.range(4, 9)}), 0.25f);
    using Shape1 = std::vector<std::int64_t>;
    x = g.add_node("Conv", {x, quant(s.constant({o, c, k}, -1, 1), 0.125f), s.constant({o}, -1, 1)}, {{"strides", Shape1{r.range(1, 2)}}, {"pads", Shape1{r.range(0, 2), r.range(0, 2)}}});
    x = quant(g.add_node("Relu", {x}), 0.5f);
    const std::int64_t pool = r.range(0, 2);
    if (pool == 2) x = g.add_node("GlobalAveragePool", {x});
    else x = g.add_node(pool ? "MaxPool" : "AveragePool", {x}, {{"kernel_shape", Shape1{2}}, {"auto_pad", std::string("SAME_UPPER")}});
    g.outputs = {quant(x, 0.25f)};
    infer_shapes(g);
    const Graph p = prepare(g);
    const ExactProgram program = lower_exact(g);
    EXPECT_TRUE(program.host_nodes.empty()) << program.host_nodes.front();
    const std::vector<Tensor> literal = to_tensors(g, evaluate_literal(g, inputs)), carrier = evaluate_carrier(program, inputs);
    ASSERT_TRUE(literal[0].same(carrier[0])) << seed << "\n" << to_text(p);
  }
}

// Without displacement a deformable convolution is one; displaced by half an element it is one of the mean of neighbours.
TEST(Ops, DeformConvAgainstConv) {
  for (std::uint64_t seed = 0; seed < 40; ++seed) {
    Rng r(seed, "deform");
    const std::int64_t C = r.range(1, 3), O = r.range(1, 3), H = r.range(3, 6), W = r.range(3, 6), pad = r.range(0, 1), stride = r.range(1, 2);
    const bool half = r.chance(0.5);
    Graph g;
    std::vector<Tensor> inputs;
    Sample s{r, g, inputs};
    const ValueId x = s.input({1, C, H, W}), w = s.constant({O, C, 2, 2}, -1, 1), b = s.constant({O}, -1, 1);
    const std::map<std::string, Attribute> attrs{{"pads", Shape(4, pad)}, {"strides", Shape(2, stride)}};
    const std::int64_t P = (H + 2 * pad - 2) / stride + 1, Q = (W + 2 * pad - 2) / stride + 1;
    Tensor offset(DType::f32, {1, 8, P, Q});
    for (std::int64_t i = 0; i < offset.size(); ++i) offset.set(i, half && i / (P * Q) % 2 == 1 ? 0.5 : 0);  // along the width
    const ValueId shift = g.add_constant("offset", offset);
    const ValueId y = g.add_node("DeformConv", {x, w, shift, b}, attrs);
    const ValueId plain = s.input({1, C, H, W});
    const ValueId z = g.add_node("Conv", {plain, w, b}, attrs);
    g.outputs = {y, z};
    infer_shapes(g);
    inputs[1] = inputs[0];
    if (half) {
      // Outside both are 0, so the mean lives on one element more to the left: compared away from that border only.
      for (std::int64_t i = 0; i < C * H; ++i)
        for (std::int64_t j = 0; j < W; ++j) inputs[1].set(i * W + j, (inputs[0].at(i * W + j) + (j + 1 < W ? inputs[0].at(i * W + j + 1) : 0)) / 2);
    }
    const std::vector<Tensor> t = evaluate_float(g, inputs);
    ASSERT_EQ(t[0].shape(), t[1].shape());
    for (std::int64_t i = 0; i < t[0].size(); ++i)
      if (!half || pad == 0 || i % Q != 0) ASSERT_NEAR(t[0].at(i), t[1].at(i), 1e-5) << seed << " element " << i;
  }
}

Tensor run_float(Graph& g, Tensor x) {
  infer_shapes(g);
  return evaluate_float(g, {std::move(x)})[0];
}

TEST(Ops, MaxPoolCeilMode) {
  Graph g;
  ValueId x = g.add_input("x", DType::f32, {Dim(1), Dim(1), Dim(4), Dim(4)});
  g.outputs = {g.add_node("MaxPool", {x}, {{"kernel_shape", std::vector<std::int64_t>{3, 3}}, {"strides", std::vector<std::int64_t>{2, 2}}, {"ceil_mode", std::int64_t{1}}})};
  std::vector<float> v(16);
  for (int i = 0; i < 16; ++i) v[static_cast<std::size_t>(i)] = static_cast<float>(i + 1);
  Tensor y = run_float(g, Tensor::of<float>({1, 1, 4, 4}, v));
  EXPECT_EQ(y.shape(), (Shape{1, 1, 2, 2}));
  std::vector<float> want{11, 12, 15, 16};  // ONNX's example maxpool_2d_ceil
  EXPECT_TRUE(y.same(Tensor::of<float>({1, 1, 2, 2}, want)));
}

TEST(Ops, AveragePoolCountsPaddingOnlyWhenAsked) {
  for (std::int64_t include : {0, 1}) {
    Graph g;
    ValueId x = g.add_input("x", DType::f32, {Dim(1), Dim(1), Dim(2), Dim(2)});
    g.outputs = {g.add_node("AveragePool", {x}, {{"kernel_shape", std::vector<std::int64_t>{2, 2}}, {"pads", std::vector<std::int64_t>{1, 1, 0, 0}},
                                                 {"count_include_pad", include}})};
    std::vector<float> v{1, 2, 3, 4};
    Tensor y = run_float(g, Tensor::of<float>({1, 1, 2, 2}, v));
    std::vector<float> want = include ? std::vector<float>{0.25f, 0.75f, 1.f, 2.5f} : std::vector<float>{1, 1.5f, 2, 2.5f};
    EXPECT_TRUE(y.same(Tensor::of<float>({1, 1, 2, 2}, want))) << include;
  }
}

TEST(Ops, BatchNormFactorIsCorrectlyRounded) {
  EXPECT_EQ(batchnorm_factor(3.f, 4.f, 0.f), 1.5f);
  EXPECT_EQ(batchnorm_factor(-1.f, 0.25f, 0.f), -2.f);
  // Against twice the precision and more of a double: gamma^2 / v lies between the squares of the
  // neighbouring midpoints.
  Rng r(5, "bn");
  for (int i = 0; i < 2000; ++i) {
    float gamma = static_cast<float>(r.normal()), var = static_cast<float>(r.uniform() * 5 + 1e-4), eps = 1e-5f;
    if (gamma == 0) continue;
    float a = std::abs(batchnorm_factor(gamma, var, eps));
    Rational square = exact(gamma) * exact(gamma) / (exact(var) + exact(eps));
    Rational lo = (exact(std::nextafter(a, 0.f)) + exact(a)) / 2, hi = (exact(a) + exact(std::nextafter(a, INFINITY))) / 2;
    EXPECT_LE(lo * lo, square);
    EXPECT_GE(hi * hi, square);
  }
}

TEST(Ops, ShapeArithmeticFolds) {
  // Shape -> Gather -> Concat -> Reshape, as exporters write a flatten, becomes a plain Reshape.
  Graph g;
  ValueId x = g.add_input("x", DType::f32, {Dim("batch"), Dim(3), Dim(2), Dim(2)});
  auto ints = [&](std::vector<std::int64_t> v) { return g.add_constant(g.unique_name("i"), Tensor::of<std::int64_t>({static_cast<std::int64_t>(v.size())}, v)); };
  ValueId s = g.add_node("Shape", {x});
  ValueId n = g.add_node("Gather", {s, ints({0})});
  ValueId shape = g.add_node("Concat", {n, ints({-1})}, {{"axis", std::int64_t{0}}});
  g.outputs = {g.add_node("Reshape", {x, shape})};
  Graph b = prepare(bind(g, {{"batch", 5}}));
  ASSERT_EQ(b.nodes.size(), 1u) << to_text(b);
  EXPECT_EQ(*b.values[static_cast<std::size_t>(b.outputs[0])].type.dims, (Dims{Dim(5), Dim(12)}));
}

TEST(Ops, ErrorsNameTheNode) {
  auto expect = [](auto build, std::string_view part) {
    Graph g;
    ValueId x = g.add_input("x", DType::f32, {Dim(1), Dim(2), Dim(4), Dim(4)});
    try {
      g.outputs = {build(g, x)};
      infer_shapes(g);
      if (g.nodes.back().op == "Quant") quant_spec(g, g.nodes.back(), {1, 2, 4, 4});
      FAIL() << "accepted: " << part;
    } catch (const Error& e) {
      EXPECT_EQ(e.code(), Exit::bad_input);
      EXPECT_NE(e.full().find("bad"), std::string::npos) << e.full();
      EXPECT_NE(e.full().find(part), std::string::npos) << e.full();
    }
  };
  auto c = [](Graph& g, Shape s) { return g.add_constant(g.unique_name("c"), Tensor(DType::f32, s)); };
  expect([&](Graph& g, ValueId x) { return g.add_node("Conv", {x, c(g, {3, 5, 1, 1})}, {}, "bad"); }, "5");
  expect([&](Graph& g, ValueId x) { return g.add_node("Conv", {x, c(g, {3, 2, 9, 9})}, {}, "bad"); }, "does not fit");
  expect([&](Graph& g, ValueId x) { return g.add_node("MatMul", {x, c(g, {3, 2})}, {}, "bad"); }, "inner extents");
  expect([&](Graph& g, ValueId x) { return g.add_node("Convolution", {x}, {}, "bad"); }, "Conv");
  expect([&](Graph& g, ValueId x) { return g.add_node("Quant", {x, c(g, {}), c(g, {}), g.add_constant("w", Tensor::scalar(4.f))}, {}, "bad", "qonnx.custom_op.general"); },
         "not a positive number");
  expect([&](Graph& g, ValueId x) { return g.add_node("Quant", {x, g.add_constant("s", Tensor::scalar(1.f)), c(g, {}), g.add_constant("w", Tensor::scalar(3.5f))}, {}, "bad", "qonnx.custom_op.general"); },
         "3.5");
  expect([&](Graph& g, ValueId x) { return g.add_node("Transpose", {x}, {{"perm", std::vector<std::int64_t>{0, 1, 1, 2}}}, "bad"); }, "permutation");
}

}  // namespace
}  // namespace tandem::ir
