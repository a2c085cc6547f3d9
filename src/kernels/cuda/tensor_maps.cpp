#include "kernels/cuda/tensor_maps.h"

#include <cuda_runtime_api.h>

#include <array>
#include <string>

#include "base/check.h"

namespace bifocal::kernels::cuda {
namespace {

struct Encoder {
  decltype(&cuTensorMapEncodeTiled) encode = nullptr;
};

Expected<Encoder> find_encoder() {
  void* function = nullptr;
  cudaDriverEntryPointQueryResult found{};
  const cudaError_t error =
      cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &function, 12000, cudaEnableDefault, &found);
  if (error != cudaSuccess || found != cudaDriverEntryPointSuccess) {
    return unavailable("the CUDA driver is too old: it has no cuTensorMapEncodeTiled (CUDA 12)");
  }
  return Encoder{reinterpret_cast<decltype(&cuTensorMapEncodeTiled)>(function)};
}

}  // namespace

Status make_tensor_map(const void* base, std::span<const TensorMapDim> dims, CUtensorMap* map) {
  static const Expected<Encoder> encoder = find_encoder();  // for every launch: looked up once
  if (!encoder.ok()) return encoder.status();
  constexpr size_t kMaxRank = 5;
  BIFOCAL_CHECK_LE(dims.size(), kMaxRank);
  std::array<cuuint64_t, kMaxRank> sizes{};
  std::array<cuuint64_t, kMaxRank> strides{};
  std::array<cuuint32_t, kMaxRank> box{};
  std::array<cuuint32_t, kMaxRank> steps{};
  for (size_t i = 0; i < dims.size(); ++i) {
    sizes[i] = static_cast<cuuint64_t>(dims[i].size);
    strides[i] = static_cast<cuuint64_t>(dims[i].stride_bytes);
    box[i] = static_cast<cuuint32_t>(dims[i].box);
    steps[i] = 1;
  }
  const CUresult result = encoder->encode(
      map, CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, static_cast<cuuint32_t>(dims.size()), const_cast<void*>(base),
      sizes.data(), strides.data() + 1, box.data(), steps.data(), CU_TENSOR_MAP_INTERLEAVE_NONE,
      CU_TENSOR_MAP_SWIZZLE_128B, CU_TENSOR_MAP_L2_PROMOTION_NONE, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  if (result == CUDA_SUCCESS) return {};
  return internal_error("cuTensorMapEncodeTiled failed with error " +
                        std::to_string(static_cast<int>(result)));
}

}  // namespace bifocal::kernels::cuda
