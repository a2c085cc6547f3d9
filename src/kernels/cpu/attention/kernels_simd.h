// The table of this translation unit's kernels. Internal linkage, like simd.h.
#pragma once

#include "kernels/cpu/attention/softmax.h"
#include "kernels/cpu/attention/streaming.h"
#include "kernels/cpu/attention/tiled.h"
#include "kernels/cpu/attention/unified.h"

namespace bifocal::kernels::cpu {
namespace {

constexpr AttentionKernels kKernels{
    tiled::kKernels, streaming::kKernels, streaming::kKernels, unified::kKernels, fold, finish};

}  // namespace
}  // namespace bifocal::kernels::cpu
