// The goldens through the engine: all cases at once in small pages and chunks, then again out of the prefix
// cache, in every form of latent attention.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "base/log.h"
#include "base/progress.h"
#include "engine/collector.h"
#include "engine/engine.h"
#include "golden/golden_file.h"
#include "model/load.h"

namespace bifocal::model {
namespace {

using engine::Collector;
using engine::Engine;

std::unique_ptr<Engine> start(const std::string& directory, int page_size, const std::string& form) {
  Progress::set_enabled(false);
  set_log_level(LogLevel::warn);
  engine::EngineOptions options;
  options.page_size = page_size;
  options.chunked_prefill_size = 16;
  options.max_total_tokens = 4096;
  options.context_length = 512;
  options.attention.mla = {form, 40};
  options.pool = std::make_shared<ThreadPool>(2);
  LoadOptions load;
  load.path = directory;
  load.dtype = "float32";
  load.page_size = page_size;
  load.pool = options.pool;
  auto loaded = load_model(load);
  EXPECT_TRUE(loaded.ok()) << loaded.status().message();
  if (!loaded.ok()) return nullptr;
  auto engine = Engine::create(std::move(loaded->model), nullptr, options);
  EXPECT_TRUE(engine.ok()) << engine.status().message();
  return engine.ok() ? std::move(*engine) : nullptr;
}

// How many of the golden's tokens are decided by more than what the tolerance could turn.
size_t decided_tokens(const GoldenCase& golden) {
  const auto close = std::find_if(golden.greedy_margin.begin(), golden.greedy_margin.end(),
                                  [&](float margin) { return margin <= 4e-5F * golden.scale(); });
  return static_cast<size_t>(close - golden.greedy_margin.begin());
}

// Log-probability of the golden's first token.
float first_logprob(const GoldenCase& golden) {
  double sum = 0;
  const float largest = *std::max_element(golden.last_logits.begin(), golden.last_logits.end());
  for (const float logit : golden.last_logits) sum += std::exp(static_cast<double>(logit - largest));
  return golden.last_logits[static_cast<size_t>(golden.greedy[0])] - largest -
         static_cast<float>(std::log(sum));
}

// The cached tokens of all cases together.
int64_t serve_all(Engine& engine, const Golden& golden, const std::string& what) {
  std::vector<std::shared_ptr<Collector>> collectors;
  for (size_t i = 0; i < golden.cases.size(); ++i) {
    engine::GenerateRequest request;
    request.id = fmt::format("case-{}", i);
    request.prompt_ids = golden.cases[i].prompt;
    request.sampling.temperature = 0;
    request.sampling.ignore_eos = true;
    request.sampling.max_new_tokens = static_cast<int64_t>(golden.cases[i].greedy.size());
    request.return_logprob = true;
    collectors.push_back(Collector::make(1));
    EXPECT_TRUE(engine.submit(request, collectors.back()->sink()).ok());
  }
  int64_t cached = 0;
  for (size_t i = 0; i < golden.cases.size(); ++i) {
    const GoldenCase& expected = golden.cases[i];
    EXPECT_TRUE(collectors[i]->wait());
    const auto output = collectors[i]->output(0);
    EXPECT_EQ(output.tokens.size(), expected.greedy.size()) << what;
    if (output.tokens.size() != expected.greedy.size()) continue;
    for (size_t t = 0; t < decided_tokens(expected); ++t) {
      EXPECT_EQ(output.tokens[t], expected.greedy[t]) << what << " case " << i << " token " << t;
    }
    EXPECT_NEAR(output.details[0].logprob, first_logprob(expected), 4e-5F * expected.scale())
        << what << " case " << i;
    cached += output.last.cached_tokens;
  }
  return cached;
}

class ServedGoldenTest : public ::testing::TestWithParam<std::string> {};

TEST_P(ServedGoldenTest, ColdAndWarm) {
  const Golden golden = load_golden(GetParam());
  ASSERT_FALSE(golden.cases.empty());
  LoadOptions load;
  load.path = GetParam();
  const auto probe = plan_load(load);
  ASSERT_TRUE(probe.ok()) << probe.status().message();
  std::vector<std::string> forms = {"auto"};
  if (probe->spec.layers.front().mla) forms = {"auto", "absorbed", "expanded", "chunked"};
  for (const std::string& form : forms) {
    for (const int page_size : {1, 16}) {
      const std::string what = fmt::format("MLA {}, pages of {}", form, page_size);
      const auto engine = start(golden.directory, page_size, form);
      ASSERT_NE(engine, nullptr);
      serve_all(*engine, golden, what + ", cold");
      EXPECT_GT(serve_all(*engine, golden, what + ", warm"), 0) << what;
      if (HasFailure()) return;
    }
  }
}

std::string folder_name(const ::testing::TestParamInfo<std::string>& tested) {
  std::string name = tested.param.substr(tested.param.find_last_of('/') + 1);
  std::replace(name.begin(), name.end(), '-', '_');
  return fmt::format("{}_{}", name, tested.index);
}

INSTANTIATE_TEST_SUITE_P(Checkpoints, ServedGoldenTest, ::testing::ValuesIn(golden_directories()),
                         folder_name);

}  // namespace
}  // namespace bifocal::model
