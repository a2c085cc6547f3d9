// Cutting pieces at matches, in the ways tokenizer.json calls behaviours.
#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "base/status.h"
#include "text/pre_tokenizer.h"

namespace bifocal::text {

enum class SplitBehavior { removed, isolated, merged_with_previous, merged_with_next, contiguous };

// "Removed", "Isolated", ... in the member "behavior".
Expected<SplitBehavior> read_behavior(const JsonReader& component);

// Cuts every piece. find_matches appends the matches within one piece as ranges of that piece, from left to
// right. invert: what matches counts as what does not, and the reverse.
using FindMatches = std::function<Status(std::string_view piece, std::vector<ByteRange>& matches)>;
Status split_pieces(PieceList& list, SplitBehavior behavior, bool invert, const FindMatches& find_matches);

}  // namespace bifocal::text
