// A random attention problem on the GPU: paged keys and values whose every unused byte is NaN, queries, the
// reference's answer.
#pragma once

#include <cstdint>
#include <ostream>
#include <string>
#include <vector>

#include "kernels/cuda/decode.h"
#include "kernels/cuda/device_memory.h"
#include "kernels/cuda/kv_maps.h"

namespace bifocal::kernels::cuda {

struct AttentionCase {
  std::string name;
  int num_heads = 8;
  int num_kv_heads = 1;
  int head_dim = 128;
  std::vector<int> q_len;
  std::vector<int> kv_len;
  int window = 0;
  float softcap = 0.0F;
  bool sinks = false;
  int page_size = 64;
  bool heads_inside_tokens = false;  // [page][token][kv head][dim] instead of [page][kv head][token][dim]
  float sharpness = 1.0F;            // logits are so many times what 1 / sqrt(D) makes of them
  float offset = 0.0F;  // what queries have more and keys less than noise: all logits lie far below zero
  float rise = 0.0F;    // for every 128 tokens further from the end, keys are so much larger
  uint32_t seed = 1;
};
inline void PrintTo(const AttentionCase& c, std::ostream* out) {
  *out << c.name;
}

struct AttentionResult {
  std::vector<float> out;  // [T, H, D]
  std::vector<float> lse;  // [T, H]
};

// ok, or why there is no GPU to test on; tests skip with its message.
Status gpu_unavailable();

class GpuProblem {
 public:
  explicit GpuProblem(AttentionCase description);

  const AttentionCase& description() const { return case_; }
  int num_rows() const { return num_rows_; }
  float scale() const { return scale_; }
  AttentionResult reference() const;

  // Device pointers, in the kernels' layouts.
  const uint16_t* q() const { return q_.as<uint16_t>(); }
  const float* sinks() const { return case_.sinks ? sinks_.as<float>() : nullptr; }
  const int32_t* kv_len() const { return kv_len_.as<int32_t>(); }
  const int32_t* q_len() const { return q_len_.as<int32_t>(); }
  const int32_t* q_begin() const { return q_begin_.as<int32_t>(); }
  const int32_t* page_table() const { return page_table_.as<int32_t>(); }
  int64_t page_table_stride() const { return page_table_stride_; }
  const KvMaps& maps() const { return maps_; }

  // Outputs, poisoned with NaN by poison_outputs().
  uint16_t* out() const { return out_.as<uint16_t>(); }
  float* lse() const { return lse_.as<float>(); }
  void poison_outputs() const;
  std::vector<uint16_t> out_bits() const;
  AttentionResult result() const;

 private:
  AttentionCase case_;
  int num_rows_ = 0;
  int num_pages_ = 0;
  float scale_ = 1.0F;
  int64_t page_stride_ = 0;
  int64_t head_stride_ = 0;
  int64_t token_stride_ = 0;
  int64_t page_table_stride_ = 0;
  DeviceMemory q_, k_, v_, sinks_, kv_len_, q_len_, q_begin_, page_table_, out_, lse_;
  KvMaps maps_;
};

// ||a - b|| / ||b||; infinite when any element is NaN.
double relative_error(const std::vector<float>& a, const std::vector<float>& b);
// Largest |a - b| over elements; equal infinities agree.
double largest_difference(const std::vector<float>& a, const std::vector<float>& b);

}  // namespace bifocal::kernels::cuda
