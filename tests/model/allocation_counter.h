// Counts what operator new hands out in this test binary.
#pragma once

#include <cstdint>

namespace bifocal {

int64_t num_allocations();

}  // namespace bifocal
