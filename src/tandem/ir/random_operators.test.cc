// Graphs of all registered operators: what must hold of each.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <iostream>
#include <set>

#include "tandem/ir/dump.h"
#include "tandem/ir/exact.h"
#include "tandem/ir/onnx.h"
#include "tandem/ir/op.h"
#include "tandem/ir/random_graph.h"

namespace tandem::ir {
namespace {

constexpr std::uint64_t kGraphs = 400;

// Verified; executed shape == inferred shape of every value; exported and imported it says and computes the same.
TEST(RandomOperators, Properties) {
  std::set<std::string> drawn;
  std::int64_t fed = 0;
  for (std::uint64_t seed = 0; seed < kGraphs; ++seed) {
    Graph g;
    try {
      RandomGraph r = random_operators({}, seed);
      g = r.graph;
      verify(g);
      for (const Node& n : g.nodes) drawn.insert(n.domain + "." + n.op), fed += n.op == "Clip";
      ASSERT_FALSE(g.outputs.empty()) << seed;
      Graph every = g;  // with every value as an output
      every.outputs.clear();
      for (const Node& n : g.nodes)
        for (ValueId v : n.outputs)
          if (v != kNone) every.outputs.push_back(v);
      const std::vector<Tensor> all = evaluate_float(every, r.inputs);
      for (std::size_t i = 0; i < all.size(); ++i) {
        const TensorType& t = g.values[static_cast<std::size_t>(every.outputs[i])].type;
        ASSERT_EQ(t.dtype, all[i].dtype()) << seed << "\n" << to_text(g);
        if (!t.dims) continue;
        ASSERT_EQ(t.dims->size(), all[i].shape().size()) << seed << "\n" << to_text(g);
        for (std::size_t d = 0; d < t.dims->size(); ++d) {
          if ((*t.dims)[d].known()) { ASSERT_EQ((*t.dims)[d].n, all[i].shape()[d]) << seed << "\n" << to_text(g); }
        }
      }
      const std::vector<Tensor> y = evaluate_float(g, r.inputs);
      Graph back = parse_onnx(onnx_bytes(g));
      ASSERT_EQ(first_difference(g, back), "") << seed << "\n" << to_text(g);
      infer_shapes(back);
      const std::vector<Tensor> z = evaluate_float(back, r.inputs);
      for (std::size_t i = 0; i < y.size(); ++i) ASSERT_TRUE(y[i].same(z[i])) << seed << " output " << i << "\n" << to_text(g);
    } catch (const Error& e) {
      FAIL() << seed << ": " << e.full() << "\n" << to_text(g);
    }
  }
  std::string missing;
  std::size_t sampling = 0;
  for (const OpDef* o : all_ops())
    if (o->sample && ++sampling && !drawn.count(std::string(o->domain) + "." + std::string(o->name))) missing += std::string(o->name) + " ";
  EXPECT_GE(drawn.size(), sampling * 9 / 10) << missing;
  EXPECT_GT(fed, static_cast<std::int64_t>(kGraphs)) << "few operators read what another made";
}

// One rational per element against integers on the carrier, wherever the graph has a carrier: equal as numbers, as the self-test compares
// (Neg of an exact 0 is a zero of another sign).
TEST(RandomOperators, LiteralIsCarrier) {
  std::uint64_t open = 0, refused = 0, integer_steps = 0;
  for (std::uint64_t seed = 0; seed < kGraphs; ++seed) {
    const RandomGraph r = random_operators({}, seed);
    // lower_exact asks for known extents; those of NonMaxSuppression and its like depend on the data.
    if (std::any_of(r.graph.values.begin(), r.graph.values.end(), [](const Value& v) { return !v.type.dims || !all_known(*v.type.dims); })) {
      ++open;
      continue;
    }
    ExactProgram p;
    try {
      p = lower_exact(r.graph);
    } catch (const Error& e) {
      ASSERT_EQ(e.code(), Exit::no) << seed << ": " << e.full() << "\n" << to_text(r.graph);
      ++refused;
      continue;
    }
    for (const Step& step : p.steps) integer_steps += !std::holds_alternative<FloatOp>(step.params);
    const Graph g = prepare(r.graph);
    const std::vector<Tensor> want = to_tensors(g, evaluate_literal(g, r.inputs)), got = evaluate_carrier(p, r.inputs);
    ASSERT_EQ(want.size(), got.size());
    for (std::size_t i = 0; i < want.size(); ++i)
      for (std::int64_t k = 0; k < want[i].size(); ++k)
        ASSERT_TRUE(want[i].at(k) == got[i].at(k) || (std::isnan(want[i].at(k)) && std::isnan(got[i].at(k))))
            << seed << " output " << i << " element " << k << ": " << want[i].at(k) << " and " << got[i].at(k) << "\n" << to_text(g);
  }
  std::cout << fmt::format("{} graphs: {} of unknown extents, {} refused, {} integer steps\n", kGraphs, open, refused, integer_steps);
  EXPECT_LT(open, kGraphs / 4);
  EXPECT_LT(refused, kGraphs / 10);
  EXPECT_GT(integer_steps, kGraphs);
}

// A pure function of the seed.
TEST(RandomOperators, SameSeedSameGraph) {
  for (std::uint64_t seed = 0; seed < 20; ++seed) {
    const RandomGraph a = random_operators({}, seed), b = random_operators({}, seed);
    EXPECT_EQ(first_difference(a.graph, b.graph), "") << seed;
    ASSERT_EQ(a.inputs.size(), b.inputs.size());
    for (std::size_t i = 0; i < a.inputs.size(); ++i) EXPECT_TRUE(a.inputs[i].same(b.inputs[i])) << seed;
  }
}

}  // namespace
}  // namespace tandem::ir
