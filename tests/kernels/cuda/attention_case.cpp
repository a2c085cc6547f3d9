#include "kernels/cuda/attention_case.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <random>

#include "base/check.h"
#include "kernels/cuda/device_array.h"
#include "kernels/cuda/reference_attention.h"
#include "tensor/dtype.h"

namespace bifocal::kernels::cuda {
namespace {

constexpr uint16_t kNan = 0x7FFF;

// A few sums of uniform numbers: close to normal, and fast.
class Noise {
 public:
  explicit Noise(uint32_t seed) : state_(seed * 2654435761U + 12345U) {}
  float next() {
    float sum = 0.0F;
    for (int i = 0; i < 4; ++i) {
      state_ ^= state_ << 13;
      state_ ^= state_ >> 17;
      state_ ^= state_ << 5;
      sum += static_cast<float>(state_ >> 8) * 0x1p-24F - 0.5F;
    }
    return sum * 1.7320508F;
  }

 private:
  uint32_t state_;
};

}  // namespace

Status gpu_unavailable() {
  const auto device = current_device();
  return device.ok() ? Status{} : device.status();
}

GpuProblem::GpuProblem(AttentionCase description) : case_(std::move(description)) {
  const auto num_seqs = case_.kv_len.size();
  std::mt19937 random(case_.seed);
  Noise noise(case_.seed);
  scale_ = case_.sharpness / std::sqrt(static_cast<float>(case_.head_dim));

  std::vector<int32_t> q_begin;
  std::vector<int32_t> pages_of;
  int longest = 1;
  for (size_t i = 0; i < num_seqs; ++i) {
    q_begin.push_back(num_rows_);
    num_rows_ += case_.q_len[i];
    pages_of.push_back((case_.kv_len[i] + case_.page_size - 1) / case_.page_size);
    longest = std::max(longest, pages_of.back());
  }
  const int used = std::accumulate(pages_of.begin(), pages_of.end(), 0);
  num_pages_ = used + used / 4 + 2;
  page_table_stride_ = longest + 3;

  std::vector<int32_t> order(static_cast<size_t>(num_pages_));
  std::iota(order.begin(), order.end(), 0);
  std::shuffle(order.begin(), order.end(), random);
  // Entries beyond a sequence's pages must not be looked at.
  std::vector<int32_t> table(num_seqs * static_cast<size_t>(page_table_stride_),
                             std::numeric_limits<int32_t>::max());
  const int64_t dim = case_.head_dim;
  token_stride_ = case_.heads_inside_tokens ? dim * case_.num_kv_heads : dim;
  head_stride_ = case_.heads_inside_tokens ? dim : dim * case_.page_size;
  page_stride_ = dim * case_.page_size * case_.num_kv_heads;
  std::vector<uint16_t> k(static_cast<size_t>(page_stride_ * num_pages_), kNan);
  std::vector<uint16_t> v(k.size(), kNan);
  size_t next = 0;
  for (size_t i = 0; i < num_seqs; ++i) {
    for (int p = 0; p < pages_of[i]; ++p) {
      const auto page = static_cast<size_t>(order[next++]);
      table[i * static_cast<size_t>(page_table_stride_) + static_cast<size_t>(p)] =
          static_cast<int32_t>(page);
      const int tokens = std::min(case_.page_size, case_.kv_len[i] - p * case_.page_size);
      for (int h = 0; h < case_.num_kv_heads; ++h) {
        for (int t = 0; t < tokens; ++t) {
          const int64_t row =
              static_cast<int64_t>(page) * page_stride_ + h * head_stride_ + t * token_stride_;
          const int to_end = case_.kv_len[i] - p * case_.page_size - t;
          const float size = 1.0F + case_.rise * static_cast<float>(to_end) / 128.0F;
          for (int64_t e = row; e < row + dim; ++e) {
            k[static_cast<size_t>(e)] = to_bfloat16(size * noise.next() - case_.offset).bits;
            v[static_cast<size_t>(e)] = to_bfloat16(noise.next()).bits;
          }
        }
      }
    }
  }
  std::vector<uint16_t> q(static_cast<size_t>(std::max(num_rows_, 1) * case_.num_heads * case_.head_dim));
  for (uint16_t& value : q) value = to_bfloat16(2.0F * noise.next() + case_.offset).bits;
  std::vector<float> sinks;
  for (int h = 0; h < case_.num_heads; ++h) sinks.push_back(2.0F * noise.next());

  q_ = upload(q);
  k_ = upload(k);
  v_ = upload(v);
  sinks_ = upload(sinks);
  kv_len_ = upload(std::vector<int32_t>(case_.kv_len.begin(), case_.kv_len.end()));
  q_len_ = upload(std::vector<int32_t>(case_.q_len.begin(), case_.q_len.end()));
  q_begin_ = upload(q_begin);
  page_table_ = upload(table);
  out_ = upload(std::vector<uint16_t>(q.size()));
  lse_ = upload(std::vector<float>(static_cast<size_t>(num_rows_ * case_.num_heads)));

  PagedKv kv;
  kv.k = k_.as<void>();
  kv.v = v_.as<void>();
  kv.dtype = DType::bf16;
  kv.num_kv_heads = case_.num_kv_heads;
  kv.head_dim_k = kv.head_dim_v = case_.head_dim;
  kv.page_size = case_.page_size;
  kv.k_page_stride = kv.v_page_stride = page_stride_;
  kv.k_head_stride = kv.v_head_stride = head_stride_;
  kv.k_token_stride = kv.v_token_stride = token_stride_;
  auto maps = make_kv_maps(kv, num_pages_);
  BIFOCAL_CHECK(maps.ok());
  maps_ = std::move(*maps);
}

AttentionResult GpuProblem::reference() const {
  const auto rows = static_cast<size_t>(num_rows_ * case_.num_heads);
  auto out = upload(std::vector<float>(rows * static_cast<size_t>(case_.head_dim)));
  auto lse = upload(std::vector<float>(rows));
  ReferenceAttention args;
  args.num_seqs = static_cast<int>(case_.kv_len.size());
  args.max_q_len = *std::max_element(case_.q_len.begin(), case_.q_len.end());
  args.q_begin = q_begin();
  args.q_len = q_len();
  args.kv_len = kv_len();
  args.page_table = page_table();
  args.page_table_stride = page_table_stride_;
  args.q = q();
  args.k = k_.as<uint16_t>();
  args.v = v_.as<uint16_t>();
  args.token_stride = token_stride_;
  args.head_stride = head_stride_;
  args.page_stride = page_stride_;
  args.page_size = case_.page_size;
  args.num_heads = case_.num_heads;
  args.num_kv_heads = case_.num_kv_heads;
  args.head_dim = case_.head_dim;
  args.window = case_.window;
  args.softcap = case_.softcap;
  args.scale = scale_;
  args.sinks = sinks();
  args.out = out.as<float>();
  args.lse = lse.as<float>();
  BIFOCAL_CHECK(run_reference_attention(args, nullptr).ok());
  BIFOCAL_CHECK_EQ(cudaDeviceSynchronize(), cudaSuccess);
  return {download<float>(out), download<float>(lse)};
}

void GpuProblem::poison_outputs() const {
  BIFOCAL_CHECK_EQ(cudaMemset(out_.as<void>(), 0xFF, out_.bytes()), cudaSuccess);
  BIFOCAL_CHECK_EQ(cudaMemset(lse_.as<void>(), 0xFF, lse_.bytes()), cudaSuccess);
}

std::vector<uint16_t> GpuProblem::out_bits() const {
  return download<uint16_t>(out_);
}

AttentionResult GpuProblem::result() const {
  AttentionResult result;
  for (const uint16_t bits : out_bits()) result.out.push_back(to_float(BFloat16{bits}));
  result.out.resize(static_cast<size_t>(num_rows_ * case_.num_heads * case_.head_dim));
  result.lse = download<float>(lse_);
  return result;
}

double relative_error(const std::vector<float>& a, const std::vector<float>& b) {
  double difference = 0.0;
  double norm = 0.0;
  for (size_t i = 0; i < b.size(); ++i) {
    const double d = static_cast<double>(a[i]) - static_cast<double>(b[i]);
    if (std::isnan(d)) return std::numeric_limits<double>::infinity();
    difference += d * d;
    norm += static_cast<double>(b[i]) * static_cast<double>(b[i]);
  }
  return norm > 0.0 ? std::sqrt(difference / norm) : std::sqrt(difference);
}

double largest_difference(const std::vector<float>& a, const std::vector<float>& b) {
  double largest = 0.0;
  for (size_t i = 0; i < b.size(); ++i) {
    if (a[i] == b[i]) continue;
    const double d = std::abs(static_cast<double>(a[i]) - static_cast<double>(b[i]));
    largest = std::isnan(d) ? std::numeric_limits<double>::infinity() : std::max(largest, d);
  }
  return largest;
}

}  // namespace bifocal::kernels::cuda
