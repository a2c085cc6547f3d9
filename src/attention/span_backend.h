// The backends made of span kernels: one plan, one runner, three kernels.
#pragma once

#include "attention/backend.h"

namespace bifocal::attention {

const Backend& tiled_backend();
const Backend& streaming_backend();
// One stage over cached prefix and new tokens, whose pages stand in one list; one kernel for all phases.
const Backend& unified_backend();

}  // namespace bifocal::attention
