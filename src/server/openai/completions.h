// POST /v1/completions.
#pragma once

#include "server/call.h"

namespace bifocal::server::openai {

// Runs on a worker thread.
void handle_completions(const Call& call);

}  // namespace bifocal::server::openai
