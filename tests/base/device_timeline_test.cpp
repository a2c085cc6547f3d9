#include "base/device_timeline.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace bifocal::trace {
namespace {

// Steps 7 and 8 of the host at 1000..1900 and 2000..2900.
Recording two_steps() {
  Recording recording;
  recording.start_ns = 1000;
  recording.end_ns = 5000;
  recording.tracks.push_back(
      {"engine", {{"step", 1000, 1900, {7}, Kind::step}, {"step", 2000, 2900, {8}, Kind::step}}, 0});
  return recording;
}

DeviceEvent event(uint32_t correlation, int64_t start_ns, int64_t end_ns, uint32_t stream = 13) {
  return {"kernel", start_ns, end_ns, correlation, 0, stream, Kind::kernel, {0, 2, 3, 4}};
}

TEST(DeviceTimeline, AnEventBelongsToTheStepThatCalledForIt) {
  DeviceTimeline timeline;
  timeline.clear(100);
  timeline.add(HostCall{40, 2100});  // records come in any order
  timeline.add(HostCall{20, 1100});
  timeline.add(HostCall{30, 1950});  // between the steps
  timeline.add(event(20, 1200, 1300));
  timeline.add(event(21, 2200, 2300));  // of a call within call 20; runs during the next step
  timeline.add(event(30, 2400, 2500));
  timeline.add(event(40, 3500, 3600));
  timeline.add(event(9, 3700, 3800));  // of a call that is not known
  Recording recording = two_steps();
  timeline.add_tracks(recording);
  ASSERT_EQ(recording.tracks.size(), 2U);
  EXPECT_EQ(recording.tracks[1].name, "GPU 0 stream 13");
  std::vector<int64_t> steps;
  for (const SpanEvent& span : recording.tracks[1].spans) {
    steps.push_back(span.values[0]);
    EXPECT_EQ(span.values[1], 2) << "the others stay";
  }
  EXPECT_EQ(steps, (std::vector<int64_t>{7, 7, 0, 8, 0}));
}

TEST(DeviceTimeline, WhatNobodySawEndIsLeftOut) {
  DeviceTimeline timeline;
  timeline.clear(100);
  timeline.add(event(1, 1100, 1200));
  timeline.resume(3000);
  timeline.add(event(1, 1200, 3400));  // was running when events were last recorded
  timeline.add(event(1, 3000, 3500));
  Recording recording = two_steps();
  timeline.add_tracks(recording);
  ASSERT_EQ(recording.tracks.size(), 2U);
  ASSERT_EQ(recording.tracks[1].spans.size(), 2U);
  EXPECT_EQ(recording.tracks[1].spans[0].start_ns, 1100);
  EXPECT_EQ(recording.tracks[1].spans[1].start_ns, 3000);
}

TEST(DeviceTimeline, WhatBeganOutsideOfTheRecordingIsLeftOut) {
  DeviceTimeline timeline;
  timeline.clear(100);
  timeline.add(event(1, 900, 1100));
  timeline.add(event(1, 4900, 5100));
  timeline.add(event(1, 5001, 5100));
  Recording recording = two_steps();
  timeline.add_tracks(recording);
  ASSERT_EQ(recording.tracks.size(), 2U);
  ASSERT_EQ(recording.tracks[1].spans.size(), 1U);
  EXPECT_EQ(recording.tracks[1].spans[0].start_ns, 4900);
}

TEST(DeviceTimeline, EveryStreamHasATrackAndOverlapsHaveTheirOwn) {
  DeviceTimeline timeline;
  timeline.clear(100);
  timeline.add(event(1, 1000, 1200, 13));
  timeline.add(event(1, 1100, 1300, 13));  // begins before the one before it ends
  timeline.add(event(1, 1250, 1400, 13));
  timeline.add(event(1, 1000, 1200, 14));
  Recording recording = two_steps();
  timeline.add_tracks(recording);
  std::vector<std::pair<std::string, size_t>> tracks;
  for (const TrackRecording& track : recording.tracks) tracks.emplace_back(track.name, track.spans.size());
  EXPECT_EQ(tracks, (std::vector<std::pair<std::string, size_t>>{{"engine", 2},
                                                                 {"GPU 0 stream 13", 2},
                                                                 {"GPU 0 stream 13, overlapping 1", 1},
                                                                 {"GPU 0 stream 14", 1}}));
}

TEST(DeviceTimeline, KeepsTheLatestAndCountsTheOthers) {
  DeviceTimeline timeline;
  timeline.clear(10);
  for (uint32_t i = 0; i < 25; ++i) {
    timeline.add(HostCall{i, 1000 + 10 * int64_t{i}});
    timeline.add(event(i, 1000 + 10 * int64_t{i}, 1005 + 10 * int64_t{i}));
  }
  Recording recording = two_steps();
  timeline.add_tracks(recording);
  ASSERT_EQ(recording.tracks.size(), 2U);
  EXPECT_EQ(recording.tracks[1].spans.size(), 10U);
  EXPECT_EQ(recording.tracks[1].spans.back().start_ns, 1240);
  EXPECT_EQ(recording.tracks[1].dropped, 15U);
  Recording again = two_steps();
  timeline.add_tracks(again);
  EXPECT_EQ(again.tracks.size(), 1U) << "taken once";
}

}  // namespace
}  // namespace bifocal::trace
