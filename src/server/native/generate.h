// POST /generate: SGLang's native API.
#pragma once

#include "server/call.h"

namespace bifocal::server::native {

// Runs on a worker thread.
void handle_generate(const Call& call);

}  // namespace bifocal::server::native
