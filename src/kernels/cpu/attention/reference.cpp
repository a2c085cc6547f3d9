#include "kernels/cpu/attention/reference.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "kernels/cpu/float_bits.h"

namespace bifocal::kernels::cpu {
namespace {

struct F32 {
  using Storage = float;
  static float value(Storage x) { return x; }
};
struct F16 {
  using Storage = uint16_t;
  static float value(Storage x) { return float_from_f16(x); }
};
struct Bf16 {
  using Storage = uint16_t;
  static float value(Storage x) { return float_from_bf16(x); }
};
struct E4m3 {
  using Storage = uint8_t;
  static float value(Storage x) { return float_from_f8_e4m3(x); }
};

// Key t's row of K or V.
template <class Storage>
const Storage* row_of(const char* base, int64_t page_stride, int64_t token_stride, const KvView& kv, int t) {
  const int64_t page = kv.pages[t / kv.page_size];
  return reinterpret_cast<const Storage*>(base + page * page_stride + t % kv.page_size * token_stride);
}

template <class Element>
void attention_row(const ReferenceRowArgs& args) {
  using Storage = typename Element::Storage;
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  const KvView& kv = args.kv;
  const int num_keys = std::max(0, args.key_end - args.key_begin);
  double* logits = args.scratch;
  double max = args.sink != nullptr ? static_cast<double>(*args.sink) : -kInfinity;
  for (int i = 0; i < num_keys; ++i) {
    const auto* key = row_of<Storage>(kv.k, kv.k_page_stride, kv.k_token_stride, kv, args.key_begin + i);
    double dot = 0;
    for (int d = 0; d < args.head_dim_k; ++d) {
      dot += static_cast<double>(args.q[d]) * static_cast<double>(Element::value(key[d]));
    }
    logits[i] = dot * args.scale;
    if (args.softcap != 0) logits[i] = args.softcap * std::tanh(logits[i] / args.softcap);
    if (!(max >= logits[i])) max = logits[i];  // a NaN logit makes the maximum, and so the row, NaN
  }

  double* acc = args.scratch + num_keys;
  std::fill_n(acc, args.head_dim_v, 0.0);
  double sum = args.sink != nullptr ? std::exp(static_cast<double>(*args.sink) - max) : 0.0;
  for (int i = 0; i < num_keys; ++i) {
    const double weight = std::exp(logits[i] - max);
    sum += weight;
    const auto* value = row_of<Storage>(kv.v, kv.v_page_stride, kv.v_token_stride, kv, args.key_begin + i);
    for (int d = 0; d < args.head_dim_v; ++d)
      acc[d] += weight * static_cast<double>(Element::value(value[d]));
  }
  for (int d = 0; d < args.head_dim_v; ++d) args.out[d] = sum == 0 ? 0.0F : static_cast<float>(acc[d] / sum);
  if (args.lse != nullptr) *args.lse = static_cast<float>(sum == 0 ? -kInfinity : max + std::log(sum));
}

}  // namespace

void reference_attention_row(const ReferenceRowArgs& args) {
  switch (args.kv.element) {
    case kKvF16:
      return attention_row<F16>(args);
    case kKvBf16:
      return attention_row<Bf16>(args);
    case kKvE4m3:
      return attention_row<E4m3>(args);
    default:
      return attention_row<F32>(args);
  }
}

}  // namespace bifocal::kernels::cpu
