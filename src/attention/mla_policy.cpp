#include "attention/mla_policy.h"

#include <fmt/format.h>

#include <array>

namespace bifocal::attention {
namespace {

constexpr std::array<std::string_view, kNumMlaForms> kNames = {"absorbed", "expanded", "chunked"};
constexpr std::string_view kAuto = "auto";

}  // namespace

std::string_view to_string(MlaForm form) {
  return kNames[static_cast<size_t>(form)];
}

MlaCosts mla_costs(const AttentionDesc& desc, const AttentionBatch& batch) {
  double pairs = 0, queries = 0, keys = 0;
  for (size_t i = 0; i < batch.q_len.size(); ++i) {
    if (batch.q_len[i] == 0) continue;
    pairs += static_cast<double>(batch.q_len[i]) * batch.kv_len[i];
    queries += batch.q_len[i];
    keys += batch.kv_len[i];
  }
  const double rank = desc.head_dim_v;
  const double rope_dim = desc.head_dim_k - desc.head_dim_v;
  // Of a token: its latent times a head's rows of the up-projection, or a query's and an output's share.
  const double projection = rank * (desc.expanded_head_dim_k - rope_dim + desc.expanded_head_dim_v);
  return {pairs * (desc.head_dim_k + desc.head_dim_v) + queries * projection,
          pairs * (desc.expanded_head_dim_k + desc.expanded_head_dim_v) + keys * projection};
}

Expected<MlaPolicy> MlaPolicy::create(const MlaOptions& options, bool deterministic) {
  MlaPolicy policy;
  policy.options_ = options;
  policy.deterministic_ = deterministic;
  bool known = options.prefill_form == kAuto;
  for (const std::string_view name : kNames) known = known || options.prefill_form == name;
  if (!known) {
    return invalid_argument(fmt::format("--mla-prefill-form: got \"{}\", expected auto, {}",
                                        options.prefill_form, fmt::join(kNames, ", ")));
  }
  if (options.max_kv_chunk_tokens < 1) {
    return invalid_argument(
        fmt::format("--max-kv-chunk-tokens: got {}, expected at least 1", options.max_kv_chunk_tokens));
  }
  return policy;
}

MlaChoice MlaPolicy::choose(const AttentionDesc& desc, const AttentionBatch& batch,
                            int64_t capacity_tokens) const {
  if (batch.phase != Phase::prefill) return {MlaForm::absorbed, "few query rows per key"};
  const bool asked = options_.prefill_form != kAuto;
  if (asked && options_.prefill_form == kNames[0]) return {MlaForm::absorbed, "--mla-prefill-form"};
  if (asked && options_.prefill_form == kNames[2]) return {MlaForm::chunked, "--mla-prefill-form"};
  if (!asked) {
    if (deterministic_) return {MlaForm::absorbed, "--deterministic: one form whatever the batch"};
    const MlaCosts costs = mla_costs(desc, batch);
    if (costs.absorbed <= costs.expanded) return {MlaForm::absorbed, "fewer multiply-adds"};
  }
  int64_t tokens = 0;
  for (size_t i = 0; i < batch.q_len.size(); ++i) tokens += batch.q_len[i] == 0 ? 0 : batch.kv_len[i];
  if (tokens > capacity_tokens) return {MlaForm::chunked, "more tokens than are expanded at a time"};
  return {MlaForm::expanded, asked ? "--mla-prefill-form" : "fewer multiply-adds"};
}

std::string MlaPolicy::describe() const {
  const std::string prefill = options_.prefill_form != kAuto ? options_.prefill_form + " (--mla-prefill-form)"
                              : deterministic_               ? "absorbed (--deterministic)"
                                               : "absorbed or expanded, the fewer multiply-adds";
  return fmt::format("prefill {}, at most {} tokens expanded at a time; decode absorbed", prefill,
                     options_.max_kv_chunk_tokens);
}

}  // namespace bifocal::attention
