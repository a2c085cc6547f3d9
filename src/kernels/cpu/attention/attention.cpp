#include "kernels/cpu/attention/attention.h"

#include "kernels/cpu/attention/tables.h"

namespace bifocal::kernels::cpu {

KvHeadView kv_head_view(const PagedKv& kv, int kv_head, const int32_t* pages) {
  const auto bytes = static_cast<int64_t>(size_of(kv.dtype));
  KvHeadView view;
  view.k = static_cast<const char*>(kv.k) + kv_head * kv.k_head_stride * bytes;
  view.v = static_cast<const char*>(kv.v) + kv_head * kv.v_head_stride * bytes;
  view.dtype = kv.dtype;
  view.page_size = kv.page_size;
  view.k_page_stride = kv.k_page_stride;
  view.k_token_stride = kv.k_token_stride;
  view.v_page_stride = kv.v_page_stride;
  view.v_token_stride = kv.v_token_stride;
  view.pages = pages;
  return view;
}

AttentionState make_attention_state(float* memory, int rows, int head_dim_v) {
  const int64_t r = (rows + 15) / 16 * 16;
  float* acc = memory;
  float* max = acc + r * padded_head_dim(head_dim_v);
  return {max, max + r, acc};
}

const AttentionKernels& attention_kernels(Isa isa) {
  switch (isa) {
    case Isa::scalar:
      return kAttentionScalar;
    case Isa::avx2:
      return kAttentionAvx2;
    case Isa::avx512:
    case Isa::avx512_bf16:
    case Isa::amx:
      return kAttentionAvx512;
  }
  return kAttentionScalar;
}

}  // namespace bifocal::kernels::cpu
