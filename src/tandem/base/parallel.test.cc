#include "tandem/base/parallel.h"

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <csignal>
#include <numeric>
#include <vector>

#include "tandem/base/error.h"

namespace tandem {
namespace {

TEST(Parallel, CoversEveryIndexOnce) {
  for (std::int64_t n : {0, 1, 7, 64, 1000, 4097})
    for (std::int64_t grain : {1, 3, 64, 10000}) {
      std::vector<int> hits(static_cast<std::size_t>(n));
      parallel_for(n, grain, [&](std::int64_t i) { ++hits[static_cast<std::size_t>(i)]; });
      EXPECT_EQ(std::count(hits.begin(), hits.end(), 1), n) << n << " " << grain;
    }
}

TEST(Parallel, RangesAreCutAtMultiplesOfTheGrain) {
  std::vector<int> begins(10);
  parallel_ranges(95, 10, [&](std::int64_t b, std::int64_t e) {
    EXPECT_EQ(b % 10, 0);
    EXPECT_EQ(e, std::min<std::int64_t>(b + 10, 95));
    begins[static_cast<std::size_t>(b / 10)] = 1;
  });
  EXPECT_EQ(std::accumulate(begins.begin(), begins.end(), 0), 10);
}

TEST(Parallel, NestedLoopsAndErrors) {
  std::vector<std::int64_t> sum(20);
  parallel_for(20, 1, [&](std::int64_t i) {
    std::vector<std::int64_t> part(10);
    parallel_for(10, 1, [&](std::int64_t j) { part[static_cast<std::size_t>(j)] = i * j; });
    sum[static_cast<std::size_t>(i)] = std::accumulate(part.begin(), part.end(), std::int64_t{0});
  });
  for (std::int64_t i = 0; i < 20; ++i) EXPECT_EQ(sum[static_cast<std::size_t>(i)], 45 * i);
  try {
    parallel_for(100, 1, [](std::int64_t i) { if (i % 7 == 3) throw bad_input("index {}", i); });
    FAIL();
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), Exit::bad_input);
  }
}

TEST(Parallel, CancelStopsTheLoop) {
  Cancel c;
  std::atomic<int> ran{0};
  EXPECT_THROW(parallel_for(100000, 1, [&](std::int64_t) { if (++ran == 50) c.request(); }, c), Error);
  EXPECT_LT(ran.load(), 100000);
}

// The first signal sets the token, the second ends the process at once.
TEST(Cancel, SecondSignalEndsAtOnce) {
  for (const auto& [signal, code] : {std::pair{SIGINT, 130}, std::pair{SIGTERM, 143}}) {
    const auto child = ::fork();
    if (child == 0) {
      static Cancel token;
      cancel_on_signals(token);
      ::raise(signal);
      bool interrupted = false;
      try {
        token.check();
      } catch (const Error& e) {
        interrupted = static_cast<int>(e.code()) == code;
      }
      if (!interrupted) ::_exit(1);
      ::raise(signal);
      ::_exit(2);
    }
    int status = 0;
    ::waitpid(child, &status, 0);
    ASSERT_TRUE(WIFEXITED(status));
    EXPECT_EQ(WEXITSTATUS(status), code);
  }
}

}  // namespace
}  // namespace tandem
