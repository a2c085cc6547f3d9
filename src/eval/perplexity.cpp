#include "eval/perplexity.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "base/clock.h"
namespace bifocal::eval {
namespace {

// From the position before the first that counts: servers leave out the first log-probability they are asked
// for.
Query make_query(std::span<const int32_t> token_ids, const Window& window) {
  Query query;
  query.token_ids.assign(token_ids.begin() + window.begin, token_ids.begin() + window.end);
  query.prompt_logprob_start = window.first_scored - window.begin - 1;
  query.max_new_tokens = 0;
  return query;
}

Expected<double> window_nll(const Window& window, const Answer& answer) {
  const auto num_scored = static_cast<size_t>(window.end - window.first_scored);
  if (answer.prompt_logprobs.size() != num_scored + 1) {
    return data_loss(fmt::format("the window of tokens {} to {}: {} prompt log-probabilities, expected {}",
                                 window.begin, window.end - 1, answer.prompt_logprobs.size(),
                                 num_scored + 1));
  }
  double nll = 0;
  for (size_t i = 1; i <= num_scored; ++i) {
    if (!answer.prompt_logprobs[i]) {
      return data_loss(
          fmt::format("token {} has no log-probability", window.first_scored + static_cast<int64_t>(i) - 1));
    }
    nll -= static_cast<double>(*answer.prompt_logprobs[i]);
  }
  return nll;
}

Status check(const PerplexityOptions& options, size_t num_tokens) {
  if (options.context < 2) {
    return invalid_argument(fmt::format("a window has {} tokens, expected at least 2", options.context));
  }
  if (options.stride < 1 || options.stride > options.context) {
    return invalid_argument(fmt::format("the stride is {}, expected 1 to {}, a window's tokens",
                                        options.stride, options.context));
  }
  if (num_tokens < 2) {
    return invalid_argument(
        fmt::format("the text has {} tokens; nothing is predicted before the second", num_tokens));
  }
  return {};
}

}  // namespace

std::vector<Window> sliding_windows(int64_t num_tokens, int64_t context, int64_t stride) {
  std::vector<Window> windows;
  int64_t scored_end = 0;
  for (int64_t begin = 0; scored_end < num_tokens; begin += stride) {
    const int64_t end = std::min(begin + context, num_tokens);
    const int64_t first_scored = std::max(scored_end, begin + 1);
    if (first_scored < end) windows.push_back({begin, end, first_scored});
    scored_end = end;
  }
  return windows;
}

double PerplexityReport::perplexity() const {
  return std::exp(mean_nll());
}

Expected<PerplexityReport> run_perplexity(Generator& generator, std::span<const int32_t> token_ids,
                                          const PerplexityOptions& options) {
  BIFOCAL_RETURN_IF_ERROR(check(options, token_ids.size()));
  PerplexityReport report;
  report.tokens = static_cast<int64_t>(token_ids.size());
  const std::vector<Window> windows = sliding_windows(report.tokens, options.context, options.stride);
  report.windows = static_cast<int64_t>(windows.size());
  const auto batch_size = static_cast<size_t>(std::max(1, options.parallel));
  const double start_s = SteadyClock::instance().now_s();
  for (size_t first = 0; first < windows.size(); first += batch_size) {
    const auto batch = std::span(windows).subspan(first, std::min(batch_size, windows.size() - first));
    std::vector<Query> queries;
    for (const Window& window : batch) queries.push_back(make_query(token_ids, window));
    BIFOCAL_ASSIGN_OR_RETURN(const auto answers, generator.generate(queries));
    for (size_t i = 0; i < batch.size(); ++i) {
      BIFOCAL_ASSIGN_OR_RETURN(const double nll, window_nll(batch[i], answers[i]));
      report.nll += nll;
      report.scored_tokens += batch[i].end - batch[i].first_scored;
      report.computed_tokens += batch[i].end - batch[i].begin;
    }
    if (options.on_batch) options.on_batch(first + batch.size());
  }
  report.latency_s = SteadyClock::instance().now_s() - start_s;
  return report;
}

std::string perplexity_text(const PerplexityReport& report) {
  return fmt::format(
      "Tokens: {}\nScored: {} in {} windows\nNLL: {:.4f}\nPerplexity: {:.3f}\nLatency: {:.3f} s\n"
      "Throughput: {:.3f} token/s\n",
      report.tokens, report.scored_tokens, report.windows, report.mean_nll(), report.perplexity(),
      report.latency_s, static_cast<double>(report.computed_tokens) / report.latency_s);
}

}  // namespace bifocal::eval
