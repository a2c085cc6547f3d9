#include "eval/engine_generator.h"

#include <fmt/format.h>

#include <condition_variable>
#include <mutex>

namespace bifocal::eval {
namespace {

// What the events of a batch add up to. Shared with the sinks, which may outlive a wait that was given up.
struct Batch {
  explicit Batch(size_t num_queries) : answers(num_queries), open(num_queries) {}

  void take(size_t index, engine::OutputEvent event) {
    const std::lock_guard lock(mutex);
    Answer& answer = answers[index];
    answer.text += event.text;
    for (const auto& token : event.prompt_logprobs) {
      answer.prompt_logprobs.push_back(token ? std::optional<float>(token->logprob) : std::nullopt);
    }
    for (const engine::OutputToken& token : event.tokens) {
      answer.token_ids.push_back(token.id);
      answer.logprobs.push_back(token.logprob);
    }
    if (event.finish == engine::FinishReason::none) return;
    answer.cached_tokens = event.cached_tokens;
    const bool whole =
        event.finish == engine::FinishReason::stop || event.finish == engine::FinishReason::length;
    if (!whole && failure.ok()) failure = event.error;
    if (--open == 0) done.notify_all();
  }

  std::mutex mutex;
  std::condition_variable done;
  std::vector<Answer> answers;
  size_t open;
  Status failure;
};

}  // namespace

Expected<engine::GenerateRequest> EngineGenerator::make_request(const Query& query) {
  engine::GenerateRequest request;
  request.id = fmt::format("eval-{}", num_requests_++);
  request.prompt_ids = query.token_ids;
  if (request.prompt_ids.empty()) {
    BIFOCAL_ASSIGN_OR_RETURN(request.prompt_ids, encode(query.text));
  }
  request.sampling.temperature = query.temperature;
  request.sampling.seed = query.seed;
  request.sampling.max_new_tokens = query.max_new_tokens;
  request.sampling.frequency_penalty = query.frequency_penalty;
  request.sampling.presence_penalty = query.presence_penalty;
  request.sampling.stop = query.stop;
  request.return_logprob = true;
  request.logprob_start_len = query.prompt_logprob_start;
  return request;
}

Expected<std::vector<int32_t>> EngineGenerator::encode(const std::string& text) {
  if (tokenizer_ == nullptr) return invalid_argument("text needs a tokenizer, and there is none");
  return tokenizer_->encode(text);
}

Expected<std::vector<Answer>> EngineGenerator::generate(std::span<const Query> queries) {
  std::vector<engine::GenerateRequest> requests;
  for (const Query& query : queries) {
    BIFOCAL_ASSIGN_OR_RETURN(auto request, make_request(query));
    requests.push_back(std::move(request));
  }
  const auto batch = std::make_shared<Batch>(queries.size());
  for (size_t i = 0; i < requests.size(); ++i) {
    const Status status = engine_.submit(
        std::move(requests[i]), [batch, i](engine::OutputEvent event) { batch->take(i, std::move(event)); });
    if (!status.ok()) {
      engine_.abort_all();
      return status;
    }
  }
  std::unique_lock lock(batch->mutex);
  batch->done.wait(lock, [&] { return batch->open == 0; });
  if (!batch->failure.ok()) return batch->failure;
  return std::move(batch->answers);
}

}  // namespace bifocal::eval
