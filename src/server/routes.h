// The route table: what is served, who may call it, and where its handler runs.
#pragma once

#include <span>
#include <string>
#include <string_view>

#include "server/call.h"

namespace bifocal::server {

struct Route {
  std::string_view method;
  std::string_view path;
  Handler handler = nullptr;
  bool is_prefix = false;       // path ends in "/"; the rest is the handler's
  bool is_open = false;         // needs no API key
  bool on_io_thread = false;    // quick and never blocking; also answers HEAD
  bool while_starting = false;  // works without a model, and while draining
};

std::span<const Route> routes();

struct RouteMatch {
  int index = -1;       // -1: none
  std::string tail;     // of a prefix route
  std::string allowed;  // methods of the path: "GET, HEAD, OPTIONS"; "" when no route has it
};
// Paths match exactly: no decoding, no dot segments, no doubled or trailing slashes.
RouteMatch match_route(std::string_view method, std::string_view path);
// True when a route of that path needs no key.
bool is_open_path(std::string_view path);

}  // namespace bifocal::server
