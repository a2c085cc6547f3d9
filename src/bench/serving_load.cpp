#include "bench/serving_load.h"

#include <fmt/format.h>

#include <chrono>
#include <cmath>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <thread>

#include "base/clock.h"

namespace bifocal::bench {
namespace {

constexpr size_t kShownBytes = 300;  // of an error's body

using server::http::ClientResponse;
using server::http::TimePoint;

int64_t to_ns(TimePoint time) {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(time.time_since_epoch()).count();
}

// One request on its way. Touched by the client's I/O thread only, once it was started.
class Flight {
 public:
  Flight(const ServingApi& api, const WorkloadRequest& request, bool ids_only)
      : api_(api), recorder_(request, SteadyClock::instance().now_ns(), ids_only) {}

  void on_event(std::string_view data, TimePoint arrived) {
    if (!error_.empty()) return;
    answered_ = true;
    if (data == "[DONE]") return recorder_.on_event(to_ns(arrived));
    auto piece = read_piece(api_, data);
    if (piece.ok()) {
      recorder_.on_piece(std::move(*piece), to_ns(arrived));
    } else {
      error_ = piece.status().message();
    }
  }

  // The body of a stream was handed out as events, any other is here.
  RequestTimeline finish(const Expected<ClientResponse>& response) {
    if (!response.ok()) {
      error_ = response.status().message();
    } else if (response->status != 200) {
      error_ = fmt::format("status {}: {}", response->status, response->body.substr(0, kShownBytes));
    } else if (!response->body.empty()) {
      on_event(response->body, std::chrono::steady_clock::now());
    }
    if (error_.empty() && !answered_) error_ = "an answer without content";
    if (!error_.empty()) return std::move(recorder_).fail(std::move(error_));
    return std::move(recorder_).finish();
  }

 private:
  const ServingApi& api_;
  TimelineRecorder recorder_;
  std::string error_;
  bool answered_ = false;
};

}  // namespace

LoadResult run_load(server::http::HttpClient& client, const ServingApi& api, const AskOptions& ask,
                    const std::vector<WorkloadRequest>& requests, NumpyRandom arrivals,
                    const LoadOptions& options) {
  LoadResult result;
  result.timelines.resize(requests.size());
  std::mutex mutex;
  std::condition_variable changed;
  size_t running = 0;
  const auto free_turn = [&] {
    return options.max_concurrency <= 0 || running < static_cast<size_t>(options.max_concurrency);
  };
  const auto begin = std::chrono::steady_clock::now();
  double arrival_s = 0;
  for (size_t i = 0; i < requests.size(); ++i) {
    if (i > 0 && std::isfinite(options.request_rate)) {
      arrival_s += arrivals.exponential(1.0 / options.request_rate);
      std::this_thread::sleep_until(begin + std::chrono::duration_cast<std::chrono::steady_clock::duration>(
                                                std::chrono::duration<double>(arrival_s)));
    }
    std::string body = request_body(api, requests[i], ask);
    {
      std::unique_lock lock(mutex);
      changed.wait(lock, free_turn);
      ++running;
    }
    const auto flight = std::make_shared<Flight>(api, requests[i], options.ids_only);
    client.start(
        {"POST", std::string(api.path), std::move(body)},
        [flight](std::string_view data, TimePoint arrived) { flight->on_event(data, arrived); },
        [&, flight, i](const Expected<ClientResponse>& response) {
          result.timelines[i] = flight->finish(response);
          if (options.on_request) options.on_request();
          const std::lock_guard lock(mutex);
          --running;
          changed.notify_all();
        });
  }
  std::unique_lock lock(mutex);
  changed.wait(lock, [&] { return running == 0; });
  result.duration_s = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  return result;
}

}  // namespace bifocal::bench
