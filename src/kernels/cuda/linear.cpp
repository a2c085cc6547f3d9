#include "kernels/cuda/linear.h"

#include <algorithm>
#include <array>
#include <map>
#include <tuple>

#include "base/log.h"
#include "kernels/cuda/cublaslt.h"
#include "kernels/cuda/elementwise.h"
#include "kernels/cuda/linear_in_order.h"
#include "kernels/cuda/linear_measure.h"
#include "kernels/cuda/order_check.h"
#include "kernels/cuda/skinny_chain.h"
#include "kernels/cuda/skinny_gemm.h"
#include "kernels/cuda/skinny_link.h"
#include "kernels/cuda/unwritten_byte.h"

namespace bifocal::kernels::cuda {
namespace {

// Up to here the skinny product is as fast as cuBLASLt's or faster (docs/benchmarks/h200-layer.md); with the
// gate, which saves a kernel, further.
constexpr int kSkinnyRuleM = 32;
constexpr int kSkinnyGatedRuleM = 64;
constexpr int kOneForAllM = 128;  // what one algorithm for every M is guessed for

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

// `byte` everywhere.
Expected<DeviceMemory> filled(int64_t bytes, int byte) {
  BIFOCAL_ASSIGN_OR_RETURN(DeviceMemory memory, DeviceMemory::allocate(static_cast<size_t>(bytes)));
  BIFOCAL_RETURN_IF_ERROR(
      to_status(cudaMemset(memory.as<void>(), byte, memory.bytes()), "filling a workspace"));
  return memory;
}

}  // namespace

struct Linear::State {
  State(CublasLt library, LinearOptions chosen) : cublaslt(std::move(library)), options(std::move(chosen)) {}

  const LinearChoice* measured(int m, int n, int k, bool gated) const {
    return options.table.find({linear_bucket(m), n, k, gated});
  }

  // The skinny product may add parts of K, so none by rule when deterministic.
  bool takes_skinny(int m, int n, int k, bool gated) const {
    const bool serves = gated ? skinny_serves_gated(m, n / 2, k) : skinny_serves(m, n, k);
    if (options.deterministic || !serves) return false;
    const LinearChoice* choice = measured(m, n, k, gated);
    if (choice != nullptr) return choice->kind == LinearKind::skinny;
    return m <= (gated ? kSkinnyGatedRuleM : kSkinnyRuleM);
  }

  // A chain multiplies sums by a norm's factor where others multiply x, so none when deterministic.
  bool takes_chain(const LinearChain& chain) const {
    return options.chains && !options.deterministic && skinny_chain_serves(chain);
  }

  // cuBLASLt's algorithm for a shape: measured, or the library's first guess, asked for once.
  Expected<CublasLtAlgorithm> algorithm(const LinearArgs& args, bool gated) {
    const Flavour flavour = flavour_of(args);
    if (const LinearChoice* choice = measured(args.m, args.n, args.k, gated);
        !options.deterministic && choice != nullptr && choice->kind == LinearKind::cublaslt &&
        flavour == Flavour::plain) {
      return choice->algorithm;
    }
    const int bucket = options.deterministic ? 0 : linear_bucket(args.m);
    const auto key = std::make_tuple(bucket, args.n, args.k, flavour);
    if (const auto known = guesses.find(key); known != guesses.end()) return known->second;
    LinearArgs typical = args;
    typical.m = options.deterministic ? kOneForAllM : bucket;
    BIFOCAL_ASSIGN_OR_RETURN(const auto found, cublaslt.candidates(typical, !options.deterministic, 1));
    guesses[key] = found.front();
    return found.front();
  }

  Status run_cublaslt(const LinearArgs& args, const CublasLtAlgorithm& chosen, const LaunchOptions& launch) {
    return cublaslt.run(args, chosen, cublaslt_workspace.as<void>(), launch);
  }

  bool takes_link(const LinearArgs& args) const {
    return args.m <= kLinkMaxM && args.out_dtype == DType::bf16 && in_order.has(args);
  }

  // A prepared product of deterministic mode.
  Status run_in_order(const LinearArgs& args, const LaunchOptions& launch) {
    if (args.residual != nullptr && args.residual == args.out) {
      return invalid_argument("a deterministic product can't add to its residual in place");
    }
    if (takes_link(args)) return run_skinny_link(args, num_sms, launch);
    BIFOCAL_ASSIGN_OR_RETURN(const LinearChoice choice, in_order.choice(args));
    if (choice.kind == LinearKind::cublaslt) return run_cublaslt(args, choice.algorithm, launch);
    return run_skinny(args, skinny_workspace.as<void>(), num_sms, launch);
  }

  // gated: of run_gated.
  Status run_product(const LinearArgs& args, bool gated, const LaunchOptions& launch) {
    if (in_order.has(args)) return run_in_order(args, launch);
    BIFOCAL_ASSIGN_OR_RETURN(const CublasLtAlgorithm chosen, algorithm(args, gated));
    return run_cublaslt(args, chosen, launch);
  }

  OrderedDevice device_of() const {
    return {&cublaslt, num_sms, skinny_workspace.as<void>(), cublaslt_workspace.as<void>()};
  }

  CublasLt cublaslt;
  LinearOptions options;
  std::string device;
  int num_sms = 0;
  DeviceMemory skinny_workspace;
  DeviceMemory chain_workspace;
  DeviceMemory cublaslt_workspace;
  std::map<std::tuple<int, int, int, Flavour>, CublasLtAlgorithm> guesses;
  InOrderProducts in_order;
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
  BIFOCAL_ASSIGN_OR_RETURN(state->skinny_workspace,
                           filled(skinny_workspace_bytes(device.num_sms), kUnwrittenByte));
  BIFOCAL_ASSIGN_OR_RETURN(state->chain_workspace, filled(skinny_chain_workspace_bytes(device.num_sms), 0));
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
  return state_->run_product(args, false, launch);
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
  BIFOCAL_RETURN_IF_ERROR(state_->run_product(product, true, launch));
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

void Linear::prepare(const LinearProduct& product) {
  if (!state_->options.deterministic) return;
  const Status status = state_->in_order.prepare(product, state_->options.table, state_->device_of());
  if (status.ok()) return;
  log_warn("deterministic products of N {}, K {}: one algorithm for every number of rows, since {}",
           product.n, product.k, status.message());
}

std::string Linear::describe(int m, int n, int k, bool gated) {
  if (state_->takes_skinny(m, n, k, gated)) return "skinny";
  LinearArgs args;
  args.m = m;
  args.n = n;
  args.k = k;
  if (state_->takes_link(args)) return "one link";
  if (state_->in_order.has(args)) {
    const auto choice = state_->in_order.choice(args);
    if (!choice.ok()) return choice.status().message();
    return choice->kind == LinearKind::skinny ? "skinny" : state_->cublaslt.describe(choice->algorithm);
  }
  const auto algorithm = state_->algorithm(args, gated);
  return algorithm.ok() ? state_->cublaslt.describe(*algorithm) : algorithm.status().message();
}

Expected<LinearMeasured> Linear::measure(int m, int n, int k, bool gated) {
  State& state = *state_;
  const LinearProduct product{m, n, k, gated};
  const auto time = [&]() -> Expected<LinearMeasured> {
    if (state.options.deterministic) return measure_in_order(product, state.device_of());
    LinearCandidates candidates;
    candidates.product = product;
    candidates.guess_rows = {m, m / 2 + 1, 2 * m};
    candidates.num_sms = state.num_sms;
    candidates.skinny_workspace = state.skinny_workspace.as<void>();
    candidates.cublaslt_workspace = state.cublaslt_workspace.as<void>();
    return measure_linear(candidates, state.cublaslt);
  };
  BIFOCAL_ASSIGN_OR_RETURN(const LinearMeasured measured, time());
  state.options.table.device = state.device;
  state.options.table.cublaslt_version = state.cublaslt.version();
  state.options.table.add(measured.choice);
  return measured;
}

const LinearTable& Linear::table() const {
  return state_->options.table;
}

}  // namespace bifocal::kernels::cuda
