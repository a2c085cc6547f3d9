// How a decode step is cut into work: the arithmetic that the plan kernel, the decode kernel and the tests
// share. Plain C++, so a test checks it without a GPU.
//
// A unit is one KV head of one sequence. Its keys fall into spans that end at absolute multiples of a length
// that depends on the sequence's own number of keys, never on the batch. Every span is computed from scratch
// and spans are folded left to right, whoever computes them: where the work is cut changes no bit of a
// result.
//
// Units in order (sequence, head) form one line, measured in tiles of kTileTokens keys. The line is cut into
// equal parts, one for each CTA, at ends of spans.
#pragma once

#include <cstdint>

#ifdef __CUDACC__
#define BIFOCAL_HD __host__ __device__ __forceinline__
#else
#define BIFOCAL_HD inline
#endif

namespace bifocal::kernels::cuda {

constexpr int kTileTokens = 64;  // keys of a tile; a page holds a whole number of tiles

// Span length: the smallest power of two, within bounds, that gives at most max_spans spans.
struct SpanRule {
  int32_t min_log2 = 7;
  int32_t max_log2 = 10;
  int32_t max_spans = 64;
};

BIFOCAL_HD int span_log2(const SpanRule& rule, int kv_len) {
  int log2 = rule.min_log2;
  while (log2 < rule.max_log2 && ((kv_len - 1) >> log2) >= rule.max_spans) ++log2;
  return log2;
}

// What a step's sequence needs of its KV cache. kv_begin is the first key that any of its rows sees.
struct DecodeSequence {
  int32_t kv_begin = 0;
  int32_t kv_end = 0;
  int32_t span_log2 = 0;
  int32_t span_begin = 0;  // [span_begin, span_end): never empty, so that every unit has someone to write it
  int32_t span_end = 0;
  int32_t q_row = 0;  // first query row
  int32_t padding[2] = {0, 0};
};

// window: 0 for none. q_len query tokens, the last of which sees all kv_len keys.
BIFOCAL_HD DecodeSequence decode_sequence(const SpanRule& rule, int kv_len, int q_len, int window,
                                          int q_row) {
  DecodeSequence seq;
  seq.kv_end = kv_len > 0 ? kv_len : 0;
  const int begin = window > 0 ? kv_len - q_len + 1 - window : 0;
  seq.kv_begin = begin > 0 ? begin : 0;
  seq.span_log2 = span_log2(rule, seq.kv_end > 0 ? seq.kv_end : 1);
  const int length = 1 << seq.span_log2;
  seq.span_begin = seq.kv_begin >> seq.span_log2;
  seq.span_end = (seq.kv_end + length - 1) >> seq.span_log2;
  if (seq.span_end <= seq.span_begin) seq.span_end = seq.span_begin + 1;
  seq.q_row = q_row;
  return seq;
}

BIFOCAL_HD int tiles_per_span(const DecodeSequence& seq) {
  return (1 << seq.span_log2) / kTileTokens;
}

// Cost of a unit, in tiles.
BIFOCAL_HD int unit_cost(const DecodeSequence& seq) {
  return (seq.span_end - seq.span_begin) * tiles_per_span(seq);
}

// A place between two spans: before span `span` of (seq, head).
struct DecodeCut {
  int32_t seq = 0;
  int32_t head = 0;
  int32_t span = 0;
};

// Whether the cut parts a unit. seqs: [num_seqs].
BIFOCAL_HD bool is_inside(const DecodeCut& cut, const DecodeSequence* seqs, int num_seqs) {
  return cut.seq < num_seqs && cut.span > seqs[cut.seq].span_begin;
}

// A cut moves to the end of a unit that is nearer than a part's share divided by this.
constexpr int kSnapDivisor = 128;

// The cut at `cost` tiles after the start of sequence `index`, rounded down to an end of a span, or to an end
// of a unit when one lies within `snap` tiles. `cost` is less than the cost of all heads of the sequence.
BIFOCAL_HD DecodeCut cut_within(const DecodeSequence* seqs, int num_seqs, int index, int num_kv_heads,
                                int cost, int snap) {
  const DecodeSequence& seq = seqs[index];
  const int unit = unit_cost(seq);
  int head = cost / unit;
  int rest = cost - head * unit;
  if (rest <= snap && rest * 2 <= unit) rest = 0;
  if (rest > 0 && unit - rest <= snap) {
    ++head;
    rest = 0;
  }
  if (head < num_kv_heads) return {index, head, seq.span_begin + rest / tiles_per_span(seq)};
  return {index + 1, 0, index + 1 < num_seqs ? seqs[index + 1].span_begin : 0};
}

// One CTA's share: `num_units` consecutive units, the first from span `span` on, the last up to `span_end`.
// Units that several parts share ("cut") leave partial states in slots and count finished spans; who
// completes the count folds. The part that has a cut unit's first spans folds them at once, into the unit's
// first slot; every span from `*_cut`, the unit's first cut, on has a slot of its own after it.
struct DecodePart {
  int32_t seq = 0;
  int32_t head = 0;
  int32_t span = 0;
  int32_t num_units = 0;
  int32_t span_end = 0;
  int32_t first_slot = -1;  // of the first unit; -1: not cut
  int32_t first_cut = 0;
  int32_t first_counter = 0;
  int32_t last_slot = -1;  // of the last unit, when it isn't the first
  int32_t last_cut = 0;
  int32_t last_counter = 0;
  int32_t padding[5] = {0, 0, 0, 0, 0};
};
static_assert(sizeof(DecodePart) == 64 && sizeof(DecodeSequence) == 32);

// A cut and, when it lies inside a unit, where that unit's partial states are.
struct DecodeBoundary {
  DecodeCut cut;
  bool inside = false;
  int32_t slot = 0;      // the unit's first
  int32_t unit_cut = 0;  // span of the unit's first cut
  int32_t counter = 0;   // the unit's counter: index of its first cut
};

// Slots of a unit whose first cut is before `span`: one for all spans before it, one for each span after.
BIFOCAL_HD int slots_of_cut_unit(const DecodeSequence& seq, int span) {
  return 1 + seq.span_end - span;
}

// The part between two boundaries. seqs: [B].
BIFOCAL_HD DecodePart make_part(const DecodeBoundary& begin, const DecodeBoundary& end,
                                const DecodeSequence* seqs, int num_kv_heads) {
  DecodePart part;
  part.seq = begin.cut.seq;
  part.head = begin.cut.head;
  part.span = begin.cut.span;
  const int begin_unit = begin.cut.seq * num_kv_heads + begin.cut.head;
  const int end_unit = end.cut.seq * num_kv_heads + end.cut.head;
  if (begin_unit == end_unit && begin.cut.span == end.cut.span) return part;
  part.num_units = end_unit - begin_unit + (end.inside ? 1 : 0);
  part.span_end = end.inside ? end.cut.span : seqs[(end_unit - 1) / num_kv_heads].span_end;
  const bool single = part.num_units == 1;
  if (begin.inside || (single && end.inside)) {
    const DecodeBoundary& cut = begin.inside ? begin : end;
    part.first_slot = cut.slot;
    part.first_cut = cut.unit_cut;
    part.first_counter = cut.counter;
  }
  if (end.inside && !single) {
    part.last_slot = end.slot;
    part.last_cut = end.unit_cut;
    part.last_counter = end.counter;
  }
  return part;
}

}  // namespace bifocal::kernels::cuda
