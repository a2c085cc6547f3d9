#include "kernels/cuda/linear.h"

#include <map>
#include <tuple>

#include "kernels/cuda/cublaslt.h"
#include "kernels/cuda/elementwise.h"

namespace bifocal::kernels::cuda {
namespace {

// What an algorithm must be able to do, beside the shape.
enum class Flavour : uint8_t { plain, bias, f32 };

Flavour flavour_of(const LinearArgs& args) {
  if (args.out_dtype == DType::f32) return Flavour::f32;
  return args.bias != nullptr ? Flavour::bias : Flavour::plain;
}

}  // namespace

struct Linear::State {
  State(CublasLt library, LinearOptions chosen) : cublaslt(std::move(library)), options(std::move(chosen)) {}

  // The one algorithm of a shape: measured, or the library's first guess, asked for once.
  Expected<CublasLtAlgorithm> algorithm(const LinearArgs& args) {
    const int bucket = options.deterministic ? 0 : linear_bucket(args.m);
    const Flavour flavour = flavour_of(args);
    if (const LinearChoice* choice = options.table.find(bucket, args.n, args.k);
        choice != nullptr && choice->kind == LinearKind::cublaslt && flavour == Flavour::plain &&
        options.table.cublaslt_version == cublaslt.version()) {
      return choice->algorithm;
    }
    const auto key = std::make_tuple(bucket, args.n, args.k, flavour);
    if (const auto known = guesses.find(key); known != guesses.end()) return known->second;
    constexpr int kDeterministicM = 128;  // what one algorithm for every M is chosen for
    LinearArgs typical = args;
    typical.m = options.deterministic ? kDeterministicM : bucket;
    BIFOCAL_ASSIGN_OR_RETURN(const auto found, cublaslt.candidates(typical, !options.deterministic, 1));
    guesses[key] = found.front();
    return found.front();
  }

  CublasLt cublaslt;
  LinearOptions options;
  DeviceMemory workspace;
  std::map<std::tuple<int, int, int, Flavour>, CublasLtAlgorithm> guesses;
};

Expected<Linear> Linear::create(const LinearOptions& options) {
  BIFOCAL_RETURN_IF_ERROR(current_device().status());
  BIFOCAL_ASSIGN_OR_RETURN(CublasLt library, CublasLt::load());
  auto state = std::make_unique<State>(std::move(library), options);
  BIFOCAL_ASSIGN_OR_RETURN(state->workspace, DeviceMemory::allocate(CublasLt::kWorkspaceBytes));
  return Linear(std::move(state));
}

Linear::Linear(std::unique_ptr<State> state) : state_(std::move(state)) {}
Linear::Linear(Linear&&) noexcept = default;
Linear& Linear::operator=(Linear&&) noexcept = default;
Linear::~Linear() = default;

Status Linear::run(const LinearArgs& args, const LaunchOptions& launch) {
  if (args.m == 0) return {};
  BIFOCAL_ASSIGN_OR_RETURN(const CublasLtAlgorithm algorithm, state_->algorithm(args));
  return state_->cublaslt.run(args, algorithm, state_->workspace.as<void>(), launch);
}

Status Linear::run_gated(const GatedLinearArgs& args, const LaunchOptions& launch) {
  LinearArgs product;
  product.x = args.x;
  product.w = args.w;
  product.m = args.m;
  product.n = 2 * args.inner;
  product.k = args.k;
  product.bias = args.bias;
  product.out = args.wide;
  BIFOCAL_RETURN_IF_ERROR(run(product, launch));
  SiluMul gate;
  gate.gate_up = args.wide;
  gate.out = args.out;
  gate.num_rows = args.m;
  gate.dim = args.inner;
  return silu_mul(gate, launch);
}

std::string Linear::describe(int m, int n, int k) {
  LinearArgs args;
  args.m = m;
  args.n = n;
  args.k = k;
  const auto algorithm = state_->algorithm(args);
  return algorithm.ok() ? state_->cublaslt.describe(*algorithm) : algorithm.status().message();
}

const LinearTable& Linear::table() const {
  return state_->options.table;
}

}  // namespace bifocal::kernels::cuda
