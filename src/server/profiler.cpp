#include "server/profiler.h"

#include <fmt/chrono.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <system_error>
#include <utility>

#include "base/log.h"
#include "base/trace.h"
#include "base/trace_file.h"

namespace bifocal::server {
namespace {

namespace fs = std::filesystem;

Status make_writable(const fs::path& folder) {
  std::error_code error;
  fs::create_directories(folder, error);
  if (!error && ::access(folder.c_str(), W_OK | X_OK) != 0) error.assign(errno, std::generic_category());
  if (!error) return {};
  return invalid_argument(fmt::format("the folder can't be written to: {}", error.message()));
}

std::string file_name() {
  static std::atomic<int> number{0};
  const auto now = std::chrono::system_clock::to_time_t(std::chrono::system_clock::now());
  return fmt::format("bifocal-{:%Y%m%d-%H%M%S}-{}-{}.trace.json.gz", fmt::gmtime(now), ::getpid(), ++number);
}

}  // namespace

Status Profiler::check(const std::string& directory) {
  return directory.empty() ? Status() : make_writable(directory);
}

Profiler::~Profiler() {
  std::lock_guard lock(mutex_);
  if (path_.empty()) return;
  const auto written = write_locked();
  if (!written.ok()) log_error("{}", written.status().message());
}

Expected<fs::path> Profiler::folder_for(const std::string& output_dir) const {
  std::error_code error;
  const fs::path root = fs::canonical(directory_, error);
  if (error) return invalid_argument(fmt::format("--profile-dir is not there: {}", error.message()));
  // Links are followed before the folders are compared. An absolute path replaces the root.
  const fs::path folder = fs::weakly_canonical(root / output_dir, error);
  if (error) return invalid_argument(fmt::format("output_dir: {}", error.message()));
  const auto [root_end, rest] = std::mismatch(root.begin(), root.end(), folder.begin(), folder.end());
  if (root_end != root.end()) {
    return invalid_argument(
        "output_dir: profiles are written below the server's --profile-dir only; give a relative path");
  }
  const Status writable = make_writable(folder);
  if (!writable.ok()) return writable.with_context("output_dir");
  return folder;
}

Expected<std::string> Profiler::start(const ProfileRequest& request) {
  if (directory_.empty()) {
    return unsupported("profiles are off: start the server with --profile-dir DIR, where they are written");
  }
  BIFOCAL_ASSIGN_OR_RETURN(const fs::path folder, folder_for(request.output_dir));
  std::jthread earlier;  // joined once the lock, which it may be waiting for, is free
  std::lock_guard lock(mutex_);
  trace::Options options;
  options.first_step = request.start_step;
  options.num_steps = request.num_steps;
  options.with_sources = request.gpu;
  options.short_step_ns = trace::kShortStepNs;
  options.source_period = trace::kSourcePeriod;
  BIFOCAL_RETURN_IF_ERROR(trace::start(options));
  path_ = (folder / file_name()).string();
  if (request.num_steps > 0) {
    earlier = std::exchange(waiter_, std::jthread([this, path = path_](std::stop_token token) {
                              if (trace::wait_until_finished(std::move(token))) finish(path);
                            }));
  }
  return path_;
}

Expected<std::string> Profiler::stop() {
  std::lock_guard lock(mutex_);
  if (path_.empty()) {
    return invalid_argument("no profile is being recorded: /start_profile starts one, num_steps ends it");
  }
  return write_locked();
}

void Profiler::finish(const std::string& path) {
  std::lock_guard lock(mutex_);
  if (path_ != path) return;  // somebody stopped it meanwhile
  const auto written = write_locked();
  if (written.ok()) {
    log_info("profile written to {}", *written);
  } else {
    log_error("{}", written.status().message());
  }
}

Expected<std::string> Profiler::write_locked() {
  const std::string path = std::exchange(path_, {});
  BIFOCAL_ASSIGN_OR_RETURN(const trace::Recording recording, trace::stop());
  BIFOCAL_RETURN_IF_ERROR(trace::write_file(recording, path));
  return path;
}

}  // namespace bifocal::server
