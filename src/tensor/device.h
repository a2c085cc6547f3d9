// Where memory lives and work runs.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace bifocal {

enum class DeviceKind : uint8_t { cpu, cuda };

std::string_view to_string(DeviceKind kind);  // "cpu", "cuda"

struct Device {
  DeviceKind kind = DeviceKind::cpu;
  int index = 0;
  friend bool operator==(const Device&, const Device&) = default;
};

std::string to_string(Device device);  // "cpu", "cuda:0"

}  // namespace bifocal
