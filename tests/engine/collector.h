// What a client of the engine sees: collects events, and notices those that should not have come.
#pragma once

#include <chrono>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "engine/request.h"

namespace bifocal::engine {

class Collector : public std::enable_shared_from_this<Collector> {
 public:
  struct Output {
    std::vector<int32_t> tokens;
    std::vector<OutputToken> details;
    std::string text;
    OutputEvent last;  // the one that finished it
    int num_events = 0;
  };

  explicit Collector(int num_choices) : outputs_(static_cast<size_t>(num_choices)), open_(num_choices) {}
  static std::shared_ptr<Collector> make(int num_choices = 1) {
    return std::make_shared<Collector>(num_choices);
  }

  EventSink sink() {
    return [self = shared_from_this()](OutputEvent event) { self->on_event(std::move(event)); };
  }

  // False when it takes longer than a test may.
  bool wait() {
    std::unique_lock lock(mutex_);
    return changed_.wait_for(lock, std::chrono::seconds(60), [this] { return open_ == 0; });
  }
  bool wait_tokens(size_t count, int choice = 0) {
    std::unique_lock lock(mutex_);
    return changed_.wait_for(lock, std::chrono::seconds(60), [&] {
      return open_ == 0 || outputs_[static_cast<size_t>(choice)].tokens.size() >= count;
    });
  }
  bool finished() const {
    std::lock_guard lock(mutex_);
    return open_ == 0;
  }
  Output output(int choice = 0) const {
    std::lock_guard lock(mutex_);
    return outputs_[static_cast<size_t>(choice)];
  }
  std::vector<std::optional<OutputToken>> prompt_logprobs() const {
    std::lock_guard lock(mutex_);
    return prompt_logprobs_;
  }
  // Broken promises of the engine: events after the last one, totals that don't add up.
  std::vector<std::string> complaints() const {
    std::lock_guard lock(mutex_);
    return complaints_;
  }

 private:
  void on_event(OutputEvent event) {
    std::lock_guard lock(mutex_);
    Output& output = outputs_.at(static_cast<size_t>(event.choice));
    if (output.last.finish != FinishReason::none) complaints_.emplace_back("an event after the last one");
    ++output.num_events;
    for (const OutputToken& token : event.tokens) {
      output.tokens.push_back(token.id);
      output.details.push_back(token);
    }
    output.text += event.text;
    if (!event.prompt_logprobs.empty()) {
      if (event.choice != 0 || output.num_events != 1)
        complaints_.emplace_back("prompt logprobs in a later event");
      prompt_logprobs_ = event.prompt_logprobs;
    }
    if (event.completion_tokens != static_cast<int64_t>(output.tokens.size())) {
      complaints_.emplace_back("completion_tokens is not the number of tokens");
    }
    if (event.finish != FinishReason::none) --open_;
    output.last = std::move(event);
    changed_.notify_all();
  }

  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<Output> outputs_;
  std::vector<std::optional<OutputToken>> prompt_logprobs_;
  std::vector<std::string> complaints_;
  int open_;
};

}  // namespace bifocal::engine
