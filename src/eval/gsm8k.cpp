#include <fmt/format.h>

#include <algorithm>
#include <charconv>

#include "base/clock.h"
#include "base/file.h"
#include "base/json.h"
#include "eval/question_batches.h"

namespace bifocal::eval {
namespace {

constexpr uint64_t kMaxFileBytes = uint64_t{256} << 20;

struct Problem {
  std::string question, answer;
};

Expected<Problem> parse_problem(std::string_view line) {
  BIFOCAL_ASSIGN_OR_RETURN(const JsonValue value, parse_json(line));
  BIFOCAL_ASSIGN_OR_RETURN(const JsonReader reader, JsonReader::open(value));
  BIFOCAL_ASSIGN_OR_RETURN(auto question, reader.get_string("question"));
  BIFOCAL_ASSIGN_OR_RETURN(auto answer, reader.get_string("answer"));
  if (!question || !answer) return invalid_argument("expected the members question and answer");
  return Problem{std::move(*question), std::move(*answer)};
}

// The first `count` lines.
Expected<std::vector<Problem>> read_problems(const std::string& path, size_t count) {
  BIFOCAL_ASSIGN_OR_RETURN(const std::string text, read_file(path, kMaxFileBytes));
  std::vector<Problem> problems;
  std::string_view rest = text;
  for (int number = 1; !rest.empty() && problems.size() < count; ++number) {
    const size_t end = std::min(rest.find('\n'), rest.size());
    const std::string_view line = rest.substr(0, end);
    rest.remove_prefix(std::min(end + 1, rest.size()));
    if (line.empty()) continue;
    auto problem = parse_problem(line);
    if (!problem.ok()) return problem.status().with_context(fmt::format("{}:{}", path, number));
    problems.push_back(std::move(*problem));
  }
  return problems;
}

}  // namespace

std::optional<int64_t> last_number(std::string_view text) {
  std::string digits;
  bool open = false;
  for (const char c : text) {
    if (c == ',') continue;
    const bool digit = c >= '0' && c <= '9';
    if (digit && !open) digits.clear();
    if (digit) digits += c;
    open = digit;
  }
  int64_t value = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
  if (digits.empty() || error != std::errc()) return std::nullopt;
  return value;
}

Expected<AccuracyReport> run_gsm8k(Generator& generator, const std::string& data_path,
                                   const std::string& shots_path, const AccuracyOptions& options) {
  BIFOCAL_ASSIGN_OR_RETURN(const auto shots, read_problems(shots_path.empty() ? data_path : shots_path,
                                                           static_cast<size_t>(options.num_shots)));
  BIFOCAL_ASSIGN_OR_RETURN(const auto problems,
                           read_problems(data_path, static_cast<size_t>(options.num_questions)));
  std::string prefix;
  for (const Problem& shot : shots) {
    prefix += fmt::format("Question: {}\nAnswer: {}\n\n", shot.question, shot.answer);
  }
  std::vector<Query> queries;
  for (const Problem& problem : problems) {
    Query& query = queries.emplace_back();
    query.text = fmt::format("{}Question: {}\nAnswer:", prefix, problem.question);
    query.max_new_tokens = 512;
    query.stop = {"Question", "Assistant:", "<|separator|>"};
  }
  AccuracyReport report;
  const double start_s = SteadyClock::instance().now_s();
  BIFOCAL_ASSIGN_OR_RETURN(const auto answers, ask(generator, queries, options));
  report.latency_s = SteadyClock::instance().now_s() - start_s;
  SubjectScore score;
  score.name = data_path;
  for (size_t i = 0; i < problems.size(); ++i) {
    const auto got = last_number(answers[i].text);
    ++score.total;
    score.invalid += got ? 0 : 1;
    score.correct += got && got == last_number(problems[i].answer) ? 1 : 0;
    report.output_tokens += static_cast<int64_t>(answers[i].token_ids.size());
  }
  report.subjects.push_back(std::move(score));
  return report;
}

std::string gsm8k_text(const AccuracyReport& report) {
  const SubjectScore score = report.total();
  const double invalid =
      score.total == 0 ? 0.0 : static_cast<double>(score.invalid) / static_cast<double>(score.total);
  const double rate =
      report.latency_s > 0 ? static_cast<double>(report.output_tokens) / report.latency_s : 0.0;
  return fmt::format(
      "Accuracy: {:.3f}\nInvalid: {:.3f}\nLatency: {:.3f} s\nOutput throughput: {:.3f} token/s\n",
      score.accuracy(), invalid, report.latency_s, rate);
}

}  // namespace bifocal::eval
