// --profile PATH: a command's run as a trace.
#pragma once

#include <functional>
#include <string>

#include "base/status.h"

namespace bifocal::cli {

// Runs `command` and, unless path is empty, writes what it did to path, even when it failed.
Status run_profiled(const std::string& path, const std::function<Status()>& command);

}  // namespace bifocal::cli
