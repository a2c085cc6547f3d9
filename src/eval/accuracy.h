// Accuracy on question sets in the files and with the prompts, shots, stops and printed lines that SGLang's
// benchmark/gsm8k and benchmark/mmlu use.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "eval/generator.h"

namespace bifocal::eval {

struct AccuracyOptions {
  int num_shots = 5;
  int num_questions = 200;  // of a file; fewer where it has fewer
  int parallel = 64;        // queries of a batch
  std::function<void(uint64_t answered)> on_batch;
};

// A file's or a subject's questions.
struct SubjectScore {
  std::string name;
  int64_t total = 0;
  int64_t correct = 0;
  int64_t invalid = 0;  // answers without a number
  double accuracy() const;
};

struct AccuracyReport {
  std::vector<SubjectScore> subjects;
  double latency_s = 0;
  int64_t output_tokens = 0;
  SubjectScore total() const;
};

// Word problems in GSM8K's JSON lines, {"question": ..., "answer": "... #### 12"}. The shots are the first
// lines of shots_path; where that is empty of data_path itself, as in SGLang. Errors: not_found,
// invalid_argument for a broken line, with its number; the generator's.
Expected<AccuracyReport> run_gsm8k(Generator& generator, const std::string& data_path,
                                   const std::string& shots_path, const AccuracyOptions& options);
// "Accuracy: 0.998", "Invalid: 0.000", "Latency: 12.345 s", "Output throughput: 678.901 token/s"
std::string gsm8k_text(const AccuracyReport& report);
// The last run of digits once commas are gone; nullopt where there is none.
std::optional<int64_t> last_number(std::string_view text);

// Multiple choice in MMLU's directory: dev/SUBJECT_dev.csv for shots, test/SUBJECT_test.csv, rows of
// question, A, B, C, D, letter. At most num_subjects, by name.
Expected<AccuracyReport> run_mmlu(Generator& generator, const std::string& directory, int num_subjects,
                                  const AccuracyOptions& options);
// "subject: x, #q:60, acc: 0.983" for each, "Total latency: 1.234", "Average accuracy: 0.987"
std::string mmlu_text(const AccuracyReport& report);

}  // namespace bifocal::eval
