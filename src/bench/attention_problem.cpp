#include "bench/attention_problem.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>

#include "base/check.h"
#include "base/hash.h"
#include "kv/page_table.h"

namespace bifocal::bench {
namespace {

// Keys that query row i of a sequence sees.
int64_t visible(const AttentionShape& shape, int i) {
  const int64_t keys = shape.kv_len - shape.q_len + i + 1;
  return shape.window > 0 ? std::min<int64_t>(keys, shape.window) : keys;
}

// Numbers in (-1, 1), cheaply: gigabytes are filled. Sign and mantissa are random, the exponent is that of
// 0.5.
void fill_random(DType dtype, void* data, size_t bytes, uint64_t seed) {
  struct Pattern {
    uint64_t random_bits, exponent;
  };
  Pattern pattern{0x8787878787878787ULL, 0x3030303030303030ULL};  // f8_e4m3
  if (dtype == DType::f32) pattern = {0x807fffff807fffffULL, 0x3f0000003f000000ULL};
  if (dtype == DType::bf16) pattern = {0x807f807f807f807fULL, 0x3f003f003f003f00ULL};
  if (dtype == DType::f16) pattern = {0x83ff83ff83ff83ffULL, 0x3800380038003800ULL};
  SplitMix64 random(seed);
  auto* out = static_cast<char*>(data);
  for (size_t i = 0; i + 8 <= bytes; i += 8) {
    const uint64_t word = (random.next() & pattern.random_bits) | pattern.exponent;
    std::memcpy(out + i, &word, 8);
  }
}

std::vector<int32_t> random_pages(int64_t num_pages) {
  std::vector<int32_t> pages(static_cast<size_t>(num_pages));
  std::iota(pages.begin(), pages.end(), 0);
  SplitMix64 random(1);
  for (size_t i = pages.size(); i > 1; --i) std::swap(pages[i - 1], pages[random.below(i)]);
  return pages;
}

// In a pool that they fill.
std::vector<int32_t> engine_pages(const AttentionShape& shape) {
  const auto pages_per_seq = static_cast<int>(kv::pages_for(shape.kv_len, shape.page_size));
  kv::PagePool pool(shape.batch * pages_per_seq, shape.page_size);
  std::vector<kv::PageTable> tables;
  for (int s = 0; s < shape.batch; ++s) tables.emplace_back(pool);
  for (int pages = std::max(1, pages_per_seq / 2); pages <= pages_per_seq; ++pages) {
    for (kv::PageTable& table : tables) BIFOCAL_CHECK(table.grow(int64_t{pages} * shape.page_size));
  }
  std::vector<int32_t> all;
  for (const kv::PageTable& table : tables) {
    all.insert(all.end(), table.pages().begin(), table.pages().end());
  }
  return all;
}

}  // namespace

std::string to_string(const AttentionShape& shape) {
  const auto part = [](const char* name, int value) {
    return value == 0 ? std::string() : fmt::format(" {}{}", name, value);
  };
  return fmt::format("h{}/{} d{}{} b{} q{} kv{}{} p{}{} {}", shape.num_heads, shape.num_kv_heads,
                     shape.head_dim_k,
                     shape.head_dim_v == shape.head_dim_k ? "" : fmt::format("/{}", shape.head_dim_v),
                     shape.batch, shape.q_len, shape.kv_len, part("shared", shape.shared_prefix),
                     shape.page_size, part("w", shape.window), to_string(shape.dtype)) +
         (shape.random_pages ? " random" : "");
}

attention::AttentionDesc desc_of(const AttentionShape& shape) {
  attention::AttentionDesc desc;
  desc.num_heads = shape.num_heads;
  desc.num_kv_heads = shape.num_kv_heads;
  desc.head_dim_k = shape.head_dim_k;
  desc.head_dim_v = shape.head_dim_v;
  desc.window = shape.window;
  desc.scale = 1.0F / std::sqrt(static_cast<float>(shape.head_dim_k));
  desc.kv_dtype = shape.dtype;
  desc.page_size = shape.page_size;
  return desc;
}

double flops_of(const AttentionShape& shape) {
  int64_t pairs = 0;
  for (int i = 0; i < shape.q_len; ++i) pairs += visible(shape, i);
  return 2.0 * static_cast<double>(pairs) * shape.batch * shape.num_heads *
         (shape.head_dim_k + shape.head_dim_v);
}

double bytes_of(const AttentionShape& shape) {
  const int64_t keys = std::min<int64_t>(shape.kv_len, visible(shape, 0) + shape.q_len - 1);
  const int64_t read_again = int64_t{shape.batch - 1} *
                             (shape.window > 0 ? 0 : shape.shared_prefix / shape.page_size * shape.page_size);
  return static_cast<double>(keys * shape.batch - read_again) * shape.num_kv_heads *
         (shape.head_dim_k + shape.head_dim_v) * static_cast<double>(size_of(shape.dtype));
}

Expected<AttentionProblem> AttentionProblem::create(const AttentionShape& shape, size_t set_bytes) {
  if (shape.q_len > shape.kv_len || shape.shared_prefix > shape.kv_len - shape.q_len) {
    return invalid_argument(
        fmt::format("{}: a sequence's {} keys can't hold its {} query tokens and a shared "
                    "prefix of {}",
                    to_string(shape), shape.kv_len, shape.q_len, shape.shared_prefix));
  }
  if (shape.page_size < 1 || shape.page_size > kv::kMaxPageSize) {
    return invalid_argument(
        fmt::format("page size {}, expected 1 to {} tokens", shape.page_size, kv::kMaxPageSize));
  }
  AttentionProblem problem;
  problem.shape_ = shape;
  const int pages_per_seq = (shape.kv_len + shape.page_size - 1) / shape.page_size;
  const int64_t num_pages = int64_t{pages_per_seq} * shape.batch;
  const int64_t rows = num_pages * shape.page_size * shape.num_kv_heads;
  const auto layer_bytes =
      static_cast<size_t>(rows * (shape.head_dim_k + shape.head_dim_v)) * size_of(shape.dtype);
  const size_t layers = std::max<size_t>(2, set_bytes / layer_bytes);
  for (size_t i = 0; i < layers; ++i) {
    BIFOCAL_ASSIGN_OR_RETURN(auto memory, HostMemory::allocate(layer_bytes));
    fill_random(shape.dtype, memory.data(), layer_bytes, i);
    problem.caches_.push_back(std::move(memory));
  }

  problem.page_table_ = shape.random_pages ? random_pages(num_pages) : engine_pages(shape);
  for (int s = 0; s < shape.batch; ++s) {
    problem.q_begin_.push_back(s * shape.q_len);
    std::copy_n(problem.page_table_.begin(), shape.shared_prefix / shape.page_size,
                problem.page_table_.begin() + std::ptrdiff_t{s} * pages_per_seq);
  }
  problem.q_len_.assign(static_cast<size_t>(shape.batch), shape.q_len);
  problem.kv_len_.assign(static_cast<size_t>(shape.batch), shape.kv_len);

  const int64_t tokens = int64_t{shape.batch} * shape.q_len;
  BIFOCAL_ASSIGN_OR_RETURN(problem.q_,
                           Tensor::allocate(DType::f32, {tokens, shape.num_heads, shape.head_dim_k}));
  BIFOCAL_ASSIGN_OR_RETURN(problem.out_,
                           Tensor::allocate(DType::f32, {tokens, shape.num_heads, shape.head_dim_v}));
  fill_random(DType::f32, problem.q_.view().data, problem.q_.view().num_bytes(), 99);

  kernels::PagedKv& kv = problem.inputs_.kv;
  kv.dtype = shape.dtype;
  kv.num_kv_heads = shape.num_kv_heads;
  kv.head_dim_k = shape.head_dim_k;
  kv.head_dim_v = shape.head_dim_v;
  kv.page_size = shape.page_size;
  problem.inputs_.q = problem.q_.view().as<float>();
  problem.inputs_.q_stride = problem.q_.view().strides[0];
  problem.inputs_.out = problem.out_.view().as<float>();
  problem.inputs_.out_stride = problem.out_.view().strides[0];
  problem.pages_per_seq_ = pages_per_seq;
  return problem;
}

attention::AttentionBatch AttentionProblem::batch() const {
  return {phase(), 1, q_begin_, q_len_, kv_len_, page_table_, pages_per_seq_};
}

attention::PlanLimits AttentionProblem::limits(int num_threads) const {
  return {shape_.batch * shape_.q_len, shape_.batch, shape_.kv_len, num_threads};
}

const attention::LayerInputs& AttentionProblem::layer(size_t index) {
  inputs_.kv.k = caches_[index].data();
  kernels::set_paired_strides(inputs_.kv);
  return inputs_;
}

std::vector<float> AttentionProblem::out() const {
  const auto* values = out_.view().as<const float>();
  return {values, values + out_.view().num_elements()};
}

}  // namespace bifocal::bench
