// Logging. Callers format with fmt; the library behind it (spdlog) stays in log.cpp. Logs carry ids, lengths,
// timings and status, never prompts or outputs.
#pragma once

#include <fmt/format.h>

#include <string_view>

#include "base/status.h"

namespace bifocal {

enum class LogLevel { debug, info, warn, error, off };

Expected<LogLevel> parse_log_level(
    std::string_view name);  // "debug", "info", "warn" or "warning", "error", "off"
void set_log_level(LogLevel level);
bool log_enabled(LogLevel level);
// Writes one line to stderr; control characters in the message are escaped so that no value can forge a line.
void log_message(LogLevel level, std::string_view message);

template <class... Args>
void log_debug(fmt::format_string<Args...> format, Args&&... args) {
  if (log_enabled(LogLevel::debug))
    log_message(LogLevel::debug, fmt::format(format, std::forward<Args>(args)...));
}
template <class... Args>
void log_info(fmt::format_string<Args...> format, Args&&... args) {
  if (log_enabled(LogLevel::info))
    log_message(LogLevel::info, fmt::format(format, std::forward<Args>(args)...));
}
template <class... Args>
void log_warn(fmt::format_string<Args...> format, Args&&... args) {
  if (log_enabled(LogLevel::warn))
    log_message(LogLevel::warn, fmt::format(format, std::forward<Args>(args)...));
}
template <class... Args>
void log_error(fmt::format_string<Args...> format, Args&&... args) {
  if (log_enabled(LogLevel::error))
    log_message(LogLevel::error, fmt::format(format, std::forward<Args>(args)...));
}

}  // namespace bifocal
