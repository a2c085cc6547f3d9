// The rows of the benchmark of a layer's other kernels.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "cold_read.h"

namespace bifocal::peers {

// Random bf16 that weights are read from, many times the L2.
struct WeightPool {
  const uint16_t* data = nullptr;
  size_t bytes = 0;
};

// Products of few rows beside the cold read of their weights and beside cuBLASLt.
void bench_skinny(const WeightPool& pool, ColdRead& cold, int num_sms, bool quick);
// All products between two attentions of a layer, as one kernel and link by link, beside the cold read.
void bench_chain(const WeightPool& pool, ColdRead& cold, int num_sms, bool quick);
// Products of many rows beside a large square one.
void bench_large(const WeightPool& pool);
// Norms, rotation, gates, gathers, sampling, random weights beside the bytes that they move.
void bench_small(ColdRead& cold);

}  // namespace bifocal::peers
