#include "kernels/cuda/gpu_trace.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <vector>

#include "base/trace.h"
#include "kernels/cuda/elementwise.h"
#include "kernels/cuda/stream.h"

namespace bifocal::kernels::cuda {
namespace {

constexpr size_t kBytes = 8192;

std::vector<trace::SpanEvent> kernels_of(const trace::Recording& recording) {
  std::vector<trace::SpanEvent> kernels;
  for (const trace::TrackRecording& track : recording.tracks) {
    std::copy_if(track.spans.begin(), track.spans.end(), std::back_inserter(kernels),
                 [](const auto& span) { return span.kind == trace::Kind::kernel; });
  }
  return kernels;
}

TEST(GpuTrace, SaysWhyItHasNoKernels) {
  if (current_device().ok()) GTEST_SKIP() << "there is a GPU";
  trace_gpu();
  ASSERT_TRUE(trace::start({}).ok());
  const auto recording = trace::stop();
  ASSERT_TRUE(recording.ok());
  ASSERT_EQ(recording->notes.size(), 1U);
  EXPECT_EQ(recording->notes[0].rfind("no GPU kernels in this trace", 0), 0U) << recording->notes[0];
}

TEST(GpuTrace, HasTheKernelsOfStepsThoseOfGraphsToo) {
  if (!current_device().ok()) GTEST_SKIP() << "no GPU";
  trace_gpu();
  auto memory = DeviceMemory::allocate(kBytes);
  auto stream = make_stream();
  ASSERT_TRUE(memory.ok() && stream.ok());
  const RandomFill args{memory->as<void>(), static_cast<int64_t>(memory->bytes())};
  const auto fill = [&] { return random_fill(args, {stream->get(), false, false}); };
  auto graph = capture(*stream, [&] {
    EXPECT_TRUE(fill().ok());
    return fill();
  });
  ASSERT_TRUE(graph.ok()) << graph.status().message();

  ASSERT_TRUE(trace::start({}).ok());
  {
    const trace::StepSpan step({7});
    EXPECT_TRUE(fill().ok());
    cudaStreamSynchronize(stream->get());
  }
  {
    const trace::StepSpan step({8});
    EXPECT_TRUE(launch(*graph, *stream).ok());
  }
  cudaStreamSynchronize(stream->get());  // also what ends after its step counts to it
  const auto recording = trace::stop();
  ASSERT_TRUE(recording.ok());
  if (!recording->notes.empty()) GTEST_SKIP() << recording->notes[0];
  std::vector<int64_t> steps;
  for (const trace::SpanEvent& kernel : kernels_of(*recording)) {
    EXPECT_EQ(kernel.name, "random_fill_kernel");
    EXPECT_LT(kernel.start_ns, kernel.end_ns);
    EXPECT_GE(kernel.start_ns, recording->start_ns);
    EXPECT_LE(kernel.end_ns, recording->end_ns);
    steps.push_back(kernel.values[0]);
  }
  EXPECT_EQ(steps, (std::vector<int64_t>{7, 8, 8}));

  EXPECT_TRUE(fill().ok());  // after the recording
  cudaStreamSynchronize(stream->get());
  ASSERT_TRUE(trace::start({}).ok());
  const auto empty = trace::stop();
  ASSERT_TRUE(empty.ok());
  EXPECT_TRUE(kernels_of(*empty).empty());
}

}  // namespace
}  // namespace bifocal::kernels::cuda
