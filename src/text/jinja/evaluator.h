// Executes a template's syntax tree.
#pragma once

#include <deque>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "text/jinja/ast.h"
#include "text/jinja/runtime.h"

namespace bifocal::text::jinja {

class Evaluator : public Runtime {
 public:
  // The tree must outlive the evaluator, the names of variables too.
  explicit Evaluator(const TemplateLimits& limits);

  void set_variable(std::string_view name, Value value);
  // Throws TemplateError.
  Text render(const Body& body);

  Value make_namespace(std::vector<std::pair<std::string, Value>> attributes);

 private:
  // Variables of one block. A scope is found by its index and id, so that a macro that outlives its scope is
  // noticed.
  struct Scope {
    uint64_t id = 0;
    size_t parent = kNoScope;
    std::vector<std::pair<std::string_view, Value>> variables;
  };
  static constexpr size_t kNoScope = SIZE_MAX;
  struct ScopeRef {
    size_t index;
    uint64_t id;
  };
  enum class Flow { normal, break_loop, continue_loop };

  class ScopeGuard;
  // One level of evaluation while it lives. A tree is at most max_depth high; macros stack trees on each
  // other.
  class DepthGuard {
   public:
    explicit DepthGuard(Evaluator& evaluator);
    ~DepthGuard() { --evaluator_.depth_; }
    DepthGuard(const DepthGuard&) = delete;
    DepthGuard& operator=(const DepthGuard&) = delete;

   private:
    static constexpr int kEvaluationLevels = 5;  // times max_depth
    Evaluator& evaluator_;
  };

  Flow execute(const Body& body);
  Flow execute_statement(const Statement& statement);
  Flow execute(const Data& data);
  Flow execute(const Output& output);
  Flow execute(const If& branch);
  Flow execute(const For& loop);
  Flow execute(const Set& set);
  Flow execute(const SetBlock& set);
  Flow execute(const Macro& macro);
  Flow execute(const CallBlock& block);
  Flow execute(const FilterBlock& block);
  Flow execute(const With& with);
  Flow execute(const Break&) { return Flow::break_loop; }
  Flow execute(const Continue&) { return Flow::continue_loop; }

  Value evaluate(const Expr& expr);
  Value evaluate(const Literal& literal) { return literal.value; }
  Value evaluate(const Name& name);
  Value evaluate(const ListLiteral& list);
  Value evaluate(const MappingLiteral& mapping);
  Value evaluate(const Attribute& attribute);
  Value evaluate(const Subscript& subscript);
  Value evaluate(const Slice& slice);
  Value evaluate(const Call& call);
  Value evaluate(const Filter& filter);
  Value evaluate(const Test& test);
  Value evaluate(const Unary& unary);
  Value evaluate(const Arithmetic& chain);
  Value evaluate(const Concat& concat);
  Value evaluate(const Comparison& comparison);
  Value evaluate(const Logical& logical);
  Value evaluate(const Conditional& conditional);
  Value evaluate_optional(const ExprPtr& expr) { return expr == nullptr ? Value() : evaluate(*expr); }

  Arguments evaluate_arguments(const CallArguments& arguments);
  Value call(const Value& callee, const Arguments& arguments);
  Value call_macro(std::string_view name, const MacroSignature& signature, const Body& body, ScopeRef scope,
                   Arguments arguments);
  Value make_function(std::string_view name, const MacroSignature& signature, const Body& body);

  void assign(const Target& target, Value value);
  void unpack(const std::vector<std::string>& names, const Value& value);
  void emit(const Text& text);
  Text capture(const Body& body);
  Value filtered(const ExprPtr& filters, Text text);

  Scope& scope() { return scopes_[current_]; }
  const Value* find_variable(std::string_view name) const;

  std::deque<Scope> scopes_;  // those in use come first; the rest are kept for reuse
  size_t num_scopes_ = 0;
  size_t current_ = kNoScope;
  uint64_t next_scope_id_ = 1;
  std::deque<Namespace> namespaces_;
  std::deque<Loop> loops_;
  std::optional<Text> piped_;  // the input of a chain of filters without one of its own
  Text* out_ = nullptr;
  int depth_ = 0;
};

}  // namespace bifocal::text::jinja
