// A compiled regular expression (PCRE2 behind it) whose search takes time linear in the text, or fails.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "text/tokenizer.h"

namespace bifocal::text {

class Regex {
 public:
  // pattern: Oniguruma's Ruby syntax (text/regex_syntax.h).
  static Expected<Regex> compile(std::string_view pattern);
  // Matches the text itself.
  static Expected<Regex> literal(std::string_view text);
  Regex(Regex&&) noexcept;
  Regex& operator=(Regex&&) noexcept;
  ~Regex();

  // All matches from left to right, not overlapping. text must be valid UTF-8. Thread-safe.
  // resource_exhausted when the pattern backtracks so much that the work would not stay linear.
  Status find_all(std::string_view text, std::vector<ByteRange>& matches) const;

 private:
  struct Code;
  explicit Regex(std::unique_ptr<Code> code);
  std::unique_ptr<Code> code_;
};

}  // namespace bifocal::text
