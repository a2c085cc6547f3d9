// bifocal eval: is what comes out right?
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <string_view>
#include <vector>

#include "base/file.h"
#include "base/progress.h"
#include "base/utf8.h"
#include "cli/command.h"
#include "cli/stack.h"
#include "eval/accuracy.h"
#include "eval/determinism.h"
#include "eval/engine_generator.h"
#include "eval/http_generator.h"
#include "eval/perplexity.h"

namespace bifocal::cli {
namespace {

constexpr uint64_t kMaxTextBytes = uint64_t{64} << 20;

// Where the answers come from: a server (--base-url), or the model in this process.
struct Source {
  Stack stack;  // empty for a server
  std::unique_ptr<eval::Generator> generator;
};

Expected<Source> open_source(const Settings& settings) {
  const EvalSettings& s = settings.eval;
  Source source;
  if (s.base_url.empty() == settings.model.model_path.empty()) {
    return invalid_argument("give either --base-url (a server) or --model-path (in this process)");
  }
  if (s.base_url.empty()) {
    BIFOCAL_ASSIGN_OR_RETURN(source.stack, load_stack(settings));
    source.generator = std::make_unique<eval::EngineGenerator>(*source.stack.engine, source.stack.tokenizer);
    return source;
  }
  server::http::ClientOptions options;
  if (!s.api_key.empty()) options.headers.push_back({"Authorization", "Bearer " + s.api_key});
  BIFOCAL_ASSIGN_OR_RETURN(source.generator, eval::HttpGenerator::create(s.base_url, std::move(options)));
  return source;
}

eval::AccuracyOptions accuracy_options(const EvalSettings& s, Progress& progress) {
  eval::AccuracyOptions options;
  options.num_shots = static_cast<int>(s.num_shots);
  options.num_questions = static_cast<int>(s.num_questions);
  options.parallel = static_cast<int>(s.parallel);
  options.on_batch = [&progress, answered = uint64_t{0}](uint64_t now) mutable {
    progress.advance(now - answered);
    answered = now;
  };
  return options;
}

Status check_accuracy(const eval::AccuracyReport& report, double min_accuracy) {
  const double accuracy = report.total().accuracy();
  if (accuracy >= min_accuracy) return {};
  return internal_error(fmt::format("accuracy {:.3f} is below --min-accuracy {:g}", accuracy, min_accuracy));
}

}  // namespace

Status run_eval_gsm8k(const Settings& settings) {
  const EvalSettings& s = settings.eval;
  BIFOCAL_ASSIGN_OR_RETURN(const Source source, open_source(settings));
  Progress progress("gsm8k", static_cast<uint64_t>(s.num_questions), "questions");
  BIFOCAL_ASSIGN_OR_RETURN(
      const auto report,
      eval::run_gsm8k(*source.generator, s.gsm8k_path, s.gsm8k_shots_path, accuracy_options(s, progress)));
  progress.finish();
  fmt::print("{}", eval::gsm8k_text(report));
  return check_accuracy(report, s.min_accuracy);
}

Status run_eval_mmlu(const Settings& settings) {
  const EvalSettings& s = settings.eval;
  BIFOCAL_ASSIGN_OR_RETURN(const Source source, open_source(settings));
  Progress progress("mmlu", static_cast<uint64_t>(s.num_subjects * s.num_questions), "questions");
  BIFOCAL_ASSIGN_OR_RETURN(
      const auto report, eval::run_mmlu(*source.generator, s.mmlu_directory, static_cast<int>(s.num_subjects),
                                        accuracy_options(s, progress)));
  progress.finish();
  fmt::print("{}", eval::mmlu_text(report));
  return check_accuracy(report, s.min_accuracy);
}

Status run_eval_perplexity(const Settings& settings) {
  const EvalSettings& s = settings.eval;
  if (s.text_path.empty()) return invalid_argument("--file: give the text to read");
  BIFOCAL_ASSIGN_OR_RETURN(const std::string text, read_file(s.text_path, kMaxTextBytes));
  if (!is_valid_utf8(text)) return invalid_argument(s.text_path + ": not valid UTF-8");
  BIFOCAL_ASSIGN_OR_RETURN(const Source source, open_source(settings));
  BIFOCAL_ASSIGN_OR_RETURN(const auto token_ids, source.generator->encode(text));
  const auto num_tokens = static_cast<int64_t>(token_ids.size());
  eval::PerplexityOptions options;
  options.context = s.window_tokens;
  options.stride = s.window_stride;
  options.parallel = static_cast<int>(s.parallel);
  Progress progress("perplexity", static_cast<uint64_t>(num_tokens / s.window_stride), "windows");
  options.on_batch = [&progress, done = uint64_t{0}](uint64_t now) mutable {
    progress.advance(now - done);
    done = now;
  };
  BIFOCAL_ASSIGN_OR_RETURN(const auto report, eval::run_perplexity(*source.generator, token_ids, options));
  progress.finish();
  fmt::print("{}", eval::perplexity_text(report));
  return {};
}

Status run_eval_determinism(const Settings& settings) {
  const EvalSettings& s = settings.eval;
  std::vector<eval::DeterminismMode> modes;
  for (const std::string& name : s.test_modes) {
    const auto mode = eval::parse_determinism_mode(name);
    if (!mode.ok()) return mode.status().with_context("--test-mode");
    modes.push_back(*mode);
  }
  eval::DeterminismOptions options;
  options.num_trials = static_cast<int>(s.n_trials);
  options.num_start = static_cast<int>(s.n_start);
  options.temperature = s.temperature;
  options.sampling_seed = static_cast<uint64_t>(s.sampling_seed);
  options.max_new_tokens = s.max_new_tokens;
  options.frequency_penalty = s.frequency_penalty;
  options.presence_penalty = s.presence_penalty;
  options.num_mates = static_cast<int>(s.batch_mates);

  BIFOCAL_ASSIGN_OR_RETURN(const Source source, open_source(settings));
  std::vector<std::string_view> differing, unsampled;
  for (const eval::DeterminismMode mode : modes) {
    Progress progress(std::string(to_string(mode)), static_cast<uint64_t>(s.n_trials), "batches");
    options.on_trial = [&](int, int) { progress.advance(1); };
    BIFOCAL_ASSIGN_OR_RETURN(const auto report, eval::run_determinism(*source.generator, mode, options));
    progress.finish();
    fmt::print("{} mode\n{}\n", to_string(mode), report.text());
    if (report.deterministic()) continue;
    (report.differs() ? differing : unsampled).push_back(to_string(mode));
  }
  if (!differing.empty()) {
    return internal_error(fmt::format("not deterministic: the same prompt got different answers in mode {}",
                                      fmt::join(differing, ", ")));
  }
  if (!unsampled.empty()) {
    return invalid_argument(
        fmt::format("--n-trials {}: a prompt of mode {} was never sampled; give more trials", s.n_trials,
                    fmt::join(unsampled, ", ")));
  }
  return {};
}

}  // namespace bifocal::cli
