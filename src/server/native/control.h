// GET|POST /flush_cache, POST /abort_request.
#pragma once

#include "server/call.h"

namespace bifocal::server::native {

void handle_flush_cache(const Call& call);
void handle_abort_request(const Call& call);

}  // namespace bifocal::server::native
