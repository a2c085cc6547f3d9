// golden.json beside a checkpoint: what transformers computes for it on the CPU in float32 (tools/goldens
// makes them).
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace bifocal::model {

struct GoldenCase {
  std::vector<int32_t> prompt;
  // The largest logits of each of the last top_ids.size() positions.
  std::vector<std::vector<int32_t>> top_ids;
  std::vector<std::vector<float>> top_logits;
  std::vector<float> last_logits;       // [V] of the last position
  std::vector<float> last_logits_bf16;  // the same model cast to bf16
  float bf16_max_abs_err = 0;
  std::vector<int32_t> greedy;       // continuation
  std::vector<float> greedy_margin;  // gap between the two largest logits at each step

  float scale() const;  // max(1, largest magnitude of last_logits)
};

struct Golden {
  std::string directory;
  std::vector<GoldenCase> cases;
};

// Directories with a golden.json: those of the project and the ones that BIFOCAL_GOLDENS (colon-separated)
// adds.
std::vector<std::string> golden_directories();

// Fails the test and returns no cases when the file is broken.
Golden load_golden(const std::string& directory);

}  // namespace bifocal::model
