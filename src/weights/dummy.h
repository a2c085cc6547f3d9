// Random weights from shapes alone (--load-format dummy): for benchmarks and tests that need no trained
// model.
#pragma once

#include <cstdint>

#include "base/thread_pool.h"
#include "weights/weight_source.h"

namespace bifocal::weights {

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
