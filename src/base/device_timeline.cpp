#include "base/device_timeline.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <utility>
#include <vector>

namespace bifocal::trace {
namespace {

std::vector<SpanEvent> steps_of(const Recording& recording) {
  std::vector<SpanEvent> steps;
  for (const TrackRecording& track : recording.tracks) {
    std::copy_if(track.spans.begin(), track.spans.end(), std::back_inserter(steps),
                 [](const SpanEvent& span) { return span.kind == Kind::step; });
  }
  std::sort(steps.begin(), steps.end(), [](const auto& a, const auto& b) { return a.start_ns < b.start_ns; });
  return steps;
}

// The number of the step at `time_ns`; 0: none.
int64_t step_at(const std::vector<SpanEvent>& steps, int64_t time_ns) {
  const auto after = std::upper_bound(steps.begin(), steps.end(), time_ns,
                                      [](int64_t time, const auto& step) { return time < step.start_ns; });
  if (after == steps.begin() || time_ns >= std::prev(after)->end_ns) return 0;
  return std::prev(after)->values[0];
}

// Where an event goes that must not overlap the one before it.
TrackRecording& lane_for(const DeviceEvent& event, std::vector<TrackRecording>& lanes) {
  for (TrackRecording& lane : lanes) {
    if (lane.spans.back().end_ns <= event.start_ns) return lane;
  }
  std::string name = fmt::format("GPU {} stream {}", event.device, event.stream);
  if (!lanes.empty()) name += fmt::format(", overlapping {}", lanes.size());
  return lanes.emplace_back(TrackRecording{std::move(name), {}, 0});
}

}  // namespace

void DeviceTimeline::clear(size_t max_events) {
  std::lock_guard lock(mutex_);
  max_events_ = max_events;
  events_.clear();
  calls_.clear();
  resumed_ns_.clear();
  dropped_ = 0;
}

void DeviceTimeline::add(const DeviceEvent& event) {
  std::lock_guard lock(mutex_);
  events_.push_back(event);
  if (events_.size() <= max_events_) return;
  events_.pop_front();
  ++dropped_;
}

void DeviceTimeline::add(const HostCall& call) {
  std::lock_guard lock(mutex_);
  calls_.push_back(call);
  if (calls_.size() > max_events_) calls_.pop_front();
}

void DeviceTimeline::resume(int64_t at_ns) {
  std::lock_guard lock(mutex_);
  resumed_ns_.push_back(at_ns);
}

void DeviceTimeline::add_tracks(Recording& recording) {
  std::lock_guard lock(mutex_);
  const std::vector<SpanEvent> steps = steps_of(recording);
  // Records come by buffers, not in order.
  std::sort(calls_.begin(), calls_.end(),
            [](const auto& a, const auto& b) { return a.correlation < b.correlation; });
  std::sort(events_.begin(), events_.end(),
            [](const auto& a, const auto& b) { return a.start_ns < b.start_ns; });
  // A call within a call has a number of its own, which is the one that the device may know.
  const auto call_of = [&](const DeviceEvent& event) {
    return std::upper_bound(calls_.begin(), calls_.end(), event.correlation,
                            [](uint32_t number, const HostCall& call) { return number < call.correlation; });
  };
  std::map<std::pair<uint32_t, uint32_t>, std::vector<TrackRecording>> lanes;  // of a device's stream
  for (const DeviceEvent& event : events_) {
    if (event.start_ns < recording.start_ns || event.start_ns > recording.end_ns) continue;
    const auto resumed = std::upper_bound(resumed_ns_.begin(), resumed_ns_.end(), event.start_ns);
    if (resumed != resumed_ns_.end() && event.end_ns >= *resumed) continue;
    SpanEvent span{event.name, event.start_ns, event.end_ns, event.values, event.kind};
    const auto after = call_of(event);
    span.values[0] = after == calls_.begin() ? 0 : step_at(steps, std::prev(after)->start_ns);
    lane_for(event, lanes[{event.device, event.stream}]).spans.push_back(span);
  }
  const size_t first = recording.tracks.size();
  for (auto& [stream, tracks] : lanes)
    std::move(tracks.begin(), tracks.end(), std::back_inserter(recording.tracks));
  if (recording.tracks.size() > first) recording.tracks[first].dropped = dropped_;
  events_.clear();
  calls_.clear();
}

}  // namespace bifocal::trace
