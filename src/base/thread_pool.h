// A fixed team of threads for data-parallel loops. Workers spin briefly, then sleep: an idle server burns no
// core.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <thread>
#include <type_traits>
#include <vector>

namespace bifocal {

class ThreadPool {
 public:
  // num_threads counts the calling thread; 0 means one per available core. At least 1.
  explicit ThreadPool(int num_threads = 0);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int num_threads() const { return static_cast<int>(workers_.size()) + 1; }
  static int available_cores();  // respects the process's CPU affinity

  // Calls fn(task, thread) for every task in [0, num_tasks), thread in [0, num_threads()). Tasks are handed
  // out dynamically, so results must not depend on which thread runs which task. Blocks until all are done.
  // Not reentrant: fn must not call parallel_for on the same pool. One caller at a time.
  template <class Fn>
  void parallel_for(int64_t num_tasks, Fn&& fn) {
    using F = std::remove_reference_t<Fn>;
    run(
        num_tasks, [](void* context, int64_t task, int thread) { (*static_cast<F*>(context))(task, thread); },
        const_cast<void*>(static_cast<const void*>(&fn)));
  }

 private:
  using TaskFn = void (*)(void* context, int64_t task, int thread);
  void run(int64_t num_tasks, TaskFn fn, void* context);
  void work(int thread);
  void worker_loop(int thread);

  std::vector<std::jthread> workers_;
  std::atomic<uint64_t> generation_{0};  // odd/even means nothing: each job adds one
  std::atomic<int64_t> next_task_{0};
  std::atomic<int> running_{0};  // workers that have not yet finished the current job
  int64_t num_tasks_ = 0;
  TaskFn fn_ = nullptr;
  void* context_ = nullptr;
  std::atomic<bool> stop_{false};
  std::atomic<int> sleepers_{0};
  std::mutex mutex_;
  std::condition_variable wake_;
};

}  // namespace bifocal
