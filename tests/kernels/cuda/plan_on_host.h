// The plan kernel's result, computed one record after the other.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "kernels/cuda/decode_plan.h"

namespace bifocal::kernels::cuda {

struct HostPlan {
  std::vector<DecodeSequence> seqs;
  std::vector<DecodePart> parts;
  int num_slots = 0;
};

// num_parts: groups of CTAs.
inline HostPlan plan_on_host(const std::vector<int>& kv_len, int q_len, int window, const SpanRule& rule,
                             int num_parts, const int32_t* page_table = nullptr,
                             int64_t page_table_stride = 0) {
  HostPlan plan;
  const int num_seqs = static_cast<int>(kv_len.size());
  std::vector<int> end_cost;
  int total = 0;
  for (int i = 0; i < num_seqs; ++i) {
    plan.seqs.push_back(decode_sequence(rule, kv_len[static_cast<size_t>(i)], q_len, window, i * q_len));
    total += sequence_cost(plan.seqs.back());
    end_cost.push_back(total);
  }
  const int snap = total / (num_parts * kSnapDivisor);
  std::vector<DecodeBoundary> boundaries;
  for (int part = 0; part <= num_parts; ++part) {
    DecodeBoundary boundary;
    boundary.cut = {num_seqs, 0};
    if (part < num_parts) {
      const int target = part_begin(total, part, num_parts);
      const auto index =
          static_cast<int>(std::upper_bound(end_cost.begin(), end_cost.end(), target) - end_cost.begin());
      const int before = index > 0 ? end_cost[static_cast<size_t>(index - 1)] : 0;
      boundary.cut = cut_within(plan.seqs.data(), num_seqs, index, target - before, snap);
    }
    boundary.inside = is_inside(boundary.cut, plan.seqs.data(), num_seqs);
    if (boundary.inside) {
      const DecodeBoundary* last = boundaries.empty() ? nullptr : &boundaries.back();
      if (last != nullptr && last->inside && last->cut.seq == boundary.cut.seq) {
        boundary.slot = last->slot;
        boundary.seq_cut = last->seq_cut;
        boundary.counter = last->counter;
      } else {
        boundary.slot = plan.num_slots;
        boundary.seq_cut = boundary.cut.span;
        boundary.counter = part;
        plan.num_slots +=
            slots_of_cut_sequence(plan.seqs[static_cast<size_t>(boundary.cut.seq)], boundary.cut.span);
      }
    }
    boundaries.push_back(boundary);
  }
  for (size_t part = 0; part + 1 < boundaries.size(); ++part) {
    plan.parts.push_back(make_part(boundaries[part], boundaries[part + 1], plan.seqs.data()));
    DecodePart& made = plan.parts.back();
    const TileRange pages = inline_pages(made, 0);
    for (int page = pages.begin; page_table != nullptr && page < pages.end; ++page) {
      made.pages[page - pages.begin] = page_table[made.seq * page_table_stride + page];
    }
  }
  return plan;
}

}  // namespace bifocal::kernels::cuda
