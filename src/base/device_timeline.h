// What a device did, collected from its own records, as tracks of a trace: one for each stream.
#pragma once

#include <cstdint>
#include <deque>
#include <mutex>
#include <string_view>
#include <vector>

#include "base/trace.h"

namespace bifocal::trace {

struct DeviceEvent {
  std::string_view name;  // lives as long as the process
  int64_t start_ns = 0;   // SteadyClock
  int64_t end_ns = 0;
  uint32_t correlation = 0;  // of the host's call that asked for it
  uint32_t device = 0;
  uint32_t stream = 0;
  Kind kind = Kind::kernel;
  Values values = {};  // the first becomes the step
};

// Calls are numbered in the order in which the host makes them.
struct HostCall {
  uint32_t correlation = 0;
  int64_t start_ns = 0;
};

// Any thread may add. When there are more than max_events of either, the oldest make room.
class DeviceTimeline {
 public:
  void clear(size_t max_events);
  void add(const DeviceEvent& event);
  void add(const HostCall& call);
  // Events are recorded from here on, and were not for a while. One that began earlier and seems to go on
  // has an end that nobody saw: it is left out.
  void resume(int64_t at_ns);

  // Takes what began within the recording: a track per stream, and more of them where a stream's events
  // overlap. The step of an event is the one during which the host called for it; 0: none, or not known any
  // more.
  void add_tracks(Recording& recording);

 private:
  std::mutex mutex_;
  size_t max_events_ = 0;
  std::deque<DeviceEvent> events_;
  std::deque<HostCall> calls_;
  std::vector<int64_t> resumed_ns_;
  uint64_t dropped_ = 0;  // events
};

}  // namespace bifocal::trace
