#include "model/load.h"

#include <fmt/format.h>
#include <unistd.h>

#include <optional>

#include "base/log.h"
#include "base/progress.h"
#include "model/decoder_cpu.h"
#include "model/decoder_weights.h"
#include "model/expected_weights.h"
#include "model/families.h"
#include "model/workspace.h"
#include "weights/checkpoint.h"
#include "weights/dummy.h"

namespace bifocal::model {
namespace {

using weights::Checkpoint;

// The dtype asked for, else config.json's, else the embedding's, else (dummy) bf16.
Expected<DType> resolve_dtype(const LoadOptions& options, const LoadPlan& plan,
                              const Checkpoint* checkpoint) {
  DType dtype = DType::bf16;
  if (options.dtype != "auto") {
    const auto parsed = parse_dtype(options.dtype);
    if (!parsed.ok()) return parsed.status().with_context("--dtype");
    dtype = *parsed;
  } else if (plan.config.dtype) {
    dtype = *plan.config.dtype;
  } else if (checkpoint != nullptr) {
    const weights::TensorInfo* embedding = checkpoint->find(plan.spec.names.embedding);
    if (embedding != nullptr) dtype = embedding->dtype;
  }
  if (options.device == DeviceKind::cuda) {
    if (options.dtype != "auto" && dtype != DType::bf16) {
      return unsupported(fmt::format("--dtype {}: on a GPU weights are bfloat16", options.dtype));
    }
    return DType::bf16;
  }
  if (dtype != DType::f32 && dtype != DType::f16 && dtype != DType::bf16) {
    return unsupported(fmt::format("{}: weights in {}; expected --dtype float32, float16 or bfloat16",
                                   plan.config.path, to_string(dtype)));
  }
  return dtype;
}

struct Opened {
  LoadPlan plan;
  std::optional<Checkpoint> checkpoint;  // empty for dummy weights
};

Expected<Opened> open(const LoadOptions& options) {
  Opened out;
  weights::ConfigOptions config_options;
  config_options.override_args = options.override_args;
  config_options.architectures = supported_architectures();
  BIFOCAL_ASSIGN_OR_RETURN(out.plan.config, weights::load_model_config(options.path, config_options));
  BIFOCAL_ASSIGN_OR_RETURN(out.plan.spec, make_spec(out.plan.config));
  if (!options.dummy) {
    BIFOCAL_ASSIGN_OR_RETURN(Checkpoint checkpoint,
                             Checkpoint::open(options.path, out.plan.config.quantisation));
    BIFOCAL_RETURN_IF_ERROR(check_weights(out.plan.spec, checkpoint));
    out.checkpoint = std::move(checkpoint);
  }
  if (options.device == DeviceKind::cuda) BIFOCAL_RETURN_IF_ERROR(check_cuda_support(out.plan.spec));
  out.plan.device = options.device;
  BIFOCAL_ASSIGN_OR_RETURN(out.plan.dtype,
                           resolve_dtype(options, out.plan, out.checkpoint ? &*out.checkpoint : nullptr));
  out.plan.weight_bytes = planned_weight_bytes(out.plan.spec, out.plan.dtype);
  return out;
}

Status check_memory(uint64_t weight_bytes, DeviceKind device) {
  if (device == DeviceKind::cuda) {
    BIFOCAL_ASSIGN_OR_RETURN(const CudaDevice gpu, find_cuda_device());
    if (weight_bytes <= gpu.free_bytes) return {};
    return resource_exhausted(fmt::format("the weights need {}, but {} has {} free of {}",
                                          format_bytes(weight_bytes), gpu.name, format_bytes(gpu.free_bytes),
                                          format_bytes(gpu.total_bytes)));
  }
  const uint64_t memory_bytes =
      static_cast<uint64_t>(::sysconf(_SC_PHYS_PAGES)) * static_cast<uint64_t>(::sysconf(_SC_PAGESIZE));
  if (weight_bytes <= memory_bytes) return {};
  return resource_exhausted(
      fmt::format("the weights need {}, but this machine has {} of memory; try --dtype bfloat16 "
                  "or a smaller model",
                  format_bytes(weight_bytes), format_bytes(memory_bytes)));
}

Expected<std::unique_ptr<Model>> load_on_cpu(const LoadPlan& plan, weights::WeightSource& source,
                                             const DecoderOptions& options, Progress& progress) {
  BIFOCAL_ASSIGN_OR_RETURN(DecoderWeights parameters,
                           load_weights(plan.spec, source, plan.dtype, *options.pool, &progress));
  return std::unique_ptr<Model>(std::make_unique<DecoderCpu>(plan.spec, std::move(parameters), options));
}

Expected<std::unique_ptr<Model>> load_on_gpu(const LoadPlan& plan, weights::WeightSource& source,
                                             const LoadOptions& load, const DecoderOptions& options,
                                             Progress& progress) {
  CudaModelOptions cuda;
  cuda.page_size = options.page_size;
  cuda.dummy = load.dummy;
  cuda.dummy_seed = load.dummy_seed;
  cuda.graphs = load.cuda_graphs;
  cuda.linear_table = load.linear_table;
  cuda.pool = options.pool;
  return load_cuda_model(plan.spec, load.dummy ? nullptr : &source, cuda, &progress);
}

// Bytes that the source will hand out, for the progress bar.
uint64_t source_bytes(const Opened& opened) {
  if (!opened.checkpoint) return planned_weight_bytes(opened.plan.spec, opened.plan.dtype);
  uint64_t bytes = 0;
  for (const ExpectedWeight& weight : expected_weights(opened.plan.spec)) {
    const weights::TensorInfo* info = opened.checkpoint->find(weight.name);
    if (info != nullptr) bytes += info->num_bytes();
  }
  return bytes;
}

}  // namespace

uint64_t LoadPlan::workspace_bytes(int max_tokens, int max_logit_rows) const {
  if (device == DeviceKind::cuda) return cuda_workspace_bytes(spec, max_tokens, max_logit_rows);
  return model::workspace_bytes(spec, dtype, max_tokens, max_logit_rows);
}

Expected<LoadPlan> plan_load(const LoadOptions& options) {
  BIFOCAL_ASSIGN_OR_RETURN(Opened opened, open(options));
  return std::move(opened.plan);
}

Expected<LoadedModel> load_model(const LoadOptions& options) {
  BIFOCAL_ASSIGN_OR_RETURN(Opened opened, open(options));
  const LoadPlan& plan = opened.plan;
  BIFOCAL_RETURN_IF_ERROR(check_memory(plan.weight_bytes, plan.device));
  const auto method = plan.config.quantisation.method;
  log_info("{}: {}, {} layers, weights {} in {}{}", options.path, plan.spec.architecture,
           plan.spec.layers.size(), format_bytes(plan.weight_bytes), to_string(plan.dtype),
           options.dummy                          ? " (random)"
           : method == weights::QuantMethod::none ? ""
                                                  : fmt::format(" (from {})", to_string(method)));

  if (plan.config.tie_word_embeddings && !plan.spec.tied_output) {
    log_warn("{}: tie_word_embeddings is true, but the file's {} differs from {}: using it", options.path,
             plan.spec.names.output, plan.spec.names.embedding);
  }

  DecoderOptions decoder_options;
  decoder_options.kv_dtype = options.kv_dtype;
  decoder_options.page_size = options.page_size;
  decoder_options.pool = options.pool ? options.pool : std::make_shared<ThreadPool>();
  weights::DummyWeights dummy(options.dummy_seed, plan.dtype, *decoder_options.pool);
  weights::WeightSource& source =
      opened.checkpoint ? static_cast<weights::WeightSource&>(*opened.checkpoint) : dummy;
  Progress progress("Loading weights", source_bytes(opened), "B");
  auto model = plan.device == DeviceKind::cuda ? load_on_gpu(plan, source, options, decoder_options, progress)
                                               : load_on_cpu(plan, source, decoder_options, progress);
  BIFOCAL_RETURN_IF_ERROR(model.status());
  progress.finish();

  LoadedModel loaded;
  loaded.model = *std::move(model);
  loaded.plan = std::move(opened.plan);
  return loaded;
}

}  // namespace bifocal::model
