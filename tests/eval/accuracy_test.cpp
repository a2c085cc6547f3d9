// Question sets: how prompts are put together, how answers are read and counted, and that the bundled model
// passes while a broken one doesn't.
#include "eval/accuracy.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "engine/bundled_model.h"
#include "eval/csv.h"
#include "eval/engine_generator.h"

namespace bifocal::eval {
namespace {

TEST(Accuracy, TheLastNumberCounts) {
  EXPECT_EQ(last_number("12 + 30 = 42"), 42);
  EXPECT_EQ(last_number("#### 1,234"), 1234);
  EXPECT_EQ(last_number("-7.5"), 5);  // signs and points are not read
  EXPECT_EQ(last_number("x12y"), 12);
  EXPECT_EQ(last_number("no number"), std::nullopt);
  EXPECT_EQ(last_number(""), std::nullopt);
  EXPECT_EQ(last_number("99999999999999999999999"), std::nullopt);  // beyond 64 bits
}

TEST(Csv, QuotedFields) {
  const auto rows = parse_csv("a,\"b, \"\"c\"\"\",\r\n\n\"x\ny\",z\n");
  ASSERT_TRUE(rows.ok()) << rows.status().message();
  ASSERT_EQ(rows->size(), 2U);
  EXPECT_EQ((*rows)[0], (std::vector<std::string>{"a", "b, \"c\"", ""}));
  EXPECT_EQ((*rows)[1], (std::vector<std::string>{"x\ny", "z"}));
  EXPECT_TRUE(parse_csv("").ok());
  for (const char* broken : {"\"open", "a\n\"b\"c\n"}) {
    const auto refused = parse_csv(broken);
    ASSERT_FALSE(refused.ok()) << broken;
    EXPECT_NE(refused.status().message().find("row "), std::string::npos);
  }
}

// Answers by a rule, and keeps what it was asked.
class ScriptedGenerator final : public Generator {
 public:
  Expected<std::vector<Answer>> generate(std::span<const Query> queries) override {
    batches.push_back(queries.size());
    std::vector<Answer> answers;
    for (const Query& query : queries) {
      asked.push_back(query);
      Answer& answer = answers.emplace_back();
      answer.text = script(asked.size() - 1);
      answer.token_ids = {1, 2, 3};
    }
    return answers;
  }
  Status flush_cache() override { return {}; }
  Expected<std::vector<int32_t>> encode(const std::string&) override { return unsupported("no tokens"); }

  std::function<std::string(size_t)> script;
  std::vector<Query> asked;
  std::vector<size_t> batches;
};

class QuestionFiles : public ::testing::Test {
 protected:
  QuestionFiles() {
    std::filesystem::create_directories(root_ / "dev");
    std::filesystem::create_directories(root_ / "test");
  }
  ~QuestionFiles() override { std::filesystem::remove_all(root_); }
  std::string write(const std::string& name, const std::string& text) {
    std::ofstream(root_ / name) << text;
    return (root_ / name).string();
  }
  std::filesystem::path root_ = [] {
    std::string path = std::filesystem::temp_directory_path() / "bifocal_questions_XXXXXX";
    return std::filesystem::path(::mkdtemp(path.data()));
  }();
  ScriptedGenerator generator_;
  AccuracyOptions options_;
};

TEST_F(QuestionFiles, Gsm8kAsksAndCounts) {
  const std::string path =
      write("test.jsonl",
            "{\"question\":\"One?\",\"answer\":\"so #### 1\"}\n\n{\"question\":\"Two?\",\"answer\":"
            "\"#### 2\"}\n{\"question\":\"Three?\",\"answer\":\"#### 3\"}\n");
  generator_.script = [](size_t i) { return i == 0 ? " it is 1" : i == 1 ? "who knows" : "4"; };
  options_.num_shots = 1;
  options_.parallel = 2;
  const auto report = run_gsm8k(generator_, path, "", options_);
  ASSERT_TRUE(report.ok()) << report.status().message();
  ASSERT_EQ(generator_.asked.size(), 3U);
  EXPECT_EQ(generator_.batches, (std::vector<size_t>{2, 1}));
  EXPECT_EQ(generator_.asked[1].text, "Question: One?\nAnswer: so #### 1\n\nQuestion: Two?\nAnswer:");
  EXPECT_EQ(generator_.asked[1].stop.front(), "Question");
  EXPECT_EQ(generator_.asked[1].max_new_tokens, 512);
  EXPECT_EQ(report->total().correct, 1);
  EXPECT_EQ(report->total().invalid, 1);
  EXPECT_EQ(report->total().total, 3);
  EXPECT_EQ(report->output_tokens, 9);
  const std::string text = gsm8k_text(*report);
  EXPECT_EQ(text.find("Accuracy: 0.333\nInvalid: 0.333\nLatency: "), 0U) << text;
  EXPECT_NE(text.find(" token/s\n"), std::string::npos);
}

TEST_F(QuestionFiles, Gsm8kNamesTheBrokenLine) {
  for (const char* line : {"{\"question\":\"One?\"}", "{", "[1]"}) {
    const std::string path =
        write("test.jsonl", std::string("{\"question\":\"A\",\"answer\":\"1\"}\n") + line + "\n");
    const auto report = run_gsm8k(generator_, path, "", options_);
    ASSERT_FALSE(report.ok()) << line;
    EXPECT_NE(report.status().message().find("test.jsonl:2"), std::string::npos) << report.status().message();
  }
  EXPECT_EQ(run_gsm8k(generator_, (root_ / "absent").string(), "", options_).status().code(),
            StatusCode::not_found);
}

TEST_F(QuestionFiles, MmluAsksAndCounts) {
  write("dev/old_maps_dev.csv", "Shot?,w,x,y,z,D\n");
  write("dev/bees_dev.csv", "");
  write("test/old_maps_test.csv", "First?,1,2,3,4,B\n\"Second, please?\",5,6,7,8,C\n");
  write("test/bees_test.csv", "Third?,a,b,c,d,A\n");
  // Subjects by name: bees, old_maps.
  generator_.script = [](size_t i) { return i == 0 ? " A" : i == 1 ? "B" : "D"; };
  const auto report = run_mmlu(generator_, root_.string(), 60, options_);
  ASSERT_TRUE(report.ok()) << report.status().message();
  ASSERT_EQ(generator_.asked.size(), 3U);
  EXPECT_EQ(
      generator_.asked[0].text,
      "The following are multiple choice questions (with answers) about bees.\n\nThird?\nA. a\nB. b\nC. "
      "c\nD. d\nAnswer:");
  EXPECT_EQ(generator_.asked[2].text,
            "The following are multiple choice questions (with answers) about old maps.\n\nShot?\nA. w\nB. "
            "x\nC. y\nD. z\nAnswer: D\n\nSecond, please?\nA. 5\nB. 6\nC. 7\nD. 8\nAnswer:");
  EXPECT_EQ(generator_.asked[0].max_new_tokens, 1);
  const std::string text = mmlu_text(*report);
  EXPECT_EQ(
      text.find("subject: bees, #q:1, acc: 1.000\nsubject: old_maps, #q:2, acc: 0.500\nTotal latency: "), 0U)
      << text;
  EXPECT_NE(text.find("Average accuracy: 0.667\n"), std::string::npos) << text;

  generator_.asked.clear();
  ASSERT_TRUE(run_mmlu(generator_, root_.string(), 1, options_).ok());
  EXPECT_EQ(generator_.asked.size(), 1U);
}

TEST_F(QuestionFiles, MmluDropsShotsThatAreTooLong) {
  const std::string shot = std::string(2500, 'x') + ",a,b,c,d,A\n";
  write("dev/long_dev.csv", shot + shot + shot);
  write("test/long_test.csv", "Q?,1,2,3,4,B\n");
  generator_.script = [](size_t) { return "B"; };
  ASSERT_TRUE(run_mmlu(generator_, root_.string(), 60, options_).ok());
  const std::string& prompt = generator_.asked.front().text;
  EXPECT_LT(prompt.size(), 6300U);
  EXPECT_GT(prompt.size(), 5000U);  // two of three
}

TEST_F(QuestionFiles, MmluNamesWhatIsWrong) {
  EXPECT_EQ(run_mmlu(generator_, (root_ / "absent").string(), 60, options_).status().code(),
            StatusCode::not_found);
  write("dev/short_dev.csv", "");
  write("test/short_test.csv", "Q?,1,2,3,B\n");
  const auto report = run_mmlu(generator_, root_.string(), 60, options_);
  ASSERT_FALSE(report.ok());
  EXPECT_NE(report.status().message().find("row 1 has 5 columns"), std::string::npos)
      << report.status().message();
}

TEST(Accuracy, OfTheBundledModel) {
  engine::EngineOptions options;
  options.kv_dtype = DType::bf16;
  options.max_total_tokens = 32768;
  options.pool = std::make_shared<ThreadPool>(2);
  const auto engine = engine::bundled_engine(options);
  auto tokenizer = text::Tokenizer::load(engine::bundled_model_directory() + "/tokenizer.json");
  ASSERT_TRUE(engine != nullptr && tokenizer.ok());
  EngineGenerator generator(*engine, std::move(*tokenizer));
  const std::string data = std::string(BIFOCAL_SOURCE_DIR) + "/models/data/";
  AccuracyOptions test;
  test.num_questions = 32;
  test.num_shots = 2;
  const auto problems = run_gsm8k(generator, data + "gsm.jsonl", data + "gsm_fewshot.jsonl", test);
  ASSERT_TRUE(problems.ok()) << problems.status().message();
  EXPECT_EQ(problems->total().total, 32);
  EXPECT_GE(problems->total().accuracy(), 0.95);
  test.num_questions = 4;
  const auto choices = run_mmlu(generator, data + "mmlu", 10, test);
  ASSERT_TRUE(choices.ok()) << choices.status().message();
  EXPECT_EQ(choices->total().total, 40);
  EXPECT_GE(choices->total().accuracy(), 0.95);
}

}  // namespace
}  // namespace bifocal::eval
