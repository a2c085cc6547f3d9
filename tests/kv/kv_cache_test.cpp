#include "kv/kv_cache.h"

#include <gtest/gtest.h>

#include <array>

namespace bifocal::kv {
namespace {

constexpr std::array<LayerShape, 2> kLayers = {LayerShape{2, 8, 8}, LayerShape{1, 24, 16}};

TEST(KvCache, BytesPerPage) {
  // (2*8 + 2*8 + 24 + 16) values per token
  EXPECT_EQ(KvCache::bytes_per_page(kLayers, DType::f32, 16), 72U * 16U * 4U);
  EXPECT_EQ(KvCache::bytes_per_page(kLayers, DType::bf16, 1), 72U * 2U);
}

TEST(KvCache, LayersAreZeroedAndDisjoint) {
  auto cache = KvCache::allocate(kLayers, DType::f32, 4, 3);
  ASSERT_TRUE(cache.ok()) << cache.status().message();
  float mark = 1;
  for (size_t layer = 0; layer < 2; ++layer) {
    const auto kv = cache->layer(layer);
    EXPECT_EQ(kv.k_token_stride, kv.head_dim_k);
    EXPECT_EQ(kv.k_head_stride, 4 * kv.head_dim_k);
    EXPECT_EQ(kv.k_page_stride, kv.num_kv_heads * 4 * (kv.head_dim_k + kv.head_dim_v));
    EXPECT_EQ(kv.v_page_stride, kv.k_page_stride);
    for (auto [base, dim] : {std::pair{kv.k, kv.head_dim_k}, std::pair{kv.v, kv.head_dim_v}}) {
      for (int64_t page = 0; page < 3; ++page) {
        for (int64_t i = 0; i < kv.num_kv_heads * 4 * dim; ++i) {
          float& value = static_cast<float*>(base)[page * kv.k_page_stride + i];
          ASSERT_EQ(value, 0.0F);  // nobody else's mark
          value = mark;
        }
      }
      ++mark;
    }
  }
}

TEST(KvCache, CopiesTheFirstTokensOfEveryHeadAndLayer) {
  constexpr int kPageSize = 4;
  auto cache = KvCache::allocate(kLayers, DType::f32, kPageSize, 3);
  ASSERT_TRUE(cache.ok());
  const auto value = [](size_t layer, int which, int64_t i) {
    return static_cast<float>(1000 * static_cast<int64_t>(layer) + 10'000 * which + i + 1);
  };
  for (size_t layer = 0; layer < 2; ++layer) {
    const auto kv = cache->layer(layer);
    for (int64_t i = 0; i < kv.num_kv_heads * kv.k_head_stride; ++i)
      static_cast<float*>(kv.k)[kv.k_page_stride + i] = value(layer, 0, i);
    for (int64_t i = 0; i < kv.num_kv_heads * kv.v_head_stride; ++i)
      static_cast<float*>(kv.v)[kv.v_page_stride + i] = value(layer, 1, i);
  }
  cache->copy_tokens(PageKind::full, 1, 2, 3);
  for (size_t layer = 0; layer < 2; ++layer) {
    const auto kv = cache->layer(layer);
    for (int which = 0; which < 2; ++which) {
      const auto* base = static_cast<const float*>(which == 0 ? kv.k : kv.v);
      const int64_t head = which == 0 ? kv.k_head_stride : kv.v_head_stride;
      const int64_t dim = which == 0 ? kv.k_token_stride : kv.v_token_stride;
      for (int64_t i = 0; i < kv.num_kv_heads * head; ++i) {
        const bool copied = i % head / dim < 3;
        ASSERT_EQ(base[2 * kv.k_page_stride + i], copied ? value(layer, which, i) : 0.0F);
        ASSERT_EQ(base[i], 0.0F);
      }
    }
  }
}

TEST(KvCache, LayersWithAWindowHaveMemoryForTheirOwnPages) {
  const LayerShape layers[] = {{2, 8, 8, false, true}, {2, 8, 8}};
  auto cache = KvCache::allocate(layers, DType::f32, 16, 64, 4);
  ASSERT_TRUE(cache.ok());
  EXPECT_EQ(cache->page_kind(0), PageKind::window);
  EXPECT_EQ(cache->page_kind(1), PageKind::full);
  EXPECT_EQ(cache->num_pages(PageKind::window), 4);
  EXPECT_EQ(cache->num_bytes(), (64U + 4U) * 2 * 2 * 16 * 8 * 4);
  auto* window_keys = static_cast<float*>(cache->layer(0).k);
  auto* keys = static_cast<float*>(cache->layer(1).k);
  const auto page_stride = cache->layer(0).k_page_stride;
  window_keys[page_stride] = 1;
  keys[page_stride] = 2;
  cache->copy_tokens(PageKind::window, 1, 3, 1);
  EXPECT_EQ(window_keys[3 * page_stride], 1);
  EXPECT_EQ(keys[3 * page_stride], 0);

  const auto shared = KvCache::allocate(layers, DType::f32, 16, 64);
  ASSERT_TRUE(shared.ok());
  EXPECT_EQ(shared->page_kind(0), PageKind::full);
  EXPECT_EQ(shared->num_bytes(), 128U * 2 * 2 * 16 * 8 * 4);
}

TEST(KvCache, RefusesWhatCannotBe) {
  EXPECT_EQ(KvCache::allocate(kLayers, DType::f32, 0, 1).status().code(), StatusCode::invalid_argument);
  EXPECT_EQ(KvCache::allocate(kLayers, DType::f32, 257, 1).status().code(), StatusCode::invalid_argument);
  EXPECT_EQ(KvCache::allocate(kLayers, DType::f32, 16, 0).status().code(), StatusCode::invalid_argument);
  EXPECT_EQ(KvCache::allocate({}, DType::f32, 16, 1).status().code(), StatusCode::invalid_argument);
  const std::array<LayerShape, 1> no_heads = {LayerShape{0, 8, 8}};
  EXPECT_EQ(KvCache::allocate(no_heads, DType::f32, 16, 1).status().code(), StatusCode::invalid_argument);
}

TEST(KvCache, SaysHowMuchWasAskedWhenThereIsNotEnough) {
  const std::array<LayerShape, 1> huge = {LayerShape{1024, 2048, 2048}};
  const auto cache = KvCache::allocate(huge, DType::f32, 256, 2'000'000'000);
  EXPECT_EQ(cache.status().code(), StatusCode::resource_exhausted);
  EXPECT_NE(cache.status().message().find("2000000000 pages x 256 tokens x 1 layers in f32"),
            std::string::npos)
      << cache.status().message();
}

}  // namespace
}  // namespace bifocal::kv
