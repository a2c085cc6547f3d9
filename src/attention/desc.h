// What is fixed for a set of layers. Layers with equal descriptions form an attention class.
#pragma once

#include <cstdint>
#include <span>
#include <string>

#include "base/status.h"
#include "tensor/dtype.h"

namespace bifocal::attention {

enum class Kind : uint8_t { gqa, mla };

struct AttentionDesc {
  Kind kind = Kind::gqa;
  int num_heads = 0;     // H
  int num_kv_heads = 0;  // HK; H is a multiple of HK
  int head_dim_k = 0;    // of Q and K
  int head_dim_v = 0;
  int window = 0;  // sliding window in keys, the current one included; 0: none
  bool sinks = false;
  float softcap = 0.0F;  // logits become softcap * tanh(logit / softcap); 0: none
  float scale = 1.0F;
  DType q_dtype = DType::f32;
  DType kv_dtype = DType::f32;
  int page_size = 16;  // S
  // Of mla: the head dims of the keys and values that its latents expand to; 0 where they never do.
  int expanded_head_dim_k = 0;
  int expanded_head_dim_v = 0;

  friend bool operator==(const AttentionDesc&, const AttentionDesc&) = default;
};

// The class in which an mla class attends when its latents are expanded: every head with keys and values of
// its own, in pages that last as long as a layer. f32 latents expand to f32, others to a 16-bit type.
AttentionDesc expanded_class(const AttentionDesc& mla);
// Whether classes[index] is what another one of them expands to: no layer and no cache has it, and it only
// ever prefills.
bool is_expansion(std::span<const AttentionDesc> classes, size_t index);

// Values that make no sense (no heads, H not a multiple of HK, negative window) are invalid_argument.
Status validate(const AttentionDesc& desc);

// The stable key in profiles, logs, metrics and test names: "gqa_h32_kv8_d128_bf16_p16",
// "gqa_h64_kv8_d64_w128_sinks_f32_p16".
// Classes that differ have different keys: Dk and Dv as "d192v128", a scale other than 1/sqrt(Dk) as
// "scale0.5".
std::string to_string(const AttentionDesc& desc);

}  // namespace bifocal::attention
