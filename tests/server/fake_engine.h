// An engine that makes predictable tokens: a request's output can be computed without it.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "engine/engine.h"
#include "server/fake_text.h"
#include "text/incremental_decoder.h"
#include "text/stop_matcher.h"

namespace bifocal::server {

struct FakeEngineOptions {
  std::string script;  // what every choice says before it ends; "": letters without end
  std::chrono::microseconds step_time{0};
  int max_running = 256;
  int max_queued = 256;
  int64_t context_length = 4096;
};

class FakeEngine final : public engine::Engine {
 public:
  explicit FakeEngine(FakeEngineOptions options = {});
  ~FakeEngine() override;

  Status submit(engine::GenerateRequest request, engine::EventSink sink) override;
  bool abort(const std::string& id) override;
  void abort_all() override;
  Status flush_cache() override;
  void begin_drain() override { draining_ = true; }
  bool idle() const override;
  bool failed() const override { return failed_; }
  std::shared_ptr<const engine::EngineStats> stats() const override;
  int64_t max_total_tokens() const override { return 65536; }
  int64_t context_length() const override { return options_.context_length; }
  int64_t max_request_input_tokens() const override { return options_.context_length - 1; }
  const engine::EngineOptions& options() const override { return engine_options_; }
  const model::Model& model() const override;
  std::string memory_plan() const override { return ""; }

  // The next step ends every request with an error, and the engine refuses more.
  void fail();
  // The next event of each live request is an error of its own.
  void fail_requests(Status error);
  void pause(bool paused);  // no steps while paused, but aborts are still obeyed
  // While paused: so many steps, their events delivered when this returns.
  void run_steps(int count);
  // Called by submit() just before it returns, on the caller's thread, when the request may long be running.
  void set_before_submit_returns(std::function<void()> hook);
  void set_script(std::string script);
  uint64_t submitted() const { return submitted_; }
  uint64_t useless_aborts() const { return useless_aborts_; }
  engine::GenerateRequest last_request() const;

  // The letter that choice `choice` of a request says at `position`.
  static char letter(uint64_t seed, int choice, int64_t position);
  static float logprob_of(int32_t id) { return -0.25F - static_cast<float>(id % 16) * 0.125F; }

 private:
  struct Choice {
    int64_t position = 0;
    bool finished = false;
    std::unique_ptr<text::IncrementalDecoder> decoder;
    std::unique_ptr<text::StopMatcher> stops;
  };
  struct Live {
    engine::GenerateRequest request;
    engine::EventSink sink;
    std::string script;
    std::vector<Choice> choices;
    bool aborted = false;
    Status error;
    bool first_event = true;
  };

  Status queue(engine::GenerateRequest request, engine::EventSink sink);
  void run();
  void step(Live& live);
  void say(Live& live, int index);
  void end_all(Live& live, engine::FinishReason reason, Status error);
  void send(Live& live, engine::OutputEvent event);
  void publish();

  const FakeEngineOptions options_;
  engine::EngineOptions engine_options_;
  FakeTokenizer tokenizer_;
  mutable std::mutex mutex_;
  std::condition_variable wake_;
  std::string script_;
  std::vector<std::shared_ptr<Live>> live_;  // running first, then queued
  engine::GenerateRequest last_request_;
  engine::EngineStats counts_;
  std::shared_ptr<const engine::EngineStats> stats_;
  bool stop_ = false;
  bool paused_ = false;
  int steps_to_run_ = 0;
  std::condition_variable steps_done_;
  std::function<void()> before_submit_returns_;
  std::atomic<bool> draining_{false};
  std::atomic<bool> failed_{false};
  std::atomic<uint64_t> submitted_{0};
  std::atomic<uint64_t> useless_aborts_{0};
  std::jthread thread_;
};

}  // namespace bifocal::server
