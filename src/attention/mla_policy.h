// Which of three equal forms computes multi-head latent attention (DeepSeek-V2, arXiv 2405.04434).
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "attention/backend.h"

namespace bifocal::attention {

enum class MlaForm : uint8_t {
  absorbed,  // queries are projected into the latent space; keys and values are the latents themselves
  expanded,  // latents are expanded to every head's keys and values; one causal attention over them
  chunked,   // the same, the cached prefix a chunk at a time, merged by log-sum-exp
};
constexpr int kNumMlaForms = 3;
std::string_view to_string(MlaForm form);

struct MlaOptions {
  std::string prefill_form = "auto";     // --mla-prefill-form: a form or auto
  int64_t max_kv_chunk_tokens = 131072;  // --max-kv-chunk-tokens: most that are expanded at a time
};

struct MlaChoice {
  MlaForm form = MlaForm::absorbed;
  std::string_view reason;
};

// What a form costs, in multiply-adds of one head.
struct MlaCosts {
  double absorbed = 0;
  double expanded = 0;
};
// E = q_len and S = kv_len of each sequence. Absorbed: sum E S (Dk + Dv) of the latents, and the projections
// of E queries into and out of them. Expanded: sum E S (Dk + Dv) of a head, and the expansion of S tokens.
// Causal masking halves the same part of both.
MlaCosts mla_costs(const AttentionDesc& desc, const AttentionBatch& batch);

class MlaPolicy {
 public:
  // capacity_tokens: what the memory for expanded keys and values holds. Errors: invalid_argument for an
  // unknown form.
  static Expected<MlaPolicy> create(const MlaOptions& options, bool deterministic);

  // Decode and verify: absorbed, since few queries share many keys. Prefill: as asked; else absorbed where
  // bits must not depend on the batch; else the cheaper one by mla_costs. What is expanded is chunked when
  // more than capacity_tokens would be needed at once.
  MlaChoice choose(const AttentionDesc& desc, const AttentionBatch& batch, int64_t capacity_tokens) const;

  const MlaOptions& options() const { return options_; }
  std::string describe() const;  // "prefill: the cheaper form by multiply-adds; decode: absorbed"

 private:
  MlaOptions options_;
  bool deterministic_ = false;
};

}  // namespace bifocal::attention
