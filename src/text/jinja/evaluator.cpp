#include "text/jinja/evaluator.h"

#include <fmt/format.h>

#include <algorithm>

#include "text/jinja/globals.h"
#include "text/jinja/operators.h"

namespace bifocal::text::jinja {
namespace {

// Namespaces and loops live until the render ends: their price bounds the memory.
constexpr size_t kObjectSteps = 4;

}  // namespace

// A new scope within `parent` while it lives.
class Evaluator::ScopeGuard {
 public:
  ScopeGuard(Evaluator& evaluator, size_t parent) : evaluator_(evaluator), previous_(evaluator.current_) {
    if (evaluator.num_scopes_ == evaluator.scopes_.size()) evaluator.scopes_.emplace_back();
    evaluator.current_ = evaluator.num_scopes_++;
    Scope& scope = evaluator.scope();
    scope.id = evaluator.next_scope_id_++;
    scope.parent = parent;
  }
  ~ScopeGuard() {
    Scope& scope = evaluator_.scope();
    scope.id = 0;
    scope.variables.clear();
    --evaluator_.num_scopes_;
    evaluator_.current_ = previous_;
  }
  ScopeGuard(const ScopeGuard&) = delete;
  ScopeGuard& operator=(const ScopeGuard&) = delete;

 private:
  Evaluator& evaluator_;
  size_t previous_;
};

Evaluator::DepthGuard::DepthGuard(Evaluator& evaluator) : evaluator_(evaluator) {
  if (evaluator.depth_ >= kEvaluationLevels * evaluator.limits().max_depth)
    evaluator.fail("the template recurses too deeply");
  ++evaluator.depth_;
}

Evaluator::Evaluator(const TemplateLimits& limits) : Runtime(limits) {
  scopes_.emplace_back();
  num_scopes_ = 1;
  current_ = 0;
  scope().id = next_scope_id_++;
  for (auto& [name, value] : global_functions(*this)) set_variable(name, std::move(value));
}

void Evaluator::set_variable(std::string_view name, Value value) {
  for (auto& [known, old] : scope().variables) {
    if (known == name) {
      old = std::move(value);
      return;
    }
  }
  scope().variables.emplace_back(name, std::move(value));
}

const Value* Evaluator::find_variable(std::string_view name) const {
  for (size_t at = current_; at != kNoScope; at = scopes_[at].parent) {
    for (const auto& [known, value] : scopes_[at].variables) {
      if (known == name) return &value;
    }
  }
  return nullptr;
}

Value Evaluator::make_namespace(std::vector<std::pair<std::string, Value>> attributes) {
  charge(kObjectSteps);
  namespaces_.push_back({std::move(attributes)});
  return Value::name_space(&namespaces_.back());
}

Text Evaluator::render(const Body& body) {
  Text out;
  out_ = &out;
  // The template's own names hide variables and functions of the same name.
  const ScopeGuard guard(*this, current_);
  execute(body);
  return out;
}

void Evaluator::emit(const Text& text) {
  check_bytes(out_->size() + text.size() > limits().max_output_bytes ? SIZE_MAX : text.size());
  out_->append(text);
}

// What a body writes.
Text Evaluator::capture(const Body& body) {
  Text out;
  Text* const previous = std::exchange(out_, &out);
  const ScopeGuard guard(*this, current_);
  execute(body);
  out_ = previous;
  return out;
}

Evaluator::Flow Evaluator::execute(const Body& body) {
  const DepthGuard depth(*this);
  for (const Statement& statement : body) {
    const Flow flow = execute_statement(statement);
    if (flow != Flow::normal) return flow;
  }
  return Flow::normal;
}

Evaluator::Flow Evaluator::execute_statement(const Statement& statement) {
  set_position(statement.position);
  charge(1);
  return std::visit([&](const auto& node) { return execute(node); }, statement.node);
}

Evaluator::Flow Evaluator::execute(const Data& data) {
  check_bytes(out_->size() + data.text.size() > limits().max_output_bytes ? SIZE_MAX : data.text.size());
  out_->append(data.text);
  return Flow::normal;
}

Evaluator::Flow Evaluator::execute(const Output& output) {
  const Value value = evaluate(*output.expression);
  if (value.is_text()) {
    emit(value.as_text());
  } else if (!value.is_undefined()) {
    emit(print(value));
  }
  return Flow::normal;
}

Evaluator::Flow Evaluator::execute(const If& branch) {
  for (const auto& [condition, body] : branch.branches) {
    if (evaluate(*condition).truthy()) return execute(body);
  }
  return execute(branch.otherwise);
}

Evaluator::Flow Evaluator::execute(const For& loop) {
  auto items = iterate(*this, evaluate(*loop.iterable));
  if (loop.condition != nullptr) {
    auto kept = std::make_shared<std::vector<Value>>();
    for (const Value& item : *items) {
      charge(1);
      const ScopeGuard guard(*this, current_);
      assign(loop.target, item);
      if (evaluate(*loop.condition).truthy()) kept->push_back(item);
    }
    items = std::move(kept);
  }
  charge(kObjectSteps);
  Loop& state = loops_.emplace_back();
  state.items = items;
  // Jinja takes `else` when no iteration got to its end, also when the first one breaks.
  bool completed = false;
  for (size_t i = 0; i < items->size(); ++i) {
    charge(1);
    state.index = i;
    const ScopeGuard guard(*this, current_);
    set_variable("loop", Value::loop(&state));
    assign(loop.target, (*items)[i]);
    const Flow flow = execute(loop.body);
    if (flow == Flow::break_loop) break;
    completed = completed || flow == Flow::normal;
  }
  if (!completed) {
    const ScopeGuard guard(*this, current_);
    return execute(loop.otherwise);
  }
  return Flow::normal;
}

Evaluator::Flow Evaluator::execute(const Set& set) {
  assign(set.target, evaluate(*set.value));
  return Flow::normal;
}

Evaluator::Flow Evaluator::execute(const SetBlock& set) {
  assign(set.target, filtered(set.filters, capture(set.body)));
  return Flow::normal;
}

Evaluator::Flow Evaluator::execute(const Macro& macro) {
  set_variable(macro.name, make_function(macro.name, macro.signature, macro.body));
  return Flow::normal;
}

Evaluator::Flow Evaluator::execute(const CallBlock& block) {
  const Call& call_node = std::get<Call>(block.call->node);
  const Value callee = evaluate(*call_node.callee);
  Arguments arguments = evaluate_arguments(call_node.arguments);
  arguments.named.emplace_back("caller", make_function("caller", block.signature, block.body));
  emit(print(call(callee, arguments)));
  return Flow::normal;
}

Evaluator::Flow Evaluator::execute(const FilterBlock& block) {
  emit(print(filtered(block.filters, capture(block.body))));
  return Flow::normal;
}

Evaluator::Flow Evaluator::execute(const With& with) {
  std::vector<Value> values;
  for (const auto& [target, value] : with.assignments) values.push_back(evaluate(*value));
  const ScopeGuard guard(*this, current_);
  for (size_t i = 0; i < values.size(); ++i) assign(with.assignments[i].first, std::move(values[i]));
  return execute(with.body);
}

Value Evaluator::filtered(const ExprPtr& filters, Text text) {
  if (filters == nullptr) return Value::text(std::move(text));
  const auto previous = std::exchange(piped_, std::move(text));
  Value value = evaluate(*filters);
  piped_ = previous;
  return value;
}

void Evaluator::assign(const Target& target, Value value) {
  if (!target.names.empty()) return unpack(target.names, value);
  if (target.attribute.empty()) return set_variable(target.name, std::move(value));
  const Value* object = find_variable(target.name);
  if (object == nullptr || object->kind() != Kind::name_space)
    fail(fmt::format("'{}' is not a namespace", target.name));
  charge_work(object->as_namespace().attributes.size() * 16);
  object->as_namespace().set(target.attribute, std::move(value));
}

void Evaluator::unpack(const std::vector<std::string>& names, const Value& value) {
  const auto items = iterate(*this, value);
  if (items->size() != names.size())
    fail(fmt::format("{} values to unpack into {} names", items->size(), names.size()));
  for (size_t i = 0; i < names.size(); ++i) set_variable(names[i], (*items)[i]);
}

Value Evaluator::make_function(std::string_view name, const MacroSignature& signature, const Body& body) {
  const ScopeRef defined_in{current_, scope().id};
  return Value::callable(
      {std::string(name), [this, name, &signature, &body, defined_in](Runtime&, const Arguments& arguments) {
         return call_macro(name, signature, body, defined_in, arguments);
       }});
}

Value Evaluator::call_macro(std::string_view name, const MacroSignature& signature, const Body& body,
                            ScopeRef defined_in, Arguments arguments) {
  const DepthGuard depth(*this);
  if (defined_in.index >= num_scopes_ || scopes_[defined_in.index].id != defined_in.id) {
    fail(fmt::format("the macro '{}' is called outside of the block that defines it", name));
  }
  const auto& parameters = signature.parameters;
  if (arguments.positional.size() > parameters.size()) {
    fail(
        fmt::format("{}() takes {} arguments, got {}", name, parameters.size(), arguments.positional.size()));
  }
  Text out;
  Text* const previous = std::exchange(out_, &out);
  const ScopeGuard guard(*this, defined_in.index);
  std::vector<bool> given(parameters.size(), false);
  for (size_t i = 0; i < arguments.positional.size(); ++i) {
    set_variable(parameters[i].first, std::move(arguments.positional[i]));
    given[i] = true;
  }
  for (auto& [argument, value] : arguments.named) {
    const auto found = std::find_if(parameters.begin(), parameters.end(),
                                    [&](const auto& p) { return p.first == argument; });
    if (found != parameters.end()) {
      const auto index = static_cast<size_t>(found - parameters.begin());
      if (given[index]) fail(fmt::format("{}() got '{}' twice", name, argument));
      given[index] = true;
    } else if (argument != "caller") {
      fail(fmt::format("{}() has no parameter '{}'", name, argument));
    }
    set_variable(argument, std::move(value));
  }
  for (size_t i = 0; i < parameters.size(); ++i) {
    if (given[i]) continue;
    Value absent = parameters[i].second == nullptr ? Value::undefined(parameters[i].first)
                                                   : evaluate(*parameters[i].second);
    set_variable(parameters[i].first, std::move(absent));
  }
  execute(body);
  out_ = previous;
  return Runtime::text(std::move(out));
}

}  // namespace bifocal::text::jinja
