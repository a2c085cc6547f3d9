// Random weights from shapes alone (--load-format dummy): for benchmarks and tests that need no trained
// model.
#pragma once

#include <cstdint>

#include "base/thread_pool.h"
#include "tensor/dtype.h"
#include "weights/weight_source.h"

namespace bifocal::weights {

// The values of a dummy matrix, wherever they are made: as words of 64 bits, word i is
// (mix64(key + i) & random_mask) | constant.
struct DummyPattern {
  uint64_t key = 0;
  uint64_t random_mask = 0;
  uint64_t constant = 0;
};
// fan_in is the matrix's last dimension; dtype f32, f16 or bf16.
DummyPattern dummy_matrix_pattern(uint64_t seed, std::string_view name, DType dtype, int64_t fan_in);

// Every tensor exists in every shape. A value depends on (seed, name, index) alone: not on threads, order or
// other tensors. Matrices [N, K] get values of random sign with magnitudes in [s, 2s), s a power of two
// chosen so that their standard deviation is near 1/sqrt(K): activations keep their scale. Norm weights lie
// in [0.75, 1.25), other vectors are small biases.
class DummyWeights final : public WeightSource {
 public:
  // dtype: f32, f16 or bf16. pool must outlive this.
  DummyWeights(uint64_t seed, DType dtype, ThreadPool& pool) : seed_(seed), dtype_(dtype), pool_(pool) {}

  bool has(std::string_view) const override { return true; }
  Expected<TensorView> read(const std::string& name, std::span<const int64_t> shape,
                            Tensor& staging) override;

 private:
  uint64_t seed_;
  DType dtype_;
  ThreadPool& pool_;
};

}  // namespace bifocal::weights
