#include "kernels/cuda/linear.h"

#include <array>
#include <map>
#include <tuple>

#include "base/log.h"
#include "kernels/cuda/cublaslt.h"
#include "kernels/cuda/elementwise.h"
#include "kernels/cuda/linear_measure.h"
#include "kernels/cuda/skinny_chain.h"
#include "kernels/cuda/skinny_gemm.h"

namespace bifocal::kernels::cuda {
namespace {

// Up to here the skinny product is as fast as cuBLASLt's or faster (docs/benchmarks/h200-layer.md); with the
// gate, which saves a kernel, further.
constexpr int kSkinnyRuleM = 16;
constexpr int kSkinnyGatedRuleM = 32;
constexpr int kDeterministicM = 128;  // what one algorithm for every M is guessed for
// What it is measured for: 3,500 tokens in and 1,500 out, 32 requests at a time, prompts by 2,048.
constexpr std::array<TimedRows, 2> kDeterministicMix = {{{32, 28.0}, {2048, 1.0}}};

// What an algorithm must be able to do, beside the shape.
enum class Flavour : uint8_t { plain, bias, f32 };

Flavour flavour_of(const LinearArgs& args) {
  if (args.out_dtype == DType::f32) return Flavour::f32;
  return args.bias != nullptr ? Flavour::bias : Flavour::plain;
}

// What the arguments of both kinds of product have in common.
template <class Args>
Args as_product(const LinearLink& link, int m) {
  Args args;
  args.x = link.x;
  args.w = link.w;
  args.m = m;
  args.k = link.k;
  args.bias = link.bias;
  args.out = link.out;
  return args;
}

LinearArgs as_plain(const LinearLink& link, int m) {
  auto args = as_product<LinearArgs>(link, m);
  args.n = link.n;
  args.residual = link.residual;
  return args;
}

GatedLinearArgs as_gated(const LinearLink& link, int m) {
  auto args = as_product<GatedLinearArgs>(link, m);
  args.inner = link.n;
  args.wide = link.wide;
  return args;
}

Expected<DeviceMemory> zeros(int64_t bytes) {
  BIFOCAL_ASSIGN_OR_RETURN(DeviceMemory memory, DeviceMemory::allocate(static_cast<size_t>(bytes)));
  BIFOCAL_RETURN_IF_ERROR(
      to_status(cudaMemset(memory.as<void>(), 0, memory.bytes()), "clearing a workspace"));
  return memory;
}

}  // namespace

struct Linear::State {
  State(CublasLt library, LinearOptions chosen) : cublaslt(std::move(library)), options(std::move(chosen)) {}

  int bucket(int m) const { return options.deterministic ? 0 : linear_bucket(m); }

  const LinearChoice* measured(int m, int n, int k, bool gated) const {
    return options.table.find({bucket(m), n, k, gated});
  }

  // One algorithm for every M must be one that serves every M, so none of this when deterministic.
  bool takes_skinny(int m, int n, int k, bool gated) const {
    const bool serves = gated ? skinny_serves_gated(m, n / 2, k) : skinny_serves(m, n, k);
    if (options.deterministic || !serves) return false;
    const LinearChoice* choice = measured(m, n, k, gated);
    if (choice != nullptr) return choice->kind == LinearKind::skinny;
    return m <= (gated ? kSkinnyGatedRuleM : kSkinnyRuleM);
  }

  bool takes_chain(const LinearChain& chain) const {
    return options.chains && !options.deterministic && skinny_chain_serves(chain);
  }

  // cuBLASLt's algorithm for a shape: measured, or the library's first guess, asked for once.
  Expected<CublasLtAlgorithm> algorithm(const LinearArgs& args, bool gated) {
    const Flavour flavour = flavour_of(args);
    if (const LinearChoice* choice = measured(args.m, args.n, args.k, gated);
        choice != nullptr && choice->kind == LinearKind::cublaslt && flavour == Flavour::plain) {
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

  Status run_cublaslt(const LinearArgs& args, bool gated, const LaunchOptions& launch) {
    BIFOCAL_ASSIGN_OR_RETURN(const CublasLtAlgorithm chosen, algorithm(args, gated));
    return cublaslt.run(args, chosen, cublaslt_workspace.as<void>(), launch);
  }

  CublasLt cublaslt;
  LinearOptions options;
  std::string device;
  int num_sms = 0;
  DeviceMemory skinny_workspace;
  DeviceMemory chain_workspace;
  DeviceMemory cublaslt_workspace;
  std::map<std::tuple<int, int, int, Flavour>, CublasLtAlgorithm> guesses;
};

Expected<Linear> Linear::create(const LinearOptions& options) {
  BIFOCAL_ASSIGN_OR_RETURN(const DeviceTraits device, current_device());
  BIFOCAL_ASSIGN_OR_RETURN(CublasLt library, CublasLt::load());
  auto state = std::make_unique<State>(std::move(library), options);
  state->num_sms = device.num_sms;
  state->device = device.name;
  if (const LinearTable& table = options.table; !table.choices.empty()) {
    const Status fits = check_linear_table(table, device.name, state->cublaslt.version());
    if (!fits.ok()) {
      log_warn("the measured table of matrix products is not used: {}", fits.message());
      state->options.table = {};
    }
  }
  BIFOCAL_ASSIGN_OR_RETURN(state->skinny_workspace, zeros(skinny_workspace_bytes(device.num_sms)));
  BIFOCAL_ASSIGN_OR_RETURN(state->chain_workspace, zeros(skinny_chain_workspace_bytes(device.num_sms)));
  BIFOCAL_ASSIGN_OR_RETURN(state->cublaslt_workspace, DeviceMemory::allocate(CublasLt::kWorkspaceBytes));
  return Linear(std::move(state));
}

Linear::Linear(std::unique_ptr<State> state) : state_(std::move(state)) {}
Linear::Linear(Linear&&) noexcept = default;
Linear& Linear::operator=(Linear&&) noexcept = default;
Linear::~Linear() = default;

Status Linear::run(const LinearArgs& args, const LaunchOptions& launch) {
  if (args.m == 0) return {};
  if (state_->takes_skinny(args.m, args.n, args.k, false)) {
    return run_skinny(args, state_->skinny_workspace.as<void>(), state_->num_sms, launch);
  }
  return state_->run_cublaslt(args, false, launch);
}

Status Linear::run_gated(const GatedLinearArgs& args, const LaunchOptions& launch) {
  if (args.m == 0) return {};
  if (state_->takes_skinny(args.m, 2 * args.inner, args.k, true)) {
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
  BIFOCAL_RETURN_IF_ERROR(state_->run_cublaslt(product, true, launch));
  SiluMul gate;
  gate.gate_up = args.wide;
  gate.out = args.out;
  gate.num_rows = args.m;
  gate.dim = args.inner;
  return silu_mul(gate, launch);
}

Status Linear::run_chain(const LinearChain& chain, const LaunchOptions& launch) {
  if (chain.m == 0) return {};
  if (state_->takes_chain(chain)) {
    return run_skinny_chain(chain, state_->chain_workspace.as<void>(), state_->num_sms, launch);
  }
  for (const LinearLink& link : chain.view()) {
    BIFOCAL_RETURN_IF_ERROR(link.gated ? run_gated(as_gated(link, chain.m), launch)
                                       : run(as_plain(link, chain.m), launch));
    if (link.norm == nullptr) continue;
    RmsNorm norm;
    norm.residual = link.out;
    norm.w = link.norm;
    norm.out = link.normed;
    norm.eps = chain.norm_eps;
    norm.num_rows = chain.m;
    norm.dim = link.n;
    BIFOCAL_RETURN_IF_ERROR(rms_norm(norm, launch));
  }
  return {};
}

std::string Linear::describe(int m, int n, int k, bool gated) {
  if (state_->takes_skinny(m, n, k, gated)) return "skinny";
  LinearArgs args;
  args.m = m;
  args.n = n;
  args.k = k;
  const auto algorithm = state_->algorithm(args, gated);
  return algorithm.ok() ? state_->cublaslt.describe(*algorithm) : algorithm.status().message();
}

Expected<LinearMeasured> Linear::measure(int m, int n, int k, bool gated) {
  State& state = *state_;
  LinearCandidates candidates;
  candidates.rows = {{m, 1.0}};
  candidates.guess_rows = {m, m / 2 + 1, 2 * m};
  candidates.n = n;
  candidates.k = k;
  candidates.gated = gated;
  candidates.deterministic = state.options.deterministic;
  if (candidates.deterministic) {
    candidates.rows.assign(kDeterministicMix.begin(), kDeterministicMix.end());
    candidates.guess_rows = {kDeterministicM, 16, 32, 64, 256, 512, 2048};
  }
  candidates.num_sms = state.num_sms;
  candidates.skinny_workspace = state.skinny_workspace.as<void>();
  candidates.cublaslt_workspace = state.cublaslt_workspace.as<void>();
  BIFOCAL_ASSIGN_OR_RETURN(LinearMeasured measured, measure_linear(candidates, state.cublaslt));
  measured.choice.shape.m_bucket = state.bucket(m);
  state.options.table.device = state.device;
  state.options.table.cublaslt_version = state.cublaslt.version();
  state.options.table.add(measured.choice);
  return measured;
}

const LinearTable& Linear::table() const {
  return state_->options.table;
}

}  // namespace bifocal::kernels::cuda
