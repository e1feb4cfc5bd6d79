#include "tandem/base/parallel.h"

#include <sched.h>
#include <tbb/blocked_range.h>
#include <tbb/parallel_for.h>
#include <tbb/task_arena.h>
#include <tbb/global_control.h>

#include <algorithm>
#include <atomic>
#include <exception>
#include <memory>
#include <mutex>

#include "tandem/base/error.h"

namespace tandem {
namespace {

std::atomic<int> g_jobs{0};
std::atomic<bool> g_used{false};

int machine_threads() {
  cpu_set_t set;
  CPU_ZERO(&set);
  if (::sched_getaffinity(0, sizeof set, &set) == 0) return std::max(1, CPU_COUNT(&set));
  return 1;
}

tbb::task_arena& arena() {
  // Never destroyed: worker threads may outlive static destruction.
  static tbb::global_control* limit =
      new tbb::global_control(tbb::global_control::max_allowed_parallelism, static_cast<std::size_t>(ThreadBudget::jobs()));
  static tbb::task_arena* a = new tbb::task_arena(ThreadBudget::jobs());
  (void)limit;
  return *a;
}

}  // namespace

void ThreadBudget::set(int jobs) {
  TANDEM_CHECK(!g_used.load(), "the thread budget is set after parallel work began");
  if (jobs < 0 || jobs > 4096) throw bad_input("--jobs {}: not a number of threads", jobs).expected("0 (all cores) to 4096");
  g_jobs.store(jobs);
}

int ThreadBudget::jobs() {
  const int j = g_jobs.load();
  return j > 0 ? j : machine_threads();
}

void parallel_ranges(std::int64_t n, std::int64_t grain, const std::function<void(std::int64_t, std::int64_t)>& body,
                     const Cancel& cancel) {
  TANDEM_CHECK(n >= 0 && grain > 0, "parallel_ranges({}, {})", n, grain);
  const std::int64_t chunks = n / grain + (n % grain != 0);
  const auto run = [&](std::int64_t c) { body(c * grain, c == chunks - 1 ? n : (c + 1) * grain); };
  if (chunks <= 1 || ThreadBudget::jobs() == 1) {
    for (std::int64_t c = 0; c < chunks; ++c) {
      cancel.check();
      run(c);
    }
    return;
  }
  g_used.store(true);
  std::mutex m;
  std::atomic<std::int64_t> first_bad{chunks};
  std::exception_ptr error;
  arena().execute([&] {
    tbb::parallel_for(
        tbb::blocked_range<std::int64_t>(0, chunks, 1),
        [&](const tbb::blocked_range<std::int64_t>& r) {
          for (std::int64_t c = r.begin(); c < r.end(); ++c) {
            if (cancel.requested() || c > first_bad.load(std::memory_order_relaxed)) return;
            try {
              run(c);
            } catch (...) {
              const std::lock_guard lock(m);
              if (c < first_bad.load()) {
                first_bad.store(c);
                error = std::current_exception();
              }
            }
          }
        },
        tbb::simple_partitioner());
  });
  if (error) std::rethrow_exception(error);
  cancel.check();
}

}  // namespace tandem
