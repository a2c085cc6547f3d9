// What a benchmark's requests wrote, and when.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <vector>

#include "base/hash.h"
#include "engine/engine.h"

namespace bifocal::bench {

struct TokenArrival {
  int64_t time_ns = 0;  // SteadyClock
  int32_t token = 0;
};
using TokenStream = std::vector<TokenArrival>;

// Shared with the engine's sinks: must outlive the engine.
class Arrivals {
 public:
  explicit Arrivals(size_t num_requests) : streams_(num_requests) {}

  engine::EventSink sink(size_t request);
  // Until `condition` holds of the tokens so far ([requests]), or a request fails.
  template <class Condition>
  Status wait(Condition condition) {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return !failure_.ok() || condition(streams_); });
    return failure_;
  }
  // Until every request has ended; its failure, if one failed.
  Status wait_all_finished() { return wait_finished(streams_.size()); }
  // Until so many have ended; as above.
  Status wait_finished(size_t count);
  std::vector<TokenStream> streams() const;
  int64_t cached_tokens() const;  // of all prompts; once all have ended

 private:
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<TokenStream> streams_;
  size_t finished_ = 0;
  int64_t cached_tokens_ = 0;
  Status failure_;
};

// Greedy, of exactly output_len tokens.
engine::GenerateRequest make_request(std::string id, std::vector<int32_t> prompt, int64_t output_len);
std::vector<int32_t> random_tokens(uint64_t seed, int64_t count, int vocab_size);

}  // namespace bifocal::bench
