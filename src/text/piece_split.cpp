#include "text/piece_split.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <utility>

namespace bifocal::text {
namespace {

struct Span {
  ByteRange range;
  bool match;
};

// The matches and what lies between them, covering the piece.
void cover(const std::vector<ByteRange>& matches, size_t size, bool invert, std::vector<Span>& spans) {
  spans.clear();
  size_t done = 0;
  for (const ByteRange m : matches) {
    if (done < m.begin) spans.push_back({{done, m.begin}, invert});
    spans.push_back({m, !invert});
    done = m.end;
  }
  if (done < size) spans.push_back({{done, size}, invert});
}

void merge_with_previous(const std::vector<Span>& spans, std::vector<ByteRange>& out) {
  bool after_match = false;
  for (const Span& span : spans) {
    if (span.match && !after_match && !out.empty()) {
      out.back().end = span.range.end;
    } else {
      out.push_back(span.range);
    }
    after_match = span.match;
  }
}

void merge_with_next(const std::vector<Span>& spans, std::vector<ByteRange>& out) {
  bool before_match = false;
  for (size_t i = spans.size(); i-- > 0;) {
    if (spans[i].match && !before_match && !out.empty()) {
      out.back().begin = spans[i].range.begin;
    } else {
      out.push_back(spans[i].range);
    }
    before_match = spans[i].match;
  }
  std::reverse(out.begin(), out.end());
}

void merge_equal(const std::vector<Span>& spans, std::vector<ByteRange>& out) {
  for (size_t i = 0; i < spans.size(); ++i) {
    if (i > 0 && spans[i].match == spans[i - 1].match) {
      out.back().end = spans[i].range.end;
    } else {
      out.push_back(spans[i].range);
    }
  }
}

void arrange(const std::vector<Span>& spans, SplitBehavior behavior, std::vector<ByteRange>& out) {
  out.clear();
  switch (behavior) {
    case SplitBehavior::merged_with_previous:
      return merge_with_previous(spans, out);
    case SplitBehavior::merged_with_next:
      return merge_with_next(spans, out);
    case SplitBehavior::contiguous:
      return merge_equal(spans, out);
    case SplitBehavior::isolated:
    case SplitBehavior::removed:
      for (const Span& span : spans) {
        if (behavior == SplitBehavior::isolated || !span.match) out.push_back(span.range);
      }
  }
}

}  // namespace

Expected<SplitBehavior> read_behavior(const JsonReader& component) {
  static constexpr std::array<std::pair<std::string_view, SplitBehavior>, 5> kNames = {{
      {"Removed", SplitBehavior::removed},
      {"Isolated", SplitBehavior::isolated},
      {"MergedWithPrevious", SplitBehavior::merged_with_previous},
      {"MergedWithNext", SplitBehavior::merged_with_next},
      {"Contiguous", SplitBehavior::contiguous},
  }};
  BIFOCAL_ASSIGN_OR_RETURN(const auto name, component.get_string("behavior", 64));
  for (const auto& [known, behavior] : kNames) {
    if (name == known) return behavior;
  }
  return invalid_argument(fmt::format(
      "{}: expected Removed, Isolated, MergedWithPrevious, MergedWithNext or Contiguous, got \"{}\"",
      component.path_of("behavior"), name.value_or("")));
}

Status split_pieces(PieceList& list, SplitBehavior behavior, bool invert, const FindMatches& find_matches) {
  std::vector<ByteRange> pieces;
  std::vector<ByteRange> matches;
  std::vector<Span> spans;
  std::vector<ByteRange> arranged;
  for (size_t i = 0; i < list.pieces.size(); ++i) {
    const std::string_view piece = list.piece(i);
    matches.clear();
    BIFOCAL_RETURN_IF_ERROR(find_matches(piece, matches));
    cover(matches, piece.size(), invert, spans);
    arrange(spans, behavior, arranged);
    for (const ByteRange range : arranged) {
      const size_t offset = list.pieces[i].begin;
      if (range.begin < range.end) pieces.push_back({offset + range.begin, offset + range.end});
    }
  }
  list.pieces = std::move(pieces);
  return {};
}

}  // namespace bifocal::text
