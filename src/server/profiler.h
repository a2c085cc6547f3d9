// Profiles on request: recordings of base/trace.h that become files below one folder, the operator's.
#pragma once

#include <cstdint>
#include <filesystem>
#include <mutex>
#include <string>
#include <thread>

#include "base/status.h"

namespace bifocal::server {

struct ProfileRequest {
  std::string output_dir;   // absolute, or below the operator's folder; "": that folder
  uint64_t start_step = 0;  // begin with this step of the engine or the first after it
  uint64_t num_steps = 0;   // finish after so many; 0: when stopped
  bool gpu = true;          // also what GPUs do
};

class Profiler {
 public:
  // Off when `directory` is empty. Errors: invalid_argument when the folder can't be made or written to.
  static Status check(const std::string& directory);
  explicit Profiler(std::string directory) : directory_(std::move(directory)) {}
  // Writes what there is.
  ~Profiler();
  Profiler(const Profiler&) = delete;
  Profiler& operator=(const Profiler&) = delete;

  // The path of the file that will be written. Errors: unsupported when profiles are off; invalid_argument
  // when one is being recorded, or output_dir lies elsewhere or can't be written to.
  Expected<std::string> start(const ProfileRequest& request);
  // The path of the file. invalid_argument when none is being recorded, or it can't be written.
  Expected<std::string> stop();

 private:
  Expected<std::filesystem::path> folder_for(const std::string& output_dir) const;
  Expected<std::string> write_locked();
  void finish(const std::string& path);

  const std::string directory_;
  std::mutex mutex_;     // held while a file is written
  std::string path_;     // of the recording under way; "": none
  std::jthread waiter_;  // for num_steps
};

}  // namespace bifocal::server
