#include "cli/console.h"

#include <fmt/format.h>

#include <condition_variable>
#include <csignal>
#include <deque>
#include <mutex>

#include "base/clock.h"

namespace bifocal::cli {
namespace {

volatile std::sig_atomic_t g_interrupted = 0;

// While alive, SIGINT sets a flag instead of ending the process.
class InterruptScope {
 public:
  InterruptScope() {
    g_interrupted = 0;
    struct sigaction action {};
    action.sa_handler = [](int) { g_interrupted = 1; };
    ::sigaction(SIGINT, &action, &previous_);
  }
  ~InterruptScope() { ::sigaction(SIGINT, &previous_, nullptr); }
  InterruptScope(const InterruptScope&) = delete;
  InterruptScope& operator=(const InterruptScope&) = delete;

 private:
  struct sigaction previous_ {};
};

// Events cross from the engine's thread to the terminal's.
struct Mailbox {
  std::mutex mutex;
  std::condition_variable arrived;
  std::deque<engine::OutputEvent> events;
};

std::string backend_of(const engine::EngineStats& stats, std::string_view phase) {
  for (const auto& use : stats.attention) {
    if (use.phase == phase) return use.backend;
  }
  return "none";
}

}  // namespace

Expected<Completion> run_to_completion(engine::Engine& engine, engine::GenerateRequest request,
                                       const std::function<void(const std::string&)>& on_text) {
  const InterruptScope interrupt;
  auto mailbox = std::make_shared<Mailbox>();
  const std::string id = request.id;
  const Clock& clock = SteadyClock::instance();
  const double submitted_s = clock.now_s();
  BIFOCAL_RETURN_IF_ERROR(engine.submit(std::move(request), [mailbox](engine::OutputEvent event) {
    const std::lock_guard lock(mailbox->mutex);
    mailbox->events.push_back(std::move(event));
    mailbox->arrived.notify_one();
  }));
  Completion completion;
  double first_s = 0;
  bool aborted = false;
  while (completion.finish == engine::FinishReason::none) {
    engine::OutputEvent event;
    {
      std::unique_lock lock(mailbox->mutex);
      while (mailbox->events.empty()) {
        mailbox->arrived.wait_for(lock, std::chrono::milliseconds(50));
        if (g_interrupted != 0 && !aborted) {
          aborted = true;
          lock.unlock();
          engine.abort(id);
          lock.lock();
        }
      }
      event = std::move(mailbox->events.front());
      mailbox->events.pop_front();
    }
    if (!event.tokens.empty() && first_s == 0) first_s = clock.now_s();
    if (!event.text.empty()) on_text(event.text);
    completion.text += event.text;
    completion.finish = event.finish;
    completion.prompt_tokens = event.prompt_tokens;
    completion.cached_tokens = event.cached_tokens;
    completion.completion_tokens = event.completion_tokens;
    if (event.finish == engine::FinishReason::error) return event.error;
  }
  const double ended_s = clock.now_s();
  completion.first_token_s = first_s == 0 ? 0 : first_s - submitted_s;
  completion.decode_s = first_s == 0 ? 0 : ended_s - first_s;
  return completion;
}

std::string summary_line(const Completion& completion, const engine::EngineStats& stats) {
  const double rate = completion.completion_tokens > 1 && completion.decode_s > 0
                          ? static_cast<double>(completion.completion_tokens - 1) / completion.decode_s
                          : 0;
  return fmt::format(
      "{} prompt tokens ({} cached), {} tokens, first after {:.0f} ms, then {:.0f} tokens/s; prefill by {}, "
      "decode by {}",
      completion.prompt_tokens, completion.cached_tokens, completion.completion_tokens,
      completion.first_token_s * 1e3, rate, backend_of(stats, "prefill"), backend_of(stats, "decode"));
}

engine::SamplingParams default_sampling(const weights::ModelConfig& config) {
  const weights::GenerationConfig& model = config.generation;
  engine::SamplingParams params;
  params.temperature = model.temperature.value_or(params.temperature);
  if (model.do_sample && !*model.do_sample) params.temperature = 0;
  params.top_p = model.top_p.value_or(params.top_p);
  if (model.top_k && *model.top_k > 0) params.top_k = static_cast<int>(*model.top_k);
  params.min_p = model.min_p.value_or(params.min_p);
  params.repetition_penalty = model.repetition_penalty.value_or(params.repetition_penalty);
  return params;
}

}  // namespace bifocal::cli
