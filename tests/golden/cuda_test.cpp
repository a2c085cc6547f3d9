// Models on a GPU: transformers' logits within bf16's own error, captured steps equal to eager ones, and bits
// that don't depend on the company.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "base/progress.h"
#include "golden/golden_file.h"
#include "model/load.h"
#include "model/step_runner.h"

namespace bifocal::model {
namespace {

constexpr int kWhole = 1 << 20;

std::unique_ptr<Model> load(const std::string& directory, bool graphs = true) {
  Progress::set_enabled(false);
  LoadOptions options;
  options.path = directory;
  options.device = DeviceKind::cuda;
  options.kv_dtype = DType::bf16;
  options.page_size = 64;
  options.cuda_graphs.enabled = graphs;
  options.pool = std::make_shared<ThreadPool>(1);
  auto loaded = load_model(options);
  EXPECT_TRUE(loaded.ok()) << loaded.status().message();
  return loaded.ok() ? std::move(loaded->model) : nullptr;
}

const std::string kTiny = std::string(BIFOCAL_SOURCE_DIR) + "/models/tiny-qwen3";

class Cuda : public ::testing::Test {
 protected:
  void SetUp() override {
    const Status gpu = find_cuda_device().status();
    if (!gpu.ok()) GTEST_SKIP() << gpu.message();
  }
};
class CudaGolden : public Cuda, public ::testing::WithParamInterface<std::string> {};

TEST_P(CudaGolden, LogitsAreWithinTwiceTheErrorOfBfloat16) {
  const Golden golden = load_golden(std::string(BIFOCAL_SOURCE_DIR) + "/tests/golden/data/" + GetParam());
  const auto model = load(golden.directory);
  ASSERT_NE(model, nullptr);
  // A short prompt's own error can be small by luck.
  float worst = 0;
  for (const GoldenCase& each : golden.cases) worst = std::max(worst, each.bf16_max_abs_err);
  for (const char* backend : {"prefill_ws", "decode_mma"}) {
    RunnerOptions options;
    options.backend = backend;
    StepRunner runner(*model, options);
    for (const GoldenCase& each : golden.cases) {
      for (const int chunk : {kWhole, 24}) {
        runner.reset();
        const auto rows = runner.prefill(0, each.prompt, chunk);
        EXPECT_LE(max_abs_difference(rows.back(), each.last_logits), 2 * worst)
            << backend << ", prompt of " << each.prompt.size() << ", chunk " << chunk;
      }
    }
  }
  StepRunner runner(*model, {});
  for (const GoldenCase& each : golden.cases) {
    // The same prompt token by token through the decode phase.
    runner.reset();
    std::vector<float> last;
    for (const int32_t token : each.prompt) last = runner.decode(0, token);
    EXPECT_LE(max_abs_difference(last, each.last_logits), 2 * worst) << "decoded " << each.prompt.size();
    for (size_t i = 0; i < each.greedy.size() && each.greedy_margin[i] > 4 * worst; ++i) {
      ASSERT_EQ(argmax(last), each.greedy[i]) << "prompt of " << each.prompt.size() << ", token " << i;
      if (i + 1 < each.greedy.size()) last = runner.decode(0, each.greedy[i]);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Families, CudaGolden,
                         ::testing::Values("qwen3-tied-yarn", "qwen2-wide", "llama3-wide"),
                         [](const auto& test) {
                           std::string name = test.param;
                           std::replace(name.begin(), name.end(), '-', '_');
                           return name;
                         });

std::vector<int32_t> prompt_of(int length, int seed) {
  std::vector<int32_t> prompt;
  for (int i = 0; i < length; ++i) prompt.push_back((seed * 977 + i * 31 + i * i * 7) % 2000);
  return prompt;
}

// Logits of `steps` decode steps of several sequences with prompts of different lengths.
std::vector<std::vector<float>> decode_together(StepRunner& runner, int num_seqs, int steps) {
  runner.reset();
  std::vector<int32_t> tokens;
  for (int seq = 0; seq < num_seqs; ++seq) {
    tokens.push_back(argmax(runner.prefill(seq, prompt_of(3 + 61 * seq, seq), kWhole).back()));
  }
  std::vector<std::vector<float>> all;
  for (int i = 0; i < steps; ++i) {
    std::vector<StepRunner::Part> parts(static_cast<size_t>(num_seqs));
    for (int seq = 0; seq < num_seqs; ++seq) {
      auto& part = parts[static_cast<size_t>(seq)];
      part.seq = seq;
      part.tokens = {tokens[static_cast<size_t>(seq)]};
      part.phase = attention::Phase::decode;
    }
    const auto rows = runner.step(parts);
    for (size_t seq = 0; seq < rows.size(); ++seq) {
      tokens[seq] = argmax(rows[seq]);
      all.push_back(rows[seq]);
    }
  }
  return all;
}

TEST_F(Cuda, CapturedStepsGiveTheBitsOfEagerOnes) {
  const auto captured = load(kTiny, true);
  const auto eager = load(kTiny, false);
  ASSERT_TRUE(captured != nullptr && eager != nullptr);
  for (const bool deterministic : {false, true}) {
    RunnerOptions options;
    options.num_seqs = 9;
    options.deterministic = deterministic;
    StepRunner replayed(*captured, options);
    StepRunner launched(*eager, options);
    // Other numbers than 1, 2, 4, 8 and 9 are padded: the same bits only where products don't depend on how
    // many rows there are.
    for (const int num_seqs : deterministic ? std::vector<int>{1, 3, 5, 7, 9} : std::vector<int>{1, 4, 8}) {
      EXPECT_EQ(decode_together(replayed, num_seqs, 12), decode_together(launched, num_seqs, 12))
          << num_seqs << " sequences, deterministic " << deterministic;
    }
  }
}

TEST_F(Cuda, BitsDoNotDependOnTheCompany) {
  const auto model = load(kTiny);
  ASSERT_NE(model, nullptr);
  RunnerOptions options;
  options.num_seqs = 4;
  options.deterministic = true;
  StepRunner runner(*model, options);
  const auto prompt = prompt_of(150, 1);
  const auto alone = runner.prefill(0, prompt, kWhole);
  for (const int chunk : {1, 7, 64}) {
    runner.reset();
    EXPECT_EQ(runner.prefill(0, prompt, chunk), alone) << "chunks of " << chunk;
  }
  // A chunk of one prompt beside the decode row of another and the verified rows of a third.
  runner.reset();
  std::vector<std::vector<float>> decoded;
  const auto others = prompt_of(9, 2);
  for (const int32_t token : others) decoded.push_back(runner.decode(1, token));
  runner.reset();
  for (int i = 0; i < 6; ++i) runner.decode(1, others[static_cast<size_t>(i)]);
  std::vector<StepRunner::Part> parts(2);
  parts[0].seq = 0;
  parts[0].tokens = prompt;
  parts[0].all_logits = true;
  parts[1].seq = 1;
  parts[1].tokens = {others[6], others[7], others[8]};
  parts[1].phase = attention::Phase::verify;
  parts[1].all_logits = true;
  const auto rows = runner.step(parts);
  for (size_t i = 0; i < alone.size(); ++i) ASSERT_EQ(rows[i], alone[i]) << "row " << i;
  for (size_t i = 0; i < 3; ++i) ASSERT_EQ(rows[alone.size() + i], decoded[6 + i]) << "verified row " << i;
}

// The decode kernel takes a prompt row by row: the same bits as token by token, whatever the chunks, in more
// rows than a kernel takes at once, and beside others.
TEST_F(Cuda, OneBackendForAllPhasesGivesARowItsDecodeBits) {
  const auto model = load(kTiny);
  ASSERT_NE(model, nullptr);
  for (const char* backend : {"decode_mma", "prefill_ws"}) {
    RunnerOptions options;
    options.num_seqs = 3;
    options.deterministic = true;
    options.backend = backend;
    options.max_tokens = options.max_kv_len = 1600;
    StepRunner runner(*model, options);
    const auto prompt = prompt_of(1300, 4);
    const auto alone = runner.prefill(0, prompt, kWhole);
    runner.reset();
    EXPECT_EQ(runner.prefill(0, prompt, 300), alone) << backend;
    runner.reset();
    for (size_t i = 0; i < 70; ++i) {
      ASSERT_EQ(runner.decode(0, prompt[i]), alone[i]) << backend << ", token " << i;
    }
    // Chunks of two prompts beside the next rows of the first.
    std::vector<StepRunner::Part> parts(3);
    parts[0].seq = 1;
    parts[0].tokens = prompt;
    parts[1].seq = 2;
    parts[1].tokens.assign(prompt.begin(), prompt.begin() + 50);
    parts[2].seq = 0;
    parts[2].tokens = {prompt[70]};
    parts[2].phase = attention::Phase::decode;
    for (auto& part : parts) part.all_logits = true;
    const auto rows = runner.step(parts);
    ASSERT_EQ(rows.size(), alone.size() + 51);
    for (size_t i = 0; i < alone.size(); ++i) ASSERT_EQ(rows[i], alone[i]) << backend << ", row " << i;
    for (size_t i = 0; i < 50; ++i) {
      ASSERT_EQ(rows[alone.size() + i], alone[i]) << backend << ", row " << i << " of the second";
    }
    EXPECT_EQ(rows.back(), alone[70]) << backend;
  }
}

TEST_F(Cuda, AgreesWithTheCpu) {
  const auto gpu = load(kTiny);
  LoadOptions options;
  options.path = kTiny;
  options.pool = std::make_shared<ThreadPool>(4);
  options.dtype = "float32";
  auto cpu = load_model(options);
  ASSERT_TRUE(gpu != nullptr && cpu.ok());
  StepRunner ours(*gpu, {});
  StepRunner theirs(*cpu->model, {});
  const auto prompt = prompt_of(200, 3);
  const auto got = ours.prefill(0, prompt, kWhole);
  const auto expected = theirs.prefill(0, prompt, kWhole);
  float scale = 1;
  for (const float logit : expected.back()) scale = std::max(scale, std::abs(logit));
  for (size_t i = 0; i < got.size(); ++i) {
    ASSERT_LE(max_abs_difference(got[i], expected[i]), 0.05F * scale) << "row " << i;
  }
}

}  // namespace
}  // namespace bifocal::model
