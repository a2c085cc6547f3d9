// Counts calls of the global operator new of this test program, by all threads.
#pragma once

#include <cstddef>

namespace bifocal {

size_t allocation_count();

}  // namespace bifocal
