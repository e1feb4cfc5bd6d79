// The thread budget and the one parallel loop. Threads are handed out, never taken: `--jobs` is set
// once, before anything runs in parallel. Results must not depend on the number of threads: a body
// writes only to places that belong to its own indices.
#pragma once
#include <cstdint>
#include <functional>

#include "tandem/base/cancel.h"

namespace tandem {

class ThreadBudget {
 public:
  // Threads of this process; 0 = as many as the machine lends us (affinity mask). Error(bug) after first use.
  static void set(int jobs);
  static int jobs();
};

// Calls body(begin, end) on disjoint ranges that cover [0, n), each at most `grain` long. Ranges are cut
// at multiples of `grain`, whatever the number of threads, so that a body that sums its range and stores
// the sum under begin/grain gives bit-identical results. The first exception in index order that was
// thrown is rethrown; later ranges may then not have run. `cancel` is checked between ranges.
void parallel_ranges(std::int64_t n, std::int64_t grain, const std::function<void(std::int64_t, std::int64_t)>& body,
                     const Cancel& cancel = Cancel::never());

// body(i) for i in [0, n), `grain` at a time.
template <class F>
void parallel_for(std::int64_t n, std::int64_t grain, F&& body, const Cancel& cancel = Cancel::never()) {
  parallel_ranges(n, grain, [&](std::int64_t b, std::int64_t e) { for (std::int64_t i = b; i < e; ++i) body(i); }, cancel);
}

}  // namespace tandem
