#include "kernels/cpu/peak_simd.h"

namespace bifocal::kernels::cpu {

int64_t peak_f32_fma_avx512(int64_t iterations) {
  return f32_fma_loop(iterations);
}
uint32_t peak_read_avx512(const void* data, size_t num_bytes) {
  return read_loop(data, num_bytes);
}

}  // namespace bifocal::kernels::cpu
