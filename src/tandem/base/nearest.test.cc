#include "tandem/base/nearest.h"

#include <gtest/gtest.h>

namespace tandem {

TEST(nearest, distances_by_definition) {
  EXPECT_EQ(edit_distance("", ""), 0);
  EXPECT_EQ(edit_distance("kitten", "sitting"), 3);
  EXPECT_EQ(edit_distance("Conv", "conv"), 0);
  EXPECT_EQ(edit_distance("Covn", "Conv"), 1);  // one swap
  EXPECT_EQ(edit_distance("abc", ""), 3);
}

TEST(nearest, suggestions) {
  EXPECT_EQ(suggest("MaxPol", {"MaxPool", "MatMul"}), "did you mean 'MaxPool'?");
  EXPECT_EQ(suggest("zzzzzz", {"Add", "Mul"}), "known: Add, Mul");
}

}  // namespace tandem
