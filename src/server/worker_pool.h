// A few threads that parse, tokenise and format, so that neither the I/O thread nor the engine does.
#pragma once

#include <condition_variable>
#include <deque>
#include <functional>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

namespace bifocal::server {

class WorkerPool {
 public:
  WorkerPool(std::string name, int num_threads);  // the name is for traces
  // As join().
  ~WorkerPool();
  WorkerPool(const WorkerPool&) = delete;
  WorkerPool& operator=(const WorkerPool&) = delete;

  // Jobs start in the order they were posted. An exception from a job (out of memory) is logged and dropped.
  void post(std::function<void()> job);
  // Runs what is queued, then ends the threads. Nothing may be posted from then on. May be called again.
  void join();

 private:
  void run();

  std::mutex mutex_;
  std::condition_variable wake_;
  std::deque<std::function<void()>> jobs_;
  bool stop_ = false;
  std::vector<std::jthread> threads_;
};

}  // namespace bifocal::server
