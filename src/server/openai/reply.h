// What the OpenAI answers share: the head of every object, usage, stream options.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "base/status.h"
#include "engine/request.h"

namespace bifocal::server::openai {

struct StreamSettings {
  bool stream = false;
  bool include_usage = false;           // a last chunk with the usage
  bool continuous_usage_stats = false;  // usage in every chunk
};
Expected<StreamSettings> parse_stream_settings(const JsonReader& body);

// response_format: text only.
Status check_response_format(const JsonReader& body);

struct ReplyHead {
  std::string id;
  int64_t created_s = 0;
  std::string model;
};
// {"id", "object", "created", "model": members of an object already begun.
void write_head(JsonWriter& json, const ReplyHead& head, std::string_view object);

// Tokens of all prompts and choices of one HTTP request.
class UsageCounter {
 public:
  UsageCounter(size_t num_prompts, bool cache_report) : prompts_(num_prompts), cache_report_(cache_report) {}
  void count(size_t request, const engine::OutputEvent& event);
  void write(JsonWriter& json) const;  // the value of "usage"

 private:
  struct PromptCount {
    int64_t prompt_tokens = 0;
    int64_t cached_tokens = 0;
  };
  std::vector<PromptCount> prompts_;
  int64_t completion_tokens_ = 0;
  bool cache_report_;
};

// "finish_reason" and "matched_stop" members; null while the choice goes on.
struct Finish {
  engine::FinishReason reason = engine::FinishReason::none;
  std::optional<int32_t> token;
  std::optional<std::string> text;
};
Finish finish_of(const engine::OutputEvent& event);
void write_finish(JsonWriter& json, const Finish& finish);

std::string sse_event(const std::string& json);  // "data: ...\n\n"
// What a stream of `object`s ends with: a chunk with the usage if asked for, and "[DONE]".
std::string end_of_stream(const StreamSettings& settings, const ReplyHead& head, std::string_view object,
                          const UsageCounter& usage);

}  // namespace bifocal::server::openai
