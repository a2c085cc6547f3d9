// Chooses a token for each row of logits, as engine/sampler.h does on the CPU.
//
// The same arithmetic in the same order gives the same token, bit for bit: the maximum and its lowest id, the
// sums of exponentials by blocks of 128, the order of candidates, the draw. One case is computed another way:
// where more than kSampleCandidates tokens may be drawn after top_k, top_p or min_p, the border of that set
// is found by halving, and sums over it are taken in another order than on the CPU. Their last bit of a
// double may differ, and the token where a border or the draw meets it exactly.
//
// What the engine applies before the draw (bias, penalties, banned tokens) and log-probabilities stay on the
// CPU.
#pragma once

#include <cstdint>

#include "base/status.h"
#include "kernels/cuda/launch_options.h"
#include "kernels/sample_params.h"

namespace bifocal::kernels::cuda {

constexpr int kSampleCandidates = 1024;

struct SampleArgs {
  const float* logits = nullptr;         // f32 [R, V]
  int num_rows = 0;                      // R
  int vocab_size = 0;                    // V, at most kMaxSampleVocab
  const SampleParams* params = nullptr;  // [R], device
  int32_t* tokens = nullptr;             // [R]; -1: NaN or infinite logits, or nothing is allowed
  void* workspace = nullptr;             // sample_workspace_bytes(R, V), 16-byte aligned
};

constexpr int kMaxSampleVocab = 1 << 19;

int64_t sample_workspace_bytes(int num_rows, int vocab_size);

Status sample(const SampleArgs& args, const LaunchOptions& launch);

}  // namespace bifocal::kernels::cuda
