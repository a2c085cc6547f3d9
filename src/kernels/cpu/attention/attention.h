// Attention over paged keys and values: the way in from the rest of the program. See span.h for the method.
#pragma once

#include "kernels/cpu/attention/span.h"
#include "kernels/cpu/isa.h"
#include "kernels/paged_kv.h"

namespace bifocal::kernels::cpu {

KvElement kv_element(DType dtype);  // f32, f16, bf16 or f8_e4m3; others are a bug of the caller's

// `pages` are the ids of the sequence's pages in order of position.
KvView kv_view(const PagedKv& kv, int first_kv_head, const int32_t* pages);

// The kernels for an instruction set; where a set has none of its own, those of the next plainer one.
const AttentionKernels& attention_kernels(Isa isa);

}  // namespace bifocal::kernels::cpu
