// Rewrites a regular expression from Oniguruma's Ruby syntax, which tokenizer.json is written in, to PCRE2's.
#pragma once

#include <string>
#include <string_view>

#include "base/status.h"

namespace bifocal::text {

// What differs and is rewritten:
//   \s \w        Unicode's White_Space and word characters (PCRE2's \s adds U+180E, its \w lacks marks)
//   \h           a hexadecimal digit
//   [[:alpha:]]  by Unicode's properties
//   \p{Han}      the script itself, not its extensions; \p{Letter} and other long category names
//   X{n,m}+      a repeated interval, not a possessive one
//   {,n}         {0,n}
//   (?m)         "." matches newlines
//   [A&&[^B]]    intersection with a negated class
// Errors: unsupported for other set operations within a class, invalid_argument for an unfinished pattern.
Expected<std::string> oniguruma_to_pcre2(std::string_view pattern);

}  // namespace bifocal::text
