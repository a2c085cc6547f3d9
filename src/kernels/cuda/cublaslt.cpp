#include "kernels/cuda/cublaslt.h"

#include <cublasLt.h>

#include <algorithm>
#include <cstring>

#include "kernels/cuda/linear.h"
#include "kernels/cuda/shared_library.h"

namespace bifocal::kernels::cuda {

struct CublasLt::Library {
  decltype(&cublasLtCreate) create = nullptr;
  decltype(&cublasLtDestroy) destroy = nullptr;
  decltype(&cublasLtGetVersion) get_version = nullptr;
  decltype(&cublasLtMatmul) matmul = nullptr;
  decltype(&cublasLtMatmulAlgoGetHeuristic) get_heuristic = nullptr;
  decltype(&cublasLtMatmulAlgoConfigGetAttribute) get_config = nullptr;
  decltype(&cublasLtMatmulAlgoConfigSetAttribute) set_config = nullptr;
  decltype(&cublasLtMatmulDescInit_internal) init_desc = nullptr;
  decltype(&cublasLtMatmulDescSetAttribute) set_desc = nullptr;
  decltype(&cublasLtMatrixLayoutInit_internal) init_layout = nullptr;
  decltype(&cublasLtMatmulPreferenceInit_internal) init_preference = nullptr;
  decltype(&cublasLtMatmulPreferenceSetAttribute) set_preference = nullptr;
  cublasLtHandle_t handle = nullptr;

  ~Library() {
    if (handle != nullptr) destroy(handle);
  }
};

namespace {

static_assert(sizeof(cublasLtMatmulAlgo_t) == sizeof(CublasLtAlgorithm));

Status to_status(cublasStatus_t status, const char* what) {
  if (status == CUBLAS_STATUS_SUCCESS) return {};
  return internal_error(std::string("cuBLASLt: ") + what + " failed with error " +
                        std::to_string(static_cast<int>(status)));
}

// The library counts in columns: its D [N, M] = W' [N, K] x' [K, M] with leading dimensions N, K, K is our
// out = x W' by rows.
struct Problem {
  cublasLtMatmulDescOpaque_t desc{};
  cublasLtMatrixLayoutOpaque_t w{};
  cublasLtMatrixLayoutOpaque_t x{};
  cublasLtMatrixLayoutOpaque_t out{};
};

template <class Library>
Status describe_problem(const Library& lib, const LinearArgs& args, Problem* problem) {
  if (args.out_dtype != DType::bf16 && args.out_dtype != DType::f32) {
    return unsupported("matrix product on the GPU: the result must be bf16 or f32");
  }
  if (args.out_dtype == DType::f32 && (args.bias != nullptr || args.residual != nullptr)) {
    return unsupported("matrix product on the GPU: an f32 result takes neither bias nor residual");
  }
  if (args.m <= 0 || args.n <= 0 || args.k <= 0 || args.k % 8 != 0) {
    return invalid_argument("matrix product on the GPU: M, N positive and K a multiple of 8, got " +
                            std::to_string(args.m) + ", " + std::to_string(args.n) + ", " +
                            std::to_string(args.k));
  }
  const auto size = [](int n) { return static_cast<uint64_t>(n); };
  const cudaDataType out_type = args.out_dtype == DType::f32 ? CUDA_R_32F : CUDA_R_16BF;
  BIFOCAL_RETURN_IF_ERROR(
      to_status(lib.init_desc(&problem->desc, sizeof(problem->desc), CUBLAS_COMPUTE_32F, CUDA_R_32F),
                "describing a product"));
  const auto set = [&](cublasLtMatmulDescAttributes_t attribute, const auto& value) {
    return to_status(lib.set_desc(&problem->desc, attribute, &value, sizeof(value)), "describing a product");
  };
  const cublasOperation_t transposed = CUBLAS_OP_T;
  BIFOCAL_RETURN_IF_ERROR(set(CUBLASLT_MATMUL_DESC_TRANSA, transposed));
  if (args.bias != nullptr) {
    const cublasLtEpilogue_t epilogue = CUBLASLT_EPILOGUE_BIAS;
    BIFOCAL_RETURN_IF_ERROR(set(CUBLASLT_MATMUL_DESC_EPILOGUE, epilogue));
    BIFOCAL_RETURN_IF_ERROR(set(CUBLASLT_MATMUL_DESC_BIAS_POINTER, args.bias));
  }
  const auto layout = [&](cublasLtMatrixLayoutOpaque_t& matrix, cudaDataType type, int rows, int columns) {
    return to_status(lib.init_layout(&matrix, sizeof(matrix), type, size(rows), size(columns), rows),
                     "describing a matrix");
  };
  BIFOCAL_RETURN_IF_ERROR(layout(problem->w, CUDA_R_16BF, args.k, args.n));
  BIFOCAL_RETURN_IF_ERROR(layout(problem->x, CUDA_R_16BF, args.k, args.m));
  return layout(problem->out, out_type, args.n, args.m);
}

cublasLtMatmulAlgo_t to_library(const CublasLtAlgorithm& algorithm) {
  cublasLtMatmulAlgo_t algo;
  std::memcpy(&algo, algorithm.data(), sizeof(algo));
  return algo;
}

CublasLtAlgorithm from_library(const cublasLtMatmulAlgo_t& algo) {
  CublasLtAlgorithm algorithm;
  std::memcpy(algorithm.data(), &algo, sizeof(algorithm));
  return algorithm;
}

}  // namespace

Expected<CublasLt> CublasLt::load() {
  auto library = SharedLibrary::open("libcublasLt.so.13");
  if (!library.ok()) return library.status().with_context("cuBLASLt of CUDA 13 was not found");
  auto lib = std::make_unique<Library>();
  library->find(lib->create, "cublasLtCreate");
  library->find(lib->destroy, "cublasLtDestroy");
  library->find(lib->get_version, "cublasLtGetVersion");
  library->find(lib->matmul, "cublasLtMatmul");
  library->find(lib->get_heuristic, "cublasLtMatmulAlgoGetHeuristic");
  library->find(lib->get_config, "cublasLtMatmulAlgoConfigGetAttribute");
  library->find(lib->set_config, "cublasLtMatmulAlgoConfigSetAttribute");
  library->find(lib->init_desc, "cublasLtMatmulDescInit_internal");
  library->find(lib->set_desc, "cublasLtMatmulDescSetAttribute");
  library->find(lib->init_layout, "cublasLtMatrixLayoutInit_internal");
  library->find(lib->init_preference, "cublasLtMatmulPreferenceInit_internal");
  library->find(lib->set_preference, "cublasLtMatmulPreferenceSetAttribute");
  BIFOCAL_RETURN_IF_ERROR(library->check_complete());
  BIFOCAL_RETURN_IF_ERROR(to_status(lib->create(&lib->handle), "creating a handle"));
  return CublasLt(std::move(lib));
}

CublasLt::CublasLt(std::unique_ptr<Library> library) : library_(std::move(library)) {}
CublasLt::CublasLt(CublasLt&&) noexcept = default;
CublasLt& CublasLt::operator=(CublasLt&&) noexcept = default;
CublasLt::~CublasLt() = default;

uint64_t CublasLt::version() const {
  return library_->get_version();
}

Expected<std::vector<CublasLtAlgorithm>> CublasLt::candidates(const LinearArgs& args, bool split_k,
                                                              int count) const {
  // Parts of K are added in f32 or not at all: the other schemes round each part to the result's type.
  const auto cut = propose(args, CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE, count);
  auto proposed = split_k ? cut : propose(args, CUBLASLT_REDUCTION_SCHEME_NONE, count);
  if (!proposed.ok() || !cut.ok()) return proposed;
  // Where the library would cut K, small tiles only come with that, and without it they are often faster.
  std::vector<CublasLtAlgorithm> algorithms = *std::move(proposed);
  for (const CublasLtAlgorithm& algorithm : *cut) {
    const auto whole = uncut(algorithm);
    if (!whole || std::find(algorithms.begin(), algorithms.end(), *whole) != algorithms.end()) continue;
    algorithms.push_back(*whole);
  }
  return algorithms;
}

std::optional<CublasLtAlgorithm> CublasLt::uncut(const CublasLtAlgorithm& algorithm) const {
  cublasLtMatmulAlgo_t algo = to_library(algorithm);
  const auto set = [&](cublasLtMatmulAlgoConfigAttributes_t attribute, uint32_t value) {
    return library_->set_config(&algo, attribute, &value, sizeof(value)) == CUBLAS_STATUS_SUCCESS;
  };
  if (!set(CUBLASLT_ALGO_CONFIG_SPLITK_NUM, 1)) return std::nullopt;
  if (!set(CUBLASLT_ALGO_CONFIG_REDUCTION_SCHEME, CUBLASLT_REDUCTION_SCHEME_NONE)) return std::nullopt;
  return from_library(algo);
}

Expected<std::vector<CublasLtAlgorithm>> CublasLt::propose(const LinearArgs& args, uint32_t schemes,
                                                           int count) const {
  const Library& lib = *library_;
  Problem problem;
  BIFOCAL_RETURN_IF_ERROR(describe_problem(lib, args, &problem));
  cublasLtMatmulPreferenceOpaque_t preference{};
  BIFOCAL_RETURN_IF_ERROR(
      to_status(lib.init_preference(&preference, sizeof(preference)), "stating a preference"));
  const size_t workspace = kWorkspaceBytes;
  BIFOCAL_RETURN_IF_ERROR(to_status(lib.set_preference(&preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES,
                                                       &workspace, sizeof(workspace)),
                                    "stating a preference"));
  BIFOCAL_RETURN_IF_ERROR(to_status(
      lib.set_preference(&preference, CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, &schemes, sizeof(schemes)),
      "stating a preference"));
  std::vector<cublasLtMatmulHeuristicResult_t> found(static_cast<size_t>(count));
  int num_found = 0;
  const cublasStatus_t status =
      lib.get_heuristic(lib.handle, &problem.desc, &problem.w, &problem.x, &problem.out, &problem.out,
                        &preference, count, found.data(), &num_found);
  std::vector<CublasLtAlgorithm> algorithms;
  for (int i = 0; status == CUBLAS_STATUS_SUCCESS && i < num_found; ++i) {
    const auto& result = found[static_cast<size_t>(i)];
    if (result.state == CUBLAS_STATUS_SUCCESS) algorithms.push_back(from_library(result.algo));
  }
  if (algorithms.empty()) {
    return unsupported("cuBLASLt has no algorithm for M " + std::to_string(args.m) + ", N " +
                       std::to_string(args.n) + ", K " + std::to_string(args.k));
  }
  return algorithms;
}

Status CublasLt::run(const LinearArgs& args, const CublasLtAlgorithm& algorithm, void* workspace,
                     const LaunchOptions& launch) const {
  const Library& lib = *library_;
  Problem problem;
  BIFOCAL_RETURN_IF_ERROR(describe_problem(lib, args, &problem));
  const cublasLtMatmulAlgo_t algo = to_library(algorithm);
  const float one = 1.0F;
  const float beta = args.residual != nullptr ? 1.0F : 0.0F;
  const void* added = args.residual != nullptr ? args.residual : args.out;
  return to_status(
      lib.matmul(lib.handle, &problem.desc, &one, args.w, &problem.w, args.x, &problem.x, &beta, added,
                 &problem.out, args.out, &problem.out, &algo, workspace, kWorkspaceBytes, launch.stream),
      "a product");
}

std::string CublasLt::describe(const CublasLtAlgorithm& algorithm) const {
  const cublasLtMatmulAlgo_t algo = to_library(algorithm);
  const auto get = [&](cublasLtMatmulAlgoConfigAttributes_t attribute) {
    uint32_t value = 0;
    size_t written = 0;
    const cublasStatus_t status = library_->get_config(&algo, attribute, &value, sizeof(value), &written);
    return status == CUBLAS_STATUS_SUCCESS ? std::to_string(value) : std::string("?");
  };
  return "cublaslt " + get(CUBLASLT_ALGO_CONFIG_ID) + " tile " + get(CUBLASLT_ALGO_CONFIG_TILE_ID) +
         " stages " + get(CUBLASLT_ALGO_CONFIG_STAGES_ID) + " split " + get(CUBLASLT_ALGO_CONFIG_SPLITK_NUM) +
         " scheme " + get(CUBLASLT_ALGO_CONFIG_REDUCTION_SCHEME);
}

}  // namespace bifocal::kernels::cuda
