// GET /v1/models and /v1/models/{id}.
#pragma once

#include "server/call.h"

namespace bifocal::server::openai {

void handle_models(const Call& call);
void handle_model(const Call& call);  // the id is the request's path_tail

}  // namespace bifocal::server::openai
