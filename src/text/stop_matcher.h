// Finds stop strings in streamed text: what can no longer be part of a stop string is released at once, the
// rest held.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace bifocal::text {

class StopMatcher {
 public:
  // keep_stop: the matched stop string stays in the text (SGLang's no_stop_trim).
  explicit StopMatcher(std::vector<std::string> stops, bool keep_stop = false);

  struct Result {
    std::string text;                    // may be shown now
    std::optional<std::string> matched;  // the stop string that ended the text; nothing may follow
  };
  Result push(std::string_view text);
  std::string finish();  // what was held back when the sequence ended otherwise

 private:
  std::vector<std::string> stops_;
  bool keep_stop_;
  std::string held_;
};

}  // namespace bifocal::text
