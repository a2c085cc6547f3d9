#include "cli/profile.h"

#include <fmt/format.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>

#include "base/log.h"
#include "base/trace.h"
#include "base/trace_file.h"

namespace bifocal::cli {
namespace {

// Better now than after the run.
Status check_writable(const std::string& path) {
  const std::string folder = std::filesystem::path(path).parent_path().string();
  if (::access(folder.empty() ? "." : folder.c_str(), W_OK | X_OK) == 0) return {};
  return invalid_argument(fmt::format("--profile {}: {}", path, std::strerror(errno)));
}

}  // namespace

Status run_profiled(const std::string& path, const std::function<Status()>& command) {
  if (path.empty()) return command();
  BIFOCAL_RETURN_IF_ERROR(check_writable(path));
  trace::name_thread("main");
  trace::Options options;
  options.short_step_ns = trace::kShortStepNs;
  options.source_period = trace::kSourcePeriod;
  BIFOCAL_RETURN_IF_ERROR(trace::start(options));
  Status status = command();
  const auto recording = trace::stop();
  const Status written = recording.ok() ? trace::write_file(*recording, path) : recording.status();
  if (!status.ok()) return status;
  BIFOCAL_RETURN_IF_ERROR(written.with_context("--profile"));
  log_info("profile of {} steps written to {}; ui.perfetto.dev opens it", recording->num_steps, path);
  return {};
}

}  // namespace bifocal::cli
