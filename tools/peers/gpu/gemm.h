// The limit of kernels that multiply: a large matrix product by cuBLAS, found at run time.
#pragma once

#include <memory>
#include <string>

#include <cuda_runtime_api.h>

namespace bifocal::peers {

// C = A B', bf16 in and out, f32 accumulation, all kSize x kSize, random data.
class Gemm {
 public:
  static constexpr int kSize = 8192;
  // Null when there is no cuBLAS; `why` then says so.
  static std::unique_ptr<Gemm> load(std::string* why);
  ~Gemm();
  void run(cudaStream_t stream) const;
  static double flops() { return 2.0 * kSize * kSize * kSize; }

 private:
  struct Library;
  explicit Gemm(std::unique_ptr<Library> library);
  std::unique_ptr<Library> library_;
};

}  // namespace bifocal::peers
