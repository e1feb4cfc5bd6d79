#include "tandem/flow/precision.h"

#include <gtest/gtest.h>

namespace tandem {
namespace {

// One quantiser, codes 0 to 3 of step 1, on values chosen by hand: -1 is clipped (and becomes 0), 0.25 is flushed, 9 is clipped.
// Behind it a factor of 1/4 and a second quantiser of codes -2 to 1: what reaches it are 0, 1/4, 1/2 and 3/4.
TEST(Precision, SharesOfValuesChosenByHand) {
  ir::Graph g;
  const auto scalar = [&](float v) { return g.add_constant(g.unique_name("c"), Tensor::scalar(v)); };
  const auto quant = [&](ir::ValueId x, const char* name, bool sign) {
    return g.add_node("Quant", {x, scalar(1), scalar(0), scalar(2)}, {{"signed", std::int64_t{sign}}, {"narrow", std::int64_t{0}}, {"rounding_mode", std::string("ROUND")}}, name, "qonnx.custom_op.general");
  };
  const ir::ValueId x = g.add_input("x", DType::f32, {ir::Dim(1), ir::Dim(4)});
  const ir::ValueId first = quant(x, "first", false);
  const ir::ValueId small = g.add_node("Mul", {first, scalar(0.25f)}, {}, "small");
  g.outputs = {quant(small, "second", true)};
  const Tensor frames = Tensor::of<float>({2, 4}, {-1, 0, 0.25f, 1, 2, 3, 9, 3.4f});
  const auto d = flow::precision_profile(ir::lower_exact(ir::bind(g, {}), 64), frames);
  ASSERT_EQ(d.size(), 2u);
  EXPECT_EQ(d[0].layer, "first");
  EXPECT_EQ(d[0].n, 8);
  EXPECT_EQ(d[0].counts, (std::vector<std::int64_t>{3, 1, 1, 3}));  // codes 0 0 0 1, 2 3 3 3
  EXPECT_EQ(d[0].clipped, 2.0 / 8);                                 // -1 and 9
  EXPECT_EQ(d[0].flushed, 2.0 / 8);                                 // -1 and 0.25
  EXPECT_EQ(d[1].lo, -2);
  EXPECT_EQ(d[1].hi, 1);
  // 0 0 0 1/4, 1/2 3/4 3/4 3/4: half rounds to the even 0.
  EXPECT_EQ(d[1].counts, (std::vector<std::int64_t>{0, 0, 5, 3}));
  EXPECT_EQ(d[1].clipped, 0.0);
  EXPECT_EQ(d[1].flushed, 2.0 / 8);  // 1/4 and 1/2
  EXPECT_EQ(flow::precision_profile(ir::lower_exact(ir::bind(g, {}), 64), frames, 1)[0].n, 4);
}

}  // namespace
}  // namespace tandem
