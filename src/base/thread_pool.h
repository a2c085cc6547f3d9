// A fixed team of threads for data-parallel loops. Workers spin briefly, then sleep: an idle server burns no
// core.
#pragma once

#include <atomic>
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
  // out dynamically, so results must not depend on which thread runs which task. Blocks until all are done; a
  // worker that comes late, because the system gave its core away, is not waited for. A call from inside fn
  // runs its tasks on the spot, with the outer call's thread number. One caller at a time; others wait. fn
  // must not throw.
  template <class Fn>
  void parallel_for(int64_t num_tasks, Fn&& fn) {
    using F = std::remove_reference_t<Fn>;
    run(
        num_tasks, [](void* context, int64_t task, int thread) { (*static_cast<F*>(context))(task, thread); },
        const_cast<void*>(static_cast<const void*>(&fn)));
  }

 private:
  using TaskFn = void (*)(void* context, int64_t task, int thread);
  struct Job {
    TaskFn fn = nullptr;
    void* context = nullptr;
    int64_t first_task = 0;
    int64_t num_tasks = 0;
  };

  void run(int64_t num_tasks, TaskFn fn, void* context);
  void run_job(const Job& job);
  void work(int thread);
  void worker_loop(int thread);
  bool has_tickets() const;
  void wait_for_tickets();

  std::vector<std::thread> workers_;
  std::mutex caller_;  // held by the thread whose job runs
  Job job_;            // written between jobs; read by holders of one of its tickets
  // Upper half: number of the job. Lower half: its tasks not yet handed out. Taking a ticket is a
  // compare-and-swap, so nobody gets a task of another job than the one it looked at.
  alignas(64) std::atomic<uint64_t> tickets_{0};
  alignas(64) std::atomic<int64_t> unfinished_{0};  // tasks of the job that are not done
  alignas(64) std::atomic<int> sleepers_{0};
  std::atomic<uint32_t> wake_ups_{0};  // sleepers wait for it to change
  std::atomic<bool> stop_{false};
};

}  // namespace bifocal
