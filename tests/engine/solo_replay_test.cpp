// Sixty-four streams at once, in a pool that is too small for them, with shared prefixes and cancellations:
// each must get exactly what it gets alone. In the default mode too: no prompt here holds another request's
// output.
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <memory>
#include <ostream>
#include <string>
#include <thread>
#include <vector>

#include "base/hash.h"
#include "engine/bundled_model.h"
#include "engine/remote_executor.h"

namespace bifocal::engine {
namespace {

constexpr int kStreams = 64;

struct Stream {
  GenerateRequest request;
  int64_t cancel_after = -1;  // tokens of choice 0
};

// One in logits_every asks for log-probabilities, or for penalties.
std::vector<Stream> draw_streams(uint64_t seed, int vocab_size, int64_t longest, size_t logits_every = 1) {
  SplitMix64 random(seed);
  const auto token = [&] { return static_cast<int32_t>(random.below(static_cast<uint64_t>(vocab_size))); };
  std::vector<std::vector<int32_t>> shared(3);
  for (auto& prefix : shared) {
    prefix.resize(static_cast<size_t>(longest / 2));
    std::generate(prefix.begin(), prefix.end(), token);
  }
  std::vector<Stream> streams(kStreams);
  for (size_t i = 0; i < streams.size(); ++i) {
    GenerateRequest& r = streams[i].request;
    r.id = "stream-" + std::to_string(i);
    r.prompt_ids.resize(1 + random.below(static_cast<uint64_t>(longest)));
    std::generate(r.prompt_ids.begin(), r.prompt_ids.end(), token);
    const auto& prefix = shared[random.below(shared.size())];
    const size_t common = random.below(std::min(prefix.size(), r.prompt_ids.size()) + 1);
    std::copy_n(prefix.begin(), common, r.prompt_ids.begin());
    if (i % 9 == 8) r.prompt_ids = streams[i - 1].request.prompt_ids;
    const bool cancelled = i % 4 == 3;
    // What is to be cancelled goes on for long: it must not end by itself before.
    r.sampling.max_new_tokens = (cancelled ? 150 : 1) + static_cast<int64_t>(random.below(50));
    r.sampling.ignore_eos = cancelled || i % 2 == 0;
    r.sampling.temperature = i % 3 == 0 ? 0.0 : 0.9;
    r.sampling.top_p = i % 4 == 1 ? 0.9 : 1.0;
    r.sampling.repetition_penalty = i % 5 == 2 && i % logits_every == 0 ? 1.2 : 1.0;
    r.sampling.seed = random.next();
    r.sampling.n = i % 7 == 3 ? 3 : 1;
    r.return_logprob = i % logits_every == 0;
    r.logprob_start_len = r.return_logprob && i % 6 == 4 ? 0 : -1;
    if (cancelled) streams[i].cancel_after = static_cast<int64_t>(random.below(20));
  }
  return streams;
}

struct Record {
  std::vector<Collector::Output> outputs;  // [choices]
  std::vector<std::optional<OutputToken>> prompt_logprobs;
};

Record record_of(const std::shared_ptr<Collector>& collector, int n) {
  EXPECT_TRUE(collector->complaints().empty());
  Record record;
  for (int choice = 0; choice < n; ++choice) record.outputs.push_back(collector->output(choice));
  record.prompt_logprobs = collector->prompt_logprobs();
  return record;
}

std::vector<Record> run_alone(Engine& engine, const std::vector<Stream>& streams) {
  std::vector<Record> records;
  for (const Stream& stream : streams) {
    auto collector = Collector::make(stream.request.sampling.n);
    EXPECT_TRUE(engine.submit(stream.request, collector->sink()).ok());
    EXPECT_TRUE(collector->wait());
    records.push_back(record_of(collector, stream.request.sampling.n));
  }
  return records;
}

std::vector<Record> run_together(Engine& engine, const std::vector<Stream>& streams) {
  std::vector<std::shared_ptr<Collector>> collectors;
  std::vector<std::jthread> cancellers;  // one each, so that none waits for another's tokens
  for (const Stream& stream : streams) {
    const auto& collector = collectors.emplace_back(Collector::make(stream.request.sampling.n));
    EXPECT_TRUE(engine.submit(stream.request, collector->sink()).ok());
    if (stream.cancel_after < 0) continue;
    cancellers.emplace_back([&engine, &stream, collector] {
      collector->wait_tokens(static_cast<size_t>(stream.cancel_after));
      engine.abort(stream.request.id);
    });
  }
  std::vector<Record> records;
  for (size_t i = 0; i < streams.size(); ++i) {
    EXPECT_TRUE(collectors[i]->wait());
    records.push_back(record_of(collectors[i], streams[i].request.sampling.n));
  }
  return records;
}

// Tokens, and log-probabilities to the last bit.
void expect_same(const Stream& stream, const Record& alone, const Record& together) {
  for (size_t choice = 0; choice < alone.outputs.size(); ++choice) {
    SCOPED_TRACE(stream.request.id + " choice " + std::to_string(choice));
    const auto& expected = alone.outputs[choice];
    const auto& got = together.outputs[choice];
    ASSERT_NE(got.last.finish, FinishReason::error) << got.last.error.message();
    const bool cut = got.last.finish == FinishReason::abort;
    ASSERT_TRUE(!cut || stream.cancel_after >= 0);
    ASSERT_LE(got.tokens.size(), expected.tokens.size());
    if (!cut) {
      ASSERT_EQ(got.tokens.size(), expected.tokens.size());
      ASSERT_EQ(got.last.finish, expected.last.finish);
      ASSERT_EQ(got.text, expected.text);
    }
    for (size_t t = 0; t < got.tokens.size(); ++t) {
      ASSERT_EQ(got.tokens[t], expected.tokens[t]) << "token " << t;
      ASSERT_EQ(got.details[t].logprob, expected.details[t].logprob) << "token " << t;
    }
  }
  if (together.prompt_logprobs.empty()) return;  // cancelled before the prompt was through
  ASSERT_EQ(together.prompt_logprobs.size(), alone.prompt_logprobs.size());
  for (size_t p = 1; p < alone.prompt_logprobs.size(); ++p) {
    ASSERT_EQ(together.prompt_logprobs[p]->logprob, alone.prompt_logprobs[p]->logprob)
        << "prompt position " << p;
  }
}

struct Setting {
  std::string name;
  bool deterministic = true;
  bool share_prefixes = true;
  int page_size = 4;
  int chunk = 32;
  int64_t pool_tokens = 512;
  uint64_t bundled_model_seeds = 1;
  std::array<int, 2> windows = {};  // of the model without weights
  double window_ratio = 0;
  std::string bundled_model = "tiny-qwen3";
  bool retracts = true;  // more are admitted than the pages hold in the end

  friend std::ostream& operator<<(std::ostream& out, const Setting& setting) { return out << setting.name; }
};

EngineOptions crowded(const Setting& setting) {
  EngineOptions options = small_options();
  options.deterministic = setting.deterministic;
  options.enable_prefix_cache = setting.share_prefixes;
  options.page_size = setting.page_size;
  options.chunked_prefill_size = setting.chunk;
  options.max_total_tokens = setting.pool_tokens;
  options.context_length = 400;
  options.max_running_requests = 96;  // the choices of all streams
  options.max_queued_requests = 1000;
  options.swa_full_tokens_ratio = setting.window_ratio;
  options.schedule_conservativeness = 0;  // admit too many, so that memory does run out
  return options;
}

EngineOptions roomy(const Setting& setting) {
  EngineOptions options = crowded(setting);
  options.enable_prefix_cache = false;
  options.chunked_prefill_size = -1;
  options.max_total_tokens = 4096;
  options.swa_full_tokens_ratio = 1;
  options.schedule_conservativeness = 1;
  return options;
}

class SoloReplay : public testing::TestWithParam<Setting> {
 protected:
  // After the streams: memory did run out, requests were cancelled, and nothing is left over.
  static void expect_crowded(const Setting& setting, const EngineStats& stats) {
    EXPECT_EQ(setting.retracts, stats.retracted_requests > 0);
    EXPECT_GT(stats.aborted_requests, 0U);
    EXPECT_GT(stats.finished_requests, 0U);
    EXPECT_EQ(stats.finished_requests + stats.aborted_requests, static_cast<uint64_t>(kStreams));
    EXPECT_EQ(stats.free_pages + stats.cached_pages, stats.total_pages);
    EXPECT_EQ(stats.free_window_pages + stats.cached_window_pages, stats.window_pages);
    EXPECT_EQ(setting.window_ratio > 0, stats.window_pages > 0);
    EXPECT_LE(stats.window_pages, stats.total_pages * 4 / 5);
    EXPECT_EQ(setting.share_prefixes, stats.cached_prompt_tokens > 0);
  }
};

TEST_P(SoloReplay, WithoutWeights) {
  const Setting& setting = GetParam();
  for (uint64_t seed = 0; seed < 3; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    const auto streams = draw_streams(seed, 60, 100);
    FakeEngine alone(roomy(setting), true, setting.windows);
    FakeEngine together(crowded(setting), true, setting.windows);
    const auto expected = run_alone(*alone.engine, streams);
    const auto got = run_together(*together.engine, streams);
    for (size_t i = 0; i < streams.size(); ++i) expect_same(streams[i], expected[i], got[i]);
    ASSERT_TRUE(wait_idle(*together.engine));
    expect_crowded(setting, *together.engine->stats());
  }
}

// Steps overlap, but while somebody is there who needs logits. Prefix cache, page size and pool differ.
class DeviceSoloReplay : public SoloReplay {};

TEST_P(DeviceSoloReplay, WithoutWeights) {
  const Setting& setting = GetParam();
  for (uint64_t seed = 20; seed < 23; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    const auto streams = draw_streams(seed, 60, 100, seed % 2 == 0 ? 16 : 1000);
    FakeEngine alone(roomy(setting));
    RemoteEngine together(crowded(setting), std::make_shared<FakeTokenizer>());
    const auto expected = run_alone(*alone.engine, streams);
    const auto got = run_together(*together.engine, streams);
    for (size_t i = 0; i < streams.size(); ++i) expect_same(streams[i], expected[i], got[i]);
    ASSERT_TRUE(wait_idle(*together.engine));
    expect_crowded(setting, *together.engine->stats());
    EXPECT_GT(together.behaviour.overlapped, 0);
  }
}

class BundledSoloReplay : public SoloReplay {};

TEST_P(BundledSoloReplay, WithTheBundledModel) {
  const Setting& setting = GetParam();
  for (uint64_t seed = 7; seed < 7 + setting.bundled_model_seeds; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    const auto streams = draw_streams(seed, 2000, 100);
    const auto alone = bundled_engine(roomy(setting), setting.bundled_model);
    const auto together = bundled_engine(crowded(setting), setting.bundled_model);
    const auto expected = run_alone(*alone, streams);
    const auto got = run_together(*together, streams);
    for (size_t i = 0; i < streams.size(); ++i) expect_same(streams[i], expected[i], got[i]);
    ASSERT_TRUE(wait_idle(*together));
    expect_crowded(setting, *together->stats());
  }
}

// The next turn's prompt holds the last turn's output, which other kernels computed.
TEST(Determinism, AConversationGoesOnTheSameWarmOrCold) {
  const auto turns = [](bool flush) {
    EngineOptions options = small_options();
    options.page_size = 1;  // so that a cached output would be found
    FakeEngine fake(options);
    std::vector<int32_t> conversation = {3, 1, 4, 1, 5, 9, 2, 6};
    std::vector<Collector::Output> outputs;
    for (int turn = 0; turn < 6; ++turn) {
      if (flush && !fake.engine->flush_cache().ok()) ADD_FAILURE();
      auto request = greedy_request("turn", conversation, 20);
      request.return_logprob = true;
      outputs.push_back(fake.generate(request));
      EXPECT_EQ(outputs.back().last.cached_tokens > 0, !flush && turn > 0);
      conversation.insert(conversation.end(), outputs.back().tokens.begin(), outputs.back().tokens.end());
      conversation.push_back(turn);
    }
    return outputs;
  };
  const auto warm = turns(false);
  const auto cold = turns(true);
  for (size_t turn = 0; turn < warm.size(); ++turn) {
    ASSERT_EQ(warm[turn].tokens, cold[turn].tokens);
    for (size_t t = 0; t < warm[turn].details.size(); ++t) {
      ASSERT_EQ(warm[turn].details[t].logprob, cold[turn].details[t].logprob)
          << "turn " << turn << " token " << t;
    }
  }
}

std::vector<Setting> with(std::vector<Setting> more) {
  std::vector<Setting> settings = {{"deterministic"},
                                   {"default_routes", false},
                                   {"no_prefixes", true, false},
                                   {"page_1", true, true, 1, 7, 400, 3},
                                   {"page_16", true, true, 16, 32, 640, 3},
                                   {"page_64_whole_prompts", true, true, 64, -1, 1024}};
  settings.insert(settings.end(), more.begin(), more.end());
  return settings;
}
std::string name_of(const testing::TestParamInfo<Setting>& tested) {
  return tested.param.name;
}

INSTANTIATE_TEST_SUITE_P(
    Settings, SoloReplay,
    testing::ValuesIn(with({{"windows", true, true, 4, 32, 320, 1, {0, 10}, 0.5},
                            {"windows_alone", false, true, 1, 7, 320, 1, {10, 4}, 0.4}})),
    name_of);
INSTANTIATE_TEST_SUITE_P(Settings, DeviceSoloReplay, testing::ValuesIn(with({})), name_of);
INSTANTIATE_TEST_SUITE_P(
    Settings, BundledSoloReplay,
    testing::ValuesIn(with({{"windows", true, true, 16, 32, 640, 1, {}, 0.8, "tiny-gptoss", false}})),
    name_of);

}  // namespace
}  // namespace bifocal::engine
