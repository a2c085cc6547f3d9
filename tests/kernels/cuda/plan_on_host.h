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
  int tiles_of_part = 0;
};

// num_parts: groups of CTAs. max_slots: of a sequence.
inline HostPlan plan_on_host(const std::vector<int>& kv_len, int q_len, int window, const SpanRule& rule,
                             int num_parts, int max_slots, const int32_t* page_table = nullptr,
                             int64_t page_table_stride = 0) {
  HostPlan plan;
  const int num_seqs = static_cast<int>(kv_len.size());
  std::vector<int> end_cost;
  int total = 0;
  int shortest_span = 1 << 20;
  for (int i = 0; i < num_seqs; ++i) {
    plan.seqs.push_back(decode_sequence(rule, kv_len[static_cast<size_t>(i)], q_len, window, i * q_len));
    plan.seqs.back().table_row = i;
    total += sequence_cost(plan.seqs.back());
    end_cost.push_back(total);
    shortest_span = std::min(shortest_span, tiles_per_span(plan.seqs.back()));
  }
  plan.tiles_of_part = part_tiles(total, shortest_span, num_parts);
  std::vector<DecodeBoundary> boundaries;
  for (int part = 0; part <= num_parts; ++part) {
    const int position = part * plan.tiles_of_part;
    DecodeBoundary boundary;
    boundary.cut = {num_seqs, 0};
    if (part < num_parts && position < total) {
      const auto index =
          static_cast<int>(std::upper_bound(end_cost.begin(), end_cost.end(), position) - end_cost.begin());
      const int before = index > 0 ? end_cost[static_cast<size_t>(index - 1)] : 0;
      boundary = boundary_within(plan.seqs[static_cast<size_t>(index)], index, before, position,
                                 plan.tiles_of_part, max_slots, true);
    }
    boundaries.push_back(boundary);
  }
  for (size_t part = 0; part + 1 < boundaries.size(); ++part) {
    plan.parts.push_back(make_part(boundaries[part], boundaries[part + 1], plan.seqs.data()));
    DecodePart& made = plan.parts.back();
    const TileRange pages = inline_pages(made, 0);
    for (int page = pages.begin; page_table != nullptr && page < pages.end; ++page) {
      const int seq = made.seq + sequence_in_turn(made, 0);
      made.pages[page - pages.begin] = page_table[seq * page_table_stride + page];
    }
  }
  return plan;
}

}  // namespace bifocal::kernels::cuda
