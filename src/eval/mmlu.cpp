#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <filesystem>

#include "base/clock.h"
#include "eval/csv.h"
#include "eval/question_batches.h"

namespace bifocal::eval {
namespace {

constexpr std::string_view kTestSuffix = "_test.csv";
constexpr size_t kColumns = 6;
// SGLang drops shots while they exceed 1,536 tokens, which English text reaches at about as many bytes.
constexpr size_t kMaxShotBytes = 1536 * 4;

Expected<std::vector<std::string>> list_subjects(const std::string& directory) {
  namespace fs = std::filesystem;
  std::vector<std::string> subjects;
  std::error_code error;
  const std::string tests = directory + "/test";
  for (const auto& entry : fs::directory_iterator(tests, error)) {
    const std::string name = entry.path().filename().string();
    if (name.ends_with(kTestSuffix)) subjects.push_back(name.substr(0, name.size() - kTestSuffix.size()));
  }
  if (error || subjects.empty()) {
    return not_found(fmt::format("{}: no files named SUBJECT{}; expected MMLU's directories dev and test",
                                 tests, kTestSuffix));
  }
  std::sort(subjects.begin(), subjects.end());
  return subjects;
}

using Row = std::vector<std::string>;

Expected<std::vector<Row>> read_rows(const std::string& path, size_t count) {
  BIFOCAL_ASSIGN_OR_RETURN(std::vector<Row> rows, read_csv(path));
  if (rows.size() > count) rows.resize(count);
  for (size_t i = 0; i < rows.size(); ++i) {
    if (rows[i].size() == kColumns) continue;
    return invalid_argument(fmt::format("{}: row {} has {} columns, expected question, A, B, C, D, letter",
                                        path, i + 1, rows[i].size()));
  }
  return rows;
}

std::string question_text(const Row& row) {
  return fmt::format("{}\nA. {}\nB. {}\nC. {}\nD. {}\nAnswer:", row[0], row[1], row[2], row[3], row[4]);
}

std::string spaced(std::string name) {
  std::replace(name.begin(), name.end(), '_', ' ');
  return name;
}

// Header and as many shots as are short enough.
std::string shots_text(const std::string& subject, std::vector<Row> shots) {
  for (;; shots.pop_back()) {
    std::string text = fmt::format("The following are multiple choice questions (with answers) about {}.\n\n",
                                   spaced(subject));
    for (const Row& shot : shots) text += fmt::format("{} {}\n\n", question_text(shot), shot[5]);
    if (text.size() <= kMaxShotBytes || shots.empty()) return text;
  }
}

char first_letter(std::string_view text) {
  const size_t at = text.find_first_not_of(" \t\r\n");
  return at == std::string_view::npos ? '\0' : text[at];
}

}  // namespace

Expected<AccuracyReport> run_mmlu(Generator& generator, const std::string& directory, int num_subjects,
                                  const AccuracyOptions& options) {
  BIFOCAL_ASSIGN_OR_RETURN(std::vector<std::string> subjects, list_subjects(directory));
  if (subjects.size() > static_cast<size_t>(num_subjects)) subjects.resize(static_cast<size_t>(num_subjects));
  AccuracyReport report;
  std::vector<Query> queries;
  std::vector<std::pair<size_t, char>> keys;  // of each query: subject and right letter
  for (const std::string& subject : subjects) {
    std::vector<Row> shots;
    if (options.num_shots > 0) {
      BIFOCAL_ASSIGN_OR_RETURN(shots, read_rows(fmt::format("{}/dev/{}_dev.csv", directory, subject),
                                                static_cast<size_t>(options.num_shots)));
    }
    BIFOCAL_ASSIGN_OR_RETURN(const auto rows,
                             read_rows(fmt::format("{}/test/{}{}", directory, subject, kTestSuffix),
                                       static_cast<size_t>(options.num_questions)));
    const std::string prefix = shots_text(subject, std::move(shots));
    for (const Row& row : rows) {
      Query& query = queries.emplace_back();
      query.text = prefix + question_text(row);
      query.max_new_tokens = 1;
      keys.emplace_back(report.subjects.size(), first_letter(row[5]));
    }
    report.subjects.emplace_back().name = subject;
  }
  const double start_s = SteadyClock::instance().now_s();
  BIFOCAL_ASSIGN_OR_RETURN(const auto answers, ask(generator, queries, options));
  report.latency_s = SteadyClock::instance().now_s() - start_s;
  for (size_t i = 0; i < answers.size(); ++i) {
    SubjectScore& score = report.subjects[keys[i].first];
    ++score.total;
    score.correct += first_letter(answers[i].text) == keys[i].second ? 1 : 0;
    report.output_tokens += static_cast<int64_t>(answers[i].token_ids.size());
  }
  return report;
}

std::string mmlu_text(const AccuracyReport& report) {
  std::string out;
  for (const SubjectScore& score : report.subjects) {
    out += fmt::format("subject: {}, #q:{}, acc: {:.3f}\n", score.name, score.total, score.accuracy());
  }
  return out + fmt::format("Total latency: {:.3f}\nAverage accuracy: {:.3f}\n", report.latency_s,
                           report.total().accuracy());
}

}  // namespace bifocal::eval
