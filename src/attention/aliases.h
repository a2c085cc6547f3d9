// Names that other servers give their attention backends, and what serves them here.
#pragma once

#include <span>
#include <string>
#include <string_view>

#include "tensor/device.h"

namespace bifocal::attention {

class Backend;

struct Alias {
  std::string_view name;  // as in SGLang's --attention-backend
  std::string_view cpu;   // what serves it on each device; empty: nothing does
  std::string_view cuda;
  std::string_view on(DeviceKind device) const { return device == DeviceKind::cuda ? cuda : cpu; }
};

std::span<const Alias> backend_aliases();

// The name of our backend: itself, or what the alias stands for; empty when neither is known.
std::string_view resolve_backend_name(std::string_view name_or_alias, DeviceKind device = DeviceKind::cpu);

// "tiled (also fa3, fa4, ...)", one for each of the backends: for logs, help and errors.
std::string describe_backend_names(std::span<const Backend* const> backends);

}  // namespace bifocal::attention
