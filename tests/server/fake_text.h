// A tokenizer of bytes and a template: what they make can be computed without them.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "text/chat_template.h"
#include "text/tokenizer.h"

namespace bifocal::server {

// Ids 0..255 are bytes; above them the special tokens.
class FakeTokenizer : public text::Tokenizer {
 public:
  static constexpr int32_t kEos = 256;
  static constexpr int32_t kImStart = 257;
  static constexpr int32_t kImEnd = 258;
  static constexpr int kVocab = 300;  // the logits are wider than the tokenizer

  Expected<std::vector<text::TokenId>> encode(std::string_view text,
                                              const text::EncodeOptions& options) const override;
  std::string decode(std::span<const text::TokenId> ids, bool skip_special_tokens) const override;
  std::string_view token_bytes(text::TokenId id) const override;
  bool is_special(text::TokenId id) const override { return id >= kEos; }
  std::optional<text::TokenId> token_id(std::string_view token) const override;
  int vocab_size() const override { return 259; }
};

// A FakeTokenizer that waits, like one at work on a huge text.
class GatedTokenizer final : public FakeTokenizer {
 public:
  ~GatedTokenizer() override { open(); }
  Expected<std::vector<text::TokenId>> encode(std::string_view text,
                                              const text::EncodeOptions& options) const override;
  int waiting() const { return waiting_; }
  void open();

 private:
  mutable std::mutex mutex_;
  mutable std::condition_variable opened_;
  mutable std::atomic<int> waiting_{0};
  bool open_ = false;
};

// "<|im_start|>role\ncontent<|im_end|>\n..."; tools as JSON in front; enable_thinking opens a <think> block.
class FakeTemplate final : public text::ChatTemplate {
 public:
  Expected<text::RenderedChat> render(const text::ChatInput& input) const override;
};

}  // namespace bifocal::server
