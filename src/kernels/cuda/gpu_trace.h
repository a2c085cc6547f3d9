// What GPUs do, in the recordings of base/trace.h: a track per stream with its kernels and copies, those
// inside captured graphs too.
#pragma once

namespace bifocal::kernels::cuda {

// From now on. Through CUPTI (libcupti.so.13, found at run time): where it can't be had, recordings say why.
// Costs nothing while nothing is recorded.
void trace_gpu();

}  // namespace bifocal::kernels::cuda
