// The GPU's choices against the host's, of one model's logits and many requests at once. Deterministic, so
// that both engines see equal logits whoever shares their steps.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <array>
#include <atomic>

#include "base/progress.h"
#include "engine/engine_harness.h"
#include "engine/wrapped_model.h"
#include "model/cuda_model.h"
#include "model/load.h"

namespace bifocal::engine {
namespace {

struct Watch {
  bool on_host = false;               // every row's logits are read, no token comes from the device
  std::atomic<int64_t> read_rows{0};  // logit rows that were asked for
};

class WatchedExecutor final : public model::Executor {
 public:
  WatchedExecutor(std::unique_ptr<model::Executor> inner, Watch& watch)
      : inner_(std::move(inner)), watch_(watch) {}
  int num_pages() const override { return inner_->num_pages(); }
  int page_size() const override { return inner_->page_size(); }
  Status copy_tokens(kv::PageId source, kv::PageId target, int num_tokens) override {
    return inner_->copy_tokens(source, target, num_tokens);
  }
  Status submit(const model::StepRows& rows, const attention::StepBatch& batch) override {
    model::StepRows changed = rows;
    if (watch_.on_host) changed.read_logits = {};
    for (const uint8_t read : changed.read_logits) watch_.read_rows += read;
    return inner_->submit(changed, batch);
  }
  Status collect() override { return inner_->collect(); }
  int max_in_flight() const override { return watch_.on_host ? 1 : inner_->max_in_flight(); }
  const float* logits(int32_t row) const override { return inner_->logits(row); }
  std::span<const int32_t> tokens() const override {
    return watch_.on_host ? std::span<const int32_t>() : inner_->tokens();
  }
  std::span<const attention::AttentionDesc> classes() const override { return inner_->classes(); }
  const attention::Router& router() const override { return inner_->router(); }
  const attention::PhaseCounters& counters(size_t class_index, attention::Phase phase) const override {
    return inner_->counters(class_index, phase);
  }

 private:
  std::unique_ptr<model::Executor> inner_;
  Watch& watch_;
};

using WatchedModel = WrappedModel<WatchedExecutor, Watch>;

std::vector<GenerateRequest> mixed_requests() {
  std::vector<GenerateRequest> requests;
  for (int i = 0; i < 64; ++i) {
    std::vector<int32_t> prompt;
    for (int j = 0; j < 3 + 7 * (i % 9); ++j) prompt.push_back((i * 977 + j * 31 + j * j * 7) % 2000);
    auto request = greedy_request(fmt::format("r{}", i), prompt, 16 + i % 5);
    SamplingParams& sampling = request.sampling;
    sampling.seed = static_cast<uint64_t>(i) * 0x9E3779B97F4A7C15U;
    sampling.temperature = std::array{0.0, 0.3, 0.7, 1.0, 2.5}[static_cast<size_t>(i % 5)];
    sampling.top_k = std::array{-1, 1, 20, 300}[static_cast<size_t>(i / 5 % 4)];
    sampling.top_p = std::array{1.0, 0.8, 0.95}[static_cast<size_t>(i % 3)];
    sampling.min_p = i % 7 == 0 ? 0.05 : 0.0;
    requests.push_back(std::move(request));
  }
  return requests;
}

std::vector<std::vector<int32_t>> generate(Watch& watch, const std::vector<GenerateRequest>& requests,
                                           bool overlap = true) {
  Progress::set_enabled(false);
  EngineOptions options = small_options();
  options.page_size = 64;
  options.kv_dtype = DType::bf16;
  options.attention.device = DeviceKind::cuda;
  options.max_total_tokens = 16384;
  options.max_running_requests = 48;  // more than one group of captured steps, and some wait
  options.max_queued_requests = 1000;
  options.overlap_schedule = overlap;
  model::LoadOptions load;
  load.path = std::string(BIFOCAL_SOURCE_DIR) + "/models/tiny-qwen3";
  load.device = DeviceKind::cuda;
  load.kv_dtype = options.kv_dtype;
  load.page_size = options.page_size;
  load.pool = options.pool;
  auto loaded = model::load_model(load);
  EXPECT_TRUE(loaded.ok()) << loaded.status().message();
  if (!loaded.ok()) return {};
  auto engine =
      Engine::create(std::make_unique<WatchedModel>(std::move(loaded->model), watch), nullptr, options);
  EXPECT_TRUE(engine.ok()) << engine.status().message();
  if (!engine.ok()) return {};
  EXPECT_EQ((*engine)->options().overlap_schedule, overlap && !watch.on_host);
  std::vector<std::shared_ptr<Collector>> collectors;
  for (const GenerateRequest& request : requests) {
    collectors.push_back(submit(**engine, request));
  }
  std::vector<std::vector<int32_t>> tokens;
  for (const auto& collector : collectors) {
    EXPECT_TRUE(collector->wait());
    tokens.push_back(collector->output().tokens);
  }
  return tokens;
}

TEST(CudaSampling, TheDeviceChoosesTheHostsTokens) {
  const Status gpu = model::find_cuda_device().status();
  if (!gpu.ok()) GTEST_SKIP() << gpu.message();
  const auto requests = mixed_requests();
  Watch host;
  host.on_host = true;
  Watch device;
  const auto expected = generate(host, requests);
  const auto got = generate(device, requests);
  ASSERT_EQ(got.size(), requests.size());
  ASSERT_EQ(expected.size(), requests.size());
  for (size_t i = 0; i < requests.size(); ++i) {
    EXPECT_EQ(got[i], expected[i]) << "request " << i;
    EXPECT_EQ(got[i].size(), static_cast<size_t>(requests[i].sampling.max_new_tokens));
  }
  EXPECT_EQ(device.read_rows, 0);
}

// Some end early, some have choices or need logits, so that steps overlap and wait in turns.
TEST(CudaOverlap, TheSameTokensAsOneStepAfterAnother) {
  const Status gpu = model::find_cuda_device().status();
  if (!gpu.ok()) GTEST_SKIP() << gpu.message();
  auto requests = mixed_requests();
  for (size_t i = 0; i < requests.size(); ++i) {
    SamplingParams& sampling = requests[i].sampling;
    sampling.max_new_tokens = 10 + static_cast<int64_t>(i * 5 % 90);
    for (int32_t token = 0; i % 3 == 0 && token < 40; ++token) {
      sampling.stop_token_ids.push_back(50 * token);
    }
    sampling.n = i % 11 == 4 ? 2 : 1;
    requests[i].return_logprob = i % 13 == 5;
  }
  Watch apart;
  Watch overlapped;
  const auto expected = generate(apart, requests, false);
  const auto got = generate(overlapped, requests, true);
  ASSERT_EQ(got.size(), requests.size());
  EXPECT_EQ(got, expected);
}

}  // namespace
}  // namespace bifocal::engine
