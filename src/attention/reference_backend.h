// The backend `reference`: one row at a time in double, every feature; slow.
#pragma once

#include "attention/backend.h"

namespace bifocal::attention {

const Backend& reference_backend();

}  // namespace bifocal::attention
