// GET /get_model_info and /get_server_info.
#pragma once

#include "server/call.h"

namespace bifocal::server::native {

void handle_model_info(const Call& call);
void handle_server_info(const Call& call);

}  // namespace bifocal::server::native
