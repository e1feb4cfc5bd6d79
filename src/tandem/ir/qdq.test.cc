#include "tandem/ir/qdq.h"

#include <gtest/gtest.h>

#include "tandem/ir/exact.h"
#include "tandem/ir/onnx.h"
#include "tandem/ir/op.h"
#include "tandem/ir/ops/kit.h"
#include "tandem/ir/random_graph.h"

namespace tandem::ir {
namespace {

int count(const Graph& g, std::string_view op) {
  return static_cast<int>(std::count_if(g.nodes.begin(), g.nodes.end(), [&](const Node& n) { return n.op == op; }));
}
void expect_same(const std::vector<Tensor>& a, const std::vector<Tensor>& b, const std::string& where) {
  ASSERT_EQ(a.size(), b.size());
  for (std::size_t i = 0; i < a.size(); ++i) ASSERT_TRUE(a[i].same(b[i])) << where;
}

// Random quantised graphs spelt as QDQ: one rational per element and the carrier agree, and both give what the Quants gave; exported,
// imported and spelt back as well.
TEST(Qdq, RandomGraphsKeepTheirMeaning) {
  int rewritten = 0, compared = 0, clipped = 0, back_again = 0;
  for (std::uint64_t seed = 0; seed < 400; ++seed) {
    const RandomGraph r = random_graph({}, 310'000 + seed);
    try {
      lower_exact(r.graph);
    } catch (const Error& e) {  // wider than 128 bits: so it is in the other spelling
      ASSERT_EQ(e.code(), Exit::no) << e.full();
      continue;
    }
    QdqStats s;
    const Graph q = to_qdq(r.graph, &s);
    rewritten += s.rewritten;
    verify(q);
    const std::string where = fmt::format("seed {}", seed);
    Graph typed = q;
    infer_shapes(typed);
    const std::vector<Tensor> literal = to_tensors(typed, evaluate_literal(prepare(typed), r.inputs));
    expect_same(literal, evaluate_carrier(lower_exact(typed), r.inputs), where + " carrier");
    clipped += count(q, "Clip");
    if (std::any_of(s.notes.begin(), s.notes.end(), [](const std::string& n) { return n.find("ties") != std::string::npos; })) continue;
    expect_same(literal, to_tensors(r.graph, evaluate_literal(prepare(r.graph), r.inputs)), where + " against Quant");
    ++compared;
    QdqStats t;
    Graph back = from_qdq(parse_onnx(onnx_bytes(q)), &t);
    infer_shapes(back);
    back_again += t.rewritten;
    EXPECT_EQ(count(back, "QuantizeLinear"), 0) << where;
    expect_same(literal, to_tensors(back, evaluate_literal(prepare(back), r.inputs)), where + " back");
  }
  EXPECT_GT(rewritten, 400);
  EXPECT_GT(back_again, 200);
  EXPECT_GT(clipped, 100);
  EXPECT_GT(compared, 60);
}

// Ties at an odd zero point: Quant judges x/S + Z, QuantizeLinear x/S.
TEST(Qdq, TiesAtOddZeroPoints) {
  Graph g;
  const ValueId x = g.add_input("x", DType::f32, {Dim(4)});
  const auto scalar = [&](float v) { return g.add_constant(g.unique_name("c"), Tensor::scalar(v)); };
  g.outputs = {g.add_node("Quant", {x, scalar(1), scalar(3), scalar(8)}, {{"signed", std::int64_t{0}}}, "q", "qonnx.custom_op.general")};
  infer_shapes(g);
  QdqStats s;
  Graph q = to_qdq(g, &s);
  ASSERT_EQ(s.notes.size(), 1u);
  infer_shapes(q);
  const std::vector<Tensor> in{Tensor::of<float>({4}, std::vector<float>{0.5f, 1.5f, -0.5f, 2.25f})};
  // x + 3 = 3.5, 4.5, 2.5 to even: 4, 4, 2; x to even: 0, 2, 0.
  EXPECT_TRUE(evaluate_carrier(lower_exact(g), in)[0].same(Tensor::of<float>({4}, std::vector<float>{1, 1, -1, 2})));
  EXPECT_TRUE(evaluate_carrier(lower_exact(q), in)[0].same(Tensor::of<float>({4}, std::vector<float>{0, 2, 0, 2})));
  EXPECT_TRUE(evaluate_float(q, in)[0].same(Tensor::of<float>({4}, std::vector<float>{0, 2, 0, 2})));
}

// Codes as outputs and inputs of the graph, a scale per channel, a bias of 32 bits: nothing runs on the host.
TEST(Qdq, IntegerPortsAndBias) {
  Graph g;
  const ValueId x = g.add_input("x", DType::u8, {Dim(1), Dim(2), Dim(3), Dim(3)});
  const auto f = [&](Shape s, const std::vector<float>& v) { return g.add_constant(g.unique_name("f"), Tensor::of<float>(std::move(s), v)); };
  const ValueId in = g.add_node("DequantizeLinear", {x, f({}, {0.5f}), g.add_constant("z", Tensor::scalar(std::uint8_t{7}))});
  const ValueId w = g.add_node("DequantizeLinear", {g.add_constant("w", Tensor::of<std::int8_t>({2, 2, 1, 1}, std::vector<std::int8_t>{1, -2, 3, -128})), f({2}, {0.25f, 0.1f})}, {{"axis", std::int64_t{0}}});
  const ValueId b = g.add_node("DequantizeLinear", {g.add_constant("b", Tensor::of<std::int32_t>({2}, std::vector<std::int32_t>{1000000007, -3})), f({}, {1e-6f})});
  const ValueId y = g.add_node("Conv", {in, w, b});
  g.outputs = {g.add_node("QuantizeLinear", {y, f({2}, {0.3f, 2}), g.add_constant("zy", Tensor::of<std::int8_t>({2}, std::vector<std::int8_t>{3, -4}))}, {{"axis", std::int64_t{1}}})};
  infer_shapes(g);
  const ExactProgram p = lower_exact(g);
  EXPECT_TRUE(p.host_nodes.empty());
  Tensor codes(DType::u8, {1, 2, 3, 3});
  for (std::int64_t i = 0; i < codes.size(); ++i) codes.set(i, static_cast<double>(i * 37 % 256));
  const Tensor out = evaluate_carrier(p, {codes})[0];
  EXPECT_EQ(out.dtype(), DType::i8);
  EXPECT_TRUE(out.same(to_tensors(g, evaluate_literal(prepare(g), {codes}))[0]));
  // Element 0: (0 - 7) / 2 * 0.25 - (77 - 7) / 2 * 0.5 + 1000000007 * 1e-6f, a little above 981.6; / 0.3f + 3 saturates.
  EXPECT_EQ(out.int_at(0), 127);
  // Channel 1, element 0: -3.5 * 0.3 - 35 * 12.8 - 3e-6 = -449.05; / 2 = -224.5 saturates at -128.
  EXPECT_EQ(out.int_at(9), -128);
}

// QLinearConv and QLinearMatMul on their own random cases: exact, nothing on the host, and beside the float evaluator a code differs only
// where the exact quotient is a tie or f32 rounds next to one.
TEST(Qdq, OperatorsOfQuantisedTensorsAreExact) {
  int cases = 0, near = 0, codes = 0;
  for (const char* name : {"QLinearConv", "QLinearMatMul"})
    for (std::uint64_t seed = 0; seed < 60; ++seed) {
      Rng r(seed, name);
      Graph g;
      std::vector<Tensor> inputs;
      Sample s{r, g, inputs};
      const OpDef& op = *find_op("", name);
      op.sample(op, s);
      infer_shapes(g);
      const ExactProgram p = lower_exact(g);
      EXPECT_TRUE(p.host_nodes.empty()) << p.host_nodes.front();
      const Tensor carrier = evaluate_carrier(p, inputs)[0], literal = to_tensors(g, evaluate_literal(prepare(g), inputs))[0], f = evaluate_float(g, inputs)[0];
      ASSERT_TRUE(carrier.same(literal)) << name << " seed " << seed;
      for (std::int64_t i = 0; i < f.size(); ++i) {
        ASSERT_LE(std::abs(f.at(i) - carrier.at(i)), 1) << name << " seed " << seed;
        near += f.at(i) != carrier.at(i);
        ++codes;
      }
      ++cases;
    }
  EXPECT_EQ(cases, 120);
  EXPECT_LE(near * 100, codes) << "more than one code in a hundred differs from f32";
}

}  // namespace
}  // namespace tandem::ir
