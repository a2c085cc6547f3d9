// Attention backends over a grid of shapes, each against the limit that binds it: reading the cache for few
// query rows, multiplying for many. The table shows where the prefill and the decode backend cross.
#pragma once

#include <functional>
#include <span>
#include <string>
#include <vector>

#include "base/status.h"
#include "base/thread_pool.h"
#include "bench/table.h"
#include "tensor/dtype.h"

namespace bifocal::bench {

// `batch` equal sequences of kv_len keys, the last q_len of which are this step's.
struct AttentionShape {
  int num_heads = 32;
  int num_kv_heads = 8;
  int head_dim_k = 128;
  int head_dim_v = 128;
  int batch = 1;
  int q_len = 1;
  int kv_len = 1024;
  int page_size = 16;
  int window = 0;
  DType dtype = DType::bf16;  // of keys and values
};
std::string to_string(const AttentionShape& shape);  // "h32/8 d128 b1 q1 kv1024 p16 bf16"

// All combinations of the lists, those with q_len > kv_len left out.
struct AttentionGrid {
  std::vector<std::pair<int, int>> heads = {{32, 8}};    // H, HK
  std::vector<std::pair<int, int>> dims = {{128, 128}};  // Dk, Dv
  std::vector<int> batch = {1};
  std::vector<int> q_len = {1};
  std::vector<int> kv_len = {1024};
  std::vector<int> page_size = {16};
  std::vector<int> window = {0};
  std::vector<DType> dtype = {DType::bf16};
};
std::vector<AttentionShape> expand(const AttentionGrid& grid);
// Decode of 8 x 8192 tokens and prefill of 2048 tokens as the acceptance figures have them, and the crossover
// between.
std::vector<AttentionShape> default_attention_shapes();

struct AttentionBenchRow {
  AttentionShape shape;
  std::string backend;
  double plan_s = 0;          // one plan(), median
  double median_s = 0;        // one layer's run(), median of the bursts
  double best_s = 0;          // the best of the bursts: what the fractions are made of
  double bytes_per_s = 0;     // keys and values that some row sees, each once
  double flops = 0;           // 2 (Dk + Dv) per head and visible (query, key) pair, per second
  double read_fraction = 0;   // bytes_per_s of the DRAM read rate
  double flops_fraction = 0;  // flops of the f32 FMA peak
  double max_error = -1;      // largest difference from `reference`; -1: not checked
  bool fastest = false;       // among the backends of this shape
};

struct AttentionBenchOptions {
  std::vector<std::string> backends;  // names or aliases; empty: tiled and streaming
  double seconds_per_row = 1.0;
  bool check = false;  // compare with `reference`
  std::function<void(size_t done, size_t total, const std::string& what)> progress;
};

// Alternates bursts of each backend with bursts of the limits, so that both see the same neighbours on the
// machine. The caches of several layers are used in turn, together more than the processor's caches hold.
Expected<std::vector<AttentionBenchRow>> bench_attention(std::span<const AttentionShape> shapes,
                                                         const AttentionBenchOptions& options,
                                                         ThreadPool& pool);

Table to_table(std::span<const AttentionBenchRow> rows);

}  // namespace bifocal::bench
