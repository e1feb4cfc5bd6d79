// A table of bad model files: each is refused with exit code 2 (or 4 where it is a limit), one message that names the file and the place, and a
// remedy. Files are written field by field, as a hostile exporter would.
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstring>
#include <fstream>
#include <functional>

#include "tandem/base/error.h"
#include "tandem/base/file.h"
#include "tandem/ir/bind.h"
#include "tandem/ir/exact.h"
#include "tandem/ir/kinds.h"
#include "tandem/ir/model_file.h"
#include "tandem/ir/op.h"

namespace tandem {
namespace {
namespace fs = std::filesystem;

// ---- protobuf, written by hand ---------------------------------------------------------------------
struct P {
  std::string b;
  P& varint(std::uint64_t v) {
    for (; v >= 0x80; v >>= 7) b += static_cast<char>(v | 0x80);
    b += static_cast<char>(v);
    return *this;
  }
  P& n(int field, std::uint64_t v) { return varint(static_cast<std::uint64_t>(field) << 3).varint(v); }
  P& s(int field, std::string_view v) {
    varint(static_cast<std::uint64_t>(field) << 3 | 2).varint(v.size());
    b += v;
    return *this;
  }
  P& s(int field, const P& p) { return s(field, p.b); }
  P& f(int field, float v) {
    varint(static_cast<std::uint64_t>(field) << 3 | 5);
    b.append(reinterpret_cast<const char*>(&v), 4);
    return *this;
  }
};
using Dims = std::vector<std::int64_t>;
constexpr int kF32 = 1, kI64 = 7, kString = 8;

P shape(const Dims& d) {
  P p;
  for (std::int64_t x : d) p.s(1, P{}.n(1, static_cast<std::uint64_t>(x)));
  return p;
}
P port(std::string_view name, const Dims& d, int type = kF32) {
  return P{}.s(1, name).s(2, P{}.s(1, P{}.n(1, static_cast<std::uint64_t>(type)).s(2, shape(d))));
}
P node(std::string_view op, std::vector<std::string> in, std::vector<std::string> out, std::string_view name = "node", const std::vector<P>& attributes = {}, std::string_view domain = "") {
  P p;
  for (const auto& x : in) p.s(1, x);
  for (const auto& x : out) p.s(2, x);
  p.s(3, name).s(4, op);
  for (const P& a : attributes) p.s(5, a);
  if (!domain.empty()) p.s(7, domain);
  return p;
}
P ints(std::string_view name, const Dims& v) {
  P p;
  p.s(1, name).n(20, 7);
  for (std::int64_t x : v) p.n(8, static_cast<std::uint64_t>(x));
  return p;
}
P integer(std::string_view name, std::int64_t v) { return P{}.s(1, name).n(20, 2).n(3, static_cast<std::uint64_t>(v)); }
P real(std::string_view name, float v) { return P{}.s(1, name).n(20, 1).f(2, v); }
P text(std::string_view name, std::string_view v) { return P{}.s(1, name).n(20, 3).s(4, v); }
P body(std::string_view name, const P& graph) { return P{}.s(1, name).n(20, 5).s(6, graph); }
P weights(std::string_view name, const Dims& d, const std::vector<float>& v, int type = kF32) {
  P p;
  for (std::int64_t x : d) p.n(1, static_cast<std::uint64_t>(x));
  return p.n(2, static_cast<std::uint64_t>(type)).s(8, name).s(9, std::string_view(reinterpret_cast<const char*>(v.data()), v.size() * 4));
}
P indices(std::string_view name, const std::vector<std::int64_t>& v) {
  return P{}.n(1, v.size()).n(2, kI64).s(8, name).s(9, std::string_view(reinterpret_cast<const char*>(v.data()), v.size() * 8));
}
P elsewhere(std::string_view name, const Dims& d, const std::vector<std::pair<std::string, std::string>>& where) {
  P p;
  for (std::int64_t x : d) p.n(1, static_cast<std::uint64_t>(x));
  p.n(2, kF32).s(8, name).n(14, 1);
  for (const auto& [k, v] : where) p.s(13, P{}.s(1, k).s(2, v));
  return p;
}
struct G {
  std::vector<P> nodes, weights;
  std::vector<P> in{port("x", {1, 3, 4, 4})}, out{P{}.s(1, "y")};
  P graph(std::string_view name = "g") const {
    P p;
    for (const P& n : nodes) p.s(1, n);
    p.s(2, name);
    for (const P& w : weights) p.s(5, w);
    for (const P& i : in) p.s(11, i);
    for (const P& o : out) p.s(12, o);
    return p;
  }
};
std::string model(const P& graph, std::int64_t opset = 17, const P& more = {}) {
  std::string b = P{}.n(1, 8).s(7, graph).s(8, P{}.s(1, "").n(2, static_cast<std::uint64_t>(opset))).s(8, P{}.s(1, "qonnx.custom_op.general").n(2, 1)).b;
  return b + more.b;
}
std::string of(std::vector<P> nodes, std::vector<P> weights = {}, std::int64_t opset = 17) {
  G g;
  g.nodes = std::move(nodes), g.weights = std::move(weights);
  return model(g.graph(), opset);
}

struct Bad {
  std::string name, bytes, message;  // a part of the message, its place or its remedy
  Exit code = Exit::bad_input;
};

std::vector<Bad> onnx_files() {
  std::vector<Bad> t;
  const auto add = [&](std::string name, std::string bytes, std::string message, Exit code = Exit::bad_input) { t.push_back({std::move(name), std::move(bytes), std::move(message), code}); };
  const std::string good = of({node("Relu", {"x"}, {"y"})});
  const float nan = NAN, inf = INFINITY;

  // No ONNX file.
  add("empty", "", "the file is empty");
  add("text", "hello world\n", "ONNX");
  add("zeros", std::string(1000, '\0'), "field number");
  add("ones", std::string(1000, '\xff'), "more than ten bytes");
  add("half", good.substr(0, good.size() / 2), "truncated");
  add("one byte short", good.substr(0, good.size() - 1), "");
  add("no graph", P{}.n(1, 8).b, "holds no graph");
  add("pickle", "\x80\x04\x95 cos system", "pickle");
  add("zip", "PK\x03\x04 something", "zip archive");
  add("gguf", "GGUF\x03", "GGUF");
  add("gzip", "\x1f\x8b\x08", "gzip");
  add("array", "\x93NUMPY", "NumPy");
  add("length of 2 GiB", P{}.varint(7 << 3 | 2).varint(0x7fffffff).b + "abc", "truncated");
  add("length of 2^63", P{}.varint(7 << 3 | 2).varint(1ull << 63).b + "abc", "truncated");
  {
    std::string deep = "x";
    for (int i = 0; i < 300; ++i) deep = G{{node("If", {"c"}, {"y"}, "n", {P{}.s(1, "then_branch").n(20, 5).s(6, deep)})}, {}}.graph().b;
    add("three hundred sub-graphs deep", model(P{deep}), "nested");
  }
  // Structure.
  add("cycle", of({node("Add", {"x", "b"}, {"a"}, "first"), node("Relu", {"a"}, {"b"}, "second"), node("Relu", {"b"}, {"y"})}), "cycle");
  add("own successor", of({node("Add", {"x", "y"}, {"y"}, "loop")}), "cycle");
  add("input from nowhere", of({node("Add", {"x", "nowhere"}, {"y"}, "adder")}), "node 'adder'");
  add("output from nowhere", of({node("Relu", {"x"}, {"z"})}), "comes from nowhere");
  add("two producers", of({node("Relu", {"x"}, {"y"}, "a"), node("Relu", {"x"}, {"y"}, "b")}), "two producers");
  add("a node writes an input", of({node("Relu", {"x"}, {"x"}, "w"), node("Relu", {"x"}, {"y"})}), "two producers");
  add("a node writes a weight", of({node("Relu", {"x"}, {"w"}, "w"), node("Relu", {"x"}, {"y"})}, {weights("w", {1}, {1})}), "two producers");
  add("two weights of one name", of({node("Add", {"x", "w"}, {"y"})}, {weights("w", {1}, {1}), weights("w", {1}, {2})}), "'w'");
  add("no outputs", of({node("Relu", {"x"}, {}, "mute")}), "without outputs");
  add("no operator", of({node("", {"x"}, {"y"}, "anonymous")}), "names no operator");
  add("unknown operator", of({node("Relux", {"x"}, {"y"}, "act")}), "nearest: Relu");
  add("unknown domain", of({node("Relu", {"x"}, {"y"}, "act", {}, "com.example")}), "com.example::Relu");
  add("too many inputs", of({node("Relu", {"x", "x"}, {"y"}, "act")}), "2 inputs given");
  add("too few inputs", of({node("Add", {"x"}, {"y"}, "adder")}), "input 'B' is missing");
  add("too many outputs", of({node("Relu", {"x"}, {"y", "z"}, "act")}), "2 outputs given");
  add("unknown attribute", of({node("Relu", {"x"}, {"y"}, "act", {integer("alpha", 1)})}), "unknown attribute 'alpha'");
  add("attribute of another type", of({node("Softmax", {"x"}, {"y"}, "soft", {text("axis", "1")})}), "attribute 'axis' is a string");
  add("attribute twice", of({node("Softmax", {"x"}, {"y"}, "soft", {integer("axis", 1), integer("axis", 1)})}), "given twice");
  add("missing attribute", of({node("Concat", {"x", "x"}, {"y"}, "cat")}), "'axis' is missing");
  // Names.
  add("escape in a name", of({node("Relu", {"x"}, {"y"}, "\x1b[31mred")}), "control characters");
  add("right to left", of({node("Relu", {"x"}, {"y"}, "a\xe2\x80\xae" "b")}), "control characters");
  add("invalid UTF-8", of({node("Relu", {"x"}, {"y"}, "a\xff")}), "invalid UTF-8");
  add("a name of a megabyte", of({node("Relu", {"x"}, {"y"}, std::string(1 << 20, 'n'))}), "at most");
  // Types and extents.
  const auto with_input = [&](const P& in) { G g; g.nodes = {node("Relu", {"x"}, {"y"})}; g.in = {in}; return model(g.graph()); };
  add("negative extent", with_input(port("x", {1, -3})), "the extent -3");
  add("extent of 2^63", with_input(port("x", {1, INT64_MIN})), "extent");
  add("extents whose product overflows", with_input(port("x", {INT64_MAX, INT64_MAX})), "");
  add("strings", with_input(port("x", {1}, kString)), "STRING");
  add("a type of the future", with_input(port("x", {1}, 77)), "type number 77");
  add("no tensor", with_input(P{}.s(1, "x").s(2, P{}.s(4, P{}))), "no tensor");
  add("types clash", of({node("Add", {"x", "w"}, {"y"}, "adder")}, {indices("w", {1})}), "node 'adder'");
  add("shapes clash", of({node("Add", {"x", "w"}, {"y"}, "adder")}, {weights("w", {5}, {1, 2, 3, 4, 5})}), "node 'adder'");
  add("matrices clash", of({node("MatMul", {"x", "w"}, {"y"}, "mm")}, {weights("w", {5, 1}, {1, 2, 3, 4, 5})}), "node 'mm'");
  add("channels clash", of({node("Conv", {"x", "w"}, {"y"}, "conv")}, {weights("w", {1, 2, 1, 1}, {1, 2})}), "node 'conv'");
  add("axis out of range", of({node("Softmax", {"x"}, {"y"}, "soft", {integer("axis", 7)})}), "node 'soft'");
  add("axis of 2^62", of({node("Softmax", {"x"}, {"y"}, "soft", {integer("axis", std::int64_t{1} << 62)})}), "node 'soft'");
  add("permutation with a double", of({node("Transpose", {"x"}, {"y"}, "turn", {ints("perm", {0, 1, 1, 2})})}), "node 'turn'");
  add("window larger than the image", of({node("MaxPool", {"x"}, {"y"}, "pool", {ints("kernel_shape", {9, 9})})}), "node 'pool'");
  add("stride of zero", of({node("MaxPool", {"x"}, {"y"}, "pool", {ints("kernel_shape", {2, 2}), ints("strides", {0, 1})})}), "node 'pool'");
  add("negative padding", of({node("MaxPool", {"x"}, {"y"}, "pool", {ints("kernel_shape", {2, 2}), ints("pads", {-9, 0, 0, 0})})}), "node 'pool'");
  add("padding of 2^62", of({node("Conv", {"x", "w"}, {"y"}, "conv", {ints("pads", {std::int64_t{1} << 62, 0, 0, 0})})}, {weights("w", {1, 3, 1, 1}, {1, 2, 3})}), "node 'conv'");
  add("groups that do not divide", of({node("Conv", {"x", "w"}, {"y"}, "conv", {integer("group", 2)})}, {weights("w", {2, 1, 1, 1}, {1, 2})}), "node 'conv'");
  add("group of zero", of({node("Conv", {"x", "w"}, {"y"}, "conv", {integer("group", 0)})}, {weights("w", {2, 3, 1, 1}, {1, 2, 3, 4, 5, 6})}), "node 'conv'");
  add("reshape to another size", of({node("Reshape", {"x", "s"}, {"y"}, "re")}, {indices("s", {7, 7})}), "node 're'");
  add("reshape with two unknowns", of({node("Reshape", {"x", "s"}, {"y"}, "re")}, {indices("s", {-1, -1})}), "node 're'");
  add("reshape to 2^126 elements", of({node("Reshape", {"x", "s"}, {"y"}, "re")}, {indices("s", {INT64_MAX, INT64_MAX})}), "node 're'");
  add("tile without end", of({node("Tile", {"x", "s"}, {"y"}, "tile")}, {indices("s", {1 << 30, 1 << 30, 1 << 30, 1 << 30})}), "node 'tile'");
  add("a constant of 2^60", of({node("ConstantOfShape", {"s"}, {"z"}, "fill"), node("Relu", {"x"}, {"y"})}, {indices("s", {1 << 30, 1 << 30})}), "node 'fill'");
  add("split into parts of another sum", of({node("Split", {"x", "s"}, {"y", "z"}, "split", {integer("axis", 1)})}, {indices("s", {1, 1})}), "node 'split'");
  add("step of zero", of({node("Slice", {"x", "a", "b", "c", "d"}, {"y"}, "slice")}, {indices("a", {0}), indices("b", {1}), indices("c", {0}), indices("d", {0})}), "node 'slice'");
  add("depth that does not divide", of({node("DepthToSpace", {"x"}, {"y"}, "d2s", {integer("blocksize", 2)})}), "node 'd2s'");
  add("an equation of other ranks", of({node("Einsum", {"x"}, {"y"}, "sum", {text("equation", "ij->i")})}), "node 'sum'");
  add("an equation that is none", of({node("Einsum", {"x"}, {"y"}, "sum", {text("equation", "->->")})}), "node 'sum'");
  // Weights.
  add("fewer bytes than the shape", of({node("Add", {"x", "w"}, {"y"})}, {weights("w", {4}, {1, 2, 3})}), "12 bytes of data");
  add("more bytes than the shape", of({node("Add", {"x", "w"}, {"y"})}, {weights("w", {1}, {1, 2, 3})}), "12 bytes of data");
  add("weights of negative extent", of({node("Add", {"x", "w"}, {"y"})}, {weights("w", {-1}, {1})}), "the extent -1");
  add("weights of 2^62 elements", of({node("Add", {"x", "w"}, {"y"})}, {weights("w", {std::int64_t{1} << 31, std::int64_t{1} << 31}, {1})}), "elements", Exit::limit);
  add("weights of strings", of({node("Add", {"x", "w"}, {"y"})}, {weights("w", {1}, {1}, kString)}), "STRING");
  add("sparse weights", model(P{G{{node("Add", {"x", "w"}, {"y"})}, {}}.graph().b}.s(15, P{}.s(1, weights("w", {1}, {1})).s(2, indices("i", {0})).n(3, 4))), "sparse");
  add("external data by an absolute path", of({node("Add", {"x", "w"}, {"y"})}, {elsewhere("w", {1}, {{"location", "/etc/passwd"}})}), "below the folder");
  add("external data in the folder above", of({node("Add", {"x", "w"}, {"y"})}, {elsewhere("w", {1}, {{"location", "../secret.bin"}})}), "secret.bin");
  add("external data by a link", of({node("Add", {"x", "w"}, {"y"})}, {elsewhere("w", {1}, {{"location", "link.bin"}})}), "link.bin");
  add("external data that are not there", of({node("Add", {"x", "w"}, {"y"})}, {elsewhere("w", {1}, {{"location", "absent.bin"}})}), "absent.bin");
  add("external data in a folder", of({node("Add", {"x", "w"}, {"y"})}, {elsewhere("w", {1}, {{"location", "."}})}), "regular file");
  add("external data beyond the end", of({node("Add", {"x", "w"}, {"y"})}, {elsewhere("w", {4}, {{"location", "data.bin"}, {"offset", "8"}})}), "data.bin");
  add("external data at no number", of({node("Add", {"x", "w"}, {"y"})}, {elsewhere("w", {1}, {{"location", "data.bin"}, {"offset", "4x"}})}), "offset");
  add("external data of another length", of({node("Add", {"x", "w"}, {"y"})}, {elsewhere("w", {1}, {{"location", "data.bin"}, {"length", "8"}})}), "8 bytes");
  add("external data at 2^64", of({node("Add", {"x", "w"}, {"y"})}, {elsewhere("w", {1}, {{"location", "data.bin"}, {"offset", "18446744073709551615"}})}), "data.bin");
  // Quantisers.
  const auto quant = [&](float scale, float zero, float bits, std::string rounding = "ROUND") {
    return of({node("Quant", {"x", "s", "z", "b"}, {"y"}, "q", {text("rounding_mode", rounding)}, "qonnx.custom_op.general")}, {weights("s", {}, {scale}), weights("z", {}, {zero}), weights("b", {}, {bits})});
  };
  add("a scale of NaN", quant(nan, 0, 4), "scale");
  add("a scale of zero", quant(0, 0, 4), "scale");
  add("a negative scale", quant(-1, 0, 4), "scale");
  add("an infinite scale", quant(inf, 0, 4), "scale");
  add("a zero point that is no integer", quant(1, 0.5f, 4), "zero point");
  add("half a bit", quant(1, 0, 0.5f), "bit width");
  add("a thousand bits", quant(1, 0, 1000), "bit width");
  add("a rounding that is none", quant(1, 0, 4, "SIDEWAYS"), "SIDEWAYS");
  add("scales for other channels", of({node("QuantizeLinear", {"x", "s"}, {"y"}, "q")}, {weights("s", {2}, {1, 2})}), "node 'q'");
  // Sub-graphs and functions.
  const G inner{{node("Relu", {"nowhere"}, {"y"}, "inner")}, {}, {}, {P{}.s(1, "y")}};
  add("a branch that reads what is not there", of({node("If", {"c"}, {"y"}, "cond", {body("then_branch", inner.graph()), body("else_branch", inner.graph())})}, {P{}.n(2, 9).s(8, "c").s(9, "\1")}), "nowhere");
  add("an If without branches", of({node("If", {"c"}, {"y"}, "cond")}, {P{}.n(2, 9).s(8, "c").s(9, "\1")}), "node 'cond'");
  add("a Loop without a body", of({node("Loop", {"", "", "x"}, {"y"}, "loop")}), "node 'loop'");
  const P recursive = P{}.s(1, "F").s(4, "a").s(5, "b").s(7, node("F", {"a"}, {"b"}, "again", {}, "local")).s(10, "local");
  add("a function that calls itself", model(G{{node("F", {"x"}, {"y"}, "call", {}, "local")}, {}}.graph(), 17, P{}.s(25, recursive)), "F");
  // Ports.
  const auto with_ports = [&](std::vector<P> in, std::vector<P> out, const P& more = {}) { G g; g.nodes = {node("Relu", {"x"}, {"y"})}; g.in = std::move(in), g.out = std::move(out); return model(g.graph(), 17, more); };
  add("an input twice", with_ports({port("x", {1}), port("x", {1})}, {P{}.s(1, "y")}), "'x'");
  add("an input without a name", with_ports({port("", {1}), port("x", {1})}, {P{}.s(1, "y")}), "no name");
  add("an output that is declared as another type", with_ports({port("x", {1})}, {port("y", {1}, kString)}), "STRING");
  add("a symbol that steers", with_ports({P{}.s(1, "x").s(2, P{}.s(1, P{}.n(1, 1).s(2, P{}.s(1, P{}.s(2, "ba\x1btch")))))}, {P{}.s(1, "y")}), "control characters");
  add("a metadata key twice", with_ports({port("x", {1})}, {P{}.s(1, "y")}, P{}.s(14, P{}.s(1, "k").s(2, "a")).s(14, P{}.s(1, "k").s(2, "b"))), "given twice");
  // Versions.
  add("an opset of the future", of({node("Relu", {"x"}, {"y"})}, {}, 99), "opset 99");
  add("training information", good + P{}.s(20, P{}).b, "training information");
  return t;
}

struct Folder {
  fs::path path;
  Folder() {
    std::string t = (fs::temp_directory_path() / "tandem-bad-XXXXXX").string();
    path = mkdtemp(t.data());
    write_file(path / "data.bin", "12345678");
    write_file(path.parent_path() / "secret.bin", "SECRET!!");
    fs::create_symlink("data.bin", path / "link.bin");
  }
  ~Folder() { fs::remove_all(path), fs::remove(path.parent_path() / "secret.bin"); }
};

// What `tandem show FILE` does before it prints.
void look_at(const fs::path& file, const ir::ReadModelOptions& o = {}) {
  ir::Graph g = ir::read_model(file, o);
  try {
    ir::verify(g);
    g = ir::bind_free(g);
    ir::kinds_of(g);
    ir::prepare(g);
  } catch (Error& e) {  // as cli/model.cc says it
    e.at(file.string() + (e.where().empty() ? "" : ": " + e.where()));
    throw;
  }
}

void refused(const Bad& b, const fs::path& file, const ir::ReadModelOptions& o = {}) {
  SCOPED_TRACE(b.name);
  try {
    look_at(file, o);
  } catch (const Error& e) {
    const std::string s = e.full();
    EXPECT_EQ(e.code(), b.code) << s;
    EXPECT_NE(s.find(b.message), std::string::npos) << "lacks '" << b.message << "'\n" << s;
    EXPECT_NE(s.find(file.filename().string()), std::string::npos) << "does not name the file\n" << s;
    EXPECT_LT(s.size(), 3000u) << s;
    for (unsigned char c : s) ASSERT_TRUE(c == '\n' || (c >= 0x20 && c != 0x7f)) << "control character " << int(c);
    return;
  }
  ADD_FAILURE() << "not refused";
}

TEST(BadModels, Onnx) {
  const Folder f;
  const std::vector<Bad> all = onnx_files();
  for (std::size_t i = 0; i < all.size(); ++i) {
    const fs::path file = f.path / fmt::format("bad{}.onnx", i);
    write_file(file, all[i].bytes);
    refused(all[i], file);
  }
  EXPECT_GE(all.size(), 100u);
}

// Weights that come beside a model.
TEST(BadModels, Weights) {
  const Folder f;
  const fs::path good = f.path / "good.onnx";
  write_file(good, of({node("Add", {"x", "w"}, {"y"})}, {weights("w", {2}, {1, 2})}));
  const auto tensors = [](std::string_view header, std::string_view data) {
    const std::uint64_t n = header.size();
    return std::string(reinterpret_cast<const char*>(&n), 8) + std::string(header) + std::string(data);
  };
  const std::string eight(8, '\0');
  const std::vector<Bad> all{
      {"no arrays", "hello", "holds no arrays"},
      {"an empty file", "", "holds no arrays"},
      {"a header beyond the end", std::string("\x64\0\0\0\0\0\0\0{", 9), "whole"},
      {"a name that the model does not have", tensors(R"({"v":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})", eight), "belongs to no weight"},
      {"another extent", tensors(R"({"w":{"dtype":"F32","shape":[1,2],"data_offsets":[0,8]}})", eight), "[1, 2]"},
      {"integers for floats", tensors(R"({"w":{"dtype":"I32","shape":[2],"data_offsets":[0,8]}})", eight), "holds i32"},
      {"an extent of 2^62", tensors(R"({"w":{"dtype":"F32","shape":[4611686018427387904,8],"data_offsets":[0,8]}})", eight), "elements", Exit::limit},
      {"a zip without a directory", std::string("PK\x03\x04") + std::string(100, '\0'), ""},
      {"an array of objects", std::string("\x93NUMPY\x01\x00\x3a\x00", 10) + "{'descr': '|O', 'fortran_order': False, 'shape': (1,), }   \n", "object"},
  };
  for (std::size_t i = 0; i < all.size(); ++i) {
    const fs::path file = f.path / fmt::format("weights{}.bin", i);
    write_file(file, all[i].bytes);
    SCOPED_TRACE(all[i].name);
    try {
      look_at(good, {.weights = file});
      ADD_FAILURE() << "not refused";
    } catch (const Error& e) {
      EXPECT_EQ(e.code(), all[i].code) << e.full();
      EXPECT_NE(e.full().find(all[i].message), std::string::npos) << e.full();
      EXPECT_NE(e.full().find(file.filename().string()), std::string::npos) << e.full();
    }
  }
}

}  // namespace
}  // namespace tandem
