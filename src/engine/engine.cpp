#include "engine/engine.h"

#include <fmt/format.h>

#include <algorithm>
#include <thread>
#include <utility>

#include "base/log.h"
#include "engine/engine_loop.h"
#include "engine/engine_plan.h"

namespace bifocal::engine {
namespace {

constexpr int kMaxTopLogprobs = 1000;

class EngineImpl final : public Engine {
 public:
  EngineImpl(EngineParts parts, std::shared_ptr<const text::Tokenizer> tokenizer, const EnginePlan& plan)
      : tokenizer_(std::move(tokenizer)),
        options_(plan.options),
        memory_plan_(plan.memory.table()),
        loop_(std::move(parts)),
        thread_([this] { loop_.run(); }) {}

  ~EngineImpl() override {
    loop_.inbox().stop();
    thread_.join();
  }

  Status submit(GenerateRequest request, EventSink sink) override;
  bool abort(const std::string& id) override { return loop_.inbox().abort(id); }
  void abort_all() override { loop_.inbox().abort_all(); }
  Status flush_cache() override { return loop_.inbox().flush(); }
  void begin_drain() override { loop_.inbox().begin_drain(); }
  bool idle() const override { return loop_.inbox().idle(); }
  bool failed() const override { return loop_.failed(); }
  std::shared_ptr<const EngineStats> stats() const override { return loop_.stats(); }
  int64_t max_total_tokens() const override { return loop_.kv_tokens(); }
  int64_t context_length() const override { return options_.context_length; }
  int64_t max_request_input_tokens() const override { return options_.context_length - 1; }
  const EngineOptions& options() const override { return options_; }
  const model::Model& model() const override { return loop_.model(); }
  std::string memory_plan() const override { return memory_plan_; }

 private:
  Status check(const GenerateRequest& request) const;
  std::vector<int32_t> end_tokens(const SamplingParams& sampling) const;

  std::shared_ptr<const text::Tokenizer> tokenizer_;
  EngineOptions options_;
  std::string memory_plan_;
  EngineLoop loop_;
  std::thread thread_;
};

Status EngineImpl::check(const GenerateRequest& request) const {
  const int vocab_size = model().spec().vocab_size;
  BIFOCAL_RETURN_IF_ERROR(validate(request.sampling, vocab_size));
  const auto prompt_len = static_cast<int64_t>(request.prompt_ids.size());
  if (prompt_len == 0) return invalid_argument("the prompt is empty");
  for (size_t i = 0; i < request.prompt_ids.size(); ++i) {
    const int32_t id = request.prompt_ids[i];
    if (id < 0 || id >= vocab_size) {
      return invalid_argument(
          fmt::format("prompt token {} is {}, the vocabulary has 0 to {}", i, id, vocab_size - 1));
    }
  }
  const int64_t room = request.sampling.max_new_tokens > 0 ? 1 : 0;
  if (prompt_len + room > options_.context_length) {
    return invalid_argument(fmt::format("the prompt has {} tokens, the context holds {} with the output",
                                        prompt_len, options_.context_length));
  }
  if (tokenizer_ == nullptr && !request.sampling.stop.empty()) {
    return invalid_argument(
        "stop strings need a tokenizer, and the server runs without one; use stop_token_ids");
  }
  if (request.logprob_start_len < -1) {
    return invalid_argument(
        fmt::format("logprob_start_len is {}, expected -1 (output only) or more", request.logprob_start_len));
  }
  if (request.top_logprobs_num < 0 || request.top_logprobs_num > kMaxTopLogprobs) {
    return invalid_argument(
        fmt::format("top_logprobs_num is {}, expected 0 to {}", request.top_logprobs_num, kMaxTopLogprobs));
  }
  return loop_.validate(prompt_len, request.sampling.n);
}

std::vector<int32_t> EngineImpl::end_tokens(const SamplingParams& sampling) const {
  const model::ModelSpec& spec = model().spec();
  std::vector<int32_t> tokens = sampling.stop_token_ids;
  if (!sampling.ignore_eos) tokens.insert(tokens.end(), spec.eos_token_ids.begin(), spec.eos_token_ids.end());
  std::erase_if(tokens, [&](int32_t token) { return token < 0 || token >= spec.vocab_size; });
  std::sort(tokens.begin(), tokens.end());
  tokens.erase(std::unique(tokens.begin(), tokens.end()), tokens.end());
  return tokens;
}

Status EngineImpl::submit(GenerateRequest request, EventSink sink) {
  BIFOCAL_RETURN_IF_ERROR(check(request));
  SamplingParams& sampling = request.sampling;
  const auto prompt_len = static_cast<int64_t>(request.prompt_ids.size());
  sampling.max_new_tokens = std::min(sampling.max_new_tokens, options_.context_length - prompt_len);
  sampling.min_new_tokens = std::min(sampling.min_new_tokens, sampling.max_new_tokens);
  std::vector<int32_t> ends = end_tokens(sampling);
  return loop_.inbox().push(
      std::make_unique<LiveRequest>(std::move(request), std::move(sink), std::move(ends), tokenizer_.get()));
}

// --- start-up ---

// The plan was made for this model, or for the files that it came from.
Status check_plan(const EnginePlan& plan, const model::Model& model) {
  const EngineOptions& o = plan.options;
  const auto classes = model.attention_classes();
  for (size_t c = 0; c < classes.size(); ++c) {
    const attention::AttentionDesc& desc = classes[c];
    if (attention::is_expansion(classes, c)) continue;  // in pages of its own
    if (desc.page_size != o.page_size || desc.kv_dtype != o.kv_dtype) {
      return internal_error(
          fmt::format("the model was loaded for pages of {} tokens in {}, the engine has {} in {}",
                      desc.page_size, to_string(desc.kv_dtype), o.page_size, to_string(o.kv_dtype)));
    }
  }
  const uint64_t workspace_bytes = model.workspace_bytes(plan.limits.max_rows, plan.limits.max_logit_rows);
  if (workspace_bytes != plan.memory.needs.workspace_bytes) {
    return internal_error(fmt::format("the model needs {} bytes of workspace, the plan has {}",
                                      workspace_bytes, plan.memory.needs.workspace_bytes));
  }
  return {};
}

}  // namespace

Expected<std::unique_ptr<Engine>> Engine::create(std::unique_ptr<model::Model> model,
                                                 std::shared_ptr<const text::Tokenizer> tokenizer,
                                                 const EngineOptions& options) {
  BIFOCAL_ASSIGN_OR_RETURN(EnginePlan plan, plan_engine(outline_of(*model), options));
  return create(std::move(model), std::move(tokenizer), std::move(plan));
}

Expected<std::unique_ptr<Engine>> Engine::create(std::unique_ptr<model::Model> model,
                                                 std::shared_ptr<const text::Tokenizer> tokenizer,
                                                 EnginePlan plan) {
  BIFOCAL_RETURN_IF_ERROR(check_plan(plan, *model));
  const EngineOptions& options = plan.options;
  const MemoryPlan& memory = plan.memory;
  if (options.context_length < memory.needs.context_length) {
    log_warn("the context is {} tokens instead of {}: the KV cache holds no more", options.context_length,
             memory.needs.context_length);
  }
  model::ExecutorOptions executor_options;
  executor_options.attention = options.attention;
  executor_options.limits = plan.attention_limits;
  executor_options.max_logit_rows = plan.limits.max_logit_rows;
  executor_options.num_pages = memory.num_pages;
  executor_options.num_window_pages = memory.num_window_pages;
  executor_options.time_idle = options.time_device;
  BIFOCAL_ASSIGN_OR_RETURN(auto executor, model->make_executor(executor_options));
  plan.options.overlap_schedule =
      options.overlap_schedule && executor->max_in_flight() > 1 && executor->num_window_pages() == 0;
  EngineParts parts{std::move(model),
                    options.pool,
                    std::move(executor),
                    plan.scheduler,
                    plan.limits,
                    options.enable_prefix_cache,
                    options.max_queued_requests,
                    options.overlap_schedule};
  return std::unique_ptr<Engine>(std::make_unique<EngineImpl>(std::move(parts), std::move(tokenizer), plan));
}

}  // namespace bifocal::engine
