// From settings to a server.
#pragma once

#include <memory>

#include "cli/settings.h"
#include "cli/stack.h"
#include "server/app.h"

namespace bifocal::cli {

Expected<server::ServerOptions> server_options(const Settings& settings);
std::shared_ptr<const server::ServingContext> serving_context(const Settings& settings, const Stack& stack);

}  // namespace bifocal::cli
