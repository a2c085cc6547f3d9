#include "base/descriptor_limit.h"

#include <sys/resource.h>

#include <algorithm>

#include "base/log.h"

namespace bifocal {

void raise_descriptor_limit(int connections) {
  constexpr rlim_t kRest = 512;
  rlimit limit{};
  const auto wanted = static_cast<rlim_t>(connections) + kRest;
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur >= wanted) return;
  limit.rlim_cur = std::min(wanted, limit.rlim_max);
  if (setrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur < wanted) {
    log_warn("only {} file descriptors are allowed; {} connections may not fit", limit.rlim_cur, connections);
  }
}

}  // namespace bifocal
