// Which instruction set the CPU kernels use: the best this processor has, or the one that was asked for
// (--cpu-isa).
#pragma once

#include <string_view>
#include <vector>

#include "base/status.h"

namespace bifocal::kernels::cpu {

enum class Isa { scalar, avx2, avx512, avx512_bf16, amx };

std::string_view to_string(Isa isa);
Expected<Isa> parse_isa(std::string_view name);  // "auto" gives the best
bool is_supported(Isa isa);                      // by this processor and operating system
std::vector<Isa> supported_isas();

// The one in use. set_isa must be called before any kernel runs or weight is packed (start-up, tests).
Isa current_isa();
Status set_isa(Isa isa);

}  // namespace bifocal::kernels::cpu
