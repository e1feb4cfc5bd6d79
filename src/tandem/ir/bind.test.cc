#include "tandem/ir/bind.h"

#include <gtest/gtest.h>

#include "tandem/base/error.h"
#include "tandem/ir/onnx.h"
#include "tandem/ir/op.h"

namespace tandem::ir {
namespace {

// y = x x^T of x [batch, seq, 4]: batch seq^2 4 products.
Graph products() {
  Graph g;
  g.name = "products";
  const ValueId x = g.add_input("x", DType::f32, {Dim("batch"), Dim("seq"), Dim(4)});
  g.outputs = {g.add_node("MatMul", {x, g.add_node("Transpose", {x}, {{"perm", std::vector<std::int64_t>{0, 2, 1}}}, "t")}, {}, "mm")};
  infer_shapes(g);
  return g;
}
std::int64_t macs(const Graph& g) {
  std::int64_t sum = 0;
  for (const Node& n : g.nodes)
    if (n.op == "MatMul") sum += op_of(g, n).einsum(g, n).macs();
  return sum;
}
std::string fault(const std::function<void()>& f) {
  try {
    f();
  } catch (const Error& e) {
    return e.full();
  }
  return "";
}

TEST(Bind, ABoundIsTakenWhereAnExtentIsOpen) {
  const Graph g = bind_extents(products(), {"seq<=16", "batch=2"});
  EXPECT_EQ(bounds_of(g).at("seq").most, 16);
  EXPECT_EQ(g.values[static_cast<std::size_t>(g.inputs[0])].type.dims->at(1).symbol, "seq") << "a bound leaves it open";
  std::vector<std::string> notes;
  EXPECT_EQ(macs(bind_free(g, &notes)), 2 * 16 * 16 * 4);
  ASSERT_EQ(notes.size(), 1u);
  EXPECT_EQ(notes[0], "seq = 16, its largest value");
  EXPECT_EQ(macs(bind_free(products())), 4) << "without a bound it is 1";
}
TEST(Bind, SharesGiveTheMeanAndTheLargest) {
  const Graph g = bind_extents(products(), {"seq=2*3,10*1", "batch=1*1,3*1"});
  double mean = 0, shares = 0;
  int calls = 0;
  for_each_extent(g, [&](const Graph& x, double share) { mean += share * static_cast<double>(macs(x)), shares += share, ++calls; });
  EXPECT_EQ(calls, 4);
  EXPECT_DOUBLE_EQ(shares, 1);
  EXPECT_DOUBLE_EQ(mean, 2.0 * (0.75 * 4 + 0.25 * 100) * 4);  // the mean batch times the mean of seq^2 times 4
  EXPECT_EQ(macs(bind_free(g)), 3 * 100 * 4);
  calls = 0;
  for_each_extent(bind_extents(products(), {"seq<=7"}), [&](const Graph&, double) { ++calls; });
  EXPECT_EQ(calls, 0) << "a bound alone has no mean";
}
TEST(Bind, FilesCarryBounds) {
  const Graph g = parse_onnx(onnx_bytes(bind_extents(products(), {"seq=2*3,10*1", "batch<=8"})));
  EXPECT_EQ(bounds_of(g).at("batch").most, 8);
  EXPECT_EQ(bounds_of(g).at("seq").shares, (std::vector<std::pair<std::int64_t, double>>{{2, 0.75}, {10, 0.25}}));
}
TEST(Bind, DataBeyondTheBoundAreRefused) {
  const Graph g = bind_extents(products(), {"seq<=16"});
  EXPECT_EQ(macs(bind_inputs(g, {{"x", {1, 16, 4}}})), 16 * 16 * 4);
  const std::string said = fault([&] { bind_inputs(g, {{"x", {1, 17, 4}}}); });
  EXPECT_NE(said.find("'seq' is 17"), std::string::npos) << said;
  EXPECT_NE(said.find("at most 16"), std::string::npos) << said;
}
TEST(Bind, BadBoundsAreRefused) {
  for (const char* bad : {"seq<=", "seq<=-1", "seq<=9x", "seq=3*", "seq=*3", "seq=3*0", "seq=3*-1", "seq=3*1,", "seq=3*nan", "seq<=99999999999"})
    EXPECT_NE(fault([&] { bind_extents(products(), {bad}); }).find("gives no extent"), std::string::npos) << bad;
  EXPECT_NE(fault([&] { bind_extents(products(), {"sequence<=4"}); }).find("no input has an extent called 'sequence'"), std::string::npos);
  Graph g = products();
  g.metadata["tandem.extent.seq"] = "many";
  EXPECT_NE(fault([&] { bind_free(g); }).find("'many'"), std::string::npos);
  std::string wide = "seq=1*1";
  for (int i = 2; i <= 100; ++i) wide += fmt::format(",{}*1", i);
  EXPECT_NE(fault([&] { for_each_extent(bind_extents(products(), {wide, "batch" + wide.substr(3)}), [](const Graph&, double) {}); }).find("combinations"), std::string::npos);
}

}  // namespace
}  // namespace tandem::ir
