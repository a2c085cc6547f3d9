#include "bench/arrivals.h"

#include <utility>

#include "base/clock.h"

namespace bifocal::bench {

engine::EventSink Arrivals::sink(size_t request) {
  return [this, request](const engine::OutputEvent& event) {
    const int64_t now_ns = SteadyClock::instance().now_ns();
    const std::lock_guard lock(mutex_);
    for (const engine::OutputToken& token : event.tokens) streams_[request].push_back({now_ns, token.id});
    if (event.finish != engine::FinishReason::none) {
      ++finished_;
      cached_tokens_ += event.cached_tokens;
    }
    if (event.finish == engine::FinishReason::error && failure_.ok()) failure_ = event.error;
    changed_.notify_all();
  };
}

Status Arrivals::wait_finished(size_t count) {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [&] { return finished_ >= count; });
  return failure_;
}

std::vector<TokenStream> Arrivals::streams() const {
  const std::lock_guard lock(mutex_);
  return streams_;
}

int64_t Arrivals::cached_tokens() const {
  const std::lock_guard lock(mutex_);
  return cached_tokens_;
}

engine::GenerateRequest make_request(std::string id, std::vector<int32_t> prompt, int64_t output_len) {
  engine::GenerateRequest request;
  request.id = std::move(id);
  request.prompt_ids = std::move(prompt);
  request.sampling.temperature = 0;
  request.sampling.ignore_eos = true;
  request.sampling.max_new_tokens = output_len;
  return request;
}

std::vector<int32_t> random_tokens(uint64_t seed, int64_t count, int vocab_size) {
  SplitMix64 random(seed);
  std::vector<int32_t> tokens(static_cast<size_t>(count));
  for (int32_t& token : tokens) token = static_cast<int32_t>(random.below(static_cast<uint64_t>(vocab_size)));
  return tokens;
}

}  // namespace bifocal::bench
