#include "kernels/cuda/linear_measure.h"

#include <algorithm>
#include <array>
#include <functional>
#include <vector>

#include "kernels/cuda/elementwise.h"
#include "kernels/cuda/linear.h"
#include "kernels/cuda/skinny_gemm.h"

namespace bifocal::kernels::cuda {
namespace {

constexpr int kGuesses = 12;  // of cuBLASLt
constexpr size_t kColdBytes = size_t{256} << 20;
constexpr size_t kMostCalls = 64;   // of a graph
constexpr int kReadingRows = 1024;  // beyond, it hardly matters where weights come from
constexpr size_t kReplays = 7;      // of so few rows, and
constexpr size_t kLongReplays = 3;  // of more

// Of our own product's time, what a step hides and this doesn't: its weights come while attention and the
// small kernels ahead of it run. Qwen3-8B's step of 16 rows takes 6 % longer where cuBLASLt, 1 us faster
// here, has all products.
constexpr double kHiddenUs = 2.0;

// A stream, a graph captured on it and two events.
class GraphTimer {
 public:
  ~GraphTimer() {
    if (exec_ != nullptr) cudaGraphExecDestroy(exec_);
    if (graph_ != nullptr) cudaGraphDestroy(graph_);
    for (cudaEvent_t event : events_) {
      if (event != nullptr) cudaEventDestroy(event);
    }
    if (stream_ != nullptr) cudaStreamDestroy(stream_);
  }

  Status open() {
    BIFOCAL_RETURN_IF_ERROR(to_status(cudaStreamCreate(&stream_), "creating a stream"));
    for (cudaEvent_t& event : events_) {
      BIFOCAL_RETURN_IF_ERROR(to_status(cudaEventCreate(&event), "creating an event"));
    }
    return {};
  }

  // Microseconds of a replay, the median.
  Expected<double> time(size_t replays, const std::function<Status(cudaStream_t)>& record) {
    BIFOCAL_RETURN_IF_ERROR(
        to_status(cudaStreamBeginCapture(stream_, cudaStreamCaptureModeThreadLocal), "capturing"));
    const Status recorded = record(stream_);
    const cudaError_t captured = cudaStreamEndCapture(stream_, &graph_);
    BIFOCAL_RETURN_IF_ERROR(recorded);
    BIFOCAL_RETURN_IF_ERROR(to_status(captured, "capturing"));
    BIFOCAL_RETURN_IF_ERROR(to_status(cudaGraphInstantiate(&exec_, graph_, 0), "building a graph"));
    std::vector<double> times(replays);
    for (double& us : times) {
      BIFOCAL_RETURN_IF_ERROR(to_status(cudaEventRecord(events_[0], stream_), "timing"));
      BIFOCAL_RETURN_IF_ERROR(to_status(cudaGraphLaunch(exec_, stream_), "launching a graph"));
      BIFOCAL_RETURN_IF_ERROR(to_status(cudaEventRecord(events_[1], stream_), "timing"));
      BIFOCAL_RETURN_IF_ERROR(to_status(cudaEventSynchronize(events_[1]), "running a graph"));
      float ms = 0.0F;
      BIFOCAL_RETURN_IF_ERROR(to_status(cudaEventElapsedTime(&ms, events_[0], events_[1]), "timing"));
      us = static_cast<double>(ms) * 1e3;
    }
    std::sort(times.begin(), times.end());
    return times[replays / 2];
  }

 private:
  cudaStream_t stream_ = nullptr;
  cudaGraph_t graph_ = nullptr;
  cudaGraphExec_t exec_ = nullptr;
  std::array<cudaEvent_t, 2> events_{};
};

// Random signs and mantissas with the exponent of 1/32: nothing overflows, and power is as with real weights.
Status fill(const DeviceMemory& memory) {
  RandomFill fill;
  fill.data = memory.as<void>();
  fill.num_bytes = static_cast<int64_t>(memory.bytes());
  fill.key = 1;
  fill.random_mask = 0x807F807F807F807FULL;
  fill.constant = 0x3D003D003D003D00ULL;
  return random_fill(fill, {});
}

// A product whose weights are other ones at every call, and its operands.
class Product {
 public:
  static Expected<Product> make(const LinearCandidates& candidates) {
    Product product(candidates);
    const auto bytes = [](int rows, int columns) {
      return static_cast<size_t>(rows) * static_cast<size_t>(columns) * 2;
    };
    const size_t weight_bytes = bytes(candidates.product.n, candidates.product.k);
    const bool reading = candidates.product.max_m <= kReadingRows;
    product.replays_ = reading ? kReplays : kLongReplays;
    product.copies_ = reading ? std::clamp<size_t>(kColdBytes / weight_bytes, 2, kMostCalls) : 1;
    BIFOCAL_ASSIGN_OR_RETURN(product.weights_, DeviceMemory::allocate(product.copies_ * weight_bytes));
    BIFOCAL_ASSIGN_OR_RETURN(product.x_,
                             DeviceMemory::allocate(bytes(candidates.product.max_m, candidates.product.k)));
    const size_t out_bytes = (candidates.product.out_dtype == DType::f32 ? 2 : 1) *
                             bytes(candidates.product.max_m, candidates.product.n);
    BIFOCAL_ASSIGN_OR_RETURN(product.out_, DeviceMemory::allocate(out_bytes));
    BIFOCAL_ASSIGN_OR_RETURN(product.inner_,
                             DeviceMemory::allocate(bytes(candidates.product.max_m, candidates.product.n)));
    BIFOCAL_ASSIGN_OR_RETURN(product.bias_, DeviceMemory::allocate(bytes(1, candidates.product.n)));
    BIFOCAL_RETURN_IF_ERROR(fill(product.bias_));
    BIFOCAL_RETURN_IF_ERROR(fill(product.weights_));
    BIFOCAL_RETURN_IF_ERROR(fill(product.x_));
    BIFOCAL_RETURN_IF_ERROR(to_status(cudaDeviceSynchronize(), "filling weights"));
    return product;
  }

  LinearArgs args(int m) const {
    LinearArgs args;
    args.x = x_.as<uint16_t>();
    args.w = weights_.as<uint16_t>();
    args.m = m;
    args.n = candidates_->product.n;
    args.k = candidates_->product.k;
    args.bias = candidates_->product.bias ? bias_.as<uint16_t>() : nullptr;
    args.out = out_.as<void>();
    args.out_dtype = candidates_->product.out_dtype;
    return args;
  }

  Expected<double> skinny_us() const {
    const bool fused = candidates_->product.gated && candidates_->admits == nullptr;
    return time([&](const LinearArgs& args, LaunchOptions launch) {
      launch.programmatic = true;  // as a decode step launches it
      void* workspace = candidates_->skinny_workspace;
      if (!fused) {
        BIFOCAL_RETURN_IF_ERROR(run_skinny(args, workspace, candidates_->num_sms, launch));
        return gate(args.m, launch);
      }
      GatedLinearArgs gated;
      gated.x = args.x;
      gated.w = args.w;
      gated.m = args.m;
      gated.inner = args.n / 2;
      gated.k = args.k;
      gated.out = inner_.as<uint16_t>();
      return run_skinny_gated(gated, workspace, candidates_->num_sms, launch);
    });
  }

  Expected<double> cublaslt_us(const CublasLt& cublaslt, const CublasLtAlgorithm& algorithm) const {
    return time([&](const LinearArgs& args, const LaunchOptions& launch) -> Status {
      BIFOCAL_RETURN_IF_ERROR(cublaslt.run(args, algorithm, candidates_->cublaslt_workspace, launch));
      return gate(args.m, launch);
    });
  }

 private:
  explicit Product(const LinearCandidates& candidates) : candidates_(&candidates) {}

  // What is behind the product of a gated one.
  Status gate(int m, const LaunchOptions& launch) const {
    if (!candidates_->product.gated) return {};
    SiluMul gate;
    gate.gate_up = out_.as<uint16_t>();
    gate.out = inner_.as<uint16_t>();
    gate.num_rows = m;
    gate.dim = candidates_->product.n / 2;
    return silu_mul(gate, launch);
  }

  Expected<double> time(const std::function<Status(const LinearArgs&, const LaunchOptions&)>& run) const {
    GraphTimer timer;
    BIFOCAL_RETURN_IF_ERROR(timer.open());
    BIFOCAL_ASSIGN_OR_RETURN(const double us, timer.time(replays_, [&](cudaStream_t stream) -> Status {
      LaunchOptions launch;
      launch.stream = stream;
      LinearArgs product = args(candidates_->product.max_m);
      const size_t elements = static_cast<size_t>(product.n) * static_cast<size_t>(product.k);
      for (size_t copy = 0; copy < copies_; ++copy, product.w += elements) {
        BIFOCAL_RETURN_IF_ERROR(run(product, launch));
      }
      return {};
    }));
    return us / static_cast<double>(copies_);
  }

  const LinearCandidates* candidates_;
  size_t copies_ = 0;
  size_t replays_ = 0;
  DeviceMemory weights_, x_, bias_, out_, inner_;
};

// What cuBLASLt proposes for any of the numbers of rows, each algorithm once.
Expected<std::vector<CublasLtAlgorithm>> guesses_of(const LinearCandidates& candidates,
                                                    const Product& product, const CublasLt& cublaslt) {
  std::vector<CublasLtAlgorithm> all;
  for (const int m : candidates.guess_rows) {
    BIFOCAL_ASSIGN_OR_RETURN(const auto guesses,
                             cublaslt.candidates(product.args(m), candidates.admits == nullptr, kGuesses));
    for (const CublasLtAlgorithm& guess : guesses) {
      if (std::find(all.begin(), all.end(), guess) == all.end()) all.push_back(guess);
    }
  }
  return all;
}

bool skinny_is_candidate(const LinearCandidates& c) {
  const LinearProduct& p = c.product;
  return p.gated && c.admits == nullptr ? skinny_serves_gated(p.max_m, p.n / 2, p.k)
                                        : skinny_serves(p.max_m, p.n, p.k);
}

}  // namespace

Expected<LinearMeasured> measure_linear(const LinearCandidates& candidates, const CublasLt& cublaslt) {
  BIFOCAL_ASSIGN_OR_RETURN(const Product product, Product::make(candidates));
  const LinearProduct& shape = candidates.product;
  LinearMeasured measured;
  std::vector<LinearChoice> timed;
  // Its time; 0 where it doesn't run.
  const auto offer = [&](LinearKind kind, const CublasLtAlgorithm& algorithm, const Expected<double>& us) {
    if (!us.ok()) return 0.0;
    LinearChoice& choice = timed.emplace_back();
    choice.kind = kind;
    choice.algorithm = algorithm;
    choice.us = *us;
    return *us;
  };
  if (skinny_is_candidate(candidates)) {
    measured.skinny_us = offer(LinearKind::skinny, {}, product.skinny_us());
  }
  BIFOCAL_ASSIGN_OR_RETURN(const auto guesses, guesses_of(candidates, product, cublaslt));
  for (const CublasLtAlgorithm& algorithm : guesses) {
    const double us = offer(LinearKind::cublaslt, algorithm, product.cublaslt_us(cublaslt, algorithm));
    if (measured.first_us == 0.0) measured.first_us = us;
  }
  const auto step_us = [&](const LinearChoice& choice) {
    const bool hides = choice.kind == LinearKind::skinny && candidates.admits == nullptr;
    return choice.us - (hides ? kHiddenUs : 0.0);
  };
  std::stable_sort(timed.begin(), timed.end(),
                   [&](const LinearChoice& a, const LinearChoice& b) { return step_us(a) < step_us(b); });
  for (const LinearChoice& choice : timed) {
    if (candidates.admits != nullptr) {
      BIFOCAL_ASSIGN_OR_RETURN(const bool admitted, candidates.admits(choice));
      if (!admitted) continue;
    }
    measured.choice = choice;
    measured.choice.shape = {linear_bucket(shape.max_m), shape.n, shape.k, shape.gated,
                             candidates.admits != nullptr};
    measured.best = choice.kind == LinearKind::skinny ? "skinny" : cublaslt.describe(choice.algorithm);
    return measured;
  }
  return unsupported("no matrix product ran, or none was admitted, for M " + std::to_string(shape.max_m) +
                     ", N " + std::to_string(shape.n) + ", K " + std::to_string(shape.k));
}

}  // namespace bifocal::kernels::cuda
