#include "tandem/ir/graph.h"

#include <gtest/gtest.h>

#include "tandem/base/rng.h"
#include "tandem/ir/dump.h"
#include "tandem/ir/op.h"

namespace tandem::ir {
namespace {

std::string message_of(const std::function<void()>& f) {
  try {
    f();
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), Exit::bad_input);
    return e.full();
  }
  return "";
}
bool has(const std::string& s, std::string_view part) { return s.find(part) != std::string::npos; }

Graph small() {
  Graph g;
  const ValueId x = g.add_input("x", DType::f32, {Dim("batch"), Dim(3)});
  const ValueId w = g.add_constant("w", Tensor::of<float>({3, 2}, std::vector<float>{1, 2, 3, 4, 5, 6}));
  const ValueId y = g.add_node("MatMul", {x, w}, {}, "dense");
  const ValueId z = g.add_node("Relu", {y});
  g.outputs = {z};
  return g;
}

TEST(graph, names_are_unique) {
  Graph g;
  EXPECT_EQ(g.values[static_cast<std::size_t>(g.add_value("a"))].name, "a");
  EXPECT_EQ(g.values[static_cast<std::size_t>(g.add_value("a"))].name, "a_1");
  EXPECT_EQ(g.values[static_cast<std::size_t>(g.add_value("a_7"))].name, "a_7");
  EXPECT_EQ(g.unique_name("a"), "a_8");
  EXPECT_EQ(g.unique_name("a_x"), "a_x");
  const ValueId r = g.add_node("Relu", {0}, {}, "n");
  g.add_node("Relu", {r}, {}, "n");
  EXPECT_EQ(g.nodes[1].name, "n_1");
  EXPECT_EQ(g.find("a_7"), 2);
  EXPECT_EQ(g.find("nothing"), kNone);
}

TEST(graph, attributes) {
  Node n;
  n.attrs = {{"i", std::int64_t(3)}, {"f", 0.5}, {"s", std::string("ROUND")}, {"l", std::vector<std::int64_t>{1, 2}}};
  EXPECT_EQ(n.attr_int("i", 0), 3);
  EXPECT_EQ(n.attr_int("absent", 9), 9);
  EXPECT_EQ(n.attr_float("f", 0), 0.5);
  EXPECT_EQ(n.attr_float("i", 0), 3.0);
  EXPECT_EQ(n.attr_string("s", ""), "ROUND");
  EXPECT_EQ(n.attr_ints("l", {}), (std::vector<std::int64_t>{1, 2}));
  EXPECT_THROW(n.attr_int("s", 0), Error);
}

TEST(graph, uses) {
  const Graph g = small();
  const UseMap m(g);
  for (std::size_t v = 0; v < g.values.size(); ++v) {
    EXPECT_EQ(m.producer[v], g.producer(static_cast<ValueId>(v)));
    EXPECT_EQ(m.users[v], g.consumers(static_cast<ValueId>(v)));
  }
  EXPECT_EQ(g.describe(g.nodes[0]), "node 'dense' (MatMul)");
  EXPECT_EQ(g.describe(g.nodes[1]), "Relu node of value 'Relu'");
}

TEST(graph, sorting_random_graphs) {
  for (std::uint64_t seed = 0; seed < 200; ++seed) {
    Rng rng(seed, "sort");
    Graph g;
    std::vector<ValueId> vs{g.add_input("x", DType::f32, {Dim(1)})};
    const std::int64_t n = rng.range(1, 20);
    for (std::int64_t i = 0; i < n; ++i) vs.push_back(g.add_node("Add", {rng.pick(vs), rng.pick(vs)}));
    g.outputs = {vs.back()};
    const std::string before = to_text(g);
    sort_nodes(g);
    EXPECT_EQ(to_text(g), before);  // sorted graphs stay
    rng.shuffle(g.nodes);
    sort_nodes(g);
    EXPECT_NO_THROW(verify_structure(g));
    EXPECT_EQ(g.nodes.size(), static_cast<std::size_t>(n));
  }
}

TEST(graph, cycles) {
  Graph g;
  const ValueId x = g.add_input("x", DType::f32, {Dim(1)});
  const ValueId a = g.add_node("Add", {x, x}, {}, "a");
  const ValueId b = g.add_node("Relu", {a}, {}, "b");
  g.nodes[0].inputs[1] = b;
  g.outputs = {b};
  const std::string m = message_of([&] { sort_nodes(g); });
  EXPECT_TRUE(has(m, "cycle") && has(m, "'a'") && has(m, "'b'")) << m;
  EXPECT_TRUE(has(message_of([&] { verify_structure(g); }), "cycle"));
  // With a Delay the same loop is legal, in whatever order.
  const ValueId d = g.add_node("Delay", {b}, {}, "d", "tandem");
  g.nodes[0].inputs[1] = d;
  EXPECT_NO_THROW(sort_nodes(g));
  EXPECT_NO_THROW(verify_structure(g));
}

TEST(graph, dead_code) {
  Graph g = small();
  const ValueId c = g.add_constant("unused", Tensor::scalar(1.0f));
  g.add_node("Add", {0, c}, {}, "dead");
  const Graph before = small();
  remove_dead(g);
  EXPECT_EQ(g.nodes.size(), 2u);
  EXPECT_EQ(g.initialisers.size(), 1u);
  EXPECT_EQ(g.find("unused"), c);  // ids are kept
  compact_values(g);
  EXPECT_EQ(to_text(g), to_text(before));
  EXPECT_EQ(first_difference(g, before), "");
}

TEST(graph, dump) {
  Graph g = small();
  g.nodes[1].attrs["alpha"] = 2.0;
  EXPECT_EQ(to_text(g),
            "graph \"graph\" opset 17\n"
            "input %x: f32[batch, 3]\n"
            "const %w = f32[3, 2] {1, 2, 3, 4, 5, 6}\n"
            "%dense: f32[...] = MatMul(%x, %w)  # dense\n"
            "%Relu: f32[...] = Relu(%dense) {alpha = 2.0}\n"
            "output %Relu: f32[...]\n");
}

TEST(graph, differences) {
  const Graph a = small();
  EXPECT_EQ(first_difference(a, a), "");
  const auto changed = [&](const std::function<void(Graph&)>& f) {
    Graph b = a;
    f(b);
    return first_difference(a, b);
  };
  EXPECT_NE(changed([](Graph& g) { g.name = "h"; }), "");
  EXPECT_NE(changed([](Graph& g) { g.nodes[1].op = "Neg"; }), "");
  EXPECT_NE(changed([](Graph& g) { g.nodes[1].attrs["a"] = 1.0; }), "");
  EXPECT_NE(changed([](Graph& g) { g.initialisers.at(1).data<float>()[5] = 7; }), "");
  EXPECT_NE(changed([](Graph& g) { g.values[3].name = "z"; }), "");
  EXPECT_NE(changed([](Graph& g) { g.values[0].type.dtype = DType::f64; }), "");
}

TEST(graph, faults_of_structure) {
  const auto fault = [](const std::function<void(Graph&)>& f) {
    Graph g = small();
    f(g);
    return message_of([&] { verify_structure(g); });
  };
  EXPECT_EQ(fault([](Graph&) {}), "");
  EXPECT_TRUE(has(fault([](Graph& g) { g.values[2].name = "w"; }), "two values are called 'w'"));
  EXPECT_TRUE(has(fault([](Graph& g) { g.values[2].name = ""; }), "no name"));
  EXPECT_TRUE(has(fault([](Graph& g) { g.nodes[1].name = "dense"; }), "two nodes are called 'dense'"));
  EXPECT_TRUE(has(fault([](Graph& g) { g.nodes[0].inputs[1] = 99; }), "value number 99"));
  EXPECT_TRUE(has(fault([](Graph& g) { g.initialisers.clear(); }), "'w' comes from nowhere"));
  EXPECT_TRUE(has(fault([](Graph& g) { g.nodes[1].outputs[0] = 2; }), "two producers"));
  EXPECT_TRUE(has(fault([](Graph& g) { g.nodes[1].outputs[0] = 1; }), "cannot be written"));
  EXPECT_TRUE(has(fault([](Graph& g) { g.inputs.push_back(1); }), "both an input and an initialiser"));
  EXPECT_TRUE(has(fault([](Graph& g) { g.inputs.push_back(0); }), "listed twice"));
  EXPECT_TRUE(has(fault([](Graph& g) { g.values[1].type.dims = Dims{Dim(2), Dim(3)}; }), "shape [3, 2]"));
  EXPECT_TRUE(has(fault([](Graph& g) { g.values[1].type.dtype = DType::i8; }), "holds f32"));
  EXPECT_TRUE(has(fault([](Graph& g) { std::swap(g.nodes[0], g.nodes[1]); }), "read before it is made"));
  EXPECT_TRUE(has(fault([](Graph& g) { g.outputs = {-1}; }), "value number -1"));
}

}  // namespace
}  // namespace tandem::ir
