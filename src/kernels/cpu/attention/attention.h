// Attention over paged keys and values: the way in from the rest of the program. See span.h for the method.
#pragma once

#include "kernels/cpu/attention/span.h"
#include "kernels/cpu/isa.h"
#include "kernels/paged_kv.h"

namespace bifocal::kernels::cpu {

KvElement kv_element(DType dtype);  // f32, f16, bf16 or f8_e4m3; others are a bug of the caller's

// `pages` are the ids of the sequence's pages in order of position.
KvView kv_view(const PagedKv& kv, int first_kv_head, const int32_t* pages);

// The same keys by an index list: key t of the sequence is row rows[t / run] + t % run of the cache, where
// token i of page p is row p * HK * S + i. For caches whose pages are HK * S rows long, see pages_are_rows().
KvView kv_view_of_rows(const PagedKv& kv, int first_kv_head, const int32_t* rows, int run);
bool pages_are_rows(const PagedKv& kv);

// The kernels for an instruction set; where a set has none of its own, those of the next plainer one.
const AttentionKernels& attention_kernels(Isa isa);

}  // namespace bifocal::kernels::cpu
