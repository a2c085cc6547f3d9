#include "server/ids.h"

#include <fmt/format.h>

#include <chrono>
#include <random>

namespace bifocal::server {

uint64_t random_u64() {
  // random_device reads the kernel's generator; one per thread saves opening it each time.
  thread_local std::random_device device;
  return (uint64_t{device()} << 32) | device();
}

std::string random_id(std::string_view prefix) {
  return fmt::format("{}{:016x}{:08x}", prefix, random_u64(), static_cast<uint32_t>(random_u64()));
}

int64_t unix_time_s() {
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  return std::chrono::duration_cast<std::chrono::seconds>(now).count();
}

}  // namespace bifocal::server
