// Finds stop strings in streamed text: what can no longer be part of a stop string is released at once, the
// rest held.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace bifocal::text {

// The match that ends first wins; of those that end together, the longest. Any chunking of the same text
// gives the same result. Constant time per byte and stop string (Knuth, Morris, Pratt 1977).
class StopMatcher {
 public:
  // Empty stops are ignored. keep_stop: the matched stop string stays in the text (SGLang's no_stop_trim).
  explicit StopMatcher(std::vector<std::string> stops, bool keep_stop = false);

  struct Result {
    std::string text;                    // may be shown now
    std::optional<std::string> matched;  // the stop string that ended the text; nothing may follow
  };
  // After a match nothing more is released.
  Result push(std::string_view text);
  std::string finish();  // what was held back when the sequence ended otherwise

 private:
  struct Stop {
    std::string text;
    std::vector<size_t> fallback;  // [n]: length of the longest proper border of the first n bytes
    size_t matched = 0;            // bytes of text that the input ends with

    void advance(char byte);
  };

  std::vector<Stop> stops_;
  bool keep_stop_;
  bool stopped_ = false;
  std::string held_;
};

}  // namespace bifocal::text
