// One layer's keys and values as kernels see them: pages of `page_size` tokens, addressed by strides.
#pragma once

#include <cstdint>

#include "tensor/dtype.h"

namespace bifocal::kernels {

// Element (page p, kv head h, token t, dim d) of K is k[p*page_stride + h*head_stride + t*token_stride + d],
// likewise V with its own base and strides. An array of keys or values is [P, HK, S, D]: page, kv head, token
// in page, dim.
struct PagedKv {
  void* k = nullptr;
  void* v = nullptr;
  DType dtype = DType::f32;                                          // f32, f16, bf16, f8_e4m3
  int num_kv_heads = 0;                                              // HK
  int head_dim_k = 0;                                                // D of K
  int head_dim_v = 0;                                                // D of V
  int page_size = 0;                                                 // S, tokens per page
  int64_t k_page_stride = 0, k_head_stride = 0, k_token_stride = 0;  // elements
  int64_t v_page_stride = 0, v_head_stride = 0, v_token_stride = 0;
};

// The strides of two arrays, one of keys and one of values, from the other members.
inline void set_dense_strides(PagedKv& kv) {
  kv.k_token_stride = kv.head_dim_k;
  kv.k_head_stride = kv.k_token_stride * kv.page_size;
  kv.k_page_stride = kv.k_head_stride * kv.num_kv_heads;
  kv.v_token_stride = kv.head_dim_v;
  kv.v_head_stride = kv.v_token_stride * kv.page_size;
  kv.v_page_stride = kv.v_head_stride * kv.num_kv_heads;
}

// The same for one array in which a page's keys are followed by its values: memory is read in runs that are
// twice as long. Sets v as well.
inline void set_paired_strides(PagedKv& kv) {
  set_dense_strides(kv);
  kv.v = static_cast<char*>(kv.k) + kv.k_page_stride * static_cast<int64_t>(size_of(kv.dtype));
  kv.k_page_stride += kv.v_page_stride;
  kv.v_page_stride = kv.k_page_stride;
}

}  // namespace bifocal::kernels
