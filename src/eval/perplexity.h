// Perplexity of a text: exp of the mean negative log-likelihood (nats) of its tokens, each given the tokens
// before it, in sliding windows.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "eval/generator.h"

namespace bifocal::eval {

struct PerplexityOptions {
  int64_t context = 1024;  // tokens of a window
  int64_t stride = 512;    // tokens from a window's begin to the next one's
  int parallel = 64;       // windows asked for at a time
  std::function<void(uint64_t windows)> on_batch;
};

// Tokens [begin, end) of the text, of which [first_scored, end) count.
struct Window {
  int64_t begin = 0;
  int64_t end = 0;
  int64_t first_scored = 0;
};
// Windows begin at multiples of stride, the last one ends with the text. A token counts in the first window
// that has a token before it there: at least context - stride tokens are before it, or all that there are.
// The text's first token never counts, and where stride is context no window's first one does. 1 <= stride <=
// context, 2 <= context.
std::vector<Window> sliding_windows(int64_t num_tokens, int64_t context, int64_t stride);

struct PerplexityReport {
  int64_t tokens = 0;         // of the text
  int64_t scored_tokens = 0;  // that count
  int64_t windows = 0;
  int64_t computed_tokens = 0;  // of all windows
  double nll = 0;               // sum over the scored tokens
  double latency_s = 0;
  double mean_nll() const { return nll / static_cast<double>(scored_tokens); }
  double perplexity() const;
};

// Errors: invalid_argument for options outside their range or a text of fewer than two tokens; data_loss when
// an answer lacks log-probabilities; the generator's.
Expected<PerplexityReport> run_perplexity(Generator& generator, std::span<const int32_t> token_ids,
                                          const PerplexityOptions& options);
// "Tokens: 1234", "Scored: 1233 in 3 windows", "NLL: 1.2345", "Perplexity: 3.437", "Latency: 1.234 s",
// "Throughput: 5678.901 token/s" (of all windows)
std::string perplexity_text(const PerplexityReport& report);

}  // namespace bifocal::eval
