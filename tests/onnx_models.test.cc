// Every ONNX model among the data is read, understood and run, or refused by name; stored results are reproduced.
#include <gtest/gtest.h>

#include <chrono>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <set>

#include "tandem/base/file.h"
#include "tandem/base/rng.h"
#include "tandem/ir/dump.h"
#include "tandem/ir/exact.h"
#include "tandem/ir/onnx.h"
#include "tandem/ir/op.h"
#include "tandem/tensor/npy.h"

namespace tandem::ir {
namespace {
namespace fs = std::filesystem;

fs::path data() {
  const char* env = std::getenv("TANDEM_DATA");
  return env ? fs::path(env) : fs::path(TANDEM_SOURCE_DIR) / "../shared/data";
}
#define NEEDS_DATA(folder) \
  if (!fs::exists(data() / (folder))) GTEST_SKIP() << "set TANDEM_DATA to the folder of data sets"

// Free extents take 1; shapes inferred.
Graph bound(const Graph& g) {
  std::map<std::string, Shape> shapes;
  for (ValueId v : g.inputs) {
    const Value& x = g.values[static_cast<std::size_t>(v)];
    if (!x.type.dims) continue;
    Shape s;
    for (const Dim& d : *x.type.dims) s.push_back(d.known() ? d.n : 1);
    shapes[x.name] = s;
  }
  return bind_inputs(g, shapes);
}
Tensor input_of(const Graph& g, std::size_t i, Rng& r) {
  const TensorType& t = g.values[static_cast<std::size_t>(g.inputs[i])].type;
  Shape s;
  for (const Dim& d : *t.dims) s.push_back(d.n);
  Tensor x(t.dtype, s);
  for (std::int64_t k = 0; k < x.size(); ++k) x.set(k, is_float(t.dtype) ? r.uniform() : static_cast<double>(r.range(0, 1)));
  return x;
}
// Multiplications and additions of what is contracted, as far as the Einsums say.
double work(const Graph& g) {
  double n = 0;
  for (const Node& x : g.nodes) {
    const OpDef& op = op_of(g, x);
    if (op.closure == Closure::linear && op.einsum) n += static_cast<double>(op.einsum(g, x).iterations());
  }
  return n;
}
// What the reference evaluator, one double per element, does in about a second.
constexpr double kWork = 2e8;

// Without leave to invent them, missing weights are refused by name.
TEST(OnnxModels, AbsentWeightsAreNotInventedUnasked) {
  NEEDS_DATA("onnx_workloads/shapes");
  try {
    read_onnx(data() / "onnx_workloads/shapes/resnet18.onnx");
    FAIL();
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), Exit::bad_input);
    EXPECT_NE(e.full().find("initialiser 'fc.weight'"), std::string::npos) << e.full();
  }
  const Graph g = read_onnx(data() / "onnx_workloads/shapes/resnet18.onnx", {}, Absent::invent);
  EXPECT_EQ(g.metadata.at("onnx.invented"), "resnet18.external");
}

TEST(OnnxModels, EveryFileIsReadAndRunOrRefusedByName) {
  NEEDS_DATA("qonnx_models");
  std::set<fs::path> files;
  for (const auto& e : fs::recursive_directory_iterator(data()))
    if (e.path().extension() == ".onnx") files.insert(e.path());
  ASSERT_GE(files.size(), 40u);
  std::map<std::string, std::string> refused;
  int run = 0;
  for (const fs::path& p : files) {
    const std::string name = fs::relative(p, data());
    try {
      const Graph g = read_onnx(p, {}, Absent::invent);  // a few carry structure only
      verify(g);
      EXPECT_EQ(first_difference(g, parse_onnx(onnx_bytes(g))), "") << name;
      const Graph b = bound(g);
      if (work(b) > kWork) continue;
      Rng r(1, name);
      std::vector<Tensor> in;
      for (std::size_t i = 0; i < b.inputs.size(); ++i) in.push_back(input_of(b, i, r));
      for (const Tensor& y : evaluate_float(b, in))
        for (std::int64_t i = 0; i < y.size(); ++i) ASSERT_TRUE(std::isfinite(y.at(i))) << name;
      ++run;
    } catch (const Error& e) {
      EXPECT_EQ(e.code(), Exit::bad_input) << name << e.full();
      EXPECT_NE(e.where().find("node"), std::string::npos) << name << e.full();
      refused[name] = e.full();
    }
  }
  EXPECT_GE(run, 23);  // the others are too large for the reference evaluator
  EXPECT_LE(refused.size() * 10, files.size());  // at most a tenth
  for (const auto& [name, why] : refused) std::printf("refused: %s: %s\n", name.c_str(), why.c_str());
  std::printf("%zu files, %d run, %zu refused\n", files.size(), run, refused.size());
}

// The largest distance relative to the largest stored value.
double distance(const Tensor& y, const Tensor& want) {
  EXPECT_EQ(y.shape(), want.shape());
  if (y.shape() != want.shape()) return INFINITY;
  double most = 0, scale = 1e-30;
  for (std::int64_t i = 0; i < y.size(); ++i) {
    scale = std::max(scale, std::abs(want.at(i)));
    most = std::max(most, std::abs(y.at(i) - want.at(i)));
  }
  return most / scale;
}
Tensor npy(const fs::path& p) { return read_npy(p); }

TEST(OnnxModels, QonnxStoredOutputs) {
  NEEDS_DATA("qonnx_models");
  const fs::path q = data() / "qonnx_models/qonnx";
  const Graph mnist = bound(read_onnx(q / "mnist-conv/model.onnx"));
  const fs::path set = q / "mnist-conv/test_data_set_0";
  EXPECT_LT(distance(evaluate_float(mnist, {parse_onnx_tensor(read_file(set / "input_0.pb"))})[0], parse_onnx_tensor(read_file(set / "output_0.pb"))), 1e-5);
  const Graph fp8 = bound(read_onnx(q / "floatquant_exec/qonnx_act_weight_fp8.onnx"));
  EXPECT_LT(distance(evaluate_float(fp8, {npy(q / "floatquant_exec/test_data/input.npy")})[0], npy(q / "floatquant_exec/test_data/output.npy")), 1e-5);
}

TEST(OnnxModels, FinnDataflowModel) {
  NEEDS_DATA("qonnx_models");
  const fs::path f = data() / "qonnx_models/finn";
  const Graph g = bound(read_onnx(f / "build_dataflow_model.onnx"));
  const Tensor x = npy(f / "build_dataflow_input.npy"), want = npy(f / "build_dataflow_expected_output.npy");
  ASSERT_EQ(x.shape()[0], want.size());
  for (std::int64_t i = 0; i < want.size(); ++i) EXPECT_EQ(evaluate_float(g, {x.rows(i, i + 1)})[0].at(0), want.at(i)) << i;
}

// ONNX's backend test fills every input with k / n for element k of n, and asks rtol 1e-3, atol 1e-7.
void light(const char* name) {
  const fs::path folder = data() / "onnx_workloads/light";
  const Graph g = bound(read_onnx(folder / fmt::format("light_{}.onnx", name)));
  std::vector<Tensor> in;
  for (ValueId v : g.inputs) {
    Shape s;
    for (const Dim& d : *g.values[static_cast<std::size_t>(v)].type.dims) s.push_back(d.n);
    Tensor x(DType::f32, s);
    for (std::int64_t i = 0; i < x.size(); ++i) x.data<float>()[i] = static_cast<float>(static_cast<double>(i) / static_cast<double>(x.size()));
    in.push_back(x);
  }
  const Tensor y = evaluate_float(g, in)[0], want = parse_onnx_tensor(read_file(folder / fmt::format("light_{}_output_0.pb", name)));
  ASSERT_EQ(y.shape(), want.shape());
  for (std::int64_t i = 0; i < y.size(); ++i) ASSERT_LE(std::abs(y.at(i) - want.at(i)), 1e-7 + 1e-3 * std::abs(want.at(i))) << name << " element " << i;
}
#define LIGHT(name)                    \
  TEST(OnnxModels, Light_##name) {     \
    NEEDS_DATA("onnx_workloads/light"); \
    light(#name);                      \
  }
LIGHT(squeezenet)
LIGHT(shufflenet)
LIGHT(bvlc_alexnet)
LIGHT(zfnet512)
LIGHT(inception_v1)
LIGHT(inception_v2)
LIGHT(densenet121)
LIGHT(resnet50)

}  // namespace
}  // namespace tandem::ir
