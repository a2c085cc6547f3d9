// GET /: one page with a chat and live figures. It asks for nothing but this server's API.
#pragma once

#include "server/call.h"

namespace bifocal::server::web {

void handle_page(const Call& call);

}  // namespace bifocal::server::web
