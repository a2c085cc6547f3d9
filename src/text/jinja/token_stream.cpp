#include "text/jinja/token_stream.h"

#include <fmt/format.h>

#include <algorithm>

namespace bifocal::text::jinja {

void fail_at(Position position, std::string message) {
  throw TemplateError{position, std::move(message)};
}

namespace {

std::string_view kind_name(TokenKind kind) {
  switch (kind) {
    case TokenKind::data:
      return "text";
    case TokenKind::variable_begin:
      return "{{";
    case TokenKind::variable_end:
      return "}}";
    case TokenKind::block_begin:
      return "{%";
    case TokenKind::block_end:
      return "%}";
    case TokenKind::name:
      return "a name";
    case TokenKind::string:
      return "a string";
    case TokenKind::integer:
    case TokenKind::real:
      return "a number";
    case TokenKind::symbol:
      return "a symbol";
    case TokenKind::end:
      return "the end of the template";
  }
  return "";
}

}  // namespace

std::string describe(const Token& token) {
  if (token.kind == TokenKind::name || token.kind == TokenKind::symbol)
    return fmt::format("'{}'", token.text.substr(0, 40));
  return std::string(kind_name(token.kind));
}

Token TokenStream::take() {
  Token token = tokens_[at_];
  if (at_ + 1 < tokens_.size()) ++at_;
  return token;
}

bool TokenStream::is_any_name(std::initializer_list<std::string_view> texts) const {
  return is(TokenKind::name) && std::find(texts.begin(), texts.end(), current().text) != texts.end();
}

bool TokenStream::skip_symbol(std::string_view text) {
  if (!is_symbol(text)) return false;
  take();
  return true;
}

bool TokenStream::skip_name(std::string_view text) {
  if (!is_name(text)) return false;
  take();
  return true;
}

void TokenStream::expect_symbol(std::string_view text) {
  if (!skip_symbol(text)) fail_expected(fmt::format("'{}'", text));
}

void TokenStream::expect_name(std::string_view text) {
  if (!skip_name(text)) fail_expected(fmt::format("'{}'", text));
}

void TokenStream::expect(TokenKind kind) {
  if (!is(kind)) fail_expected(kind_name(kind));
  take();
}

std::string TokenStream::take_name() {
  if (!is(TokenKind::name)) fail_expected("a name");
  return take().text;
}

void TokenStream::fail_expected(std::string_view what) const {
  fail_at(current().position, fmt::format("expected {}, got {}", what, describe(current())));
}

}  // namespace bifocal::text::jinja
