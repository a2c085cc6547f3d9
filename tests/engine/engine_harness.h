// An engine over the fake model, and requests for it.
#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <utility>
#include <vector>

#include "engine/collector.h"
#include "engine/engine.h"
#include "engine/fake_model.h"

namespace bifocal::engine {

inline EngineOptions small_options() {
  EngineOptions options;
  options.page_size = 4;
  options.max_total_tokens = 1024;
  options.chunked_prefill_size = 32;
  options.max_running_requests = 16;
  options.max_queued_requests = 64;
  options.deterministic = true;
  options.pool = std::make_shared<ThreadPool>(2);
  return options;
}

// Waits until the loop has seen that nothing is left.
inline bool wait_idle(const Engine& engine) {
  for (int i = 0; i < 10'000; ++i) {
    const auto stats = engine.stats();
    if (engine.idle() && stats->running_requests == 0 && stats->queued_requests == 0) return true;
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  return false;
}

inline std::shared_ptr<Collector> submit(Engine& engine, GenerateRequest request) {
  auto collector = Collector::make(request.sampling.n);
  const Status status = engine.submit(std::move(request), collector->sink());
  EXPECT_TRUE(status.ok()) << status.message();
  return collector;
}
inline Collector::Output generate(Engine& engine, GenerateRequest request) {
  auto collector = submit(engine, std::move(request));
  EXPECT_TRUE(collector->wait());
  EXPECT_TRUE(collector->complaints().empty());
  return collector->output();
}

struct FakeEngine {
  explicit FakeEngine(EngineOptions options = small_options(), bool with_tokenizer = true,
                      std::array<int, 2> windows = {}) {
    auto fake = std::make_unique<FakeModel>(options.kv_dtype, options.page_size, options.pool, 512, windows);
    model = fake.get();
    if (with_tokenizer) tokenizer = std::make_shared<FakeTokenizer>();
    auto created = Engine::create(std::move(fake), tokenizer, options);
    EXPECT_TRUE(created.ok()) << created.status().message();
    engine = std::move(*created);
  }

  std::shared_ptr<Collector> submit(GenerateRequest request) {
    return engine::submit(*engine, std::move(request));
  }
  Collector::Output generate(GenerateRequest request) {
    return engine::generate(*engine, std::move(request));
  }
  bool wait_idle() const { return engine::wait_idle(*engine); }

  FakeModel* model = nullptr;
  std::shared_ptr<FakeTokenizer> tokenizer;
  std::unique_ptr<Engine> engine;
};

inline GenerateRequest greedy_request(std::string id, std::vector<int32_t> prompt, int64_t max_new_tokens) {
  GenerateRequest request;
  request.id = std::move(id);
  request.prompt_ids = std::move(prompt);
  request.sampling.temperature = 0;
  request.sampling.max_new_tokens = max_new_tokens;
  request.sampling.ignore_eos = true;
  return request;
}

// Holds the model's forward pass until it is opened.
class Gate {
 public:
  void open() {
    {
      std::lock_guard lock(mutex_);
      open_ = true;
    }
    changed_.notify_all();
  }
  void pass() {
    std::unique_lock lock(mutex_);
    ++waiting_;
    changed_.notify_all();
    changed_.wait(lock, [this] { return open_; });
    --waiting_;
  }
  void wait_for_visitor() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return waiting_ > 0; });
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  bool open_ = false;
  int waiting_ = 0;
};

}  // namespace bifocal::engine
