#include "tandem/ir/differentiate.h"

#include <gtest/gtest.h>

#include <cmath>
#include <set>

#include "tandem/ir/dump.h"
#include "tandem/ir/exact.h"
#include "tandem/ir/op.h"
#include "tandem/ir/ops/kit.h"
#include "tandem/ir/random_differentiable.h"

namespace tandem::ir {
namespace {

// <output, seed> of a graph whose wrt values are replaced.
double loss_of(const Graph& g, const std::vector<Tensor>& inputs, const Tensor& seed) {
  const Tensor y = evaluate_float(g, inputs).at(0);
  double s = 0;
  for (std::int64_t i = 0; i < y.size(); ++i) s += y.at(i) * seed.at(i);
  return s;
}

Tensor pattern(const Shape& s) {
  Tensor t(DType::f64, s);
  for (std::int64_t i = 0; i < t.size(); ++i) t.set(i, 1.0 + 0.37 * static_cast<double>(i % 7) - 0.9 * static_cast<double>(i % 3));
  return t;
}

TEST(Differentiate, EqualsFiniteDifferencesOnRandomGraphs) {
  int compared = 0;
  for (std::uint64_t seed = 1; seed <= 60; ++seed) {
    DifferentiableGraph d = random_differentiable(seed, false);
    const Tensor y = evaluate_float(d.graph, d.inputs).at(0);
    const Tensor s = pattern(y.shape());
    Graph with_seed = d.graph;
    const ValueId sv = with_seed.add_constant("seed", s);
    const Joint j = differentiate(with_seed, with_seed.outputs[0], d.wrt, sv);
    const std::vector<Tensor> out = evaluate_float(j.graph, d.inputs);
    ASSERT_EQ(out.size(), 1 + d.wrt.size());
    for (std::size_t k = 0; k < d.wrt.size(); ++k) {
      const Tensor& grad = out[k + 1];
      const bool is_input = k == 0;
      const Tensor x = is_input ? d.inputs[0] : *d.graph.constant(d.wrt[k]);
      ASSERT_EQ(grad.shape(), x.shape()) << "seed " << seed;
      // BatchNormalization's factor scale / sqrt(var + eps) is rounded to f32 by definition: in these two
      // it is a staircase of relative height 2^-24, seen by a difference quotient as 2^-24 / h.
      bool staircase = false;
      for (const Node& n : d.graph.nodes)
        staircase = staircase || (n.op == "BatchNormalization" && (n.inputs[1] == d.wrt[k] || n.inputs[4] == d.wrt[k]));
      const double tolerance = staircase ? 3e-4 : 1e-6;
      for (std::int64_t e = 0; e < x.size(); e += 1 + x.size() / 5) {
        auto at = [&](double h) {
          Tensor moved = x;
          moved.set(e, x.at(e) + h);
          Graph g = d.graph;
          std::vector<Tensor> in = d.inputs;
          if (is_input) in[0] = moved;
          else g.initialisers[d.wrt[k]] = moved;
          return loss_of(g, in, s);
        };
        // Fourth-order central differences: error about h^4 + 2^-53 / h of the values' size. A kink (ReLU,
        // a maximum) within 2h spoils one step size; a wrong adjoint spoils all three.
        double numeric = 0, error = INFINITY;
        for (double h : {1e-3, 1e-4, 1e-5}) {
          const double d4 = (8 * (at(h) - at(-h)) - (at(2 * h) - at(-2 * h))) / (12 * h);
          if (std::abs(d4 - grad.at(e)) < error) {
            error = std::abs(d4 - grad.at(e));
            numeric = d4;
          }
        }
        EXPECT_LE(error, tolerance * std::max({1.0, std::abs(numeric), std::abs(loss_of(d.graph, d.inputs, s))}))
            << "seed " << seed << " value " << d.graph.values[static_cast<std::size_t>(d.wrt[k])].name << " element " << e << ": "
            << grad.at(e) << " against " << numeric;
        ++compared;
      }
    }
  }
  EXPECT_GT(compared, 500);
}

// One random case of an operator with every f32 made f64: sums and quotients of differences need the room.
struct Case {
  Graph graph;
  std::vector<Tensor> inputs;
};
Tensor widened(const Tensor& t) {
  if (t.dtype() != DType::f32) return t;
  Tensor w(DType::f64, t.shape());
  for (std::int64_t i = 0; i < t.size(); ++i) w.set(i, t.at(i));
  return w;
}
Case sampled(const OpDef& op, std::uint64_t seed) {
  Rng r(seed, op.name);
  Case c;
  Sample s{r, c.graph, c.inputs};
  op.sample(op, s);
  for (Value& v : c.graph.values)
    if (v.type.dtype == DType::f32) v.type.dtype = DType::f64;
  for (auto& [v, t] : c.graph.initialisers) t = widened(t);
  for (Tensor& t : c.inputs) t = widened(t);
  infer_shapes(c.graph);
  return c;
}

// Operators without an adjoint, by the reason for it: a new operator gets one or a place here.
std::string why_no_adjoint(const OpDef& op) {
  if (!op.domain.empty()) return "of another domain: gradients themselves, integer forms, trees";
  static const std::map<std::string, std::set<std::string_view>> reasons{
      {"its results are whole or true, so that it has no slope",
       {"And", "ArgMax", "ArgMin", "BitShift", "BitwiseAnd", "BitwiseNot", "BitwiseOr", "BitwiseXor", "Equal", "Greater", "GreaterOrEqual", "Hardmax", "IsInf", "IsNaN", "Less", "LessOrEqual", "NonMaxSuppression", "NonZero",
        "Not", "Or", "TfIdfVectorizer", "Xor"}},
      {"constant between its steps", {"Ceil", "Floor", "Round", "Sign"}},
      {"of integers", {"ConvInteger", "DequantizeLinear", "DynamicQuantizeLinear", "MatMulInteger", "Mod", "QLinearConv", "QLinearMatMul", "QuantizeLinear"}},
      {"made from extents or numbers, not from data", {"BlackmanWindow", "ConstantOfShape", "EyeLike", "HammingWindow", "HannWindow", "MelWeightMatrix", "OneHot", "Range", "Shape", "Size"}},
      {"its extents depend on the data", {"Unique"}},
      {"a sub-graph's: not differentiated through", {"If", "Loop", "Scan"}},
      {"random", {"Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike"}},
  };
  for (const auto& [why, ops] : reasons)
    if (ops.contains(op.name)) return why;
  return "";
}

TEST(Differentiate, EveryAdjointEqualsFiniteDifferences) {
  std::int64_t compared = 0, skipped = 0;
  std::set<std::string_view> seen;
  for (const OpDef* op : all_ops()) {
    if (!op->adjoint) {
      EXPECT_NE(why_no_adjoint(*op), "") << op->name << " has neither an adjoint nor a reason for that";
      continue;
    }
    EXPECT_TRUE(why_no_adjoint(*op).empty() || !op->domain.empty()) << op->name << " has an adjoint: no reason is needed";
    // A cast rounds: its slope is 1 only from afar.
    if (!op->sample || op->name == "Cast" || op->name == "CastLike") continue;
    for (std::uint64_t seed = 0; seed < 12; ++seed) {
      const Case c = sampled(*op, seed);
      const Graph& g = c.graph;
      const Node& n = g.nodes.back();
      std::vector<ValueId> wrt;
      for (std::size_t i = 0; i < n.inputs.size(); ++i) {
        const ValueId v = n.inputs[i];
        if (v == kNone || g.values[static_cast<std::size_t>(v)].type.dtype != DType::f64 || std::find(wrt.begin(), wrt.end(), v) != wrt.end()) continue;
        if (i > 0 && (n.op == "Resize" || n.op == "Pad" || n.op == "Clip" || n.op == "Dropout")) continue;  // parameters
        wrt.push_back(v);
      }
      if (wrt.empty() || g.values[static_cast<std::size_t>(g.outputs[0])].type.dtype != DType::f64) continue;
      const std::string where = fmt::format("{} seed {}\n{}", g.describe(n), seed, to_text(g));
      try {
        const Tensor y = evaluate_float(g, c.inputs).at(0), s = pattern(y.shape());
        Graph with_seed = g;
        const ValueId sv = with_seed.add_constant("seed", s);
        const std::size_t outputs = g.outputs.size();
        const Joint j = differentiate(with_seed, with_seed.outputs[0], wrt, sv);
        const std::vector<Tensor> out = evaluate_float(j.graph, c.inputs);
        for (std::size_t k = 0; k < wrt.size(); ++k) {
          const Tensor& grad = out.at(outputs + k);
          const auto input = static_cast<std::size_t>(std::find(g.inputs.begin(), g.inputs.end(), wrt[k]) - g.inputs.begin());
          const Tensor x = input < g.inputs.size() ? c.inputs[input] : *g.constant(wrt[k]);
          ASSERT_EQ(grad.shape(), x.shape()) << where;
          for (std::int64_t e = 0; e < x.size(); e += 1 + x.size() / 12) {
            const auto at = [&](double h) {
              Tensor moved = x;
              moved.set(e, x.at(e) + h);
              Graph m = g;
              std::vector<Tensor> in = c.inputs;
              if (input < g.inputs.size()) in[input] = moved;
              else m.initialisers[wrt[k]] = moved;
              return loss_of(m, in, s);
            };
            // A kink or a pole: the slopes on both sides differ.
            const double h0 = 1e-6, here = at(0), right = (at(h0) - here) / h0, left = (here - at(-h0)) / h0;
            if (!std::isfinite(left) || !std::isfinite(right) || std::abs(left - right) > 1e-3 * std::max({1.0, std::abs(left), std::abs(right)})) {
              ++skipped;
              continue;
            }
            double error = INFINITY, numeric = 0;
            for (double h : {1e-3, 1e-4, 1e-5, 1e-6}) {
              const double d4 = (8 * (at(h) - at(-h)) - (at(2 * h) - at(-2 * h))) / (12 * h);
              if (std::abs(d4 - grad.at(e)) < error) error = std::abs(d4 - grad.at(e)), numeric = d4;
            }
            ASSERT_LE(error, 1e-6 * std::max({1.0, std::abs(numeric), std::abs(here)})) << "value " << g.values[static_cast<std::size_t>(wrt[k])].name << " element " << e << ": " << grad.at(e) << " against " << right << "\n" << where;
            ++compared;
          }
          seen.insert(op->name);
        }
      } catch (const Error& fault) {
        FAIL() << where << "\n" << fault.full();
      }
    }
  }
  RecordProperty("compared", static_cast<int>(compared));
  RecordProperty("skipped", static_cast<int>(skipped));
  EXPECT_GE(seen.size(), 104u);
  EXPECT_GT(compared, 5000);
  EXPECT_LE(skipped * 50, compared) << skipped << " of " << compared;  // samples lie on a grid: some at kinks
}

// What an operator's expansion computes is what it computes.
TEST(Differentiate, EveryExpansionEqualsItsOperator) {
  int compared = 0;
  std::set<std::string_view> seen;
  for (const OpDef* op : all_ops()) {
    if (!op->expansion || !op->sample) continue;
    for (std::uint64_t seed = 0; seed < 40; ++seed) {
      const Case c = sampled(*op, seed);
      Graph g = c.graph;
      const Node n = g.nodes.back();
      g.nodes.pop_back();
      const std::vector<ValueId> y = op->expansion(g, n);
      if (y.empty()) continue;
      ASSERT_EQ(y.size(), n.outputs.size()) << op->name;
      g.outputs = y;
      const std::string where = fmt::format("{} seed {}\n{}", op->name, seed, to_text(g));
      infer_shapes(g);
      verify(g);
      const std::vector<Tensor> want = evaluate_float(c.graph, c.inputs), got = evaluate_float(g, c.inputs);
      for (std::size_t i = 0; i < want.size(); ++i) {
        ASSERT_EQ(want[i].shape(), got[i].shape()) << where;
        ASSERT_EQ(want[i].dtype(), got[i].dtype()) << where;
        const double tolerance = want[i].dtype() == DType::f64 ? 1e-12 : 1e-6;
        for (std::int64_t k = 0; k < want[i].size(); ++k) ASSERT_NEAR(want[i].at(k), got[i].at(k), tolerance * (1 + std::abs(want[i].at(k)))) << where;
      }
      seen.insert(op->name);
      ++compared;
    }
  }
  for (const char* name : {"LayerNormalization", "RMSNormalization", "GroupNormalization", "InstanceNormalization", "Gelu", "Mish", "HardSwish", "Swish", "Celu", "MeanVarianceNormalization", "NegativeLogLikelihoodLoss", "SoftmaxCrossEntropyLoss", "AffineGrid", "Attention", "CenterCropPad", "Col2Im", "DFT", "STFT", "DeformConv", "Det", "GRU", "LSTM", "RNN", "GridSample", "LRN", "LpPool", "RoiAlign", "RotaryEmbedding", "SimplifiedLayerNormalization", "TensorScatter"})
    EXPECT_TRUE(seen.contains(name)) << name;
  EXPECT_GT(compared, 500);
}

TEST(Differentiate, NamesTheThreeProductsOfAContraction) {
  Graph g;
  const ValueId x = g.add_input("x", DType::f32, {2, 1, 4, 4});
  const ValueId w = g.add_constant("w", Tensor::of<float>({1, 1, 3, 3}, std::vector<float>{1, 2, 3, 4, 5, 6, 7, 8, 9}));
  const ValueId y = g.add_node("Conv", {x, w}, {{"kernel_shape", std::vector<std::int64_t>{3, 3}}}, "conv");
  g.outputs = {y};
  infer_shapes(g);
  const Joint j = differentiate(g, y, {x, w});
  ASSERT_EQ(j.products.size(), 1u);
  EXPECT_EQ(j.products[0].forward, "conv/fwd");
  EXPECT_EQ(j.products[0].to_data, "conv/dX");
  EXPECT_EQ(j.products[0].to_weight, "conv/dW");
  // All three multiply the same pairs: as many steps each.
  std::vector<std::int64_t> macs;
  for (const Node& n : j.graph.nodes)
    if (n.name.starts_with("conv/")) macs.push_back(op_of(j.graph, n).einsum(j.graph, n).iterations());
  EXPECT_EQ(macs, (std::vector<std::int64_t>{2 * 4 * 9, 2 * 4 * 9, 2 * 4 * 9}));
  // Without the data's gradient there is no product for it.
  EXPECT_EQ(differentiate(g, y, {w}).products[0].to_data, "");
}

TEST(Differentiate, RefusesByName) {
  Graph g;
  const ValueId x = g.add_input("x", DType::f32, {2, 3});
  const ValueId y = g.add_node("ArgMax", {x}, {{"axis", std::int64_t{1}}}, "decide");
  g.outputs = {y};
  infer_shapes(g);
  try {
    differentiate(g, y, {x});
    FAIL();
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), Exit::bad_input);
    EXPECT_NE(e.full().find("decide"), std::string::npos) << e.full();
  }
}

}  // namespace
}  // namespace tandem::ir
