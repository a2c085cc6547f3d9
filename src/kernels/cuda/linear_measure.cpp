#include "kernels/cuda/linear_measure.h"

#include <algorithm>
#include <array>
#include <functional>

#include "kernels/cuda/elementwise.h"
#include "kernels/cuda/linear.h"
#include "kernels/cuda/skinny_gemm.h"

namespace bifocal::kernels::cuda {
namespace {

constexpr int kGuesses = 12;  // of cuBLASLt
constexpr int64_t kColdBytes = int64_t{256} << 20;
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

}  // namespace

Expected<LinearChoice> measure_linear(const LinearCandidates& candidates, const CublasLt& cublaslt) {
  const auto bytes = [](int rows, int columns) { return int64_t{rows} * columns * 2; };
  const int64_t weight_bytes = bytes(candidates.n, candidates.k);
  const int copies = static_cast<int>(std::max<int64_t>(2, kColdBytes / std::max<int64_t>(1, weight_bytes)));
  BIFOCAL_ASSIGN_OR_RETURN(const DeviceMemory weights,
                           DeviceMemory::allocate(static_cast<size_t>(copies * weight_bytes)));
  BIFOCAL_ASSIGN_OR_RETURN(const DeviceMemory x,
                           DeviceMemory::allocate(static_cast<size_t>(bytes(candidates.m, candidates.k))));
  BIFOCAL_ASSIGN_OR_RETURN(const DeviceMemory out,
                           DeviceMemory::allocate(static_cast<size_t>(bytes(candidates.m, candidates.n))));
  BIFOCAL_RETURN_IF_ERROR(fill(weights));
  BIFOCAL_RETURN_IF_ERROR(fill(x));
  BIFOCAL_RETURN_IF_ERROR(to_status(cudaDeviceSynchronize(), "filling weights"));

  LinearArgs args;
  args.x = x.as<uint16_t>();
  args.m = candidates.m;
  args.n = candidates.n;
  args.k = candidates.k;
  args.out = out.as<void>();
  const auto time =
      [&](const std::function<Status(const LinearArgs&, cudaStream_t)>& run) -> Expected<double> {
    GraphTimer timer;
    BIFOCAL_RETURN_IF_ERROR(timer.open());
    BIFOCAL_ASSIGN_OR_RETURN(const double us, timer.time([&](cudaStream_t stream) -> Status {
      for (int copy = 0; copy < copies; ++copy) {
        args.w = weights.as<uint16_t>() + int64_t{copy} * args.n * args.k;
        BIFOCAL_RETURN_IF_ERROR(run(args, stream));
      }
      return {};
    }));
    return us / copies;
  };

  LinearChoice best;
  best.n = candidates.n;
  best.k = candidates.k;
  bool found = false;
  const auto offer = [&](LinearKind kind, const CublasLtAlgorithm& algorithm, const Expected<double>& us) {
    if (!us.ok() || (found && *us >= best.us)) return;
    found = true;
    best.kind = kind;
    best.algorithm = algorithm;
    best.us = *us;
  };
  if (!candidates.deterministic && skinny_serves(args.m, args.n, args.k)) {
    offer(LinearKind::skinny, {}, time([&](const LinearArgs& product, cudaStream_t stream) {
            LaunchOptions launch;
            launch.stream = stream;
            launch.programmatic = true;  // as a decode step launches it
            return run_skinny(product, candidates.skinny_workspace, candidates.num_sms, launch);
          }));
  }
  BIFOCAL_ASSIGN_OR_RETURN(const auto guesses,
                           cublaslt.candidates(args, !candidates.deterministic, kGuesses));
  for (const CublasLtAlgorithm& algorithm : guesses) {
    offer(LinearKind::cublaslt, algorithm, time([&](const LinearArgs& product, cudaStream_t stream) {
            LaunchOptions launch;
            launch.stream = stream;
            return cublaslt.run(product, algorithm, candidates.cublaslt_workspace, launch);
          }));
  }
  if (!found) return unavailable("no matrix product ran for this shape");
  return best;
}

}  // namespace bifocal::kernels::cuda
