// Matrix products of few rows: what is read is the weights, once, and what limits it is memory.
//
// Weights play the part of the tall operand (D' = W x'). A CTA, one on each SM, has a block of up to 384 rows
// of W and streams them through a ring in shared memory, in tiles of 64 rows that are multiplied by all rows
// of x with wgmma. All tiles use the same chunk of x, which has a ring of its own: x is read once for a
// block, not for a tile. Where that would leave less than a tile to each SM, four CTAs have a block of four
// times the rows together, each a quarter of K, and add up what they have in order of K. How W is shared
// depends on N, K and the number of SMs, never on M: a row's result has the same bits whatever rows stand
// beside it.
#pragma once

#include <cstdint>

#include "base/status.h"
#include "kernels/cuda/launch_options.h"

namespace bifocal::kernels::cuda {

struct LinearArgs;
struct GatedLinearArgs;

constexpr int kSkinnyMaxM = 64;

// Whether run_skinny serves the shape: 1 <= M <= 64, N a multiple of 8, K of 64.
bool skinny_serves(int m, int n, int k);
// The same for the gated form, with I a multiple of 8.
bool skinny_serves_gated(int m, int inner, int k);

int64_t skinny_workspace_bytes(int num_sms);

// workspace: of skinny_workspace_bytes(), each kUnwrittenByte before its first use; kernels that share it
// must follow one another. CTAs of neighbouring numbers wait for one another's sums: they get SMs in that
// order, so some wait only while others run.
Status run_skinny(const LinearArgs& args, void* workspace, int num_sms, const LaunchOptions& launch);
Status run_skinny_gated(const GatedLinearArgs& args, void* workspace, int num_sms,
                        const LaunchOptions& launch);

}  // namespace bifocal::kernels::cuda
