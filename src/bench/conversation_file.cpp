#include "bench/conversation_file.h"

#include <fmt/format.h>

#include <algorithm>
#include <optional>

#include "base/file.h"
#include "base/json.h"

namespace bifocal::bench {
namespace {

constexpr uint64_t kMaxFileBytes = uint64_t{4} << 30;
constexpr JsonLimits kFileLimits{64, kMaxFileBytes, uint64_t{1} << 28};

Expected<std::string> turn_text(const JsonValue& turn, const std::string& path) {
  BIFOCAL_ASSIGN_OR_RETURN(const JsonReader reader, JsonReader::open(turn, path));
  BIFOCAL_ASSIGN_OR_RETURN(auto content, reader.get_string("content"));
  if (content) return std::move(*content);
  BIFOCAL_ASSIGN_OR_RETURN(auto value, reader.get_string("value"));
  if (value) return std::move(*value);
  return data_loss(path + ": neither \"content\" nor \"value\"");
}

// None for a conversation of fewer than two turns.
Expected<std::optional<Conversation>> parse_conversation(const JsonValue& value, const std::string& path) {
  BIFOCAL_ASSIGN_OR_RETURN(const JsonReader reader, JsonReader::open(value, path));
  const char* name = reader.has("conversations") ? "conversations" : "conversation";
  BIFOCAL_ASSIGN_OR_RETURN(const JsonValue::Array* turns, reader.get_array(name));
  if (turns == nullptr || turns->size() < 2) return std::optional<Conversation>();
  Conversation conversation;
  const std::string turns_path = reader.path_of(name);
  BIFOCAL_ASSIGN_OR_RETURN(conversation.question, turn_text((*turns)[0], turns_path + "[0]"));
  BIFOCAL_ASSIGN_OR_RETURN(conversation.answer, turn_text((*turns)[1], turns_path + "[1]"));
  return std::optional(std::move(conversation));
}

Status as_data_loss(const std::string& path, const Status& status) {
  return data_loss(path + ": " + status.message());
}

}  // namespace

Expected<std::vector<Conversation>> read_sharegpt(const std::string& path) {
  BIFOCAL_ASSIGN_OR_RETURN(const std::string text, read_file(path, kMaxFileBytes));
  const auto document = parse_json(text, kFileLimits);
  if (!document.ok()) return as_data_loss(path, document.status());
  if (!document->is_array()) return data_loss(path + ": expected an array of conversations");
  std::vector<Conversation> conversations;
  for (size_t i = 0; i < document->as_array().size(); ++i) {
    auto conversation = parse_conversation(document->as_array()[i], fmt::format("[{}]", i));
    if (!conversation.ok()) return as_data_loss(path, conversation.status());
    if (*conversation) conversations.push_back(std::move(**conversation));
  }
  return conversations;
}

Expected<std::vector<Conversation>> read_conversation_lines(const std::string& path) {
  BIFOCAL_ASSIGN_OR_RETURN(const std::string text, read_file(path, kMaxFileBytes));
  std::vector<Conversation> conversations;
  size_t number = 0;
  for (size_t at = 0; at < text.size();) {
    const size_t end = std::min(text.find('\n', at), text.size());
    const std::string_view line = std::string_view(text).substr(at, end - at);
    at = end + 1;
    ++number;
    if (line.find_first_not_of(" \t\r") == std::string_view::npos) continue;
    const auto where = fmt::format("line {}", number);
    const auto document = parse_json(line, kFileLimits);
    if (!document.ok()) return as_data_loss(path + ": " + where, document.status());
    auto conversation = parse_conversation(*document, where);
    if (!conversation.ok()) return as_data_loss(path, conversation.status());
    if (*conversation) conversations.push_back(std::move(**conversation));
  }
  return conversations;
}

}  // namespace bifocal::bench
