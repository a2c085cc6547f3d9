// The goldens as a server's clients meet them: all cases at once through the engine, prompts in small chunks,
// and once more from a warm prefix cache.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <filesystem>

#include "base/log.h"
#include "base/progress.h"
#include "engine/collector.h"
#include "engine/engine.h"
#include "golden/golden_file.h"
#include "model/load.h"

namespace bifocal::model {
namespace {

using engine::Collector;

constexpr float kTolerance = 2e-5F;  // times max(1, largest logit)

std::unique_ptr<engine::Engine> serve(const std::string& directory, int page_size) {
  Progress::set_enabled(false);
  set_log_level(LogLevel::warn);
  LoadOptions load;
  load.path = directory;
  load.dtype = "float32";
  load.page_size = page_size;
  load.pool = std::make_shared<ThreadPool>(2);
  auto loaded = load_model(load);
  EXPECT_TRUE(loaded.ok()) << loaded.status().message();
  if (!loaded.ok()) return nullptr;
  engine::EngineOptions options;
  options.page_size = page_size;
  options.max_total_tokens = 4096;
  options.context_length = 512;
  options.chunked_prefill_size = 16;
  options.max_running_requests = 16;
  options.pool = load.pool;
  auto started = engine::Engine::create(std::move(loaded->model), nullptr, options);
  EXPECT_TRUE(started.ok()) << started.status().message();
  return started.ok() ? std::move(*started) : nullptr;
}

double log_softmax(const std::vector<float>& logits, int32_t id) {
  const double largest = *std::max_element(logits.begin(), logits.end());
  double sum = 0;
  for (const float logit : logits) sum += std::exp(logit - largest);
  return logits[static_cast<size_t>(id)] - largest - std::log(sum);
}

// A gap that the tolerance could close ends the comparison.
void expect_output(const GoldenCase& golden, const Collector::Output& output, const std::string& what) {
  ASSERT_EQ(output.tokens.size(), golden.greedy.size()) << what;
  const float tolerance = kTolerance * golden.scale();
  EXPECT_NEAR(output.details[0].logprob, log_softmax(golden.last_logits, output.tokens[0]), 2 * tolerance)
      << what;
  for (size_t i = 0; i < golden.greedy.size() && golden.greedy_margin[i] > 2 * tolerance; ++i) {
    ASSERT_EQ(output.tokens[i], golden.greedy[i]) << what << " greedy token " << i;
  }
}

class ServedTest : public ::testing::TestWithParam<std::string> {};

TEST_P(ServedTest, ColdAndWarm) {
  const Golden golden = load_golden(GetParam());
  for (const int page_size : {1, 16}) {
    const auto engine = serve(golden.directory, page_size);
    ASSERT_NE(engine, nullptr);
    for (const bool warm : {false, true}) {
      std::vector<std::shared_ptr<Collector>> collectors;
      for (size_t i = 0; i < golden.cases.size(); ++i) {
        engine::GenerateRequest request;
        request.id = fmt::format("{}-{}", warm, i);
        request.prompt_ids = golden.cases[i].prompt;
        request.sampling.temperature = 0;
        request.sampling.ignore_eos = true;
        request.sampling.max_new_tokens = static_cast<int64_t>(golden.cases[i].greedy.size());
        request.return_logprob = true;
        collectors.push_back(Collector::make());
        ASSERT_TRUE(engine->submit(request, collectors.back()->sink()).ok());
      }
      for (size_t i = 0; i < collectors.size(); ++i) {
        const size_t length = golden.cases[i].prompt.size();
        const std::string what = fmt::format("prompt of {}, page size {}, warm {}", length, page_size, warm);
        ASSERT_TRUE(collectors[i]->wait()) << what;
        const Collector::Output output = collectors[i]->output();
        expect_output(golden.cases[i], output, what);
        if (warm && length > 2 * static_cast<size_t>(page_size)) {
          EXPECT_GT(output.last.cached_tokens, static_cast<int64_t>(length) / 2) << what;
        }
      }
    }
  }
}

std::string directory_name(const ::testing::TestParamInfo<std::string>& info) {
  std::string name = std::filesystem::path(info.param).filename().string();
  std::replace_if(
      name.begin(), name.end(), [](char c) { return std::isalnum(static_cast<unsigned char>(c)) == 0; }, '_');
  return fmt::format("{}_{}", name, info.index);
}

INSTANTIATE_TEST_SUITE_P(Checkpoints, ServedTest, ::testing::ValuesIn(golden_directories()), directory_name);
GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(ServedTest);

}  // namespace
}  // namespace bifocal::model
