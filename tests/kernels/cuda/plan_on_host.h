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

inline HostPlan plan_on_host(const std::vector<int>& kv_len, int num_kv_heads, int q_len, int window,
                             const SpanRule& rule, int num_parts) {
  HostPlan plan;
  const int num_seqs = static_cast<int>(kv_len.size());
  std::vector<int> end_cost;
  int total = 0;
  for (int i = 0; i < num_seqs; ++i) {
    plan.seqs.push_back(decode_sequence(rule, kv_len[static_cast<size_t>(i)], q_len, window, i * q_len));
    total += unit_cost(plan.seqs.back()) * num_kv_heads;
    end_cost.push_back(total);
  }
  const int snap = total / (num_parts * kSnapDivisor);
  std::vector<DecodeBoundary> boundaries;
  for (int part = 0; part <= num_parts; ++part) {
    DecodeBoundary boundary;
    boundary.cut = {num_seqs, 0, 0};
    if (part < num_parts) {
      const int target = static_cast<int>(int64_t{total} * part / num_parts);
      const auto index =
          static_cast<int>(std::upper_bound(end_cost.begin(), end_cost.end(), target) - end_cost.begin());
      const int before = index > 0 ? end_cost[static_cast<size_t>(index - 1)] : 0;
      boundary.cut = cut_within(plan.seqs.data(), num_seqs, index, num_kv_heads, target - before, snap);
    }
    boundary.inside = is_inside(boundary.cut, plan.seqs.data(), num_seqs);
    if (boundary.inside) {
      const DecodeBoundary* last = boundaries.empty() ? nullptr : &boundaries.back();
      if (last != nullptr && last->inside && last->cut.seq == boundary.cut.seq &&
          last->cut.head == boundary.cut.head) {
        boundary.slot = last->slot;
        boundary.unit_cut = last->unit_cut;
        boundary.counter = last->counter;
      } else {
        boundary.slot = plan.num_slots;
        boundary.unit_cut = boundary.cut.span;
        boundary.counter = part;
        plan.num_slots +=
            slots_of_cut_unit(plan.seqs[static_cast<size_t>(boundary.cut.seq)], boundary.cut.span);
      }
    }
    boundaries.push_back(boundary);
  }
  for (size_t part = 0; part + 1 < boundaries.size(); ++part) {
    plan.parts.push_back(make_part(boundaries[part], boundaries[part + 1], plan.seqs.data(), num_kv_heads));
  }
  return plan;
}

}  // namespace bifocal::kernels::cuda
