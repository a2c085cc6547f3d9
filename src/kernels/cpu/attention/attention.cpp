#include "kernels/cpu/attention/attention.h"

#include "base/check.h"

namespace bifocal::kernels::cpu {

KvElement kv_element(DType dtype) {
  switch (dtype) {
    case DType::f32:
      return kKvF32;
    case DType::f16:
      return kKvF16;
    case DType::bf16:
      return kKvBf16;
    default:
      BIFOCAL_CHECK(dtype == DType::f8_e4m3);
      return kKvE4m3;
  }
}

KvView kv_view(const PagedKv& kv, int first_kv_head, const int32_t* pages) {
  const auto bytes = static_cast<int64_t>(size_of(kv.dtype));
  KvView view;
  view.k = static_cast<const char*>(kv.k) + first_kv_head * kv.k_head_stride * bytes;
  view.v = static_cast<const char*>(kv.v) + first_kv_head * kv.v_head_stride * bytes;
  view.element = kv_element(kv.dtype);
  view.page_size = kv.page_size;
  view.k_page_stride = kv.k_page_stride * bytes;
  view.k_head_stride = kv.k_head_stride * bytes;
  view.k_token_stride = kv.k_token_stride * bytes;
  view.v_page_stride = kv.v_page_stride * bytes;
  view.v_head_stride = kv.v_head_stride * bytes;
  view.v_token_stride = kv.v_token_stride * bytes;
  view.pages = pages;
  return view;
}

#if defined(__x86_64__)
namespace {

const AttentionKernels& amx_kernels() {
  static const AttentionKernels kernels = [] {
    AttentionKernels k = kAttentionAvx512;
    k.tiled.of[kKvBf16] = kTiledAmx;
    k.streaming.of[kKvBf16] = kStreamingAmx;
    k.unified.of[kKvBf16] = kUnifiedAmx;
    return k;
  }();
  return kernels;
}

}  // namespace
#endif

const AttentionKernels& attention_kernels(Isa isa) {
#if defined(__x86_64__)
  switch (isa) {
    case Isa::scalar:
      return kAttentionScalar;
    case Isa::avx2:
      return kAttentionAvx2;
    case Isa::avx512:
    case Isa::avx512_bf16:
      return kAttentionAvx512;
    case Isa::amx:
      return amx_kernels();
  }
#else
  (void)isa;
#endif
  return kAttentionScalar;
}

}  // namespace bifocal::kernels::cpu
