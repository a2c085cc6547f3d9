// Matrix products by cuBLASLt, found at run time: the program starts on machines without it.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/status.h"

namespace bifocal::kernels::cuda {

struct LinearArgs;
struct LaunchOptions;

using CublasLtAlgorithm = std::array<uint64_t, 8>;  // the bytes of a cublasLtMatmulAlgo_t

class CublasLt {
 public:
  static constexpr size_t kWorkspaceBytes = size_t{32} << 20;

  static Expected<CublasLt> load();
  CublasLt(CublasLt&&) noexcept;
  CublasLt& operator=(CublasLt&&) noexcept;
  ~CublasLt();

  uint64_t version() const;

  // What the library proposes for a shape, best guess first, with split-K or without, `count` at most; behind
  // that its proposals with split-K, made to go along the whole of K. Some of those may not run.
  Expected<std::vector<CublasLtAlgorithm>> candidates(const LinearArgs& args, bool split_k, int count) const;

  // workspace: kWorkspaceBytes, 256-byte aligned.
  Status run(const LinearArgs& args, const CublasLtAlgorithm& algorithm, void* workspace,
             const LaunchOptions& launch) const;

  // "cublaslt 66 tile 15 stages 35 split 3 scheme 2": cuBLASLt's own numbers.
  std::string describe(const CublasLtAlgorithm& algorithm) const;

 private:
  // reduction schemes: a mask of what may add parts of K.
  Expected<std::vector<CublasLtAlgorithm>> propose(const LinearArgs& args, uint32_t reduction_schemes,
                                                   int count) const;
  std::optional<CublasLtAlgorithm> uncut(const CublasLtAlgorithm& algorithm) const;

  struct Library;
  explicit CublasLt(std::unique_ptr<Library> library);
  std::unique_ptr<Library> library_;
};

}  // namespace bifocal::kernels::cuda
