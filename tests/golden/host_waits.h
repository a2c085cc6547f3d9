// Counts every call by which a host thread waits for the GPU, or may: the test's own definitions stand in
// front of CUDA's (linked with --wrap), so nothing escapes, whoever calls.
#pragma once

#include <cstdint>

namespace bifocal {

int64_t host_waits();  // since the start of the program

}  // namespace bifocal
