// What a trace of the engine shows: every kind of span, each inside the one that it is part of.
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "base/trace.h"
#include "engine/bundled_model.h"
#include "engine/engine_harness.h"

namespace bifocal::engine {
namespace {

using trace::Kind;
using trace::SpanEvent;

GenerateRequest request(const std::string& id, int64_t prompt_len, int64_t max_new_tokens) {
  GenerateRequest r;
  r.id = id;
  for (int64_t i = 0; i < prompt_len; ++i) r.prompt_ids.push_back(static_cast<int32_t>(5 + i * 7 % 200));
  r.sampling.max_new_tokens = max_new_tokens;
  r.sampling.ignore_eos = true;
  return r;
}

bool inside(const SpanEvent& inner, const SpanEvent& outer) {
  return outer.start_ns <= inner.start_ns && inner.end_ns <= outer.end_ns;
}

class EngineTrace : public testing::Test {
 protected:
  // Two requests, one of them longer than a chunk.
  void run(const trace::Options& options) {
    EngineOptions engine_options = small_options();
    engine_options.max_total_tokens = 256;
    const auto engine = bundled_engine(engine_options);
    ASSERT_NE(engine, nullptr);
    ASSERT_TRUE(trace::start(options).ok());
    auto a = Collector::make(1);
    auto b = Collector::make(1);
    ASSERT_TRUE(engine->submit(request("a", 40, 12), a->sink()).ok());
    ASSERT_TRUE(engine->submit(request("b", 9, 8), b->sink()).ok());
    EXPECT_TRUE(a->wait());
    EXPECT_TRUE(b->wait());
    ASSERT_TRUE(wait_idle(*engine));
    auto stopped = trace::stop();
    ASSERT_TRUE(stopped.ok());
    recording_ = std::move(*stopped);
    for (const trace::TrackRecording& track : recording_.tracks) {
      if (track.name == "engine") engine_ = track;
    }
  }
  std::vector<SpanEvent> of(Kind kind) const {
    std::vector<SpanEvent> out;
    std::copy_if(engine_.spans.begin(), engine_.spans.end(), std::back_inserter(out),
                 [&](const SpanEvent& span) { return span.kind == kind; });
    return out;
  }
  void expect_inside(Kind inner, Kind outer) const {
    const auto outers = of(outer);
    for (const SpanEvent& span : of(inner)) {
      EXPECT_TRUE(std::any_of(outers.begin(), outers.end(), [&](const auto& o) { return inside(span, o); }))
          << span.name << " of " << trace::kind_info(inner).category << " is in no "
          << trace::kind_info(outer).category;
    }
  }
  trace::Recording recording_;
  trace::TrackRecording engine_;
};

TEST_F(EngineTrace, EverySpanIsInsideItsParent) {
  run({});
  for (const Kind kind : {Kind::step, Kind::layer, Kind::phase, Kind::plan, Kind::attention, Kind::gemm,
                          Kind::rowwise, Kind::sampling, Kind::engine}) {
    EXPECT_FALSE(of(kind).empty()) << trace::kind_info(kind).category;
  }
  expect_inside(Kind::layer, Kind::step);
  expect_inside(Kind::plan, Kind::step);
  expect_inside(Kind::sampling, Kind::step);
  expect_inside(Kind::gemm, Kind::step);
  expect_inside(Kind::rowwise, Kind::step);
  expect_inside(Kind::phase, Kind::layer);
  expect_inside(Kind::attention, Kind::phase);
  std::set<std::string_view> phases;
  for (const SpanEvent& span : of(Kind::phase)) phases.insert(span.name);
  EXPECT_EQ(phases, (std::set<std::string_view>{"prefill", "decode"}));
  for (const SpanEvent& span : of(Kind::gemm)) {
    EXPECT_EQ(span.name, "gemm bf16");
    EXPECT_EQ(span.values[3], span.values[1] * span.values[2] * 2) << "bytes of bf16 weights";
  }
  for (const SpanEvent& span : of(Kind::attention)) {
    EXPECT_GT(span.values[2], 0) << "flops";
    EXPECT_GT(span.values[3], 0) << "bytes";
  }
  int64_t number = 0;
  for (const SpanEvent& span : of(Kind::step)) EXPECT_EQ(span.values[0], ++number) << "as in EngineStats";
  EXPECT_EQ(of(Kind::plan).size(), of(Kind::step).size()) << "planned once per step";
}

TEST_F(EngineTrace, ARequestIsQueuedPrefilledAndDecoded) {
  run({});
  std::map<std::string, std::vector<std::string>> stages;
  for (const trace::AsyncEvent& event : recording_.async_events) {
    stages[event.id].push_back((event.begins ? "+" : "-") + std::string(event.name));
  }
  const std::vector<std::string> all = {"+queued", "-queued", "+prefill", "-prefill", "+decode", "-decode"};
  EXPECT_EQ(stages, (std::map<std::string, std::vector<std::string>>{{"a", all}, {"b", all}}));
}

TEST_F(EngineTrace, ManyStepsFitABoundedRing) {
  trace::Options options;
  options.max_spans = 500;
  run(options);
  EXPECT_EQ(engine_.spans.size(), 500U);
  EXPECT_GT(engine_.dropped, 0U);
  const auto steps = of(Kind::step);
  ASSERT_FALSE(steps.empty());
  const auto oldest_step = steps.front();
  for (const SpanEvent& span : of(Kind::layer)) {
    if (span.start_ns >= oldest_step.start_ns) {
      EXPECT_TRUE(std::any_of(steps.begin(), steps.end(), [&](const auto& s) { return inside(span, s); }));
    }
  }
}

}  // namespace
}  // namespace bifocal::engine
