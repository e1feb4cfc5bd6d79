#include "tandem/plan/moves.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>

#include "tandem/base/rng.h"

namespace tandem::plan {
namespace {

// A stream is followed element by element through exchanges of its frame's axes.
TEST(PlanMoves, OrdersFollowTheAxes) {
  Orders orders;
  for (int seed = 0; seed < 200; ++seed) {
    Rng r(1, fmt::format("orders {}", seed));
    Shape frame(static_cast<std::size_t>(r.range(1, 4)));
    for (auto& e : frame) e = r.range(1, 5);
    std::vector<std::size_t> walk(frame.size());
    std::iota(walk.begin(), walk.end(), std::size_t(0));
    auto shuffled = [&] {
      std::vector<std::size_t> a = walk;
      for (std::size_t i = a.size(); i > 1; --i) std::swap(a[i - 1], a[static_cast<std::size_t>(r.range(0, static_cast<std::int64_t>(i) - 1))]);
      return a;
    };
    Order stream = orders.of(frame, shuffled());
    std::vector<std::int32_t> element(stream.begin(), stream.end()), label = order_of(frame, walk);  // label[flat place]: the element there
    for (int step = 0; step < 3; ++step) {
      const std::vector<std::size_t> axes = shuffled();
      Shape to;
      for (std::size_t d : axes) to.push_back(frame[d]);
      // The element at each place of the new frame, from coordinates.
      std::vector<std::int32_t> moved(label.size());
      const std::vector<std::int64_t> from = row_major_strides(frame), strides = row_major_strides(to);
      for (std::size_t i = 0; i < moved.size(); ++i) {
        std::int64_t source = 0;
        for (std::size_t d = 0; d < to.size(); ++d) source += static_cast<std::int64_t>(i) / strides[d] % to[d] * from[axes[d]];
        moved[i] = label[static_cast<std::size_t>(source)];
      }
      stream = orders.exchanged(stream, frame, axes);
      label = std::move(moved);
      frame = to;
      ASSERT_EQ(stream.size(), label.size());
      for (std::size_t j = 0; j < stream.size(); ++j) ASSERT_EQ(label[static_cast<std::size_t>(stream[j])], element[j]) << "seed " << seed;
    }
  }
}

TEST(PlanMoves, EqualOrdersAreOne) {
  Orders orders;
  const Order rows = orders.of({3, 4, 5}, {0, 1, 2}), last = orders.of({3, 4, 5}, {1, 2, 0});
  EXPECT_EQ(orders.of({3, 4, 5}, {0, 1, 2}).get().data(), rows.get().data());
  EXPECT_NE(last, rows);
  // Channels put last in the frame too: the stream then walks it as it lies.
  EXPECT_EQ(orders.exchanged(last, {3, 4, 5}, {1, 2, 0}).get().data(), rows.get().data());
}

}  // namespace
}  // namespace tandem::plan
