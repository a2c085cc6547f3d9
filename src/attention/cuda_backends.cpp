#include "attention/cuda_backends.h"

#include <utility>

#include "base/check.h"

namespace bifocal::attention {
namespace {

class CudaBackend final : public Backend {
 public:
  explicit CudaBackend(Capabilities capabilities) : capabilities_(std::move(capabilities)) {}

  const Capabilities& capabilities() const override { return capabilities_; }
  Expected<PlanBuffers> make_buffers(const AttentionDesc&, const PlanLimits&) const override {
    return unsupported("attention backend " + std::string(name()) + " runs on a GPU only");
  }
  Plan plan(const AttentionDesc&, const AttentionBatch&, PlanBuffers&) const override {
    BIFOCAL_CHECK(false);  // there are no buffers to plan into
    return {};
  }
  Status run(const Plan&, const AttentionDesc&, uint64_t, const LayerInputs&, ThreadPool&) const override {
    return unsupported("attention backend " + std::string(name()) + " runs on a GPU only");
  }

 private:
  Capabilities capabilities_;
};

// The limits are those of kernels/cuda/{prefill,decode}.h.
Capabilities tensor_core_kernel(std::string_view name, std::string_view summary) {
  Capabilities c;
  c.name = name;
  c.summary = summary;
  c.device = DeviceKind::cuda;
  c.q_dtypes = {DType::bf16};
  c.kv_dtypes = {DType::bf16};
  c.min_page_size = 64;
  c.page_power_of_two = true;
  c.window = c.sinks = c.softcap = c.lse_out = c.graph = c.deterministic = true;
  return c;
}

}  // namespace

const Backend& prefill_ws_backend() {
  static const CudaBackend backend([] {
    Capabilities c = tensor_core_kernel("prefill_ws", "warp-specialised wgmma over tiles of 128 query rows");
    c.phases = {Phase::prefill, Phase::decode, Phase::verify};
    c.head_dims = {{64, 64, 128}, {128, 128, 128}, {256, 256, 128}};
    return c;
  }());
  return backend;
}

const Backend& decode_mma_backend() {
  static const CudaBackend backend([] {
    Capabilities c = tensor_core_kernel(
        "decode_mma",
        "streams each key and value once; balanced whatever the lengths; prompts row by row, slowly");
    c.phases = {Phase::prefill, Phase::decode, Phase::verify};
    c.head_dims = {{64, 64, 16}, {128, 128, 16}, {256, 256, 8}};
    return c;
  }());
  return backend;
}

std::span<const Backend* const> cuda_backends() {
  static const Backend* const backends[] = {&prefill_ws_backend(), &decode_mma_backend()};
  return backends;
}

}  // namespace bifocal::attention
