#include "model/cuda_decoder.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "kernels/cuda/elementwise.h"
#include "kernels/cuda/sample.h"
#include "model/workspace.h"

namespace bifocal::model {

namespace cuda = kernels::cuda;

namespace {

// One entry of the workspace.
struct Part {
  cuda::DeviceMemory CudaWorkspace::*memory;
  int64_t bytes;
};

std::vector<Part> workspace_parts(const ModelSpec& spec, int max_tokens, int max_logit_rows) {
  const RowWidths widths = row_widths(spec);
  int64_t qkv = 0;
  int64_t q = 0;
  int64_t inner = 0;
  for (const LayerSpec& layer : spec.layers) {
    qkv = std::max(qkv, layer.attention.qkv_rows());
    q = std::max(q, layer.attention.q_rows());
    inner = std::max<int64_t>(inner, layer.mlp.intermediate_size);
  }
  const int64_t rows = max_tokens;
  const int64_t picked = max_logit_rows;
  constexpr int64_t kBf16 = 2;
  using W = CudaWorkspace;
  return {{&W::residual, rows * widths.hidden * kBf16},
          {&W::halfway, rows * widths.hidden * kBf16},
          {&W::normed, rows * widths.hidden * kBf16},
          {&W::qkv, rows * qkv * kBf16},
          {&W::q, rows * q * kBf16},
          {&W::attn, rows * q * kBf16},
          {&W::gate_up, rows * 2 * inner * kBf16},
          {&W::inner, rows * inner * kBf16},
          {&W::picked, picked * widths.hidden * kBf16},
          {&W::logits, picked * spec.vocab_size * 4},
          {&W::tokens, 2 * picked * 4},
          {&W::sampling, cuda::sample_workspace_bytes(max_logit_rows, spec.vocab_size)}};
}

}  // namespace

uint64_t cuda_workspace_bytes(const ModelSpec& spec, int max_tokens, int max_logit_rows) {
  uint64_t bytes = 0;
  for (const Part& part : workspace_parts(spec, max_tokens, max_logit_rows)) {
    if (part.memory != &CudaWorkspace::logits) bytes += static_cast<uint64_t>(part.bytes);
  }
  return bytes;
}

Expected<CudaWorkspace> CudaWorkspace::allocate(const ModelSpec& spec, int max_tokens, int max_logit_rows) {
  CudaWorkspace out;
  for (const Part& part : workspace_parts(spec, max_tokens, max_logit_rows)) {
    BIFOCAL_ASSIGN_OR_RETURN(out.*part.memory, Memory::allocate(static_cast<size_t>(part.bytes)));
  }
  // A row that a padded step never writes must not be NaN when attention reads it.
  for (Memory* memory : {&out.attn, &out.q, &out.qkv}) {
    BIFOCAL_RETURN_IF_ERROR(
        cuda::to_status(cudaMemset(memory->as<void>(), 0, memory->bytes()), "clearing the workspace"));
  }
  return out;
}

struct CudaDecoder::Step {
  int num_rows = 0;        // T
  int num_logit_rows = 0;  // R
  const int32_t* positions = nullptr;
  const int64_t* kv_slots = nullptr;
  const int32_t* logit_rows = nullptr;
  const kernels::SampleParams* sampling = nullptr;
  int32_t* chosen = nullptr;  // [R]
  cuda::LaunchOptions launch;
  cuda::LaunchOptions first;   // of kernels that start when all before them have ended
  cuda::LaunchOptions attend;  // of attention
};

CudaDecoder::CudaDecoder(const ModelSpec& spec, const CudaWeights& weights, const AttentionClasses& classes,
                         const kv::CudaKvCache& cache, attention::CudaPlanner& planner,
                         const CudaWorkspace& workspace, cuda::Linear linear)
    : spec_(spec),
      weights_(weights),
      classes_(classes),
      cache_(cache),
      planner_(planner),
      workspace_(workspace),
      linear_(std::move(linear)) {}

Status CudaDecoder::enqueue(const CudaStepShape& shape, const std::byte* arrays, const CudaTokens& tokens,
                            cudaStream_t stream) {
  const CudaStepLayout layout(shape);
  const auto ints = [&](int64_t offset) { return reinterpret_cast<const int32_t*>(arrays + offset); };
  Step step;
  step.num_rows = shape.num_rows;
  step.num_logit_rows = shape.num_logit_rows;
  step.positions = ints(layout.positions);
  step.kv_slots = reinterpret_cast<const int64_t*>(arrays + layout.kv_slots);
  step.logit_rows = ints(layout.logit_rows);
  step.sampling = reinterpret_cast<const kernels::SampleParams*>(arrays + layout.sampling);
  step.chosen = tokens.chosen;
  step.launch = {stream, true, false};
  // Decode attention reads the plan, and keys of earlier steps, while the kernel ahead of it still runs:
  // the plan has ended by then because the kernel behind it doesn't start before.
  step.first = {stream, false, false};
  step.attend = {stream, true, true};

  // The first kernel follows a copy, which gives no early signal.
  cuda::GatherRows embed;
  embed.table = weights_.embedding.as<uint16_t>();
  embed.table_rows = spec_.vocab_size;
  embed.dim = spec_.hidden_size;
  embed.ids = ints(layout.token_ids);
  embed.chosen = tokens.before;
  embed.num_rows = shape.num_rows;
  embed.out = workspace_.residual.as<uint16_t>();
  BIFOCAL_RETURN_IF_ERROR(cuda::gather_rows(embed, step.first));

  attention::CudaBatch batch;
  batch.num_seqs = shape.num_seqs;
  batch.num_rows = shape.phase_rows;
  batch.q_begin = ints(layout.q_begin);
  batch.q_len = ints(layout.q_len);
  batch.kv_len = ints(layout.kv_len);
  batch.page_table = ints(layout.page_table);
  batch.page_table_stride = shape.table_stride;
  batch.row_kv_len = ints(layout.row_kv_len);
  batch.row_seq = ints(layout.row_seq);
  BIFOCAL_RETURN_IF_ERROR(planner_.plan(batch, step.launch));
  BIFOCAL_RETURN_IF_ERROR(begin(step));
  for (size_t i = 0; i < spec_.layers.size(); ++i) {
    BIFOCAL_RETURN_IF_ERROR(attend(step, i));
    BIFOCAL_RETURN_IF_ERROR(multiply(step, i));
  }
  return choose(step);
}

Status CudaDecoder::norm(uint16_t* rows, int num_rows, const cuda::DeviceMemory& weight, uint16_t* out,
                         const cuda::LaunchOptions& launch) const {
  cuda::RmsNorm args;
  args.residual = rows;
  args.w = weight.as<uint16_t>();
  args.out = out;
  args.eps = spec_.norm_eps;
  args.num_rows = num_rows;
  args.dim = spec_.hidden_size;
  return cuda::rms_norm(args, launch);
}

Status CudaDecoder::begin(const Step& step) {
  const CudaLayerWeights& weights = weights_.layers.front();
  auto* normed = workspace_.normed.as<uint16_t>();
  BIFOCAL_RETURN_IF_ERROR(
      norm(workspace_.residual.as<uint16_t>(), step.num_rows, weights.attention_norm, normed, step.first));
  cuda::LinearArgs project;
  project.x = normed;
  project.w = weights.qkv.as<uint16_t>();
  project.m = step.num_rows;
  project.n = static_cast<int>(spec_.layers.front().attention.qkv_rows());
  project.k = spec_.hidden_size;
  project.out = workspace_.qkv.as<void>();
  return linear_.run(project, step.launch);
}

Status CudaDecoder::attend(const Step& step, size_t layer) {
  const AttentionSpec& attention = spec_.layers[layer].attention;
  const CudaLayerWeights& weights = weights_.layers[layer];
  cuda::RopeKv rope;
  rope.qkv = workspace_.qkv.as<uint16_t>();
  rope.bias = weights.qkv_bias.as<uint16_t>();
  rope.q_norm = weights.q_norm.as<uint16_t>();
  rope.k_norm = weights.k_norm.as<uint16_t>();
  rope.norm_eps = spec_.norm_eps;
  rope.inv_freq = weights_.inv_freq.as<float>();
  rope.rotary_dim = spec_.rope.rotary_dim;
  rope.interleaved = spec_.rope.style == kernels::cpu::RopeStyle::interleaved;
  rope.attention_factor = spec_.rope.attention_factor;
  rope.positions = step.positions;
  rope.kv_slots = step.kv_slots;
  rope.num_tokens = step.num_rows;
  rope.num_heads = attention.num_heads;
  rope.num_kv_heads = attention.num_kv_heads;
  rope.head_dim = attention.head_dim;
  rope.page_size = cache_.page_size();
  rope.q = workspace_.q.as<uint16_t>();
  rope.k = cache_.k(layer);
  rope.v = cache_.v(layer);

  attention::CudaLayerInputs inputs;
  const size_t attention_class = classes_.of_layer[layer];
  if (planner_.rotates(attention_class, rope)) {
    inputs.rotation = &rope;
  } else {
    BIFOCAL_RETURN_IF_ERROR(cuda::rope_kv(rope, step.launch));
  }
  inputs.q = workspace_.q.as<uint16_t>();
  inputs.out = workspace_.attn.as<uint16_t>();
  inputs.num_tokens = step.num_rows;
  inputs.kv = &cache_.maps();
  inputs.first_page = cache_.first_page(layer);
  inputs.sinks = weights.sinks.as<float>();
  return planner_.run(attention_class, inputs, step.attend);
}

Status CudaDecoder::multiply(const Step& step, size_t layer) {
  const LayerSpec& spec = spec_.layers[layer];
  const CudaLayerWeights& weights = weights_.layers[layer];
  // Added to in place, a residual would be rounded twice by some of cuBLASLt's kernels.
  auto* residual = workspace_.residual.as<uint16_t>();
  auto* halfway = workspace_.halfway.as<uint16_t>();
  auto* normed = workspace_.normed.as<uint16_t>();
  cuda::LinearChain chain;
  chain.m = step.num_rows;
  chain.norm_eps = spec_.norm_eps;

  cuda::LinearLink& output = chain.add();
  output.x = workspace_.attn.as<uint16_t>();
  output.w = weights.output.as<uint16_t>();
  output.n = spec_.hidden_size;
  output.k = static_cast<int>(spec.attention.q_rows());
  output.bias = weights.output_bias.as<uint16_t>();
  output.residual = residual;
  output.out = halfway;
  output.norm = weights.mlp_norm.as<uint16_t>();
  output.normed = normed;

  cuda::LinearLink& gated = chain.add();
  gated.x = normed;
  gated.w = weights.gate_up.as<uint16_t>();
  gated.n = spec.mlp.intermediate_size;
  gated.k = spec_.hidden_size;
  gated.gated = true;
  gated.bias = weights.gate_up_bias.as<uint16_t>();
  gated.wide = workspace_.gate_up.as<uint16_t>();
  gated.out = workspace_.inner.as<uint16_t>();

  cuda::LinearLink& down = chain.add();
  down.x = workspace_.inner.as<uint16_t>();
  down.w = weights.down.as<uint16_t>();
  down.n = spec_.hidden_size;
  down.k = spec.mlp.intermediate_size;
  down.bias = weights.down_bias.as<uint16_t>();
  down.residual = halfway;
  down.out = residual;

  if (layer + 1 < spec_.layers.size()) {
    const CudaLayerWeights& next = weights_.layers[layer + 1];
    down.norm = next.attention_norm.as<uint16_t>();
    down.normed = normed;
    cuda::LinearLink& project = chain.add();
    project.x = normed;
    project.w = next.qkv.as<uint16_t>();
    project.n = static_cast<int>(spec_.layers[layer + 1].attention.qkv_rows());
    project.k = spec_.hidden_size;
    project.out = workspace_.qkv.as<uint16_t>();
  }
  return linear_.run_chain(chain, step.launch);
}

Status CudaDecoder::choose(const Step& step) {
  if (step.num_logit_rows == 0) return {};
  auto* picked = workspace_.picked.as<uint16_t>();
  cuda::GatherRows pick;
  pick.table = workspace_.residual.as<uint16_t>();
  pick.table_rows = step.num_rows;
  pick.dim = spec_.hidden_size;
  pick.ids = step.logit_rows;
  pick.num_rows = step.num_logit_rows;
  pick.out = picked;
  BIFOCAL_RETURN_IF_ERROR(cuda::gather_rows(pick, step.launch));
  BIFOCAL_RETURN_IF_ERROR(norm(picked, step.num_logit_rows, weights_.final_norm, picked, step.launch));

  cuda::LinearArgs head;
  head.x = picked;
  head.w = weights_.output_matrix();
  head.m = step.num_logit_rows;
  head.n = spec_.vocab_size;
  head.k = spec_.hidden_size;
  head.out = workspace_.logits.as<void>();
  head.out_dtype = DType::f32;
  BIFOCAL_RETURN_IF_ERROR(linear_.run(head, step.launch));

  cuda::SampleArgs sample;
  sample.logits = workspace_.logits.as<float>();
  sample.num_rows = step.num_logit_rows;
  sample.vocab_size = spec_.vocab_size;
  sample.params = step.sampling;
  sample.tokens = step.chosen;
  sample.workspace = workspace_.sampling.as<void>();
  return cuda::sample(sample, step.launch);
}

}  // namespace bifocal::model
