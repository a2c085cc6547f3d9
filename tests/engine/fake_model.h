// A small attention model without weights, and a tokenizer for it: every logit depends on every key and value
// that the page tables lead to, so a wrong page shows in the tokens.
#pragma once

#include <array>
#include <atomic>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "engine/engine.h"
#include "model/model.h"
#include "text/tokenizer.h"

namespace bifocal::engine {

constexpr int kFakeVocab = 64;
constexpr int32_t kFakeEos = 63;

class FakeModel final : public model::CpuModel {
 public:
  // windows: of the two layers; 0: none.
  FakeModel(DType kv_dtype, int page_size, std::shared_ptr<ThreadPool> pool, int max_positions = 512,
            std::array<int, 2> windows = {});

  const model::ModelSpec& spec() const override { return spec_; }
  std::span<const attention::AttentionDesc> attention_classes() const override { return classes_.descs; }
  Status prepare(int max_tokens, int max_logit_rows) override;
  uint64_t weight_bytes() const override { return 1000; }
  uint64_t workspace_bytes(int max_tokens, int) const override {
    return 100 * static_cast<uint64_t>(max_tokens);
  }
  Status forward(const model::StepRows& rows, attention::Planner& planner, kv::KvCache& cache,
                 float* logits) override;

  // Logits [V] behind the last of these tokens, by plain loops in double without pages.
  std::vector<double> reference_logits(const std::vector<int32_t>& tokens) const;

  // Called first in forward; may block, throw or fail.
  std::function<Status(const model::StepRows&)> on_forward;
  // Called first in forward, with what the layers are about to write to and read.
  std::function<void(kv::KvCache&)> on_cache;
  // Rows that this is true of get NaN logits.
  std::function<bool(int32_t token, int32_t position)> is_poisoned;

 private:
  model::ModelSpec spec_;
  model::AttentionClasses classes_;
  std::shared_ptr<ThreadPool> pool_;
  int max_tokens_ = 0;
  int max_logit_rows_ = 0;
};

// Ids 0..59 are printable characters, 60 and 61 the two halves of "é", 62 and 63 special.
class FakeTokenizer final : public text::Tokenizer {
 public:
  FakeTokenizer();
  Expected<std::vector<text::TokenId>> encode(std::string_view text,
                                              const text::EncodeOptions&) const override;
  std::string decode(std::span<const text::TokenId> ids, bool skip_special_tokens) const override;
  std::string_view token_bytes(text::TokenId id) const override;
  bool is_special(text::TokenId id) const override { return id >= 62; }
  std::optional<text::TokenId> token_id(std::string_view) const override { return std::nullopt; }
  int vocab_size() const override { return kFakeVocab; }

 private:
  std::vector<std::string> bytes_;
};

}  // namespace bifocal::engine
