// What a function says when the caller's request can't be met. A caller's mistake travels as a Status and
// becomes a 4xx answer or exit code 2; our own bugs are BIFOCAL_CHECKs (base/check.h) instead.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <utility>

namespace bifocal {

enum class StatusCode {
  ok,
  invalid_argument,    // the caller's value is wrong                    -> 400, exit 2
  not_found,           // no such file, route, tensor                    -> 404, exit 2
  unsupported,         // understood, not offered                        -> 400, exit 2
  resource_exhausted,  // a limit or a queue is full, may be retried     -> 429
  unavailable,         // starting, draining, failed                     -> 503
  deadline_exceeded,   //                                                -> 504
  cancelled,           // the caller went away or aborted                -> (nobody to tell)
  data_loss,           // a file is corrupt or truncated                 -> exit 2
  internal,            // ours                                           -> 500, exit 1
};

std::string_view to_string(StatusCode code);

class [[nodiscard]] Status {
 public:
  Status() = default;  // ok
  Status(StatusCode code, std::string message) : code_(code), message_(std::move(message)) {}

  bool ok() const { return code_ == StatusCode::ok; }
  StatusCode code() const { return code_; }
  const std::string& message() const { return message_; }
  // The same failure with "where: " in front, for callers that know more of the context.
  Status with_context(std::string_view where) const;

 private:
  StatusCode code_ = StatusCode::ok;
  std::string message_;
};

Status invalid_argument(std::string message);
Status not_found(std::string message);
Status unsupported(std::string message);
Status resource_exhausted(std::string message);
Status unavailable(std::string message);
Status data_loss(std::string message);
Status internal_error(std::string message);

// A value or the reason why there is none.
template <class T>
class [[nodiscard]] Expected {
 public:
  Expected(T value) : value_(std::move(value)) {}          // NOLINT(google-explicit-constructor)
  Expected(Status status) : status_(std::move(status)) {}  // NOLINT(google-explicit-constructor)

  bool ok() const { return value_.has_value(); }
  explicit operator bool() const { return ok(); }
  const Status& status() const { return status_; }

  T& operator*() & { return *value_; }
  const T& operator*() const& { return *value_; }
  T&& operator*() && { return std::move(*value_); }
  T* operator->() { return &*value_; }
  const T* operator->() const { return &*value_; }
  T& value() & { return *value_; }
  const T& value() const& { return *value_; }
  T&& value() && { return std::move(*value_); }

 private:
  std::optional<T> value_;
  Status status_;
};

}  // namespace bifocal

#define BIFOCAL_CONCAT_INNER(a, b) a##b
#define BIFOCAL_CONCAT(a, b) BIFOCAL_CONCAT_INNER(a, b)

// Returns the status to the caller unless it is ok.
#define BIFOCAL_RETURN_IF_ERROR(expr)                        \
  do {                                                       \
    if (::bifocal::Status status_ = (expr); !status_.ok()) { \
      return status_;                                        \
    }                                                        \
  } while (false)

// BIFOCAL_ASSIGN_OR_RETURN(auto config, load_config(path));
#define BIFOCAL_ASSIGN_OR_RETURN(lhs, expr) \
  BIFOCAL_ASSIGN_OR_RETURN_INNER(BIFOCAL_CONCAT(expected_, __LINE__), lhs, expr)
#define BIFOCAL_ASSIGN_OR_RETURN_INNER(tmp, lhs, expr) \
  auto tmp = (expr);                                   \
  if (!tmp.ok()) return tmp.status();                  \
  lhs = std::move(tmp).value()
