// A long prompt arrives among decoding requests: what a backend for each phase gains over one backend for the
// whole batch. The real engine, scheduler included; only the decoding requests' contexts are made up.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "base/status.h"
#include "bench/repeats.h"
#include "bench/table.h"
#include "engine/engine.h"
#include "model/model.h"

namespace bifocal::bench {

struct MixedStepShape {
  int num_decodes = 32;   // requests that are decoding when the prompt arrives
  int context_len = 256;  // tokens that each of them has behind it
  int prompt_len = 2048;  // of the request that arrives
  int output_len = 16;    // tokens that it writes
};

struct MixedStepOptions {
  std::vector<MixedStepShape> shapes;
  std::vector<std::string> backends = {"tiled", "streaming", "tiled,streaming"};  // as --attention-backend
  int repeats = 3;               // of every backend, in turns
  engine::EngineOptions engine;  // page size, KV dtype, chunk size, pool, ...; the rest is set here
  std::function<void()> on_run;  // after each
};

// From the arrival of the prompt to its last token.
struct MixedStepRow {
  MixedStepShape shape;
  std::string backends;
  Measured tokens_per_s;  // prompt tokens and written tokens, of all requests
  Measured ttft_s;        // of the long prompt
  Measured itl_p50_s;     // between two tokens of a decoding request
  Measured itl_p99_s;
  Measured prefill_attention_s;  // time in attention, by phase
  Measured decode_attention_s;
  bool best = false;  // most tokens per second of its shape
};

// Rows in the order of shapes and backends. The model is prepared here. Errors: the engine's (memory, a
// backend that can't serve the model).
Expected<std::vector<MixedStepRow>> run_mixed_step(model::Model& model, const MixedStepOptions& options);

// The best of each shape in bold ("**") when `markdown`.
Table to_table(const std::vector<MixedStepRow>& rows, bool markdown);

}  // namespace bifocal::bench
