// Where the time of a batch's steps goes, from the spans of a trace: by operation, each beside its limit.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "base/status.h"
#include "base/trace.h"
#include "bench/ceilings.h"
#include "bench/table.h"

namespace bifocal::bench {

struct OperationTime {
  trace::Kind kind = trace::Kind::step;
  std::string name;   // "gemm bf16 3072x1024" (N x K), "attention streaming", "norm", "other"
  int64_t calls = 0;  // of all recorded steps
  double seconds = 0;
  double flops = 0;  // a multiply-add is two; 0 where they aren't counted
  double bytes = 0;  // weights, keys and values: what must come from memory once per call
};

struct Breakdown {
  std::string phase;     // "prefill", "decode"
  int64_t steps = 0;     // recorded
  uint64_t dropped = 0;  // spans that there was no room for
  double seconds = 0;    // of the recorded steps
  // Of a pass of the phase's work, medians of several, in turns.
  double traced_s = 0;
  double untraced_s = 0;
  std::vector<OperationTime> operations;  // longest first; their seconds add up to `seconds`
};

// Adds the spans of steps. A span counts without the spans inside it; what steps, layers and phases spend
// outside of any operation is "other". On a GPU the operations are the kernels and copies of steps; "other"
// is what steps take beside them.
void add_recording(const trace::Recording& recording, Breakdown& breakdown);

// Runs `pass` repeats times traced and as often untraced, in turns.
Expected<Breakdown> break_down(std::string phase, int repeats, const std::function<Status()>& pass);

struct BreakdownRow {
  int batch = 0;
  int input_len = 0;
  Breakdown breakdown;
  double dram_read_bytes_per_s = 0;
};
// The limit of an operation is what takes longer at the machine's best: its arithmetic or its bytes.
// Small models are quicker than that where their weights stay in the caches.
// bf16_attention: attention multiplies with the bf16 instructions.
Table to_table(const std::vector<BreakdownRow>& rows, const Ceilings& limits, bool bf16_attention);

}  // namespace bifocal::bench
