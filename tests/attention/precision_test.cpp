// Keys and values of 16 and 8 bits cost the precision that their storage costs, and no more: products and
// sums are made in f32, so the result is far closer to `reference` than a plain loop in the storage type is.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>

#include "attention/attention_case.h"
#include "attention/span_plan.h"
#include "base/hash.h"
#include "kernels/cpu/float_bits.h"

namespace bifocal::attention {
namespace {

float load(const kernels::PagedKv& kv, const void* base, int64_t index) {
  const auto* bytes = static_cast<const uint8_t*>(base);
  if (kv.dtype == DType::f8_e4m3) return kernels::cpu::float_from_f8_e4m3(bytes[index]);
  uint16_t bits = 0;
  std::memcpy(&bits, bytes + 2 * index, 2);
  return kv.dtype == DType::f16 ? kernels::cpu::float_from_f16(bits) : kernels::cpu::float_from_bf16(bits);
}

// Every intermediate result is rounded to the storage type; for f8 to f16, in which such caches are computed.
std::vector<float> plain_loop(const CaseSpec& spec, const CaseData& data) {
  const AttentionDesc& desc = spec.desc;
  const kernels::PagedKv& kv = data.inputs().kv;
  const auto round = [&](float x) {
    return desc.kv_dtype == DType::bf16 ? kernels::cpu::float_from_bf16(kernels::cpu::bf16_from_float(x))
                                        : kernels::cpu::float_from_f16(kernels::cpu::f16_from_float(x));
  };
  const int group = desc.num_heads / desc.num_kv_heads;
  std::vector<float> out;
  const AttentionBatch& batch = data.batch();
  for (size_t s = 0; s < batch.q_len.size(); ++s) {
    const int32_t* pages = batch.page_table.data() + static_cast<int64_t>(s) * batch.page_table_stride;
    for (int token = 0; token < batch.q_len[s]; ++token) {
      const VisibleKeys keys = visible_keys(desc, batch, s, token);
      for (int head = 0; head < desc.num_heads; ++head) {
        const float* q = data.inputs().q + (batch.q_begin[s] + token) * data.inputs().q_stride +
                         int64_t{head} * desc.head_dim_k;
        const auto row = [&](int t, int64_t page_stride, int64_t head_stride, int64_t token_stride) {
          return pages[t / desc.page_size] * page_stride + head / group * head_stride +
                 t % desc.page_size * token_stride;
        };
        std::vector<float> logits;
        float max = -std::numeric_limits<float>::infinity();
        for (int t = keys.begin; t < keys.end; ++t) {
          const int64_t k = row(t, kv.k_page_stride, kv.k_head_stride, kv.k_token_stride);
          float dot = 0;
          for (int d = 0; d < desc.head_dim_k; ++d)
            dot = round(dot + round(round(q[d]) * load(kv, kv.k, k + d)));
          logits.push_back(round(dot * desc.scale));
          max = std::max(max, logits.back());
        }
        float sum = 0;
        std::vector<float> acc(static_cast<size_t>(desc.head_dim_v), 0.0F);
        for (int t = keys.begin; t < keys.end; ++t) {
          const int64_t v = row(t, kv.v_page_stride, kv.v_head_stride, kv.v_token_stride);
          const float weight = round(std::exp(round(logits[static_cast<size_t>(t - keys.begin)] - max)));
          sum = round(sum + weight);
          for (size_t d = 0; d < acc.size(); ++d) {
            acc[d] = round(acc[d] + round(weight * load(kv, kv.v, v + static_cast<int64_t>(d))));
          }
        }
        for (const float x : acc) out.push_back(round(x / sum));
      }
    }
  }
  return out;
}

double max_error(const std::vector<float>& a, const std::vector<float>& b) {
  double largest = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    largest = std::max(largest, std::fabs(static_cast<double>(a[i]) - static_cast<double>(b[i])));
  }
  return largest;
}

TEST(Precision, WithinTwiceTheErrorOfAPlainLoop) {
  SplitMix64 random(8);
  for (const DType dtype : {DType::bf16, DType::f16, DType::f8_e4m3}) {
    for (const int head_dim : {64, 80, 128, 256}) {
      CaseSpec spec;
      spec.desc.num_heads = 4;
      spec.desc.num_kv_heads = 2;
      spec.desc.head_dim_k = spec.desc.head_dim_v = head_dim;
      spec.desc.kv_dtype = dtype;
      spec.desc.scale = 1.0F / std::sqrt(static_cast<float>(head_dim));
      spec.desc.window = head_dim == 80 ? 50 : 0;
      spec.seed = random.next();
      spec.sequences = {{0, 3, 130}, {1, 1, 64}, {2, 20, 20}};
      const CaseData data(spec);
      const CaseResult reference = run_reference(spec);
      const double plain = max_error(plain_loop(spec, data), reference.out);
      for (const char* backend : {"tiled", "streaming", "unified"}) {
        spec.backend = backend;
        EXPECT_LE(max_error(run_case(spec).out, reference.out), 2 * plain) << to_string(spec);
      }
      // The loop has to be wrong by what such a loop is wrong, or the bound means nothing.
      EXPECT_GT(plain, dtype == DType::bf16 ? 1e-3 : 1e-4);
      EXPECT_LT(plain, 0.5);
    }
  }
}

}  // namespace
}  // namespace bifocal::attention
