// The engine's front door: what other threads ask of its loop, and what they may know without waiting for it.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <future>
#include <memory>
#include <mutex>
#include <string>
#include <unordered_map>
#include <vector>

#include "base/status.h"
#include "engine/live_request.h"

namespace bifocal::engine {

struct Mail {
  std::vector<std::unique_ptr<LiveRequest>> requests;  // by key
  std::vector<RequestKey> aborts;                      // of requests that came with this mail or before
  std::vector<std::promise<Status>> flushes;           // flush_cache() calls that wait for an answer
  bool stop = false;
};

// Thread-safe. The loop calls take(), set_waiting(), forget() and close(); everybody else the rest.
class Inbox {
 public:
  explicit Inbox(int max_queued) : max_queued_(max_queued) {}

  // Gives the request its key. Errors: invalid_argument (the id is live), resource_exhausted (queue full),
  // unavailable (draining or closed).
  Status push(std::unique_ptr<LiveRequest> request);
  bool abort(const std::string& id);
  void abort_all();
  // Waits for the loop's answer.
  Status flush();
  void begin_drain();
  void stop();
  bool idle() const;

  // What has come; waits up to `wait` for something.
  Mail take(std::chrono::milliseconds wait);
  // Choices that the scheduler has waiting: they count against the queue's limit.
  void set_waiting(int choices);
  // The id is free again. To be called before its last event goes out.
  void forget(const std::string& id);
  // Nothing is accepted any more, and `why` is the answer. Gives what was still waiting to be taken.
  Mail close(Status why);

 private:
  bool has_mail() const;

  const int max_queued_;
  mutable std::mutex mutex_;
  std::condition_variable arrived_;
  Mail mail_;
  int mail_choices_ = 0;
  int waiting_choices_ = 0;
  RequestKey next_key_ = 0;
  std::unordered_map<std::string, RequestKey> live_;
  bool draining_ = false;
  Status closed_;  // ok while open
};

}  // namespace bifocal::engine
