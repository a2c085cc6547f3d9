#include "cli/stack.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>

#include "base/file.h"
#include "base/log.h"
#include "base/progress.h"
#include "bench/table.h"
#include "engine/engine_plan.h"
#include "kernels/cpu/isa.h"

namespace bifocal::cli {
namespace {

constexpr uint64_t kMaxTemplateBytes = uint64_t{1} << 20;
constexpr uint64_t kMaxTableBytes = uint64_t{16} << 20;

// What a setting of 0 stands for.
constexpr double default_mem_fraction_static(DeviceKind device) {
  return device == DeviceKind::cuda ? 0.88 : 0.5;
}

std::string directory_name(const std::string& path) {
  std::filesystem::path directory = std::filesystem::path(path).lexically_normal();
  if (!directory.has_filename()) directory = directory.parent_path();
  const std::string name = directory.filename().string();
  return name.empty() || name == "." ? "model" : name;
}

Expected<model::CudaGraphOptions> cuda_graph_options(const EngineSettings& settings) {
  model::CudaGraphOptions options;
  options.enabled = !settings.disable_cuda_graph;
  options.max_batch = static_cast<int>(settings.cuda_graph_max_bs);
  if (settings.cuda_graph_bs.empty()) return options;
  auto batches = bench::parse_grid(settings.cuda_graph_bs);
  if (!batches.ok()) return batches.status().with_context("--cuda-graph-bs");
  options.batches = *std::move(batches);
  std::sort(options.batches.begin(), options.batches.end());
  if (options.batches.front() < 1) return invalid_argument("--cuda-graph-bs: got 0, expected 1 or more");
  return options;
}

// auto: a GPU where there is one and it serves the model.
Expected<model::LoadPlan> plan_on_device(const std::string& device, model::LoadOptions& options) {
  if (device != "cpu") {
    options.device = DeviceKind::cuda;
    if (device == "cuda") return model::plan_load(options);
    const Status gpu = model::find_cuda_device().status();
    if (gpu.ok()) {
      auto plan = model::plan_load(options);
      if (plan.ok() || plan.status().code() != StatusCode::unsupported) return plan;
      log_info("device cpu: {}", plan.status().message());
    } else {
      log_debug("device cpu: {}", gpu.message());
    }
  }
  options.device = DeviceKind::cpu;
  return model::plan_load(options);
}

Expected<kernels::cuda::LinearTable> linear_table(const EngineSettings& settings, DeviceKind device) {
  if (settings.linear_table.empty()) return kernels::cuda::LinearTable();
  BIFOCAL_ASSIGN_OR_RETURN(const std::string text, read_file(settings.linear_table, kMaxTableBytes));
  auto table = kernels::cuda::parse_linear_table(text);
  if (!table.ok()) return table.status().with_context("--linear-table: " + settings.linear_table);
  if (device != DeviceKind::cuda) log_warn("--linear-table: nothing uses it on the CPU");
  return table;
}

Expected<DType> kv_dtype(const EngineSettings& settings, DType weights) {
  if (settings.kv_cache_dtype == "auto") return weights;
  return parse_dtype(settings.kv_cache_dtype);
}

Expected<std::shared_ptr<const text::ChatTemplate>> load_chat_template(const ModelSettings& settings,
                                                                       const std::string& directory) {
  using Result = std::shared_ptr<const text::ChatTemplate>;
  if (!settings.chat_template.empty()) {
    BIFOCAL_ASSIGN_OR_RETURN(const std::string source, read_file(settings.chat_template, kMaxTemplateBytes));
    auto compiled = text::ChatTemplate::compile(source, {});
    if (!compiled.ok()) return compiled.status().with_context(settings.chat_template);
    return Result(std::move(compiled).value());
  }
  auto loaded = text::ChatTemplate::load(directory);
  if (loaded.ok()) return Result(std::move(loaded).value());
  if (loaded.status().code() != StatusCode::not_found) return loaded.status();
  log_warn("{}: no chat template; /v1/chat/completions is off (give one with --chat-template)", directory);
  return Result();
}

}  // namespace

Expected<std::shared_ptr<ThreadPool>> start_compute(const EngineSettings& settings) {
  BIFOCAL_ASSIGN_OR_RETURN(const auto isa, kernels::cpu::parse_isa(settings.cpu_isa));
  BIFOCAL_RETURN_IF_ERROR(kernels::cpu::set_isa(isa).with_context("--cpu-isa"));
  return std::make_shared<ThreadPool>(static_cast<int>(settings.threads));
}

Expected<ModelChoice> choose_model(const Settings& settings, std::shared_ptr<ThreadPool> pool) {
  ModelChoice choice;
  choice.options.path = settings.model.model_path;
  choice.options.dtype = settings.model.dtype;
  choice.options.dummy = settings.model.load_format == "dummy";
  choice.options.dummy_seed = static_cast<uint64_t>(settings.engine.random_seed);
  choice.options.override_args = settings.model.override_args;
  choice.options.pool = std::move(pool);
  BIFOCAL_ASSIGN_OR_RETURN(choice.options.cuda_graphs, cuda_graph_options(settings.engine));
  BIFOCAL_ASSIGN_OR_RETURN(choice.plan, plan_on_device(settings.engine.device, choice.options));
  BIFOCAL_ASSIGN_OR_RETURN(choice.options.linear_table, linear_table(settings.engine, choice.options.device));
  choice.options.page_size = static_cast<int>(settings.engine.page_size);
  BIFOCAL_ASSIGN_OR_RETURN(choice.options.kv_dtype, kv_dtype(settings.engine, choice.plan.dtype));
  return choice;
}

attention::RouterOptions router_options(const EngineSettings& settings, DeviceKind device) {
  attention::RouterOptions options;
  options.device = device;
  options.backend = settings.attention_backend;
  options.mla = {settings.mla_prefill_form, settings.max_kv_chunk_tokens};
  const std::string* names[attention::kNumPhases] = {};
  names[static_cast<size_t>(attention::Phase::prefill)] = &settings.prefill_attention_backend;
  names[static_cast<size_t>(attention::Phase::decode)] = &settings.decode_attention_backend;
  names[static_cast<size_t>(attention::Phase::verify)] = &settings.verify_attention_backend;
  for (size_t phase = 0; phase < attention::kNumPhases; ++phase) {
    if (!names[phase]->empty()) options.per_phase[phase] = *names[phase];
  }
  options.deterministic = settings.deterministic;
  return options;
}

Expected<engine::EngineOptions> engine_options_of(const Settings& settings, const ModelChoice& choice) {
  const EngineSettings& s = settings.engine;
  engine::EngineOptions options;
  options.page_size = choice.options.page_size;
  options.kv_dtype = choice.options.kv_dtype;
  if (!s.kv_cache_memory.empty()) {
    options.kv_cache_bytes = parse_bytes(s.kv_cache_memory);
    if (options.kv_cache_bytes <= 0) {
      return invalid_argument(fmt::format(
          "--kv-cache-memory: \"{}\" is not a size; expected for example 8GiB", s.kv_cache_memory));
    }
  }
  options.mem_fraction_static =
      s.mem_fraction_static > 0 ? s.mem_fraction_static : default_mem_fraction_static(choice.options.device);
  options.max_total_tokens = s.max_total_tokens;
  options.swa_full_tokens_ratio = s.swa_full_tokens_ratio;
  options.chunked_prefill_size = static_cast<int>(s.chunked_prefill_size);
  options.max_running_requests = static_cast<int>(s.max_running_requests);
  options.max_queued_requests = static_cast<int>(s.max_queued_requests);
  options.context_length = static_cast<int>(settings.model.context_length);
  options.enable_prefix_cache = !s.disable_radix_cache;
  options.overlap_schedule = !s.disable_overlap_schedule;
  options.time_device = s.time_device;
  options.deterministic = s.deterministic;
  options.attention = router_options(s, choice.options.device);
  options.num_threads = choice.options.pool->num_threads();
  options.pool = choice.options.pool;
  return options;
}

Expected<Stack> load_stack(const Settings& settings) {
  Stack stack;
  stack.served_name = settings.serve.served_model_name.empty() ? directory_name(settings.model.model_path)
                                                               : settings.serve.served_model_name;
  const std::string& tokenizer_directory =
      settings.model.tokenizer_path.empty() ? settings.model.model_path : settings.model.tokenizer_path;
  BIFOCAL_ASSIGN_OR_RETURN(auto pool, start_compute(settings.engine));
  BIFOCAL_ASSIGN_OR_RETURN(const ModelChoice choice, choose_model(settings, std::move(pool)));
  BIFOCAL_ASSIGN_OR_RETURN(const engine::EngineOptions options, engine_options_of(settings, choice));
  // The cheap parts first, so that a wrong flag or a broken tokenizer is told before gigabytes are read.
  if (!settings.model.skip_tokenizer_init) {
    BIFOCAL_ASSIGN_OR_RETURN(stack.tokenizer, text::Tokenizer::load(tokenizer_directory + "/tokenizer.json"));
    BIFOCAL_ASSIGN_OR_RETURN(stack.chat_template, load_chat_template(settings.model, tokenizer_directory));
  }
  BIFOCAL_ASSIGN_OR_RETURN(engine::EnginePlan plan,
                           engine::plan_engine(engine::outline_of(choice.plan), options));
  if (log_enabled(LogLevel::info)) fmt::print(stderr, "Memory plan:\n{}", plan.memory.table());
  BIFOCAL_ASSIGN_OR_RETURN(model::LoadedModel loaded, model::load_model(choice.options));
  stack.plan = std::move(loaded.plan);
  BIFOCAL_ASSIGN_OR_RETURN(stack.engine,
                           engine::Engine::create(std::move(loaded.model), stack.tokenizer, std::move(plan)));
  for (const auto& use : stack.engine->stats()->attention) {
    log_info("attention {} {}: {} ({})", use.attention_class, use.phase, use.backend, use.reason);
  }
  return stack;
}

}  // namespace bifocal::cli
