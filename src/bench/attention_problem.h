// The inputs of an attention benchmark: one shape, with the caches of several layers.
#pragma once

#include <string>
#include <vector>

#include "attention/backend.h"
#include "tensor/host_memory.h"

namespace bifocal::bench {

// `batch` equal sequences of kv_len keys, the last q_len of which are this step's.
struct AttentionShape {
  int num_heads = 32;
  int num_kv_heads = 8;
  int head_dim_k = 128;
  int head_dim_v = 128;
  int batch = 1;
  int q_len = 1;
  int kv_len = 1024;
  int shared_prefix = 0;  // keys, in whole pages, that all sequences have in common
  int page_size = 64;
  int window = 0;
  DType dtype = DType::bf16;  // of keys and values
  // Pages of a sequence lie anywhere; otherwise as kv::PagePool hands them out to sequences of which each
  // brings half of its keys as a prompt and gets the others page by page, in turns.
  bool random_pages = false;
};
std::string to_string(const AttentionShape& shape);  // "h32/8 d128 b1 q1 kv1024 p16 bf16"

attention::AttentionDesc desc_of(const AttentionShape& shape);
double flops_of(const AttentionShape& shape);  // 2 (Dk + Dv) for each head and
                                               // visible (query, key) pair
double bytes_of(const AttentionShape& shape);  // keys and values that some row sees, each once

// Caches of so many layers that together they are larger than the processor's caches; filled at random.
class AttentionProblem {
 public:
  // set_bytes: of all layers' caches together.
  static Expected<AttentionProblem> create(const AttentionShape& shape, size_t set_bytes);

  attention::Phase phase() const {
    return shape_.q_len == 1 ? attention::Phase::decode : attention::Phase::prefill;
  }
  attention::AttentionBatch batch() const;
  attention::PlanLimits limits(int num_threads) const;
  const attention::LayerInputs& layer(size_t index);
  const attention::LayerInputs& next_layer() { return layer(next_++ % caches_.size()); }
  std::vector<float> out() const;

 private:
  AttentionShape shape_;
  std::vector<HostMemory> caches_;
  std::vector<int32_t> q_begin_, q_len_, kv_len_, page_table_;
  int64_t pages_per_seq_ = 0;
  Tensor q_, out_;
  attention::LayerInputs inputs_;
  size_t next_ = 0;
};

}  // namespace bifocal::bench
