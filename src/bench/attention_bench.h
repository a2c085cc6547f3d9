// Attention backends over a grid of shapes, each against the limit that binds it: reading the cache for few
// query rows, multiplying for many. The table and the plot show where the prefill and the decode backend
// cross.
#pragma once

#include <functional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "base/status.h"
#include "base/thread_pool.h"
#include "bench/attention_problem.h"
#include "bench/plot.h"
#include "bench/table.h"

namespace bifocal::bench {

// All combinations of the lists, those left out that can't be: heads that are no multiple of the KV heads,
// more query tokens than keys, shared prefixes that leave no room for the query tokens.
struct AttentionGrid {
  std::vector<int> heads = {32};
  std::vector<int> kv_heads = {8};
  std::vector<attention::HeadDims> dims = {{128, 128}};
  std::vector<int> batch = {1};
  std::vector<int> q_len = {1};
  std::vector<int> kv_len = {1024};
  std::vector<int> shared_prefix = {0};
  std::vector<int> page_size = {64};
  std::vector<int> window = {0};
  std::vector<DType> dtype = {DType::bf16};
  std::vector<bool> random_pages = {false};
};
std::vector<AttentionShape> expand(const AttentionGrid& grid);

// "128,192/128": one number for K and V, or K's and V's. "f32,bfloat16". Errors name the part.
Expected<std::vector<attention::HeadDims>> parse_head_dims(std::string_view text);
Expected<std::vector<DType>> parse_dtypes(std::string_view text);

struct AttentionBenchRow {
  AttentionShape shape;
  std::string backend;
  double plan_s = 0;          // one plan(), median
  double median_s = 0;        // one layer's run(), median of the bursts
  double best_s = 0;          // the best of the bursts: what the rates and fractions are made of
  double bytes_per_s = 0;     // see bytes_of()
  double flops = 0;           // see flops_of(), per second
  double read_fraction = 0;   // bytes_per_s of the DRAM read rate
  double page_fraction = 0;   // bytes_per_s of the rate at which a bare loop reads pages of this shape
  double flops_fraction = 0;  // flops of the f32 FMA peak
  double max_error = -1;      // largest difference from `reference`; -1: not checked
  bool fastest = false;       // among the backends of this shape
};

struct AttentionBenchOptions {
  std::vector<std::string> backends;  // names or aliases; empty: all but `reference`
  double seconds_per_row = 1.0;
  bool check = false;  // compare with `reference`
  // Memory that is read round and round; it must be much larger than the processor's caches.
  size_t set_bytes = size_t{3} << 29;
  std::function<void(size_t done, size_t total, const std::string& what)> progress;
};

// Every eligible backend on every shape. Alternates bursts of each backend with bursts of the limits, so that
// both see the same neighbours on the machine.
Expected<std::vector<AttentionBenchRow>> bench_attention(std::span<const AttentionShape> shapes,
                                                         const AttentionBenchOptions& options,
                                                         ThreadPool& pool);
Table to_table(std::span<const AttentionBenchRow> rows);

// Microseconds over query tokens: a panel for each set of shapes that differ in nothing else and have
// several.
std::vector<PlotPanel> crossover_panels(std::span<const AttentionBenchRow> rows);

// plan() of `num_seqs` decode sequences of 1 to 8192 keys, 32 heads on 8 KV heads: one thread plans for a
// pool of num_threads.
struct PlanBenchRow {
  std::string backend;
  int num_seqs = 0;
  int64_t num_keys = 0;
  double median_s = 0;
  double best_s = 0;
};
Expected<std::vector<PlanBenchRow>> bench_planning(int num_seqs, const AttentionBenchOptions& options,
                                                   int num_threads);
Table to_table(std::span<const PlanBenchRow> rows);

}  // namespace bifocal::bench
