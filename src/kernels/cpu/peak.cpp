#include "kernels/cpu/peak.h"

#include "kernels/cpu/peak_loops.h"

namespace bifocal::kernels::cpu {

PeakLoops peak_loops(Isa isa) {
#if defined(__x86_64__)
  switch (isa) {
    case Isa::scalar:
      break;
    case Isa::avx2:
      return {peak_f32_fma_avx2, nullptr, peak_read_avx2};
    case Isa::avx512:
      return {peak_f32_fma_avx512, nullptr, peak_read_avx512};
    case Isa::avx512_bf16:
      return {peak_f32_fma_avx512, peak_bf16_dot_avx512_bf16, peak_read_avx512};
    case Isa::amx:
      return {peak_f32_fma_avx512, peak_bf16_dot_amx, peak_read_avx512};
  }
#endif
  (void)isa;
  return {peak_f32_fma_scalar, nullptr, peak_read_scalar};
}

}  // namespace bifocal::kernels::cpu
