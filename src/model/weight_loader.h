// Reads a decoder's tensors from a source and brings them into the form that its blocks compute with.
#pragma once

#include <array>
#include <cstdint>
#include <initializer_list>
#include <span>
#include <string>
#include <utility>

#include "base/progress.h"
#include "base/status.h"
#include "base/thread_pool.h"
#include "kernels/cpu/gemm.h"
#include "tensor/tensor.h"
#include "weights/weight_source.h"

namespace bifocal::model {

// Element i of an f32, f16 or bf16 tensor.
float element_as_float(const TensorView& view, int64_t i);

class WeightLoader {
 public:
  using Part = std::pair<std::string, int64_t>;  // name and rows

  // Matrices are packed in `dtype`. progress may be null; it advances by the bytes read.
  WeightLoader(weights::WeightSource& source, DType dtype, ThreadPool& pool, Progress* progress)
      : source_(source), dtype_(dtype), pool_(pool), progress_(progress) {}

  // The named matrices [N_i, K], packed as one along N; in `dtype` or in the loader's.
  Expected<kernels::cpu::PackedMatrix> matrix(std::initializer_list<Part> parts, int64_t k, DType dtype);
  Expected<kernels::cpu::PackedMatrix> matrix(std::initializer_list<Part> parts, int64_t k) {
    return matrix(parts, k, dtype_);
  }
  // The named vectors [N_i], one after another in f32.
  Expected<Tensor> vector(std::initializer_list<Part> parts);

  // One tensor in f32.
  Expected<Tensor> values(const std::string& name, std::span<const int64_t> shape);
  // One tensor as the source keeps it, valid until the next is read; and parts of it, packed as one.
  Expected<TensorView> view(const std::string& name, std::span<const int64_t> shape) {
    return read(name, shape, staging_[0]);
  }
  Expected<kernels::cpu::PackedMatrix> pack(std::span<const TensorView> matrices) {
    return pack(matrices, dtype_);
  }

  uint64_t num_bytes() const { return num_bytes_; }  // of all that was made

 private:
  Expected<kernels::cpu::PackedMatrix> pack(std::span<const TensorView> matrices, DType dtype);
  Expected<TensorView> read(const std::string& name, std::span<const int64_t> shape, Tensor& staging);

  weights::WeightSource& source_;
  DType dtype_;
  ThreadPool& pool_;
  Progress* progress_;
  std::array<Tensor, 3> staging_;  // q, k and v are read before they are packed
  uint64_t num_bytes_ = 0;
};

}  // namespace bifocal::model
