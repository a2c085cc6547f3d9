#include "kernels/cuda/gpu_trace.h"

#include <cupti.h>

#include <cstdlib>
#include <deque>
#include <map>
#include <mutex>
#include <string>
#include <vector>

#include "base/device_timeline.h"
#include "base/function_name.h"
#include "base/trace.h"
#include "kernels/cuda/shared_library.h"

namespace bifocal::kernels::cuda {
namespace {

// The host's calls are recorded for their times: they tell which step an event belongs to.
constexpr CUpti_ActivityKind kKinds[] = {CUPTI_ACTIVITY_KIND_CONCURRENT_KERNEL, CUPTI_ACTIVITY_KIND_MEMCPY,
                                         CUPTI_ACTIVITY_KIND_MEMSET, CUPTI_ACTIVITY_KIND_RUNTIME,
                                         CUPTI_ACTIVITY_KIND_DRIVER};

struct Cupti {
  decltype(&cuptiActivityRegisterCallbacks) register_callbacks = nullptr;
  decltype(&cuptiActivityRegisterTimestampCallback) register_clock = nullptr;
  decltype(&cuptiActivityEnable) enable = nullptr;
  decltype(&cuptiActivityDisable) disable = nullptr;
  decltype(&cuptiActivityFlushAll) flush = nullptr;
  decltype(&cuptiActivityGetNextRecord) next_record = nullptr;
  decltype(&cuptiGetResultString) result_string = nullptr;

  Status load();
  Status to_status(CUptiResult result, const char* what) const;
};

Status Cupti::load() {
  BIFOCAL_ASSIGN_OR_RETURN(auto library, SharedLibrary::open("libcupti.so.13"));
  library.find(register_callbacks, "cuptiActivityRegisterCallbacks");
  library.find(register_clock, "cuptiActivityRegisterTimestampCallback");
  library.find(enable, "cuptiActivityEnable");
  library.find(disable, "cuptiActivityDisable");
  library.find(flush, "cuptiActivityFlushAll");
  library.find(next_record, "cuptiActivityGetNextRecord");
  library.find(result_string, "cuptiGetResultString");
  return library.check_complete();
}

Status Cupti::to_status(CUptiResult result, const char* what) const {
  if (result == CUPTI_SUCCESS) return {};
  const char* why = nullptr;
  result_string(result, &why);
  return unavailable(std::string("CUPTI failed at ") + what + ": " +
                     (why != nullptr ? why : std::to_string(static_cast<int>(result))));
}

class GpuTrace final : public trace::Source {
 public:
  // Never destroyed: CUPTI's own thread calls it.
  static GpuTrace& instance() {
    static auto* trace = new GpuTrace;
    return *trace;
  }

  Status start(size_t max_spans) override;
  Status set_recording(bool on) override;
  void stop(trace::Recording& recording) override;

 private:
  Status load();
  Status enable();
  void disable();
  std::string_view name_of(const char* symbol);
  void add(const CUpti_Activity& record);
  void read(const uint8_t* buffer, size_t bytes);

  static void CUPTIAPI give_buffer(uint8_t** buffer, size_t* bytes, size_t* max_records);
  static void CUPTIAPI take_buffer(CUcontext context, uint32_t stream, uint8_t* buffer, size_t bytes,
                                   size_t valid_bytes);
  static uint64_t CUPTIAPI now() { return static_cast<uint64_t>(trace::detail::now_ns()); }

  Cupti cupti_;
  bool is_loaded_ = false;
  trace::DeviceTimeline timeline_;
  std::mutex mutex_;               // of what follows
  std::vector<uint8_t*> buffers_;  // that wait for records
  std::deque<std::string> names_;  // short; at fixed addresses
  std::map<const char*, std::string_view> name_by_symbol_;
};

constexpr size_t kBufferBytes = size_t{1} << 20;
constexpr size_t kBufferAlignment = 64;

void GpuTrace::give_buffer(uint8_t** buffer, size_t* bytes, size_t* max_records) {
  GpuTrace& self = instance();
  *max_records = 0;  // as many as fit
  *bytes = kBufferBytes;
  std::lock_guard lock(self.mutex_);
  if (self.buffers_.empty()) {
    *buffer = static_cast<uint8_t*>(std::aligned_alloc(kBufferAlignment, kBufferBytes));
  } else {
    *buffer = self.buffers_.back();
    self.buffers_.pop_back();
  }
}

void GpuTrace::take_buffer(CUcontext, uint32_t, uint8_t* buffer, size_t, size_t valid_bytes) {
  GpuTrace& self = instance();
  self.read(buffer, valid_bytes);
  std::lock_guard lock(self.mutex_);
  self.buffers_.push_back(buffer);
}

void GpuTrace::read(const uint8_t* buffer, size_t bytes) {
  CUpti_Activity* record = nullptr;
  while (cupti_.next_record(const_cast<uint8_t*>(buffer), bytes, &record) == CUPTI_SUCCESS) add(*record);
}

std::string_view GpuTrace::name_of(const char* symbol) {
  if (symbol == nullptr) return "kernel";
  std::lock_guard lock(mutex_);
  std::string_view& name = name_by_symbol_[symbol];
  if (name.empty()) name = names_.emplace_back(short_function_name(symbol));
  return name;
}

void GpuTrace::add(const CUpti_Activity& record) {
  const auto event = [&](const auto& r, std::string_view name, trace::Kind kind,
                         const trace::Values& values) {
    if (r.end == 0) return;  // has not ended
    timeline_.add({name, static_cast<int64_t>(r.start), static_cast<int64_t>(r.end), r.correlationId,
                   r.deviceId, r.streamId, kind, values});
  };
  switch (record.kind) {
    case CUPTI_ACTIVITY_KIND_CONCURRENT_KERNEL: {
      const auto& r = reinterpret_cast<const CUpti_ActivityKernel10&>(record);
      event(r, name_of(r.name), trace::Kind::kernel,
            {0, int64_t{r.gridX} * r.gridY * r.gridZ, int64_t{r.blockX} * r.blockY * r.blockZ,
             int64_t{r.staticSharedMemory} + r.dynamicSharedMemory});
      return;
    }
    case CUPTI_ACTIVITY_KIND_MEMCPY: {
      const auto& r = reinterpret_cast<const CUpti_ActivityMemcpy6&>(record);
      event(r,
            r.copyKind == CUPTI_ACTIVITY_MEMCPY_KIND_HTOD   ? "copy to GPU"
            : r.copyKind == CUPTI_ACTIVITY_MEMCPY_KIND_DTOH ? "copy from GPU"
                                                            : "copy",
            trace::Kind::copy, {0, static_cast<int64_t>(r.bytes)});
      return;
    }
    case CUPTI_ACTIVITY_KIND_MEMSET: {
      const auto& r = reinterpret_cast<const CUpti_ActivityMemset4&>(record);
      event(r, "fill", trace::Kind::copy, {0, static_cast<int64_t>(r.bytes)});
      return;
    }
    case CUPTI_ACTIVITY_KIND_RUNTIME:
    case CUPTI_ACTIVITY_KIND_DRIVER: {
      const auto& r = reinterpret_cast<const CUpti_ActivityAPI&>(record);
      timeline_.add(trace::HostCall{r.correlationId, static_cast<int64_t>(r.start)});
      return;
    }
    default:
      return;
  }
}

Status GpuTrace::load() {
  if (is_loaded_) return {};
  BIFOCAL_RETURN_IF_ERROR(cupti_.load());
  BIFOCAL_RETURN_IF_ERROR(cupti_.to_status(cupti_.register_clock(now), "setting its clock"));
  BIFOCAL_RETURN_IF_ERROR(
      cupti_.to_status(cupti_.register_callbacks(give_buffer, take_buffer), "handing it buffers"));
  is_loaded_ = true;
  return {};
}

void GpuTrace::disable() {
  for (const CUpti_ActivityKind kind : kKinds) cupti_.disable(kind);
}

Status GpuTrace::enable() {
  BIFOCAL_RETURN_IF_ERROR(load());
  for (const CUpti_ActivityKind kind : kKinds) {
    const Status status = cupti_.to_status(cupti_.enable(kind), "enabling its records");
    if (status.ok()) continue;
    disable();
    return status;
  }
  return {};
}

Status GpuTrace::start(size_t max_spans) {
  timeline_.clear(max_spans);
  return enable().with_context("no GPU kernels in this trace");
}

Status GpuTrace::set_recording(bool on) {
  if (!on) {
    disable();
    return {};
  }
  timeline_.resume(trace::detail::now_ns());
  return enable().with_context("GPU kernels end early in this trace");
}

void GpuTrace::stop(trace::Recording& recording) {
  // Also buffers that wait for a kernel to end: what has not ended belongs to no recording.
  cupti_.flush(CUPTI_ACTIVITY_FLAG_FLUSH_FORCED);
  disable();
  timeline_.add_tracks(recording);
}

}  // namespace

void trace_gpu() {
  // Once, whoever asks first.
  [[maybe_unused]] static const bool added = [] {
    trace::add_source(GpuTrace::instance());
    return true;
  }();
}

}  // namespace bifocal::kernels::cuda
