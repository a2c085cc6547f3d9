#include "server/gate.h"

#include <algorithm>

#include "server/api_keys.h"
#include "server/routes.h"

namespace bifocal::server {
namespace {

constexpr std::string_view kLoopbackNames[] = {"localhost", "127.0.0.1", "[::1]"};

// "[::1]:8080" -> "[::1]", "example.org:80" -> "example.org".
std::string_view without_port(std::string_view host) {
  if (host.starts_with('[')) return host.substr(0, host.find(']') + 1);
  return host.substr(0, host.find(':'));
}

template <class Range>
bool contains_name(const Range& names, std::string_view name) {
  return std::any_of(std::begin(names), std::end(names),
                     [&](std::string_view allowed) { return http::equals_ignoring_case(allowed, name); });
}

bool has_body(const http::Request& request) {
  const std::string_view length = request.header("content-length");
  return request.has_header("transfer-encoding") || (!length.empty() && length != "0");
}

bool is_json(std::string_view content_type) {
  return http::equals_ignoring_case(http::trim(content_type.substr(0, content_type.find(';'))),
                                    "application/json");
}

ApiError error_of(int status, std::string type, std::string code, std::string message) {
  ApiError error;
  error.status = status;
  error.type = std::move(type);
  error.code = std::move(code);
  error.message = std::move(message);
  return error;
}

}  // namespace

bool is_loopback_host(std::string_view host) {
  return host == "localhost" || host == "::1" || host.starts_with("127.");
}

Gate::Gate(Services& services)
    : services_(services), loopback_(is_loopback_host(services.options.http.host)) {}

std::optional<http::Response> Gate::screen(http::Request& request, const ServingContext* context) const {
  if (auto refused = check_host(request)) return refused;
  if (auto answered = answer_preflight(request)) return answered;
  if (auto refused = check_key(request)) return refused;
  if (auto refused = check_route(request)) return refused;
  return check_state(request, context);
}

http::Response Gate::refuse(RejectReason reason, const ApiError& error) const {
  services_.metrics.rejected(reason);
  return error_response(error);
}

// A page from elsewhere can reach a loopback server through a name that resolves to it; its Host gives it
// away.
std::optional<http::Response> Gate::check_host(const http::Request& request) const {
  if (!loopback_ || !request.has_header("host")) return std::nullopt;
  const std::string_view name = without_port(request.header("host"));
  if (contains_name(kLoopbackNames, name) || contains_name(services_.options.allowed_hosts, name))
    return std::nullopt;
  return refuse(RejectReason::forbidden_host,
                error_of(403, "permission_error", "host_not_allowed",
                         "this Host is not served here; the server's --allowed-host adds one"));
}

std::optional<http::Response> Gate::answer_preflight(http::Request& request) const {
  const std::string_view origin = request.header("origin");
  if (origin.empty()) return std::nullopt;
  const auto& allowed = services_.options.allowed_origins;
  const bool any = std::find(allowed.begin(), allowed.end(), "*") != allowed.end();
  if (!any && std::find(allowed.begin(), allowed.end(), origin) == allowed.end()) return std::nullopt;
  request.answer_headers = {{"Access-Control-Allow-Origin", any ? std::string("*") : std::string(origin)},
                            {"Vary", "Origin"}};
  if (request.method != "OPTIONS" || !request.has_header("access-control-request-method"))
    return std::nullopt;
  http::Response response;
  response.status = 204;
  response.headers = {
      {"Access-Control-Allow-Methods", "GET, POST, PUT, OPTIONS"},
      {"Access-Control-Allow-Headers", "Authorization, Content-Type, X-Api-Key, X-Request-Timeout"},
      {"Access-Control-Max-Age", "600"}};
  return response;
}

std::optional<http::Response> Gate::check_key(http::Request& request) const {
  const auto& keys = services_.options.api_keys;
  if (keys.empty()) return std::nullopt;
  request.client = find_api_key(keys, request);
  if (request.client >= 0 || is_open_path(request.path)) return std::nullopt;
  return refuse(RejectReason::unauthorized,
                error_of(401, "authentication_error", "invalid_api_key",
                         "an API key is needed: Authorization: Bearer KEY, or X-Api-Key: KEY"));
}

std::optional<http::Response> Gate::check_route(http::Request& request) const {
  RouteMatch match = match_route(request.method, request.path);
  if (match.allowed.empty()) {
    return refuse(RejectReason::invalid, not_found_error("no such path; /v1/models, /v1/chat/completions, "
                                                         "/v1/completions and /generate are served here"));
  }
  if (request.method == "OPTIONS") {
    http::Response response;
    response.status = 204;
    response.headers = {{"Allow", match.allowed}};
    return response;
  }
  if (match.index < 0) {
    http::Response response =
        refuse(RejectReason::invalid, error_of(405, "invalid_request_error", "method_not_allowed",
                                               "this path doesn't have that method; see the Allow header"));
    response.headers.push_back({"Allow", match.allowed});
    return response;
  }
  const bool posts = request.method == "POST" || request.method == "PUT";
  // Of requests without a body, some clients say that it is a stream of bytes.
  const std::string_view type = request.header("content-type");
  const bool untyped = type.empty() || http::equals_ignoring_case(type, "application/octet-stream");
  if (posts && (has_body(request) || !untyped) && !is_json(type)) {
    return refuse(RejectReason::invalid, error_of(415, "invalid_request_error", "unsupported_media_type",
                                                  "Content-Type must be application/json"));
  }
  request.route = match.index;
  request.path_tail = std::move(match.tail);
  return std::nullopt;
}

std::optional<http::Response> Gate::check_state(const http::Request& request,
                                                const ServingContext* context) const {
  if (routes()[static_cast<size_t>(request.route)].while_starting) return std::nullopt;
  if (context != nullptr && context->engine->failed()) {
    return refuse(RejectReason::not_ready, unavailable_error("failed", "the engine has failed"));
  }
  switch (services_.lifecycle.load()) {
    case Lifecycle::starting:
      return refuse(RejectReason::not_ready, unavailable_error("starting", "the model is still loading"));
    case Lifecycle::draining:
      return refuse(RejectReason::not_ready, unavailable_error("draining", "the server is shutting down"));
    case Lifecycle::ready:
      break;
  }
  return std::nullopt;
}

}  // namespace bifocal::server
