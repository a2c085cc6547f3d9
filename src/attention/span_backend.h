// The backends `tiled` and `streaming`: one plan, one runner, two span kernels.
#pragma once

#include "attention/backend.h"

namespace bifocal::attention {

const Backend& tiled_backend();
const Backend& streaming_backend();

}  // namespace bifocal::attention
