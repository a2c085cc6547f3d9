#include "model/decoder_weights.h"

#include <fmt/format.h>

#include <array>
#include <initializer_list>
#include <string>
#include <utility>

#include "model/expected_weights.h"
#include "weights/safetensors.h"

namespace bifocal::model {
namespace {

using kernels::cpu::PackedMatrix;
using weights::quoted;
using weights::WeightSource;

float element_as_float(const TensorView& view, int64_t i) {
  switch (view.dtype) {
    case DType::f16:
      return to_float(view.as<Float16>()[i]);
    case DType::bf16:
      return to_float(view.as<BFloat16>()[i]);
    default:
      return view.as<float>()[i];
  }
}

class Loader {
 public:
  Loader(WeightSource& source, DType dtype, ThreadPool& pool, Progress* progress)
      : source_(source), dtype_(dtype), pool_(pool), progress_(progress) {}

  // The named matrices [N_i, K], packed as one along N.
  Expected<PackedMatrix> matrix(std::initializer_list<std::pair<std::string, int64_t>> parts, int64_t k) {
    std::vector<TensorView> views;
    for (const auto& [name, n] : parts) {
      BIFOCAL_ASSIGN_OR_RETURN(const TensorView view, read(name, {n, k}, staging_[views.size()]));
      views.push_back(view);
    }
    BIFOCAL_ASSIGN_OR_RETURN(PackedMatrix packed, PackedMatrix::pack(views, dtype_, pool_));
    num_bytes_ += packed.num_bytes();
    return packed;
  }

  // The named vectors [N_i], one after another in f32.
  Expected<Tensor> vector(std::initializer_list<std::pair<std::string, int64_t>> parts) {
    int64_t total = 0;
    for (const auto& [name, n] : parts) total += n;
    BIFOCAL_ASSIGN_OR_RETURN(Tensor out, Tensor::allocate(DType::f32, {total}));
    float* target = out.view().as<float>();
    for (const auto& [name, n] : parts) {
      BIFOCAL_ASSIGN_OR_RETURN(const TensorView view, read(name, {n}, staging_[0]));
      for (int64_t i = 0; i < n; ++i) *target++ = element_as_float(view, i);
    }
    num_bytes_ += out.view().num_bytes();
    return out;
  }

  uint64_t num_bytes() const { return num_bytes_; }

 private:
  Expected<TensorView> read(const std::string& name, std::initializer_list<int64_t> shape, Tensor& staging) {
    BIFOCAL_ASSIGN_OR_RETURN(const TensorView view,
                             source_.read(name, {shape.begin(), shape.size()}, staging));
    if (!is_loadable(view.dtype)) {
      return unsupported(
          fmt::format("tensor {} is {}, expected f32, f16 or bf16", quoted(name), to_string(view.dtype)));
    }
    if (progress_ != nullptr) progress_->advance(view.num_bytes());
    return view;
  }

  WeightSource& source_;
  DType dtype_;
  ThreadPool& pool_;
  Progress* progress_;
  std::array<Tensor, 3> staging_;  // q, k and v are read before they are packed
  uint64_t num_bytes_ = 0;
};

Expected<LayerWeights> load_layer(const ModelSpec& spec, size_t index, Loader& loader) {
  const std::string prefix = layer_prefix(spec, index);
  const auto name = [&](const std::string& part) { return prefix + part; };
  const auto weight = [&](const std::string& part) { return prefix + weight_of(part); };
  const auto bias = [&](const std::string& part) { return prefix + bias_of(part); };
  const WeightNames& names = spec.names;
  const AttentionSpec& attention = spec.layers[index].attention;
  const MlpSpec& mlp = spec.layers[index].mlp;
  const int64_t hidden = spec.hidden_size;
  const int64_t q_rows = int64_t{attention.num_heads} * attention.head_dim;
  const int64_t kv_rows = int64_t{attention.num_kv_heads} * attention.head_dim;
  const int64_t inner = mlp.intermediate_size;

  LayerWeights out;
  BIFOCAL_ASSIGN_OR_RETURN(out.attention_norm, loader.vector({{name(names.attention_norm), hidden}}));
  BIFOCAL_ASSIGN_OR_RETURN(out.qkv, loader.matrix({{weight(names.q_proj), q_rows},
                                                   {weight(names.k_proj), kv_rows},
                                                   {weight(names.v_proj), kv_rows}},
                                                  hidden));
  if (attention.qkv_bias) {
    BIFOCAL_ASSIGN_OR_RETURN(out.qkv_bias, loader.vector({{bias(names.q_proj), q_rows},
                                                          {bias(names.k_proj), kv_rows},
                                                          {bias(names.v_proj), kv_rows}}));
  }
  if (attention.qk_norm) {
    BIFOCAL_ASSIGN_OR_RETURN(out.q_norm, loader.vector({{name(names.q_norm), attention.head_dim}}));
    BIFOCAL_ASSIGN_OR_RETURN(out.k_norm, loader.vector({{name(names.k_norm), attention.head_dim}}));
  }
  BIFOCAL_ASSIGN_OR_RETURN(out.attn_output, loader.matrix({{weight(names.o_proj), hidden}}, q_rows));
  if (attention.output_bias) {
    BIFOCAL_ASSIGN_OR_RETURN(out.attn_output_bias, loader.vector({{bias(names.o_proj), hidden}}));
  }
  BIFOCAL_ASSIGN_OR_RETURN(out.mlp_norm, loader.vector({{name(names.mlp_norm), hidden}}));
  BIFOCAL_ASSIGN_OR_RETURN(
      out.gate_up, loader.matrix({{weight(names.gate_proj), inner}, {weight(names.up_proj), inner}}, hidden));
  BIFOCAL_ASSIGN_OR_RETURN(out.down, loader.matrix({{weight(names.down_proj), hidden}}, inner));
  if (mlp.bias) {
    BIFOCAL_ASSIGN_OR_RETURN(out.gate_up_bias,
                             loader.vector({{bias(names.gate_proj), inner}, {bias(names.up_proj), inner}}));
    BIFOCAL_ASSIGN_OR_RETURN(out.down_bias, loader.vector({{bias(names.down_proj), hidden}}));
  }
  return out;
}

}  // namespace

Expected<DecoderWeights> load_weights(const ModelSpec& spec, WeightSource& source, DType dtype,
                                      ThreadPool& pool, Progress* progress) {
  Loader loader(source, dtype, pool, progress);
  DecoderWeights out;
  BIFOCAL_ASSIGN_OR_RETURN(out.embedding,
                           loader.matrix({{spec.names.embedding, spec.vocab_size}}, spec.hidden_size));
  out.layers.reserve(spec.layers.size());
  for (size_t i = 0; i < spec.layers.size(); ++i) {
    BIFOCAL_ASSIGN_OR_RETURN(LayerWeights layer, load_layer(spec, i, loader));
    out.layers.push_back(std::move(layer));
  }
  BIFOCAL_ASSIGN_OR_RETURN(out.final_norm, loader.vector({{spec.names.final_norm, spec.hidden_size}}));
  if (!spec.tied_output) {
    BIFOCAL_ASSIGN_OR_RETURN(out.output,
                             loader.matrix({{spec.names.output, spec.vocab_size}}, spec.hidden_size));
  }
  out.num_bytes = loader.num_bytes();
  return out;
}

}  // namespace bifocal::model
