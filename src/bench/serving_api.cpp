#include "bench/serving_api.h"

#include <fmt/format.h>

#include <algorithm>

namespace bifocal::bench {
namespace {

constexpr JsonLimits kAnswerLimits{64, uint64_t{64} << 20, uint64_t{1} << 22};
constexpr int64_t kMaxTokens = int64_t{1} << 24;  // of one answer

JsonValue prompt_value(const WorkloadRequest& request) {
  if (request.ids.empty()) return request.text;
  JsonValue::Array ids;
  for (const int32_t id : request.ids) ids.emplace_back(id);
  return ids;
}

JsonValue::Object native_body(const WorkloadRequest& request, const AskOptions& options) {
  return {{request.ids.empty() ? "text" : "input_ids", prompt_value(request)},
          {"sampling_params", JsonValue::Object{{"temperature", options.temperature},
                                                {"max_new_tokens", request.output_len},
                                                {"ignore_eos", options.ignore_eos}}},
          {"stream", options.stream}};
}

// What completions and chat have in common.
JsonValue::Object openai_body(const WorkloadRequest& request, const AskOptions& options,
                              std::string_view max_tokens) {
  JsonValue::Object body = {{"model", options.model},
                            {std::string(max_tokens), request.output_len},
                            {"temperature", options.temperature},
                            {"ignore_eos", options.ignore_eos},
                            {"stream", options.stream}};
  if (options.stream) body.emplace_back("stream_options", JsonValue::Object{{"include_usage", true}});
  return body;
}

JsonValue::Object completions_body(const WorkloadRequest& request, const AskOptions& options) {
  JsonValue::Object body = openai_body(request, options, "max_tokens");
  body.emplace_back("prompt", prompt_value(request));
  body.emplace_back("best_of", 1);
  return body;
}

JsonValue::Object chat_body(const WorkloadRequest& request, const AskOptions& options) {
  JsonValue::Object body = openai_body(request, options, "max_completion_tokens");
  JsonValue::Object message = {{"role", "user"}, {"content", request.text}};
  body.emplace_back("messages", JsonValue::Array{std::move(message)});
  return body;
}

Expected<std::optional<int64_t>> completion_tokens(const JsonReader& answer, std::string_view owner) {
  BIFOCAL_ASSIGN_OR_RETURN(const auto counts, answer.get_object(owner));
  if (!counts) return std::optional<int64_t>();
  return counts->get_int("completion_tokens", 0, kMaxTokens);
}

Expected<AnswerPiece> native_piece(const JsonReader& answer) {
  AnswerPiece piece;
  piece.replaces_text = true;
  BIFOCAL_ASSIGN_OR_RETURN(auto text, answer.get_string("text"));
  piece.text = std::move(text).value_or("");
  BIFOCAL_ASSIGN_OR_RETURN(piece.completion_tokens, completion_tokens(answer, "meta_info"));
  return piece;
}

// The first choice; none in the chunk that only tells the usage.
Expected<std::optional<JsonReader>> first_choice(const JsonReader& answer) {
  BIFOCAL_ASSIGN_OR_RETURN(const JsonValue::Array* choices, answer.get_array("choices"));
  if (choices == nullptr || choices->empty()) return std::optional<JsonReader>();
  BIFOCAL_ASSIGN_OR_RETURN(JsonReader choice, JsonReader::open(choices->front(), "choices[0]"));
  return std::optional(std::move(choice));
}

Expected<AnswerPiece> completions_piece(const JsonReader& answer) {
  AnswerPiece piece;
  BIFOCAL_ASSIGN_OR_RETURN(piece.completion_tokens, completion_tokens(answer, "usage"));
  BIFOCAL_ASSIGN_OR_RETURN(const auto choice, first_choice(answer));
  if (!choice) return piece;
  BIFOCAL_ASSIGN_OR_RETURN(auto text, choice->get_string("text"));
  piece.text = std::move(text).value_or("");
  return piece;
}

Expected<AnswerPiece> chat_piece(const JsonReader& answer) {
  AnswerPiece piece;
  BIFOCAL_ASSIGN_OR_RETURN(piece.completion_tokens, completion_tokens(answer, "usage"));
  BIFOCAL_ASSIGN_OR_RETURN(const auto choice, first_choice(answer));
  if (!choice) return piece;
  BIFOCAL_ASSIGN_OR_RETURN(const auto message,
                           choice->get_object(choice->has("delta") ? "delta" : "message"));
  if (!message) return piece;
  // "reasoning" is another server's name of the same; one that sends both sends the same text in both.
  const char* reasoning_key = message->has("reasoning_content") ? "reasoning_content" : "reasoning";
  BIFOCAL_ASSIGN_OR_RETURN(auto reasoning, message->get_string(reasoning_key));
  BIFOCAL_ASSIGN_OR_RETURN(const auto content, message->get_string("content"));
  piece.text = std::move(reasoning).value_or("") + content.value_or("");
  return piece;
}

constexpr ServingApi kNative{"/generate", true, native_body, native_piece};
constexpr ServingApi kCompletions{"/v1/completions", true, completions_body, completions_piece};
constexpr ServingApi kChat{"/v1/chat/completions", false, chat_body, chat_piece};

constexpr std::string_view kFlush = "/flush_cache";
constexpr std::string_view kVllmFlush = "/reset_prefix_cache";

constexpr ServingBackend kBackends[] = {
    {"bifocal", &kNative, kFlush, true},       {"sglang", &kNative, kFlush, true},
    {"sglang-native", &kNative, kFlush, true}, {"sglang-oai", &kCompletions, kFlush, true},
    {"sglang-oai-chat", &kChat, kFlush, true}, {"openai", &kCompletions, kFlush, false},
    {"openai-chat", &kChat, kFlush, false},    {"vllm", &kCompletions, kVllmFlush, false},
    {"vllm-chat", &kChat, kVllmFlush, false},
};

// "error": an object with a message, or the message itself.
std::string error_text(const JsonValue& error) {
  const JsonValue* message = error.find("message");
  return message != nullptr && message->is_string() ? message->as_string() : to_json(error);
}

}  // namespace

std::vector<std::string_view> serving_backends() {
  std::vector<std::string_view> names;
  for (const ServingBackend& backend : kBackends) names.push_back(backend.name);
  return names;
}

Expected<ServingBackend> find_serving_backend(std::string_view name) {
  for (const ServingBackend& backend : kBackends) {
    if (backend.name == name) return backend;
  }
  return invalid_argument(
      fmt::format("backend \"{}\": expected one of {}", name, fmt::join(serving_backends(), ", ")));
}

std::string request_body(const ServingApi& api, const WorkloadRequest& request, const AskOptions& options) {
  JsonValue::Object body = api.body(request, options);
  for (const auto& [key, value] : options.extra_body) {
    const auto same = std::find_if(body.begin(), body.end(), [&](const auto& m) { return m.first == key; });
    if (same == body.end()) {
      body.emplace_back(key, value);
    } else {
      same->second = value;
    }
  }
  return to_json(JsonValue(std::move(body)));
}

Expected<AnswerPiece> read_piece(const ServingApi& api, std::string_view json) {
  const auto document = parse_json(json, kAnswerLimits);
  if (!document.ok()) return data_loss("the answer: " + document.status().message());
  const auto reader = JsonReader::open(*document);
  if (!reader.ok()) return data_loss("the answer: " + reader.status().message());
  if (const JsonValue* error = reader->find("error")) return data_loss(error_text(*error));
  auto piece = api.piece(*reader);
  if (!piece.ok()) return data_loss("the answer: " + piece.status().message());
  return piece;
}

}  // namespace bifocal::bench
