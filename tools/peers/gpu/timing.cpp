#include "timing.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>

namespace bifocal::peers {
namespace {

struct Events {
  cudaEvent_t begin{};
  cudaEvent_t end{};
  Events() {
    CUDA_OK(cudaEventCreate(&begin));
    CUDA_OK(cudaEventCreate(&end));
  }
  ~Events() {
    cudaEventDestroy(begin);
    cudaEventDestroy(end);
  }
  double us() const {
    CUDA_OK(cudaEventSynchronize(end));
    float ms = 0.0F;
    CUDA_OK(cudaEventElapsedTime(&ms, begin, end));
    return static_cast<double>(ms) * 1e3;
  }
};

Timing twice(const std::function<double()>& measure) {
  const double first = measure();
  const double second = measure();
  return {(first + second) / 2, std::abs(first - second) / ((first + second) / 2)};
}

}  // namespace

void check(cudaError_t error, const char* what) {
  if (error == cudaSuccess) return;
  std::fprintf(stderr, "%s: %s\n", what, cudaGetErrorString(error));
  std::exit(1);
}

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

Timing time_graph(int calls, const std::function<void(int, cudaStream_t)>& record, int replays) {
  cudaStream_t stream{};
  cudaGraph_t graph{};
  cudaGraphExec_t exec{};
  CUDA_OK(cudaStreamCreate(&stream));
  CUDA_OK(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
  for (int i = 0; i < calls; ++i) record(i, stream);
  CUDA_OK(cudaStreamEndCapture(stream, &graph));
  CUDA_OK(cudaGraphInstantiate(&exec, graph, 0));
  const Events events;
  for (int i = 0; i < 2; ++i) CUDA_OK(cudaGraphLaunch(exec, stream));
  const Timing timing = twice([&] {
    std::vector<double> times;
    for (int i = 0; i < replays; ++i) {
      CUDA_OK(cudaEventRecord(events.begin, stream));
      CUDA_OK(cudaGraphLaunch(exec, stream));
      CUDA_OK(cudaEventRecord(events.end, stream));
      times.push_back(events.us() / calls);
    }
    return median(times);
  });
  CUDA_OK(cudaGraphExecDestroy(exec));
  CUDA_OK(cudaGraphDestroy(graph));
  CUDA_OK(cudaStreamDestroy(stream));
  return timing;
}

Timing time_stream(const std::function<void(cudaStream_t)>& call, int warmups, int repeats) {
  cudaStream_t stream{};
  CUDA_OK(cudaStreamCreate(&stream));
  const Events events;
  for (int i = 0; i < warmups; ++i) call(stream);
  const Timing timing = twice([&] {
    std::vector<double> times;
    for (int i = 0; i < repeats; ++i) {
      CUDA_OK(cudaEventRecord(events.begin, stream));
      call(stream);
      CUDA_OK(cudaEventRecord(events.end, stream));
      times.push_back(events.us());
    }
    return median(times);
  });
  CUDA_OK(cudaStreamDestroy(stream));
  return timing;
}

double time_stream_once(const std::function<void(cudaStream_t)>& call, int warmups, int repeats) {
  cudaStream_t stream{};
  CUDA_OK(cudaStreamCreate(&stream));
  std::vector<Events> events(static_cast<size_t>(repeats));
  for (int i = 0; i < warmups; ++i) call(stream);
  for (const Events& event : events) {
    CUDA_OK(cudaEventRecord(event.begin, stream));
    call(stream);
    CUDA_OK(cudaEventRecord(event.end, stream));
  }
  std::vector<double> times;
  for (const Events& event : events) times.push_back(event.us());
  CUDA_OK(cudaStreamDestroy(stream));
  return median(times);
}

}  // namespace bifocal::peers
