#include <fmt/format.h>

#include <algorithm>
#include <span>
#include <vector>

#include "base/thread_pool.h"
#include "capi/device_attention.h"

namespace bifocal::capi {
namespace {

using attention::Phase;

class CpuAttention final : public DeviceAttention {
 public:
  CpuAttention(const attention::AttentionDesc& desc, const attention::PlanLimits& limits)
      : desc_(desc), limits_(limits), pool_(limits.num_threads) {}

  Status open(const attention::Router& router) {
    attention::PlanLimits limits = limits_;
    limits.num_threads = pool_.num_threads();
    BIFOCAL_ASSIGN_OR_RETURN(planner_, attention::Planner::create(router, {&desc_, 1}, limits));
    return {};
  }

  Status set_cache(void* k, void* v, int num_pages) override {
    kv_ = paged_cache(desc_, k, v);
    num_pages_ = num_pages;
    return {};
  }

  Status plan(const bifocal_attention_batch& batch, void*) override {
    planned_ = false;
    const auto num_seqs = static_cast<size_t>(batch.num_prefill) + static_cast<size_t>(batch.num_decode);
    last_page_ = -1;
    num_rows_ = 0;
    int64_t rows = 0;
    for (size_t i = 0; i < num_seqs; ++i) {
      BIFOCAL_RETURN_IF_ERROR(check_sequence(batch, i));
      rows += batch.q_len[i];
    }
    if (rows > limits_.max_tokens) {
      return invalid_argument(
          fmt::format("a step of {} query rows, made for at most {} (max_tokens)", rows, limits_.max_tokens));
    }
    phases_.assign(num_seqs, Phase::decode);
    std::fill_n(phases_.begin(), batch.num_prefill, Phase::prefill);
    attention::StepBatch step;
    step.step = ++step_;
    step.phases = phases_;
    step.q_begin = {batch.q_begin, num_seqs};
    step.q_len = {batch.q_len, num_seqs};
    step.kv_len = {batch.kv_len, num_seqs};
    step.page_table_stride = batch.page_table_stride;
    step.page_table = {batch.page_table, num_seqs * static_cast<size_t>(batch.page_table_stride)};
    planner_->plan(step);
    planned_ = true;
    return {};
  }

  Status run(const bifocal_attention_layer& layer, void*) override {
    if (!planned_) return invalid_argument("no step is planned: call bifocal_attention_plan first");
    if (layer.num_tokens < num_rows_) {
      return invalid_argument(fmt::format("num_tokens is {}, but the step's sequences have rows up to {}",
                                          layer.num_tokens, num_rows_));
    }
    if (int64_t{layer.first_page} + last_page_ >= num_pages_) {
      return invalid_argument(fmt::format("page {} of a layer that begins at page {}: the cache has {}",
                                          last_page_, layer.first_page, num_pages_));
    }
    attention::LayerInputs inputs;
    inputs.q = static_cast<const float*>(layer.q);
    inputs.out = static_cast<float*>(layer.out);
    inputs.q_stride = inputs.out_stride = int64_t{desc_.num_heads} * desc_.head_dim_k;
    inputs.sinks = layer.sinks;
    inputs.kv = kv_;
    const auto offset = static_cast<size_t>(layer.first_page * kv_.k_page_stride) * size_of(kv_.dtype);
    inputs.kv.k = static_cast<std::byte*>(kv_.k) + offset;
    inputs.kv.v = static_cast<std::byte*>(kv_.v) + offset;
    return planner_->run(0, inputs, pool_);
  }

 private:
  Status check_sequence(const bifocal_attention_batch& batch, size_t i) {
    const int32_t q_begin = batch.q_begin[i];
    const int32_t q_len = batch.q_len[i];
    const int32_t kv_len = batch.kv_len[i];
    const bool decodes = i >= static_cast<size_t>(batch.num_prefill);
    if (q_begin < 0 || q_len < 0 || kv_len < q_len || kv_len > limits_.max_kv_len || (decodes && q_len > 1)) {
      return invalid_argument(fmt::format(
          "sequence {}: q_begin {}, q_len {}, kv_len {}; expected 0 <= q_len <= kv_len <= {} (max_kv_len){}",
          i, q_begin, q_len, kv_len, limits_.max_kv_len, decodes ? ", and one row to decode" : ""));
    }
    const int32_t num_pages = q_len == 0 ? 0 : (kv_len - 1) / desc_.page_size + 1;
    if (num_pages > batch.page_table_stride) {
      return invalid_argument(
          fmt::format("sequence {}: {} keys take {} pages, its row of the page table has {}", i, kv_len,
                      num_pages, batch.page_table_stride));
    }
    const int32_t* pages = batch.page_table + static_cast<int64_t>(i) * batch.page_table_stride;
    for (int32_t p = first_page_seen(q_len, kv_len); p < num_pages; ++p) {
      if (pages[p] < 0)
        return invalid_argument(fmt::format("sequence {}: its page {} is {}", i, p, pages[p]));
      last_page_ = std::max(last_page_, pages[p]);
    }
    num_rows_ = std::max(num_rows_, int64_t{q_begin} + q_len);
    return {};
  }

  int32_t first_page_seen(int32_t q_len, int32_t kv_len) const {
    return desc_.window == 0 ? 0 : std::max(0, kv_len - q_len + 1 - desc_.window) / desc_.page_size;
  }

  const attention::AttentionDesc& desc_;
  attention::PlanLimits limits_;
  ThreadPool pool_;
  std::unique_ptr<attention::Planner> planner_;
  kernels::PagedKv kv_;
  int num_pages_ = 0;
  std::vector<Phase> phases_;
  uint64_t step_ = 0;
  bool planned_ = false;
  int32_t last_page_ = -1;  // highest page id of the step
  int64_t num_rows_ = 0;    // query rows that the step's sequences lie in
};

}  // namespace

Expected<std::unique_ptr<DeviceAttention>> make_cpu_attention(const attention::Router& router,
                                                              const attention::AttentionDesc& desc,
                                                              const attention::PlanLimits& limits) {
  auto made = std::make_unique<CpuAttention>(desc, limits);
  BIFOCAL_RETURN_IF_ERROR(made->open(router));
  return std::unique_ptr<DeviceAttention>(std::move(made));
}

}  // namespace bifocal::capi
