#include "server/request_fields.h"

#include <fmt/format.h>

#include <algorithm>

#include "server/ids.h"
#include "server/sha256.h"

namespace bifocal::server {
namespace {

constexpr size_t kMaxSaltBytes = 256;

bool is_id_char(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '_' ||
         c == '.' || c == ':';
}

}  // namespace

Expected<JsonValue> parse_body(const Call& call) {
  JsonLimits limits;
  limits.max_bytes = call.services->options.http.parser.max_body_bytes;
  const std::string body = call.exchange->take_body();
  return parse_json(body, limits);
}

Status check_request_id(const std::string& id, const std::string& path, const RequestLimits& limits) {
  if (id.empty() || id.size() > limits.max_id_bytes || !std::all_of(id.begin(), id.end(), is_id_char)) {
    return invalid_argument(fmt::format("{}: expected 1 to {} letters, digits, '-', '_', '.' and ':'", path,
                                        limits.max_id_bytes));
  }
  return {};
}

Expected<std::string> parse_request_id(const JsonReader& body, const RequestLimits& limits,
                                       std::string_view prefix) {
  BIFOCAL_ASSIGN_OR_RETURN(const auto rid, body.get_string("rid"));
  if (!rid) return random_id(prefix);
  BIFOCAL_RETURN_IF_ERROR(check_request_id(*rid, body.path_of("rid"), limits));
  return *rid;
}

Expected<uint64_t> parse_cache_namespace(const JsonReader& body, const Call& call) {
  BIFOCAL_ASSIGN_OR_RETURN(const auto salt, body.get_string("cache_salt", kMaxSaltBytes));
  BIFOCAL_ASSIGN_OR_RETURN(const auto extra, body.get_string("extra_key", kMaxSaltBytes));
  const auto& keys = call.services->options.api_keys;
  const int client = call.exchange->request().client;
  std::string parts;  // each with its kind and length, so that no part can spell another
  if (keys.size() > 1 && client >= 0) parts += "key:" + to_hex(keys[static_cast<size_t>(client)].digest);
  if (salt && !salt->empty()) parts += fmt::format("salt:{}:{}", salt->size(), *salt);
  if (extra && !extra->empty()) parts += fmt::format("extra:{}:{}", extra->size(), *extra);
  if (parts.empty()) return uint64_t{0};
  const Sha256 digest = sha256(parts);
  uint64_t result = 0;
  for (size_t i = 0; i < 8; ++i) result = (result << 8) | digest[i];
  return result;
}

Expected<double> parse_timeout_s(const JsonReader& body, const Call& call) {
  const double most = call.services->options.request_timeout_s;
  BIFOCAL_ASSIGN_OR_RETURN(const auto timeout_ms, body.get_int("timeout_ms", 1, INT32_MAX));
  if (timeout_ms) return std::min(most, static_cast<double>(*timeout_ms) * 1e-3);
  const std::string_view header = call.exchange->request().header("x-request-timeout");
  if (header.empty()) return most;
  double value = 0;
  for (char c : header) {
    if (c < '0' || c > '9' || value > 1e9) {
      return invalid_argument("the X-Request-Timeout header is not a number of seconds");
    }
    value = value * 10 + (c - '0');
  }
  if (value < 1) return invalid_argument("the X-Request-Timeout header must be at least 1 second");
  return std::min(most, value);
}

}  // namespace bifocal::server
