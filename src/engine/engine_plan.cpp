#include "engine/engine_plan.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

namespace bifocal::engine {
namespace {

constexpr uint64_t kPromptLogitBytes = uint64_t{64} << 20;  // how much the prompt logprobs of a step may add
constexpr int kMinPromptLogitRows = 16;

Status check_options(const EngineOptions& o, const model::ModelSpec& spec) {
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
  BIFOCAL_RETURN_IF_ERROR(want(o.swa_full_tokens_ratio >= 0 && o.swa_full_tokens_ratio <= 1,
                               "swa_full_tokens_ratio", o.swa_full_tokens_ratio, "0 (automatic) to 1"));
  const int max_positions = spec.max_positions;
  if (o.context_length < 0 || o.context_length > max_positions) {
    return invalid_argument(fmt::format(
        "context_length is {}, expected 0 (the model's) to {} (max_position_embeddings of config.json, which "
        "--json-model-override-args can change)",
        o.context_length, max_positions));
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

// The backends tell how much they need by taking it; it is given back at once.
Expected<uint64_t> plan_buffer_bytes(const attention::Router& router,
                                     std::span<const attention::AttentionDesc> classes,
                                     const attention::PlanLimits& limits) {
  if (router.device() == DeviceKind::cuda) return model::cuda_plan_bytes(router, classes, limits);
  BIFOCAL_ASSIGN_OR_RETURN(const auto planner, attention::Planner::create(router, classes, limits));
  return uint64_t{planner->buffer_bytes()};
}

Expected<uint64_t> usable_bytes(DeviceKind device) {
  if (device == DeviceKind::cpu) return usable_memory_bytes();
  BIFOCAL_ASSIGN_OR_RETURN(const model::CudaDevice gpu, model::find_cuda_device());
  return gpu.total_bytes;
}

}  // namespace

ModelOutline outline_of(const model::LoadPlan& plan) {
  return {&plan.spec, plan.weight_bytes, [&plan](int max_tokens, int max_logit_rows) {
            return plan.workspace_bytes(max_tokens, max_logit_rows);
          }};
}

ModelOutline outline_of(const model::Model& model) {
  return {&model.spec(), model.weight_bytes(), [&model](int max_tokens, int max_logit_rows) {
            return model.workspace_bytes(max_tokens, max_logit_rows);
          }};
}

Expected<EnginePlan> plan_engine(const ModelOutline& model, const EngineOptions& given) {
  EnginePlan plan;
  plan.options = given;
  EngineOptions& options = plan.options;
  const model::ModelSpec& spec = *model.spec;
  BIFOCAL_RETURN_IF_ERROR(check_options(options, spec));
  if (options.context_length == 0) options.context_length = spec.max_positions;
  if (options.pool == nullptr) options.pool = std::make_shared<ThreadPool>(options.num_threads);
  options.num_threads = options.pool->num_threads();
  options.attention.deterministic = options.attention.deterministic || options.deterministic;

  SchedulerOptions& scheduler = plan.scheduler;
  scheduler = scheduler_options(options, spec.vocab_size);
  plan.limits.max_sequences = scheduler.max_running;
  plan.limits.max_rows = scheduler.prefill_tokens + scheduler.max_running;
  plan.limits.max_logit_rows = scheduler.max_running + scheduler.max_prompt_logit_rows;
  plan.attention_limits.max_tokens = plan.limits.max_rows;
  plan.attention_limits.max_seqs = plan.limits.max_sequences;
  plan.attention_limits.max_kv_len = options.context_length;
  plan.attention_limits.num_threads = options.num_threads;

  const model::AttentionClasses classes =
      model::attention_classes(spec, options.kv_dtype, options.page_size, options.attention.device);
  BIFOCAL_ASSIGN_OR_RETURN(const attention::Router router,
                           attention::Router::create(options.attention, classes.descs));
  scheduler.reuse_outputs = !options.deterministic || one_backend(router);

  MemoryNeeds needs;
  BIFOCAL_ASSIGN_OR_RETURN(needs.plan_buffer_bytes,
                           plan_buffer_bytes(router, classes.descs, plan.attention_limits));
  needs.weight_bytes = model.weight_bytes;
  needs.workspace_bytes = model.workspace_bytes(plan.limits.max_rows, plan.limits.max_logit_rows);
  needs.logit_bytes = Runner::logit_bytes(plan.limits, spec.vocab_size);
  needs.layers = model::kv_layer_shapes(spec);
  const bool on_cpu = options.attention.device == DeviceKind::cpu;
  needs.on_demand = on_cpu;
  needs.window = on_cpu ? model::kv_window(spec) : 0;  // a GPU keeps every layer in the pages of all
  needs.prefill_tokens = scheduler.prefill_tokens;
  needs.context_length = options.context_length;
  BIFOCAL_ASSIGN_OR_RETURN(needs.usable_bytes, usable_bytes(options.attention.device));
  BIFOCAL_ASSIGN_OR_RETURN(plan.memory, plan_memory(needs, options));

  options.context_length =
      static_cast<int>(std::min<int64_t>(options.context_length, plan.memory.kv_tokens()));
  options.max_total_tokens = plan.memory.kv_tokens();
  options.kv_cache_bytes = static_cast<int64_t>(plan.memory.kv_bytes());
  options.chunked_prefill_size = scheduler.split_prompts ? scheduler.prefill_tokens : -1;
  return plan;
}

}  // namespace bifocal::engine
