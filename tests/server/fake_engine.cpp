#include "server/fake_engine.h"

#include <algorithm>

#include "base/check.h"
#include "base/clock.h"
#include "base/hash.h"

namespace bifocal::server {

FakeEngine::FakeEngine(FakeEngineOptions options) : options_(std::move(options)), script_(options_.script) {
  engine_options_.page_size = 16;
  engine_options_.max_queued_requests = options_.max_queued;
  {
    std::lock_guard lock(mutex_);
    publish();
  }
  thread_ = std::jthread([this] { run(); });
}

FakeEngine::~FakeEngine() {
  abort_all();
  {
    std::lock_guard lock(mutex_);
    stop_ = true;
    paused_ = false;
  }
  wake_.notify_all();
}

char FakeEngine::letter(uint64_t seed, int choice, int64_t position) {
  const uint64_t bits =
      hash_combine(hash_combine(seed, static_cast<uint64_t>(choice)), static_cast<uint64_t>(position));
  return static_cast<char>('a' + bits % 26);
}

Status FakeEngine::submit(engine::GenerateRequest request, engine::EventSink sink) {
  std::function<void()> before_return;
  Status status;
  {
    std::lock_guard lock(mutex_);
    status = queue(std::move(request), std::move(sink));
    before_return = before_submit_returns_;
  }
  if (before_return) before_return();
  return status;
}

Status FakeEngine::queue(engine::GenerateRequest request, engine::EventSink sink) {
  BIFOCAL_CHECK(!request.prompt_ids.empty());
  BIFOCAL_CHECK(static_cast<int64_t>(request.prompt_ids.size()) < options_.context_length);
  for (int32_t id : request.prompt_ids) BIFOCAL_CHECK(id >= 0 && id < FakeTokenizer::kVocab);
  if (failed_ || draining_) return unavailable("the engine takes no more requests");
  if (static_cast<int>(live_.size()) >= options_.max_running + options_.max_queued) {
    return resource_exhausted("the queue is full");
  }
  for (const auto& live : live_) BIFOCAL_CHECK_NE(live->request.id, request.id);
  auto live = std::make_shared<Live>();
  last_request_ = request;
  live->choices.resize(static_cast<size_t>(request.sampling.n));
  for (Choice& choice : live->choices) {
    choice.decoder =
        std::make_unique<text::IncrementalDecoder>(tokenizer_, request.sampling.skip_special_tokens);
    choice.stops = std::make_unique<text::StopMatcher>(request.sampling.stop, request.sampling.no_stop_trim);
  }
  live->request = std::move(request);
  live->sink = std::move(sink);
  live->script = script_;
  live_.push_back(std::move(live));
  ++submitted_;
  counts_.prompt_tokens += last_request_.prompt_ids.size();
  publish();
  wake_.notify_all();
  return {};
}

bool FakeEngine::abort(const std::string& id) {
  std::lock_guard lock(mutex_);
  for (const auto& live : live_) {
    if (live->request.id != id) continue;
    live->aborted = true;
    wake_.notify_all();
    return true;
  }
  ++useless_aborts_;
  return false;
}

void FakeEngine::abort_all() {
  std::lock_guard lock(mutex_);
  for (const auto& live : live_) live->aborted = true;
  wake_.notify_all();
}

Status FakeEngine::flush_cache() {
  std::lock_guard lock(mutex_);
  return live_.empty() ? Status() : resource_exhausted("requests are running");
}

bool FakeEngine::idle() const {
  std::lock_guard lock(mutex_);
  return live_.empty();
}

std::shared_ptr<const engine::EngineStats> FakeEngine::stats() const {
  std::lock_guard lock(mutex_);
  return stats_;
}

const model::Model& FakeEngine::model() const {
  BIFOCAL_CHECK(!"the server never looks at the model");
  std::abort();
}

void FakeEngine::fail() {
  std::lock_guard lock(mutex_);
  failed_ = true;
  wake_.notify_all();
}

void FakeEngine::fail_requests(Status error) {
  std::lock_guard lock(mutex_);
  for (const auto& live : live_) live->error = error;
}

void FakeEngine::pause(bool paused) {
  std::lock_guard lock(mutex_);
  paused_ = paused;
  wake_.notify_all();
}

void FakeEngine::run_steps(int count) {
  std::unique_lock lock(mutex_);
  BIFOCAL_CHECK(paused_);
  steps_to_run_ = count;
  wake_.notify_all();
  steps_done_.wait(lock, [&] { return steps_to_run_ == 0; });
}

void FakeEngine::set_before_submit_returns(std::function<void()> hook) {
  std::lock_guard lock(mutex_);
  before_submit_returns_ = std::move(hook);
}

void FakeEngine::set_script(std::string script) {
  std::lock_guard lock(mutex_);
  script_ = std::move(script);
}

engine::GenerateRequest FakeEngine::last_request() const {
  std::lock_guard lock(mutex_);
  return last_request_;
}

void FakeEngine::publish() {
  const int live = static_cast<int>(live_.size());
  counts_.running_requests = std::min(live, options_.max_running);
  counts_.queued_requests = live - counts_.running_requests;
  counts_.total_pages = 4096;
  counts_.free_pages = 4096 - counts_.running_requests;
  counts_.used_tokens = counts_.running_requests;
  counts_.last_step_ns = SteadyClock::instance().now_ns();
  counts_.attention = {{"gqa_h4_kv2_d64_f32_p16", "prefill", "tiled", "built-in rule", counts_.steps,
                        counts_.steps, counts_.prompt_tokens, 0.5},
                       {"gqa_h4_kv2_d64_f32_p16", "decode", "streaming", "--decode-attention-backend",
                        counts_.steps, counts_.steps, counts_.generated_tokens, 0.25}};
  stats_ = std::make_shared<engine::EngineStats>(counts_);
}

void FakeEngine::run() {
  for (;;) {
    std::vector<std::shared_ptr<Live>> running;
    bool counted = false;  // against steps_to_run_
    {
      std::unique_lock lock(mutex_);
      const auto steps = [&] { return paused_ ? steps_to_run_ > 0 : !live_.empty(); };
      const auto something = [&] {
        const bool aborts = std::any_of(live_.begin(), live_.end(), [](const auto& l) { return l->aborted; });
        return aborts || (failed_ && !live_.empty()) || steps();
      };
      wake_.wait(lock, [&] { return stop_ || something(); });
      if (stop_ && live_.empty()) return;
      counted = paused_ && steps();
      for (size_t i = 0; i < live_.size(); ++i) {
        const bool admitted = steps() && static_cast<int>(i) < options_.max_running;
        if (admitted || live_[i]->aborted || failed_) running.push_back(live_[i]);
      }
    }
    if (options_.step_time.count() > 0) std::this_thread::sleep_for(options_.step_time);
    for (const auto& live : running) step(*live);
    std::lock_guard lock(mutex_);
    ++counts_.steps;
    std::erase_if(live_, [&](const auto& live) {
      const bool over =
          std::all_of(live->choices.begin(), live->choices.end(), [](const Choice& c) { return c.finished; });
      if (over) ++(live->aborted ? counts_.aborted_requests : counts_.finished_requests);
      return over;
    });
    if (counted && --steps_to_run_ == 0) steps_done_.notify_all();
    publish();
  }
}

void FakeEngine::step(Live& live) {
  bool aborted = false;
  Status error;
  {
    std::lock_guard lock(mutex_);
    aborted = live.aborted;
    error = live.error;
  }
  if (aborted) return end_all(live, engine::FinishReason::abort, Status(StatusCode::cancelled, "aborted"));
  if (failed_) return end_all(live, engine::FinishReason::error, unavailable("the engine has failed"));
  if (!error.ok()) return end_all(live, engine::FinishReason::error, error);
  for (size_t i = 0; i < live.choices.size(); ++i) {
    if (!live.choices[i].finished) say(live, static_cast<int>(i));
  }
}

void FakeEngine::end_all(Live& live, engine::FinishReason reason, Status error) {
  for (size_t i = 0; i < live.choices.size(); ++i) {
    if (live.choices[i].finished) continue;
    live.choices[i].finished = true;
    engine::OutputEvent event;
    event.choice = static_cast<int>(i);
    event.finish = reason;
    event.error = error;
    send(live, std::move(event));
  }
}

void FakeEngine::send(Live& live, engine::OutputEvent event) {
  event.prompt_tokens = static_cast<int64_t>(live.request.prompt_ids.size());
  event.cached_tokens = event.prompt_tokens / 16 * 16;
  event.completion_tokens = live.choices[static_cast<size_t>(event.choice)].position;
  const auto start = static_cast<size_t>(std::max<int64_t>(0, live.request.logprob_start_len));
  if (live.first_event && live.request.return_logprob && live.request.logprob_start_len >= 0) {
    for (size_t i = start; i < live.request.prompt_ids.size(); ++i) {
      if (i == 0) {
        event.prompt_logprobs.emplace_back();
        continue;
      }
      engine::OutputToken token;
      token.id = live.request.prompt_ids[i];
      token.logprob = logprob_of(token.id);
      for (int k = 0; k < live.request.top_logprobs_num; ++k)
        token.top_logprobs.push_back({-0.5F - static_cast<float>(k), 65 + k});
      event.prompt_logprobs.emplace_back(token);
    }
  }
  live.first_event = false;
  live.sink(std::move(event));
}

void FakeEngine::say(Live& live, int index) {
  Choice& choice = live.choices[static_cast<size_t>(index)];
  const engine::SamplingParams& params = live.request.sampling;
  engine::OutputEvent event;
  event.choice = index;
  engine::OutputToken token;
  const auto position = static_cast<size_t>(choice.position);
  if (live.script.empty()) {
    token.id = letter(params.seed, index, choice.position);
  } else if (position < live.script.size()) {
    token.id = static_cast<unsigned char>(live.script[position]);
  } else {
    token.id = FakeTokenizer::kEos;
  }
  if (live.request.return_logprob) {
    token.logprob = logprob_of(token.id);
    for (int k = 0; k < live.request.top_logprobs_num; ++k)
      token.top_logprobs.push_back({-0.5F - static_cast<float>(k), 200 + k});
  }
  event.tokens.push_back(token);
  ++choice.position;
  {
    std::lock_guard lock(mutex_);
    ++counts_.generated_tokens;
  }
  const bool stop_token = std::find(params.stop_token_ids.begin(), params.stop_token_ids.end(), token.id) !=
                          params.stop_token_ids.end();
  const bool eos = (token.id == FakeTokenizer::kEos && !params.ignore_eos) || stop_token;
  auto stopped = choice.stops->push(eos ? "" : choice.decoder->push(token.id));
  event.text = std::move(stopped.text);
  if (stopped.matched) {
    event.finish = engine::FinishReason::stop;
    event.matched_string = std::move(stopped.matched);
  } else if (eos) {
    event.finish = engine::FinishReason::stop;
    event.matched_token = token.id;
  } else if (choice.position >= params.max_new_tokens) {
    event.finish = engine::FinishReason::length;
  }
  if (event.finish != engine::FinishReason::none) {
    choice.finished = true;
    if (!event.matched_string) {
      auto rest = choice.stops->push(choice.decoder->finish());
      event.text += rest.text + choice.stops->finish();
    }
  }
  send(live, std::move(event));
}

}  // namespace bifocal::server
