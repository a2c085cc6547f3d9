#include "model/step_check.h"

#include <fmt/format.h>

namespace bifocal::model {
namespace {

Status check_slots(std::span<const int64_t> slots, size_t num_tokens, int64_t num_slots) {
  if (num_slots == 0) return {};  // no layer asks for them
  if (slots.size() != num_tokens) {
    return internal_error(fmt::format("step of {} tokens, {} slots", num_tokens, slots.size()));
  }
  for (size_t t = 0; t < num_tokens; ++t) {
    if (slots[t] < 0 || slots[t] >= num_slots) {
      return internal_error(fmt::format("row {}: slot {} of {}", t, slots[t], num_slots));
    }
  }
  return {};
}

}  // namespace

Status check_step(const StepRows& rows, int vocab_size, int max_tokens, int64_t num_slots,
                  int64_t num_window_slots, int num_chosen) {
  const size_t num_tokens = rows.token_ids.size();
  if (num_tokens > static_cast<size_t>(max_tokens) || rows.positions.size() != num_tokens ||
      rows.logit_rows.size() > num_tokens) {
    return internal_error(
        fmt::format("step of {} tokens, {} positions, {} logit rows; prepared for {} tokens", num_tokens,
                    rows.positions.size(), rows.logit_rows.size(), max_tokens));
  }
  for (size_t t = 0; t < num_tokens; ++t) {
    const int32_t id = rows.token_ids[t];
    const bool chosen = id <= kernels::kFirstChosen && kernels::kFirstChosen - id < num_chosen;
    if (!chosen && (id < 0 || id >= vocab_size)) {
      return internal_error(
          fmt::format("row {}: token id {}, vocabulary {}, {} tokens chosen by a step in flight", t, id,
                      vocab_size, num_chosen));
    }
    if (rows.positions[t] < 0) {
      return internal_error(fmt::format("row {}: position {}", t, rows.positions[t]));
    }
  }
  BIFOCAL_RETURN_IF_ERROR(check_slots(rows.kv_slots, num_tokens, num_slots));
  BIFOCAL_RETURN_IF_ERROR(check_slots(rows.window_slots, num_tokens, num_window_slots));
  for (const int32_t row : rows.logit_rows) {
    if (row < 0 || static_cast<size_t>(row) >= num_tokens) {
      return internal_error(fmt::format("logits of row {} of {}", row, num_tokens));
    }
  }
  return {};
}

}  // namespace bifocal::model
