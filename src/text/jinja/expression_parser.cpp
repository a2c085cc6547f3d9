#include "text/jinja/expression_parser.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cstdlib>
#include <utility>

#include "text/jinja/filters.h"
#include "text/jinja/tests.h"

namespace bifocal::text::jinja {
namespace {

constexpr size_t kMaxArguments = 128;

int height_of(const ExprPtr& expr) {
  return expr == nullptr ? 0 : expr->height;
}

constexpr std::array<std::pair<std::string_view, ArithmeticOperator>, 2> kSum = {
    {{"+", ArithmeticOperator::add}, {"-", ArithmeticOperator::subtract}}};
constexpr std::array<std::pair<std::string_view, ArithmeticOperator>, 4> kProduct = {
    {{"*", ArithmeticOperator::multiply},
     {"//", ArithmeticOperator::floor_divide},
     {"/", ArithmeticOperator::divide},
     {"%", ArithmeticOperator::modulo}}};
constexpr std::array<std::pair<std::string_view, ArithmeticOperator>, 1> kPower = {
    {{"**", ArithmeticOperator::power}}};
constexpr std::array<std::pair<std::string_view, ComparisonOperator>, 6> kComparisons = {
    {{"==", ComparisonOperator::equal},
     {"!=", ComparisonOperator::not_equal},
     {"<", ComparisonOperator::less},
     {"<=", ComparisonOperator::less_equal},
     {">", ComparisonOperator::greater},
     {">=", ComparisonOperator::greater_equal}}};

}  // namespace

ExpressionParser::Level::Level(ExpressionParser& parser) : parser_(parser) {
  if (parser.depth_ >= parser.max_depth_) {
    fail_at(parser.tokens_.current().position,
            fmt::format("nested deeper than {} levels", parser.max_depth_));
  }
  ++parser.depth_;
}

template <class Node>
ExprPtr ExpressionParser::make(Position position, Node node, int children_height) {
  if (children_height >= max_depth_)
    fail_at(position, fmt::format("nested deeper than {} levels", max_depth_));
  return std::make_unique<Expr>(Expr{position, children_height + 1, std::move(node)});
}

ExprPtr ExpressionParser::parse_expression() {
  const Level level(*this);
  const Position position = tokens_.current().position;
  ExprPtr then = parse_or();
  while (tokens_.skip_name("if")) {
    ExprPtr condition = parse_or();
    ExprPtr otherwise;
    if (tokens_.skip_name("else")) otherwise = parse_expression();
    const int height = std::max({height_of(then), height_of(condition), height_of(otherwise)});
    then = make(position, Conditional{std::move(condition), std::move(then), std::move(otherwise)}, height);
  }
  return then;
}

ExprPtr ExpressionParser::parse_or() {
  const Position position = tokens_.current().position;
  ExprPtr first = parse_and();
  if (!tokens_.is_name("or")) return first;
  int height = height_of(first);
  std::vector<ExprPtr> operands;
  operands.push_back(std::move(first));
  while (tokens_.skip_name("or")) {
    operands.push_back(parse_and());
    height = std::max(height, height_of(operands.back()));
  }
  return make(position, Logical{false, std::move(operands)}, height);
}

ExprPtr ExpressionParser::parse_and() {
  const Position position = tokens_.current().position;
  ExprPtr first = parse_not();
  if (!tokens_.is_name("and")) return first;
  int height = height_of(first);
  std::vector<ExprPtr> operands;
  operands.push_back(std::move(first));
  while (tokens_.skip_name("and")) {
    operands.push_back(parse_not());
    height = std::max(height, height_of(operands.back()));
  }
  return make(position, Logical{true, std::move(operands)}, height);
}

ExprPtr ExpressionParser::parse_not() {
  const Position position = tokens_.current().position;
  if (!tokens_.skip_name("not")) return parse_comparison();
  const Level level(*this);
  ExprPtr operand = parse_not();
  const int height = height_of(operand);
  return make(position, Unary{UnaryOperator::logical_not, std::move(operand)}, height);
}

ExprPtr ExpressionParser::parse_comparison() {
  const Position position = tokens_.current().position;
  ExprPtr first = parse_sum();
  int height = height_of(first);
  std::vector<std::pair<ComparisonOperator, ExprPtr>> rest;
  while (true) {
    const auto* found = std::find_if(kComparisons.begin(), kComparisons.end(),
                                     [&](const auto& entry) { return tokens_.is_symbol(entry.first); });
    ComparisonOperator op = ComparisonOperator::in;
    if (found != kComparisons.end()) {
      op = found->second;
      tokens_.take();
    } else if (tokens_.is_name("not") && tokens_.next().kind == TokenKind::name &&
               tokens_.next().text == "in") {
      op = ComparisonOperator::not_in;
      tokens_.take();
      tokens_.take();
    } else if (!tokens_.skip_name("in")) {
      break;
    }
    rest.emplace_back(op, parse_sum());
    height = std::max(height, height_of(rest.back().second));
  }
  if (rest.empty()) return first;
  return make(position, Comparison{std::move(first), std::move(rest)}, height);
}

template <class Operators>
ExprPtr ExpressionParser::parse_arithmetic(ExprPtr (ExpressionParser::*operand)(),
                                           const Operators& operators) {
  const Position position = tokens_.current().position;
  ExprPtr first = (this->*operand)();
  int height = height_of(first);
  std::vector<std::pair<ArithmeticOperator, ExprPtr>> rest;
  while (true) {
    const auto* found = std::find_if(operators.begin(), operators.end(),
                                     [&](const auto& entry) { return tokens_.is_symbol(entry.first); });
    if (found == operators.end()) break;
    tokens_.take();
    rest.emplace_back(found->second, (this->*operand)());
    height = std::max(height, height_of(rest.back().second));
  }
  if (rest.empty()) return first;
  return make(position, Arithmetic{std::move(first), std::move(rest)}, height);
}

ExprPtr ExpressionParser::parse_sum() {
  return parse_arithmetic(&ExpressionParser::parse_concat, kSum);
}
ExprPtr ExpressionParser::parse_product() {
  return parse_arithmetic(&ExpressionParser::parse_power, kProduct);
}
ExprPtr ExpressionParser::parse_power() {
  return parse_arithmetic(&ExpressionParser::parse_operand, kPower);
}

ExprPtr ExpressionParser::parse_concat() {
  const Position position = tokens_.current().position;
  ExprPtr first = parse_product();
  if (!tokens_.is_symbol("~")) return first;
  int height = height_of(first);
  std::vector<ExprPtr> operands;
  operands.push_back(std::move(first));
  while (tokens_.skip_symbol("~")) {
    operands.push_back(parse_product());
    height = std::max(height, height_of(operands.back()));
  }
  return make(position, Concat{std::move(operands)}, height);
}

ExprPtr ExpressionParser::parse_unary(bool with_filters) {
  const Level level(*this);
  const Position position = tokens_.current().position;
  ExprPtr expr;
  if (tokens_.is_symbol("-") || tokens_.is_symbol("+")) {
    const auto op = tokens_.take().text == "-" ? UnaryOperator::negate : UnaryOperator::plus;
    ExprPtr operand = parse_unary(false);
    const int height = height_of(operand);
    expr = make(position, Unary{op, std::move(operand)}, height);
  } else {
    expr = parse_primary();
  }
  expr = parse_postfix(std::move(expr));
  return with_filters ? parse_postfix_filters(std::move(expr)) : std::move(expr);
}

ExprPtr ExpressionParser::parse_primary() {
  const Position position = tokens_.current().position;
  if (tokens_.is_symbol("(")) return parse_parenthesized();
  if (tokens_.is_symbol("[")) return parse_list();
  if (tokens_.is_symbol("{")) return parse_mapping();
  switch (tokens_.current().kind) {
    case TokenKind::name: {
      std::string name = tokens_.take().text;
      if (name == "true" || name == "True") return make(position, Literal{Value::boolean(true)}, 0);
      if (name == "false" || name == "False") return make(position, Literal{Value::boolean(false)}, 0);
      if (name == "none" || name == "None") return make(position, Literal{Value::none()}, 0);
      return make(position, Name{std::move(name)}, 0);
    }
    case TokenKind::string: {
      std::string text;
      while (tokens_.is(TokenKind::string)) text += tokens_.take().text;
      return make(position, Literal{Value::text(text)}, 0);
    }
    case TokenKind::integer:
    case TokenKind::real:
      return parse_number();
    default:
      tokens_.fail_expected("an expression");
  }
}

ExprPtr ExpressionParser::parse_number() {
  const Token token = tokens_.take();
  const std::string& digits = token.text;
  if (token.kind == TokenKind::real)
    return make(token.position, Literal{Value::real(std::strtod(digits.c_str(), nullptr))}, 0);
  int64_t value = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
  if (error != std::errc() || end != digits.data() + digits.size())
    fail_at(token.position, "the integer does not fit 64 bits");
  return make(token.position, Literal{Value::integer(value)}, 0);
}

ExprPtr ExpressionParser::parse_parenthesized() {
  const Position position = tokens_.take().position;
  if (tokens_.skip_symbol(")")) return make(position, ListLiteral{{}, ListKind::tuple}, 0);
  ExprPtr inside = parse_tuple();
  tokens_.expect_symbol(")");
  return inside;
}

ExprPtr ExpressionParser::parse_tuple(bool with_conditional) {
  const Position position = tokens_.current().position;
  const auto item = [&] { return with_conditional ? parse_expression() : parse_or(); };
  ExprPtr first = item();
  if (!tokens_.is_symbol(",")) return first;
  int height = height_of(first);
  std::vector<ExprPtr> items;
  items.push_back(std::move(first));
  while (tokens_.skip_symbol(",")) {
    const bool ended = tokens_.is(TokenKind::variable_end) || tokens_.is(TokenKind::block_end) ||
                       tokens_.is_symbol(")") || tokens_.is_symbol("]");
    if (ended) break;
    items.push_back(item());
    height = std::max(height, height_of(items.back()));
  }
  return make(position, ListLiteral{std::move(items), ListKind::tuple}, height);
}

ExprPtr ExpressionParser::parse_list() {
  const Position position = tokens_.take().position;
  std::vector<ExprPtr> items;
  int height = 0;
  while (!tokens_.is_symbol("]")) {
    if (!items.empty()) {
      tokens_.expect_symbol(",");
      if (tokens_.is_symbol("]")) break;
    }
    items.push_back(parse_expression());
    height = std::max(height, height_of(items.back()));
  }
  tokens_.expect_symbol("]");
  return make(position, ListLiteral{std::move(items), ListKind::list}, height);
}

ExprPtr ExpressionParser::parse_mapping() {
  const Position position = tokens_.take().position;
  std::vector<std::pair<ExprPtr, ExprPtr>> items;
  int height = 0;
  while (!tokens_.is_symbol("}")) {
    if (!items.empty()) {
      tokens_.expect_symbol(",");
      if (tokens_.is_symbol("}")) break;
    }
    ExprPtr key = parse_expression();
    tokens_.expect_symbol(":");
    ExprPtr value = parse_expression();
    height = std::max({height, height_of(key), height_of(value)});
    items.emplace_back(std::move(key), std::move(value));
  }
  tokens_.expect_symbol("}");
  return make(position, MappingLiteral{std::move(items)}, height);
}

ExprPtr ExpressionParser::parse_postfix(ExprPtr object) {
  while (true) {
    if (tokens_.is_symbol(".") || tokens_.is_symbol("[")) {
      object = parse_subscript(std::move(object));
    } else if (tokens_.is_symbol("(")) {
      object = parse_call(std::move(object));
    } else {
      return object;
    }
  }
}

ExprPtr ExpressionParser::parse_postfix_filters(ExprPtr input) {
  while (true) {
    if (tokens_.skip_symbol("|")) {
      input = parse_filter(std::move(input));
    } else if (tokens_.is_name("is")) {
      input = parse_test(std::move(input));
    } else if (tokens_.is_symbol("(")) {
      input = parse_call(std::move(input));
    } else {
      return input;
    }
  }
}

ExprPtr ExpressionParser::parse_subscript(ExprPtr object) {
  const Token token = tokens_.take();
  const int below = height_of(object);
  if (token.text == ".") {
    if (tokens_.is(TokenKind::integer)) {
      ExprPtr index = parse_number();
      return make(token.position, Subscript{std::move(object), std::move(index)}, below);
    }
    return make(token.position, Attribute{std::move(object), tokens_.take_name()}, below);
  }
  ExprPtr start;
  if (!tokens_.is_symbol(":")) start = parse_tuple();
  if (!tokens_.skip_symbol(":")) {
    tokens_.expect_symbol("]");
    const int height = std::max(below, height_of(start));
    return make(token.position, Subscript{std::move(object), std::move(start)}, height);
  }
  ExprPtr stop;
  ExprPtr step;
  if (!tokens_.is_symbol(":") && !tokens_.is_symbol("]")) stop = parse_expression();
  if (tokens_.skip_symbol(":") && !tokens_.is_symbol("]")) step = parse_expression();
  tokens_.expect_symbol("]");
  const int height = std::max({below, height_of(start), height_of(stop), height_of(step)});
  return make(token.position, Slice{std::move(object), std::move(start), std::move(stop), std::move(step)},
              height);
}

CallArguments ExpressionParser::parse_arguments(int& height) {
  CallArguments out;
  tokens_.expect_symbol("(");
  bool first = true;
  while (!tokens_.is_symbol(")")) {
    if (!first) {
      tokens_.expect_symbol(",");
      if (tokens_.is_symbol(")")) break;
    }
    first = false;
    if (out.positional.size() + out.named.size() >= kMaxArguments)
      tokens_.fail_expected(fmt::format("at most {} arguments", kMaxArguments));
    if (out.spread == nullptr && tokens_.skip_symbol("*")) {
      out.spread = parse_expression();
      height = std::max(height, height_of(out.spread));
      continue;
    }
    const bool named =
        tokens_.is(TokenKind::name) && tokens_.next().kind == TokenKind::symbol && tokens_.next().text == "=";
    if (named) {
      std::string name = tokens_.take_name();
      tokens_.take();
      out.named.emplace_back(std::move(name), parse_expression());
      height = std::max(height, height_of(out.named.back().second));
    } else {
      if (!out.named.empty() || out.spread != nullptr) tokens_.fail_expected("a named argument");
      out.positional.push_back(parse_expression());
      height = std::max(height, height_of(out.positional.back()));
    }
  }
  tokens_.expect_symbol(")");
  return out;
}

ExprPtr ExpressionParser::parse_call(ExprPtr callee) {
  const Position position = callee->position;
  int height = height_of(callee);
  CallArguments arguments = parse_arguments(height);
  return make(position, Call{std::move(callee), std::move(arguments)}, height);
}

ExprPtr ExpressionParser::parse_filter(ExprPtr input) {
  const Token token = tokens_.current();
  const std::string name = tokens_.take_name();
  const FilterFunction function = find_filter(name);
  if (function == nullptr) fail_at(token.position, fmt::format("no filter is named '{}'", name));
  int height = height_of(input);
  CallArguments arguments;
  if (tokens_.is_symbol("(")) arguments = parse_arguments(height);
  return make(token.position, Filter{std::move(input), function, std::move(arguments)}, height);
}

ExprPtr ExpressionParser::parse_filters(ExprPtr input, bool required) {
  if (required) input = parse_filter(std::move(input));
  while (tokens_.skip_symbol("|")) input = parse_filter(std::move(input));
  return input;
}

ExprPtr ExpressionParser::parse_test(ExprPtr input) {
  tokens_.take();
  const bool negated = tokens_.skip_name("not");
  const Token token = tokens_.current();
  const std::string name = tokens_.take_name();
  const TestFunction function = find_test(name);
  if (function == nullptr) fail_at(token.position, fmt::format("no test is named '{}'", name));
  int height = height_of(input);
  CallArguments arguments;
  const TokenKind kind = tokens_.current().kind;
  const bool operand = kind == TokenKind::name || kind == TokenKind::string || kind == TokenKind::integer ||
                       kind == TokenKind::real || tokens_.is_symbol("[") || tokens_.is_symbol("{");
  if (tokens_.is_symbol("(")) {
    arguments = parse_arguments(height);
  } else if (operand && !tokens_.is_any_name({"else", "or", "and"})) {
    if (tokens_.is_name("is")) fail_at(tokens_.current().position, "tests cannot be chained with 'is'");
    const Level level(*this);
    arguments.positional.push_back(parse_postfix(parse_primary()));
    height = std::max(height, height_of(arguments.positional.back()));
  }
  return make(token.position, Test{std::move(input), function, std::move(arguments), negated}, height);
}

}  // namespace bifocal::text::jinja
