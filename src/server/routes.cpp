#include "server/routes.h"

#include <algorithm>

#include "server/health.h"
#include "server/native/control.h"
#include "server/native/generate.h"
#include "server/native/info.h"
#include "server/native/profile.h"
#include "server/native/tokenize.h"
#include "server/openai/chat.h"
#include "server/openai/completions.h"
#include "server/openai/models.h"
#include "server/web/live.h"
#include "server/web/page.h"

namespace bifocal::server {
namespace {

constexpr Route probe(std::string_view path, Handler handler, bool is_open) {
  return {"GET", path, handler, false, is_open, true, true};
}
constexpr Route info(std::string_view path, Handler handler) {
  return {"GET", path, handler, false, false, true};
}
constexpr Route work(std::string_view method, std::string_view path, Handler handler) {
  return {method, path, handler};
}

constexpr Route kRoutes[] = {
    probe("/health", handle_health, true),
    probe("/ready", handle_ready, true),
    probe("/metrics", handle_metrics, false),
    probe("/live", web::handle_live, false),
    probe("/", web::handle_page, true),
    work("GET", "/health_generate", handle_health_generate),

    info("/v1/models", openai::handle_models),
    {"GET", "/v1/models/", openai::handle_model, true, false, true},
    work("POST", "/v1/chat/completions", openai::handle_chat),
    work("POST", "/v1/completions", openai::handle_completions),

    work("POST", "/generate", native::handle_generate),
    work("PUT", "/generate", native::handle_generate),
    work("POST", "/tokenize", native::handle_tokenize),
    work("POST", "/v1/tokenize", native::handle_tokenize),
    work("POST", "/detokenize", native::handle_detokenize),
    work("POST", "/v1/detokenize", native::handle_detokenize),
    info("/get_model_info", native::handle_model_info),
    info("/model_info", native::handle_model_info),
    info("/get_server_info", native::handle_server_info),
    info("/server_info", native::handle_server_info),
    work("GET", "/flush_cache", native::handle_flush_cache),
    work("POST", "/flush_cache", native::handle_flush_cache),
    work("POST", "/abort_request", native::handle_abort_request),
    work("POST", "/start_profile", native::handle_start_profile),
    work("POST", "/stop_profile", native::handle_stop_profile),
};

bool path_matches(const Route& route, std::string_view path) {
  if (!route.is_prefix) return route.path == path;
  return path.size() > route.path.size() && path.starts_with(route.path);
}

}  // namespace

std::span<const Route> routes() {
  return kRoutes;
}

RouteMatch match_route(std::string_view method, std::string_view path) {
  RouteMatch match;
  for (size_t i = 0; i < std::size(kRoutes); ++i) {
    const Route& route = kRoutes[i];
    if (!path_matches(route, path)) continue;
    if (!match.allowed.empty()) match.allowed += ", ";
    match.allowed += route.method;
    if (route.on_io_thread) match.allowed += ", HEAD";
    if (route.method != method && !(method == "HEAD" && route.on_io_thread)) continue;
    match.index = static_cast<int>(i);
    if (route.is_prefix) match.tail = path.substr(route.path.size());
  }
  if (!match.allowed.empty()) match.allowed += ", OPTIONS";
  return match;
}

bool is_open_path(std::string_view path) {
  return std::any_of(std::begin(kRoutes), std::end(kRoutes),
                     [&](const Route& route) { return route.is_open && path_matches(route, path); });
}

}  // namespace bifocal::server
