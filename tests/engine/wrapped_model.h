// A model like another one, but for its executor: make_executor gives a Wrapper(inner executor, state).
#pragma once

#include <memory>

#include "model/model.h"

namespace bifocal::engine {

template <class Wrapper, class State>
class WrappedModel final : public model::Model {
 public:
  // state must outlive the executor.
  WrappedModel(std::unique_ptr<model::Model> inner, State& state) : inner_(std::move(inner)), state_(state) {}
  const model::ModelSpec& spec() const override { return inner_->spec(); }
  std::span<const attention::AttentionDesc> attention_classes() const override {
    return inner_->attention_classes();
  }
  uint64_t weight_bytes() const override { return inner_->weight_bytes(); }
  uint64_t workspace_bytes(int max_tokens, int max_logit_rows) const override {
    return inner_->workspace_bytes(max_tokens, max_logit_rows);
  }
  Expected<std::unique_ptr<model::Executor>> make_executor(const model::ExecutorOptions& options) override {
    BIFOCAL_ASSIGN_OR_RETURN(auto executor, inner_->make_executor(options));
    return std::unique_ptr<model::Executor>(std::make_unique<Wrapper>(std::move(executor), state_));
  }

 private:
  std::unique_ptr<model::Model> inner_;
  State& state_;
};

}  // namespace bifocal::engine
