// Cuts a template into tokens, with the whitespace control that transformers renders chat templates with
// (trim_blocks and lstrip_blocks, one newline at the end dropped).
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "text/jinja/error.h"

namespace bifocal::text::jinja {

enum class TokenKind {
  data,
  variable_begin,
  variable_end,
  block_begin,
  block_end,
  name,
  string,
  integer,
  real,
  symbol,
  end
};

struct Token {
  TokenKind kind;
  std::string text;  // of data and strings: what they stand for
  Position position;
};

// Ends with a token of kind `end`. Throws TemplateError.
std::vector<Token> tokenize(std::string_view source);

}  // namespace bifocal::text::jinja
