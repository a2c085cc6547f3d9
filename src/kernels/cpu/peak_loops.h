// The loops of peak.h per instruction set. Plain declarations only: included by files with an instruction
// set's flags.
#pragma once

#include <cstddef>
#include <cstdint>

namespace bifocal::kernels::cpu {

int64_t peak_f32_fma_scalar(int64_t iterations);
int64_t peak_f32_fma_avx2(int64_t iterations);
int64_t peak_f32_fma_avx512(int64_t iterations);
int64_t peak_bf16_dot_avx512_bf16(int64_t iterations);
int64_t peak_bf16_dot_amx(int64_t iterations);
uint32_t peak_read_scalar(const void* data, size_t num_bytes);
uint32_t peak_read_avx2(const void* data, size_t num_bytes);
uint32_t peak_read_avx512(const void* data, size_t num_bytes);

}  // namespace bifocal::kernels::cpu
