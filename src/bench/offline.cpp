#include "bench/offline.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/clock.h"
#include "bench/arrivals.h"

namespace bifocal::bench {
namespace {

constexpr size_t kWarmupRequests = 16;
constexpr size_t kWarmupInput = 256;  // tokens
constexpr int64_t kWarmupOutput = 16;

RequestTimeline timeline_of(const WorkloadRequest& request, int64_t start_ns, const TokenStream& stream) {
  TimelineRecorder recorder(request, start_ns);
  for (size_t i = 0; i < stream.size(); ++i) {
    // Every token counts, whether its text is whole or not.
    recorder.on_piece({" ", true, static_cast<int64_t>(i) + 1}, stream[i].time_ns);
  }
  RequestTimeline timeline = std::move(recorder).finish();
  timeline.text.clear();
  return timeline;
}

}  // namespace

Expected<LoadResult> run_offline(engine::Engine& engine, const std::vector<WorkloadRequest>& requests,
                                 const OfflineOptions& options) {
  Arrivals arrivals(requests.size());
  std::vector<int64_t> starts_ns;
  Status status;
  const int64_t begin_ns = SteadyClock::instance().now_ns();
  for (size_t i = 0; i < requests.size() && status.ok(); ++i) {
    const auto bound = static_cast<size_t>(options.max_concurrency);
    if (bound > 0 && i >= bound) status = arrivals.wait_finished(i - bound + 1);
    if (!status.ok()) break;
    engine::GenerateRequest request =
        make_request(fmt::format("offline-{}", i), requests[i].ids, requests[i].output_len);
    request.sampling.ignore_eos = options.ignore_eos;
    starts_ns.push_back(SteadyClock::instance().now_ns());
    status = engine.submit(std::move(request), arrivals.sink(i));
    if (!status.ok()) starts_ns.pop_back();
  }
  if (!status.ok()) engine.abort_all();
  const Status ended = arrivals.wait_finished(starts_ns.size());
  BIFOCAL_RETURN_IF_ERROR(status);
  BIFOCAL_RETURN_IF_ERROR(ended);
  LoadResult result;
  result.duration_s = static_cast<double>(SteadyClock::instance().now_ns() - begin_ns) * 1e-9;
  const std::vector<TokenStream> streams = arrivals.streams();
  for (size_t i = 0; i < requests.size(); ++i) {
    result.timelines.push_back(timeline_of(requests[i], starts_ns[i], streams[i]));
  }
  return result;
}

double last_gen_throughput(const std::vector<RequestTimeline>& timelines) {
  std::vector<double> times_s;
  for (const RequestTimeline& timeline : timelines) {
    double time_s = static_cast<double>(timeline.start_ns) * 1e-9 + timeline.ttft_s;
    times_s.push_back(time_s);
    for (const double gap_s : timeline.itl_s) times_s.push_back(time_s += gap_s);
  }
  if (times_s.empty()) return 0;
  const double from_s = *std::max_element(times_s.begin(), times_s.end()) - 1.0;
  return static_cast<double>(
      std::count_if(times_s.begin(), times_s.end(), [&](double time_s) { return time_s > from_s; }));
}

std::vector<WorkloadRequest> warmup_requests(const std::vector<WorkloadRequest>& requests) {
  std::vector<WorkloadRequest> warmups(
      requests.begin(),
      requests.begin() + static_cast<std::ptrdiff_t>(std::min(requests.size(), kWarmupRequests)));
  for (WorkloadRequest& request : warmups) {
    request.ids.resize(std::min(request.ids.size(), kWarmupInput));
    request.prompt_len = static_cast<int64_t>(request.ids.size());
    request.output_len = std::min(request.output_len, kWarmupOutput);
  }
  return warmups;
}

}  // namespace bifocal::bench
