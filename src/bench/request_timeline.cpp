#include "bench/request_timeline.h"

#include <utility>

namespace bifocal::bench {
namespace {

double seconds(int64_t ns) {
  return static_cast<double>(ns) * 1e-9;
}

}  // namespace

TimelineRecorder::TimelineRecorder(const WorkloadRequest& request, int64_t start_ns, bool ids_only)
    : ids_only_(ids_only) {
  timeline_.start_ns = start_ns;
  timeline_.prompt_len = request.prompt_len;
  timeline_.output_len = request.output_len;
}

void TimelineRecorder::on_event(int64_t now_ns) {
  timeline_.latency_s = seconds(now_ns - timeline_.start_ns);
}

void TimelineRecorder::on_piece(AnswerPiece piece, int64_t now_ns) {
  on_event(now_ns);
  if (piece.completion_tokens) timeline_.output_len = *piece.completion_tokens;
  const bool has_tokens = ids_only_ && piece.completion_tokens.value_or(0) > 0;
  if (piece.text.empty() && !has_tokens) return;
  if (piece.replaces_text) {
    timeline_.text = std::move(piece.text);
  } else {
    timeline_.text += piece.text;
  }
  if (last_text_ns_ < 0) {
    timeline_.ttft_s = seconds(now_ns - timeline_.start_ns);
  } else {
    const int64_t new_tokens =
        piece.completion_tokens && last_count_ ? *piece.completion_tokens - *last_count_ : 1;
    if (new_tokens <= 0) return;  // the text once more, to tell why it ended
    const double gap_s = seconds(now_ns - last_text_ns_) / static_cast<double>(new_tokens);
    timeline_.itl_s.insert(timeline_.itl_s.end(), static_cast<size_t>(new_tokens), gap_s);
  }
  last_text_ns_ = now_ns;
  last_count_ = piece.completion_tokens;
}

RequestTimeline TimelineRecorder::finish() && {
  timeline_.ok = true;
  return std::move(timeline_);
}

RequestTimeline TimelineRecorder::fail(std::string error) && {
  timeline_.error = std::move(error);
  return std::move(timeline_);
}

}  // namespace bifocal::bench
