// Non-dominated points. A point dominates another when it is no worse in every objective and better in one;
// equal points do not dominate each other.
#pragma once
#include <cstddef>
#include <span>
#include <vector>

namespace tandem {

enum class Goal { minimise, maximise };

// points: n rows of goals.size() values, row-major. All throw Error(bad_input) naming the row when a value is NaN or
// the number of values is no multiple of the number of goals. Infinities are ordinary values.

// Indices of the points that no other dominates, ascending. O(n log n) for one and two objectives,
// O(n log n + n * front * objectives) otherwise.
std::vector<std::size_t> pareto_front(std::span<const double> points, std::span<const Goal> goals);

// The rank of every point: 0 for the front, r + 1 for the front of what remains after ranks 0 .. r are taken away
// (Deb et al., NSGA-II, 2002). O(n log n) for one and two objectives, O(n^2) comparisons otherwise (efficient
// non-dominated sort: Zhang et al., 2015).
std::vector<std::size_t> pareto_ranks(std::span<const double> points, std::span<const Goal> goals);

// A front that grows point by point (results of a running search).
class ParetoArchive {
 public:
  explicit ParetoArchive(std::vector<Goal> goals) : goals_(std::move(goals)) {}
  // Inserts the point with the caller's id unless an entry dominates it; entries that it dominates leave. True when
  // inserted. A NaN is refused with Error(bad_input) and changes nothing.
  bool insert(std::size_t id, std::span<const double> point);
  struct Entry {
    std::size_t id;
    std::vector<double> point;
  };
  const std::vector<Entry>& entries() const { return entries_; }  // in order of insertion

 private:
  std::vector<Goal> goals_;
  std::vector<Entry> entries_;
};

}  // namespace tandem
