// GET /live: what the page plots, as counters since the start; a client takes differences.
#pragma once

#include "server/call.h"

namespace bifocal::server::web {

void handle_live(const Call& call);

}  // namespace bifocal::server::web
