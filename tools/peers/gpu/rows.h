// The rows of the benchmark: what is timed, and the tables it prints.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "cold_read.h"
#include "kernels/cuda/decode.h"

namespace bifocal::peers {

struct Options {
  std::string what = "limits,plan,decode,mixed";
  kernels::cuda::SpanRule spans{0, 0, 0};  // min_log2 0: the default for the heads
  bool quick = false;
  int heads = 0;  // one shape only, when set
  int kv_heads = 0;
  int batch = 0;
  int len = 0;
};

// Large pools of random bf16 that everything is read from.
struct Pools {
  uint16_t* k = nullptr;
  uint16_t* v = nullptr;
  size_t bytes = 0;  // of each
};

void bench_decode(const Options& options, const Pools& pools, ColdRead& cold);
void bench_mixed(const Options& options, const Pools& pools, ColdRead& cold);
void bench_prefill(const Options& options, const Pools& pools);
void bench_plan(const Options& options);

}  // namespace bifocal::peers
