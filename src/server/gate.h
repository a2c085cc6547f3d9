// What a request must pass before its body is read: Host, origin, key, route, media type, readiness.
#pragma once

#include <memory>
#include <optional>
#include <string_view>

#include "server/call.h"

namespace bifocal::server {

bool is_loopback_host(std::string_view host);

class Gate {
 public:
  explicit Gate(Services& services);
  // Fills in the request's route, path_tail, client and answer_headers; an answer refuses it.
  std::optional<http::Response> screen(http::Request& request, const ServingContext* context) const;

 private:
  std::optional<http::Response> check_host(const http::Request& request) const;
  std::optional<http::Response> answer_preflight(http::Request& request) const;
  std::optional<http::Response> check_key(http::Request& request) const;
  std::optional<http::Response> check_route(http::Request& request) const;
  std::optional<http::Response> check_state(const http::Request& request,
                                            const ServingContext* context) const;
  http::Response refuse(RejectReason reason, const ApiError& error) const;

  Services& services_;
  const bool loopback_;
};

}  // namespace bifocal::server
