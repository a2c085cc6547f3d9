// The part of the evaluator that computes expressions.
#include <fmt/format.h>

#include <algorithm>

#include "text/jinja/evaluator.h"
#include "text/jinja/operators.h"

namespace bifocal::text::jinja {

Value Evaluator::evaluate(const Expr& expr) {
  const DepthGuard depth(*this);
  charge(1);
  const Position outer = position();
  set_position(expr.position);
  Value value = std::visit([&](const auto& node) { return evaluate(node); }, expr.node);
  set_position(outer);
  return value;
}

Value Evaluator::evaluate(const Name& name) {
  const Value* value = find_variable(name.name);
  return value == nullptr ? Value::undefined(name.name) : *value;
}

Value Evaluator::evaluate(const ListLiteral& list_literal) {
  std::vector<Value> items;
  items.reserve(list_literal.items.size());
  for (const ExprPtr& item : list_literal.items) items.push_back(evaluate(*item));
  return list(std::move(items), list_literal.kind);
}

Value Evaluator::evaluate(const MappingLiteral& literal) {
  std::vector<std::pair<Value, Value>> items;
  for (const auto& [key_expr, value_expr] : literal.items) {
    Value key = evaluate(*key_expr);
    Value value = evaluate(*value_expr);
    const bool hashable = !key.is_mapping() && !(key.is_list() && key.as_list().kind == ListKind::list);
    if (!hashable) fail(fmt::format("{} cannot be a key", key.type_name()));
    charge_work(items.size() * 16);
    const auto found =
        std::find_if(items.begin(), items.end(), [&](const auto& item) { return equal(item.first, key); });
    if (found != items.end()) {
      found->second = std::move(value);
    } else {
      items.emplace_back(std::move(key), std::move(value));
    }
  }
  return mapping(std::move(items));
}

Value Evaluator::evaluate(const Attribute& attribute) {
  return get_attribute(*this, evaluate(*attribute.object), attribute.name);
}

Value Evaluator::evaluate(const Subscript& subscript) {
  const Value object = evaluate(*subscript.object);
  Value item = get_item(*this, object, evaluate(*subscript.index));
  // For messages: the key where the template spells it out.
  const auto* key = std::get_if<Literal>(&subscript.index->node);
  if (item.is_undefined() && key != nullptr && key->value.is_text()) {
    return Value::undefined(key->value.as_bytes(), item.undefined_null());
  }
  return item;
}

Value Evaluator::evaluate(const Slice& slice) {
  const Value object = evaluate(*slice.object);
  const Value start = evaluate_optional(slice.start);
  const Value stop = evaluate_optional(slice.stop);
  return get_slice(*this, object, start, stop, evaluate_optional(slice.step));
}

Arguments Evaluator::evaluate_arguments(const CallArguments& arguments) {
  Arguments out;
  out.positional.reserve(arguments.positional.size());
  for (const ExprPtr& argument : arguments.positional) out.positional.push_back(evaluate(*argument));
  if (arguments.spread != nullptr) {
    const auto items = iterate(*this, evaluate(*arguments.spread));
    charge(items->size());
    out.positional.insert(out.positional.end(), items->begin(), items->end());
  }
  for (const auto& [name, argument] : arguments.named) out.named.emplace_back(name, evaluate(*argument));
  return out;
}

Value Evaluator::call(const Value& callee, const Arguments& arguments) {
  require_defined(callee);
  if (!callee.is_callable()) fail(fmt::format("{} cannot be called", callee.type_name()));
  return callee.as_callable().call(*this, arguments);
}

Value Evaluator::evaluate(const Call& call_node) {
  const Value callee = evaluate(*call_node.callee);
  return call(callee, evaluate_arguments(call_node.arguments));
}

Value Evaluator::evaluate(const Filter& filter) {
  const Value input = filter.input == nullptr ? Value::text(*piped_) : evaluate(*filter.input);
  return filter.function(*this, input, evaluate_arguments(filter.arguments));
}

Value Evaluator::evaluate(const Test& test) {
  const Value input = evaluate(*test.input);
  return Value::boolean(test.function(*this, input, evaluate_arguments(test.arguments)) != test.negated);
}

Value Evaluator::evaluate(const Unary& unary) {
  const Value operand = evaluate(*unary.operand);
  if (unary.op == UnaryOperator::logical_not) return Value::boolean(!operand.truthy());
  if (unary.op == UnaryOperator::negate) return negate(*this, operand);
  return arithmetic(*this, ArithmeticOperator::add, Value::integer(0), operand);
}

Value Evaluator::evaluate(const Arithmetic& chain) {
  Value value = evaluate(*chain.first);
  for (const auto& [op, operand] : chain.rest) value = arithmetic(*this, op, value, evaluate(*operand));
  return value;
}

Value Evaluator::evaluate(const Concat& concat_node) {
  std::vector<Value> operands;
  operands.reserve(concat_node.operands.size());
  for (const ExprPtr& operand : concat_node.operands) operands.push_back(evaluate(*operand));
  return concat(*this, operands);
}

Value Evaluator::evaluate(const Comparison& comparison) {
  Value left = evaluate(*comparison.first);
  for (const auto& [op, operand] : comparison.rest) {
    Value right = evaluate(*operand);
    if (!compare(*this, op, left, right)) return Value::boolean(false);
    left = std::move(right);
  }
  return Value::boolean(true);
}

// The operand that decides, as in Python.
Value Evaluator::evaluate(const Logical& logical) {
  Value value;
  for (const ExprPtr& operand : logical.operands) {
    value = evaluate(*operand);
    if (value.truthy() != logical.is_and) return value;
  }
  return value;
}

Value Evaluator::evaluate(const Conditional& conditional) {
  if (evaluate(*conditional.condition).truthy()) return evaluate(*conditional.then);
  return evaluate_optional(conditional.otherwise);
}

}  // namespace bifocal::text::jinja
