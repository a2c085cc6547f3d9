#include "base/thread_pool.h"

#include <fmt/format.h>
#include <sched.h>

#include <algorithm>
#include <chrono>
#include <limits>

#include "base/trace.h"

namespace bifocal {
namespace {

// Long enough to bridge the gap between two layers' loops, short enough that an idle process uses no CPU.
constexpr auto kSpin = std::chrono::microseconds(50);
// The caller's wait for the last tasks: some microseconds of spinning, then it offers its core to whoever has
// them.
constexpr int kCallerSpins = 256;
constexpr int64_t kMaxJobTasks = std::numeric_limits<int32_t>::max();
constexpr uint64_t kLeftMask = 0xffffffffU;

// Whose task this thread is running, if any's.
struct Membership {
  const ThreadPool* pool = nullptr;
  int thread = 0;
};
thread_local Membership membership;

void relax() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#endif
}

}  // namespace

int ThreadPool::available_cores() {
  cpu_set_t set;
  CPU_ZERO(&set);
  if (sched_getaffinity(0, sizeof(set), &set) == 0) return std::max(1, CPU_COUNT(&set));
  return std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
}

ThreadPool::ThreadPool(int num_threads) {
  if (num_threads <= 0) num_threads = available_cores();
  for (int i = 1; i < num_threads; ++i) {
    workers_.emplace_back([this, i] { worker_loop(i); });
  }
}

ThreadPool::~ThreadPool() {
  stop_.store(true);
  wake_ups_.fetch_add(1);
  wake_ups_.notify_all();
  for (std::thread& worker : workers_) worker.join();
}

void ThreadPool::run(int64_t num_tasks, TaskFn fn, void* context) {
  const bool nested = membership.pool == this;
  if (nested || workers_.empty() || num_tasks <= 1) {
    const int thread = nested ? membership.thread : 0;
    for (int64_t task = 0; task < num_tasks; ++task) fn(context, task, thread);
    return;
  }
  const std::lock_guard lock(caller_);
  const Membership outer = membership;
  membership = {this, 0};
  for (int64_t first = 0; first < num_tasks; first += kMaxJobTasks) {
    run_job({fn, context, first, std::min(kMaxJobTasks, num_tasks - first)});
  }
  membership = outer;
}

void ThreadPool::run_job(const Job& job) {
  job_ = job;
  unfinished_.store(job.num_tasks, std::memory_order_relaxed);
  const uint64_t number = (tickets_.load(std::memory_order_relaxed) >> 32) + 1;
  tickets_.store((number << 32) | static_cast<uint64_t>(job.num_tasks), std::memory_order_seq_cst);
  // A worker counts itself a sleeper before its last look at the tickets: either it sees them or it is seen
  // here.
  if (sleepers_.load(std::memory_order_seq_cst) > 0) {
    wake_ups_.fetch_add(1);
    wake_ups_.notify_all();
  }
  work(0);
  for (int spins = 0; unfinished_.load(std::memory_order_acquire) != 0; ++spins) {
    if (spins < kCallerSpins) {
      relax();
    } else {
      std::this_thread::yield();
    }
  }
}

void ThreadPool::work(int thread) {
  int64_t done = 0;
  uint64_t tickets = tickets_.load(std::memory_order_acquire);
  while ((tickets & kLeftMask) != 0) {
    if (!tickets_.compare_exchange_weak(tickets, tickets - 1, std::memory_order_acq_rel,
                                        std::memory_order_acquire)) {
      continue;
    }
    // From here until the count below the job can't end, so job_ stands still.
    const auto left = static_cast<int64_t>(tickets & kLeftMask);
    job_.fn(job_.context, job_.first_task + job_.num_tasks - left, thread);
    ++done;
    tickets = tickets_.load(std::memory_order_acquire);
  }
  if (done > 0) unfinished_.fetch_sub(done, std::memory_order_acq_rel);
}

bool ThreadPool::has_tickets() const {
  return (tickets_.load(std::memory_order_seq_cst) & kLeftMask) != 0;
}

void ThreadPool::wait_for_tickets() {
  const auto spin_until = std::chrono::steady_clock::now() + kSpin;
  do {
    for (int i = 0; i < 32; ++i) {
      if (has_tickets() || stop_.load(std::memory_order_relaxed)) return;
      relax();
    }
  } while (std::chrono::steady_clock::now() < spin_until);
  const uint32_t seen = wake_ups_.load(std::memory_order_seq_cst);
  sleepers_.fetch_add(1, std::memory_order_seq_cst);
  if (!has_tickets() && !stop_.load(std::memory_order_seq_cst))
    wake_ups_.wait(seen, std::memory_order_seq_cst);
  sleepers_.fetch_sub(1, std::memory_order_seq_cst);
}

void ThreadPool::worker_loop(int thread) {
  trace::name_thread(fmt::format("pool {}", thread));
  membership = {this, thread};
  while (!stop_.load(std::memory_order_relaxed)) {
    wait_for_tickets();
    work(thread);
  }
}

}  // namespace bifocal
