#include "server/api_keys.h"

#include <fmt/format.h>

namespace bifocal::server {
namespace {

std::string_view secret_of(const http::Request& request) {
  const std::string_view authorization = request.header("authorization");
  constexpr std::string_view kScheme = "bearer ";
  if (authorization.size() > kScheme.size() &&
      http::equals_ignoring_case(authorization.substr(0, kScheme.size()), kScheme)) {
    return http::trim(authorization.substr(kScheme.size()));
  }
  return request.header("x-api-key");
}

int hex_value(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

bool parse_digest(std::string_view text, Sha256& digest) {
  if (text.size() != 2 * digest.size()) return false;
  for (size_t i = 0; i < digest.size(); ++i) {
    const int high = hex_value(text[2 * i]);
    const int low = hex_value(text[2 * i + 1]);
    if (high < 0 || low < 0) return false;
    digest[i] = static_cast<uint8_t>(high * 16 + low);
  }
  return true;
}

}  // namespace

ApiKey make_api_key(std::string_view secret) {
  const Sha256 digest = sha256(secret);
  return {to_hex(digest).substr(0, 8), digest};
}

Expected<std::vector<ApiKey>> parse_api_key_file(std::string_view text) {
  std::vector<ApiKey> keys;
  for (int line_number = 1; !text.empty(); ++line_number) {
    const size_t end = text.find('\n');
    std::string_view line = http::trim(text.substr(0, end));
    text.remove_prefix(end == std::string_view::npos ? text.size() : end + 1);
    if (line.ends_with('\r')) line.remove_suffix(1);
    if (line.empty() || line.starts_with('#')) continue;
    const size_t colon = line.find(':');
    ApiKey key;
    if (colon == std::string_view::npos || colon == 0 ||
        !parse_digest(http::trim(line.substr(colon + 1)), key.digest)) {
      return invalid_argument(
          fmt::format("API key file: line {} is malformed, expected name:sha256 with 64 hexadecimal digits; "
                      "`printf %s KEY | sha256sum` prints them",
                      line_number));
    }
    key.id = http::trim(line.substr(0, colon));
    keys.push_back(std::move(key));
  }
  return keys;
}

int find_api_key(const std::vector<ApiKey>& keys, const http::Request& request) {
  const std::string_view secret = secret_of(request);
  if (secret.empty()) return -1;
  const Sha256 digest = sha256(secret);
  int found = -1;
  for (size_t i = 0; i < keys.size(); ++i) {
    if (equal_in_constant_time(keys[i].digest, digest)) found = static_cast<int>(i);
  }
  return found;
}

}  // namespace bifocal::server
