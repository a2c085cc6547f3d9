// A matrix product of up to eight rows whose sums are never cut: along the whole of K, 16 columns at a time,
// one f32 accumulator, one rounding. It defines the order of sums that deterministic mode keeps
// (order_check.h).
//
// A CTA has some columns of the result: weights of eight columns at a time, up to 64 of them side by side,
// stream through a ring in shared memory and are multiplied by x with wgmma (D' = W x').
#pragma once

#include "base/status.h"
#include "kernels/cuda/launch_options.h"

namespace bifocal::kernels::cuda {

struct LinearArgs;

constexpr int kLinkMaxM = 8;

// 1 <= M <= 8, N a multiple of 8, K of 64, a result of bf16; unsupported otherwise.
Status run_skinny_link(const LinearArgs& args, int num_sms, const LaunchOptions& launch);

}  // namespace bifocal::kernels::cuda
