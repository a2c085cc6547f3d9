#include "eval/determinism.h"

#include <gtest/gtest.h>

#include <cmath>
#include <map>

#include "base/hash.h"

namespace bifocal::eval {
namespace {

// Answers from a hash of the query, and what the test adds to that.
class FakeGenerator final : public Generator {
 public:
  struct Place {
    size_t index = 0;  // in the batch
    size_t batch = 0;  // its size
    bool warm = false;
  };
  std::function<void(const Place&, Answer&)> disturb;
  std::vector<size_t> batch_sizes;
  int flushes = 0;
  std::map<std::string, int> asked;

  Expected<std::vector<Answer>> generate(std::span<const Query> queries) override {
    std::vector<Answer> answers;
    batch_sizes.push_back(queries.size());
    for (const Query& query : queries) {
      uint64_t hash = query.seed;
      for (const char c : query.text) hash = hash_combine(hash, static_cast<unsigned char>(c));
      for (const int32_t id : query.token_ids) hash = hash_combine(hash, static_cast<uint64_t>(id));
      Answer answer;
      for (int64_t t = 0; t < query.max_new_tokens; ++t) {
        hash = mix64(hash);
        answer.token_ids.push_back(static_cast<int32_t>(hash % 1000));
        answer.logprobs.push_back(-0.25F);
      }
      answer.text = std::to_string(hash);
      if (disturb) disturb({answers.size(), queries.size(), warm_}, answer);
      answers.push_back(std::move(answer));
      ++asked[query.text];
    }
    warm_ = true;
    return answers;
  }
  Status flush_cache() override {
    ++flushes;
    warm_ = false;
    return {};
  }
  Expected<std::vector<int32_t>> encode(const std::string&) override { return unsupported("no tokens"); }

 private:
  bool warm_ = false;
};

DeterminismReport run(FakeGenerator& generator, DeterminismMode mode, int num_mates = 0) {
  DeterminismOptions options;
  options.max_new_tokens = 8;
  options.num_mates = num_mates;
  auto report = run_determinism(generator, mode, options);
  EXPECT_TRUE(report.ok()) << report.status().message();
  return *report;
}

TEST(Determinism, PrintsTheFamiliarLines) {
  FakeGenerator generator;
  const auto report = run(generator, DeterminismMode::prefix);
  EXPECT_TRUE(report.deterministic());
  ASSERT_EQ(report.prompts.size(), 4U);
  int64_t total = 0;
  std::string expected;
  constexpr std::array kLengths = {1, 511, 2048, 4097};
  for (size_t i = 0; i < 4; ++i) {
    EXPECT_GT(report.prompts[i].total, 250);
    total += report.prompts[i].total;
    expected += "Prompt " + std::to_string(i) + " with prefix length " + std::to_string(kLengths[i]) +
                ": total samples: " + std::to_string(report.prompts[i].total) + ", Unique samples: 1\n";
  }
  EXPECT_EQ(total, 50 * 51 / 2);
  EXPECT_EQ(report.text(), expected);
  EXPECT_EQ(generator.flushes, 50);
  for (const auto& [text, count] : generator.asked) {
    EXPECT_TRUE(text.size() == 1 || text.size() == 511 || text.size() == 2048 || text.size() == 4097);
  }
}

TEST(Determinism, TheOtherModesCountTheirPrompts) {
  FakeGenerator generator;
  const auto single = run(generator, DeterminismMode::single);
  ASSERT_EQ(single.prompts.size(), 1U);
  EXPECT_EQ(single.prompts[0].total, 50 * 51 / 2);
  EXPECT_TRUE(single.deterministic());
  const auto mixed = run(generator, DeterminismMode::mixed);
  ASSERT_EQ(mixed.prompts.size(), 3U);
  for (const auto& prompt : mixed.prompts) EXPECT_GT(prompt.total, 100);
  EXPECT_TRUE(mixed.deterministic());
  const auto radix = run(generator, DeterminismMode::radix_cache);
  ASSERT_EQ(radix.prompts.size(), 1U);
  EXPECT_EQ(radix.prompts[0].total, 3);
  EXPECT_TRUE(radix.deterministic());
}

TEST(Determinism, MatesAreSentButNotCounted) {
  FakeGenerator generator;
  const auto report = run(generator, DeterminismMode::single, 5);
  EXPECT_EQ(report.prompts[0].total, 50 * 51 / 2);
  EXPECT_EQ(generator.batch_sizes.front(), 6U);
  EXPECT_EQ(generator.batch_sizes.back(), 55U);
  EXPECT_TRUE(report.deterministic());
}

TEST(Determinism, ATokenThatDependsOnTheBatchIsFound) {
  for (const auto mode : {DeterminismMode::single, DeterminismMode::mixed, DeterminismMode::prefix}) {
    FakeGenerator generator;
    generator.disturb = [](const FakeGenerator::Place& place, Answer& answer) {
      if (place.batch == 37) answer.token_ids.back() ^= 1;
    };
    EXPECT_FALSE(run(generator, mode).deterministic()) << to_string(mode);
  }
}

TEST(Determinism, ALogprobThatIsOneBitOffIsFound) {
  FakeGenerator generator;
  generator.disturb = [](const FakeGenerator::Place& place, Answer& answer) {
    if (place.batch == 37 && place.index == 20) answer.logprobs[3] = std::nextafter(answer.logprobs[3], 0.0F);
  };
  const auto report = run(generator, DeterminismMode::single);
  EXPECT_FALSE(report.deterministic());
  EXPECT_EQ(report.prompts[0].unique(), 2);
  EXPECT_TRUE(report.differs());
  EXPECT_NE(report.text().find("Unique samples: 2"), std::string::npos);
}

TEST(Determinism, AWarmCacheThatDiffersIsFound) {
  FakeGenerator generator;
  generator.disturb = [](const FakeGenerator::Place& place, Answer& answer) {
    if (place.warm) answer.logprobs[0] = -0.250001F;
  };
  EXPECT_FALSE(run(generator, DeterminismMode::radix_cache).deterministic());
}

TEST(Determinism, NothingSampledIsNotDeterministic) {
  EXPECT_FALSE(DeterminismReport().deterministic());
  DeterminismReport report;
  report.prompts = {PromptSamples("Prompt 0")};
  EXPECT_FALSE(report.deterministic());
  EXPECT_FALSE(report.differs());
}

TEST(Determinism, ModesHaveNames) {
  for (const auto mode : {DeterminismMode::single, DeterminismMode::mixed, DeterminismMode::prefix,
                          DeterminismMode::radix_cache}) {
    EXPECT_EQ(*parse_determinism_mode(to_string(mode)), mode);
  }
  EXPECT_EQ(parse_determinism_mode("both").status().code(), StatusCode::invalid_argument);
}

}  // namespace
}  // namespace bifocal::eval
