#include "kernels/cuda/device_memory.h"

#include <string>

namespace bifocal::kernels::cuda {

Status to_status(cudaError_t error, std::string_view what) {
  if (error == cudaSuccess) return {};
  std::string message(what);
  message.append(": ").append(cudaGetErrorName(error)).append(", ").append(cudaGetErrorString(error));
  if (error == cudaErrorMemoryAllocation) return resource_exhausted(std::move(message));
  return internal_error(std::move(message));
}

Expected<DeviceTraits> current_device() {
  int count = 0;
  if (cudaGetDeviceCount(&count) != cudaSuccess || count == 0) {
    return unavailable("no CUDA device: neither a GPU nor its driver was found");
  }
  int device = 0;
  int major = 0;
  int minor = 0;
  int l2_bytes = 0;
  DeviceTraits traits;
  BIFOCAL_RETURN_IF_ERROR(to_status(cudaGetDevice(&device), "asking for the current device"));
  cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device);
  cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, device);
  cudaDeviceGetAttribute(&traits.num_sms, cudaDevAttrMultiProcessorCount, device);
  cudaDeviceGetAttribute(&traits.smem_per_block_bytes, cudaDevAttrMaxSharedMemoryPerBlockOptin, device);
  cudaDeviceGetAttribute(&l2_bytes, cudaDevAttrL2CacheSize, device);
  traits.l2_bytes = static_cast<size_t>(l2_bytes);
  cudaDeviceProp properties{};
  BIFOCAL_RETURN_IF_ERROR(
      to_status(cudaGetDeviceProperties(&properties, device), "asking for the device's properties"));
  traits.name = properties.name;
  if (major != 9 || minor != 0) {
    return unavailable("these kernels are built for compute capability 9.0 (H100, H200); this device has " +
                       std::to_string(major) + "." + std::to_string(minor));
  }
  return traits;
}

}  // namespace bifocal::kernels::cuda
