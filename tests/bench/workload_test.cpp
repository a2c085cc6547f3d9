#include "bench/workload.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>

#include "base/file.h"

namespace bifocal::bench {
namespace {

// Every expected value below is what numpy, Python's random and the datasets of SGLang 0.5.23 give with seed
// 42 and the same tokenizer.

TEST(SeededRandom, DrawsAsNumpy) {
  NumpyRandom random(42);
  std::vector<int64_t> drawn;
  for (int i = 0; i < 8; ++i) drawn.push_back(random.randint(5, 11));
  for (int i = 0; i < 4; ++i) drawn.push_back(random.randint(0, 151643));
  for (int i = 0; i < 2; ++i) drawn.push_back(random.randint(7, 8));
  EXPECT_EQ(drawn, (std::vector<int64_t>{8, 9, 7, 9, 9, 6, 7, 7, 87498, 112727, 126324, 16023, 7, 7}));
  for (const double expected : {0.26309096151938827, 0.014516300660518155, 0.3200324372487165}) {
    EXPECT_DOUBLE_EQ(random.exponential(0.25), expected);
  }
}

TEST(SeededRandom, DrawsAsPython) {
  PythonRandom random(42);
  std::vector<int> items = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9};
  random.shuffle(items);
  EXPECT_EQ(items, (std::vector<int>{7, 3, 2, 8, 5, 6, 9, 4, 0, 1}));
  for (const uint32_t expected : {590U, 31U, 93U, 232U, 602U}) EXPECT_EQ(random.choice(1000), expected);
}

TEST(SeededRandom, BeyondTheFirstBlock) {
  Mt19937 generator(42);
  std::vector<uint32_t> words(2000);
  for (uint32_t& word : words) word = generator.next();
  EXPECT_EQ(words[0], 1608637542U);
  EXPECT_EQ(words[1], 3421126067U);
  EXPECT_EQ(words[1999], 2238969328U);
}

class WorkloadTest : public ::testing::Test {
 protected:
  void SetUp() override {
    auto loaded = text::Tokenizer::load(BIFOCAL_SOURCE_DIR "/models/tiny-qwen3/tokenizer.json");
    ASSERT_TRUE(loaded.ok()) << loaded.status().message();
    tokenizer_ = std::move(loaded).value();
    directory_ = std::filesystem::temp_directory_path() / ("workload_test." + std::to_string(::getpid()));
    std::filesystem::create_directories(directory_);
  }
  void TearDown() override { std::filesystem::remove_all(directory_); }

  std::string write(const std::string& name, const std::string& content) {
    const std::string path = directory_ / name;
    EXPECT_TRUE(write_file_atomically(path, content).ok());
    return path;
  }

  // Six conversations of two turns and, third, one of a single turn.
  std::string write_conversations(bool lines) {
    std::string text = lines ? "" : "[";
    for (int i = 0; i < 6; ++i) {
      const std::string separator = i == 0 ? "" : lines ? "\n" : ",";
      if (i == 2) text += separator + R"({"conversations":[{"value":"alone"}]})";
      text += separator + R"({"conversations":[{"value":"one two three )" + std::to_string(i) + R"("},{")" +
              (lines ? "content" : "value") + R"(":")";
      for (int repeat = 0; repeat <= i; ++repeat) text += "a b c d e f ";
      text += "\"}]}";
    }
    return write("conversations.json", text + (lines ? "\n\n" : "]"));
  }

  Workload make(const WorkloadOptions& options) {
    auto workload = make_workload(options, *tokenizer_);
    EXPECT_TRUE(workload.ok()) << workload.status().message();
    return workload.ok() ? std::move(workload).value() : Workload{{}, NumpyRandom(0)};
  }

  std::unique_ptr<text::Tokenizer> tokenizer_;
  std::filesystem::path directory_;
};

WorkloadOptions small_random(int num_prompts) {
  WorkloadOptions options;
  options.num_prompts = num_prompts;
  options.random_input_len = 20;
  options.random_output_len = 9;
  options.random_range_ratio = 0.25;
  return options;
}

struct Expectation {
  std::string text;
  int64_t prompt_len, output_len;
};
void expect_requests(const Workload& workload, const std::vector<Expectation>& expected) {
  ASSERT_EQ(workload.requests.size(), expected.size());
  for (size_t i = 0; i < expected.size(); ++i) {
    const WorkloadRequest& request = workload.requests[i];
    EXPECT_EQ(request.text, expected[i].text) << i;
    EXPECT_EQ(request.prompt_len, expected[i].prompt_len) << i;
    EXPECT_EQ(request.output_len, expected[i].output_len) << i;
    EXPECT_TRUE(request.ids.empty()) << i;
  }
}

TEST_F(WorkloadTest, RandomIdsAreConsecutiveAndTheGapsFollow) {
  WorkloadOptions options = small_random(4);
  options.as_ids = true;
  Workload workload = make(options);
  ASSERT_EQ(workload.requests.size(), 4U);
  const int64_t prompt_lens[] = {11, 8, 17, 19};
  const int64_t output_lens[] = {4, 9, 6, 6};
  const int32_t first_ids[] = {1638, 122, 468, 1241};
  for (size_t i = 0; i < 4; ++i) {
    const WorkloadRequest& request = workload.requests[i];
    EXPECT_EQ(request.prompt_len, prompt_lens[i]);
    EXPECT_EQ(request.output_len, output_lens[i]);
    ASSERT_EQ(request.ids.size(), static_cast<size_t>(prompt_lens[i]));
    for (size_t j = 0; j < request.ids.size(); ++j) {
      EXPECT_EQ(request.ids[j], (first_ids[i] + static_cast<int32_t>(j)) % 2039);
    }
  }
  EXPECT_EQ(total_prompt_tokens(workload.requests), 55);
  EXPECT_DOUBLE_EQ(workload.arrivals.exponential(0.25), 0.014959692152170169);
  EXPECT_DOUBLE_EQ(workload.arrivals.exponential(0.25), 0.5028077161199849);
}

TEST_F(WorkloadTest, RandomIdsAsText) {
  expect_requests(make(small_random(2)), {{" Will bead greatblemlg pebb emblem Leoarm remedlga", 11, 6},
                                          {" helpfulanur pencdgeonst constellation constellation", 8, 8}});
}

TEST_F(WorkloadTest, RandomCutsAndRepeatsConversations) {
  WorkloadOptions options = small_random(3);
  options.dataset = "random";
  options.dataset_path = write_conversations(false);
  expect_requests(make(options), {{"one two three 3one two three 3one", 11, 8},
                                  {"one two three 1one two three", 8, 4},
                                  {"one two three 2one two three 2one two three 2one two", 17, 9}});
}

TEST_F(WorkloadTest, ShareGptAndCustomLeaveOutWhatDoesNotFit) {
  WorkloadOptions options;
  options.dataset = "sharegpt";
  options.dataset_path = write_conversations(false);
  options.num_prompts = 4;
  options.context_len = 40;
  expect_requests(make(options), {{"one two three 3", 5, 25},
                                  {"one two three 1", 5, 13},
                                  {"one two three 2", 5, 19},
                                  {"one two three 4", 5, 31}});
  options.dataset = "custom";
  options.dataset_path = write_conversations(true);
  options.fixed_output_len = 5;
  expect_requests(make(options), {{"one two three 3", 5, 5},
                                  {"one two three 1", 5, 5},
                                  {"one two three 2", 5, 5},
                                  {"one two three 4", 5, 5}});
  options.context_len = 3;
  EXPECT_EQ(make_workload(options, *tokenizer_).status().code(), StatusCode::invalid_argument);
}

TEST_F(WorkloadTest, SharedPrefixesOfGroups) {
  WorkloadOptions options;
  options.dataset = "generated-shared-prefix";
  options.shared_prefix = {2, 3, 6, 4, 7, 0.5, false};
  options.as_ids = true;
  const Workload workload = make(options);
  const std::vector<std::vector<int32_t>> prompts = {
      {1385, 1827, 178, 864, 61, 447, 1429, 696},           {1309, 51, 563, 457, 1508, 407, 1330, 1116, 451},
      {1385, 1827, 178, 864, 61, 447, 689, 189, 198, 1735}, {1309, 51, 563, 457, 1508, 1034, 54},
      {1309, 51, 563, 457, 1508, 1206, 1657, 13, 1650},     {1385, 1827, 178, 864, 61, 447, 318, 1960}};
  const int64_t output_lens[] = {5, 5, 6, 4, 5, 7};
  ASSERT_EQ(workload.requests.size(), prompts.size());
  for (size_t i = 0; i < prompts.size(); ++i) {
    EXPECT_EQ(workload.requests[i].ids, prompts[i]) << i;
    EXPECT_EQ(workload.requests[i].output_len, output_lens[i]) << i;
  }
  options.as_ids = false;
  options.shared_prefix.ordered = true;
  const Workload ordered = make(options);
  const std::string& text = ordered.requests[0].text;
  const size_t end = text.find("\n\n");
  ASSERT_NE(end, std::string::npos);
  EXPECT_TRUE(ordered.requests[1].text.starts_with(text.substr(0, end + 2)));
}

class EmptyTokenizer final : public text::Tokenizer {
 public:
  Expected<std::vector<text::TokenId>> encode(std::string_view, const text::EncodeOptions&) const override {
    return std::vector<text::TokenId>();
  }
  std::string decode(std::span<const text::TokenId>, bool) const override { return ""; }
  std::string_view token_bytes(text::TokenId) const override { return ""; }
  bool is_special(text::TokenId) const override { return false; }
  std::optional<text::TokenId> token_id(std::string_view) const override { return std::nullopt; }
  int vocab_size() const override { return 0; }
};

TEST(Workload, ATokenizerWithoutTokensIsRefused) {
  WorkloadOptions options;
  for (const char* dataset : {"random-ids", "generated-shared-prefix"}) {
    options.dataset = dataset;
    EXPECT_EQ(make_workload(options, EmptyTokenizer()).status().code(), StatusCode::invalid_argument);
  }
}

TEST_F(WorkloadTest, MistakesAreNamed) {
  WorkloadOptions options;
  options.dataset = "squad";
  EXPECT_NE(make_workload(options, *tokenizer_).status().message().find("generated-shared-prefix"),
            std::string::npos);
  options.dataset = "random";
  EXPECT_NE(make_workload(options, *tokenizer_).status().message().find("--dataset-path"), std::string::npos);
  options.dataset_path = directory_ / "none.json";
  EXPECT_EQ(make_workload(options, *tokenizer_).status().code(), StatusCode::not_found);
  options.dataset = "custom";
  options.dataset_path =
      write("lines", "{\"conversations\": []}\n{\"conversations\": [{\"value\": 3}, {}]}\n");
  const Status status = make_workload(options, *tokenizer_).status();
  EXPECT_EQ(status.code(), StatusCode::data_loss);
  EXPECT_NE(status.message().find("line 2.conversations[0].value"), std::string::npos) << status.message();
  options.dataset = "sharegpt";
  options.dataset_path = write("object", "{}");
  EXPECT_EQ(make_workload(options, *tokenizer_).status().code(), StatusCode::data_loss);
}

}  // namespace
}  // namespace bifocal::bench
