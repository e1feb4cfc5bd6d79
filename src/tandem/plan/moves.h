// Elements that move in a stream: orders of a frame, address sequences as nested loops, masks as products.
#pragma once
#include <map>
#include <tuple>

#include "tandem/plan/stage_graph.h"

namespace tandem::plan {

// order[j] = flat index of the j-th element when the frame is walked with the axes nested as given, outermost first.
std::vector<std::int32_t> order_of(const Shape& frame, const std::vector<std::size_t>& axes);
// Each made once and shared: the same frames come again and again, and large ones cost more to make than all else.
class Orders {
 public:
  const Order& of(const Shape& frame, const std::vector<std::size_t>& axes);
  // The same stream after its frame's axes were exchanged.
  const Order& exchanged(const Order& stream, const Shape& frame, const std::vector<std::size_t>& axes);

 private:
  Order known(std::vector<std::int32_t> order);

  std::vector<Order> all_;  // different ones
  std::map<std::pair<Shape, std::vector<std::size_t>>, Order> of_;
  std::map<std::tuple<const std::int32_t*, Shape, std::vector<std::size_t>>, std::pair<Order, Order>> exchanged_;  // what was given, which keeps its address, and the result
};
// Axes of a frame with the channels (its first axis) innermost; of a frame that is no image as they are.
std::vector<std::size_t> usual_axes(const Shape& frame);

// The sequence as at most six nested loops, outermost first: the sum of stride * counter over the loops, plus from[0].
// Empty where it has no such form.
std::vector<Loop> find_loops(const std::vector<std::int32_t>& from);

// mask[i] as the product of smaller masks over the digits of i, outermost first: as few bits as divisors allow.
std::vector<std::vector<bool>> factor(const std::vector<bool>& mask);

// The largest u so that every aligned run of u values is consecutive and begins at a multiple of u.
std::int64_t unit_of(const std::vector<std::int32_t>& from);
// The largest u so that every aligned run of u bits is equal.
std::int64_t unit_of(const std::vector<bool>& mask);

}  // namespace tandem::plan
