// A conversation at the terminal, encoded with the model's chat template.
#pragma once

#include <string>
#include <vector>

#include "base/json.h"
#include "cli/settings.h"
#include "engine/sampling_params.h"
#include "text/chat_template.h"
#include "text/tokenizer.h"
#include "weights/model_config.h"

namespace bifocal::cli {

class Conversation {
 public:
  Conversation(std::string system, bool thinking);

  void set_thinking(bool thinking) { thinking_ = thinking; }
  bool thinking() const { return thinking_; }
  void add(std::string role, std::string content);
  void clear();  // keeps the system message
  void undo();   // drops the last message

  Expected<std::vector<text::TokenId>> encode(const text::ChatTemplate& chat_template,
                                              const text::Tokenizer& tokenizer) const;

 private:
  JsonValue::Array messages_;
  bool has_system_;
  bool thinking_;
};

// The model's recommended sampling with what the flags say on top.
engine::SamplingParams sampling_params(const Settings& settings, const weights::ModelConfig& config);

}  // namespace bifocal::cli
