#include "base/status.h"

namespace bifocal {

std::string_view to_string(StatusCode code) {
  switch (code) {
    case StatusCode::ok:
      return "ok";
    case StatusCode::invalid_argument:
      return "invalid_argument";
    case StatusCode::not_found:
      return "not_found";
    case StatusCode::unsupported:
      return "unsupported";
    case StatusCode::resource_exhausted:
      return "resource_exhausted";
    case StatusCode::unavailable:
      return "unavailable";
    case StatusCode::deadline_exceeded:
      return "deadline_exceeded";
    case StatusCode::cancelled:
      return "cancelled";
    case StatusCode::data_loss:
      return "data_loss";
    case StatusCode::internal:
      return "internal";
  }
  return "unknown";
}

Status Status::with_context(std::string_view where) const {
  if (ok()) return *this;
  return Status(code_, std::string(where) + ": " + message_);
}

Status invalid_argument(std::string message) {
  return Status(StatusCode::invalid_argument, std::move(message));
}
Status not_found(std::string message) {
  return Status(StatusCode::not_found, std::move(message));
}
Status unsupported(std::string message) {
  return Status(StatusCode::unsupported, std::move(message));
}
Status resource_exhausted(std::string message) {
  return Status(StatusCode::resource_exhausted, std::move(message));
}
Status unavailable(std::string message) {
  return Status(StatusCode::unavailable, std::move(message));
}
Status data_loss(std::string message) {
  return Status(StatusCode::data_loss, std::move(message));
}
Status internal_error(std::string message) {
  return Status(StatusCode::internal, std::move(message));
}

}  // namespace bifocal
