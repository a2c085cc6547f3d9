// One request of a serving benchmark as its client saw it: when its tokens came. The definitions are those of
// SGLang's bench_serving.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "bench/serving_api.h"

namespace bifocal::bench {

struct RequestTimeline {
  bool ok = false;
  int64_t start_ns = 0;  // when it was sent; SteadyClock
  double latency_s = 0;  // until the last event, [DONE] included
  double ttft_s = 0;     // until the first event with text
  // Gaps between events with text. Where both tell how many tokens there are by now, the gap goes in equal
  // parts to those that are new; otherwise it is one entry.
  std::vector<double> itl_s;
  int64_t prompt_len = 0;  // tokens, as the dataset counts them
  int64_t output_len = 0;  // tokens: the server's count, or what was asked for
  std::string text;
  std::string error;  // of one that isn't ok
};

struct LoadResult {
  std::vector<RequestTimeline> timelines;  // in the order of the requests
  double duration_s = 0;                   // from the first arrival to the last answer
};

// Events in order, each with the time at which it arrived. `ids_only`: the server has no tokenizer; an event
// that tells of more tokens stands for one with text.
class TimelineRecorder {
 public:
  TimelineRecorder(const WorkloadRequest& request, int64_t start_ns, bool ids_only = false);

  void on_piece(AnswerPiece piece, int64_t now_ns);
  void on_event(int64_t now_ns);  // any event: the last one ends the request
  RequestTimeline finish() &&;
  RequestTimeline fail(std::string error) &&;

 private:
  RequestTimeline timeline_;
  bool ids_only_;
  int64_t last_text_ns_ = -1;          // the last event with text; negative: none yet
  std::optional<int64_t> last_count_;  // tokens by then
};

}  // namespace bifocal::bench
