// POST /tokenize and /detokenize.
#pragma once

#include "server/call.h"

namespace bifocal::server::native {

void handle_tokenize(const Call& call);
void handle_detokenize(const Call& call);

}  // namespace bifocal::server::native
