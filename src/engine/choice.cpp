#include "engine/choice.h"

#include <algorithm>
#include <utility>

#include "engine/sampler.h"

namespace bifocal::engine {

Choice::Choice(const GenerateRequest& request, std::span<const int32_t> end_tokens,
               const text::Tokenizer* tokenizer, int index)
    : request_(&request),
      end_tokens_(end_tokens),
      index_(index),
      seed_(choice_seed(request.sampling.seed, index)) {
  const SamplingParams& sampling = request.sampling;
  if (has_penalties(sampling)) {
    counts_.emplace();
    counts_->add_prompt(request.prompt_ids);
  }
  if (tokenizer != nullptr) {
    decoder_.emplace(*tokenizer, sampling.skip_special_tokens);
    matcher_.emplace(sampling.stop, sampling.no_stop_trim);
  }
}

std::span<const int32_t> Choice::banned(int64_t num_tokens) const {
  return num_tokens < request_->sampling.min_new_tokens ? end_tokens_ : std::span<const int32_t>();
}

OutputEvent Choice::take(OutputToken token) {
  const SamplingParams& sampling = request_->sampling;
  const int32_t id = token.id;
  OutputEvent event;
  event.choice = index_;
  event.tokens.push_back(std::move(token));
  ++num_tokens_;
  if (counts_) counts_->add_output(id);

  const bool end_token = std::binary_search(end_tokens_.begin(), end_tokens_.end(), id);
  if (decoder_ && (!end_token || sampling.no_stop_trim)) {
    text::StopMatcher::Result result = matcher_->push(decoder_->push(id));
    event.text = std::move(result.text);
    if (result.matched && !end_token) {
      event.finish = FinishReason::stop;
      event.matched_string = std::move(result.matched);
    }
  }
  if (end_token) {
    event.finish = FinishReason::stop;
    event.matched_token = id;
  } else if (event.finish == FinishReason::none && num_tokens_ >= sampling.max_new_tokens) {
    event.finish = FinishReason::length;
  }
  const bool last = event.finish != FinishReason::none;
  if (last && !event.matched_string) event.text += flush();
  event.completion_tokens = num_tokens_;
  finished_ = last;
  return event;
}

OutputEvent Choice::end(FinishReason reason, Status error) {
  OutputEvent event;
  event.choice = index_;
  event.finish = reason;
  event.error = std::move(error);
  if (reason != FinishReason::error) event.text = flush();
  event.completion_tokens = num_tokens_;
  finished_ = true;
  return event;
}

std::string Choice::flush() {
  if (!decoder_) return "";
  text::StopMatcher::Result last = matcher_->push(decoder_->finish());
  return last.text + matcher_->finish();
}

}  // namespace bifocal::engine
