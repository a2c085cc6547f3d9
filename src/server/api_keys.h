// API keys. Only digests are kept, so no log, answer or crash report can show a key.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "server/http/message.h"
#include "server/sha256.h"

namespace bifocal::server {

struct ApiKey {
  std::string id;  // what logs call it: a name, or the first 8 digits of the digest
  Sha256 digest;
};

ApiKey make_api_key(std::string_view secret);

// One `name:sha256` (64 hexadecimal digits) per line; empty lines and lines that begin with # are skipped.
// Errors name the line, not its content.
Expected<std::vector<ApiKey>> parse_api_key_file(std::string_view text);

// The index of the key that the request carries (Authorization: Bearer, or X-Api-Key), or -1. Every key is
// compared, in constant time each.
int find_api_key(const std::vector<ApiKey>& keys, const http::Request& request);

}  // namespace bifocal::server
