#include "kernels/cuda/stream.h"

namespace bifocal::kernels::cuda {

Expected<Stream> make_stream() {
  cudaStream_t stream = nullptr;
  BIFOCAL_RETURN_IF_ERROR(
      to_status(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "making a stream"));
  return Stream(stream);
}

Expected<Event> make_event() {
  cudaEvent_t event = nullptr;
  BIFOCAL_RETURN_IF_ERROR(
      to_status(cudaEventCreateWithFlags(&event, cudaEventDisableTiming), "making an event"));
  return Event(event);
}

Status record(const Event& event, const Stream& stream) {
  return to_status(cudaEventRecord(event.get(), stream.get()), "recording an event");
}

Status wait(const Event& event, std::string_view what) {
  return to_status(cudaEventSynchronize(event.get()), what);
}

Status wait(const Stream& stream, std::string_view what) {
  return to_status(cudaStreamSynchronize(stream.get()), what);
}

Status wait_in_stream(const Stream& stream, const Event& event) {
  return to_status(cudaStreamWaitEvent(stream.get(), event.get(), 0), "waiting for an event in a stream");
}

Expected<Graph> capture(const Stream& stream, const std::function<Status()>& enqueue) {
  BIFOCAL_RETURN_IF_ERROR(to_status(cudaStreamBeginCapture(stream.get(), cudaStreamCaptureModeThreadLocal),
                                    "starting a capture"));
  const Status enqueued = enqueue();
  cudaGraph_t graph = nullptr;
  const Status ended = to_status(cudaStreamEndCapture(stream.get(), &graph), "ending a capture");
  const Handle<cudaGraph_t, cudaGraphDestroy> owner(graph);
  BIFOCAL_RETURN_IF_ERROR(enqueued);
  BIFOCAL_RETURN_IF_ERROR(ended);
  cudaGraphExec_t executable = nullptr;
  BIFOCAL_RETURN_IF_ERROR(to_status(cudaGraphInstantiate(&executable, graph, 0), "instantiating a graph"));
  return Graph(executable);
}

Status launch(const Graph& graph, const Stream& stream) {
  return to_status(cudaGraphLaunch(graph.get(), stream.get()), "launching a graph");
}

Expected<DeviceMemoryInfo> device_memory_info() {
  size_t free_bytes = 0;
  size_t total_bytes = 0;
  BIFOCAL_RETURN_IF_ERROR(
      to_status(cudaMemGetInfo(&free_bytes, &total_bytes), "asking for the GPU's memory"));
  return DeviceMemoryInfo{free_bytes, total_bytes};
}

}  // namespace bifocal::kernels::cuda
