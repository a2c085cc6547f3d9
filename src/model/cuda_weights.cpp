#include "model/cuda_weights.h"

#include <cuda_runtime_api.h>
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <initializer_list>
#include <utility>

#include "kernels/cuda/elementwise.h"
#include "kernels/cuda/stream.h"
#include "model/mlp_block.h"
#include "model/weight_list.h"
#include "model/weight_loader.h"
#include "weights/dummy.h"

namespace bifocal::model {
namespace {

namespace cuda = kernels::cuda;
using cuda::DeviceMemory;

// Elements [begin, end) of a host tensor as bf16, from any of the types that checkpoints have.
void convert(const TensorView& from, int64_t begin, int64_t end, uint16_t* to) {
  if (from.dtype == DType::bf16) {
    std::memcpy(to, from.as<uint16_t>() + begin, static_cast<size_t>(end - begin) * sizeof(uint16_t));
    return;
  }
  for (int64_t i = begin; i < end; ++i) to[i - begin] = to_bfloat16(element_as_float(from, i)).bits;
}

class Uploader {
 public:
  using Part = std::pair<std::string, int64_t>;  // name and rows

  Uploader(weights::WeightSource* source, const CudaModelOptions& options, Progress* progress)
      : source_(source),
        options_(options),
        progress_(progress),
        dummy_(options.dummy_seed, DType::bf16, *options.pool) {}

  Status open() {
    BIFOCAL_ASSIGN_OR_RETURN(stream_, cuda::make_stream());
    for (Buffer& buffer : buffers_) {
      BIFOCAL_ASSIGN_OR_RETURN(buffer.memory, cuda::PinnedMemory::allocate(kBufferBytes));
      BIFOCAL_ASSIGN_OR_RETURN(buffer.copied, cuda::make_event());
    }
    return {};
  }
  Status close() { return cuda::to_status(cudaStreamSynchronize(stream_.get()), "bringing weights over"); }
  uint64_t num_bytes() const { return num_bytes_; }

  // The named matrices [N_i, K], one below the other.
  Expected<DeviceMemory> matrix(std::initializer_list<Part> parts, int64_t k) {
    BIFOCAL_ASSIGN_OR_RETURN(DeviceMemory memory, allocate(parts, k));
    auto* to = memory.as<uint16_t>();
    for (const auto& [name, n] : parts) {
      if (options_.dummy) {
        const weights::DummyPattern how =
            weights::dummy_matrix_pattern(options_.dummy_seed, name, DType::bf16, k);
        cuda::RandomFill fill;
        fill.data = to;
        fill.num_bytes = n * k * 2;
        fill.key = how.key;
        fill.random_mask = how.random_mask;
        fill.constant = how.constant;
        BIFOCAL_RETURN_IF_ERROR(cuda::random_fill(fill, {stream_.get(), false, false}));
        if (progress_ != nullptr) progress_->advance(static_cast<uint64_t>(fill.num_bytes));
      } else {
        const int64_t shape[] = {n, k};
        BIFOCAL_RETURN_IF_ERROR(upload(*source_, name, shape, to));
      }
      to += n * k;
    }
    return memory;
  }

  // The named vectors [N_i], one after the other.
  Expected<DeviceMemory> vector(std::initializer_list<Part> parts) {
    BIFOCAL_ASSIGN_OR_RETURN(DeviceMemory memory, allocate(parts, 1));
    auto* to = memory.as<uint16_t>();
    for (const auto& [name, n] : parts) {
      const int64_t shape[] = {n};
      BIFOCAL_RETURN_IF_ERROR(upload(vectors(), name, shape, to));
      to += n;
    }
    return memory;
  }

  Expected<DeviceMemory> floats(std::span<const float> values) {
    BIFOCAL_ASSIGN_OR_RETURN(DeviceMemory memory, DeviceMemory::allocate(values.size_bytes()));
    BIFOCAL_RETURN_IF_ERROR(
        cuda::to_status(cudaMemcpy(memory.as<void>(), values.data(), values.size_bytes(), cudaMemcpyDefault),
                        "bringing a vector over"));
    num_bytes_ += values.size_bytes();
    return memory;
  }
  Expected<DeviceMemory> floats(const std::string& name, int64_t n) {
    const int64_t shape[] = {n};
    BIFOCAL_ASSIGN_OR_RETURN(const TensorView view, vectors().read(name, shape, staging_));
    std::vector<float> values(static_cast<size_t>(n));
    for (int64_t i = 0; i < n; ++i) values[static_cast<size_t>(i)] = element_as_float(view, i);
    return floats(values);
  }

 private:
  static constexpr size_t kBufferBytes = size_t{32} << 20;
  static constexpr int64_t kBlock = 1 << 16;  // elements that a thread takes

  weights::WeightSource& vectors() { return options_.dummy ? dummy_ : *source_; }

  Expected<DeviceMemory> allocate(std::initializer_list<Part> parts, int64_t k) {
    int64_t rows = 0;
    for (const auto& part : parts) rows += part.second;
    BIFOCAL_ASSIGN_OR_RETURN(DeviceMemory memory, DeviceMemory::allocate(static_cast<size_t>(rows * k) * 2));
    num_bytes_ += memory.bytes();
    return memory;
  }

  // Through pinned memory in turns: while one buffer is on its way the threads fill the other.
  Status upload(weights::WeightSource& source, const std::string& name, std::span<const int64_t> shape,
                uint16_t* to) {
    BIFOCAL_ASSIGN_OR_RETURN(const TensorView view, source.read(name, shape, staging_));
    constexpr auto kElements = static_cast<int64_t>(kBufferBytes / sizeof(uint16_t));
    for (int64_t begin = 0; begin < view.num_elements(); begin += kElements) {
      const int64_t count = std::min(kElements, view.num_elements() - begin);
      Buffer& buffer = buffers_[next_++ % buffers_.size()];
      BIFOCAL_RETURN_IF_ERROR(
          cuda::to_status(cudaEventSynchronize(buffer.copied.get()), "waiting for a copy"));
      auto* staged = buffer.memory.as<uint16_t>();
      options_.pool->parallel_for((count + kBlock - 1) / kBlock, [&](int64_t block, int) {
        const int64_t from = block * kBlock;
        convert(view, begin + from, begin + std::min(count, from + kBlock), staged + from);
      });
      BIFOCAL_RETURN_IF_ERROR(
          cuda::to_status(cudaMemcpyAsync(to + begin, staged, static_cast<size_t>(count) * 2,
                                          cudaMemcpyHostToDevice, stream_.get()),
                          "bringing weights over"));
      BIFOCAL_RETURN_IF_ERROR(
          cuda::to_status(cudaEventRecord(buffer.copied.get(), stream_.get()), "recording an event"));
    }
    if (progress_ != nullptr) progress_->advance(view.num_bytes());
    return {};
  }

  struct Buffer {
    cuda::PinnedMemory memory;
    cuda::Event copied;
  };
  weights::WeightSource* source_;
  const CudaModelOptions& options_;
  Progress* progress_;
  weights::DummyWeights dummy_;
  Tensor staging_;
  cuda::Stream stream_;
  std::array<Buffer, 2> buffers_;
  size_t next_ = 0;
  uint64_t num_bytes_ = 0;
};

Expected<CudaLayerWeights> load_layer(const ModelSpec& spec, size_t index, Uploader& up) {
  const LayerNames name(spec, index);
  const WeightNames& names = spec.names;
  const LayerSpec& layer = spec.layers[index];
  const AttentionSpec& attention = layer.attention;
  const int64_t hidden = spec.hidden_size;
  const int64_t inner = layer.mlp.intermediate_size;
  const MlpNames mlp = dense_mlp_names(names);
  CudaLayerWeights out;
  BIFOCAL_ASSIGN_OR_RETURN(out.attention_norm, up.vector({{name.plain(names.attention_norm), hidden}}));
  BIFOCAL_ASSIGN_OR_RETURN(out.qkv, up.matrix({{name.weight(names.q_proj), attention.q_rows()},
                                               {name.weight(names.k_proj), attention.kv_rows()},
                                               {name.weight(names.v_proj), attention.kv_rows()}},
                                              hidden));
  if (attention.qkv_bias) {
    BIFOCAL_ASSIGN_OR_RETURN(out.qkv_bias, up.vector({{name.bias(names.q_proj), attention.q_rows()},
                                                      {name.bias(names.k_proj), attention.kv_rows()},
                                                      {name.bias(names.v_proj), attention.kv_rows()}}));
  }
  if (attention.qk_norm) {
    BIFOCAL_ASSIGN_OR_RETURN(out.q_norm, up.vector({{name.plain(names.q_norm), attention.head_dim}}));
    BIFOCAL_ASSIGN_OR_RETURN(out.k_norm, up.vector({{name.plain(names.k_norm), attention.head_dim}}));
  }
  if (attention.sinks) {
    BIFOCAL_ASSIGN_OR_RETURN(out.sinks, up.floats(name.plain(names.sinks), attention.num_heads));
  }
  BIFOCAL_ASSIGN_OR_RETURN(out.output,
                           up.matrix({{name.weight(names.o_proj), hidden}}, layer.attention_out_dim()));
  if (layer.attention_out_bias()) {
    BIFOCAL_ASSIGN_OR_RETURN(out.output_bias, up.vector({{name.bias(names.o_proj), hidden}}));
  }
  BIFOCAL_ASSIGN_OR_RETURN(out.mlp_norm, up.vector({{name.plain(names.mlp_norm), hidden}}));
  BIFOCAL_ASSIGN_OR_RETURN(out.gate_up,
                           up.matrix({{name.weight(mlp.gate), inner}, {name.weight(mlp.up), inner}}, hidden));
  BIFOCAL_ASSIGN_OR_RETURN(out.down, up.matrix({{name.weight(mlp.down), hidden}}, inner));
  if (layer.mlp.bias) {
    BIFOCAL_ASSIGN_OR_RETURN(out.gate_up_bias,
                             up.vector({{name.bias(mlp.gate), inner}, {name.bias(mlp.up), inner}}));
    BIFOCAL_ASSIGN_OR_RETURN(out.down_bias, up.vector({{name.bias(mlp.down), hidden}}));
  }
  return out;
}

}  // namespace

Expected<CudaWeights> load_cuda_weights(const ModelSpec& spec, weights::WeightSource* source,
                                        const CudaModelOptions& options, Progress* progress) {
  Uploader up(source, options, progress);
  BIFOCAL_RETURN_IF_ERROR(up.open());
  CudaWeights out;
  BIFOCAL_ASSIGN_OR_RETURN(out.embedding,
                           up.matrix({{spec.names.embedding, spec.vocab_size}}, spec.hidden_size));
  for (size_t i = 0; i < spec.layers.size(); ++i) {
    BIFOCAL_ASSIGN_OR_RETURN(CudaLayerWeights layer, load_layer(spec, i, up));
    out.layers.push_back(std::move(layer));
  }
  BIFOCAL_ASSIGN_OR_RETURN(out.final_norm, up.vector({{spec.names.final_norm, spec.hidden_size}}));
  if (!spec.tied_output) {
    BIFOCAL_ASSIGN_OR_RETURN(out.output, up.matrix({{spec.names.output, spec.vocab_size}}, spec.hidden_size));
  }
  BIFOCAL_ASSIGN_OR_RETURN(out.inv_freq, up.floats(spec.rope.inv_freq));
  BIFOCAL_RETURN_IF_ERROR(up.close());
  out.num_bytes = up.num_bytes();
  return out;
}

}  // namespace bifocal::model
