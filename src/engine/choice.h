// One choice of a live request: what it has written, and when it ends.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "engine/request.h"
#include "engine/token_counts.h"
#include "text/incremental_decoder.h"
#include "text/stop_matcher.h"
#include "text/tokenizer.h"

namespace bifocal::engine {

class Choice {
 public:
  // request and end_tokens (sorted) must outlive the choice; tokenizer may be null: then there is no text.
  Choice(const GenerateRequest& request, std::span<const int32_t> end_tokens,
         const text::Tokenizer* tokenizer, int index);

  // A chosen token. The event's finish says whether it was the last: an end token, a stop string, or
  // max_new_tokens, in this order of precedence.
  OutputEvent take(OutputToken token);
  // Ends it for another reason; text that was held back comes out unless something went wrong.
  OutputEvent end(FinishReason reason, Status error = {});

  int index() const { return index_; }
  bool finished() const { return finished_; }
  int64_t num_tokens() const { return num_tokens_; }
  uint64_t seed() const { return seed_; }
  // Null when no penalty needs them.
  const TokenCounts* counts() const { return counts_ ? &*counts_ : nullptr; }
  // For the token behind num_tokens of the output: end tokens while fewer than min_new_tokens are written.
  std::span<const int32_t> banned(int64_t num_tokens) const;

 private:
  std::string flush();

  const GenerateRequest* request_;
  std::span<const int32_t> end_tokens_;
  int index_;
  uint64_t seed_;
  int64_t num_tokens_ = 0;
  bool finished_ = false;
  std::optional<TokenCounts> counts_;
  std::optional<text::IncrementalDecoder> decoder_;
  std::optional<text::StopMatcher> matcher_;
};

}  // namespace bifocal::engine
