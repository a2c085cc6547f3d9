#include "kernels/cpu/attention/reference.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "kernels/cpu/float_bits.h"

namespace bifocal::kernels::cpu {
namespace {

double load_element(KvElement element, const char* row, int d) {
  const auto at = [&]<class T>(T) {
    T x;
    std::memcpy(&x, row + static_cast<int64_t>(d) * static_cast<int64_t>(sizeof(T)), sizeof(T));
    return x;
  };
  switch (element) {
    case kKvF16:
      return static_cast<double>(float_from_f16(at(uint16_t{})));
    case kKvBf16:
      return static_cast<double>(float_from_bf16(at(uint16_t{})));
    case kKvE4m3:
      return static_cast<double>(float_from_f8_e4m3(at(uint8_t{})));
    default:
      return static_cast<double>(at(float{}));
  }
}

const char* key_row(const KvHeadView& kv, int t) {
  return kv.k + kv.pages[t / kv.page_size] * kv.k_page_stride + t % kv.page_size * kv.k_token_stride;
}
const char* value_row(const KvHeadView& kv, int t) {
  return kv.v + kv.pages[t / kv.page_size] * kv.v_page_stride + t % kv.page_size * kv.v_token_stride;
}

}  // namespace

void reference_attention_row(const ReferenceRowArgs& args) {
  const KvHeadView& kv = args.kv;
  const int num_keys = std::max(0, args.key_end - args.key_begin);
  double max =
      args.sink != nullptr ? static_cast<double>(*args.sink) : -std::numeric_limits<double>::infinity();
  for (int i = 0; i < num_keys; ++i) {
    const char* row = key_row(kv, args.key_begin + i);
    double dot = 0;
    for (int d = 0; d < args.head_dim_k; ++d) {
      dot += static_cast<double>(args.q[d]) * load_element(kv.element, row, d);
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
    const char* row = value_row(kv, args.key_begin + i);
    for (int d = 0; d < args.head_dim_v; ++d) {
      acc[d] += weight * load_element(kv.element, row, d);
    }
  }
  for (int d = 0; d < args.head_dim_v; ++d) args.out[d] = sum == 0 ? 0.0F : static_cast<float>(acc[d] / sum);
  if (args.lse != nullptr) {
    *args.lse = sum == 0 ? -std::numeric_limits<float>::infinity() : static_cast<float>(max + std::log(sum));
  }
}

}  // namespace bifocal::kernels::cpu
