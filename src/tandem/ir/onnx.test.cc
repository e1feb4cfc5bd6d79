#include "tandem/ir/onnx.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmath>
#include <cstdlib>
#include <fstream>

#include "tandem/base/file.h"
#include "tandem/base/rng.h"
#include "tandem/ir/dump.h"
#include "tandem/ir/exact.h"
#include "tandem/ir/op.h"
#include "tandem/ir/ops/kit.h"
#include "tandem/ir/random_graph.h"

namespace tandem::ir {
namespace {
namespace fs = std::filesystem;

// The wire format of protobuf, written by hand: the tests share no code with the reader.
std::string varint(std::uint64_t v) {
  std::string s;
  for (; v >= 128; v >>= 7) s += static_cast<char>(v | 128);
  return s + static_cast<char>(v);
}
std::string num(int field, std::uint64_t v) { return varint(static_cast<std::uint64_t>(field) << 3) + varint(v); }
std::string msg(int field, const std::string& m) { return varint(static_cast<std::uint64_t>(field) << 3 | 2) + varint(m.size()) + m; }
std::string f32(int field, float v) {
  std::string s = varint(static_cast<std::uint64_t>(field) << 3 | 5);
  return s.append(reinterpret_cast<const char*>(&v), 4);
}
std::string raw(const std::vector<float>& v) { return std::string(reinterpret_cast<const char*>(v.data()), 4 * v.size()); }

std::string info(const std::string& name, const std::vector<std::int64_t>& dims, int elem = 1) {
  std::string shape;
  for (std::int64_t d : dims) shape += msg(1, num(1, static_cast<std::uint64_t>(d)));
  return msg(1, name) + msg(2, msg(1, num(1, static_cast<std::uint64_t>(elem)) + msg(2, shape)));
}
std::string input(const std::string& name, const std::vector<std::int64_t>& dims) { return msg(11, info(name, dims)); }
std::string output(const std::string& name) { return msg(12, msg(1, name) + msg(2, msg(1, num(1, 1)))); }
std::string tensor(const std::string& name, const std::vector<std::int64_t>& dims, const std::string& data, int type = 1) {
  std::string s;
  for (std::int64_t d : dims) s += num(1, static_cast<std::uint64_t>(d));
  return s + num(2, static_cast<std::uint64_t>(type)) + msg(8, name) + msg(9, data);
}
std::string int_attr(const std::string& name, std::int64_t v) { return msg(5, msg(1, name) + num(3, static_cast<std::uint64_t>(v)) + num(20, 2)); }
std::string float_attr(const std::string& name, float v) { return msg(5, msg(1, name) + f32(2, v) + num(20, 1)); }
std::string string_attr(const std::string& name, const std::string& v) { return msg(5, msg(1, name) + msg(4, v) + num(20, 3)); }
std::string ints_attr(const std::string& name, const std::vector<std::int64_t>& v) {
  std::string s = msg(1, name);
  for (std::int64_t x : v) s += num(8, static_cast<std::uint64_t>(x));
  return msg(5, s + num(20, 7));
}
std::string node(const std::string& op, const std::vector<std::string>& in, const std::vector<std::string>& out, const std::string& more = "",
                 const std::string& name = "n", const std::string& domain = "") {
  std::string s;
  for (const auto& i : in) s += msg(1, i);
  for (const auto& o : out) s += msg(2, o);
  return msg(1, s + msg(3, name) + msg(4, op) + msg(7, domain) + more);
}
std::string model(const std::string& graph, int opset = 17) {
  return num(1, 8) + msg(8, msg(1, "") + num(2, static_cast<std::uint64_t>(opset))) + msg(7, graph + msg(2, "g"));
}

std::string refusal(const std::string& bytes, const Limits& limits = {}) {
  try {
    const Graph g = parse_onnx(bytes, limits);
    return "accepted: " + to_text(g);
  } catch (const Error& e) {
    EXPECT_TRUE(e.code() == Exit::bad_input || e.code() == Exit::limit) << e.full();
    return e.full();
  }
}
#define EXPECT_HAS(text, part) EXPECT_NE((text).find(part), std::string::npos) << (text)

struct Folder {
  fs::path path;
  Folder() {
    std::string t = (fs::temp_directory_path() / "tandem-onnx-XXXXXX").string();
    path = mkdtemp(t.data());
  }
  ~Folder() { fs::remove_all(path); }
};

TEST(onnx, round_trip_of_random_graphs) {
  for (std::uint64_t seed = 0; seed < 300; ++seed) {
    RandomGraphOptions o;
    o.state = seed % 3 == 0;
    Graph g = random_graph(o, seed).graph;
    // Reals of ONNX are f32.
    for (Node& n : g.nodes)
      for (auto& [k, a] : n.attrs)
        if (auto* d = std::get_if<double>(&a)) *d = static_cast<float>(*d);
    const std::string bytes = onnx_bytes(g);
    const Graph h = parse_onnx(bytes);
    ASSERT_EQ(first_difference(g, h), "") << seed << "\n" << to_text(g) << to_text(h);
    ASSERT_EQ(onnx_bytes(h).size(), bytes.size()) << seed;
    ASSERT_EQ(first_difference(h, g), "") << seed;
  }
}

TEST(onnx, round_trip_keeps_everything) {
  Graph g;
  g.name = "all";
  g.metadata = {{"licence", "CC BY 4.0\nline two"}, {"a", ""}};
  const ValueId x = g.add_input("x", DType::u8, {Dim("batch"), Dim(), Dim(3)});
  g.values[0].quant = "finn_datatype=UINT8;odd%3Bkey=1";
  std::vector<ValueId> in{x};
  Rng rng(7);
  for (DType t : {DType::f32, DType::f64, DType::f16, DType::bf16, DType::i8, DType::i16, DType::i32, DType::i64, DType::u8, DType::u16, DType::u32,
                  DType::u64, DType::boolean}) {
    Tensor v(t, {2, 3});
    for (std::int64_t i = 0; i < 6; ++i) v.set(i, t == DType::boolean ? static_cast<double>(i % 2) : static_cast<double>(rng.range(0, 100)));
    in.push_back(g.add_constant(fmt::format("c_{}", to_string(t)), v));
  }
  in.push_back(g.add_constant("scalar", Tensor::scalar(2.5f)));
  in.push_back(g.add_constant("empty", Tensor(DType::f32, {0, 4})));
  in.push_back(kNone);
  const ValueId y = g.add_node("Unheard", in,
                               {{"i", std::int64_t{-3}}, {"f", 0.25}, {"s", std::string("a\0b", 3)}, {"is", std::vector<std::int64_t>{}},
                                {"fs", std::vector<double>{1.5, -2}}, {"ss", std::vector<std::string>{"p", ""}}, {"t", Tensor::scalar(std::int64_t{9})}},
                               "node", "some.domain");
  const ValueId z = g.add_node("Relu", {y});
  g.values[static_cast<std::size_t>(y)].type = {DType::i32, Dims{Dim("batch"), Dim(4)}};
  g.values[static_cast<std::size_t>(z)].type = {DType::f16, Dims{}};
  g.outputs = {z, y};
  const Graph h = parse_onnx(onnx_bytes(g));
  EXPECT_EQ(first_difference(g, h), "");
  EXPECT_EQ(first_difference(h, g), "");
  EXPECT_EQ(h.values[0].quant, g.values[0].quant);
}

TEST(onnx, every_prefix_is_refused_or_whole) {
  const std::string bytes = model(input("x", {1, 2}) + node("Relu", {"x"}, {"y"}) + output("y"));
  EXPECT_EQ(parse_onnx(bytes).nodes.size(), 1u);
  for (std::size_t n = 0; n < bytes.size(); ++n) {
    const std::string m = refusal(bytes.substr(0, n));
    EXPECT_NE(m.substr(0, 9), "accepted:") << n;
  }
  EXPECT_HAS(refusal(bytes.substr(0, bytes.size() / 2)), "truncated");
}

TEST(onnx, inconsistent_files_name_the_place) {
  const std::string x = input("x", {1, 2}), y = output("y"), relu = node("Relu", {"x"}, {"y"}, "", "act");
  EXPECT_HAS(refusal(""), "empty");
  EXPECT_HAS(refusal("this is no model at all"), "ONNX");
  EXPECT_HAS(refusal(num(1, 8)), "no graph");
  std::string m = refusal(model(x + msg(5, tensor("w", {2, 3}, raw({1, 2, 3}))) + relu + y));
  EXPECT_HAS(m, "initialiser 'w'");
  EXPECT_HAS(m, "24 bytes");
  EXPECT_HAS(refusal(model(x + msg(5, tensor("w", {-1}, "")) + relu + y)), "extent -1");
  EXPECT_HAS(refusal(model(x + msg(5, tensor("w", {1ll << 40, 1ll << 40}, "")) + relu + y)), "elements of initialiser 'w'");
  EXPECT_HAS(refusal(model(x + msg(5, tensor("w", {1}, "abcd", 8)) + relu + y)), "STRING");
  m = refusal(model(x + node("Add", {"x", "ghost"}, {"y"}, "", "sum") + y));
  EXPECT_HAS(m, "'ghost' comes from nowhere");
  EXPECT_HAS(m, "node 'sum' (Add)");
  m = refusal(model(x + relu + node("Relu", {"x"}, {"y"}, "", "twin") + y));
  EXPECT_HAS(m, "two producers");
  EXPECT_HAS(m, "'twin'");
  m = refusal(model(x + node("Add", {"x", "b"}, {"a"}, "", "first") + node("Relu", {"a"}, {"b"}, "", "second") + output("b")));
  EXPECT_HAS(m, "cycle");
  EXPECT_HAS(m, "'first'");
  EXPECT_HAS(m, "'second'");
  EXPECT_HAS(refusal(model(x + relu + output("nothing"))), "'nothing' comes from nowhere");
  EXPECT_HAS(refusal(model(x + input("x", {1}) + relu + y)), "two producers");
  EXPECT_HAS(refusal(model(input("x", {-1, 2}) + relu + y)), "extent -1");
  EXPECT_HAS(refusal(model(x + node("Relu", {"x"}, {"y\x1b[31m"}) + output("y\x1b[31m"))), "control characters");
  EXPECT_HAS(refusal(model(x + node("Relu", {"x"}, {std::string(5000, 'y')}))), "at most 4096 bytes");
  EXPECT_HAS(refusal(model(x + relu + y, 99)), "opset 99");
  EXPECT_HAS(refusal(model(x + msg(5, tensor("w", {1}, raw({1}))) + msg(5, tensor("w", {1}, raw({1}))) + relu + y)), "two initialisers");
  EXPECT_HAS(refusal(model(x + input("w", {7}) + msg(5, tensor("w", {1}, raw({1}))) + relu + y)), "as the graph declares it");
  EXPECT_HAS(refusal(model(msg(11, msg(1, "s") + msg(2, msg(4, ""))) + relu + y)), "no tensor");
}

TEST(onnx, floods_are_counted_before_they_are_parsed) {
  std::string nodes;
  for (int i = 0; i < 200000; ++i) nodes += std::string("\x0a\x00", 2);
  Limits limits;
  limits.memory_bytes = 16 << 20;
  EXPECT_HAS(refusal(model(nodes), limits), "memory");
  limits = {};
  limits.nodes = 1000;
  EXPECT_HAS(refusal(model(nodes), limits), "more than 8000");
  std::string deep;
  for (int i = 0; i < 200; ++i) deep = msg(1, msg(5, msg(6, deep)));  // node, attribute, graph
  EXPECT_HAS(refusal(model(deep)), "nested");
}

// ---- sub-graphs ----
std::string graph_attr(const std::string& name, const std::string& graph) { return msg(5, msg(1, name) + msg(6, graph + msg(2, "sub")) + num(20, 5)); }
std::string bool_input(const std::string& name) { return msg(11, info(name, {}, 9)); }
// Parsed, verified, inferred: the first fault, or "accepted: ...".
std::string judged(const std::string& bytes) {
  try {
    Graph g = parse_onnx(bytes);
    verify(g);
    infer_shapes(g);
    return "accepted: " + to_text(g);
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), Exit::bad_input) << e.full();
    return e.full();
  }
}
std::vector<Tensor> computed(const std::string& bytes, const std::vector<Tensor>& in) {
  Graph g = parse_onnx(bytes);
  verify(g);
  const Graph again = parse_onnx(onnx_bytes(g));
  EXPECT_EQ(first_difference(g, again), "");
  EXPECT_EQ(first_difference(again, g), "");
  infer_shapes(g);
  return evaluate_float(g, in);
}
Tensor floats(const Shape& s, const std::vector<float>& v) { return Tensor::of<float>(s, v); }

TEST(onnx, branches_capture_outer_values_and_constants) {
  // then: x + w, else: relu(x), with w a constant of the outer graph and x its input.
  const std::string bytes = model(input("x", {2}) + bool_input("c") + msg(5, tensor("w", {2}, raw({10, 20}))) +
                                  node("If", {"c"}, {"y"}, graph_attr("then_branch", node("Add", {"x", "w"}, {"t"}) + output("t")) + graph_attr("else_branch", node("Relu", {"x"}, {"e"}) + output("e"))) + output("y"));
  const Graph g = parse_onnx(bytes);
  ASSERT_EQ(g.nodes[0].inputs.size(), 2u);
  EXPECT_EQ(g.nodes[0].attr_int("captured", 0), 1);
  const Graph& then = g.nodes[0].attr_graph("then_branch");
  EXPECT_EQ(then.inputs.size(), 1u);
  EXPECT_NE(then.constant(then.find("w")), nullptr);
  EXPECT_EQ(then.constant(then.find("w"))->raw(), g.constant(g.find("w"))->raw());  // shared, not copied
  EXPECT_LT(onnx_bytes(g).size(), bytes.size() + 200);                              // and written once
  const Tensor x = floats({2}, {-1, 2});
  EXPECT_TRUE(computed(bytes, {x, Tensor::scalar(true)})[0].same(floats({2}, {9, 22})));
  EXPECT_TRUE(computed(bytes, {x, Tensor::scalar(false)})[0].same(floats({2}, {0, 2})));
  // A captured value comes through two graphs; a branch may hand it on as it is.
  const std::string inner = node("If", {"c"}, {"u"}, graph_attr("then_branch", node("Neg", {"x"}, {"n"}) + output("n")) + graph_attr("else_branch", output("x")), "inner");
  const std::string deep = model(input("x", {2}) + bool_input("c") + node("If", {"c"}, {"y"}, graph_attr("then_branch", inner + output("u")) + graph_attr("else_branch", node("Relu", {"x"}, {"e"}) + output("e"))) + output("y"));
  EXPECT_TRUE(computed(deep, {x, Tensor::scalar(true)})[0].same(floats({2}, {1, -2})));
}

TEST(onnx, a_captured_value_may_be_called_otherwise_inside) {
  // A graph made by a program: the sub-graph's names are its own. Written, the captured value bears the outer name.
  Graph body;
  const ValueId in = body.add_value("inside");
  body.inputs = {in};
  const ValueId shadow = body.add_node("Neg", {in}, {}, "x");  // clashes with the outer name
  body.outputs = {body.add_node("Neg", {shadow}, {}, "again")};
  Graph g;
  const ValueId x = g.add_input("x", DType::f32, {Dim(2)}), c = g.add_input("c", DType::boolean, {});
  const auto sub = std::make_shared<const Graph>(body);
  g.outputs = {g.add_node("If", {c, x}, {{"then_branch", sub}, {"else_branch", sub}, {"captured", std::int64_t{1}}}, "choose")};
  verify(g);
  Graph back = parse_onnx(onnx_bytes(g));
  infer_shapes(back);
  EXPECT_TRUE(evaluate_float(back, {floats({2}, {3, -4}), Tensor::scalar(true)})[0].same(floats({2}, {3, -4})));
}

TEST(onnx, loops_and_scans) {
  // Loop: s <- s + x while s < 10; every s is seen.
  const std::string body = msg(11, info("i", {}, 7)) + bool_input("go") + input("s", {1}) + node("Add", {"s", "x"}, {"t"}) + node("Less", {"t", "ten"}, {"l"}, "", "less") +
                           node("Squeeze", {"l"}, {"on"}, "", "one") + node("Identity", {"t"}, {"seen"}, "", "id") + output("on") + output("t") + output("seen");
  const std::string loop = model(input("x", {1}) + msg(5, tensor("zero", {1}, raw({0}))) + msg(5, tensor("ten", {1}, raw({10}))) +
                                 node("Loop", {"", "", "zero"}, {"y", "all"}, graph_attr("body", body)) + output("y") + output("all"));
  const std::vector<Tensor> y = computed(loop, {floats({1}, {4})});
  EXPECT_TRUE(y[0].same(floats({1}, {12})));
  EXPECT_TRUE(y[1].same(floats({3, 1}, {4, 8, 12})));
  // Scan of opset 8 (over axis 1 for every element of axis 0) and of today.
  const std::string sum = input("s", {2}) + input("e", {2}) + node("Add", {"s", "e"}, {"n"}) + node("Identity", {"n"}, {"o"}, "", "id") + output("n") + output("o");
  const std::string attrs = graph_attr("body", sum) + int_attr("num_scan_inputs", 1);
  const std::string eight = model(input("s0", {1, 2}) + input("x", {1, 3, 2}) + node("Scan", {"", "s0", "x"}, {"s", "y"}, attrs) + output("s") + output("y"), 8);
  const std::string nine = model(input("s0", {2}) + input("x", {3, 2}) + node("Scan", {"s0", "x"}, {"s", "y"}, attrs) + output("s") + output("y"), 9);
  const std::vector<float> x{1, 2, 3, 4, 5, 6}, want{1, 2, 4, 6, 9, 12};
  EXPECT_TRUE(computed(eight, {floats({1, 2}, {0, 0}), floats({1, 3, 2}, x)})[1].same(floats({1, 3, 2}, want)));
  EXPECT_TRUE(computed(nine, {floats({2}, {0, 0}), floats({3, 2}, x)})[1].same(floats({3, 2}, want)));
  EXPECT_TRUE(computed(nine, {floats({2}, {0, 0}), floats({3, 2}, x)})[0].same(floats({2}, {9, 12})));
}

TEST(onnx, bad_sub_graphs_are_named) {
  const std::string x = input("x", {2}) + bool_input("c"), y = output("y"), relu = graph_attr("else_branch", node("Relu", {"x"}, {"e"}) + output("e"));
  const auto branch = [&](const std::string& then) { return model(x + node("If", {"c"}, {"y"}, then + relu, "choose") + y); };
  EXPECT_HAS(judged(model(x + node("If", {"c"}, {"y"}, relu, "choose") + y)), "'then_branch' is missing");
  std::string m = judged(branch(graph_attr("then_branch", node("Add", {"x", "ghost"}, {"t"}) + output("t"))));
  EXPECT_HAS(m, "'ghost' comes from nowhere");
  EXPECT_HAS(m, "node 'choose' (If)");
  EXPECT_HAS(judged(branch(graph_attr("then_branch", node("Relu", {"x"}, {"t"}) + output("lost")))), "'lost' comes from nowhere");
  EXPECT_HAS(judged(branch(graph_attr("then_branch", node("Relu", {"x"}, {"t"})))), "its then_branch has 0 outputs");
  EXPECT_HAS(judged(branch(graph_attr("then_branch", input("p", {2}) + node("Relu", {"p"}, {"t"}) + output("t")))), "inputs");
  m = judged(branch(graph_attr("then_branch", node("Nonsense", {"x"}, {"t"}, "", "inside") + output("t"))));
  EXPECT_HAS(m, "'Nonsense' is not known");
  EXPECT_HAS(m, "node 'choose' (If): node 'inside' (Nonsense)");
  EXPECT_HAS(judged(branch(graph_attr("then_branch", node("Cast", {"x"}, {"t"}, int_attr("to", 7)) + output("t")))), "one element type");
  EXPECT_HAS(judged(branch(graph_attr("then_branch", node("Add", {"a", "x"}, {"b"}, "", "p") + node("Add", {"b", "x"}, {"a"}, "", "q") + output("a")))), "cycle");
  EXPECT_HAS(judged(branch(graph_attr("then_branch", node("Relu", {"x"}, {"t"}) + output("t")) + int_attr("captured", 1))), "unknown attribute 'captured'");
  EXPECT_HAS(judged(model(x + node("Loop", {"", "", "x"}, {"y"}, "", "l") + y)), "'body' is missing");
  EXPECT_HAS(judged(model(x + node("Loop", {"", "", "x"}, {"y"}, int_attr("body", 1), "l") + y)), "a sub-graph");
  EXPECT_HAS(judged(model(x + node("Scan", {"x"}, {"y"}, graph_attr("body", input("e", {}) + node("Neg", {"e"}, {"o"}) + output("o")) + int_attr("num_scan_inputs", 3), "s") + y)), "3 of them scanned");
  EXPECT_HAS(judged(model(input("x", {1, 2, 3}) + msg(11, info("n", {1}, 7)) + node("Scan", {"n", "x"}, {"y"}, graph_attr("body", input("e", {3}) + node("Neg", {"e"}, {"o"}) + output("o")) + int_attr("num_scan_inputs", 1), "s") + y, 8)), "lengths per sequence");
  EXPECT_HAS(judged(branch(graph_attr("then_branch", node("Delay", {"x"}, {"t"}, ints_attr("shape", {2}), "late", "tandem") + output("t")))), "a Delay within a sub-graph");
  // Fourteen loops within each other, the state of each growing: found out without trying every combination of shapes.
  std::string grows = node("Concat", {"v0", "v0"}, {"w0"}, int_attr("axis", 0), "c") + node("Identity", {"g0"}, {"on0"}, "", "i") + output("on0") + output("w0");
  for (int i = 0; i < 14; ++i) {
    const std::string ports = msg(11, info(fmt::format("k{}", i), {}, 7)) + bool_input(fmt::format("g{}", i)) + msg(11, info(fmt::format("v{}", i), {2}));
    const std::string outer = fmt::format("v{}", i + 1), last = fmt::format("w{}", i + 1), on = fmt::format("on{}", i + 1);
    grows = node("Loop", {"m", "", outer}, {last}, graph_attr("body", ports + grows), fmt::format("loop{}", i)) + node("Identity", {fmt::format("g{}", i + 1)}, {on}, "", fmt::format("i{}", i)) + output(on) + output(last);
  }
  EXPECT_HAS(judged(model(input("v14", {2}) + bool_input("g14") + msg(5, tensor("m", {}, std::string("\1\0\0\0\0\0\0\0", 8), 7)) + grows)), "accepted");
  std::string deep = node("Relu", {"x"}, {"y"}) + output("y");
  for (int i = 0; i < 20; ++i) deep = node("If", {"c"}, {"y"}, graph_attr("then_branch", deep) + graph_attr("else_branch", output("x")), fmt::format("level{}", i)) + output("y");
  EXPECT_HAS(judged(model(x + deep)), "nested more than 16 deep");
}

// ---- local functions ----
std::string function(const std::string& name, const std::vector<std::string>& in, const std::vector<std::string>& out, const std::string& nodes, const std::vector<std::string>& attrs = {}, int opset = 17) {
  std::string s = msg(1, name) + msg(10, "my.own");
  for (const auto& i : in) s += msg(4, i);
  for (const auto& o : out) s += msg(5, o);
  for (const auto& a : attrs) s += msg(6, a);
  std::string body;  // nodes are field 1 of a graph, 7 of a function
  for (std::size_t p = 0; p < nodes.size();) {
    std::size_t q = p + 1;
    std::uint64_t n = 0;
    for (int shift = 0;; shift += 7) {
      const auto b = static_cast<unsigned char>(nodes[q++]);
      n |= static_cast<std::uint64_t>(b & 127) << shift;
      if (!(b & 128)) break;
    }
    body += msg(7, nodes.substr(q, n));
    p = q + n;
  }
  return msg(25, s + body + msg(9, msg(1, "") + num(2, static_cast<std::uint64_t>(opset))));
}
std::string call(const std::string& op, const std::vector<std::string>& in, const std::vector<std::string>& out, const std::string& more = "", const std::string& name = "f") {
  return node(op, in, out, more, name, "my.own");
}
std::string ref_attr(const std::string& name, const std::string& of, int type) { return msg(5, msg(1, name) + msg(21, of) + num(20, static_cast<std::uint64_t>(type))); }

TEST(onnx, functions_are_inlined) {
  // twice(x) = 2 x, fourfold(x) = twice(twice(x)), leaky(x; slope) = LeakyRelu(x), called twice: names stay unique.
  const std::string functions = function("twice", {"a"}, {"b"}, node("Add", {"a", "a"}, {"b"}, "", "sum")) +
                                function("fourfold", {"a"}, {"b"}, call("twice", {"a"}, {"h"}, "", "first") + call("twice", {"h"}, {"b"}, "", "second")) +
                                function("leaky", {"a"}, {"b"}, node("LeakyRelu", {"a"}, {"b"}, ref_attr("alpha", "slope", 1), "act"), {"slope"});
  const auto run = [&](const std::string& nodes, const std::vector<float>& x) { return computed(model(input("x", {2}) + nodes + output("y")) + functions, {floats({2}, x)})[0]; };
  EXPECT_TRUE(run(call("fourfold", {"x"}, {"m"}, "", "p") + call("fourfold", {"m"}, {"y"}, "", "q"), {1, -2}).same(floats({2}, {16, -32})));
  EXPECT_TRUE(run(call("leaky", {"x"}, {"y"}, float_attr("slope", 0.5f)), {1, -2}).same(floats({2}, {1, -1})));
  EXPECT_TRUE(run(call("leaky", {"x"}, {"y"}), {100, -100}).same(floats({2}, {100, -1})));  // the operator's own default
  const Graph g = parse_onnx(model(input("x", {2}) + call("fourfold", {"x"}, {"y"}, "", "p") + output("y")) + functions);
  EXPECT_EQ(g.nodes[0].name, "p/first/sum");
  EXPECT_EQ(g.nodes[1].name, "p/second/sum");
  // A default of the function, an input handed on, and a function of another opset (Softmax of 11 flattens).
  const std::string slope = msg(11, msg(1, "slope") + f32(2, 0.25f) + num(20, 1));
  std::string f = msg(1, "soft") + msg(10, "my.own") + msg(4, "a") + msg(5, "b") + msg(7, msg(1, "a") + msg(2, "b") + msg(4, "LeakyRelu") + ref_attr("alpha", "slope", 1)) + slope;
  EXPECT_TRUE(computed(model(input("x", {2}) + call("soft", {"x"}, {"y"}) + output("y")) + msg(25, f), {floats({2}, {4, -4})})[0].same(floats({2}, {4, -1})));
  EXPECT_TRUE(computed(model(input("x", {2}) + call("same", {"x"}, {"y"}) + output("y")) + function("same", {"a"}, {"a"}, ""), {floats({2}, {4, -4})})[0].same(floats({2}, {4, -4})));
  const Tensor flat = computed(model(input("x", {1, 2, 2}) + call("old", {"x"}, {"y"}) + output("y")) + function("old", {"a"}, {"b"}, node("Softmax", {"a"}, {"b"}), {}, 11), {floats({1, 2, 2}, {0, 0, 0, 0})})[0];
  EXPECT_TRUE(flat.same(floats({1, 2, 2}, {0.25f, 0.25f, 0.25f, 0.25f})));
  // A sub-graph within a function reads the function's values.
  const std::string choose = node("If", {"c"}, {"b"}, graph_attr("then_branch", node("Neg", {"a"}, {"t"}) + output("t")) + graph_attr("else_branch", node("Relu", {"a"}, {"t"}) + output("t")), "if");
  EXPECT_TRUE(computed(model(input("x", {2}) + bool_input("k") + call("choose", {"x", "k"}, {"u"}, "", "one") + call("choose", {"u", "k"}, {"y"}, "", "two") + output("y")) + function("choose", {"a", "c"}, {"b"}, choose),
                       {floats({2}, {4, -4}), Tensor::scalar(true)})[0].same(floats({2}, {4, -4})));
}

TEST(onnx, bad_functions_are_named) {
  const std::string x = input("x", {2}), y = output("y");
  const auto with = [&](const std::string& functions, const std::string& nodes) { return judged(model(x + nodes + y) + functions); };
  EXPECT_HAS(with(function("f", {"a"}, {"b"}, call("f", {"a"}, {"b"})), call("f", {"x"}, {"y"})), "calls itself");
  EXPECT_HAS(with(function("f", {"a"}, {"b"}, call("g", {"a"}, {"b"})) + function("g", {"a"}, {"b"}, call("f", {"a"}, {"b"})), call("f", {"x"}, {"y"})), "calls itself");
  EXPECT_HAS(with(function("f", {"a"}, {"b"}, node("Add", {"a", "ghost"}, {"b"})), call("f", {"x"}, {"y"})), "reads 'ghost'");
  EXPECT_HAS(with(function("f", {"a"}, {"lost"}, node("Relu", {"a"}, {"b"})), call("f", {"x"}, {"y"})), "'lost' of the function 'f' comes from nowhere");
  EXPECT_HAS(with(function("f", {"a"}, {"b"}, node("Relu", {"a"}, {"b"})), call("f", {"x", "x"}, {"y"})), "a call with 2 inputs");
  EXPECT_HAS(with(function("f", {"a"}, {"b"}, node("Relu", {"a"}, {"b"})) + function("f", {"a"}, {"b"}, node("Neg", {"a"}, {"b"})), call("f", {"x"}, {"y"})), "two functions are called 'f'");
  // 2^20 nodes from twenty functions: counted while they are inlined.
  std::string bomb = function("f0", {"a"}, {"b"}, node("Neg", {"a"}, {"b"}));
  for (int i = 1; i < 15; ++i) bomb += function(fmt::format("f{}", i), {"a"}, {"b"}, call(fmt::format("f{}", i - 1), {"a"}, {"h"}, "", "p") + call(fmt::format("f{}", i - 1), {"h"}, {"b"}, "", "q"));
  Limits limits;
  limits.nodes = 5000;
  EXPECT_HAS(refusal(model(x + call("f14", {"x"}, {"y"}) + y) + bomb, limits), "once its functions are inlined");
}

TEST(onnx, constants_become_initialisers) {
  const Graph g = parse_onnx(model(input("x", {2}) + node("Constant", {}, {"c"}, msg(5, msg(1, "value") + msg(5, tensor("", {2}, raw({1, 2}))) + num(20, 4)), "k") +
                                   node("Constant", {}, {"i"}, int_attr("value_int", 5), "k2") + node("Add", {"x", "c"}, {"y"}, "", "k") + output("y")));
  ASSERT_EQ(g.nodes.size(), 1u);
  EXPECT_EQ(g.nodes[0].name, "k_1");  // names of nodes are made unique
  EXPECT_EQ(g.constant(g.find("c"))->at(1), 2);
  EXPECT_EQ(g.constant(g.find("i"))->int_at(0), 5);
}

// One node of an older opset, as the graph of opset 17 that it means.
Graph old(const std::string& nodes, int opset, const std::vector<std::int64_t>& shape = {1, 2, 3}) {
  Graph g = parse_onnx(model(input("x", shape) + nodes + output("y"), opset));
  infer_shapes(g);
  verify(g);
  return g;
}

TEST(onnx, older_opsets_take_the_form_of_opset_17) {
  Graph g = old(node("Clip", {"x"}, {"y"}, float_attr("max", 6)), 6);
  ASSERT_EQ(g.nodes[0].inputs.size(), 3u);
  EXPECT_EQ(g.nodes[0].inputs[1], kNone);
  EXPECT_EQ(g.constant(g.nodes[0].inputs[2])->at(0), 6);
  EXPECT_TRUE(g.nodes[0].attrs.empty());
  EXPECT_EQ(g.opset, 17);
  EXPECT_EQ(g.metadata.at("onnx.opset"), "6");
  g = old(node("Unsqueeze", {"x"}, {"y"}, ints_attr("axes", {0, 4})), 11);
  EXPECT_EQ(to_string(*g.values[static_cast<std::size_t>(g.outputs[0])].type.dims), "[1, 1, 2, 3, 1]");
  g = old(node("Squeeze", {"x"}, {"y"}, ints_attr("axes", {0})), 11);
  EXPECT_EQ(to_string(*g.values[static_cast<std::size_t>(g.outputs[0])].type.dims), "[2, 3]");
  g = old(node("Reshape", {"x"}, {"y"}, ints_attr("shape", {3, -1})), 1);
  EXPECT_EQ(to_string(*g.values[static_cast<std::size_t>(g.outputs[0])].type.dims), "[3, 2]");
  g = old(node("Dropout", {"x"}, {"y", "mask"}, float_attr("ratio", 0.5)), 7);
  EXPECT_EQ(g.nodes[0].outputs.size(), 1u);
  EXPECT_TRUE(g.nodes[0].attrs.empty());
  g = old(node("Concat", {"x", "x"}, {"y"}), 1);
  EXPECT_EQ(to_string(*g.values[static_cast<std::size_t>(g.outputs[0])].type.dims), "[1, 4, 3]");
  g = old(msg(5, tensor("b", {2}, raw({1, 2}))) + node("Add", {"x", "b"}, {"y"}, int_attr("broadcast", 1) + int_attr("axis", 1)), 6);
  EXPECT_EQ(to_string(g.constant(g.nodes[0].inputs[1])->shape()), "[2, 1]");
  const std::string bn = [] {
    std::string s;
    for (const char* n : {"s", "b", "m", "v"}) s += msg(5, tensor(n, {2}, raw({1, 1})));
    return s;
  }();
  g = old(bn + node("BatchNormalization", {"x", "s", "b", "m", "v"}, {"y"}, int_attr("spatial", 1) + float_attr("epsilon", 1e-3f)), 8);
  EXPECT_EQ(g.nodes[0].attrs.size(), 1u);
}

// Every operator that samples itself, written in every opset: what is read back computes the same, and writing it again changes nothing.
TEST(onnx, every_operator_in_every_opset) {
  std::map<std::string, int> first;  // opset
  std::map<int, int> written;
  int expansions = 0;
  for (const OpDef* o : all_ops()) {
    if (!o->sample || !o->domain.empty()) continue;
    for (std::uint64_t seed = 0; seed < 8; ++seed) {
      Rng r(seed, o->name);
      Graph g;
      std::vector<Tensor> inputs;
      Sample s{r, g, inputs};
      o->sample(*o, s);
      Graph typed = g;
      infer_shapes(typed);
      const std::vector<Tensor> y = evaluate_float(typed, inputs);
      for (int opset = 6; opset <= 22; ++opset) {
        std::string bytes;
        try {
          bytes = onnx_bytes(g, opset);
        } catch (const Error& e) {
          ASSERT_EQ(e.code(), Exit::bad_input) << e.full();
          EXPECT_HAS(e.where(), "probe");
          EXPECT_HAS(e.message(), fmt::format("in opset {}", opset));
          continue;
        }
        const std::string where = fmt::format("{} seed {} opset {}", o->name, seed, opset);
        try {
          Graph h = parse_onnx(bytes);
          verify(h);
          // An operator that is younger than the opset may be written as what it expands into, which rounds more often.
          const bool expanded = std::none_of(h.nodes.begin(), h.nodes.end(), [&](const Node& n) { return n.op == o->name; });
          if (!expanded) {
            int& least = first.emplace(o->name, opset).first->second;
            least = std::min(least, opset);
          }
          ++written[opset];
          h.metadata.clear();
          Graph again = parse_onnx(onnx_bytes(h, opset));
          again.metadata.clear();
          ASSERT_EQ(first_difference(h, again), "") << where;
          if (expanded && o->expansion) {
            ++expansions;
          } else {
            EXPECT_EQ(h.nodes.size(), g.nodes.size()) << where;
          }
          infer_shapes(h);
          const std::vector<Tensor> z = evaluate_float(h, inputs);
          ASSERT_EQ(y.size(), z.size()) << where;
          for (std::size_t i = 0; i < y.size(); ++i) {
            ASSERT_EQ(y[i].shape(), z[i].shape()) << where;
            if (!expanded) EXPECT_TRUE(y[i].same(z[i])) << where;
            else for (std::int64_t k = 0; k < y[i].size(); ++k) EXPECT_NEAR(y[i].at(k), z[i].at(k), 1e-5 * (1 + std::abs(y[i].at(k)))) << where;
          }
        } catch (const Error& e) {
          ADD_FAILURE() << where << ": " << e.full() << "\n" << to_text(g);
        }
      }
    }
  }
  // What ONNX's list of versions says of a few.
  for (const auto& [op, opset] : std::map<std::string, int>{{"Erf", 9}, {"Einsum", 12}, {"Trilu", 14}, {"LayerNormalization", 17}, {"Gelu", 20}, {"GroupNormalization", 18}, {"Sigmoid", 6}, {"ReduceSum", 6}, {"Slice", 6}, {"TopK", 6}, {"Pad", 6}})
    EXPECT_EQ(first[op], opset) << op;
  EXPECT_GT(expansions, 100);
  EXPECT_GT(written[7], 200);
  EXPECT_GT(written[17], 600);
}

TEST(onnx, a_node_without_a_form_in_an_opset_is_named) {
  const auto wrong = [](const std::string& graph, int opset) {
    try {
      onnx_bytes(parse_onnx(model(graph)), opset);
      return std::string("written");
    } catch (const Error& e) {
      EXPECT_EQ(e.code(), Exit::bad_input);
      return e.full();
    }
  };
  const std::string x = input("x", {2, 3}), y = output("y");
  const std::string m = wrong(x + node("Trilu", {"x"}, {"y"}, "", "act") + y, 13);
  EXPECT_HAS(m, "node 'act' (Trilu)");
  EXPECT_HAS(m, "opset 14 or later");
  EXPECT_HAS(wrong(x + node("Softmax", {"x"}, {"y"}, int_attr("axis", 0)) + y, 11), "normalised together");
  EXPECT_HAS(wrong(x + input("lo", {}) + node("Clip", {"x", "lo"}, {"y"}) + y, 10), "is no constant number");
  EXPECT_HAS(wrong(x + node("Shape", {"x"}, {"y"}, int_attr("start", 1)) + msg(12, info("y", {1}, 7)), 13), "its attribute 'start' is of opset 15");
  EXPECT_HAS(wrong(x + input("z", {2, 1}) + node("Add", {"x", "z"}, {"y"}) + y, 6), "broadcasts");
  EXPECT_HAS(wrong(x + y, 5), "nowhere");
  EXPECT_HAS(wrong(x + node("Relu", {"x"}, {"y"}) + y, 5), "export to opset 5");
  // Without an opset asked for: 17, or the first that has the operators.
  const Graph gelu = parse_onnx(model(x + node("Gelu", {"x"}, {"y"}) + y));
  EXPECT_EQ(onnx_bytes(gelu), onnx_bytes(gelu, 20));
}

TEST(onnx, softmax_before_opset_13_flattens) {
  // Axis 1 (the default) of [1, 2, 3]: the 6 values of a row are normalised together.
  Graph g = old(node("Softmax", {"x"}, {"y"}), 11);
  const Tensor x = Tensor::of<float>({1, 2, 3}, std::vector<float>{0, 1, 2, 3, 4, 5});
  std::vector<Tensor> y = evaluate_float(g, {x});
  ASSERT_EQ(to_string(y[0].shape()), "[1, 2, 3]");
  double sum = 0;
  for (int i = 0; i < 6; ++i) sum += y[0].at(i);
  EXPECT_NEAR(sum, 1, 1e-6);  // six values rounded to f32
  EXPECT_NEAR(y[0].at(5) / y[0].at(4), std::exp(1.0), 1e-5);
  // Along the last axis nothing changes but the spelling.
  EXPECT_EQ(old(node("Softmax", {"x"}, {"y"}, int_attr("axis", 2)), 11).nodes.size(), 1u);
  EXPECT_EQ(old(node("Softmax", {"x"}, {"y"}), 11, {4, 5}).nodes.size(), 1u);
  // From 13 on, axis is just an axis, the last by default.
  EXPECT_EQ(old(node("Softmax", {"x"}, {"y"}), 13).nodes.size(), 1u);
}

TEST(onnx, qonnx_domains_and_multithreshold) {
  for (const char* domain : {"qonnx.custom_op.general", "onnx.brevitas", "finn.custom_op.general"}) {
    const Graph g = parse_onnx(model(input("x", {2}) + msg(5, tensor("s", {}, raw({0.5f}))) + msg(5, tensor("z", {}, raw({0}))) + msg(5, tensor("b", {}, raw({4}))) +
                                     node("Quant", {"x", "s", "z", "b"}, {"y"}, int_attr("signed", 0) + int_attr("narrow", 0) + string_attr("rounding_mode", "FLOOR"), "q", domain) +
                                     output("y")));
    EXPECT_EQ(g.nodes[0].domain, "qonnx.custom_op.general");
    EXPECT_EQ(op_of(g, g.nodes[0]).name, "Quant");
  }
  const std::string steps = input("x", {1, 2}) + msg(5, tensor("t", {2, 3}, raw({-1, 0, 1, 0, 2, 4})));
  const auto mt = [&](const std::string& attrs) {
    return parse_onnx(model(steps + node("MultiThreshold", {"x", "t"}, {"y"}, string_attr("out_dtype", "INT2") + attrs, "q", "finn.custom_op.general") + output("y")));
  };
  Graph g = mt(float_attr("out_bias", -2) + float_attr("out_scale", 0.5f));  // 0.5 * (count - 4)
  ASSERT_EQ(g.nodes[0].op, "Threshold");
  infer_shapes(g);
  const std::vector<Tensor> y = evaluate_float(g, {Tensor::of<float>({1, 2}, std::vector<float>{0, 3})});
  EXPECT_EQ(y[0].at(0), 0.5 * (2 - 4));
  EXPECT_EQ(y[0].at(1), 0.5 * (2 - 4));
  // A bias that is no whole number of steps is added behind it; a scale that is not positive is multiplied.
  const auto computes = [&](Graph h, const std::vector<std::string>& ops, const Tensor& x, const std::vector<double>& want) {
    std::vector<std::string> have;
    for (const Node& n : h.nodes) have.push_back(n.op);
    EXPECT_EQ(have, ops);
    verify(h);
    EXPECT_EQ(first_difference(h, parse_onnx(onnx_bytes(h))), "");
    infer_shapes(h);
    const Tensor t = evaluate_float(h, {x})[0];
    ASSERT_EQ(t.size(), static_cast<std::int64_t>(want.size()));
    for (std::size_t k = 0; k < want.size(); ++k) EXPECT_EQ(t.at(static_cast<std::int64_t>(k)), want[k]) << k;
  };
  const Tensor x = Tensor::of<float>({1, 2}, std::vector<float>{0, 3});  // two steps reached in both channels
  computes(mt(float_attr("out_bias", -1) + float_attr("out_scale", 2)), {"Threshold", "Add"}, x, {3, 3});
  computes(mt(float_attr("out_bias", 1) + float_attr("out_scale", -2)), {"Threshold", "Mul", "Add"}, x, {-3, -3});
  // Channels last: moved to the second axis and back. Unsorted steps count the same.
  const std::string nhwc = input("x", {1, 1, 2, 2}) + msg(5, tensor("t", {2, 2}, raw({1, 0, 20, 10}))) +
                           node("MultiThreshold", {"x", "t"}, {"y"}, string_attr("out_dtype", "INT2") + string_attr("data_layout", "NHWC"), "q", "finn.custom_op.general") + output("y");
  computes(parse_onnx(model(nhwc)), {"Transpose", "Threshold", "Transpose"}, Tensor::of<float>({1, 1, 2, 2}, std::vector<float>{0, 10, 1, 20}), {1, 1, 2, 2});
  EXPECT_HAS(refusal(model(steps + node("MultiThreshold", {"x", "t"}, {"y"}, int_attr("odd", 1), "q", "finn.custom_op.general") + output("y"))), "unknown attribute 'odd'");
}

TEST(onnx, finn_layers_become_what_they_compute) {
  const std::string w = input("x", {1, 3}) + msg(5, tensor("w", {3, 2}, raw({1, 0, 0, 1, 1, 1}))) + msg(5, tensor("t", {2, 2}, raw({1, 2, 0, 5})));
  const auto run = [&](const std::string& op, const std::string& attrs, bool steps, const std::vector<float>& x) {
    Graph g = parse_onnx(model(w + node(op, steps ? std::vector<std::string>{"x", "w", "t"} : std::vector<std::string>{"x", "w"}, {"y"}, attrs, "m", "finn.custom_op.fpgadataflow") + output("y")));
    verify(g);
    infer_shapes(g);
    return evaluate_float(g, {floats({1, 3}, x)})[0];
  };
  EXPECT_TRUE(run("MVAU_hls", int_attr("noActivation", 1), false, {1, 2, 3}).same(floats({1, 2}, {4, 5})));
  EXPECT_TRUE(run("MatrixVectorActivation", int_attr("ActVal", -1), true, {1, 2, 3}).same(floats({1, 2}, {1, 1})));          // 4 >= 1, 2; 5 >= 0, 5
  EXPECT_TRUE(run("StreamingFCLayer_Batch", string_attr("outputDataType", "BIPOLAR"), true, {1, 2, -3}).same(floats({1, 2}, {-1, -1})));
  EXPECT_TRUE(run("MVAU_rtl", int_attr("binaryXnorMode", 1) + int_attr("noActivation", 1), false, {1, 0, 1}).same(floats({1, 2}, {3, 1})));  // equal bits: 1,0,1 with 1,0,1 and 0,1,1
  EXPECT_HAS(refusal(model(input("x", {1, 3}) + input("w", {3, 2}) + node("MVAU_hls", {"x", "w"}, {"y"}, "", "m", "finn.custom_op.fpgadataflow") + output("y"))), "without constant weights");
}

TEST(onnx, channels_last_is_transposed_around) {
  // y[h, w, o] = sum x[h+i, w+j, c] * k[o, i, j, c], by hand.
  std::vector<float> x, k;
  Rng rng(5, "channels last");
  for (int i = 0; i < 4 * 4 * 2; ++i) x.push_back(static_cast<float>(rng.range(-4, 4)));
  for (int i = 0; i < 3 * 2 * 2 * 2; ++i) k.push_back(static_cast<float>(rng.range(-4, 4)));
  for (const bool quantised : {false, true}) {
    std::string nodes = msg(5, tensor("k", {3, 2, 2, 2}, raw(k)));
    if (quantised)
      nodes += msg(5, tensor("s", {}, raw({1}))) + msg(5, tensor("z", {}, raw({0}))) + msg(5, tensor("b", {}, raw({5}))) + node("Quant", {"k", "s", "z", "b"}, {"q"}, "", "quant", "onnx.brevitas");
    Graph g = parse_onnx(model(input("x", {1, 4, 4, 2}) + nodes + node("Conv", {"x", quantised ? "q" : "k"}, {"y"}, ints_attr("kernel_shape", {2, 2}), "c", "qonnx.custom_op.channels_last") + output("y")));
    EXPECT_EQ(g.nodes.size(), quantised ? 4u : 3u);  // the weights are transposed where they are stored
    verify(g);
    infer_shapes(g);
    const Tensor y = evaluate_float(g, {floats({1, 4, 4, 2}, x)})[0];
    ASSERT_EQ(to_string(y.shape()), "[1, 3, 3, 3]");
    for (int h = 0; h < 3; ++h)
      for (int w = 0; w < 3; ++w)
        for (int o = 0; o < 3; ++o) {
          float want = 0;
          for (int i = 0; i < 2; ++i)
            for (int j = 0; j < 2; ++j)
              for (int c = 0; c < 2; ++c) want += x[static_cast<std::size_t>(((h + i) * 4 + w + j) * 2 + c)] * k[static_cast<std::size_t>(((o * 2 + i) * 2 + j) * 2 + c)];
          EXPECT_EQ(y.at((h * 3 + w) * 3 + o), want);
        }
  }
  Graph g = parse_onnx(model(input("x", {1, 2, 2, 3}) + node("MaxPoolNHWC", {"x"}, {"y"}, ints_attr("kernel_shape", {2, 2}), "p", "qonnx.custom_op.general") + output("y")));
  infer_shapes(g);
  EXPECT_TRUE(evaluate_float(g, {floats({1, 2, 2, 3}, {1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 0, 0})})[0].same(floats({1, 1, 1, 3}, {7, 8, 9})));
}

TEST(onnx, small_floats_and_truncation) {
  const auto scalar = [](const std::string& name, float v) { return msg(5, tensor(name, {}, raw({v}))); };
  const auto run = [&](const std::string& params, const std::string& n, const std::vector<float>& x) {
    Graph g = parse_onnx(model(input("x", {static_cast<std::int64_t>(x.size())}) + params + n + output("y")));
    verify(g);
    EXPECT_EQ(first_difference(g, parse_onnx(onnx_bytes(g))), "");
    infer_shapes(g);
    return evaluate_float(g, {floats({static_cast<std::int64_t>(x.size())}, x)})[0];
  };
  // E4M3, bias 7: step 2^-9 below 2^-6, largest 480, here cut to 448. Halves go to the even code.
  const std::string e4m3 = scalar("s", 1) + scalar("e", 4) + scalar("m", 3) + scalar("b", 7) + scalar("most", 448);
  const auto fp8 = [&](const std::string& attrs, const std::vector<float>& x) { return run(e4m3, node("FloatQuant", {"x", "s", "e", "m", "b", "most"}, {"y"}, attrs, "f", "onnx.brevitas"), x); };
  EXPECT_TRUE(fp8(string_attr("rounding_mode", "round"), {1.0625f, 1.1875f, 500, -1e9f, 0, 0.0009765625f, 0.0029296875f, 17}).same(floats({8}, {1, 1.25f, 448, -448, 0, 0, 0.00390625f, 16})));
  EXPECT_TRUE(fp8(string_attr("rounding_mode", "ceil"), {1.0625f, -1.0625f}).same(floats({2}, {1.125f, -1})));
  const Tensor inf = fp8(int_attr("saturation", 0) + int_attr("has_inf", 1), {500, -500, 448});
  EXPECT_EQ(inf.at(0), INFINITY);
  EXPECT_EQ(inf.at(1), -INFINITY);
  EXPECT_EQ(inf.at(2), 448);
  EXPECT_TRUE(std::isnan(fp8(int_attr("saturation", 0) + int_attr("has_nan", 1), {500}).at(0)));
  EXPECT_THROW(fp8(int_attr("saturation", 0), {1}), Error);
  // Trunc from 8 to 4 bits of 0.25 steps, rounding down: 9.9 is code 40, 40 / 16 is 2.5.
  const std::string five = scalar("s", 0.25f) + scalar("z", 0) + scalar("i", 8) + scalar("o", 4);
  EXPECT_TRUE(run(five, node("Trunc", {"x", "s", "z", "i", "o"}, {"y"}, string_attr("rounding_mode", "floor"), "t", "qonnx.custom_op.general"), {9.9f, -9.9f, 12}).same(floats({3}, {0.5f, -0.75f, 0.75f})));
  const std::string six = five + scalar("os", 4);
  EXPECT_TRUE(run(six, node("Trunc", {"x", "s", "z", "i", "os", "o"}, {"y"}, string_attr("rounding_mode", "FLOOR"), "t", "qonnx.custom_op.general"), {9.9f, -9.9f, 100}).same(floats({3}, {8, -12, 28})));
}

TEST(onnx, external_data_stays_in_its_folder) {
  const Folder f, other;
  const auto with = [&](const std::string& location, const std::string& more = "") {
    const std::string entry = msg(13, msg(1, "location") + msg(2, location)) + more;
    const std::string w = num(1, 2) + num(2, 1) + msg(8, "w") + entry + num(14, 1);
    std::ofstream(f.path / "m.onnx", std::ios::binary) << model(input("x", {2}) + msg(5, w) + node("Add", {"x", "w"}, {"y"}) + output("y"));
    try {
      const Graph g = read_onnx(f.path / "m.onnx");
      return fmt::format("{} {}", g.constant(g.find("w"))->at(0), g.constant(g.find("w"))->at(1));
    } catch (const Error& e) {
      EXPECT_EQ(e.code(), Exit::bad_input);
      return e.full();
    }
  };
  std::ofstream(f.path / "w.bin", std::ios::binary) << raw({3, 4, 5, 6});
  std::ofstream(other.path / "secret.bin", std::ios::binary) << raw({9, 9});
  fs::create_directory(f.path / "sub");
  std::ofstream(f.path / "sub" / "v.bin", std::ios::binary) << raw({7, 8});
  fs::create_symlink(other.path / "secret.bin", f.path / "link.bin");
  fs::create_directory_symlink(other.path, f.path / "linked");
  ASSERT_EQ(mkfifo((f.path / "pipe").c_str(), 0600), 0);
  EXPECT_EQ(with("w.bin"), "3 4");
  EXPECT_EQ(with("w.bin", msg(13, msg(1, "offset") + msg(2, "8")) + msg(13, msg(1, "length") + msg(2, "8"))), "5 6");
  EXPECT_EQ(with("sub/v.bin"), "7 8");
  EXPECT_HAS(with("w.bin", msg(13, msg(1, "offset") + msg(2, "12"))), "has 16 bytes");
  EXPECT_HAS(with("w.bin", msg(13, msg(1, "length") + msg(2, "16"))), "external data of 16 bytes");
  EXPECT_HAS(with("w.bin", msg(13, msg(1, "offset") + msg(2, "-1"))), "a number of bytes");
  EXPECT_HAS(with("link.bin"), "without symbolic links");
  EXPECT_HAS(with("linked/secret.bin"), "without symbolic links");
  EXPECT_HAS(with("../" + other.path.filename().string() + "/secret.bin"), "cannot be opened");
  EXPECT_HAS(with((other.path / "secret.bin").string()), "below the folder");
  EXPECT_HAS(with("pipe"), "regular file");
  EXPECT_HAS(with("sub"), "regular file");
  EXPECT_HAS(with("absent"), "cannot be opened");
  EXPECT_HAS(refusal(read_file(f.path / "m.onnx")), "another file");
}

// What the fuzz target asks of any bytes.
void read_or_refuse(const std::string& bytes, int& refused) {
  try {
    const Graph g = parse_onnx(bytes);
    ASSERT_EQ(first_difference(g, parse_onnx(onnx_bytes(g))), "");
    try {
      parse_onnx(onnx_bytes(g, 6 + static_cast<int>(bytes.size() % 18)));
    } catch (const Error& e) {
      EXPECT_NE(e.code(), Exit::bug) << e.full();
    }
    verify(g);
    Graph typed = g;
    infer_shapes(typed);
  } catch (const Error& e) {
    EXPECT_NE(e.code(), Exit::bug) << e.full();
    ++refused;
  }
}

TEST(onnx, damaged_files_never_crash) {
  // Bytes of small models replaced, removed, doubled, pieces of one put into another: read or refused.
  std::vector<std::string> seeds{onnx_bytes(random_graph({}, 3).graph)};
  for (const auto& e : fs::directory_iterator(fs::path(TANDEM_SOURCE_DIR) / "tests/corpus/onnx"))
    if (e.path().extension() == ".onnx") seeds.push_back(read_file(e.path()));
  std::sort(seeds.begin(), seeds.end());
  Rng rng(1, "damage");
  const auto below = [&](std::size_t n) { return static_cast<std::size_t>(rng.range(0, static_cast<std::int64_t>(n) - 1)); };
  const char* more = std::getenv("TANDEM_DAMAGE");  // rounds, for a night
  const int rounds = more ? std::atoi(more) : 150;
  int refused = 0, tried = 0;
  for (const std::string& bytes : seeds)
    for (int i = 0; i < rounds; ++i) {
      std::string b = bytes;
      for (std::int64_t k = rng.range(1, 3); k > 0 && !b.empty(); --k) {
        const std::size_t at = below(b.size());
        switch (rng.range(0, 3)) {
          case 0: b[at] = static_cast<char>(rng.range(0, 255)); break;
          case 1: b.erase(at, static_cast<std::size_t>(rng.range(1, 4))); break;
          case 2: b[at] = static_cast<char>(b[at] ^ (1 << rng.range(0, 7))); break;
          default: b.insert(at, 1, static_cast<char>(rng.range(0, 255)));
        }
      }
      ++tried;
      read_or_refuse(b, refused);
      if (testing::Test::HasFailure()) {
        write_file(fs::temp_directory_path() / "tandem-damaged.onnx", b);
        FAIL() << "damage " << i;
      }
    }
  EXPECT_GT(refused, tried / 5);
}

TEST(onnx, corpus_is_read_or_refused) {
  int n = 0, read = 0;
  for (const auto& e : fs::directory_iterator(fs::path(TANDEM_SOURCE_DIR) / "tests/corpus/onnx")) {
    if (e.path().extension() != ".onnx") continue;
    ++n;
    try {
      read_onnx(e.path());
      ++read;
    } catch (const Error& x) {
      EXPECT_NE(x.code(), Exit::bug) << e.path() << x.full();
    }
  }
  EXPECT_GE(n, 6);
  EXPECT_GE(read, 3);
}

TEST(onnx, public_models_are_read_or_refused_by_name) {
  const char* data = std::getenv("TANDEM_DATA");
  const fs::path folder = fs::path(data ? data : std::string(TANDEM_SOURCE_DIR) + "/../shared/data") / "qonnx_models";
  if (!fs::exists(folder)) GTEST_SKIP() << "set TANDEM_DATA to the folder of data sets";
  std::vector<fs::path> files;
  for (const auto& e : fs::recursive_directory_iterator(folder))
    if (e.path().extension() == ".onnx") files.push_back(e.path());
  std::sort(files.begin(), files.end());
  ASSERT_FALSE(files.empty());
  int known = 0;
  for (const fs::path& p : files) {
    std::string verdict;
    try {
      const Graph g = read_onnx(p);
      verdict = fmt::format("{} nodes", g.nodes.size());
      EXPECT_EQ(first_difference(g, parse_onnx(onnx_bytes(g))), "") << p;
      verify(g);
      std::map<std::string, std::int64_t> symbols;
      for (ValueId v : g.inputs)
        if (g.values[static_cast<std::size_t>(v)].type.dims)
          for (const Dim& d : *g.values[static_cast<std::size_t>(v)].type.dims)
            if (!d.symbol.empty()) symbols[d.symbol] = 1;
      ir::bind(g, symbols);
      verdict += ", shapes inferred";
      ++known;
    } catch (const Error& e) {
      EXPECT_EQ(e.code(), Exit::bad_input) << p << e.full();
      EXPECT_NE(e.where().find("node"), std::string::npos) << p << e.full();
      verdict += " refused: " + e.message() + " at " + e.where();
    }
    std::printf("%-60s %s\n", fs::relative(p, folder).c_str(), verdict.c_str());
  }
  EXPECT_GE(known, 10);
}

}  // namespace
}  // namespace tandem::ir
