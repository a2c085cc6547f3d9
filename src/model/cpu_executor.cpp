#include <memory>
#include <utility>

#include "model/model.h"

namespace bifocal::model {
namespace {

class CpuExecutor final : public Executor {
 public:
  CpuExecutor(CpuModel& model, std::unique_ptr<attention::Planner> planner, kv::KvCache cache,
              int max_logit_rows)
      : model_(model),
        planner_(std::move(planner)),
        cache_(std::move(cache)),
        vocab_size_(static_cast<size_t>(model.spec().vocab_size)),
        logits_(new float[static_cast<size_t>(max_logit_rows) * vocab_size_]) {}

  int num_pages() const override { return cache_.num_pages(); }
  int num_window_pages() const override { return cache_.num_pages(kv::PageKind::window); }
  int page_size() const override { return cache_.page_size(); }

  Status copy_tokens(kv::PageId source, kv::PageId target, int num_tokens) override {
    cache_.copy_tokens(kv::PageKind::full, source, target, num_tokens);
    return {};
  }
  Status copy_window_tokens(kv::PageId source, kv::PageId target, int num_tokens) override {
    cache_.copy_tokens(kv::PageKind::window, source, target, num_tokens);
    return {};
  }

  Status submit(const StepRows& rows, const attention::StepBatch& batch) override {
    planner_->plan(batch);
    return model_.forward(rows, *planner_, cache_, logits_.get());
  }
  Status collect() override { return {}; }

  const float* logits(int32_t row) const override {
    return logits_.get() + static_cast<size_t>(row) * vocab_size_;
  }
  std::span<const int32_t> tokens() const override { return {}; }

  std::span<const attention::AttentionDesc> classes() const override { return planner_->classes(); }
  const attention::Router& router() const override { return planner_->router(); }
  const attention::PhaseCounters& counters(size_t class_index, attention::Phase phase) const override {
    return planner_->counters(class_index, phase);
  }

 private:
  CpuModel& model_;
  std::unique_ptr<attention::Planner> planner_;
  kv::KvCache cache_;
  size_t vocab_size_;
  std::unique_ptr<float[]> logits_;  // [R, V]; untouched memory costs nothing
};

}  // namespace

Expected<std::unique_ptr<Executor>> CpuModel::make_executor(const ExecutorOptions& options) {
  const auto classes = attention_classes();
  BIFOCAL_ASSIGN_OR_RETURN(const attention::Router router,
                           attention::Router::create(options.attention, classes));
  BIFOCAL_ASSIGN_OR_RETURN(auto planner, attention::Planner::create(router, classes, options.limits));
  BIFOCAL_RETURN_IF_ERROR(prepare(options.limits.max_tokens, options.max_logit_rows));
  // The first class is no expansion: its pages are the cache's.
  const attention::AttentionDesc& pages = classes.front();
  BIFOCAL_ASSIGN_OR_RETURN(auto cache,
                           kv::KvCache::allocate(kv_layer_shapes(spec()), pages.kv_dtype, pages.page_size,
                                                 options.num_pages, options.num_window_pages));
  return std::unique_ptr<Executor>(
      std::make_unique<CpuExecutor>(*this, std::move(planner), std::move(cache), options.max_logit_rows));
}

}  // namespace bifocal::model
