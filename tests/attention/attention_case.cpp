#include "attention/attention_case.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <cstring>
#include <limits>
#include <map>
#include <numeric>

#include "base/hash.h"
#include "kernels/cpu/float_bits.h"
#include "kernels/cpu/isa.h"

namespace bifocal::attention {
namespace {

constexpr int kSparePages = 3;

// Nearly normal, deviation 1, from a hash: a sum of four uniform numbers.
float hashed_normal(uint64_t key) {
  const uint64_t bits = mix64(key);
  int sum = 0;
  for (int i = 0; i < 4; ++i) sum += static_cast<int>((bits >> (16 * i)) & 0xffffU);
  return (static_cast<float>(sum) - 131070.0F) * (1.0F / 37837.0F);
}

uint64_t key_of(uint64_t seed, uint64_t what, uint64_t identity, uint64_t position, uint64_t head) {
  return hash_combine(hash_combine(hash_combine(hash_combine(seed, what), identity), position), head);
}

void store_element(DType dtype, uint8_t* base, int64_t index, float value) {
  switch (dtype) {
    case DType::bf16: {
      const BFloat16 x = to_bfloat16(value);
      std::memcpy(base + index * 2, &x, 2);
      break;
    }
    case DType::f16: {
      const Float16 x = to_float16(value);
      std::memcpy(base + index * 2, &x, 2);
      break;
    }
    case DType::f8_e4m3:
      base[index] = kernels::cpu::f8_e4m3_from_float(value);
      break;
    default:
      std::memcpy(base + index * 4, &value, 4);
  }
}

// The first key that any of the sequence's queries sees.
int first_key(const AttentionDesc& desc, const CaseSequence& seq) {
  const int first_end = seq.kv_len - seq.q_len + 1;
  return desc.window > 0 ? std::max(0, first_end - desc.window) : 0;
}

}  // namespace

int64_t CaseSpec::num_rows() const {
  int64_t rows = 0;
  for (const CaseSequence& seq : sequences) rows += seq.q_len;
  return rows;
}

int CaseSpec::max_kv_len() const {
  int longest = 1;
  for (const CaseSequence& seq : sequences) longest = std::max(longest, seq.kv_len);
  return longest;
}

PlanLimits CaseSpec::limits() const {
  return {static_cast<int>(std::max<int64_t>(1, num_rows())),
          static_cast<int>(std::max<size_t>(1, sequences.size())), max_kv_len(), num_threads};
}

CaseData::CaseData(const CaseSpec& spec) : desc_(spec.desc), num_rows_(spec.num_rows()) {
  fill_pages(spec);
  fill_queries(spec);
  batch_.phase = spec.phase;
  batch_.causal = spec.causal;
  batch_.step = spec.seed;
  batch_.q_begin = q_begin_;
  batch_.q_len = q_len_;
  batch_.kv_len = kv_len_;
  batch_.page_table = page_table_;
}

void CaseData::fill_pages(const CaseSpec& spec) {
  const int page_size = desc_.page_size;
  const auto heads = static_cast<size_t>(desc_.num_kv_heads);
  const size_t bytes = size_of(desc_.kv_dtype);
  const bool shared_kv = desc_.kind == Kind::mla;  // V is the front of K
  const size_t table_width = static_cast<size_t>((spec.max_kv_len() + page_size - 1) / page_size);
  batch_.page_table_stride = static_cast<int64_t>(table_width);
  page_table_.assign(table_width * spec.sequences.size(), -1);

  size_t num_pages = kSparePages;
  for (const CaseSequence& seq : spec.sequences)
    num_pages += static_cast<size_t>((seq.kv_len + page_size - 1) / page_size);
  std::vector<int32_t> free_pages(num_pages);
  std::iota(free_pages.begin(), free_pages.end(), 0);
  SplitMix64 shuffle(spec.seed ^ 0x5eedU);
  for (size_t i = num_pages; i > 1; --i) std::swap(free_pages[i - 1], free_pages[shuffle.below(i)]);

  const size_t k_page = heads * static_cast<size_t>(page_size * desc_.head_dim_k);
  const size_t v_page = heads * static_cast<size_t>(page_size * desc_.head_dim_v);
  const auto fill_nan = [&](std::vector<uint8_t>& memory, size_t elements) {
    memory.resize(elements * bytes);
    for (size_t i = 0; i < elements; ++i) {
      store_element(desc_.kv_dtype, memory.data(), static_cast<int64_t>(i),
                    std::numeric_limits<float>::quiet_NaN());
    }
  };
  fill_nan(k_, num_pages * k_page);
  if (!shared_kv) fill_nan(v_, num_pages * v_page);

  std::map<std::pair<uint32_t, int>, int32_t> shared_pages;
  const auto take_page = [&] {
    const int32_t page = free_pages.back();
    free_pages.pop_back();
    return page;
  };
  for (size_t s = 0; s < spec.sequences.size(); ++s) {
    const CaseSequence& seq = spec.sequences[s];
    for (int t = first_key(desc_, seq); t < seq.kv_len; ++t) {
      int32_t& page = page_table_[s * table_width + static_cast<size_t>(t / page_size)];
      if (page < 0 && spec.share_pages && (t / page_size + 1) * page_size <= seq.prefix_len) {
        const auto [entry, is_new] = shared_pages.try_emplace({seq.prefix_identity, t / page_size}, -1);
        if (is_new) entry->second = take_page();
        page = entry->second;
      }
      if (page < 0) page = take_page();
      const uint32_t identity = t < seq.prefix_len ? seq.prefix_identity : seq.identity;
      for (size_t h = 0; h < heads; ++h) {
        const auto row =
            (static_cast<int64_t>(page) * desc_.num_kv_heads + static_cast<int64_t>(h)) * page_size +
            t % page_size;
        const uint64_t k_key = key_of(spec.seed, 1, identity, static_cast<uint64_t>(t), h);
        for (int d = 0; d < desc_.head_dim_k; ++d) {
          store_element(desc_.kv_dtype, k_.data(), row * desc_.head_dim_k + d,
                        hashed_normal(k_key + static_cast<uint64_t>(d)));
        }
        if (shared_kv) continue;
        const uint64_t v_key = key_of(spec.seed, 2, identity, static_cast<uint64_t>(t), h);
        for (int d = 0; d < desc_.head_dim_v; ++d) {
          store_element(desc_.kv_dtype, v_.data(), row * desc_.head_dim_v + d,
                        hashed_normal(v_key + static_cast<uint64_t>(d)));
        }
      }
    }
  }

  kernels::PagedKv& kv = inputs_.kv;
  kv.k = k_.data();
  kv.v = shared_kv ? k_.data() : v_.data();
  kv.dtype = desc_.kv_dtype;
  kv.num_kv_heads = desc_.num_kv_heads;
  kv.head_dim_k = desc_.head_dim_k;
  kv.head_dim_v = desc_.head_dim_v;
  kv.page_size = page_size;
  kv.k_token_stride = desc_.head_dim_k;
  kv.v_token_stride = shared_kv ? desc_.head_dim_k : desc_.head_dim_v;
  kv.k_head_stride = kv.k_token_stride * page_size;
  kv.v_head_stride = kv.v_token_stride * page_size;
  kv.k_page_stride = kv.k_head_stride * desc_.num_kv_heads;
  kv.v_page_stride = kv.v_head_stride * desc_.num_kv_heads;
}

void CaseData::fill_queries(const CaseSpec& spec) {
  const int heads = desc_.num_heads;
  inputs_.q_stride = static_cast<int64_t>(heads) * desc_.head_dim_k + 3;
  inputs_.out_stride = static_cast<int64_t>(heads) * desc_.head_dim_v + 5;
  q_.assign(static_cast<size_t>(num_rows_ * inputs_.q_stride), std::numeric_limits<float>::quiet_NaN());
  out_.assign(static_cast<size_t>(num_rows_ * inputs_.out_stride), kPadding);
  lse_.assign(static_cast<size_t>(num_rows_ * heads), kPadding);

  int64_t row = 0;
  for (const CaseSequence& seq : spec.sequences) {
    q_begin_.push_back(static_cast<int32_t>(row));
    q_len_.push_back(seq.q_len);
    kv_len_.push_back(seq.kv_len);
    for (int i = 0; i < seq.q_len; ++i, ++row) {
      const auto position = static_cast<uint64_t>(seq.kv_len - seq.q_len + i);
      for (int h = 0; h < heads; ++h) {
        const uint64_t key = key_of(spec.seed, 3, seq.identity, position, static_cast<uint64_t>(h));
        float* q = q_.data() + row * inputs_.q_stride + static_cast<int64_t>(h) * desc_.head_dim_k;
        for (int d = 0; d < desc_.head_dim_k; ++d)
          q[d] = spec.q_spread * hashed_normal(key + static_cast<uint64_t>(d));
      }
    }
  }
  if (desc_.sinks) {
    for (int h = 0; h < heads; ++h)
      sinks_.push_back(2.0F * hashed_normal(key_of(spec.seed, 4, 0, 0, static_cast<uint64_t>(h))));
    inputs_.sinks = sinks_.data();
  }
  inputs_.q = q_.data();
  inputs_.out = out_.data();
  inputs_.lse = lse_.data();
}

std::vector<float> CaseData::out() const {
  const auto width = static_cast<int64_t>(desc_.num_heads) * desc_.head_dim_v;
  std::vector<float> rows;
  rows.reserve(static_cast<size_t>(num_rows_ * width));
  for (int64_t row = 0; row < num_rows_; ++row) {
    const float* begin = out_.data() + row * inputs_.out_stride;
    rows.insert(rows.end(), begin, begin + width);
  }
  return rows;
}

bool CaseData::padding_untouched() const {
  const auto width = static_cast<int64_t>(desc_.num_heads) * desc_.head_dim_v;
  for (int64_t row = 0; row < num_rows_; ++row) {
    for (int64_t i = width; i < inputs_.out_stride; ++i) {
      if (out_[static_cast<size_t>(row * inputs_.out_stride + i)] != kPadding) return false;
    }
  }
  return true;
}

CaseResult run_case(const CaseSpec& spec) {
  const auto isa = kernels::cpu::parse_isa(spec.isa);
  EXPECT_TRUE(isa.ok()) << isa.status().message();
  if (!isa.ok()) return {};
  EXPECT_TRUE(kernels::cpu::set_isa(*isa).ok());
  const Backend* backend = find_backend(spec.backend);
  EXPECT_NE(backend, nullptr) << spec.backend;
  if (backend == nullptr) return {};
  const auto reason = ineligible_reason(backend->capabilities(), spec.desc, spec.phase, true);
  EXPECT_FALSE(reason.has_value()) << reason.value_or("");

  const CaseData data(spec);
  auto buffers = backend->make_buffers(spec.desc, spec.limits());
  EXPECT_TRUE(buffers.ok()) << buffers.status().message();
  if (!buffers.ok()) return {};
  const Plan plan = backend->plan(spec.desc, data.batch(), *buffers);
  ThreadPool pool(spec.num_threads);
  const Status status = backend->run(plan, spec.desc, spec.seed, data.inputs(), pool);
  EXPECT_TRUE(status.ok()) << status.message();
  EXPECT_TRUE(data.padding_untouched()) << to_string(spec);
  return {data.out(), data.lse()};
}

CaseResult run_reference(CaseSpec spec) {
  spec.backend = "reference";
  spec.num_threads = 1;
  return run_case(spec);
}

std::string compare(const CaseSpec& spec, const CaseResult& result, const CaseResult& reference) {
  // Relative to the largest output: sums of values of both signs may cancel.
  constexpr float kBound = 1e-5F;
  const auto differ = [&](const std::vector<float>& a, const std::vector<float>& b, const char* what,
                          int64_t width) -> std::string {
    if (a.size() != b.size())
      return fmt::format("{} {} has {} elements, not {}", to_string(spec), what, a.size(), b.size());
    float scale = 1.0F;
    for (const float x : b) {
      if (std::isfinite(x)) scale = std::max(scale, std::fabs(x));
    }
    for (size_t i = 0; i < a.size(); ++i) {
      if (a[i] == b[i]) continue;  // also infinities
      if (!(std::fabs(a[i] - b[i]) <= kBound * scale)) {
        const auto n = static_cast<int64_t>(i);
        return fmt::format("{}: {}[{}][{}] is {}, reference {}\n  rerun: attention_tests --case=\"{}\"", what,
                           what, n / width, n % width, a[i], b[i], to_string(spec));
      }
    }
    return {};
  };
  std::string out =
      differ(result.out, reference.out, "out", int64_t{spec.desc.num_heads} * spec.desc.head_dim_v);
  return out.empty() ? differ(result.lse, reference.lse, "lse", spec.desc.num_heads) : out;
}

}  // namespace bifocal::attention
