// The answers of /generate: {text, output_ids, meta_info}, streamed cumulatively or incrementally.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "server/output_shaper.h"
#include "server/prompts.h"
#include "text/tokenizer.h"

namespace bifocal::server::native {

struct PromptSettings {
  std::string id;
  bool return_logprob = false;
  int64_t logprob_start_len = -1;  // as given to the engine
  int top_logprobs_num = 0;
  bool score_only = false;  // the one generated token is dropped
};

struct GenerateSettings {
  std::vector<PromptSettings> prompts;
  bool as_list = false;      // a batch, or n > 1
  bool incremental = false;  // stream only what is new
  bool text_in_logprobs = false;
};

class GenerateShaper final : public OutputShaper {
 public:
  // choices[i]: n of prompt i.
  GenerateShaper(GenerateSettings settings, std::vector<Prompt> prompts, const std::vector<int>& choices,
                 std::shared_ptr<const text::Tokenizer> tokenizer);

  void add(size_t request, engine::OutputEvent event, std::string* sse) override;
  std::string body() override;
  void end(std::string& sse) override;

 private:
  struct Choice {
    size_t prompt = 0;
    std::string text;
    std::vector<engine::OutputToken> tokens;
    int64_t completion_tokens = 0;  // all, also those already sent
    int64_t prompt_tokens = 0;
    int64_t cached_tokens = 0;
    engine::FinishReason finish = engine::FinishReason::none;
    std::optional<int32_t> matched_token;
    std::optional<std::string> matched_string;
    std::string abort_message;
    double latency_s = 0;
  };

  void write_choice(JsonWriter& json, const Choice& choice, std::optional<size_t> index) const;
  void write_finish(JsonWriter& json, const Choice& choice) const;
  void write_logprobs(JsonWriter& json, const Choice& choice) const;
  void write_top(JsonWriter& json, const std::vector<engine::TokenLogprob>& top) const;

  const GenerateSettings settings_;
  const std::vector<Prompt> prompts_;
  const std::shared_ptr<const text::Tokenizer> tokenizer_;
  const int64_t started_ns_;
  std::vector<size_t> first_choice_;  // [prompt]
  std::vector<Choice> choices_;
  std::vector<std::vector<std::optional<engine::OutputToken>>> prompt_logprobs_;  // [prompt]
};

}  // namespace bifocal::server::native
