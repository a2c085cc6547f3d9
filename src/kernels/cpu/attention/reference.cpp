#include "kernels/cpu/attention/reference.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "kernels/cpu/attention/element.h"

namespace bifocal::kernels::cpu {
namespace {

// Offset in elements of key t's row.
int64_t row_offset(const KvHeadView& kv, int t, int64_t page_stride, int64_t token_stride) {
  return kv.pages[t / kv.page_size] * page_stride + (t % kv.page_size) * token_stride;
}

}  // namespace

void reference_attention_row(const ReferenceRowArgs& args) {
  const KvHeadView& kv = args.kv;
  const int num_keys = std::max(0, args.key_end - args.key_begin);
  double max =
      args.sink != nullptr ? static_cast<double>(*args.sink) : -std::numeric_limits<double>::infinity();
  for (int i = 0; i < num_keys; ++i) {
    const int64_t row = row_offset(kv, args.key_begin + i, kv.k_page_stride, kv.k_token_stride);
    double dot = 0;
    for (int d = 0; d < args.head_dim_k; ++d) {
      dot += static_cast<double>(args.q[d]) * static_cast<double>(load_element(kv.dtype, kv.k, row + d));
    }
    double logit = dot * args.scale;
    if (args.softcap != 0) logit = args.softcap * std::tanh(logit / args.softcap);
    args.logits[i] = logit;
    if (!(max >= logit)) max = logit;  // a NaN logit makes the maximum, and so the row, NaN
  }

  double* acc = args.logits + num_keys;
  std::fill_n(acc, args.head_dim_v, 0.0);
  double sum = args.sink != nullptr ? std::exp(static_cast<double>(*args.sink) - max) : 0.0;
  for (int i = 0; i < num_keys; ++i) {
    const double weight = std::exp(args.logits[i] - max);
    sum += weight;
    const int64_t row = row_offset(kv, args.key_begin + i, kv.v_page_stride, kv.v_token_stride);
    for (int d = 0; d < args.head_dim_v; ++d) {
      acc[d] += weight * static_cast<double>(load_element(kv.dtype, kv.v, row + d));
    }
  }
  for (int d = 0; d < args.head_dim_v; ++d) args.out[d] = sum == 0 ? 0.0F : static_cast<float>(acc[d] / sum);
  if (args.lse != nullptr) {
    *args.lse = sum == 0 ? -std::numeric_limits<float>::infinity() : static_cast<float>(max + std::log(sum));
  }
}

}  // namespace bifocal::kernels::cpu
