#include "kernels/cuda/linear.h"

#include <map>
#include <tuple>

#include "kernels/cuda/cublaslt.h"
#include "kernels/cuda/elementwise.h"
#include "kernels/cuda/linear_measure.h"
#include "kernels/cuda/skinny_gemm.h"

namespace bifocal::kernels::cuda {
namespace {

// Up to here the skinny product is as fast as cuBLASLt's or faster (docs/benchmarks/h200-layer.md); with the
// gate, which saves a kernel, further.
constexpr int kSkinnyRuleM = 16;
constexpr int kSkinnyGatedRuleM = 32;
constexpr int kDeterministicM = 128;  // what one algorithm for every M is chosen for

// What an algorithm must be able to do, beside the shape.
enum class Flavour : uint8_t { plain, bias, f32 };

Flavour flavour_of(const LinearArgs& args) {
  if (args.out_dtype == DType::f32) return Flavour::f32;
  return args.bias != nullptr ? Flavour::bias : Flavour::plain;
}

}  // namespace

struct Linear::State {
  State(CublasLt library, LinearOptions chosen) : cublaslt(std::move(library)), options(std::move(chosen)) {}

  int bucket(int m) const { return options.deterministic ? 0 : linear_bucket(m); }

  // One algorithm for every M must be one that serves every M, so none of this when deterministic.
  bool takes_skinny(int m, int n, int k) const {
    if (options.deterministic || !skinny_serves(m, n, k)) return false;
    const LinearChoice* choice = options.table.find(bucket(m), n, k);
    return choice != nullptr ? choice->kind == LinearKind::skinny : m <= kSkinnyRuleM;
  }
  bool takes_skinny_gated(const GatedLinearArgs& args) const {
    return !options.deterministic && args.m <= kSkinnyGatedRuleM &&
           skinny_serves_gated(args.m, args.inner, args.k);
  }

  // cuBLASLt's algorithm for a shape: measured, or the library's first guess, asked for once.
  Expected<CublasLtAlgorithm> algorithm(const LinearArgs& args) {
    const Flavour flavour = flavour_of(args);
    if (const LinearChoice* choice = options.table.find(bucket(args.m), args.n, args.k);
        choice != nullptr && choice->kind == LinearKind::cublaslt && flavour == Flavour::plain &&
        options.table.cublaslt_version == cublaslt.version()) {
      return choice->algorithm;
    }
    const auto key = std::make_tuple(bucket(args.m), args.n, args.k, flavour);
    if (const auto known = guesses.find(key); known != guesses.end()) return known->second;
    LinearArgs typical = args;
    typical.m = options.deterministic ? kDeterministicM : bucket(args.m);
    BIFOCAL_ASSIGN_OR_RETURN(const auto found, cublaslt.candidates(typical, !options.deterministic, 1));
    guesses[key] = found.front();
    return found.front();
  }

  CublasLt cublaslt;
  LinearOptions options;
  int num_sms = 0;
  DeviceMemory skinny_workspace;
  DeviceMemory cublaslt_workspace;
  std::map<std::tuple<int, int, int, Flavour>, CublasLtAlgorithm> guesses;
};

Expected<Linear> Linear::create(const LinearOptions& options) {
  BIFOCAL_ASSIGN_OR_RETURN(const DeviceTraits device, current_device());
  BIFOCAL_ASSIGN_OR_RETURN(CublasLt library, CublasLt::load());
  auto state = std::make_unique<State>(std::move(library), options);
  state->num_sms = device.num_sms;
  const auto bytes = static_cast<size_t>(skinny_workspace_bytes(device.num_sms));
  BIFOCAL_ASSIGN_OR_RETURN(state->skinny_workspace, DeviceMemory::allocate(bytes));
  BIFOCAL_ASSIGN_OR_RETURN(state->cublaslt_workspace, DeviceMemory::allocate(CublasLt::kWorkspaceBytes));
  BIFOCAL_RETURN_IF_ERROR(
      to_status(cudaMemset(state->skinny_workspace.as<void>(), 0, bytes), "clearing a workspace"));
  return Linear(std::move(state));
}

Linear::Linear(std::unique_ptr<State> state) : state_(std::move(state)) {}
Linear::Linear(Linear&&) noexcept = default;
Linear& Linear::operator=(Linear&&) noexcept = default;
Linear::~Linear() = default;

Status Linear::run(const LinearArgs& args, const LaunchOptions& launch) {
  if (args.m == 0) return {};
  if (state_->takes_skinny(args.m, args.n, args.k)) {
    return run_skinny(args, state_->skinny_workspace.as<void>(), state_->num_sms, launch);
  }
  BIFOCAL_ASSIGN_OR_RETURN(const CublasLtAlgorithm algorithm, state_->algorithm(args));
  return state_->cublaslt.run(args, algorithm, state_->cublaslt_workspace.as<void>(), launch);
}

Status Linear::run_gated(const GatedLinearArgs& args, const LaunchOptions& launch) {
  if (args.m == 0) return {};
  if (state_->takes_skinny_gated(args)) {
    return run_skinny_gated(args, state_->skinny_workspace.as<void>(), state_->num_sms, launch);
  }
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
  if (state_->takes_skinny(m, n, k)) return "skinny";
  LinearArgs args;
  args.m = m;
  args.n = n;
  args.k = k;
  const auto algorithm = state_->algorithm(args);
  return algorithm.ok() ? state_->cublaslt.describe(*algorithm) : algorithm.status().message();
}

Status Linear::measure(int m, int n, int k) {
  State& state = *state_;
  LinearCandidates candidates;
  candidates.m = state.options.deterministic ? kDeterministicM : m;
  candidates.n = n;
  candidates.k = k;
  candidates.deterministic = state.options.deterministic;
  candidates.num_sms = state.num_sms;
  candidates.skinny_workspace = state.skinny_workspace.as<void>();
  candidates.cublaslt_workspace = state.cublaslt_workspace.as<void>();
  BIFOCAL_ASSIGN_OR_RETURN(LinearChoice choice, measure_linear(candidates, state.cublaslt));
  choice.m_bucket = state.bucket(m);
  if (state.options.table.cublaslt_version != state.cublaslt.version()) {
    state.options.table = {state.cublaslt.version(), {}};
  }
  state.options.table.add(choice);
  return {};
}

const LinearTable& Linear::table() const {
  return state_->options.table;
}

}  // namespace bifocal::kernels::cuda
