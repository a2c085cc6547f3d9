// The tokens of a template, read from left to right.
#pragma once

#include <initializer_list>
#include <string>
#include <string_view>
#include <vector>

#include "text/jinja/lexer.h"

namespace bifocal::text::jinja {

class TokenStream {
 public:
  explicit TokenStream(std::vector<Token> tokens) : tokens_(std::move(tokens)) {}

  const Token& current() const { return tokens_[at_]; }
  const Token& next() const { return tokens_[at_ + 1 < tokens_.size() ? at_ + 1 : at_]; }
  Token take();

  bool is(TokenKind kind) const { return current().kind == kind; }
  bool is_symbol(std::string_view text) const { return is(TokenKind::symbol) && current().text == text; }
  bool is_name(std::string_view text) const { return is(TokenKind::name) && current().text == text; }
  bool is_any_name(std::initializer_list<std::string_view> texts) const;

  bool skip_symbol(std::string_view text);
  bool skip_name(std::string_view text);
  void expect_symbol(std::string_view text);
  void expect_name(std::string_view text);
  void expect(TokenKind kind);
  std::string take_name();

  [[noreturn]] void fail_expected(std::string_view what) const;

 private:
  std::vector<Token> tokens_;  // the last one is `end`
  size_t at_ = 0;
};

[[noreturn]] void fail_at(Position position, std::string message);
std::string describe(const Token& token);

}  // namespace bifocal::text::jinja
