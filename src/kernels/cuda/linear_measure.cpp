#include "kernels/cuda/linear_measure.h"

#include <algorithm>
#include <array>
#include <functional>
#include <limits>

#include "kernels/cuda/elementwise.h"
#include "kernels/cuda/linear.h"
#include "kernels/cuda/skinny_gemm.h"

namespace bifocal::kernels::cuda {
namespace {

constexpr int kGuesses = 12;  // of cuBLASLt
constexpr size_t kColdBytes = size_t{256} << 20;
constexpr int kReplays = 5;

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
  Expected<double> time(const std::function<Status(cudaStream_t)>& record) {
    BIFOCAL_RETURN_IF_ERROR(
        to_status(cudaStreamBeginCapture(stream_, cudaStreamCaptureModeThreadLocal), "capturing"));
    const Status recorded = record(stream_);
    const cudaError_t captured = cudaStreamEndCapture(stream_, &graph_);
    BIFOCAL_RETURN_IF_ERROR(recorded);
    BIFOCAL_RETURN_IF_ERROR(to_status(captured, "capturing"));
    BIFOCAL_RETURN_IF_ERROR(to_status(cudaGraphInstantiate(&exec_, graph_, 0), "building a graph"));
    std::array<double, kReplays> times{};
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
    return times[kReplays / 2];
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
    int most = 0;
    for (const TimedRows& rows : candidates.rows) most = std::max(most, rows.m);
    const auto bytes = [](int rows, int columns) {
      return static_cast<size_t>(rows) * static_cast<size_t>(columns) * 2;
    };
    const size_t weight_bytes = bytes(candidates.n, candidates.k);
    product.copies_ = std::max<size_t>(2, kColdBytes / weight_bytes);
    BIFOCAL_ASSIGN_OR_RETURN(product.weights_, DeviceMemory::allocate(product.copies_ * weight_bytes));
    BIFOCAL_ASSIGN_OR_RETURN(product.x_, DeviceMemory::allocate(bytes(most, candidates.k)));
    BIFOCAL_ASSIGN_OR_RETURN(product.out_, DeviceMemory::allocate(bytes(most, candidates.n)));
    BIFOCAL_ASSIGN_OR_RETURN(product.inner_, DeviceMemory::allocate(bytes(most, candidates.n)));
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
    args.n = candidates_->n;
    args.k = candidates_->k;
    args.out = out_.as<void>();
    return args;
  }

  Expected<double> skinny_us(int m) const {
    return time(m, [&](const LinearArgs& args, LaunchOptions launch) {
      launch.programmatic = true;  // as a decode step launches it
      void* workspace = candidates_->skinny_workspace;
      if (!candidates_->gated) return run_skinny(args, workspace, candidates_->num_sms, launch);
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

  Expected<double> cublaslt_us(int m, const CublasLt& cublaslt, const CublasLtAlgorithm& algorithm) const {
    return time(m, [&](const LinearArgs& args, const LaunchOptions& launch) -> Status {
      BIFOCAL_RETURN_IF_ERROR(cublaslt.run(args, algorithm, candidates_->cublaslt_workspace, launch));
      if (!candidates_->gated) return {};
      SiluMul gate;
      gate.gate_up = out_.as<uint16_t>();
      gate.out = inner_.as<uint16_t>();
      gate.num_rows = args.m;
      gate.dim = args.n / 2;
      return silu_mul(gate, launch);
    });
  }

 private:
  explicit Product(const LinearCandidates& candidates) : candidates_(&candidates) {}

  Expected<double> time(int m,
                        const std::function<Status(const LinearArgs&, const LaunchOptions&)>& run) const {
    GraphTimer timer;
    BIFOCAL_RETURN_IF_ERROR(timer.open());
    BIFOCAL_ASSIGN_OR_RETURN(const double us, timer.time([&](cudaStream_t stream) -> Status {
      LaunchOptions launch;
      launch.stream = stream;
      LinearArgs product = args(m);
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
  DeviceMemory weights_, x_, out_, inner_;
};

// What cuBLASLt proposes for any of the numbers of rows, each algorithm once.
Expected<std::vector<CublasLtAlgorithm>> guesses_of(const LinearCandidates& candidates,
                                                    const Product& product, const CublasLt& cublaslt) {
  std::vector<CublasLtAlgorithm> all;
  for (const int m : candidates.guess_rows) {
    BIFOCAL_ASSIGN_OR_RETURN(const auto guesses,
                             cublaslt.candidates(product.args(m), !candidates.deterministic, kGuesses));
    for (const CublasLtAlgorithm& guess : guesses) {
      if (std::find(all.begin(), all.end(), guess) == all.end()) all.push_back(guess);
    }
  }
  return all;
}

bool serves(const LinearCandidates& candidates, int m) {
  return candidates.gated ? skinny_serves_gated(m, candidates.n / 2, candidates.k)
                          : skinny_serves(m, candidates.n, candidates.k);
}

}  // namespace

Expected<LinearMeasured> measure_linear(const LinearCandidates& candidates, const CublasLt& cublaslt) {
  BIFOCAL_ASSIGN_OR_RETURN(const Product product, Product::make(candidates));
  LinearMeasured measured;
  double least = std::numeric_limits<double>::infinity();
  // Of a candidate: its time for the first number of rows, 0 where it doesn't run.
  const auto offer = [&](LinearKind kind, const CublasLtAlgorithm& algorithm,
                         const std::function<Expected<double>(int)>& time) {
    double score = 0.0;
    double first = 0.0;
    for (const TimedRows& rows : candidates.rows) {
      const Expected<double> us = time(rows.m);
      if (!us.ok()) return 0.0;
      if (first == 0.0) first = *us;
      score += rows.weight * *us;
    }
    if (score < least) {
      least = score;
      measured.choice.kind = kind;
      measured.choice.algorithm = algorithm;
      measured.choice.us = first;
    }
    return first;
  };
  const bool all_skinny = std::all_of(candidates.rows.begin(), candidates.rows.end(),
                                      [&](const TimedRows& rows) { return serves(candidates, rows.m); });
  if (!candidates.deterministic && all_skinny) {
    measured.skinny_us = offer(LinearKind::skinny, {}, [&](int m) { return product.skinny_us(m); });
  }
  BIFOCAL_ASSIGN_OR_RETURN(const auto guesses, guesses_of(candidates, product, cublaslt));
  for (const CublasLtAlgorithm& algorithm : guesses) {
    const double us = offer(LinearKind::cublaslt, algorithm,
                            [&](int m) { return product.cublaslt_us(m, cublaslt, algorithm); });
    if (measured.first_us == 0.0) measured.first_us = us;
  }
  if (measured.choice.us == 0.0) return unavailable("no matrix product ran for this shape");
  measured.choice.shape = {0, candidates.n, candidates.k, candidates.gated};
  return measured;
}

}  // namespace bifocal::kernels::cuda
