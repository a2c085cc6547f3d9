// POST /start_profile and /stop_profile, with SGLang's fields.
#pragma once

#include "server/call.h"

namespace bifocal::server::native {

void handle_start_profile(const Call& call);
void handle_stop_profile(const Call& call);

}  // namespace bifocal::server::native
