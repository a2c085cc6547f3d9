// The token rows of a phase's part of a step: sequences of a phase follow one another.
#pragma once

#include "attention/backend.h"

namespace bifocal::attention {

struct BatchRows {
  int64_t begin = 0;
  int64_t end = 0;
  int64_t count() const { return end - begin; }
};

inline BatchRows batch_rows(const AttentionBatch& batch) {
  BatchRows rows;
  for (size_t seq = 0; seq < batch.q_len.size(); ++seq) {
    if (batch.q_len[seq] == 0) continue;
    if (rows.count() == 0) rows.begin = batch.q_begin[seq];
    rows.end = batch.q_begin[seq] + batch.q_len[seq];
  }
  return rows;
}

}  // namespace bifocal::attention
