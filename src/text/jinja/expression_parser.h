// Parses expressions, in Jinja's grammar: conditional > or > and > not > comparison > + - > ~ > * / // % > **
// > sign > postfix > filters and tests.
#pragma once

#include <string>
#include <vector>

#include "text/jinja/ast.h"
#include "text/jinja/token_stream.h"

namespace bifocal::text::jinja {

class ExpressionParser {
 public:
  ExpressionParser(TokenStream& tokens, int max_depth) : tokens_(tokens), max_depth_(max_depth) {}

  ExprPtr parse_expression();                         // with "a if b else c"
  ExprPtr parse_tuple(bool with_conditional = true);  // a, b, c, or one expression
  ExprPtr parse_filters(ExprPtr input,
                        bool required);  // input | f | g: after "|"; required: the first name has no "|"
  ExprPtr parse_unary(bool with_filters = true);

  // Counts one level of nesting while it lives; too many are an error.
  class Level {
   public:
    explicit Level(ExpressionParser& parser);
    ~Level() { --parser_.depth_; }
    Level(const Level&) = delete;
    Level& operator=(const Level&) = delete;

   private:
    ExpressionParser& parser_;
  };

 private:
  template <class Node>
  ExprPtr make(Position position, Node node, int children_height);

  ExprPtr parse_or();
  ExprPtr parse_and();
  ExprPtr parse_not();
  ExprPtr parse_comparison();
  ExprPtr parse_sum();
  ExprPtr parse_concat();
  ExprPtr parse_product();
  ExprPtr parse_power();
  ExprPtr parse_primary();
  ExprPtr parse_parenthesized();
  ExprPtr parse_list();
  ExprPtr parse_mapping();
  ExprPtr parse_number();
  ExprPtr parse_postfix(ExprPtr object);
  ExprPtr parse_postfix_filters(ExprPtr input);
  ExprPtr parse_subscript(ExprPtr object);
  ExprPtr parse_call(ExprPtr callee);
  ExprPtr parse_filter(ExprPtr input);
  ExprPtr parse_test(ExprPtr input);
  CallArguments parse_arguments(int& height);
  template <class Operators>
  ExprPtr parse_arithmetic(ExprPtr (ExpressionParser::*operand)(), const Operators& operators);
  ExprPtr parse_operand() { return parse_unary(true); }

  TokenStream& tokens_;
  int max_depth_;
  int depth_ = 0;
};

}  // namespace bifocal::text::jinja
