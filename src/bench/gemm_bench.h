// Matrix products of one shape against the limit that binds them: reading W for few rows, multiplying for
// many.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/status.h"
#include "base/thread_pool.h"
#include "tensor/dtype.h"

namespace bifocal::bench {

struct GemmShape {
  int64_t m = 0;
  int64_t n = 0;
  int64_t k = 0;
  DType dtype = DType::bf16;
};

struct GemmBenchRow {
  GemmShape shape;
  double seconds = 0.0;         // of one product, the best of several bursts
  double flops = 0.0;           // 2 m n k per second
  double bytes_per_s = 0.0;     // of W
  double read_fraction = 0.0;   // bytes_per_s of the DRAM read rate
  double flops_fraction = 0.0;  // of the arithmetic peak for this type: f32, or the bf16 instructions' in use
  double fma_fraction = 0.0;    // of the f32 FMA peak, whatever the type
  bool memory_bound = false;    // which limit the shape comes closer to
  double fraction() const { return memory_bound ? read_fraction : flops_fraction; }
};

// M = 1, 4, 16 and 512 for square and decoder shapes in f32 and bf16.
std::vector<GemmShape> default_gemm_shapes();

// Alternates bursts of each product with bursts of its limits, so that both see the same neighbours on the
// machine. W is taken from a set of matrices that together exceed the caches, as the layers of a model do.
Expected<std::vector<GemmBenchRow>> bench_gemm(std::span<const GemmShape> shapes, ThreadPool& pool);

}  // namespace bifocal::bench
