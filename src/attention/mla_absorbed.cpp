#include "attention/mla_absorbed.h"

#include <algorithm>

#include "attention/batch_rows.h"

namespace bifocal::attention {
namespace {

namespace cpu = kernels::cpu;

constexpr int64_t kGroupedRows = 4096;  // rows of all heads that are multiplied in one hand-over

// product(h) for every head, some heads at a time.
template <class Product>
void multiply_heads(int64_t num_heads, int64_t num_rows, std::vector<cpu::GemmArgs>& products, void* scratch,
                    ThreadPool& pool, Product product) {
  const int64_t at_once = std::clamp<int64_t>(kGroupedRows / num_rows, 1, num_heads);
  for (int64_t begin = 0; begin < num_heads; begin += at_once) {
    products.clear();
    for (int64_t h = begin; h < std::min(num_heads, begin + at_once); ++h) products.push_back(product(h));
    cpu::gemm_grouped(products, scratch, pool);
  }
}

}  // namespace

MlaAbsorbed::MlaAbsorbed(const AttentionDesc& desc, const PlanLimits& limits)
    : desc_(desc),
      max_tokens_(limits.max_tokens),
      q_stride_(int64_t{desc.num_heads} * desc.head_dim_k),
      out_stride_(int64_t{desc.num_heads} * desc.head_dim_v),
      out_offset_(max_tokens_ * q_stride_) {
  products_.reserve(static_cast<size_t>(desc.num_heads));
}

size_t MlaAbsorbed::gemm_scratch_bytes() const {
  const int64_t rows = std::max(max_tokens_, kGroupedRows);
  const int64_t k = std::max(desc_.head_dim_v, desc_.expanded_head_dim_k);
  return cpu::gemm_scratch_bytes(rows, k);
}

Status MlaAbsorbed::run(const Plan& plan, uint64_t step, const MlaInputs& inputs,
                        const MlaWorkspace& workspace, ThreadPool& pool) {
  const BatchRows rows = batch_rows(plan.batch);
  if (rows.count() == 0) return {};
  const int64_t rank = desc_.head_dim_v;
  const int64_t rope_dim = desc_.head_dim_k - rank;
  const int64_t head_dim = desc_.expanded_head_dim_k;
  float* const q = workspace.floats + rows.begin * q_stride_;
  float* const out = workspace.floats + out_offset_ + rows.begin * out_stride_;
  const float* const q_in = inputs.q + rows.begin * inputs.q_stride;

  multiply_heads(desc_.num_heads, rows.count(), products_, workspace.gemm_scratch, pool, [&](int64_t h) {
    cpu::GemmArgs args;
    args.a = q_in + h * head_dim;
    args.lda = inputs.q_stride;
    args.m = rows.count();
    args.w = &inputs.projections.absorb[static_cast<size_t>(h)];
    args.c = q + h * desc_.head_dim_k;
    args.ldc = q_stride_;
    return args;
  });
  pool.parallel_for(rows.count(), [&](int64_t row, int) {
    const float* from = q_in + row * inputs.q_stride + head_dim - rope_dim;
    float* to = q + row * q_stride_ + rank;
    for (int h = 0; h < desc_.num_heads; ++h, from += head_dim, to += desc_.head_dim_k) {
      std::copy_n(from, rope_dim, to);
    }
  });

  LayerInputs attend;
  attend.q = workspace.floats;
  attend.q_stride = q_stride_;
  attend.kv = inputs.kv;
  attend.out = workspace.floats + out_offset_;
  attend.out_stride = out_stride_;
  BIFOCAL_RETURN_IF_ERROR(plan.backend->run(plan, desc_, step, attend, pool));

  multiply_heads(desc_.num_heads, rows.count(), products_, workspace.gemm_scratch, pool, [&](int64_t h) {
    cpu::GemmArgs args;
    args.a = out + h * rank;
    args.lda = out_stride_;
    args.m = rows.count();
    args.w = &inputs.projections.output[static_cast<size_t>(h)];
    args.c = inputs.out + rows.begin * inputs.out_stride + h * desc_.expanded_head_dim_v;
    args.ldc = inputs.out_stride;
    return args;
  });
  return {};
}

}  // namespace bifocal::attention
