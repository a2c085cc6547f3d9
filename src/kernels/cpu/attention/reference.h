// Attention as the textbook has it, in double: what every other kernel is checked against.
#pragma once

#include "kernels/cpu/attention/span.h"

namespace bifocal::kernels::cpu {

struct ReferenceRowArgs {
  KvView kv;
  int head_dim_k = 0;
  int head_dim_v = 0;
  const float* q = nullptr;  // [Dk]
  int key_begin = 0;         // the row sees keys [key_begin, key_end)
  int key_end = 0;
  double scale = 1;
  double softcap = 0;           // 0: none
  const float* sink = nullptr;  // one logit that only enters the denominator, or null
  float* out = nullptr;         // [Dv]
  float* lse = nullptr;         // natural log of the denominator, or null
  double* scratch = nullptr;    // [key_end - key_begin + Dv]
};

void reference_attention_row(const ReferenceRowArgs& args);

}  // namespace bifocal::kernels::cpu
