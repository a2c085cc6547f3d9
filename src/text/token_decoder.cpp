#include "text/token_decoder.h"

#include <fmt/format.h>

#include <charconv>
#include <optional>

#include "text/byte_level.h"
#include "text/json_access.h"

namespace bifocal::text {
namespace {

// "<0x0A>", exactly two hexadecimal digits.
std::optional<char> byte_of_fallback_token(std::string_view token) {
  if (token.size() != 6 || !token.starts_with("<0x") || token.back() != '>') return std::nullopt;
  unsigned value = 0;
  const char* end = token.data() + 5;
  const auto [stop, error] = std::from_chars(token.data() + 3, end, value, 16);
  if (error != std::errc() || stop != end) return std::nullopt;
  return static_cast<char>(value);
}

}  // namespace

Expected<TokenDecoder> TokenDecoder::from_json(const JsonValue* json) {
  if (json == nullptr || json->is_null())
    return unsupported("decoder: missing, expected ByteLevel or a Sequence");
  TokenDecoder out;
  BIFOCAL_RETURN_IF_ERROR(out.add(*json, "decoder"));
  if (out.byte_level_ && (out.byte_fallback_ || !out.replacements_.empty() || out.strips_leading_space_)) {
    return unsupported("decoder: ByteLevel together with other decoders");
  }
  return out;
}

// Recursion over Sequence is bounded by the depth limit of the JSON parser.
Status TokenDecoder::add(const JsonValue& json, const std::string& path) {
  BIFOCAL_ASSIGN_OR_RETURN(const JsonReader reader, JsonReader::open(json, path));
  BIFOCAL_ASSIGN_OR_RETURN(const std::string type, component_type(reader, path));
  if (type == "Sequence") {
    BIFOCAL_ASSIGN_OR_RETURN(const JsonValue::Array* parts, reader.get_array("decoders"));
    if (parts == nullptr) return invalid_argument(path + ".decoders: missing");
    for (size_t i = 0; i < parts->size(); ++i) {
      BIFOCAL_RETURN_IF_ERROR(add((*parts)[i], fmt::format("{}.decoders[{}]", path, i)));
    }
    return {};
  }
  if (type == "Fuse") {
    fused_ = true;
    return {};
  }
  if (type == "Strip") return add_strip(reader);
  if (fused_) return unsupported(fmt::format("{}: {} after Fuse", path, type));
  if (type == "ByteLevel") {
    byte_level_ = true;
  } else if (type == "ByteFallback") {
    byte_fallback_ = true;
  } else if (type == "Metaspace") {
    return add_metaspace(reader);
  } else if (type == "Replace") {
    const JsonValue* pattern = reader.find("pattern");
    const JsonValue* from = pattern == nullptr ? nullptr : pattern->find("String");
    if (from == nullptr || !from->is_string() || from->as_string().empty()) {
      return unsupported(path + ".pattern: expected {\"String\": ...}");
    }
    BIFOCAL_ASSIGN_OR_RETURN(const std::string to, read_string(reader, "content"));
    replacements_.push_back({from->as_string(), to});
  } else {
    return unsupported(fmt::format(
        "{}: type \"{}\", expected ByteLevel, ByteFallback, Replace, Metaspace, Fuse, Strip or Sequence",
        path, type));
  }
  return {};
}

Status TokenDecoder::add_strip(const JsonReader& reader) {
  BIFOCAL_ASSIGN_OR_RETURN(const std::string content, read_string(reader, "content"));
  BIFOCAL_ASSIGN_OR_RETURN(const auto start, reader.get_int("start", 0, INT32_MAX));
  BIFOCAL_ASSIGN_OR_RETURN(const auto stop, reader.get_int("stop", 0, INT32_MAX));
  if (!fused_ || content != " " || start.value_or(0) > 1 || stop.value_or(0) != 0) {
    return unsupported(reader.path_of("type") + ": Strip other than of one leading space after Fuse");
  }
  strips_leading_space_ = strips_leading_space_ || start.value_or(0) == 1;
  return {};
}

Status TokenDecoder::add_metaspace(const JsonReader& reader) {
  BIFOCAL_ASSIGN_OR_RETURN(const std::string replacement, read_string(reader, "replacement"));
  if (replacement.empty()) return invalid_argument(reader.path_of("replacement") + ": empty");
  BIFOCAL_ASSIGN_OR_RETURN(const auto scheme, reader.get_string("prepend_scheme", 64));
  BIFOCAL_ASSIGN_OR_RETURN(const bool prefix_space, read_bool(reader, "add_prefix_space", true));
  replacements_.push_back({replacement, " "});
  strips_leading_space_ = scheme ? *scheme != "never" : prefix_space;
  return {};
}

TokenDecoder::Piece TokenDecoder::piece(std::string_view token) const {
  if (byte_level_) return {bytes_of_token(token), false};
  if (byte_fallback_) {
    if (const auto byte = byte_of_fallback_token(token)) return {std::string(1, *byte), true};
  }
  std::string text(token);
  for (const auto& [from, to] : replacements_) {
    for (size_t at = text.find(from); at != std::string::npos; at = text.find(from, at + to.size())) {
      text.replace(at, from.size(), to);
    }
  }
  return {std::move(text), false};
}

}  // namespace bifocal::text
