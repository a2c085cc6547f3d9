#include "engine/engine.h"

#include <fmt/format.h>

#include <algorithm>
#include <thread>
#include <utility>

#include "base/log.h"
#include "engine/engine_loop.h"
#include "engine/memory_plan.h"

namespace bifocal::engine {
namespace {

constexpr int kMaxTopLogprobs = 1000;
constexpr uint64_t kPromptLogitBytes = uint64_t{64} << 20;  // how much the prompt logprobs of a step may add
constexpr int kMinPromptLogitRows = 16;

class EngineImpl final : public Engine {
 public:
  EngineImpl(EngineParts parts, std::shared_ptr<const text::Tokenizer> tokenizer, EngineOptions options,
             std::string memory_plan)
      : tokenizer_(std::move(tokenizer)),
        options_(std::move(options)),
        memory_plan_(std::move(memory_plan)),
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

Status check_options(const EngineOptions& o, const model::Model& model) {
  const auto want = [](bool ok, const char* name, auto value, const char* expected) {
    return ok ? Status() : invalid_argument(fmt::format("{} is {}, expected {}", name, value, expected));
  };
  BIFOCAL_RETURN_IF_ERROR(
      want(o.page_size >= 1 && o.page_size <= kv::kMaxPageSize, "page_size", o.page_size, "1 to 256"));
  BIFOCAL_RETURN_IF_ERROR(want(o.chunked_prefill_size == -1 || o.chunked_prefill_size >= 1,
                               "chunked_prefill_size", o.chunked_prefill_size,
                               "-1 (whole prompts) or at least 1"));
  BIFOCAL_RETURN_IF_ERROR(
      want(o.max_running_requests >= 1, "max_running_requests", o.max_running_requests, "at least 1"));
  BIFOCAL_RETURN_IF_ERROR(
      want(o.max_queued_requests >= 1, "max_queued_requests", o.max_queued_requests, "at least 1"));
  BIFOCAL_RETURN_IF_ERROR(want(o.mem_fraction_static > 0 && o.mem_fraction_static <= 1, "mem_fraction_static",
                               o.mem_fraction_static, "more than 0, at most 1"));
  BIFOCAL_RETURN_IF_ERROR(want(o.schedule_conservativeness >= 0 && o.schedule_conservativeness <= 10,
                               "schedule_conservativeness", o.schedule_conservativeness, "0 to 10"));
  BIFOCAL_RETURN_IF_ERROR(
      want(o.kv_cache_bytes >= 0, "kv_cache_bytes", o.kv_cache_bytes, "0 (automatic) or more"));
  BIFOCAL_RETURN_IF_ERROR(
      want(o.max_total_tokens >= 0, "max_total_tokens", o.max_total_tokens, "0 (automatic) or more"));
  const int max_positions = model.spec().max_positions;
  if (o.context_length < 0 || o.context_length > max_positions) {
    return invalid_argument(fmt::format(
        "context_length is {}, expected 0 (the model's) to {} (max_position_embeddings of config.json, which "
        "--json-model-override-args can change)",
        o.context_length, max_positions));
  }
  for (const attention::AttentionDesc& desc : model.attention_classes()) {
    if (desc.page_size != o.page_size || desc.kv_dtype != o.kv_dtype) {
      return internal_error(
          fmt::format("the model was loaded for pages of {} tokens in {}, the engine has {} in {}",
                      desc.page_size, to_string(desc.kv_dtype), o.page_size, to_string(o.kv_dtype)));
    }
  }
  return {};
}

SchedulerOptions scheduler_options(const EngineOptions& options, int vocab_size) {
  SchedulerOptions out;
  out.max_running = options.max_running_requests;
  out.split_prompts = options.chunked_prefill_size > 0;
  out.prefill_tokens = out.split_prompts ? options.chunked_prefill_size : options.context_length;
  out.conservativeness = options.schedule_conservativeness;
  const uint64_t rows = kPromptLogitBytes / (static_cast<uint64_t>(vocab_size) * sizeof(float));
  out.max_prompt_logit_rows = static_cast<int>(std::clamp<uint64_t>(
      rows, kMinPromptLogitRows, static_cast<uint64_t>(std::max(kMinPromptLogitRows, out.prefill_tokens))));
  return out;
}

// Prompts and outputs of every class are computed by the same kernels.
bool one_backend(const attention::Router& router) {
  for (size_t c = 0; c < router.num_classes(); ++c) {
    const auto* prefill = router.decide(c, attention::Phase::prefill).backend;
    for (const auto phase : {attention::Phase::decode, attention::Phase::verify}) {
      if (router.decide(c, phase).backend != prefill) return false;
    }
  }
  return true;
}

}  // namespace

Expected<std::unique_ptr<Engine>> Engine::create(std::unique_ptr<model::Model> model,
                                                 std::shared_ptr<const text::Tokenizer> tokenizer,
                                                 const EngineOptions& given) {
  EngineOptions options = given;
  BIFOCAL_RETURN_IF_ERROR(check_options(options, *model));
  const model::ModelSpec& spec = model->spec();
  if (options.context_length == 0) options.context_length = spec.max_positions;
  if (options.pool == nullptr) options.pool = std::make_shared<ThreadPool>(options.num_threads);
  options.num_threads = options.pool->num_threads();
  options.attention.deterministic = options.attention.deterministic || options.deterministic;

  SchedulerOptions scheduler = scheduler_options(options, spec.vocab_size);
  RunnerLimits limits;
  limits.max_sequences = scheduler.max_running;
  limits.max_rows = scheduler.prefill_tokens + scheduler.max_running;
  limits.max_logit_rows = scheduler.max_running + scheduler.max_prompt_logit_rows;

  BIFOCAL_ASSIGN_OR_RETURN(const attention::Router router,
                           attention::Router::create(options.attention, model->attention_classes()));
  scheduler.reuse_outputs = !options.deterministic || one_backend(router);
  attention::PlanLimits plan_limits;
  plan_limits.max_tokens = limits.max_rows;
  plan_limits.max_seqs = limits.max_sequences;
  plan_limits.max_kv_len = options.context_length;
  plan_limits.num_threads = options.num_threads;
  BIFOCAL_ASSIGN_OR_RETURN(auto planner,
                           attention::Planner::create(router, model->attention_classes(), plan_limits));

  const std::vector<kv::LayerShape> layers = model::kv_layer_shapes(spec);
  MemoryNeeds needs;
  needs.weight_bytes = model->weight_bytes();
  needs.workspace_bytes = model->workspace_bytes(limits.max_rows, limits.max_logit_rows);
  needs.plan_buffer_bytes = planner->buffer_bytes();
  needs.logit_bytes = Runner::logit_bytes(limits, spec.vocab_size);
  needs.layers = layers;
  needs.context_length = options.context_length;
  needs.usable_bytes = usable_memory_bytes();
  BIFOCAL_ASSIGN_OR_RETURN(const MemoryPlan memory, plan_memory(needs, options));
  const std::string table = memory.table();
  if (options.on_memory_plan) options.on_memory_plan(table);
  if (memory.kv_tokens() < options.context_length) {
    log_warn("the context is {} tokens instead of {}: the KV cache holds no more", memory.kv_tokens(),
             options.context_length);
    options.context_length = static_cast<int>(memory.kv_tokens());
  }
  options.max_total_tokens = memory.kv_tokens();
  options.kv_cache_bytes = static_cast<int64_t>(memory.kv_bytes());
  options.chunked_prefill_size = scheduler.split_prompts ? scheduler.prefill_tokens : -1;

  BIFOCAL_RETURN_IF_ERROR(model->prepare(limits.max_rows, limits.max_logit_rows));
  BIFOCAL_ASSIGN_OR_RETURN(
      auto cache, kv::KvCache::allocate(layers, options.kv_dtype, options.page_size, memory.num_pages));
  EngineParts parts{std::move(model), options.pool, std::move(planner),          std::move(cache),
                    scheduler,        limits,       options.enable_prefix_cache, options.max_queued_requests};
  return std::unique_ptr<Engine>(
      std::make_unique<EngineImpl>(std::move(parts), std::move(tokenizer), std::move(options), table));
}

}  // namespace bifocal::engine
