// Three kernels: one finds the largest logit of every block of kLogitBlock, one the sums of such blocks'
// exponentials where a row needs them, both over the whole device; the last chooses, one CTA for each row.
#include <cuda_runtime.h>

#include "base/hash.h"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/ptx.h"
#include "kernels/cuda/sample.h"
#include "kernels/cuda/sample_terms.h"

namespace bifocal::kernels::cuda {
namespace {

constexpr int kThreads = 1024;
constexpr int kWarps = kThreads / 32;
constexpr int kScanWarps = 8;
constexpr int kRoom = 2 * kSampleCandidates;  // candidates that were gathered, before the best are kept
constexpr int kSumBlocks = 8;                 // of kLogitBlock, for each warp of sum_kernel
constexpr int kFirstCandidates = 256;         // enough for most nuclei

constexpr int num_blocks(int vocab_size) {
  return (vocab_size + kLogitBlock - 1) / kLogitBlock;
}

// The workspace: double [R, blocks] sums, int32 [R, blocks] largest keys.
__device__ double* row_sums(const SampleArgs& args, int row) {
  return static_cast<double*>(args.workspace) + int64_t{row} * num_blocks(args.vocab_size);
}
__device__ int32_t* row_keys(const SampleArgs& args, int row) {
  const int64_t blocks = num_blocks(args.vocab_size);
  return reinterpret_cast<int32_t*>(row_sums(args, args.num_rows)) + row * blocks;
}

__global__ void __launch_bounds__(kScanWarps * 32) scan_kernel(const SampleArgs args) {
  launch_dependents();
  grid_dependency_wait();
  const int warp = static_cast<int>(threadIdx.x) / 32;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int block = static_cast<int>(blockIdx.x) * kScanWarps + warp;
  const int blocks = num_blocks(args.vocab_size);
  if (block >= blocks) return;
  const float* row = args.logits + int64_t{blockIdx.y} * args.vocab_size;
  int32_t top = kMinusInfinityKey;
  for (int i = block * kLogitBlock + lane; i < min(args.vocab_size, (block + 1) * kLogitBlock); i += 32) {
    const int32_t key = order_key(row[i]);
    top = max(top, key < kMinusInfinityKey ? kInvalidKey : key);
  }
  top = __reduce_max_sync(0xFFFFFFFFU, top);
  if (lane == 0) row_keys(args, static_cast<int>(blockIdx.y))[block] = top;
}

__device__ bool is_greedy(const SampleParams& params) {
  return params.temperature < 1e-6 || params.top_k == 1;
}
__device__ bool is_limited(const SampleParams& params, int vocab_size) {
  return params.top_k > 0 && params.top_k < vocab_size;
}
__device__ bool needs_row_sums(const SampleParams& params, int vocab_size) {
  return !is_greedy(params) && !is_limited(params, vocab_size) && (params.top_p < 1.0 || params.min_p <= 0.0);
}
__device__ float scale_of(const SampleParams& params) {
  return static_cast<float>(1.0 / params.temperature);
}

__global__ void __launch_bounds__(kScanWarps * 32) sum_kernel(const SampleArgs args) {
  __shared__ int32_t tops[kScanWarps];
  launch_dependents();
  grid_dependency_wait();
  const int row = static_cast<int>(blockIdx.y);
  const SampleParams params = args.params[row];
  if (!needs_row_sums(params, args.vocab_size)) return;
  const int warp = static_cast<int>(threadIdx.x) / 32;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int blocks = num_blocks(args.vocab_size);
  int32_t top = kMinusInfinityKey;
  for (int b = static_cast<int>(threadIdx.x); b < blocks; b += kScanWarps * 32) {
    top = max(top, row_keys(args, row)[b]);
  }
  top = __reduce_max_sync(0xFFFFFFFFU, top);
  if (lane == 0) tops[warp] = top;
  __syncthreads();
  for (int w = 0; w < kScanWarps; ++w) top = max(top, tops[w]);
  const float max_logit = from_order_key(top);
  const float scale = scale_of(params);
  const float* logits = args.logits + int64_t{row} * args.vocab_size;
  const int first = static_cast<int>(blockIdx.x) * kScanWarps * kSumBlocks + warp;
  for (int j = 0, b = first; j < kSumBlocks && b < blocks; ++j, b += kScanWarps) {
    float terms[4];
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int token = b * kLogitBlock + i * 32 + lane;
      terms[i] = token < args.vocab_size ? exp_term(logits[token], max_logit, scale) : 0.0F;
    }
    const float sum = block_terms_sum(terms);
    if (lane == 0) row_sums(args, row)[b] = static_cast<double>(sum);
  }
}

// What the threads of a row share.
struct RowShared {
  uint64_t ranks[kRoom];  // candidates, best first
  float terms[kRoom];
  double partial[kWarps];
  int partial_count[kWarps];
  double sum;
  int result[2];
  int gathered;
};

// The members of a distribution: ranks from `border` up whose term is at least min_p, and the best one.
struct Members {
  uint64_t border = 0;
  double min_p = 0.0;
};

class RowSampler {
 public:
  __device__ RowSampler(const SampleArgs& args, RowShared* shared, double* sums, int32_t* keys)
      : row_(args.logits + int64_t{blockIdx.x} * args.vocab_size),
        vocab_(args.vocab_size),
        blocks_(num_blocks(args.vocab_size)),
        warp_(static_cast<int>(threadIdx.x) / 32),
        lane_(static_cast<int>(threadIdx.x) % 32),
        shared_(shared),
        sums_(sums),
        keys_(keys) {}

  __device__ int choose(const SampleArgs& args, int row) {
    const SampleParams params = args.params[row];
    int32_t top = kMinusInfinityKey;
    for (int b = thread(); b < blocks_; b += kThreads) {
      keys_[b] = row_keys(args, row)[b];
      top = max(top, keys_[b]);
    }
    top = block_max(top);
    if (top <= kMinusInfinityKey || top >= kInfinityKey) return -1;
    max_ = from_order_key(top);
    best_ = argmax(top);
    if (is_greedy(params)) return best_;
    scale_ = scale_of(params);
    const auto position = static_cast<uint64_t>(int64_t{params.position});
    const double fraction = unit_uniform(hash_combine(params.seed, position));
    const bool limited = is_limited(params, vocab_);
    double total = 0.0;
    if (needs_row_sums(params, vocab_)) {
      for (int b = thread(); b < blocks_; b += kThreads) sums_[b] = row_sums(args, row)[b];
      total = cumulate();
    }
    if (!limited && params.top_p >= 1.0 && params.min_p <= 0.0) return draw_from_row({}, fraction);
    for (int count = limited ? params.top_k : kFirstCandidates; count <= kSampleCandidates;
         count = limited ? kSampleCandidates + 1 : count * 4) {
      const int token = draw_from_few(params, limited, min(count, vocab_), total, fraction);
      if (token >= 0) return token;
    }
    const Members members = find_members(params, limited, total);
    sum_members(members);
    return draw_from_row(members, fraction);
  }

 private:
  __device__ int thread() const { return static_cast<int>(threadIdx.x); }
  __device__ float term(float logit) const { return exp_term(logit, max_, scale_); }

  __device__ int32_t block_max(int32_t x) {
    x = __reduce_max_sync(0xFFFFFFFFU, x);
    if (lane_ == 0) shared_->terms[warp_] = __int_as_float(x);
    __syncthreads();
    x = __reduce_max_sync(0xFFFFFFFFU, __float_as_int(shared_->terms[lane_]));
    __syncthreads();
    return x;
  }

  // The lowest i below `count` for which `holds`, or count.
  template <class Predicate>
  __device__ int first_of(int count, Predicate holds) {
    int found = count;
    for (int i = thread(); i < count; i += kThreads) {
      if (!holds(i)) continue;
      found = i;
      break;
    }
    return -block_max(-found);
  }

  __device__ int argmax(int32_t top) {
    const int block = first_of(blocks_, [&](int b) { return keys_[b] == top; });
    const int begin = block * kLogitBlock;
    return begin + first_of(min(kLogitBlock, vocab_ - begin),
                            [&](int i) { return order_key(row_[begin + i]) == top; });
  }

  __device__ float member_term(int token, const Members& members) const {
    if (token >= vocab_) return 0.0F;
    const float logit = row_[token];
    const float t = term(logit);
    const bool inside = rank_of(order_key(logit), token) >= members.border &&
                        (token == best_ || static_cast<double>(t) >= members.min_p);
    return inside ? t : 0.0F;
  }

  // Turns the sums of blocks into sums up to and with each block, added one by one; the last.
  __device__ double cumulate() {
    __syncthreads();
    if (thread() == 0) {
      constexpr int kAhead = 16;  // loads that don't wait for the additions
      double sum = 0.0;
      for (int b = 0; b < blocks_; b += kAhead) {
        double next[kAhead];
#pragma unroll
        for (int i = 0; i < kAhead; ++i) next[i] = b + i < blocks_ ? sums_[b + i] : 0.0;
#pragma unroll
        for (int i = 0; i < kAhead; ++i) next[i] = sum += next[i];
#pragma unroll
        for (int i = 0; i < kAhead; ++i) {
          if (b + i < blocks_) sums_[b + i] = next[i];
        }
      }
    }
    __syncthreads();
    return sums_[blocks_ - 1];
  }

  __device__ void sum_members(const Members& members) {
    for (int b = warp_; b < blocks_; b += kWarps) {
      float terms[4];
#pragma unroll
      for (int j = 0; j < 4; ++j) terms[j] = member_term(b * kLogitBlock + j * 32 + lane_, members);
      const float sum = block_terms_sum(terms);
      if (lane_ == 0) sums_[b] = static_cast<double>(sum);
    }
    cumulate();
  }

  // The token where the members' terms in order of ids pass fraction * total; sums_ are theirs.
  __device__ int draw_from_row(const Members& members, double fraction) {
    const double target = fraction * sums_[blocks_ - 1];
    int block = first_of(blocks_, [&](int b) { return sums_[b] > target; });
    // Rounding may leave the target just behind the last block: then the last that adds anything.
    if (block == blocks_) block = first_of(blocks_, [&](int b) { return sums_[b] == sums_[blocks_ - 1]; });
    const int begin = block * kLogitBlock;
    if (thread() < kLogitBlock) shared_->terms[thread()] = member_term(begin + thread(), members);
    __syncthreads();
    if (thread() == 0) {
      double sum = block > 0 ? sums_[block - 1] : 0.0;
      int picked = 0;
      for (int i = 0; i < kLogitBlock; ++i) {
        if (shared_->terms[i] == 0.0F) continue;
        picked = i;
        sum += static_cast<double>(shared_->terms[i]);
        if (sum > target) break;
      }
      shared_->result[0] = begin + picked;
    }
    __syncthreads();
    return shared_->result[0];
  }

  // The largest x in [low, high] for which `holds`, which it does at low and, from some x on, no more.
  template <class Predicate>
  __device__ static uint64_t bisect(uint64_t low, uint64_t high, Predicate holds) {
    while (low < high) {
      const uint64_t middle = low + (high - low) / 2 + 1;
      if (holds(middle)) {
        low = middle;
      } else {
        high = middle - 1;
      }
    }
    return low;
  }

  // Draws from the `count` best candidates, which lie in shared memory, or gives -1 where more are needed.
  __device__ int draw_from_few(const SampleParams& params, bool limited, int count, double total,
                               double fraction) {
    const int gathered = gather(count);
    if (gathered > kRoom) return -1;
    const int size = sort(gathered);
    const int kept_of = min(gathered, count);
    for (int i = thread(); i < kept_of; i += kThreads) shared_->terms[i] = term(logit_of(shared_->ranks[i]));
    __syncthreads();
    if (thread() == 0) shared_->result[0] = keep(params, limited, kept_of, kept_of < count, total);
    __syncthreads();
    const int kept = shared_->result[0];
    if (kept < 0) return -1;
    // In order of ids from here on: larger ranks are lower ids once the logits are out of sight.
    for (int i = thread(); i < size; i += kThreads) {
      const uint64_t rank = shared_->ranks[i];
      shared_->ranks[i] = i < kept ? (rank << 32) | __float_as_uint(shared_->terms[i]) : 0;
    }
    __syncthreads();
    sort(kept);
    if (thread() == 0) shared_->result[0] = pick(kept, fraction * shared_->sum);
    __syncthreads();
    return shared_->result[0];
  }

  // Collects every candidate that may be one of the `count` best; how many there are, even if more than
  // kRoom.
  __device__ int gather(int count) {
    // `count` blocks have a largest logit of at least the count-th largest of these, so that many logits do.
    uint64_t bound = 0;
    if (count < blocks_) {
      bound = bisect(0, 0xFFFFFFFFU, [&](uint64_t x) {
        int above = 0;
        for (int b = thread(); b - thread() < blocks_; b += kThreads) {
          above += __syncthreads_count(b < blocks_ && (rank_of(keys_[b], 0) >> 32) >= x ? 1 : 0);
        }
        return above >= count;
      });
    }
    __syncthreads();
    if (thread() == 0) shared_->gathered = 0;
    __syncthreads();
    for (int b = warp_; b < blocks_; b += kWarps) {
      if ((rank_of(keys_[b], 0) >> 32) < bound) continue;
      for (int i = b * kLogitBlock + lane_; i < min(vocab_, (b + 1) * kLogitBlock); i += 32) {
        const int32_t key = order_key(row_[i]);
        const uint64_t rank = rank_of(key, i);
        if ((rank >> 32) < bound || key <= kMinusInfinityKey) continue;
        const int at = atomicAdd(&shared_->gathered, 1);
        if (at < kRoom) shared_->ranks[at] = rank;
      }
    }
    __syncthreads();
    return shared_->gathered;
  }

  // Sorts the first `count` ranks, largest first (a bitonic network, Batcher 1968); its padded size.
  __device__ int sort(int count) {
    int size = 2;
    while (size < count) size *= 2;
    for (int i = thread(); i < size; i += kThreads) {
      if (i >= count) shared_->ranks[i] = 0;
    }
    __syncthreads();
    for (int run = 2; run <= size; run *= 2) {
      for (int distance = run / 2; distance > 0; distance /= 2) {
        for (int i = thread(); i < size; i += kThreads) {
          const int other = i ^ distance;
          if (other < i) continue;
          const uint64_t a = shared_->ranks[i];
          const uint64_t b = shared_->ranks[other];
          if ((a < b) == ((i & run) == 0)) {
            shared_->ranks[i] = b;
            shared_->ranks[other] = a;
          }
        }
        __syncthreads();
      }
    }
    return size;
  }

  // How many of the best candidates top_p and min_p leave, with their sum; -1 when more were needed to know.
  // One thread. `all`: there are no others.
  __device__ int keep(const SampleParams& params, bool limited, int candidates, bool all, double total) {
    if (limited) {
      total = 0.0;
      for (int i = 0; i < candidates; ++i) total += static_cast<double>(shared_->terms[i]);
    }
    const double wanted = params.top_p < 1.0 ? params.top_p * total : INFINITY;
    int kept = 0;
    double sum = 0.0;
    while (kept < candidates && sum < wanted &&
           (kept == 0 || static_cast<double>(shared_->terms[kept]) >= params.min_p)) {
      sum += static_cast<double>(shared_->terms[kept++]);
    }
    shared_->sum = sum;
    const bool complete = limited || all || kept < candidates || candidates == vocab_;
    return complete || sum >= wanted ? kept : -1;
  }

  __device__ int pick(int kept, double target) {
    const auto token = [&](int i) {
      return static_cast<int>(0xFFFFFFFFU - static_cast<uint32_t>(shared_->ranks[i] >> 32));
    };
    int picked = token(0);
    double sum = 0.0;
    for (int i = 0; i < kept; ++i) {
      const float t = __uint_as_float(static_cast<uint32_t>(shared_->ranks[i]));
      if (t > 0.0F) picked = token(i);
      sum += static_cast<double>(t);
      if (sum > target) break;
    }
    return picked;
  }

  // visit(token, logit) for this thread's share of the row, with several loads under way.
  template <class Visit>
  __device__ void for_logits(Visit visit) const {
    constexpr int kAhead = 8;
    for (int base = thread(); base < vocab_; base += kAhead * kThreads) {
      float logits[kAhead];
#pragma unroll
      for (int j = 0; j < kAhead; ++j) {
        const int token = base + j * kThreads;
        logits[j] = token < vocab_ ? row_[token] : 0.0F;
      }
#pragma unroll
      for (int j = 0; j < kAhead; ++j) {
        if (base + j * kThreads < vocab_) visit(base + j * kThreads, logits[j]);
      }
    }
  }

  // How many ranks lie from `border` up and the sum of their terms, taken in one order.
  struct Tail {
    int count;
    double sum;
  };
  __device__ Tail tail_from(uint64_t border) {
    int count = 0;
    double sum = 0.0;
    for_logits([&](int token, float logit) {
      const int32_t key = order_key(logit);
      if (rank_of(key, token) < border || key <= kMinusInfinityKey) return;
      ++count;
      sum += static_cast<double>(term(logit));
    });
#pragma unroll
    for (int offset = 16; offset > 0; offset /= 2) sum += __shfl_down_sync(0xFFFFFFFFU, sum, offset);
    count = __reduce_add_sync(0xFFFFFFFFU, count);
    if (lane_ == 0) {
      shared_->partial[warp_] = sum;
      shared_->partial_count[warp_] = count;
    }
    __syncthreads();
    Tail tail{0, 0.0};
    for (int w = 0; w < kWarps; ++w) {
      tail.sum += shared_->partial[w];
      tail.count += shared_->partial_count[w];
    }
    __syncthreads();
    return tail;
  }

  // The border where, going down, the count or the sum of terms reaches `wanted`: keys are halved until those
  // between have room in shared memory, and these are added one by one.
  __device__ uint64_t find_border(double wanted, bool by_count) {
    const auto amount = [&](const Tail& tail) {
      return by_count ? static_cast<double>(tail.count) : tail.sum;
    };
    uint64_t low = 0;             // reached from here up
    uint64_t high = 0xFFFFFFFFU;  // but not from here up: no number's key
    Tail all = tail_from(0);
    Tail above{0, 0.0};
    if (amount(all) < wanted) return 0;
    while (all.count - above.count > kRoom && high - low > 1) {
      const uint64_t middle = low + (high - low) / 2;
      const Tail tail = tail_from(middle << 32);
      if (amount(tail) >= wanted) {
        low = middle;
        all = tail;
      } else {
        high = middle;
        above = tail;
      }
    }
    if (high - low == 1) {  // equal logits: lower ids first
      constexpr uint64_t kIds = 0xFFFFFFFFU;
      return bisect((low << 32) + kIds - static_cast<uint64_t>(vocab_), (low << 32) + kIds,
                    [&](uint64_t border) { return amount(tail_from(border)) >= wanted; });
    }
    const int between = gather_between(low << 32, high << 32);
    sort(between);
    for (int i = thread(); i < between; i += kThreads) shared_->terms[i] = term(logit_of(shared_->ranks[i]));
    __syncthreads();
    if (thread() == 0) {
      double sum = amount(above);
      int i = 0;
      for (; i < between - 1; ++i) {
        sum += by_count ? 1.0 : static_cast<double>(shared_->terms[i]);
        if (sum >= wanted) break;
      }
      shared_->result[0] = i;
    }
    __syncthreads();
    return shared_->ranks[shared_->result[0]];
  }

  // Collects the ranks in [low, high); they must have room.
  __device__ int gather_between(uint64_t low, uint64_t high) {
    __syncthreads();
    if (thread() == 0) shared_->gathered = 0;
    __syncthreads();
    for_logits([&](int token, float logit) {
      const int32_t key = order_key(logit);
      const uint64_t rank = rank_of(key, token);
      if (rank < low || rank >= high || key <= kMinusInfinityKey) return;
      shared_->ranks[atomicAdd(&shared_->gathered, 1)] = rank;
    });
    __syncthreads();
    return shared_->gathered;
  }

  __device__ Members find_members(const SampleParams& params, bool limited, double total) {
    Members members;
    members.min_p = params.min_p;
    if (limited) {
      members.border = find_border(static_cast<double>(params.top_k), true);
      total = tail_from(members.border).sum;
    }
    if (params.top_p < 1.0) {
      const uint64_t nucleus = find_border(params.top_p * total, false);
      members.border = members.border > nucleus ? members.border : nucleus;
    }
    return members;
  }

  const float* row_;
  int vocab_;
  int blocks_;
  int warp_;
  int lane_;
  RowShared* shared_;
  double* sums_;   // [blocks]
  int32_t* keys_;  // [blocks] largest of each
  float max_ = 0.0F;
  float scale_ = 0.0F;
  int best_ = 0;
};

__global__ void __launch_bounds__(kThreads) choose_kernel(const SampleArgs args) {
  extern __shared__ __align__(16) uint8_t memory[];
  launch_dependents();
  grid_dependency_wait();
  const int blocks = num_blocks(args.vocab_size);
  auto* shared = reinterpret_cast<RowShared*>(memory);
  auto* sums = reinterpret_cast<double*>(shared + 1);
  auto* keys = reinterpret_cast<int32_t*>(sums + blocks);
  const int row = static_cast<int>(blockIdx.x);
  RowSampler sampler(args, shared, sums, keys);
  const int token = sampler.choose(args, row);
  if (threadIdx.x == 0) args.tokens[row] = token;
}

int shared_bytes(int vocab_size) {
  return static_cast<int>(sizeof(RowShared)) + num_blocks(vocab_size) * 12;
}

}  // namespace

int64_t sample_workspace_bytes(int num_rows, int vocab_size) {
  return int64_t{num_rows} * num_blocks(vocab_size) * static_cast<int64_t>(sizeof(double) + sizeof(int32_t));
}

Status sample(const SampleArgs& args, const LaunchOptions& launch) {
  if (args.num_rows == 0) return {};
  if (args.vocab_size <= 0 || args.vocab_size > kMaxSampleVocab || args.num_rows > 65535) {
    return unsupported("sampling on the GPU: vocabulary must be 1 to " + std::to_string(kMaxSampleVocab) +
                       " and rows at most 65535, got " + std::to_string(args.vocab_size) + " and " +
                       std::to_string(args.num_rows));
  }
  BIFOCAL_RETURN_IF_ERROR(to_status(
      cudaFuncSetAttribute(reinterpret_cast<const void*>(choose_kernel),
                           cudaFuncAttributeMaxDynamicSharedMemorySize, shared_bytes(args.vocab_size)),
      "shared memory for sampling"));
  const auto rows = static_cast<unsigned>(args.num_rows);
  const auto scans = static_cast<unsigned>((num_blocks(args.vocab_size) + kScanWarps - 1) / kScanWarps);
  BIFOCAL_RETURN_IF_ERROR(
      launch_kernel(scan_kernel, dim3(scans, rows), kScanWarps * 32, 0, launch, "scanning logits", args));
  BIFOCAL_RETURN_IF_ERROR(launch_kernel(sum_kernel, dim3((scans + kSumBlocks - 1) / kSumBlocks, rows),
                                        kScanWarps * 32, 0, launch, "summing logits", args));
  return launch_kernel(choose_kernel, dim3(rows), kThreads, shared_bytes(args.vocab_size), launch, "sampling",
                       args);
}

}  // namespace bifocal::kernels::cuda
