// What /metrics shows, in Prometheus' text format 0.0.4. Names are stable: a table, checked by a test. Labels
// come from fixed sets, never from what clients send.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <mutex>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "engine/engine.h"

namespace bifocal::server {

struct MetricName {
  std::string_view name;  // without the prefix "bifocal_"
  std::string_view type;  // gauge, counter, histogram
  std::string_view help;
};
std::span<const MetricName> metric_names();

// Why requests were turned away or cut short.
enum class RejectReason : uint8_t {
  malformed,
  unauthorized,
  forbidden_host,
  invalid,
  queue_full,
  not_ready,
  limit
};
enum class AbortReason : uint8_t { client_gone, client_stalled, deadline, requested, shutdown };
std::string_view to_string(RejectReason reason);
std::string_view to_string(AbortReason reason);
constexpr int kNumRejectReasons = 7;
constexpr int kNumAbortReasons = 5;

class Histogram {
 public:
  explicit Histogram(std::span<const double> bounds) : bounds_(bounds), counts_(bounds.size() + 1) {}
  void observe(double value, uint64_t times = 1);
  void append(std::string& out, std::string_view name, std::string_view labels) const;
  // {"bounds": [s, ...], "counts": [...]}: a count per bound, not cumulative, and one of what is above.
  void write(JsonWriter& json) const;
  double sum() const { return sum_; }
  uint64_t count() const { return count_; }

 private:
  std::span<const double> bounds_;
  std::vector<uint64_t> counts_;  // per bucket, not cumulative; the last is +Inf
  double sum_ = 0;
  uint64_t count_ = 0;
};

// What a scrape adds to the server's own counts.
struct MetricsSnapshot {
  const engine::EngineStats* stats = nullptr;  // null while starting
  int64_t max_total_tokens = 0;
  int64_t context_length = 0;
  int page_size = 0;
  std::string_view model_name;
  bool ready = false;
  int open_connections = 0;
  int64_t now_ns = 0;
};

class Metrics {
 public:
  Metrics();

  void request_started(bool streaming);
  void first_token(double seconds);
  // `tokens` new tokens came `seconds` after the ones before: observed as seconds/tokens, `tokens` times.
  void more_tokens(double seconds, int64_t tokens);
  void request_finished(double seconds, int64_t prompt_tokens, int64_t cached_tokens,
                        int64_t completion_tokens);
  void rejected(RejectReason reason);
  void aborted(AbortReason reason);
  void answered(std::string_view route, int status);  // route: a pattern from the route table

  // Seconds until a queue of that length has probably moved on, from the mean time that requests took.
  int retry_after_s(int queued_requests, int running_requests) const;

  std::string render(const MetricsSnapshot& snapshot) const;
  // Members "ttft" and "itl" of the object under way.
  void write_latencies(JsonWriter& json) const;

 private:
  void render_engine(std::string& out, const MetricsSnapshot& snapshot) const;

  mutable std::mutex mutex_;
  std::array<uint64_t, 2> requests_{};  // [streaming]
  std::array<uint64_t, kNumRejectReasons> rejected_{};
  std::array<uint64_t, kNumAbortReasons> aborted_{};
  std::map<std::pair<std::string, int>, uint64_t> answered_;  // by route and status
  Histogram time_to_first_token_;
  Histogram inter_token_;
  Histogram end_to_end_;
  Histogram prompt_tokens_;
  Histogram uncached_prompt_tokens_;
  Histogram generation_tokens_;
};

}  // namespace bifocal::server
