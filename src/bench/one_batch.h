// Prefill and decode of one batch without a server or scheduler, beside the machine's limits.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "attention/router.h"
#include "base/status.h"
#include "base/thread_pool.h"
#include "bench/one_batch_breakdown.h"
#include "model/model.h"

namespace bifocal::bench {

struct OneBatchShape {
  int batch = 1;       // sequences
  int input_len = 0;   // prompt tokens per sequence
  int output_len = 0;  // decode steps
};

struct OneBatchOptions {
  std::vector<OneBatchShape> shapes;
  attention::RouterOptions attention;
  DType weight_dtype = DType::f32;
  DType kv_dtype = DType::f32;
  int page_size = 64;
  int chunked_prefill_size = 2048;  // token rows per prefill step
  bool overlap_schedule = true;     // a decode step is submitted while the one before runs, on devices
  double warmup_s = 1.0;            // decode and prefill run this long before anything is timed
  int breakdown_repeats = 0;  // > 0: also say where the time goes, from so many traced runs of each phase
};

// Work of a step in the units of the limits: floating-point operations, and bytes that must come from memory
// once.
struct StepWork {
  double flops = 0;
  double bytes = 0;
};
// `rows` token rows of which logit_rows get logits; `pairs` query-key pairs per head, summed over sequences;
// kv_tokens keys read, summed over sequences. Of experts, those count as read that the rows choose if they
// choose evenly.
StepWork step_work(const model::ModelSpec& spec, DType weight_dtype, DType kv_dtype, double rows,
                   double logit_rows, double pairs, double kv_tokens);

struct OneBatchRow {
  OneBatchShape shape;
  double prefill_s = 0;
  double prefill_tokens_per_s = 0;
  double prefill_flops_per_s = 0;
  double decode_median_s = 0;      // per step
  double decode_tokens_per_s = 0;  // all sequences, from the median
  double decode_bytes_per_s = 0;
  double dram_read_bytes_per_s = 0;     // median of bursts between the decode steps, on the same threads;
                                        // 0 for a model that runs elsewhere
  std::optional<double> idle_median_s;  // between decode steps the device computed nothing; empty on the CPU
  std::string prefill_backend;
  std::string decode_backend;
  std::vector<Breakdown> breakdowns;  // with breakdown_repeats: prefill, decode
};

// Makes the model an executor. on_row is called after each shape. `pool` is the one the model computes on.
Status run_one_batch(model::Model& model, const OneBatchOptions& options, ThreadPool& pool,
                     const std::function<void(const OneBatchRow&)>& on_row);

}  // namespace bifocal::bench
