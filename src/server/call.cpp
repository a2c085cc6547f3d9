#include "server/call.h"

#include "base/log.h"

namespace bifocal::server {

void Call::fail(const ApiError& error) const {
  if (error.status == 429) {
    services->metrics.rejected(RejectReason::queue_full);
  } else if (error.status < 500) {
    services->metrics.rejected(RejectReason::invalid);
  }
  exchange->respond(error_response(error));
}

void Call::respond_json(std::string json) const {
  http::Response response;
  response.body = std::move(json);
  exchange->respond(response);
}

}  // namespace bifocal::server
