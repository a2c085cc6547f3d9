// Attention that rotates on its way beside rotation as a kernel of its own.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "kernels/cuda/decode.h"
#include "kernels/cuda/device_array.h"
#include "kernels/cuda/elementwise.h"
#include "kernels/cuda/rope_case.h"

namespace bifocal::kernels::cuda {
namespace {

constexpr int kPage = 64;
constexpr int kRepeats = 20;

// A decode step: keys of earlier steps in random pages, NaN in all other places, and where newest ones
// belong.
class Step {
 public:
  Step(const RopeCase& c, const std::vector<int>& kv_len) : case_(c), num_seqs_(kv_len.size()) {
    const size_t dim = size(c.head_dim);
    const size_t heads = size(c.num_heads);
    const size_t kv_heads = size(c.num_kv_heads);
    const size_t most_pages = size(*std::max_element(kv_len.begin(), kv_len.end()) / kPage + 1);
    const size_t num_pages = num_seqs_ * most_pages;
    std::vector<uint16_t> cache(num_pages * kv_heads * kPage * dim, 0xFFFF);
    const auto noise = random_bf16(cache.size(), 1);
    std::vector<int32_t> table(num_pages);
    std::vector<int32_t> positions;
    std::vector<int64_t> slots;
    for (size_t b = 0; b < num_seqs_; ++b) {
      for (size_t p = 0; p < most_pages; ++p) {
        table[b * most_pages + p] = static_cast<int32_t>((b * most_pages + p) * 7 % num_pages);
      }
      const auto place = [&](int key) { return size(table[b * most_pages + size(key / kPage)]) * kv_heads; };
      for (int key = 0; key + 1 < kv_len[b]; ++key) {
        for (size_t h = 0; h < kv_heads; ++h) {
          const size_t at = ((place(key) + h) * kPage + size(key % kPage)) * dim;
          std::copy_n(noise.begin() + static_cast<std::ptrdiff_t>(at), dim,
                      cache.begin() + static_cast<std::ptrdiff_t>(at));
        }
      }
      const int last = kv_len[b] - 1;
      positions.push_back(std::max(last, 0));
      slots.push_back(last < 0 ? -1
                               : int64_t{table[b * most_pages + size(last / kPage)]} * kPage + last % kPage);
    }
    k_ = cache;
    v_ = cache;
    for (size_t i = 0; i < v_.size(); ++i) v_[i] = cache[i] == 0xFFFF ? 0xFFFF : noise[v_.size() - 1 - i];
    table_ = upload(table);
    kv_len_ = upload(kv_len);
    positions_ = upload(positions);
    slots_ = upload(slots);
    qkv_ = upload(random_bf16(num_seqs_ * (heads + 2 * kv_heads) * dim, 2, 2.0));
    bias_ = upload(random_bf16((heads + 2 * kv_heads) * dim, 3));
    norm_ = upload(random_bf16(dim, 4, 2.0));
    std::vector<float> inv_freq(size(std::max(c.rotary_dim / 2, 1)));
    for (size_t j = 0; j < inv_freq.size(); ++j) {
      inv_freq[j] = static_cast<float>(std::pow(1e6, -2.0 * static_cast<double>(j) / c.rotary_dim));
    }
    inv_freq_ = upload(inv_freq);
    desc_.num_heads = c.num_heads;
    desc_.num_kv_heads = c.num_kv_heads;
    desc_.head_dim = c.head_dim;
    desc_.page_size = kPage;
    desc_.scale = 0.1F;
    desc_.spans = default_span_rule(c.num_kv_heads);
    batch_.num_seqs = static_cast<int>(num_seqs_);
    batch_.kv_len = kv_len_.as<int32_t>();
    batch_.page_table = table_.as<int32_t>();
    batch_.page_table_stride = static_cast<int64_t>(most_pages);
    auto buffers = make_decode_buffers(desc_, {64, 1 << 14});
    BIFOCAL_CHECK(buffers.ok());
    buffers_ = std::move(*buffers);
    EXPECT_EQ(cudaStreamCreate(&stream_), cudaSuccess);
  }
  ~Step() { cudaStreamDestroy(stream_); }
  Step(const Step&) = delete;
  Step& operator=(const Step&) = delete;

  struct Results {
    std::vector<uint16_t> out, k, v;
    bool operator==(const Results&) const = default;
  };

  Results run(bool in_attention, bool early) {
    const DeviceMemory k = upload(k_), v = upload(v_), q = poisoned<uint16_t>(num_seqs_ * row()),
                       out = poisoned<uint16_t>(num_seqs_ * row());
    RopeKv rope;
    rope.qkv = qkv_.as<uint16_t>();
    rope.bias = case_.bias ? bias_.as<uint16_t>() : nullptr;
    rope.q_norm = rope.k_norm = case_.norm ? norm_.as<uint16_t>() : nullptr;
    rope.norm_eps = 1e-6F;
    rope.inv_freq = inv_freq_.as<float>();
    rope.rotary_dim = case_.rotary_dim;
    rope.interleaved = case_.interleaved;
    rope.attention_factor = 1.25F;
    rope.positions = positions_.as<int32_t>();
    rope.kv_slots = slots_.as<int64_t>();
    rope.num_tokens = static_cast<int>(num_seqs_);
    rope.num_heads = case_.num_heads;
    rope.num_kv_heads = case_.num_kv_heads;
    rope.head_dim = case_.head_dim;
    rope.page_size = kPage;
    rope.q = q.as<uint16_t>();
    rope.k = k.as<uint16_t>();
    rope.v = v.as<uint16_t>();
    EXPECT_TRUE(decode_rotates(desc_, rope));

    PagedKv kv;
    kv.k = k.as<void>();
    kv.v = v.as<void>();
    kv.dtype = DType::bf16;
    kv.num_kv_heads = case_.num_kv_heads;
    kv.head_dim_k = kv.head_dim_v = case_.head_dim;
    kv.page_size = kPage;
    set_dense_strides(kv);
    const auto maps = make_kv_maps(
        kv, static_cast<int>(k_.size() / (size(case_.num_kv_heads) * kPage * size(case_.head_dim))));
    EXPECT_TRUE(maps.ok());
    DecodeLayer layer;
    layer.rotation = in_attention ? &rope : nullptr;
    layer.q = q.as<uint16_t>();
    layer.q_stride = static_cast<int64_t>(row());
    layer.kv = &*maps;
    layer.out = out.as<uint16_t>();
    layer.out_stride = layer.q_stride;
    const auto plan = plan_decode(desc_, batch_, buffers_, {stream_, false, false});
    EXPECT_TRUE(plan.ok());
    EXPECT_EQ(cudaStreamSynchronize(stream_), cudaSuccess);
    if (!in_attention) {
      EXPECT_TRUE(rope_kv(rope, {stream_, early, false}).ok());
    }
    const Status status = run_decode(*plan, layer, {stream_, early, early});
    EXPECT_TRUE(status.ok()) << status.message();
    EXPECT_EQ(cudaStreamSynchronize(stream_), cudaSuccess);
    return {download<uint16_t>(out), download<uint16_t>(k), download<uint16_t>(v)};
  }

 private:
  static size_t size(int n) { return static_cast<size_t>(n); }
  size_t row() const { return size(case_.num_heads) * size(case_.head_dim); }

  RopeCase case_;
  size_t num_seqs_;
  std::vector<uint16_t> k_, v_;
  DeviceMemory table_, kv_len_, positions_, slots_, qkv_, bias_, norm_, inv_freq_;
  DecodeDesc desc_;
  DecodeBatch batch_;
  DecodeBuffers buffers_;
  cudaStream_t stream_ = nullptr;
};

void expect_the_same_bits(const RopeCase& rotate_case, const std::vector<int>& lengths, int repeats) {
  Step step(rotate_case, lengths);
  const Step::Results apart = step.run(false, false);
  ASSERT_EQ(std::count_if(apart.out.begin(), apart.out.end(),
                          [](uint16_t bits) { return std::isnan(bf16_value(bits)); }),
            0);
  for (int repeat = 0; repeat < repeats; ++repeat) {
    ASSERT_TRUE(step.run(true, repeat % 2 == 1) == apart) << "repeat " << repeat;
  }
}

TEST(DecodeRotate, HasTheBitsOfARotationOfItsOwn) {
  REQUIRE_GPU();
  const std::vector<RopeCase> cases = {
      {32, 8, 128, 128, false, false, true}, {5, 1, 128, 64, false, true, false},
      {6, 2, 64, 64, true, true, true},      {28, 2, 64, 64, false, false, true},
      {2, 1, 64, 16, true, false, false},    {4, 2, 128, 0, false, false, false}};
  const std::vector<std::vector<int>> lengths = {
      {1}, {1025}, {2, 16, 0, 17, 64, 65, 1, 100, 129, 0}, {3000, 5, 512, 513, 700, 128}};
  for (size_t i = 0; i < cases.size(); ++i) {
    for (size_t j = 0; j < lengths.size(); ++j) {
      SCOPED_TRACE("case " + std::to_string(i) + ", lengths " + std::to_string(j));
      expect_the_same_bits(cases[i], lengths[j], kRepeats);
    }
  }
}

// Little enough for a checker (tools/check_gpu_memory.sh).
TEST(DecodeRotate, SmallStepsHaveThemToo) {
  REQUIRE_GPU();
  const std::vector<int> lengths = {2, 0, 17, 64, 300};
  expect_the_same_bits({8, 2, 128, 128, false, false, true}, lengths, 2);
  expect_the_same_bits({16, 2, 64, 64, true, true, true}, lengths, 2);
}

TEST(DecodeRotate, IsRefusedWhereAWarpCannot) {
  DecodeDesc desc;
  desc.num_heads = 8;
  desc.num_kv_heads = 2;
  desc.head_dim = 128;
  RopeKv rope;
  rope.rotary_dim = 128;
  EXPECT_TRUE(decode_rotates(desc, rope));
  rope.rotary_dim = 20;
  EXPECT_FALSE(decode_rotates(desc, rope)) << "partners in different places of two lanes";
  rope.interleaved = true;
  EXPECT_TRUE(decode_rotates(desc, rope));
  desc.q_len = 2;
  EXPECT_FALSE(decode_rotates(desc, rope)) << "tokens to verify";
  desc.q_len = 1;
  desc.num_heads = 18;
  EXPECT_FALSE(decode_rotates(desc, rope)) << "no registers for more than eight rows of 128";
}

}  // namespace
}  // namespace bifocal::kernels::cuda
