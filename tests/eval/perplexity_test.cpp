// Windows, sums and what is refused; the bundled model against logits computed one window at a time.
#include "eval/perplexity.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "base/file.h"
#include "engine/bundled_model.h"
#include "eval/engine_generator.h"
#include "model/step_runner.h"

namespace bifocal::eval {
namespace {

TEST(Perplexity, EveryTokenCountsOnceWithEnoughBeforeIt) {
  for (const auto& [tokens, context, stride] :
       std::vector<std::array<int64_t, 3>>{{2, 2, 1}, {10, 4, 2}, {11, 4, 3}, {9, 16, 1}, {100, 7, 1}}) {
    int64_t next = 1;
    for (const Window& window : sliding_windows(tokens, context, stride)) {
      EXPECT_EQ(window.first_scored, next);
      EXPECT_LE(window.end - window.begin, context);
      EXPECT_GE(window.first_scored - window.begin, std::min(next, context - stride));
      EXPECT_GT(window.end, window.first_scored);
      next = window.end;
    }
    EXPECT_EQ(next, tokens);
  }
}

TEST(Perplexity, WindowsThatDoNotOverlapLeaveTheirFirstTokenOut) {
  const auto windows = sliding_windows(9, 4, 4);  // the last window would be one token
  ASSERT_EQ(windows.size(), 2U);
  EXPECT_EQ(windows[1].begin, 4);
  EXPECT_EQ(windows[1].first_scored, 5);
  EXPECT_EQ(windows[1].end, 8);
}

// Gives every token the log-probability -ln(its id), where the query asked for it.
class LogarithmGenerator final : public Generator {
 public:
  Expected<std::vector<Answer>> generate(std::span<const Query> queries) override {
    std::vector<Answer> answers;
    for (const Query& query : queries) {
      EXPECT_EQ(query.max_new_tokens, 0);
      Answer& answer = answers.emplace_back();
      for (size_t i = static_cast<size_t>(query.prompt_logprob_start); i < query.token_ids.size(); ++i) {
        answer.prompt_logprobs.emplace_back(-std::log(static_cast<float>(query.token_ids[i])));
      }
      answer.prompt_logprobs.front().reset();
      if (spoil) spoil(answer);
    }
    return answers;
  }
  Status flush_cache() override { return {}; }
  Expected<std::vector<int32_t>> encode(const std::string&) override { return unsupported("no tokens"); }

  std::function<void(Answer&)> spoil;
};

TEST(Perplexity, IsTheGeometricMeanOfInverseProbabilities) {
  LogarithmGenerator generator;
  const std::vector<int32_t> ids = {77, 2, 8, 4, 16, 2, 32};
  const auto report = run_perplexity(generator, ids, {4, 2, 2, {}});
  ASSERT_TRUE(report.ok()) << report.status().message();
  EXPECT_EQ(report->tokens, 7);
  EXPECT_EQ(report->scored_tokens, 6);
  EXPECT_EQ(report->windows, 3);
  EXPECT_EQ(report->computed_tokens, 11);
  EXPECT_NEAR(report->perplexity(), std::pow(2.0 * 8 * 4 * 16 * 2 * 32, 1.0 / 6), 1e-5);
  EXPECT_EQ(
      perplexity_text(*report).find("Tokens: 7\nScored: 6 in 3 windows\nNLL: 1.8484\nPerplexity: 6.350\n"),
      0U)
      << perplexity_text(*report);
}

TEST(Perplexity, RefusesWhatItCannotMeasure) {
  LogarithmGenerator generator;
  const std::vector<int32_t> ids = {1, 2, 3};
  for (const auto& [context, stride, said] : std::vector<std::tuple<int64_t, int64_t, std::string>>{
           {1, 1, "at least 2"}, {4, 0, "1 to 4"}, {4, 5, "1 to 4"}}) {
    const auto report = run_perplexity(generator, ids, {context, stride, 1, {}});
    ASSERT_FALSE(report.ok());
    EXPECT_NE(report.status().message().find(said), std::string::npos) << report.status().message();
  }
  EXPECT_EQ(run_perplexity(generator, std::span(ids).first(1), {}).status().code(),
            StatusCode::invalid_argument);
  generator.spoil = [](Answer& answer) { answer.prompt_logprobs.pop_back(); };
  EXPECT_EQ(run_perplexity(generator, ids, {}).status().code(), StatusCode::data_loss);
  generator.spoil = [](Answer& answer) { answer.prompt_logprobs.back().reset(); };
  EXPECT_EQ(run_perplexity(generator, ids, {}).status().code(), StatusCode::data_loss);
}

// The sum written down once more: a window at a time on the reference backend, log-softmax in double.
double slow_nll(std::span<const int32_t> ids, int64_t context, int64_t stride) {
  model::LoadOptions load;
  load.path = engine::bundled_model_directory();
  load.pool = std::make_shared<ThreadPool>(1);
  auto loaded = model::load_model(load);
  EXPECT_TRUE(loaded.ok()) << loaded.status().message();
  model::RunnerOptions options;
  options.backend = "reference";
  options.max_threads = 1;
  double nll = 0;
  for (const Window& window : sliding_windows(static_cast<int64_t>(ids.size()), context, stride)) {
    model::StepRunner runner(*loaded->model, options);
    const auto tokens =
        ids.subspan(static_cast<size_t>(window.begin), static_cast<size_t>(window.end - window.begin));
    const auto logits = runner.prefill(0, tokens, static_cast<int>(tokens.size()));
    for (int64_t i = window.first_scored; i < window.end; ++i) {
      const std::vector<float>& row = logits[static_cast<size_t>(i - window.begin - 1)];
      double sum = 0;
      for (const float logit : row) sum += std::exp(static_cast<double>(logit));
      nll += std::log(sum) - static_cast<double>(row[static_cast<size_t>(ids[static_cast<size_t>(i)])]);
    }
  }
  return nll;
}

TEST(Perplexity, OfTheBundledModel) {
  const auto text = read_file(std::string(BIFOCAL_SOURCE_DIR) + "/models/data/gsm_fewshot.jsonl", 1 << 20);
  ASSERT_TRUE(text.ok());
  engine::EngineOptions options;
  options.max_total_tokens = 8192;
  options.chunked_prefill_size = 100;  // windows are cut
  options.pool = std::make_shared<ThreadPool>(2);
  const auto engine = engine::bundled_engine(options);
  auto tokenizer = text::Tokenizer::load(engine::bundled_model_directory() + "/tokenizer.json");
  ASSERT_TRUE(engine != nullptr && tokenizer.ok());
  EngineGenerator generator(*engine, std::move(*tokenizer));
  const auto ids = generator.encode(*text);
  ASSERT_TRUE(ids.ok()) << ids.status().message();
  const auto report = run_perplexity(generator, *ids, {256, 128, 4, {}});
  ASSERT_TRUE(report.ok()) << report.status().message();
  EXPECT_EQ(report->scored_tokens, 1680);
  EXPECT_NEAR(report->mean_nll(), 3.9474, 0.02);  // transformers 5.17 in float32
  const auto start = std::span(*ids).first(300);
  const auto short_report = run_perplexity(generator, start, {128, 64, 4, {}});
  ASSERT_TRUE(short_report.ok()) << short_report.status().message();
  EXPECT_NEAR(short_report->nll / slow_nll(start, 128, 64), 1.0, 2e-3);
}

}  // namespace
}  // namespace bifocal::eval
