// Logits and greedy continuations of tiny checkpoints against transformers, whatever the backend, the page
// size and the way a prompt is cut into steps.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>

#include "base/progress.h"
#include "golden/golden_file.h"
#include "model/load.h"
#include "model/step_runner.h"

namespace bifocal::model {
namespace {

constexpr float kTolerance = 2e-5F;  // times max(1, largest logit)
constexpr int kWhole = 1 << 20;      // a chunk larger than any prompt

std::unique_ptr<Model> load(const std::string& directory, const std::string& dtype, int page_size) {
  Progress::set_enabled(false);
  LoadOptions options;
  options.path = directory;
  options.dtype = dtype;
  options.page_size = page_size;
  options.pool = std::make_shared<ThreadPool>(1);
  auto loaded = load_model(options);
  EXPECT_TRUE(loaded.ok()) << loaded.status().message();
  return loaded.ok() ? std::move(loaded->model) : nullptr;
}

// What a model's attention can be asked for: every form where it has latents.
std::vector<RunnerOptions> ways_of(const Model& model) {
  std::vector<RunnerOptions> ways(2);
  ways[0].backend = "reference";
  if (!model.spec().layers.front().mla) return ways;
  for (const char* form : {"absorbed", "expanded", "chunked"}) {
    ways.emplace_back().mla = {form, 40};  // more than some prompts, less than others
  }
  return ways;
}

std::string to_string(const RunnerOptions& way) {
  return fmt::format("backend {}, MLA {}", way.backend, way.mla.prefill_form);
}

void expect_prompt_logits(const GoldenCase& golden, const std::vector<std::vector<float>>& rows,
                          const std::string& what) {
  ASSERT_EQ(rows.size(), golden.prompt.size());
  const float tolerance = kTolerance * golden.scale();
  EXPECT_LE(max_abs_difference(rows.back(), golden.last_logits), tolerance) << what;
  const size_t first = rows.size() - golden.top_ids.size();
  for (size_t i = 0; i < golden.top_ids.size(); ++i) {
    for (size_t j = 0; j < golden.top_ids[i].size(); ++j) {
      const float got = rows[first + i][static_cast<size_t>(golden.top_ids[i][j])];
      ASSERT_NEAR(got, golden.top_logits[i][j], tolerance) << what << " position " << first + i;
    }
  }
}

// Decodes greedily from the prompt's last logits. A gap that the tolerance could close ends the comparison.
void expect_greedy(StepRunner& runner, const GoldenCase& golden, std::vector<float> logits,
                   const std::string& what) {
  const float tolerance = kTolerance * golden.scale();
  for (size_t i = 0; i < golden.greedy.size(); ++i) {
    if (golden.greedy_margin[i] <= 2 * tolerance) return;
    ASSERT_EQ(argmax(logits), golden.greedy[i]) << what << " greedy token " << i;
    if (i + 1 < golden.greedy.size()) logits = runner.decode(0, golden.greedy[i]);
  }
}

class GoldenTest : public ::testing::TestWithParam<std::string> {};

TEST_P(GoldenTest, Float32) {
  const Golden golden = load_golden(GetParam());
  ASSERT_FALSE(golden.cases.empty());
  for (const int page_size : {1, 3, 16}) {
    const auto model = load(golden.directory, "float32", page_size);
    ASSERT_NE(model, nullptr);
    for (const RunnerOptions& way : ways_of(*model)) {
      StepRunner runner(*model, way);
      for (const int chunk : {kWhole, 1, 5, 16}) {
        for (const GoldenCase& golden_case : golden.cases) {
          const size_t length = golden_case.prompt.size();
          if (length > 64 && chunk == 1 && page_size != 3) continue;  // slow, and covered by page size 3
          const std::string what = fmt::format("prompt of {}, chunk {}, page size {}, {}", length, chunk,
                                               page_size, to_string(way));
          runner.reset();
          const auto rows = runner.prefill(0, golden_case.prompt, chunk);
          expect_prompt_logits(golden_case, rows, what);
          expect_greedy(runner, golden_case, rows.back(), what);
          if (HasFatalFailure()) return;
        }
      }
    }
  }
}

TEST_P(GoldenTest, TokenByTokenThroughTheDecodePhase) {
  const Golden golden = load_golden(GetParam());
  const auto model = load(golden.directory, "float32", 16);
  ASSERT_NE(model, nullptr);
  for (const char* backend : {"reference", "auto"}) {
    RunnerOptions options;
    options.backend = backend;
    StepRunner runner(*model, options);
    for (const GoldenCase& golden_case : golden.cases) {
      const std::string what = fmt::format("prompt of {}, backend {}", golden_case.prompt.size(), backend);
      runner.reset();
      std::vector<std::vector<float>> rows;
      for (const int32_t token : golden_case.prompt) rows.push_back(runner.decode(0, token));
      expect_prompt_logits(golden_case, rows, what);
      expect_greedy(runner, golden_case, rows.back(), what);
    }
  }
}

// All cases at once, prefill chunks and decode rows in the same steps.
TEST_P(GoldenTest, AllCasesInOneBatch) {
  const Golden golden = load_golden(GetParam());
  const auto model = load(golden.directory, "float32", 16);
  ASSERT_NE(model, nullptr);
  RunnerOptions options;
  options.num_seqs = static_cast<int>(golden.cases.size());
  StepRunner runner(*model, options);
  struct Progressed {
    size_t prompt = 0;  // tokens of the prompt already run
    std::vector<int32_t> output;
    bool compared = true;
  };
  std::vector<Progressed> state(golden.cases.size());
  constexpr size_t kChunk = 24;
  for (bool busy = true; busy;) {
    busy = false;
    std::vector<StepRunner::Part> parts;
    for (const bool decode : {false, true}) {
      for (size_t i = 0; i < state.size(); ++i) {
        const auto& prompt = golden.cases[i].prompt;
        if (decode == state[i].output.empty()) continue;  // the first logits come with the prompt's end
        StepRunner::Part part;
        part.seq = static_cast<int>(i);
        if (decode) {
          if (state[i].output.size() >= golden.cases[i].greedy.size()) continue;
          part.phase = attention::Phase::decode;
          part.tokens = {state[i].output.back()};
        } else {
          const size_t end = std::min(prompt.size(), state[i].prompt + kChunk);
          part.tokens.assign(prompt.begin() + static_cast<int64_t>(state[i].prompt),
                             prompt.begin() + static_cast<int64_t>(end));
          part.no_logits = end < prompt.size();
          state[i].prompt = end;
        }
        parts.push_back(std::move(part));
        busy = true;
      }
    }
    if (parts.empty()) break;
    const auto rows = runner.step(parts);
    size_t row = 0;
    for (const auto& part : parts) {
      if (part.no_logits) continue;
      const auto i = static_cast<size_t>(part.seq);
      const GoldenCase& golden_case = golden.cases[i];
      const size_t token = state[i].output.size();
      if (token == 0) {
        EXPECT_LE(max_abs_difference(rows[row], golden_case.last_logits), kTolerance * golden_case.scale());
      }
      state[i].compared =
          state[i].compared && golden_case.greedy_margin[token] > 2 * kTolerance * golden_case.scale();
      if (state[i].compared) {
        EXPECT_EQ(argmax(rows[row]), golden_case.greedy[token]) << "case " << i << " token " << token;
      }
      state[i].output.push_back(golden_case.greedy[token]);
      ++row;
    }
  }
  for (size_t i = 0; i < state.size(); ++i) EXPECT_EQ(state[i].output.size(), golden.cases[i].greedy.size());
}

// bf16 weights may err as much as transformers' bf16 model does, twice. Experts make errors jump: where two
// of them score nearly the same, a rounding decides. Then the bound is the largest of the golden's cases.
TEST_P(GoldenTest, Bfloat16) {
  const Golden golden = load_golden(GetParam());
  const auto model = load(golden.directory, "bfloat16", 16);
  ASSERT_NE(model, nullptr);
  StepRunner runner(*model, {});
  const auto& layers = model->spec().layers;
  const bool has_experts =
      std::any_of(layers.begin(), layers.end(), [](const LayerSpec& layer) { return layer.moe.has_value(); });
  float worst = 0;
  for (const GoldenCase& golden_case : golden.cases) worst = std::max(worst, golden_case.bf16_max_abs_err);
  for (const GoldenCase& golden_case : golden.cases) {
    runner.reset();
    const auto rows = runner.prefill(0, golden_case.prompt, kWhole);
    EXPECT_LE(max_abs_difference(rows.back(), golden_case.last_logits),
              2 * (has_experts ? worst : golden_case.bf16_max_abs_err) + 1e-4F)
        << "prompt of " << golden_case.prompt.size();
  }
}

std::string directory_name(const ::testing::TestParamInfo<std::string>& info) {
  std::string name = std::filesystem::path(info.param).filename().string();
  std::replace_if(
      name.begin(), name.end(), [](char c) { return std::isalnum(static_cast<unsigned char>(c)) == 0; }, '_');
  return fmt::format("{}_{}", name, info.index);
}

INSTANTIATE_TEST_SUITE_P(Checkpoints, GoldenTest, ::testing::ValuesIn(golden_directories()), directory_name);
GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(GoldenTest);

}  // namespace
}  // namespace bifocal::model
