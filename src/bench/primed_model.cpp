#include "bench/primed_model.h"

#include <algorithm>

#include "base/hash.h"
#include "kernels/cpu/elementwise.h"

namespace bifocal::bench {
namespace {

constexpr int64_t kNoiseRows = 256;

}  // namespace

Expected<model::CpuModel*> require_cpu_model(model::Model& model) {
  model::CpuModel* cpu = model.on_cpu();
  if (cpu == nullptr) return unsupported("this benchmark runs on the CPU; give --device cpu");
  return cpu;
}

PrimedModel::PrimedModel(model::CpuModel& model, int64_t context_len, int64_t context_rows, ThreadPool& pool)
    : model_(model), context_len_(context_len), rows_left_(context_rows), pool_(pool) {
  for (const kv::LayerShape& layer : model::kv_layer_shapes(model.spec())) {
    const int64_t width = int64_t{layer.num_kv_heads} * (layer.head_dim_k + layer.head_dim_v);
    noise_stride_ = std::max(noise_stride_, width);
  }
  noise_.resize(static_cast<size_t>(kNoiseRows * noise_stride_));
  SplitMix64 random(1);
  for (float& value : noise_) value = static_cast<float>(2.0 * random.uniform() - 1.0);
}

Status PrimedModel::forward(const model::StepRows& rows, attention::Planner& planner, kv::KvCache& cache,
                            float* logits) {
  if (rows_left_ <= 0) return model_.forward(rows, planner, cache, logits);
  rows_left_ -= std::count_if(rows.positions.begin(), rows.positions.end(),
                              [this](int32_t position) { return position < context_len_; });
  const auto num_rows = static_cast<int64_t>(rows.kv_slots.size());
  for (size_t layer = 0; layer < cache.num_layers(); ++layer) {
    const kernels::PagedKv kv = cache.layer(layer);
    const int64_t k_width = int64_t{kv.num_kv_heads} * kv.head_dim_k;
    const float* v = kv.v == kv.k ? nullptr : noise_.data() + k_width;
    for (int64_t row = 0; row < num_rows; row += kNoiseRows) {
      kernels::cpu::write_kv(noise_.data(), noise_stride_, v, noise_stride_,
                             rows.slots(cache.page_kind(layer)).data() + row,
                             std::min(kNoiseRows, num_rows - row), kv, pool_);
    }
  }
  std::fill_n(logits, rows.logit_rows.size() * static_cast<size_t>(spec().vocab_size), 0.0F);
  return {};
}

}  // namespace bifocal::bench
