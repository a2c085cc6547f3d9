// Loops that keep one resource of a core busy and do nothing else: what kernels are measured against
// (bench/ceilings.h).
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/cpu/isa.h"

namespace bifocal::kernels::cpu {

struct PeakLoops {
  // Both run some multiply-adds `iterations` times, registers only, and return the floating-point operations
  // done.
  int64_t (*f32_fma)(int64_t iterations) = nullptr;
  int64_t (*bf16_dot)(int64_t iterations) =
      nullptr;  // bf16 products, f32 sums; null where there is no instruction
  // Loads every byte once, in order; the result depends on all of them. num_bytes is a multiple of 512.
  uint32_t (*read)(const void* data, size_t num_bytes) = nullptr;
};

PeakLoops peak_loops(Isa isa);

}  // namespace bifocal::kernels::cpu
