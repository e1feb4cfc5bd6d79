// TFLite files as plain data; hostile ones.
#include "tandem/ir/tflite.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <filesystem>

#include "tandem/base/error.h"
#include "tandem/ir/dump.h"
#include "tandem/ir/exact.h"
#include "tandem/ir/onnx.h"
#include "tandem/ir/op.h"

namespace tandem::ir {
namespace {

// A FlatBuffers writer, just enough for tests: tables are written front to back, offsets are patched in.
struct Flat {
  std::string b = std::string("\0\0\0\0TFL3", 8);
  struct Ref {
    std::size_t at;  // where the offset is stored
  };
  std::uint32_t here() const { return static_cast<std::uint32_t>(b.size()); }
  template <class T>
  void put(T v) {
    b.append(reinterpret_cast<const char*>(&v), sizeof v);
  }
  void align() {
    while (b.size() % 8) b += '\0';
  }
  void patch(std::size_t at, std::size_t target) {
    const auto v = static_cast<std::uint32_t>(target - at);
    std::memcpy(b.data() + at, &v, 4);
  }
  // Fields: slot -> bytes; an offset is 4 zero bytes to be patched. Returns positions by slot.
  std::map<int, std::size_t> table(std::size_t from, const std::map<int, std::string>& fields) {
    align();
    const std::uint32_t vt = here();
    const int slots = fields.empty() ? 0 : fields.rbegin()->first + 1;
    std::vector<std::uint16_t> offsets(static_cast<std::size_t>(slots));
    std::uint16_t size = 4;
    for (const auto& [s, v] : fields) offsets[static_cast<std::size_t>(s)] = size, size = static_cast<std::uint16_t>(size + v.size());
    put<std::uint16_t>(static_cast<std::uint16_t>(4 + 2 * slots)), put<std::uint16_t>(size);
    for (auto o : offsets) put(o);
    patch(from, b.size());
    const std::size_t at = b.size();
    put<std::int32_t>(static_cast<std::int32_t>(at - vt));
    std::map<int, std::size_t> where;
    for (const auto& [s, v] : fields) where[s] = b.size(), b += v;
    return where;
  }
  std::vector<std::size_t> refs(std::size_t from, std::size_t n) {
    align();
    patch(from, b.size());
    put<std::uint32_t>(static_cast<std::uint32_t>(n));
    std::vector<std::size_t> r;
    for (std::size_t i = 0; i < n; ++i) r.push_back(b.size()), put<std::uint32_t>(0);
    return r;
  }
  template <class T>
  void vector(std::size_t from, const std::vector<T>& v) {
    align();
    patch(from, b.size());
    put<std::uint32_t>(static_cast<std::uint32_t>(v.size()));
    for (const T& x : v) put(x);
  }
};
template <class T>
std::string raw(T v) {
  return std::string(reinterpret_cast<const char*>(&v), sizeof v);
}
const std::string kOffset(4, '\0');

struct FileTensor {
  std::string name;
  std::vector<std::int32_t> shape;
  int type = 9;
  std::uint32_t buffer = 0;
  std::vector<float> scales{};
  std::vector<std::int64_t> zeros{};
};
struct FileOperator {
  std::int32_t code = 0;
  std::vector<std::int32_t> inputs, outputs;
  std::uint8_t options = 0;              // number of the union; 0: none
  std::map<int, std::string> fields{};   // of its table
};
struct File {
  std::uint32_t version = 3;
  std::vector<FileTensor> tensors{{"x", {1, 2}, 9, 0, {0.5f}, {3}}, {"w", {2, 2}, 9, 1, {0.25f}, {0}}, {"y", {1, 2}, 9, 0, {1.f}, {-3}}};
  std::vector<std::string> buffers{"", "abcd"};
  std::vector<FileOperator> operators{{0, {0, 1}, {2}}};
  std::vector<std::int32_t> inputs{0}, outputs{2};
  std::string bytes() const {
    Flat f;
    auto model = f.table(0, {{0, raw(version)}, {1, kOffset}, {2, kOffset}, {4, kOffset}});
    const auto codes = f.refs(model[1], operators.size());
    for (std::size_t i = 0; i < codes.size(); ++i)
      f.table(codes[i], {{0, raw<std::int8_t>(static_cast<std::int8_t>(std::min(operators[i].code, 127)))}, {3, raw(operators[i].code)}});
    const auto graph = f.table(f.refs(model[2], 1)[0], {{0, kOffset}, {1, kOffset}, {2, kOffset}, {3, kOffset}});
    const auto ts = f.refs(graph.at(0), tensors.size());
    for (std::size_t i = 0; i < ts.size(); ++i) {
      const FileTensor& t = tensors[i];
      const auto at = f.table(ts[i], {{0, kOffset}, {1, raw(static_cast<std::int8_t>(t.type))}, {2, raw(t.buffer)}, {3, kOffset}, {4, kOffset}});
      f.vector(at.at(0), t.shape);
      f.vector(at.at(3), std::vector<char>(t.name.begin(), t.name.end()));
      const auto q = f.table(at.at(4), {{2, kOffset}, {3, kOffset}});
      f.vector(q.at(2), t.scales), f.vector(q.at(3), t.zeros);
    }
    f.vector(graph.at(1), inputs), f.vector(graph.at(2), outputs);
    const auto os = f.refs(graph.at(3), operators.size());
    for (std::size_t i = 0; i < os.size(); ++i) {
      std::map<int, std::string> fields{{0, raw(static_cast<std::uint32_t>(i))}, {1, kOffset}, {2, kOffset}};
      if (operators[i].options) fields[3] = raw(operators[i].options), fields[4] = kOffset;
      const auto at = f.table(os[i], fields);
      if (operators[i].options) f.table(at.at(4), operators[i].fields);
      f.vector(at.at(1), operators[i].inputs), f.vector(at.at(2), operators[i].outputs);
    }
    const auto bs = f.refs(model[4], buffers.size());
    for (std::size_t i = 0; i < bs.size(); ++i) {
      if (buffers[i].empty()) f.table(bs[i], {});
      else f.vector(f.table(bs[i], {{0, kOffset}}).at(0), std::vector<char>(buffers[i].begin(), buffers[i].end()));
    }
    return f.b;
  }
};

void refused(const File& f, std::string_view part) {
  const std::string bytes = f.bytes();
  try {
    parse_tflite(bytes);
    ADD_FAILURE() << "accepted: " << part;
  } catch (const Error& e) {
    EXPECT_TRUE(e.code() == Exit::bad_input || e.code() == Exit::limit) << e.full();
    EXPECT_NE(e.full().find(part), std::string::npos) << e.full() << "\nhas no: " << part;
  }
}

TEST(Tflite, SaysWhatTheFileSays) {
  const std::string bytes = File().bytes();
  const TfliteModel m = parse_tflite(bytes);
  ASSERT_EQ(m.subgraphs.size(), 1u);
  const TfliteSubgraph& s = m.subgraphs[0];
  ASSERT_EQ(s.tensors.size(), 3u);
  EXPECT_EQ(s.tensors[1].name, "w");
  EXPECT_EQ(s.tensors[1].shape, (Shape{2, 2}));
  EXPECT_EQ(s.tensors[1].quant.scales, std::vector<float>{0.25f});
  EXPECT_EQ(s.tensors[2].quant.zero_points, std::vector<std::int64_t>{-3});
  EXPECT_TRUE(s.tensors[1].constant);
  EXPECT_FALSE(s.tensors[0].constant);
  EXPECT_EQ(s.tensors[1].value().int_at(2), 'c');
  ASSERT_EQ(s.operators.size(), 1u);
  EXPECT_EQ(s.operators[0].op, "ADD");
  EXPECT_EQ(s.operators[0].outputs, std::vector<int>{2});
  EXPECT_FALSE(m.floating());
}

TEST(Tflite, BadFilesAreRefusedByName) {
  const auto with = [](auto change) {
    File f;
    change(f);
    return f;
  };
  refused(with([](File& f) { f.version = 4; }), "version 4");
  refused(with([](File& f) { f.tensors[0].shape = {-1, 2}; }), "extent -1");
  refused(with([](File& f) { f.tensors[0].shape = {2147483647, 2147483647}; }), "limit");
  refused(with([](File& f) { f.buffers[1] = "abc"; }), "3 bytes of data");
  refused(with([](File& f) { f.tensors[1].buffer = 9; }), "buffer 9");
  refused(with([](File& f) { f.operators[0].code = 1000; }), "builtin operator 1000");
  refused(with([](File& f) { f.operators[0].code = -4; }), "builtin operator");
  refused(with([](File& f) { f.tensors[0].scales = {std::numeric_limits<float>::quiet_NaN()}; }), "scale nan");
  refused(with([](File& f) { f.tensors[0].scales = {0.f}; }), "scale 0");
  refused(with([](File& f) { f.tensors[0].scales = {1.f, 1.f, 1.f}; }), "scales along axis");
  refused(with([](File& f) { f.tensors[0].scales = {1.f, 1.f}, f.tensors[0].zeros = {1, 2, 3}; }), "3 zero points");
  refused(with([](File& f) { f.tensors[0].zeros = {std::int64_t{1} << 40}; }), "zero point");
  refused(with([](File& f) { f.tensors[0].type = 77; }), "type number 77");
  refused(with([](File& f) { f.tensors[0].name = "a\nb"; }), "control characters");
  refused(with([](File& f) { f.tensors[0].name = std::string(5000, 'a'); }), "5000 bytes");
  refused(with([](File& f) { f.operators.push_back({0, {0, 1}, {2}}); }), "has a value already");
  refused(with([](File& f) { f.operators[0].outputs = {1}; }), "has a value already");
  refused(with([](File& f) { f.operators[0].outputs = {0}; }), "has a value already");
  refused(with([](File& f) { f.operators[0].inputs = {2, 1}; }), "nothing has written yet");
  refused(with([](File& f) { f.operators[0].inputs = {0, 7}; }), "tensor 7");
  refused(with([](File& f) { f.operators[0].outputs = {-1}; }), "tensor -1");
  refused(with([](File& f) { f.outputs = {-5}; }), "tensor -5");
  refused(with([](File& f) { f.inputs = {1}; }), "is a constant");
  refused(with([](File& f) { f.inputs = {0, 0}; }), "twice");
  refused(with([](File& f) { f.operators.clear(); }), "never written");
}

// Every truncation of a file, and every byte of it changed in turn: read or refused, never worse.
TEST(Tflite, DamagedFiles) {
  const std::string good = File().bytes();
  int refusals = 0;
  const auto survive = [&](const std::string& b) {
    try {
      parse_tflite(b);
    } catch (const Error& e) {
      EXPECT_TRUE(e.code() == Exit::bad_input || e.code() == Exit::limit) << e.full();
      ++refusals;
    }
  };
  for (std::size_t n = 0; n < good.size(); ++n) survive(good.substr(0, n));
  EXPECT_GE(refusals, static_cast<int>(good.size()) - 8);  // padding at the end says nothing
  for (std::size_t i = 0; i < good.size(); ++i)
    for (unsigned char v : {0x00, 0x01, 0x7f, 0x80, 0xff}) {
      std::string b = good;
      b[i] = static_cast<char>(v);
      survive(b);
    }
}

// Many references to one table: the budget counts each.
TEST(Tflite, ManyReferencesToOneTable) {
  Limits small;
  small.memory_bytes = 1 << 16;
  File f;
  for (int i = 0; i < 2000; ++i) f.tensors.push_back({"t", {1}});
  const std::string bytes = f.bytes();
  EXPECT_NO_THROW(parse_tflite(bytes));
  try {
    parse_tflite(bytes, small);
    FAIL();
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), Exit::limit);
  }
}

// ---- graphs -----------------------------------------------------------------------------------------
Graph graph_of(const File& f, TfliteOptions options = {}) {
  const std::string bytes = f.bytes();
  return tflite_graph(parse_tflite(bytes), options);
}
void graph_refused(const File& f, std::string_view part) {
  try {
    graph_of(f);
    ADD_FAILURE() << "accepted: " << part;
  } catch (const Error& e) {
    EXPECT_TRUE(e.code() == Exit::bad_input || e.code() == Exit::limit) << e.full();
    EXPECT_NE(e.full().find(part), std::string::npos) << e.full() << "\nhas no: " << part;
    EXPECT_TRUE(e.full().find("operator ") != std::string::npos || e.full().find("node ") != std::string::npos || e.full().find("tensor ") != std::string::npos) << e.full();
  }
}

TEST(TfliteGraph, AnAddition) {
  File f;
  f.tensors[1].shape = {1, 2}, f.buffers[1] = "ab";
  const Graph g = graph_of(f);
  ASSERT_EQ(g.nodes.size(), 1u);
  EXPECT_EQ(g.nodes[0].domain, "tflite");
  EXPECT_EQ(g.nodes[0].op, "Add");
  EXPECT_EQ(g.nodes[0].attr_float("b_scale", 0), 0.25);
  EXPECT_EQ(g.nodes[0].attr_int("y_zero", 0), -3);
  // (x - 3) / 2 + 'a' / 4, in steps of 1 from -3 on: 0 and 24.25; ties and thirds are the arithmetic's affair.
  const std::vector<std::int8_t> x{3, 13};
  const Tensor y = evaluate_float(g, {Tensor::of<std::int8_t>({1, 2}, x)})[0];
  EXPECT_EQ(y.int_at(0), 21);
  EXPECT_EQ(y.int_at(1), 27);  // 5 + 24.5 = 29.5, rounded away from zero, less 3
}

// Operators that only move integers, each on numbers that tell where they came from.
TEST(TfliteGraph, Moves) {
  struct Move {
    const char* name;
    FileOperator op;
    std::vector<std::int32_t> x, y;       // shapes
    std::vector<std::int32_t> constant;   // of the second input, i32; empty: none
    std::vector<int> want;                // the flat index in x of each element of y; -1: the zero point
    std::vector<std::int32_t> constant_shape{};
    std::vector<std::size_t> lengths{};   // of the constants; empty: equal ones
  };
  const auto i32 = [](std::int32_t v) { return raw(v); };
  const std::vector<Move> moves{
      {"reshape", {22, {0}, {1}}, {2, 3}, {3, 2}, {}, {0, 1, 2, 3, 4, 5}},
      {"transpose", {39, {0, 2}, {1}}, {2, 3}, {3, 2}, {1, 0}, {0, 3, 1, 4, 2, 5}},
      {"pad", {34, {0, 2}, {1}}, {1, 2}, {2, 3}, {0, 1, 1, 0}, {-1, 0, 1, -1, -1, -1}, {2, 2}},
      {"slice", {65, {0, 2, 3}, {1}}, {2, 3}, {1, 2}, {1, 1, 1, -1}, {4, 5}},
      {"strided slice, backwards", {45, {0, 2, 3, 4}, {1}, 32, {{1, i32(2)}}}, {2, 3}, {2, 2}, {0, 2, 2, 0, 1, -2}, {2, 0, 5, 3}},
      {"strided slice that shrinks", {45, {0, 2, 3, 4}, {1}, 32, {{4, i32(1)}}}, {2, 3}, {3}, {1, 0, 9, 3, 1, 1}, {3, 4, 5}},
      {"concatenation", {2, {0, 0}, {1}, 10, {{0, i32(-1)}}}, {2, 2}, {2, 4}, {}, {0, 1, 0, 1, 2, 3, 2, 3}},
      {"pack", {83, {0, 0}, {1}, 59, {{0, i32(2)}, {1, i32(1)}}}, {2, 2}, {2, 2, 2}, {}, {0, 1, 0, 1, 2, 3, 2, 3}},
      {"unpack", {88, {0}, {1}, 64, {{0, i32(1)}, {1, i32(0)}}}, {1, 3}, {3}, {}, {0, 1, 2}},
      {"split", {49, {2, 0}, {1}, 35, {{0, i32(1)}}}, {2, 2}, {2, 2}, {1}, {0, 1, 2, 3}},
      {"depth to space", {5, {0}, {1}, 94, {{0, i32(2)}}}, {1, 1, 2, 8}, {1, 2, 4, 2}, {}, {0, 1, 2, 3, 8, 9, 10, 11, 4, 5, 6, 7, 12, 13, 14, 15}},
      {"space to depth", {26, {0}, {1}, 19, {{0, i32(2)}}}, {1, 2, 4, 2}, {1, 1, 2, 8}, {}, {0, 1, 2, 3, 8, 9, 10, 11, 4, 5, 6, 7, 12, 13, 14, 15}},
      {"gather", {36, {0, 2}, {1}, 23, {{0, i32(1)}}}, {2, 3}, {2, 2}, {2, 0}, {2, 0, 5, 3}},
      {"tile", {69, {0, 2}, {1}}, {1, 2}, {2, 4}, {2, 2}, {0, 1, 0, 1, 0, 1, 0, 1}},
      {"blocks to the batch", {38, {0, 2, 3}, {1}}, {1, 2, 4, 1}, {4, 1, 2, 1}, {2, 2, 0, 0, 0, 0}, {0, 2, 1, 3, 4, 6, 5, 7}, {}, {2, 4}},
      {"blocks to the batch, padded", {38, {0, 2, 3}, {1}}, {1, 4, 1}, {2, 3, 1}, {2, 2, 0}, {-1, 0, 2, -1, 1, 3}, {}, {1, 2}},
      {"blocks from the batch", {37, {0, 2, 3}, {1}}, {4, 1, 2, 1}, {1, 2, 4, 1}, {2, 2, 0, 0, 0, 0}, {0, 2, 1, 3, 4, 6, 5, 7}, {}, {2, 4}},
      {"blocks from the batch, cropped", {37, {0, 2, 3}, {1}}, {2, 2, 1}, {1, 2, 1}, {2, 1, 1}, {2, 1}, {}, {1, 2}},
      {"nearest neighbours", {97, {0, 2}, {1}}, {1, 1, 2, 1}, {1, 2, 4, 1}, {2, 4}, {0, 0, 1, 1, 0, 0, 1, 1}},
  };
  for (const Move& m : moves) {
    SCOPED_TRACE(m.name);
    File f;
    f.tensors = {{"x", m.x, 9, 0, {0.5f}, {-7}}, {"y", m.y, 9, 0, {0.5f}, {-7}}};
    f.buffers = {""};
    f.operators = {m.op};
    f.outputs = {1};
    const std::size_t constants = m.op.inputs.size() - static_cast<std::size_t>(std::count(m.op.inputs.begin(), m.op.inputs.end(), 0));
    std::size_t from = 0;
    for (std::size_t k = 0; k < constants; ++k) {  // what is given, in as many parts
      const std::size_t n = m.lengths.empty() ? m.constant.size() / constants : m.lengths[k];
      std::string data;
      for (std::size_t i = 0; i < n; ++i) data += raw(m.constant[from + i]);
      from += n;
      f.tensors.push_back({"k", m.constant_shape.empty() ? std::vector<std::int32_t>{static_cast<std::int32_t>(n)} : m.constant_shape, 2, static_cast<std::uint32_t>(k + 1)});
      f.buffers.push_back(data);
    }
    try {
      const Graph g = graph_of(f);
      Tensor x(DType::i8, Shape(m.x.begin(), m.x.end()));
      for (std::int64_t i = 0; i < x.size(); ++i) x.set(i, static_cast<double>(i));
      const Tensor y = evaluate_float(g, {x})[0];
      ASSERT_EQ(y.size(), static_cast<std::int64_t>(m.want.size()));
      for (std::int64_t i = 0; i < y.size(); ++i) EXPECT_EQ(y.int_at(i), m.want[static_cast<std::size_t>(i)] == -1 ? -7 : m.want[static_cast<std::size_t>(i)]) << i;
    } catch (const Error& e) {
      ADD_FAILURE() << e.full();
    }
  }
}

TEST(TfliteGraph, RefusesByName) {
  const auto with = [](auto change) {
    File f;
    f.tensors[1].shape = {1, 2}, f.buffers[1] = "ab";
    change(f);
    return f;
  };
  graph_refused(with([](File& f) { f.operators[0].code = 111; }), "ELU");
  graph_refused(with([](File& f) { f.operators[0].code = 117; }), "2 inputs");
  graph_refused(with([](File& f) { f.operators[0].code = 142; }), "VAR_HANDLE");
  graph_refused(with([](File& f) { f.operators[0].inputs = {0}; }), "1 inputs");
  graph_refused(with([](File& f) { f.operators[0].inputs = {0, -1}; }), "missing");
  graph_refused(with([](File& f) { f.tensors[0].scales.clear(), f.tensors[0].zeros.clear(); }), "has no scale");
  graph_refused(with([](File& f) { f.tensors[0].type = 17; }), "INT4");
  graph_refused(with([](File& f) { f.tensors[0].type = 3, f.tensors[0].zeros = {3}; }), "u8");
  graph_refused(with([](File& f) { f.tensors[0].type = 0; }), "f32");
  graph_refused(with([](File& f) { f.tensors[0].zeros = {300}; }), "a_zero is 300");
  graph_refused(with([](File& f) { f.tensors[2].shape = {1, 3}; }), "'y'");
  graph_refused(with([](File& f) { f.tensors[2].scales = {1e-9f}; }), "too far apart");
  graph_refused(with([](File& f) { f.operators[0].options = 11, f.operators[0].fields = {{0, raw<std::int8_t>(4)}}; }), "TANH");
  graph_refused(with([](File& f) { f.operators[0].options = 11, f.operators[0].fields = {{0, raw<std::int8_t>(9)}}; }), "activation number 9");
  graph_refused(with([](File& f) { f.operators[0].code = 3; }), "has 2 axes");
  graph_refused(with([](File& f) { f.operators[0].code = 9, f.tensors[1].zeros = {1}; }), "zero point 1");
  graph_refused(with([](File& f) { f.operators[0].code = 9, f.tensors[1].scales = {1, 2}; f.tensors[1].zeros = {0, 0}, f.tensors[1].shape = {1, 2}; }), "scales along axis");
  graph_refused(with([](File& f) { f.operators[0].code = 22, f.operators[0].inputs = {0}; }), "other scales");
  graph_refused(with([](File& f) { f.operators[0].code = 34, f.tensors[2].scales = {0.5f}, f.tensors[2].zeros = {3}; }), "a constant");
  graph_refused(with([](File& f) { f.operators[0].code = 45; }), "2 inputs");
  graph_refused(with([](File& f) { f.operators[0].code = 2, f.tensors[2].scales = {0.5f}, f.tensors[2].zeros = {3}; }), "other scales");
  graph_refused(with([](File& f) { f.operators[0].code = 1, f.operators[0].inputs = {0}; }), "other scales");
  graph_refused(with([](File& f) { f.operators[0].code = 44; }), "24");
  graph_refused(with([](File& f) { f.operators[0].code = 27; }), "5");
  graph_refused(with([](File& f) { f.operators[0].code = 67; }), "3 to 4");
}

// The budget counts what a graph holds: constants that share one buffer are as many tensors.
TEST(TfliteGraph, ConstantsAreCounted) {
  File f;
  f.tensors[1].shape = {1, 2}, f.buffers[1] = std::string(4096, 'a');
  f.tensors = {{"x", {1, 4096}, 9, 0, {0.5f}, {3}}};
  f.operators.clear();
  for (int i = 0; i < 20; ++i) {
    const int n = static_cast<int>(f.tensors.size());
    f.tensors.push_back({"w", {1, 4096}, 9, 1, {0.25f}, {0}});
    f.tensors.push_back({"y", {1, 4096}, 9, 0, {1.f}, {-3}});
    f.operators.push_back({0, {i == 0 ? 0 : n - 1, n}, {n + 1}});
  }
  f.outputs = {static_cast<std::int32_t>(f.tensors.size()) - 1};
  EXPECT_EQ(graph_of(f).nodes.size(), 20u);
  TfliteOptions small;
  small.limits.memory_bytes = 40'000;
  const std::string bytes = f.bytes();
  const TfliteModel m = parse_tflite(bytes);
  EXPECT_THROW(tflite_graph(m, small), Error);
}

// Real models, and what becomes of them in an ONNX file.
TEST(TfliteGraph, SurvivesExport) {
  int graphs = 0;
  for (const auto& e : std::filesystem::directory_iterator(TANDEM_SOURCE_DIR "/tests/corpus/tflite")) {
    if (e.path().extension() != ".tflite" || read_tflite_model(e.path()).floating()) continue;
    SCOPED_TRACE(e.path().filename().string());
    try {
      const Graph g = read_tflite(e.path());
      Graph back = parse_onnx(onnx_bytes(g));
      EXPECT_EQ(first_difference(g, back), "");
      infer_shapes(back);
      std::vector<Tensor> in;
      for (ValueId v : g.inputs) {
        const TensorType& t = g.values[static_cast<std::size_t>(v)].type;
        Shape s;
        for (const Dim& d : *t.dims) s.push_back(d.n);
        Tensor x(t.dtype, s);
        for (std::int64_t i = 0; i < x.size(); ++i) x.set(i, static_cast<double>((i * 37 + 11) % 251 - 125) * (t.dtype == DType::i32 ? 8'123'457 : 1));  // more than f32 holds
        in.push_back(std::move(x));
      }
      const std::vector<Tensor> a = evaluate_float(g, in), b = evaluate_float(back, in);
      // The literal evaluator and the carrier know the forms too: their integers are never rounded to f32.
      const std::vector<Tensor> c = to_tensors(g, evaluate_literal(g, in)), d = evaluate_carrier(lower_exact(g), in);
      for (std::size_t i = 0; i < a.size(); ++i) {
        EXPECT_TRUE(a[i].same(b[i])) << i;
        EXPECT_TRUE(a[i].same(c[i])) << i;
        EXPECT_TRUE(a[i].same(d[i])) << i;
      }
      ++graphs;
    } catch (const Error& error) {
      EXPECT_NE(error.full().find("operator 0"), std::string::npos) << error.full();
    }
  }
  EXPECT_EQ(graphs, 13);
}

}  // namespace
}  // namespace tandem::ir
