#include "server/worker_pool.h"

#include <fmt/format.h>

#include <algorithm>
#include <exception>

#include "base/log.h"
#include "base/trace.h"

namespace bifocal::server {

WorkerPool::WorkerPool(std::string name, int num_threads) {
  for (int i = 0; i < std::max(1, num_threads); ++i) {
    threads_.emplace_back([this, label = fmt::format("{} {}", name, i)] {
      trace::name_thread(label);
      run();
    });
  }
}

WorkerPool::~WorkerPool() {
  join();
}

void WorkerPool::join() {
  {
    std::lock_guard lock(mutex_);
    stop_ = true;
  }
  wake_.notify_all();
  threads_.clear();
}

void WorkerPool::post(std::function<void()> job) {
  std::lock_guard lock(mutex_);
  jobs_.push_back(std::move(job));
  wake_.notify_one();  // under the lock: once the job has run, the pool may be gone
}

void WorkerPool::run() {
  for (;;) {
    std::function<void()> job;
    {
      std::unique_lock lock(mutex_);
      wake_.wait(lock, [&] { return stop_ || !jobs_.empty(); });
      if (jobs_.empty()) return;
      job = std::move(jobs_.front());
      jobs_.pop_front();
    }
    try {
      job();
    } catch (const std::exception& e) {
      log_error("a worker's job failed: {}", e.what());
    }
  }
}

}  // namespace bifocal::server
