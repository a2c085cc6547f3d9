// How a decode step is cut into work: the arithmetic that the plan kernel, the decode kernel and the tests
// share. Plain C++, so a test checks it without a GPU.
//
// A unit is one KV head of one sequence. Its keys fall into spans that end at absolute multiples of a length
// that depends on the sequence's own number of keys, never on the batch. Every span is computed from scratch
// and spans are folded left to right, whoever computes them: where the work is cut changes no bit of a
// result.
//
// The sequences' spans form one line, measured in tiles of kTileTokens keys, cut into equal parts at ends of
// spans. A part is the work of a group of HK CTAs, one for each KV head: they read the heads of a page at
// about the same time, and these lie side by side in memory.
#pragma once

#include <cstdint>

#ifdef __CUDACC__
#define BIFOCAL_HD __host__ __device__ __forceinline__
#else
#define BIFOCAL_HD inline
#endif

namespace bifocal::kernels::cuda {

constexpr int kTileLog2 = 6;
constexpr int kTileTokens = 1 << kTileLog2;  // keys of a tile; a page holds a power of two of them

// Span length: the smallest power of two, within bounds, that gives at most max_spans spans.
struct SpanRule {
  int32_t min_log2 = 7;
  int32_t max_log2 = 9;
  int32_t max_spans = 8;
};

// Enough spans for the CTAs when there is one sequence, few enough to fold quickly. Measured on an H200.
BIFOCAL_HD SpanRule default_span_rule(int num_kv_heads) {
  const int spans = 64 / (num_kv_heads > 0 ? num_kv_heads : 1);
  return {7, 9, spans < 8 ? 8 : (spans > 32 ? 32 : spans)};
}

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
  int32_t q_row = 0;      // first query row
  int32_t table_row = 0;  // of the page table
  int32_t padding = 0;
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
  return 1 << (seq.span_log2 - kTileLog2);
}

struct TileRange {
  int begin;
  int end;
};

// The tiles of a span that hold keys.
BIFOCAL_HD TileRange tiles_of_span(const DecodeSequence& seq, int span) {
  const int per_span = tiles_per_span(seq);
  const int first = seq.kv_begin >> kTileLog2;
  const int last = (seq.kv_end + kTileTokens - 1) >> kTileLog2;
  const int begin = span * per_span;
  return {begin > first ? begin : first, begin + per_span < last ? begin + per_span : last};
}

// Cost of a sequence, in tiles of a head.
BIFOCAL_HD int sequence_cost(const DecodeSequence& seq) {
  return (seq.span_end - seq.span_begin) << (seq.span_log2 - kTileLog2);
}

// A place between two spans: before span `span` of sequence `seq`.
struct DecodeCut {
  int32_t seq = 0;
  int32_t span = 0;
};

// Tiles of a part, the last ones' aside: an equal share, rounded up to the shortest span of the step. So
// sequences of equal length are cut at equal places, or, where whole ones fit, not at all.
BIFOCAL_HD int part_tiles(int total, int shortest_span, int num_parts) {
  const int share = (total + num_parts - 1) / num_parts;
  return (share + shortest_span - 1) & ~(shortest_span - 1);
}

// A part: `num_seqs` consecutive sequences, the first from span `span` on, the last up to `span_end`. A
// sequence that several parts share ("cut") leaves partial states in slots. The part that has a cut
// sequence's first spans folds them at once, into the first slot.
//
// A short cut sequence, no longer than a part, is shared by two (continues_sequences). The first one takes
// its spans before all others, the second one after all others, and goes on from the state that the first one
// has left: `*_cut` is kContinued. Of a longer sequence every span from `*_cut`, its first cut, on has a slot
// of its own.
//
// What a CTA needs to start is all here, one load away: the sequence and the pages that it takes first.
constexpr int kInlinePages = 16;
constexpr int kContinued = -1;

// Whether short cut sequences are continued. Wider kernels have no registers to spare for it: there every
// span behind a cut has a slot.
BIFOCAL_HD constexpr bool continues_sequences(int head_dim, int padded_rows) {
  return head_dim * padded_rows <= 1024;
}

// Whether queries can be rotated on the way: the same kernels have registers for it.
BIFOCAL_HD constexpr bool rotates_rows(int head_dim, int padded_rows) {
  return continues_sequences(head_dim, padded_rows);
}

struct DecodePart {
  int32_t seq = 0;
  int32_t num_seqs = 0;
  int32_t span = 0;
  int32_t span_end = 0;
  int32_t first_slot = -1;  // of the first sequence; -1: not cut
  int32_t first_cut = 0;
  int32_t last_slot = -1;  // of the last sequence, when it isn't the first
  int32_t last_cut = 0;
  DecodeSequence start_seq;
  int32_t pages[kInlinePages] = {};
};
static_assert(sizeof(DecodePart) == 128 && sizeof(DecodeSequence) == 32);

// Which of its sequences the part takes as its i-th.
BIFOCAL_HD int sequence_in_turn(const DecodePart& part, int i) {
  const int last = part.num_seqs - 1;
  const bool last_first = last > 0 && part.last_slot >= 0 && part.last_cut == kContinued;
  const bool first_last = last > 0 && part.first_slot >= 0 && part.first_cut == kContinued;
  if (last_first) {
    if (i == 0) return last;
    if (!first_last) return i - 1;
    return i < last ? i : 0;
  }
  if (first_last) return i < last ? i + 1 : 0;
  return i;
}

// Spans of sequence `index` of the part.
struct SpanRange {
  int begin;
  int end;
};
BIFOCAL_HD SpanRange spans_in_part(const DecodePart& part, int index, const DecodeSequence& seq) {
  return {index == 0 ? part.span : seq.span_begin, index == part.num_seqs - 1 ? part.span_end : seq.span_end};
}

// Pages that the part reads first: [begin, end), at most kInlinePages. A page holds 2^page_tiles_log2 tiles.
BIFOCAL_HD TileRange inline_pages(const DecodePart& part, int page_tiles_log2) {
  if (part.num_seqs == 0) return {0, 0};
  const SpanRange spans = spans_in_part(part, sequence_in_turn(part, 0), part.start_seq);
  const int begin = tiles_of_span(part.start_seq, spans.begin).begin >> page_tiles_log2;
  const int last_tile = tiles_of_span(part.start_seq, spans.end - 1).end;
  const int end = (last_tile + (1 << page_tiles_log2) - 1) >> page_tiles_log2;
  return {begin, end < begin + kInlinePages ? end : begin + kInlinePages};
}

// Partial states travel in packets of so many head dims, each with its row's (m, l).
constexpr int kPacketDims = 16;
constexpr int kPacketVectors = kPacketDims / 4;

// Slots of a sequence whose first cut is before `span`: one for all spans before it, one for each span after.
BIFOCAL_HD int slots_of_cut_sequence(const DecodeSequence& seq, int span) {
  return 1 + seq.span_end - span;
}

// A cut and, when it lies inside a sequence, where that sequence's partial states are.
struct DecodeBoundary {
  DecodeCut cut;
  bool inside = false;
  int32_t slot = 0;     // the sequence's first
  int32_t seq_cut = 0;  // span of the sequence's first cut, or kContinued
};

// The boundary that lies `position` tiles after the start of the line, at the start of a part, within
// sequence `index`, which begins `before` tiles after it: rounded down to an end of a span. Every sequence
// that is cut takes max_slots slots, numbered by the part that its first cut begins.
BIFOCAL_HD DecodeBoundary boundary_within(const DecodeSequence& seq, int index, int before, int position,
                                          int tiles_of_part, int max_slots, bool continues) {
  const int log2 = seq.span_log2 - kTileLog2;
  const int span = (position - before) >> log2;
  DecodeBoundary boundary;
  boundary.cut = {index, seq.span_begin + span};
  if (span == 0) return boundary;
  const int first_part = (before + (1 << log2) + tiles_of_part - 1) / tiles_of_part;
  boundary.inside = true;
  boundary.slot = first_part * max_slots;
  boundary.seq_cut = continues && sequence_cost(seq) <= tiles_of_part
                         ? kContinued
                         : seq.span_begin + ((first_part * tiles_of_part - before) >> log2);
  return boundary;
}

// The part between two boundaries. seqs: [B].
BIFOCAL_HD DecodePart make_part(const DecodeBoundary& begin, const DecodeBoundary& end,
                                const DecodeSequence* seqs) {
  DecodePart part;
  part.seq = begin.cut.seq;
  part.span = begin.cut.span;
  if (begin.cut.seq == end.cut.seq && begin.cut.span == end.cut.span) return part;
  part.num_seqs = end.cut.seq - begin.cut.seq + (end.inside ? 1 : 0);
  part.span_end = end.inside ? end.cut.span : seqs[end.cut.seq - 1].span_end;
  const bool single = part.num_seqs == 1;
  if (begin.inside || (single && end.inside)) {
    const DecodeBoundary& cut = begin.inside ? begin : end;
    part.first_slot = cut.slot;
    part.first_cut = cut.seq_cut;
  }
  if (end.inside && !single) {
    part.last_slot = end.slot;
    part.last_cut = end.seq_cut;
  }
  part.start_seq = seqs[part.seq + sequence_in_turn(part, 0)];
  return part;
}

}  // namespace bifocal::kernels::cuda
