// What determinism costs: conversations of several turns, each in the default mode and with --deterministic,
// where an earlier answer is computed again as part of the next prompt.
#pragma once

#include <functional>
#include <vector>

#include "base/status.h"
#include "bench/repeats.h"
#include "bench/table.h"
#include "engine/engine.h"
#include "model/model.h"

namespace bifocal::bench {

struct ConversationsShape {
  int num_conversations = 8;  // at the same time
  int num_turns = 3;
  int user_len = 128;   // tokens that each turn adds to the prompt
  int answer_len = 64;  // tokens that each turn writes
};

struct ConversationsOptions {
  std::vector<ConversationsShape> shapes;
  int repeats = 3;               // of either mode, in turns
  engine::EngineOptions engine;  // page size, KV dtype, chunk size, pool, backends, ...; the rest is set here
  std::function<void()> on_run;  // after each
};

struct ConversationsRow {
  ConversationsShape shape;
  bool deterministic = false;
  Measured answer_tokens_per_s;  // all conversations
  Measured ttft_s;               // mean over all turns and conversations
  double cached_fraction = 0;    // of the prompts' tokens
};

// Rows in the order of shapes, the default mode first. The model is prepared here. Errors: the engine's.
Expected<std::vector<ConversationsRow>> run_conversations(model::Model& model,
                                                          const ConversationsOptions& options);

Table to_table(const std::vector<ConversationsRow>& rows);

}  // namespace bifocal::bench
