#include "kernels/cpu/attention/streaming_amx.h"
#include "kernels/cpu/attention/tiled_amx.h"

namespace bifocal::kernels::cpu {

constinit const SpanKernel kTiledAmx = amx::tiled::kKernel;
constinit const SpanKernel kStreamingAmx = amx::streaming::kKernel;
constinit const SpanKernel kUnifiedAmx = amx::tiled::kUnifiedKernel;

}  // namespace bifocal::kernels::cpu
