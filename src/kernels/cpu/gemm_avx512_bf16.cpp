// bf16 weights by VDPBF16PS: both factors bf16 (A rounded to nearest even), sums f32, subnormals flushed to
// zero.
#include <immintrin.h>

#include "kernels/cpu/gemm_simd.h"

namespace bifocal::kernels::cpu {
namespace {

constexpr int kRows = 12;

struct Bf16DotPanel {
  using Row = uint16_t;
  using Value = uint16_t;
  static constexpr int64_t k_group = 2;
  static constexpr bool widens = false;

  static inline __m512bh pairs(const uint16_t* p) {
    return __builtin_bit_cast(__m512bh, _mm512_loadu_si512(p));
  }
  static inline __m512bh same_pair(const uint16_t* p) {
    int32_t pair = 0;
    __builtin_memcpy(&pair, p, sizeof(pair));
    return __builtin_bit_cast(__m512bh, _mm512_set1_epi32(pair));
  }

  template <int kTileRows>
  static inline __attribute__((always_inline)) void step(Sums<kTileRows>& sums, const uint16_t* a,
                                                         const uint16_t* w) {
    const __m512bh b0 = pairs(w);
    const __m512bh b1 = pairs(w + kPanelColumns);
#pragma GCC unroll 16
    for (int r = 0; r < kTileRows; ++r) {
      const __m512bh s = same_pair(a + 2 * r);
      sums.v[r][0] = _mm512_dpbf16_ps(sums.v[r][0], s, b0);
      sums.v[r][1] = _mm512_dpbf16_ps(sums.v[r][1], s, b1);
    }
  }
};

// [k_padded / 2][rows][2]
void pack_bf16_rows(const float* a, int64_t lda, int64_t rows, int64_t k, int64_t k_padded, void* out) {
  auto* const packed = static_cast<uint16_t*>(out);
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t i = 0; i < k_padded; ++i) {
      packed[(i / 2 * rows + r) * 2 + i % 2] = i < k ? bf16_from_float(a[r * lda + i]) : uint16_t{0};
    }
  }
}

constexpr GemmKernel make() {
  GemmKernel kernel = make_gemm_kernel<Bf16DotPanel, kRows>();
  kernel.pack_rows = pack_bf16_rows;
  return kernel;
}

}  // namespace

constinit const GemmKernel kGemmAvx512Bf16 = make();

}  // namespace bifocal::kernels::cpu
