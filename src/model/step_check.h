// What every executor checks of a step before it computes: a wrong row would read or write somebody else's
// memory.
#pragma once

#include <cstdint>

#include "base/status.h"
#include "model/executor.h"

namespace bifocal::model {

// internal_error naming the first row, id, position or slot that is out of range. A cache has num_slots
// slots, and num_window_slots of layers with a window, or 0 where these have none of their own. num_chosen:
// logit rows of the step in flight, whose tokens rows may stand for.
Status check_step(const StepRows& rows, int vocab_size, int max_tokens, int64_t num_slots,
                  int64_t num_window_slots, int num_chosen = 0);

}  // namespace bifocal::model
