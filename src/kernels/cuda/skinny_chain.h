// The products of a layer that follow one another, for up to eight rows, as one kernel: what it reads is
// weights, and copies of the next product's begin while the last sums of this one are still under way.
//
// A CTA on each SM has some columns of every result, so no sum is cut: weights stream through a ring in
// shared memory into registers and are multiplied by x with mma. Between two products CTAs wait for each
// other, so two chains must not run on a device at a time. A sum is added in one order whatever M is: a row's
// result has the same bits whatever rows stand beside it.
#pragma once

#include <cstdint>

#include "base/status.h"
#include "kernels/cuda/launch_options.h"

namespace bifocal::kernels::cuda {

struct LinearChain;

constexpr int kChainMaxM = 8;

// Whether run_skinny_chain serves it: 1 <= M <= 8; each K a multiple of 64; where a norm follows a link, the
// next reads its rows, and they have at most 16,384 columns.
bool skinny_chain_serves(const LinearChain& chain);

int64_t skinny_chain_workspace_bytes(int num_sms);

// A norm's factor 1 / sqrt(mean(r^2) + eps) multiplies the sums of the product behind it instead of its x:
// `normed` holds r times the norm's weights.
//
// workspace: skinny_chain_workspace_bytes(), zero before its first use; chains that share it must follow one
// another.
Status run_skinny_chain(const LinearChain& chain, void* workspace, int num_sms, const LaunchOptions& launch);

}  // namespace bifocal::kernels::cuda
