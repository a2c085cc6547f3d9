#include "gemm.h"

#include <cublas_v2.h>
#include <dlfcn.h>

#include <cstdio>
#include <cstdlib>
#include <type_traits>
#include <utility>

#include "cold_read.h"
#include "kernels/cuda/device_memory.h"
#include "timing.h"

namespace bifocal::peers {

// cublasGemmEx is overloaded in C++; this is the library's own.
using GemmEx = cublasStatus_t (*)(cublasHandle_t, cublasOperation_t, cublasOperation_t, int, int, int,
                                  const void*, const void*, cudaDataType, int, const void*, cudaDataType, int,
                                  const void*, void*, cudaDataType, int, cublasComputeType_t,
                                  cublasGemmAlgo_t);

struct Gemm::Library {
  decltype(&cublasCreate) create = nullptr;
  decltype(&cublasDestroy) destroy = nullptr;
  decltype(&cublasSetStream) set_stream = nullptr;
  GemmEx gemm = nullptr;
  cublasHandle_t handle = nullptr;
  kernels::cuda::DeviceMemory memory;
  uint16_t* matrices = nullptr;  // A, B, C
};

namespace {

constexpr size_t kElements = size_t{Gemm::kSize} * Gemm::kSize;

void check_cublas(cublasStatus_t status) {
  if (status == CUBLAS_STATUS_SUCCESS) return;
  std::fprintf(stderr, "cuBLAS: error %d\n", static_cast<int>(status));
  std::exit(1);
}

}  // namespace

std::unique_ptr<Gemm> Gemm::load(std::string* why) {
  void* library = dlopen("libcublas.so.13", RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) {
    *why = dlerror();
    return nullptr;
  }
  auto functions = std::make_unique<Library>();
  const auto find = [&](auto& function, const char* name) {
    function = reinterpret_cast<std::remove_reference_t<decltype(function)>>(dlsym(library, name));
    return function != nullptr;
  };
  if (!find(functions->create, "cublasCreate_v2") || !find(functions->destroy, "cublasDestroy_v2") ||
      !find(functions->set_stream, "cublasSetStream_v2") || !find(functions->gemm, "cublasGemmEx")) {
    *why = dlerror();
    return nullptr;
  }
  check_cublas(functions->create(&functions->handle));
  auto memory = kernels::cuda::DeviceMemory::allocate(3 * kElements * sizeof(uint16_t));
  if (!memory.ok()) {
    *why = memory.status().message();
    return nullptr;
  }
  functions->memory = std::move(*memory);
  functions->matrices = functions->memory.as<uint16_t>();
  fill_random(functions->matrices, 2 * kElements, 17, 1.0F, nullptr);
  CUDA_OK(cudaDeviceSynchronize());
  return std::unique_ptr<Gemm>(new Gemm(std::move(functions)));
}

Gemm::Gemm(std::unique_ptr<Library> library) : library_(std::move(library)) {}

Gemm::~Gemm() {
  library_->destroy(library_->handle);
}

void Gemm::run(cudaStream_t stream) const {
  const float one = 1.0F;
  const float zero = 0.0F;
  const uint16_t* a = library_->matrices;
  check_cublas(library_->set_stream(library_->handle, stream));
  check_cublas(library_->gemm(library_->handle, CUBLAS_OP_T, CUBLAS_OP_N, kSize, kSize, kSize, &one, a,
                              CUDA_R_16BF, kSize, a + kElements, CUDA_R_16BF, kSize, &zero,
                              library_->matrices + 2 * kElements, CUDA_R_16BF, kSize, CUBLAS_COMPUTE_32F,
                              CUBLAS_GEMM_DEFAULT));
}

}  // namespace bifocal::peers
