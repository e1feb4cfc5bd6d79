// Planned float execution against the reference evaluators: every operator, random graphs, a deep one; its memory.
#include "tandem/exec/float.h"

#include <gtest/gtest.h>

#include <malloc.h>

#include <fstream>
#include <set>

#include "tandem/exec/library.h"
#include "tandem/ir/dump.h"
#include "tandem/ir/exact.h"
#include "tandem/ir/op.h"
#include "tandem/ir/ops/kit.h"
#include "tandem/ir/random_graph.h"

namespace tandem::exec {
namespace {

using namespace tandem::ir;

// The bound of one operator: 16 units in the last place of the largest result, or of 1.
constexpr double kOne = 16 * 0x1p-24;

double largest(const Tensor& t) {
  double m = 1;
  for (std::int64_t i = 0; i < t.size(); ++i)
    if (std::isfinite(t.at(i))) m = std::max(m, std::abs(t.at(i)));
  return m;
}
void expect_near(const Tensor& got, const Tensor& want, double bound, const std::string& where) {
  ASSERT_EQ(got.dtype(), want.dtype()) << where;
  ASSERT_EQ(got.shape(), want.shape()) << where;
  if (!is_float(want.dtype())) {
    ASSERT_TRUE(got.same(want)) << where;
    return;
  }
  const double scale = bound * largest(want);
  for (std::int64_t i = 0; i < want.size(); ++i) {
    const double a = got.at(i), b = want.at(i);
    if (std::isnan(b) || std::isinf(b)) ASSERT_TRUE(std::isnan(b) ? std::isnan(a) : a == b) << where << " element " << i << ": " << a << ", not " << b;
    else ASSERT_LE(std::abs(a - b), scale) << where << " element " << i << ": " << a << ", not " << b;
  }
}

TEST(Float, EqualsTheReferenceOnEverySample) {
  const std::set<std::string_view> moves{"Slice", "Split", "Pad", "Tile", "Expand", "DepthToSpace", "SpaceToDepth", "ReverseSequence", "Trilu", "GatherElements", "GatherND",
                                         "ScatterElements", "ScatterND", "Where", "Compress", "Abs", "Neg", "Max", "Min", "Floor", "Ceil", "Round", "MaxPool", "GlobalMaxPool", "QuantizeLinear", "DequantizeLinear"};
  int drawn = 0, exact = 0, without_reference = 0;
  for (const OpDef* o : all_ops()) {
    if (!o->sample) continue;
    for (std::uint64_t seed = 0; seed < 40; ++seed) {
      Rng r(seed, o->name);
      Graph g;
      std::vector<Tensor> inputs;
      Sample s{r, g, inputs};
      o->sample(*o, s);
      infer_shapes(g);
      const std::string where = fmt::format("{} seed {}\n{}", o->name, seed, to_text(g));
      const std::vector<Tensor> want = evaluate_float(g, inputs);
      for (int mode = 0; mode < 3; ++mode) {
        FloatOptions options;
        options.library = mode != 1;
        options.keep_all = mode == 2;
        try {
          FloatExecutor x(g, options);
          without_reference += x.counts().reference == 0;
          for (int twice = 0; twice < 2; ++twice) {  // the second run finds what the first left
            std::vector<Tensor> all;
            const std::vector<Tensor> got = x.run(inputs, options.keep_all ? &all : nullptr);
            ASSERT_EQ(got.size(), want.size());
            for (std::size_t i = 0; i < want.size(); ++i) {
              if (o->closure == Closure::move || moves.contains(o->name)) {
                EXPECT_TRUE(got[i].same(want[i])) << where;
                ++exact;
              } else {
                expect_near(got[i], want[i], kOne, where);
              }
              if (options.keep_all) {
                EXPECT_TRUE(all[static_cast<std::size_t>(g.outputs[i])].same(got[i])) << where;
              }
              if (HasFailure()) return;
            }
          }
        } catch (const Error& e) {
          FAIL() << where << e.full();
        }
        ++drawn;
      }
    }
  }
  EXPECT_GT(drawn, 40 * 3 * 100);
  EXPECT_GT(exact, 1000);
  EXPECT_GT(without_reference, drawn / 4);
}

// A quantiser turns the last bit of a float into a whole step: taken out, the rest is compared.
Graph without_quantisers(Graph g) {
  std::map<ValueId, ValueId> instead;
  std::vector<Node> kept;
  const auto through = [&](ValueId v) {
    while (instead.contains(v)) v = instead.at(v);
    return v;
  };
  for (Node& n : g.nodes) {
    if (op_of(g, n).closure == Closure::quantiser) {
      instead[n.outputs[0]] = n.inputs[0];
      continue;
    }
    for (ValueId& v : n.inputs)
      if (v != kNone) v = through(v);
    kept.push_back(n);
  }
  for (ValueId& v : g.outputs) v = through(v);
  g.nodes = kept;
  infer_shapes(g);
  return g;
}

TEST(Float, EqualsTheReferenceOnRandomGraphs) {
  int fewer = 0;
  for (std::uint64_t seed = 1; seed <= 300; ++seed) {
    RandomGraphOptions o;
    o.batch = 1 + static_cast<std::int64_t>(seed % 3);
    RandomGraph r = random_graph(o, seed);
    const Graph g = without_quantisers(r.graph);
    if (std::any_of(g.outputs.begin(), g.outputs.end(), [&](ValueId v) { return std::find(g.inputs.begin(), g.inputs.end(), v) != g.inputs.end(); })) continue;
    std::vector<Tensor> all_want;
    const std::vector<Tensor> want = evaluate_float(g, r.inputs, &all_want);
    double scale = 1;  // of anything on the way: what cancels leaves its rounding behind
    for (const Tensor& t : all_want)
      if (t.dtype() == DType::f32) scale = std::max(scale, largest(t));
    const auto check = [&](const Tensor& got, const Tensor& w, const std::string& where) {
      if (w.dtype() == DType::i64) return;  // ArgMax of what is equal but for rounding
      expect_near(got, w, 64 * kOne * scale / largest(w), where);
    };
    std::vector<Tensor> own[2];
    for (int mode = 0; mode < 4; ++mode) {
      FloatOptions options;
      options.library = mode >= 2;
      options.threads = mode == 1 ? 2 : 1;
      options.keep_all = mode == 3;
      FloatExecutor x(g, options);
      std::vector<Tensor> all;
      const std::vector<Tensor> got = x.run(r.inputs, options.keep_all ? &all : nullptr);
      const std::string where = fmt::format("seed {} mode {}\n{}", seed, mode, to_text(g));
      for (std::size_t i = 0; i < want.size(); ++i) check(got[i], want[i], where);
      if (mode < 2) own[mode] = got;
      for (std::size_t v = 0; v < all.size(); ++v)
        if (all[v].defined() && all[v].size() && all_want[v].size()) check(all[v], all_want[v], where + g.values[v].name);
      if (mode == 2) fewer += x.counts().own + x.counts().library + x.counts().views < static_cast<int>(g.nodes.size());
      if (HasFatalFailure()) return;
    }
    for (std::size_t i = 0; i < want.size(); ++i) ASSERT_TRUE(own[0][i].same(own[1][i])) << "threads changed the result, seed " << seed;
  }
  EXPECT_GT(fewer, 20);  // something was fused or folded
}

struct Builder {
  Graph g;
  Rng r{7, "resnet"};
  ValueId constant(const Shape& s, double lo, double hi) {
    Tensor t(DType::f32, s);
    for (std::int64_t i = 0; i < t.size(); ++i) t.set(i, lo + (hi - lo) * r.uniform());
    return g.add_constant(g.unique_name("w"), t);
  }
  ValueId conv(ValueId x, std::int64_t from, std::int64_t to, std::int64_t k, std::int64_t stride) {
    using Ints = std::vector<std::int64_t>;
    const double limit = std::sqrt(3.0 / static_cast<double>(from * k * k));
    const ValueId y = g.add_node("Conv", {x, constant({to, from, k, k}, -limit, limit)}, {{"strides", Ints{stride, stride}}, {"pads", Ints(4, k / 2)}});
    return g.add_node("BatchNormalization", {y, constant({to}, 0.5, 1.5), constant({to}, -1, 1), constant({to}, -1, 1), constant({to}, 0.5, 2)});
  }
  ValueId relu(ValueId x) { return g.add_node("Relu", {x}); }
  // The structure of ResNet-18.
  void resnet(std::int64_t width, std::int64_t extent, std::int64_t classes) {
    using Ints = std::vector<std::int64_t>;
    ValueId x = g.add_input("x", DType::f32, dims_of({1, 3, extent, extent}));
    x = relu(conv(x, 3, width, 7, 2));
    x = g.add_node("MaxPool", {x}, {{"kernel_shape", Ints{3, 3}}, {"strides", Ints{2, 2}}, {"pads", Ints(4, 1)}});
    std::int64_t c = width;
    for (int stage = 0; stage < 4; ++stage)
      for (int block = 0; block < 2; ++block) {
        const std::int64_t to = width << stage, stride = stage > 0 && block == 0 ? 2 : 1;
        const ValueId y = conv(relu(conv(x, c, to, 3, stride)), to, to, 3, 1);
        const ValueId shortcut = c == to && stride == 1 ? x : conv(x, c, to, 1, stride);
        x = relu(g.add_node(stage % 2 ? "Sum" : "Add", {y, shortcut}));
        c = to;
      }
    x = g.add_node("Flatten", {g.add_node("GlobalAveragePool", {x})});
    x = g.add_node("Gemm", {x, constant({classes, c}, -0.1, 0.1), constant({classes}, -1, 1)}, {{"transB", std::int64_t{1}}});
    g.outputs = {g.add_node("Softmax", {x})};
    infer_shapes(g);
  }
};
Tensor noise(const Shape& s) {
  Rng r(3, "input");
  Tensor t(DType::f32, s);
  for (std::int64_t i = 0; i < t.size(); ++i) t.set(i, r.normal());
  return t;
}

TEST(Float, ResNetIsFusedAndEqual) {
  Builder b;
  b.resnet(16, 64, 10);
  const Tensor x = noise({1, 3, 64, 64});
  const Tensor want = evaluate_float(b.g, {x})[0];
  for (const bool library : {false, true}) {
    FloatOptions o;
    o.library = library;
    FloatExecutor e(b.g, o);
    expect_near(e.run({x})[0], want, 1e-5, library ? "library" : "own");
    EXPECT_EQ(e.counts().reference, 0);
    if (library && open_library()) {
      // 20 convolutions, all BatchNormalization, Relu and Add in them; two pools, one Gemm.
      EXPECT_EQ(e.counts().library, 23);
      EXPECT_EQ(e.counts().own, 1);
    }
  }
}

std::int64_t status_kib(const char* key) {
  std::ifstream f("/proc/self/status");
  std::string word;
  while (f >> word)
    if (word == key) {
      std::int64_t n = 0;
      f >> n;
      return n;
    }
  return -1;
}

// Quantisers are f32 at every operation: equal, whatever the groups, and NaN is refused alike.
TEST(Float, QuantisersAreEqual) {
  int own = 0;
  for (std::uint64_t seed = 0; seed < 200; ++seed) {
    Rng r(seed, "quantisers");
    Graph g;
    const Shape s{r.range(1, 3), r.range(1, 5), r.range(1, 6), r.range(1, 40)};
    const ValueId x = g.add_input("x", DType::f32, dims_of(s));
    const auto constant = [&](const Shape& shape, auto draw) {
      Tensor t(DType::f32, shape);
      for (std::int64_t i = 0; i < t.size(); ++i) t.set(i, draw());
      return g.add_constant(g.unique_name("c"), t);
    };
    const Shape shapes[] = {{}, {1, s[1], 1, 1}, {s[3]}, {s[1], 1, s[3]}};
    const Shape group = shapes[r.range(0, 3)];
    const float step = static_cast<float>(r.uniform()) + 0.01f;
    const ValueId scale = constant(group, [&] { return step * static_cast<float>(r.range(1, 4)); });
    if (r.chance(0.2)) {
      g.outputs = {g.add_node("BipolarQuant", {x, scale}, {}, "q", "qonnx.custom_op.general")};
    } else {
      const float bits = static_cast<float>(r.range(2, 8));
      const char* modes[] = {"ROUND", "ROUND", "ROUND", "FLOOR", "HALF_UP"};
      g.outputs = {g.add_node("Quant", {x, scale, constant({}, [&] { return static_cast<float>(r.range(0, 3)); }), constant({}, [&] { return bits; })},
                              {{"signed", std::int64_t{1}}, {"rounding_mode", std::string(modes[r.range(0, 4)])}}, "q", "qonnx.custom_op.general")};
    }
    infer_shapes(g);
    Tensor in(DType::f32, s);
    // Many ties.
    for (std::int64_t i = 0; i < in.size(); ++i) in.set(i, r.chance(0.5) ? step * static_cast<float>(r.range(-40, 40)) / 2 : r.normal() * 5);
    FloatExecutor e(g);
    own += e.counts().own;
    ASSERT_TRUE(e.run({in})[0].same(evaluate_float(g, {in})[0])) << "seed " << seed << "\n" << to_text(g);
    in.set(in.size() - 1, NAN);
    try {
      e.run({in});
      FAIL() << "accepted NaN";
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), Exit::bad_input);
      EXPECT_NE(error.full().find(fmt::format("NaN at element {}", in.size() - 1)), std::string::npos) << error.full();
    }
  }
  EXPECT_GT(own, 60);
  EXPECT_LT(own, 180);
}

TEST(Float, PeakMemoryIsKnownBeforehand) {
  Builder b;
  b.resnet(64, 320, 1000);
  const Tensor x = noise({1, 3, 320, 320});
  mallopt(M_MMAP_THRESHOLD, 1 << 17);  // what is freed goes back to the system
  for (const bool library : {false, true}) {
    FloatOptions o;
    o.library = library;
    o.threads = 1;
    FloatExecutor(b.g, o).run({x});  // code and threads are not the graph's memory
    malloc_trim(0);
    std::ofstream reset("/proc/self/clear_refs");
    reset << "5" << std::flush;  // the high-water mark begins anew
    if (!reset) GTEST_SKIP() << "this system does not reset the high-water mark of memory";
    const std::int64_t before = status_kib("VmRSS:");
    FloatExecutor e(b.g, o);
    e.run({x});
    const std::int64_t used = status_kib("VmHWM:") - before, planned = static_cast<std::int64_t>(e.peak_bytes() >> 10);
    EXPECT_LE(used, planned + 4096) << "library " << library;
    EXPECT_GE(used, planned * 9 / 10) << "library " << library;
    FloatOptions tight = o;
    tight.memory_bytes = e.peak_bytes() - 1;
    try {
      FloatExecutor refused(b.g, tight);
      FAIL() << "planned beyond its limit";
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), Exit::limit);
    }
  }
  // Memory is used again: far less than the sum of all values.
  FloatOptions keep;
  keep.keep_all = true;
  EXPECT_LT(FloatExecutor(b.g).peak_bytes() + (40u << 20), FloatExecutor(b.g, keep).peak_bytes());
}

TEST(Float, ExtentsThatDependOnData) {
  Graph g;
  const ValueId x = g.add_input("x", DType::f32, dims_of({2, 6}));
  const ValueId y = g.add_node("Relu", {x});
  const ValueId where = g.add_node("Transpose", {g.add_node("NonZero", {y})});
  g.outputs = {g.add_node("Neg", {g.add_node("GatherND", {y, where})}), y};
  infer_shapes(g);
  FloatExecutor e(g);
  EXPECT_FALSE(e.bounded());
  for (int draw = 0; draw < 4; ++draw) {
    Rng r(static_cast<std::uint64_t>(draw), "x");
    Tensor t(DType::f32, {2, 6});
    for (std::int64_t i = 0; i < t.size(); ++i) t.set(i, r.normal());
    const auto want = evaluate_float(g, {t}), got = e.run({t});
    for (std::size_t i = 0; i < want.size(); ++i) EXPECT_TRUE(got[i].same(want[i])) << draw << " " << i;
  }
}

TEST(Float, RefusesWhatDoesNotFit) {
  Graph g;
  const ValueId x = g.add_input("x", DType::f32, dims_of({2, 3}));
  g.outputs = {g.add_node("Relu", {x})};
  infer_shapes(g);
  FloatExecutor e(g);
  try {
    e.run({noise({3, 2})});
    FAIL() << "accepted another shape";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), Exit::bad_input);
    EXPECT_NE(error.full().find("'x'"), std::string::npos);
  }
  Graph delayed;
  const ValueId v = delayed.add_input("x", DType::f32, dims_of({1, 2}));
  delayed.outputs = {delayed.add_node("Delay", {v}, {{"shape", std::vector<std::int64_t>{1, 2}}}, "late", "tandem")};
  infer_shapes(delayed);
  try {
    FloatExecutor refused(delayed);
    FAIL() << "accepted a state";
  } catch (const Error& error) {
    EXPECT_NE(error.where().find("late"), std::string::npos);
  }
}

}  // namespace
}  // namespace tandem::exec
