// From a float model to hardware with softmax and layer normalisation, by the commands that a user types.
#include <gtest/gtest.h>

#include <cmath>

#include "tandem/base/config.h"
#include "tandem/base/rng.h"
#include "tandem/ir/onnx.h"
#include "tandem/ir/op.h"
#include "tandem/tensor/npy.h"
#include "tests/tandem_run.h"

namespace tandem {
namespace {
using I = std::int64_t;

// 12 numbers to the chances of 6 classes; the first layer's sums normalised.
ir::Graph normalised_classifier() {
  ir::Graph g;
  Rng r(1, "classifier");
  const auto constant = [&](const std::string& name, Shape s, double spread, double middle) {
    Tensor t(DType::f32, s);
    for (I i = 0; i < t.size(); ++i) t.set(i, static_cast<float>(middle + spread * r.normal()));
    return g.add_constant(name, t);
  };
  ir::ValueId x = g.add_input("x", DType::f32, {ir::Dim(1), ir::Dim(12)});
  x = g.add_node("Gemm", {x, constant("w1", {12, 16}, 0.4, 0), constant("b1", {16}, 0.2, 0)}, {}, "first");
  x = g.add_node("LayerNormalization", {x, constant("scale", {16}, 0.2, 1), constant("bias", {16}, 0.2, 0)}, {{"axis", I{-1}}}, "norm");
  x = g.add_node("Relu", {x}, {}, "relu");
  x = g.add_node("Gemm", {x, constant("w2", {16, 6}, 0.4, 0), constant("b2", {6}, 0.2, 0)}, {}, "second");
  g.outputs = {g.add_node("Softmax", {x}, {{"axis", I{1}}}, "chances")};
  ir::infer_shapes(g);
  return g;
}

TEST(RtlByTableCommands, AFloatClassifierBecomesHardware) {
  if (!shell::all_tools_here("verilator")) {
    ASSERT_FALSE(std::getenv("CI")) << "CI needs verilator";
    GTEST_SKIP() << "verilator is not installed";
  }
  const shell::Folder f;
  ir::write_onnx(normalised_classifier(), f.path / "model.onnx");
  Rng r(2, "frames");
  Tensor x(DType::f32, {64, 12});
  for (I i = 0; i < x.size(); ++i) x.set(i, static_cast<float>(r.normal()));
  write_npy(f.path / "x.npy", x);

  shell::Result s = f.run("tandem quantize model.onnx --by-table --data x.npy --out q.onnx --json");
  ASSERT_EQ(s.code, 0) << s.err;
  // Nothing stays on the host, and the chances are those of the float model within what 8 bits lose.
  s = f.run("tandem run model.onnx --input x.npy --out float.npz --force && tandem run q.onnx --input x.npy --out table.npz --force");
  ASSERT_EQ(s.code, 0) << s.err;
  const auto exact = read_npz(f.path / "float.npz"), table = read_npz(f.path / "table.npz");
  ASSERT_EQ(exact.size(), 1u);
  ASSERT_EQ(table.size(), 1u);
  const Tensor &a = exact.begin()->second, &b = table.begin()->second;
  ASSERT_EQ(a.size(), b.size());
  double worst = 0;
  for (I i = 0; i < a.size(); ++i) worst = std::max(worst, std::abs(a.at(i) - b.at(i)));
  EXPECT_LT(worst, 0.1);
  EXPECT_GT(worst, 0);

  s = f.run("tandem build q.onnx --frames 40 --no-place --out design --json");
  ASSERT_EQ(s.code, 0) << s.err << s.out;
  const Config c = Config::parse(s.out, "build");
  EXPECT_TRUE(c.at("ok").as<bool>()) << s.out;
  bool compared = false;
  for (const Config& m : c.at("metrics").items())
    if (m.at("name").as<std::string>() == "mismatches") {
      compared = true;
      EXPECT_EQ(m.at("value").as<double>(), 0);
    }
  EXPECT_TRUE(compared) << s.out;
  std::string modules;
  for (const auto& e : std::filesystem::recursive_directory_iterator(f.path / "design")) modules += e.path().filename().string() + "\n";
  EXPECT_HAS(modules, "softmax");
  EXPECT_HAS(modules, "normalize");
}

}  // namespace
}  // namespace tandem
