// Launching a kernel with its options; errors of the launch as Status.
#pragma once

#include <cuda_runtime.h>

#include <string_view>

#include "kernels/cuda/decode.h"
#include "kernels/cuda/device_memory.h"

namespace bifocal::kernels::cuda {

template <class... Params, class... Args>
Status launch_kernel(void (*kernel)(Params...), dim3 grid, int block, int smem_bytes,
                     const LaunchOptions& options, std::string_view what, const Args&... args) {
  cudaLaunchConfig_t config{};
  config.gridDim = grid;
  config.blockDim = dim3(static_cast<unsigned>(block));
  config.dynamicSmemBytes = static_cast<size_t>(smem_bytes);
  config.stream = options.stream;
  cudaLaunchAttribute attribute{};
  attribute.id = cudaLaunchAttributeProgrammaticStreamSerialization;
  attribute.val.programmaticStreamSerializationAllowed = 1;
  config.attrs = &attribute;
  config.numAttrs = options.programmatic ? 1 : 0;
  return to_status(cudaLaunchKernelEx(&config, kernel, args...), what);
}

// What plan_decode checks of its arguments.
Status check_batch(const DecodeDesc& desc, const DecodeBatch& batch, const DecodeBuffers& buffers);
DecodePart* parts_of_round(const DecodeBuffers& buffers, int round);
DecodeSequence* seqs_of_round(const DecodeBuffers& buffers, int round);

// log2 of the tiles in a page.
int page_tiles_log2(const DecodeDesc& desc);

// Rows of a unit rounded up to the columns of an mma: 8 or 16.
int padded_rows(const DecodeDesc& desc);

}  // namespace bifocal::kernels::cuda
