// The syntax tree of a template. Heights are bounded by the parser, so that walking and destroying it cannot
// exhaust the stack.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "text/jinja/error.h"
#include "text/jinja/value.h"

namespace bifocal::text::jinja {

struct Expr;
using ExprPtr = std::unique_ptr<Expr>;

using FilterFunction = Value (*)(Runtime&, const Value& input, const Arguments&);
using TestFunction = bool (*)(Runtime&, const Value& input, const Arguments&);

struct CallArguments {
  std::vector<ExprPtr> positional;
  ExprPtr spread;  // *list, after the positional ones; may be absent
  std::vector<std::pair<std::string, ExprPtr>> named;
};

struct Literal {
  Value value;
};
struct Name {
  std::string name;
};
struct ListLiteral {
  std::vector<ExprPtr> items;
  ListKind kind;
};
struct MappingLiteral {
  std::vector<std::pair<ExprPtr, ExprPtr>> items;
};
struct Attribute {  // object.name
  ExprPtr object;
  std::string name;
};
struct Subscript {  // object[index]
  ExprPtr object;
  ExprPtr index;
};
struct Slice {  // object[start:stop:step], each of which may be absent
  ExprPtr object;
  ExprPtr start;
  ExprPtr stop;
  ExprPtr step;
};
struct Call {
  ExprPtr callee;
  CallArguments arguments;
};
struct Filter {
  ExprPtr input;  // absent in {% filter %} and {% set x | filter %}: the block's text
  FilterFunction function;
  CallArguments arguments;
};
struct Test {
  ExprPtr input;
  TestFunction function;
  CallArguments arguments;
  bool negated;
};
enum class UnaryOperator { negate, plus, logical_not };
struct Unary {
  UnaryOperator op;
  ExprPtr operand;
};
enum class ArithmeticOperator { add, subtract, multiply, divide, floor_divide, modulo, power };
struct Arithmetic {  // first op operand op operand ..., all of one precedence, from left to right
  ExprPtr first;
  std::vector<std::pair<ArithmeticOperator, ExprPtr>> rest;
};
struct Concat {  // a ~ b ~ c
  std::vector<ExprPtr> operands;
};
enum class ComparisonOperator { equal, not_equal, less, less_equal, greater, greater_equal, in, not_in };
struct Comparison {  // first op operand op operand ..., true when every neighbouring pair is
  ExprPtr first;
  std::vector<std::pair<ComparisonOperator, ExprPtr>> rest;
};
struct Logical {  // a and b and c, or a or b or c
  bool is_and;
  std::vector<ExprPtr> operands;
};
struct Conditional {  // then if condition else otherwise; `otherwise` may be absent
  ExprPtr condition;
  ExprPtr then;
  ExprPtr otherwise;
};

struct Expr {
  Position position;
  int height;  // of the tree below, 1 for a leaf
  std::variant<Literal, Name, ListLiteral, MappingLiteral, Attribute, Subscript, Slice, Call, Filter, Test,
               Unary, Arithmetic, Concat, Comparison, Logical, Conditional>
      node;
};

struct Statement;
using Body = std::vector<Statement>;

struct Data {
  std::string text;
};
struct Output {
  ExprPtr expression;
};
struct If {
  std::vector<std::pair<ExprPtr, Body>> branches;
  Body otherwise;
};
// What a value is assigned to: a name, an attribute of a namespace (object.name), or several names.
struct Target {
  std::string name;
  std::string attribute;           // not empty: name.attribute
  std::vector<std::string> names;  // not empty: unpacks into these
};
struct For {
  Target target;
  ExprPtr iterable;
  ExprPtr condition;  // may be absent
  Body body;
  Body otherwise;
};
struct Set {
  Target target;
  ExprPtr value;
};
struct SetBlock {
  Target target;
  ExprPtr filters;  // may be absent
  Body body;
};
struct MacroSignature {
  std::vector<std::pair<std::string, ExprPtr>> parameters;  // with defaults, which may be absent
};
struct Macro {
  std::string name;
  MacroSignature signature;
  Body body;
};
struct CallBlock {  // {% call(parameters) macro(...) %} body {% endcall %}
  MacroSignature signature;
  ExprPtr call;
  Body body;
};
struct FilterBlock {
  ExprPtr filters;
  Body body;
};
struct With {  // also {% generation %}, which assigns nothing
  std::vector<std::pair<Target, ExprPtr>> assignments;
  Body body;
};
struct Break {};
struct Continue {};

struct Statement {
  Position position;
  std::variant<Data, Output, If, For, Set, SetBlock, Macro, CallBlock, FilterBlock, With, Break, Continue>
      node;
};

}  // namespace bifocal::text::jinja
