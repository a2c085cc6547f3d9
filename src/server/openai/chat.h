// POST /v1/chat/completions.
#pragma once

#include "server/call.h"

namespace bifocal::server::openai {

// Runs on a worker thread.
void handle_chat(const Call& call);

}  // namespace bifocal::server::openai
