// Warpgroup matrix products: D[64, N] += A[64, 16] B[16, N], bf16 in, f32 accumulation, all four warps of an
// aligned group together. Semantics and layouts: PTX ISA 9.0, "Asynchronous Warpgroup Level Matrix
// Multiply-Accumulate Instructions".
//
// Warp w of the group holds rows 16w to 16w+15 of D; lane 4g+t of it rows g and g+8, columns 8j+2t and
// 8j+2t+1 for every j: d[4j], d[4j+1] belong to row g, d[4j+2], d[4j+3] to row g+8. A from registers has the
// same layout over 16 columns, two values to a register, so packing D gives A.
#pragma once

#include <cstdint>

namespace bifocal::kernels::cuda {

// A matrix in shared memory with the 128-byte swizzle: panels of 64 columns, in a panel groups of eight rows
// of 128 bytes. Panels and groups lie at multiples of 1,024 bytes. Contiguous along k (A, or B as [N, K]):
// kGroupBytes from eight rows to the next eight. Contiguous along n (B as [K, N]): the same, and kPanelBytes
// from 64 columns to the next 64.
template <uint32_t kGroupBytes, uint32_t kPanelBytes>
struct WgmmaMatrix {
  uint32_t low;

  explicit __device__ __forceinline__ WgmmaMatrix(uint32_t smem_address)
      : low((smem_address & 0x3FFFF) >> 4 | kPanelBytes >> 4 << 16) {}
  // The descriptor of what lies `bytes` further.
  __device__ __forceinline__ uint64_t plus(uint32_t bytes) const {
    constexpr uint64_t kSwizzle128 = uint64_t{1} << 62;
    constexpr uint64_t kHigh = kSwizzle128 | uint64_t{kGroupBytes >> 4} << 32;
    return kHigh | (low + (bytes >> 4));
  }
};

// The same, contiguous along k, where only the kernel knows the bytes from eight rows to the next eight.
struct WgmmaRows {
  uint32_t low;
  uint32_t high;

  __device__ __forceinline__ WgmmaRows(uint32_t smem_address, uint32_t group_bytes)
      : low((smem_address & 0x3FFFF) >> 4), high(1U << 30 | group_bytes >> 4) {}
  __device__ __forceinline__ uint64_t plus(uint32_t bytes) const {
    return uint64_t{high} << 32 | (low + (bytes >> 4));
  }
};

// Before the first product whose registers other instructions have written.
__device__ __forceinline__ void wgmma_fence() {
  asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
}

// Closes a group of products.
__device__ __forceinline__ void wgmma_commit() {
  asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
}

// Until at most kPending groups are under way.
template <int kPending>
__device__ __forceinline__ void wgmma_wait() {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(kPending) : "memory");
}

// Holds the compiler to the order of waits and uses: nothing else ties the registers to them.
template <int kCount>
__device__ __forceinline__ void wgmma_touch(float (&r)[kCount]) {
#pragma unroll
  for (int i = 0; i < kCount; ++i) asm volatile("" : "+f"(r[i])::"memory");
}

#define BIFOCAL_F4(d, i) "+f"(d[i]), "+f"(d[(i) + 1]), "+f"(d[(i) + 2]), "+f"(d[(i) + 3])
#define BIFOCAL_F16(d, i) \
  BIFOCAL_F4(d, i), BIFOCAL_F4(d, (i) + 4), BIFOCAL_F4(d, (i) + 8), BIFOCAL_F4(d, (i) + 12)
#define BIFOCAL_F32(d, i) BIFOCAL_F16(d, i), BIFOCAL_F16(d, (i) + 16)
#define BIFOCAL_F64(d, i) BIFOCAL_F32(d, i), BIFOCAL_F32(d, (i) + 32)
// D = A B (accumulate 0) or D + A B. A and B from shared memory, both contiguous along k.
template <int kN>
__device__ __forceinline__ void wgmma_shared(float (&d)[kN / 2], uint64_t a, uint64_t b, int accumulate) {
  static_assert(kN == 8 || kN == 16 || kN == 32 || kN == 64 || kN == 128);
  if constexpr (kN == 8) {
    asm volatile(
        "{\n.reg .pred p;\nsetp.ne.b32 p, %6, 0;\n"
        "wgmma.mma_async.sync.aligned.m64n8k16.f32.bf16.bf16 "
        "{%0, %1, %2, %3}, %4, %5, p, 1, 1, 0, 0;\n}\n"
        : BIFOCAL_F4(d, 0)
        : "l"(a), "l"(b), "r"(accumulate));
  } else if constexpr (kN == 16) {
    asm volatile(
        "{\n.reg .pred p;\nsetp.ne.b32 p, %10, 0;\n"
        "wgmma.mma_async.sync.aligned.m64n16k16.f32.bf16.bf16 "
        "{%0, %1, %2, %3, %4, %5, %6, %7}, %8, %9, p, 1, 1, 0, 0;\n}\n"
        : BIFOCAL_F4(d, 0), BIFOCAL_F4(d, 4)
        : "l"(a), "l"(b), "r"(accumulate));
  } else if constexpr (kN == 32) {
    asm volatile(
        "{\n.reg .pred p;\nsetp.ne.b32 p, %18, 0;\n"
        "wgmma.mma_async.sync.aligned.m64n32k16.f32.bf16.bf16 "
        "{%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15}, "
        "%16, %17, p, 1, 1, 0, 0;\n}\n"
        : BIFOCAL_F16(d, 0)
        : "l"(a), "l"(b), "r"(accumulate));
  } else if constexpr (kN == 64) {
    asm volatile(
        "{\n.reg .pred p;\nsetp.ne.b32 p, %34, 0;\n"
        "wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16 "
        "{%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, %16, %17, %18, %19, %20, "
        "%21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31}, "
        "%32, %33, p, 1, 1, 0, 0;\n}\n"
        : BIFOCAL_F32(d, 0)
        : "l"(a), "l"(b), "r"(accumulate));
  } else {
    asm volatile(
        "{\n.reg .pred p;\nsetp.ne.b32 p, %66, 0;\n"
        "wgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16 "
        "{%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, %16, %17, %18, %19, %20, "
        "%21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, %32, %33, %34, %35, %36, %37, %38, %39, %40, "
        "%41, %42, %43, %44, %45, %46, %47, %48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, "
        "%61, %62, %63}, "
        "%64, %65, p, 1, 1, 0, 0;\n}\n"
        : BIFOCAL_F64(d, 0)
        : "l"(a), "l"(b), "r"(accumulate));
  }
}

// The same with A from registers and B contiguous along n.
template <int kN>
__device__ __forceinline__ void wgmma_registers(float (&d)[kN / 2], const uint32_t* a, uint64_t b,
                                                int accumulate) {
  static_assert(kN == 64 || kN == 128 || kN == 256);
  if constexpr (kN == 64) {
    asm volatile(
        "{\n.reg .pred p;\nsetp.ne.b32 p, %37, 0;\n"
        "wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16 "
        "{%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, %16, %17, %18, %19, %20, "
        "%21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31}, "
        "{%32, %33, %34, %35}, %36, p, 1, 1, 1;\n}\n"
        : BIFOCAL_F32(d, 0)
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(accumulate));
  } else if constexpr (kN == 128) {
    asm volatile(
        "{\n.reg .pred p;\nsetp.ne.b32 p, %69, 0;\n"
        "wgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16 "
        "{%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, %16, %17, %18, %19, %20, "
        "%21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, %32, %33, %34, %35, %36, %37, %38, %39, %40, "
        "%41, %42, %43, %44, %45, %46, %47, %48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, "
        "%61, %62, %63}, "
        "{%64, %65, %66, %67}, %68, p, 1, 1, 1;\n}\n"
        : BIFOCAL_F64(d, 0)
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(accumulate));
  } else {
    asm volatile(
        "{\n.reg .pred p;\nsetp.ne.b32 p, %133, 0;\n"
        "wgmma.mma_async.sync.aligned.m64n256k16.f32.bf16.bf16 "
        "{%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, %16, %17, %18, %19, %20, "
        "%21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, %32, %33, %34, %35, %36, %37, %38, %39, %40, "
        "%41, %42, %43, %44, %45, %46, %47, %48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, "
        "%61, %62, %63, %64, %65, %66, %67, %68, %69, %70, %71, %72, %73, %74, %75, %76, %77, %78, %79, %80, "
        "%81, %82, %83, %84, %85, %86, %87, %88, %89, %90, %91, %92, %93, %94, %95, %96, %97, %98, %99, "
        "%100, %101, %102, %103, %104, %105, %106, %107, %108, %109, %110, %111, %112, %113, %114, %115, "
        "%116, %117, %118, %119, %120, %121, %122, %123, %124, %125, %126, %127}, "
        "{%128, %129, %130, %131}, %132, p, 1, 1, 1;\n}\n"
        : BIFOCAL_F64(d, 0), BIFOCAL_F64(d, 64)
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(accumulate));
  }
}

#undef BIFOCAL_F4
#undef BIFOCAL_F16
#undef BIFOCAL_F32
#undef BIFOCAL_F64

}  // namespace bifocal::kernels::cuda
