// Fields that every generating request may have, whatever the API.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/json.h"
#include "base/status.h"
#include "server/call.h"

namespace bifocal::server {

// The body as JSON, within limits. Consumes it.
Expected<JsonValue> parse_body(const Call& call);

// A request's id as clients may choose it: letters, digits and a few signs.
Status check_request_id(const std::string& id, const std::string& path, const RequestLimits& limits);
// `rid`, or a fresh id.
Expected<std::string> parse_request_id(const JsonReader& body, const RequestLimits& limits,
                                       std::string_view prefix);

// Prefixes are shared within a namespace only: cache_salt and extra_key tell them apart, and so do API keys
// when there are several.
Expected<uint64_t> parse_cache_namespace(const JsonReader& body, const Call& call);

// `timeout_ms`, else the X-Request-Timeout header (seconds), at most the server's.
Expected<double> parse_timeout_s(const JsonReader& body, const Call& call);

}  // namespace bifocal::server
