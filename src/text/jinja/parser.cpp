#include "text/jinja/parser.h"

#include <fmt/format.h>

#include <utility>

#include "text/jinja/expression_parser.h"
#include "text/jinja/token_stream.h"

namespace bifocal::text::jinja {
namespace {

class Parser {
 public:
  Parser(std::string_view source, int max_depth)
      : tokens_(tokenize(source)), expressions_(tokens_, max_depth) {}

  Body run() {
    Body body = parse_body({});
    if (!tokens_.is(TokenKind::end)) tokens_.fail_expected("the end of the template");
    return body;
  }

 private:
  // Statements up to a block whose name is in `ends`; that name is then the current token.
  Body parse_body(std::initializer_list<std::string_view> ends) {
    const ExpressionParser::Level level(expressions_);
    Body body;
    while (true) {
      const Position position = tokens_.current().position;
      switch (tokens_.current().kind) {
        case TokenKind::data:
          body.push_back({position, Data{tokens_.take().text}});
          break;
        case TokenKind::variable_begin: {
          tokens_.take();
          ExprPtr expression = expressions_.parse_tuple();
          tokens_.expect(TokenKind::variable_end);
          body.push_back({position, Output{std::move(expression)}});
          break;
        }
        case TokenKind::block_begin:
          tokens_.take();
          if (tokens_.is_any_name(ends)) return body;
          body.push_back(parse_statement(position));
          break;
        default:
          if (ends.size() > 0) tokens_.fail_expected(fmt::format("{{% {} %}}", *(ends.end() - 1)));
          return body;
      }
    }
  }

  Statement parse_statement(Position position) {
    if (!tokens_.is(TokenKind::name)) tokens_.fail_expected("the name of a tag");
    const std::string name = tokens_.take_name();
    if (name == "if") return {position, parse_if()};
    if (name == "for") return {position, parse_for()};
    if (name == "set") return parse_set(position);
    if (name == "macro") return {position, parse_macro()};
    if (name == "call") return {position, parse_call_block(position)};
    if (name == "filter") return {position, parse_filter_block()};
    if (name == "with") return {position, parse_with()};
    if (name == "generation") return {position, parse_generation()};
    if (name == "break" || name == "continue") {
      if (loops_ == 0) fail_at(position, fmt::format("'{}' outside of a loop", name));
      end_tag();
      if (name == "break") return {position, Break{}};
      return {position, Continue{}};
    }
    fail_at(position, fmt::format("unknown tag '{}'", name.substr(0, 40)));
  }

  void end_tag() { tokens_.expect(TokenKind::block_end); }

  // The rest of a block: "%} body {% end %}".
  Body parse_block(std::string_view end) {
    end_tag();
    Body body = parse_body({end});
    tokens_.take();
    end_tag();
    return body;
  }

  If parse_if() {
    If out;
    do {
      ExprPtr condition = expressions_.parse_tuple(false);
      end_tag();
      Body body = parse_body({"elif", "else", "endif"});
      out.branches.emplace_back(std::move(condition), std::move(body));
    } while (tokens_.skip_name("elif"));
    if (tokens_.skip_name("else")) {
      end_tag();
      out.otherwise = parse_body({"endif"});
    }
    tokens_.take();
    end_tag();
    return out;
  }

  For parse_for() {
    For out;
    out.target = parse_names();
    tokens_.expect_name("in");
    out.iterable = expressions_.parse_tuple(false);
    if (tokens_.skip_name("if")) out.condition = expressions_.parse_expression();
    if (tokens_.is_name("recursive"))
      fail_at(tokens_.current().position, "recursive loops are not supported");
    end_tag();
    ++loops_;
    out.body = parse_body({"else", "endfor"});
    --loops_;
    if (tokens_.skip_name("else")) {
      end_tag();
      out.otherwise = parse_body({"endfor"});
    }
    tokens_.take();
    end_tag();
    return out;
  }

  std::string parse_assignable() {
    const Position position = tokens_.current().position;
    std::string name = tokens_.take_name();
    for (const std::string_view reserved : {"true", "false", "none", "True", "False", "None"}) {
      if (name == reserved) fail_at(position, fmt::format("'{}' cannot be assigned to", name));
    }
    return name;
  }

  // One name, or several to unpack into: "a, b" or "(a, b)".
  Target parse_names() {
    Target out;
    const bool parenthesized = tokens_.skip_symbol("(");
    out.name = parse_assignable();
    while (tokens_.skip_symbol(",")) {
      if (out.names.empty()) out.names.push_back(std::exchange(out.name, {}));
      if (tokens_.is(TokenKind::name) && !tokens_.is_name("in")) out.names.push_back(parse_assignable());
    }
    if (parenthesized) tokens_.expect_symbol(")");
    return out;
  }

  Target parse_set_target() {
    const bool attribute =
        tokens_.is(TokenKind::name) && tokens_.next().kind == TokenKind::symbol && tokens_.next().text == ".";
    if (!attribute) return parse_names();
    Target out;
    out.name = tokens_.take_name();
    tokens_.take();
    out.attribute = tokens_.take_name();
    return out;
  }

  Statement parse_set(Position position) {
    Target target = parse_set_target();
    if (tokens_.skip_symbol("=")) {
      ExprPtr value = expressions_.parse_tuple();
      end_tag();
      return {position, Set{std::move(target), std::move(value)}};
    }
    ExprPtr filters;
    if (tokens_.is_symbol("|")) filters = expressions_.parse_filters(nullptr, false);
    Body body = parse_block("endset");
    return {position, SetBlock{std::move(target), std::move(filters), std::move(body)}};
  }

  MacroSignature parse_signature() {
    MacroSignature out;
    tokens_.expect_symbol("(");
    while (!tokens_.is_symbol(")")) {
      if (!out.parameters.empty()) tokens_.expect_symbol(",");
      const Position position = tokens_.current().position;
      std::string name = parse_assignable();
      ExprPtr absent;
      if (tokens_.skip_symbol("=")) {
        absent = expressions_.parse_expression();
      } else if (!out.parameters.empty() && out.parameters.back().second != nullptr) {
        fail_at(position, "a parameter without a default after one with a default");
      }
      out.parameters.emplace_back(std::move(name), std::move(absent));
    }
    tokens_.take();
    return out;
  }

  // A loop around does not count within the body of a macro or call block.
  Body parse_function_body(std::string_view end) {
    const int loops = std::exchange(loops_, 0);
    Body body = parse_block(end);
    loops_ = loops;
    return body;
  }

  Macro parse_macro() {
    Macro out;
    out.name = parse_assignable();
    out.signature = parse_signature();
    out.body = parse_function_body("endmacro");
    return out;
  }

  CallBlock parse_call_block(Position position) {
    CallBlock out;
    if (tokens_.is_symbol("(")) out.signature = parse_signature();
    out.call = expressions_.parse_unary();
    if (!std::holds_alternative<Call>(out.call->node))
      fail_at(position, "{% call %} expects the call of a macro");
    out.body = parse_function_body("endcall");
    return out;
  }

  FilterBlock parse_filter_block() {
    FilterBlock out;
    out.filters = expressions_.parse_filters(nullptr, true);
    out.body = parse_block("endfilter");
    return out;
  }

  With parse_with() {
    With out;
    while (!tokens_.is(TokenKind::block_end)) {
      if (!out.assignments.empty()) tokens_.expect_symbol(",");
      Target target;
      target.name = parse_assignable();
      tokens_.expect_symbol("=");
      out.assignments.emplace_back(std::move(target), expressions_.parse_expression());
    }
    out.body = parse_block("endwith");
    return out;
  }

  // transformers marks what the model wrote with this block; the text is the same.
  With parse_generation() {
    With out;
    out.body = parse_block("endgeneration");
    return out;
  }

  TokenStream tokens_;
  ExpressionParser expressions_;
  int loops_ = 0;  // around the current statement
};

}  // namespace

Body parse(std::string_view source, int max_depth) {
  return Parser(source, max_depth).run();
}

}  // namespace bifocal::text::jinja
