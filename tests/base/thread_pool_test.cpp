#include "base/thread_pool.h"

#include <gtest/gtest.h>
#include <sys/resource.h>
#include <time.h>

#include <atomic>
#include <chrono>
#include <numeric>
#include <set>
#include <thread>
#include <vector>

namespace bifocal {
namespace {

double process_cpu_seconds() {
  timespec t{};
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
  return static_cast<double>(t.tv_sec) + 1e-9 * static_cast<double>(t.tv_nsec);
}

TEST(ThreadPool, RunsEveryTaskOnce) {
  for (const int threads : {1, 2, 5}) {
    ThreadPool pool(threads);
    EXPECT_EQ(pool.num_threads(), threads);
    for (const int64_t tasks : {0, 1, 2, 3, 7, 100, 10000}) {
      std::vector<std::atomic<int>> runs(static_cast<size_t>(tasks));
      std::atomic<bool> bad_thread{false};
      pool.parallel_for(tasks, [&](int64_t task, int thread) {
        runs[static_cast<size_t>(task)].fetch_add(1);
        if (thread < 0 || thread >= threads) bad_thread = true;
      });
      for (const auto& count : runs) ASSERT_EQ(count.load(), 1);
      EXPECT_FALSE(bad_thread);
    }
    pool.parallel_for(-1, [](int64_t, int) { FAIL() << "no tasks, no calls"; });
  }
}

TEST(ThreadPool, ResultsAreVisibleToTheCaller) {
  // Plain memory on purpose: the pool itself has to order it (ThreadSanitizer would say).
  ThreadPool pool(4);
  std::vector<int64_t> values(257);
  int64_t round = 0;
  for (; round < 3000; ++round) {
    pool.parallel_for(static_cast<int64_t>(values.size()),
                      [&](int64_t task, int) { values[static_cast<size_t>(task)] += task + round; });
  }
  const int64_t rounds_sum = round * (round - 1) / 2;
  for (size_t i = 0; i < values.size(); ++i)
    ASSERT_EQ(values[i], static_cast<int64_t>(i) * round + rounds_sum);
}

TEST(ThreadPool, EachThreadNumberBelongsToOneThreadAtATime) {
  ThreadPool pool(4);
  std::vector<std::atomic<int>> inside(4);
  std::atomic<bool> overlap{false};
  pool.parallel_for(2000, [&](int64_t, int thread) {
    if (inside[static_cast<size_t>(thread)].fetch_add(1) != 0) overlap = true;
    inside[static_cast<size_t>(thread)].fetch_sub(1);
  });
  EXPECT_FALSE(overlap);
}

TEST(ThreadPool, SeveralThreadsTakePart) {
  ThreadPool pool(3);
  std::atomic<int> arrived{0};
  // Each task waits until another thread has one too: a pool that ran them in turn would never end.
  const auto give_up = std::chrono::steady_clock::now() + std::chrono::seconds(30);
  pool.parallel_for(3, [&](int64_t, int) {
    arrived.fetch_add(1);
    while (arrived.load() < 3 && std::chrono::steady_clock::now() < give_up) std::this_thread::yield();
  });
  EXPECT_EQ(arrived.load(), 3);
  EXPECT_LT(std::chrono::steady_clock::now(), give_up);
}

TEST(ThreadPool, NestedCallsRunOnTheSpot) {
  ThreadPool pool(3);
  ThreadPool other(2);
  std::atomic<int64_t> sum{0};
  std::atomic<bool> moved{false};
  pool.parallel_for(20, [&](int64_t outer, int outer_thread) {
    pool.parallel_for(10, [&](int64_t inner, int thread) {
      if (thread != outer_thread) moved = true;
      sum.fetch_add(outer * 10 + inner);
    });
    if (outer == 0) other.parallel_for(5, [&](int64_t inner, int) { sum.fetch_add(1000 * inner); });
  });
  EXPECT_EQ(sum.load(), 199 * 200 / 2 + 1000 * 10);
  EXPECT_FALSE(moved);
}

TEST(ThreadPool, SeveralCallersTakeTurns) {
  ThreadPool pool(3);
  std::vector<std::thread> callers;
  std::atomic<int64_t> sum{0};
  for (int caller = 0; caller < 4; ++caller) {
    callers.emplace_back([&] {
      for (int i = 0; i < 200; ++i) {
        pool.parallel_for(16, [&](int64_t task, int) { sum.fetch_add(task); });
      }
    });
  }
  for (std::thread& caller : callers) caller.join();
  EXPECT_EQ(sum.load(), 4 * 200 * 120);
}

TEST(ThreadPool, WakesFromSleepAgainAndAgain) {
  ThreadPool pool(3);
  std::atomic<int> count{0};
  for (int i = 0; i < 40; ++i) {
    std::this_thread::sleep_for(
        std::chrono::microseconds(i % 4 == 0 ? 2000 : 45));  // asleep, or just about to
    pool.parallel_for(8, [&](int64_t, int) { count.fetch_add(1); });
  }
  EXPECT_EQ(count.load(), 320);
}

TEST(ThreadPool, IdleWorkersUseNoProcessorTime) {
  ThreadPool pool(4);
  pool.parallel_for(64, [](int64_t, int) {});
  std::this_thread::sleep_for(std::chrono::milliseconds(20));
  const double before = process_cpu_seconds();
  std::this_thread::sleep_for(std::chrono::milliseconds(300));
  EXPECT_LT(process_cpu_seconds() - before, 0.03);
}

TEST(ThreadPool, PoolsComeAndGo) {
  for (int i = 0; i < 100; ++i) {
    ThreadPool pool(3);
    if (i % 2 == 0) pool.parallel_for(3, [](int64_t, int) {});
  }
}

}  // namespace
}  // namespace bifocal
