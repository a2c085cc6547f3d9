#include "base/trace.h"

#include <gtest/gtest.h>
#include <zlib.h>

#include <algorithm>
#include <filesystem>
#include <map>
#include <thread>

#include "base/file.h"
#include "base/json.h"
#include "base/trace_file.h"

namespace bifocal::trace {
namespace {

void spans_of_a_step(int64_t number) {
  const StepSpan step({number, 4, 2, 2});
  const Span plan(Kind::plan, "plan", {4});
  for (int64_t layer = 0; layer < 2; ++layer) {
    const Span outer(Kind::layer, "layer", {layer});
    const Span inner(Kind::gemm, "gemm bf16", {4, 8, 16, 256});
  }
}

size_t count(const Recording& recording, Kind kind) {
  size_t n = 0;
  for (const TrackRecording& track : recording.tracks) {
    n += static_cast<size_t>(std::count_if(track.spans.begin(), track.spans.end(),
                                           [&](const SpanEvent& span) { return span.kind == kind; }));
  }
  return n;
}

Recording take() {
  auto recording = stop();
  EXPECT_TRUE(recording.ok()) << recording.status().message();
  return recording.ok() ? std::move(*recording) : Recording{};
}

// On one track, two spans are apart or one is inside the other.
void expect_nested(const std::vector<SpanEvent>& spans) {
  for (size_t i = 0; i < spans.size(); ++i) {
    ASSERT_LE(spans[i].start_ns, spans[i].end_ns);
    for (size_t j = 0; j < i; ++j) {  // j ended first
      ASSERT_LE(spans[j].end_ns, spans[i].end_ns);
      ASSERT_TRUE(spans[j].end_ns <= spans[i].start_ns || spans[j].start_ns >= spans[i].start_ns);
    }
  }
}

std::string temporary_path(const std::string& name) {
  return (std::filesystem::path(testing::TempDir()) / name).string();
}

TEST(Trace, RecordsNothingWhileOff) {
  spans_of_a_step(1);
  ASSERT_TRUE(start({}).ok());
  EXPECT_EQ(count(take(), Kind::step), 0U);
}

TEST(Trace, KeepsEverySpanWithItsValues) {
  ASSERT_TRUE(start({}).ok());
  spans_of_a_step(7);
  const Recording recording = take();
  EXPECT_EQ(recording.num_steps, 1U);
  ASSERT_EQ(recording.tracks.size(), 1U);
  const auto& spans = recording.tracks[0].spans;
  ASSERT_EQ(spans.size(), 6U);  // by their ends: gemm, layer, gemm, layer, plan, step
  expect_nested(spans);
  EXPECT_EQ(spans[0].name, "gemm bf16");
  EXPECT_EQ(spans[0].values, (Values{4, 8, 16, 256}));
  EXPECT_EQ(spans[5].name, "step");
  EXPECT_EQ(spans[5].values[0], 7);
  EXPECT_GE(spans[0].start_ns, recording.start_ns);
  EXPECT_LE(spans[5].end_ns, recording.end_ns);
}

TEST(Trace, StartingTwiceAndStoppingNothingAreTheCallersMistakes) {
  EXPECT_EQ(stop().status().code(), StatusCode::invalid_argument);
  ASSERT_TRUE(start({}).ok());
  const Status again = start({});
  EXPECT_EQ(again.code(), StatusCode::invalid_argument);
  EXPECT_NE(again.message().find("already"), std::string::npos);
  take();
  EXPECT_EQ(stop().status().code(), StatusCode::invalid_argument);
}

TEST(Trace, CountsStepsAndFinishesByItself) {
  Options options;
  options.first_step = 12;
  options.num_steps = 3;
  ASSERT_TRUE(start(options).ok());
  for (int64_t number = 10; number < 20; ++number) spans_of_a_step(number);
  EXPECT_TRUE(wait_until_finished({}));
  EXPECT_FALSE(start({}).ok()) << "what was recorded must be taken first";
  const Recording recording = take();
  EXPECT_EQ(recording.num_steps, 3U);
  std::vector<int64_t> numbers;
  for (const SpanEvent& span : recording.tracks.at(0).spans) {
    if (span.kind == Kind::step) numbers.push_back(span.values[0]);
  }
  EXPECT_EQ(numbers, (std::vector<int64_t>{12, 13, 14}));
  EXPECT_EQ(count(recording, Kind::layer), 6U);
}

TEST(Trace, OfShortStepsEveryFourthHasItsDetail) {
  Options options;
  options.short_step_ns = int64_t{1} << 60;  // all are
  ASSERT_TRUE(start(options).ok());
  for (int64_t number = 0; number < 9; ++number) {
    spans_of_a_step(number);
    const Span outside(Kind::http, "request");
    async_begin(Kind::request, "decode", "r");
  }
  const Recording recording = take();
  EXPECT_EQ(recording.num_steps, 9U);
  EXPECT_EQ(recording.num_steps_without_detail, 6U);
  EXPECT_EQ(count(recording, Kind::step), 9U);
  EXPECT_EQ(count(recording, Kind::plan), 3U) << "of steps 0, 4 and 8";
  EXPECT_EQ(count(recording, Kind::gemm), 6U);
  EXPECT_EQ(count(recording, Kind::http), 9U) << "what is no part of a step";
  EXPECT_EQ(recording.async_events.size(), 9U);
}

TEST(Trace, StepsThatAreNotShortHaveAllTheirDetail) {
  Options options;
  options.short_step_ns = 0;
  ASSERT_TRUE(start(options).ok());
  for (int64_t number = 0; number < 9; ++number) spans_of_a_step(number);
  const Recording recording = take();
  EXPECT_EQ(recording.num_steps_without_detail, 0U);
  EXPECT_EQ(count(recording, Kind::gemm), 18U);
}

TEST(Trace, WaitingEndsWhenSomebodyStops) {
  Options options;
  options.num_steps = 1;
  ASSERT_TRUE(start(options).ok());
  bool finished = true;
  std::thread waiter([&] { finished = wait_until_finished({}); });
  take();
  waiter.join();
  EXPECT_FALSE(finished);
}

TEST(Trace, MemoryIsBoundedAndTheDroppedAreCounted) {
  Options options;
  options.max_spans = 100;
  options.max_async_events = 10;
  ASSERT_TRUE(start(options).ok());
  constexpr int64_t kSteps = 1000;
  for (int64_t number = 0; number < kSteps; ++number) {
    spans_of_a_step(number);
    async_begin(Kind::request, "decode", "r");
  }
  const Recording recording = take();
  const TrackRecording& track = recording.tracks.at(0);
  EXPECT_EQ(track.spans.size(), 100U);
  EXPECT_EQ(track.dropped, 6U * kSteps - 100);
  EXPECT_EQ(track.spans.back().values[0], kSteps - 1) << "the latest stay";
  expect_nested(track.spans);
  EXPECT_EQ(recording.async_events.size(), 10U);
  EXPECT_EQ(recording.dropped_async_events, static_cast<uint64_t>(kSteps) - 10);
}

TEST(Trace, StartingAndStoppingAmongBusyThreads) {
  std::atomic<bool> go_on{true};
  std::vector<std::thread> threads;
  for (int t = 0; t < 3; ++t) {
    threads.emplace_back([&, t] {
      name_thread("busy " + std::to_string(t));
      for (int64_t number = 1; go_on; ++number) {
        spans_of_a_step(number);
        const std::string id = std::to_string(number);
        async_begin(Kind::request, "decode", id);
        async_end(Kind::request, "decode", id);
      }
    });
  }
  for (int i = 0; i < 50; ++i) {
    Options options;
    options.num_steps = i % 2 == 0 ? 0 : 5;
    options.max_spans = 200;
    ASSERT_TRUE(start(options).ok());
    if (options.num_steps > 0) {
      ASSERT_TRUE(wait_until_finished({}));
    }
    const Recording recording = take();
    if (options.num_steps > 0) {
      EXPECT_EQ(recording.num_steps, 5U);
    }
    for (const TrackRecording& track : recording.tracks) {
      EXPECT_EQ(track.name.substr(0, 5), "busy ");
      expect_nested(track.spans);
      for (const SpanEvent& span : track.spans) EXPECT_GE(span.start_ns, recording.start_ns);
    }
  }
  go_on = false;
  for (std::thread& thread : threads) thread.join();
}

TEST(Trace, AThreadThatEndedIsInTheTrace) {
  ASSERT_TRUE(start({}).ok());
  std::thread([] {
    name_thread("short");
    const Span span(Kind::http, "gone");
  }).join();
  const Recording recording = take();
  ASSERT_EQ(recording.tracks.size(), 1U);
  EXPECT_EQ(recording.tracks[0].name, "short");
}

// --- sources ---

class FakeGpu final : public Source {
 public:
  Status start(size_t max_spans) override {
    ++starts;
    max_spans_ = max_spans;
    return status;
  }
  void stop(Recording& recording) override {
    ++stops;
    const int64_t at = recording.start_ns;
    recording.tracks.push_back({"gpu stream 0", {{"product", at, at + 1500, {1, 2, 3, 4}, Kind::kernel}}, 0});
  }
  Status set_recording(bool on) override {
    switches.push_back(on);
    return status;
  }
  Status status;
  std::vector<bool> switches;
  int starts = 0;
  int stops = 0;
  size_t max_spans_ = 0;
};

// Sources live as long as the process, and join every recording of it.
class TraceSource : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    gpu_ = new FakeGpu;
    add_source(*gpu_);
  }
  void SetUp() override {
    gpu_->status = {};
    gpu_->starts = gpu_->stops = 0;
    gpu_->switches.clear();
  }
  static void TearDownTestSuite() { gpu_->status = unsupported("no GPU in this test"); }
  static FakeGpu* gpu_;
};
FakeGpu* TraceSource::gpu_ = nullptr;

TEST_F(TraceSource, AddsItsTracksToWhatIsRecorded) {
  Options options;
  options.max_spans = 77;
  ASSERT_TRUE(start(options).ok());
  EXPECT_EQ(gpu_->max_spans_, 77U);
  spans_of_a_step(1);
  const Recording recording = take();
  ASSERT_EQ(recording.tracks.size(), 2U);
  EXPECT_EQ(recording.tracks[1].name, "gpu stream 0");
  EXPECT_TRUE(recording.notes.empty());
  EXPECT_EQ(gpu_->stops, 1);
}

TEST_F(TraceSource, ThatFailsIsANoteInTheTrace) {
  gpu_->status = unsupported("no libcupti");
  ASSERT_TRUE(start({}).ok());
  const Recording recording = take();
  EXPECT_EQ(recording.notes, std::vector<std::string>{"no libcupti"});
  EXPECT_EQ(gpu_->starts, 1);
  EXPECT_EQ(gpu_->stops, 0);
}

TEST_F(TraceSource, IsLeftAloneWhenNotAskedFor) {
  Options options;
  options.with_sources = false;
  ASSERT_TRUE(start(options).ok());
  take();
  EXPECT_EQ(gpu_->starts, 0);
  EXPECT_EQ(gpu_->stops, 0);
}

// Steps before each of which the source's recording is switched, by turns off and on.
TEST_F(TraceSource, RecordsTheFirstStepsOfEachPeriod) {
  Options options;
  options.source_period = 10;
  ASSERT_TRUE(start(options).ok());
  std::vector<int64_t> switched;
  for (int64_t step = 0; step < 25; ++step) {
    const size_t before = gpu_->switches.size();
    const StepSpan span({step, 1});
    if (gpu_->switches.size() > before) switched.push_back(step);
  }
  EXPECT_EQ(switched, (std::vector<int64_t>{4, 10, 14, 20, 24}));
  EXPECT_EQ(gpu_->switches, (std::vector<bool>{false, true, false, true, false}));
  EXPECT_EQ(take().num_steps_without_sources, 13U);

  ASSERT_TRUE(start(options).ok());  // records at once again
  { const StepSpan span({1, 1}); }
  EXPECT_EQ(gpu_->switches.size(), 5U);
  EXPECT_EQ(take().num_steps_without_sources, 0U);
}

TEST_F(TraceSource, RecordsEveryStepOfAFew) {
  Options options;
  options.source_period = 10;
  options.num_steps = 10;
  ASSERT_TRUE(start(options).ok());
  for (int64_t step = 0; step < 10; ++step) const StepSpan span({step, 1});
  EXPECT_TRUE(gpu_->switches.empty());
  EXPECT_EQ(take().num_steps_without_sources, 0U);
}

TEST_F(TraceSource, ThatCantGoOnIsANoteInTheTrace) {
  Options options;
  options.source_period = kSourceSteps + 1;
  ASSERT_TRUE(start(options).ok());
  gpu_->status = unsupported("out of buffers");
  for (int64_t step = 0; step <= static_cast<int64_t>(kSourceSteps); ++step) const StepSpan span({step, 1});
  EXPECT_EQ(take().notes, std::vector<std::string>{"out of buffers"});
}

TEST_F(TraceSource, JoinsTheRecordingUnderWay) {
  static auto* late = new FakeGpu;
  ASSERT_TRUE(start({}).ok());
  add_source(*late);
  take();
  EXPECT_EQ(late->starts, 1);
  EXPECT_EQ(late->stops, 1);
  late->status = unsupported("no second GPU in this test");
}

// --- the file ---

std::string read_gz(const std::string& path) {
  std::string out;
  gzFile file = gzopen(path.c_str(), "rb");
  char block[4096];
  for (int n = 0; file != nullptr && (n = gzread(file, block, sizeof block)) > 0;) {
    out.append(block, static_cast<size_t>(n));
  }
  if (file != nullptr) gzclose(file);
  return out;
}

JsonValue written(const std::string& name, const Recording& recording) {
  const std::string path = temporary_path(name);
  const Status status = write_file(recording, path);
  EXPECT_TRUE(status.ok()) << status.message();
  EXPECT_FALSE(file_exists(path + ".tmp"));
  auto json = parse_json(read_gz(path));  // plain files, too
  std::filesystem::remove(path);
  EXPECT_TRUE(json.ok()) << json.status().message();
  return json.ok() ? *json : JsonValue();
}

TEST_F(TraceSource, IsInTheChromeTrace) {
  ASSERT_TRUE(start({}).ok());
  name_thread("engine");
  spans_of_a_step(3);
  async_begin(Kind::request, "queued", "req-1", {17});
  async_end(Kind::request, "queued", "req-1");
  async_end(Kind::request, "prefill", "req-1");   // began before
  async_begin(Kind::request, "decode", "req-1");  // goes on after
  const JsonValue trace = written("trace.json.gz", take());

  std::map<std::string, int> categories;
  std::map<std::string, std::vector<double>> ends;  // of requests, by name
  std::map<int64_t, std::string> tracks;
  for (const JsonValue& event : trace.find("traceEvents")->as_array()) {
    const std::string& ph = event.find("ph")->as_string();
    const std::string& name = event.find("name")->as_string();
    if (ph == "M" && name == "thread_name") {
      tracks[event.find("tid")->as_int()] = event.find("args")->find("name")->as_string();
    }
    if (ph == "X") {
      ++categories[event.find("cat")->as_string()];
      EXPECT_GE(event.find("dur")->as_double(), 0.0);
      ASSERT_TRUE(tracks.contains(event.find("tid")->as_int()));
      if (name == "product") {
        EXPECT_EQ(tracks[event.find("tid")->as_int()], "gpu stream 0");
        EXPECT_EQ(event.find("dur")->as_double(), 1.5);
        EXPECT_EQ(event.find("args")->find("blocks")->as_int(), 2);
      }
    }
    if (ph == "b" || ph == "e") {
      EXPECT_EQ(event.find("id")->as_string(), "req-1");
      ends[name].push_back(event.find("ts")->as_double());
    }
  }
  EXPECT_EQ(categories,
            (std::map<std::string, int>{{"step", 1}, {"plan", 1}, {"layer", 2}, {"gemm", 2}, {"kernel", 1}}));
  for (const char* name : {"queued", "prefill", "decode"}) {
    ASSERT_EQ(ends[name].size(), 2U) << name;
    EXPECT_LE(ends[name][0], ends[name][1]) << name;
  }
  EXPECT_EQ(ends["prefill"][0], 0.0) << "the recording's start stands in";
  EXPECT_EQ(trace.find("otherData")->find("steps")->as_int(), 1);
}

TEST(TraceFile, SaysWhatWasDropped) {
  Options options;
  options.max_spans = 4;
  ASSERT_TRUE(start(options).ok());
  name_thread("engine \"main\"");
  spans_of_a_step(1);
  const JsonValue trace = written("dropped.json", take());
  const JsonValue& other = *trace.find("otherData");
  EXPECT_TRUE(other.find("notes")->is_array());
  EXPECT_EQ(other.find("dropped_spans")->as_int(), 2);
  EXPECT_EQ(other.find("dropped_spans_by_thread")->find("engine \"main\"")->as_int(), 2);
}

TEST(TraceFile, WhereItCanNotBeWritten) {
  const Status status = write_file({}, temporary_path("no such folder") + "/trace.json");
  EXPECT_EQ(status.code(), StatusCode::invalid_argument);
  EXPECT_NE(status.message().find("no such folder/trace.json"), std::string::npos);
}

}  // namespace
}  // namespace bifocal::trace
