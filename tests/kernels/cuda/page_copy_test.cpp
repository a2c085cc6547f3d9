#include "kernels/cuda/page_copy.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "kernels/cuda/device_array.h"

namespace bifocal::kernels::cuda {
namespace {

constexpr int kLayers = 3;
constexpr int kPages = 5;

// Keys or values, and what a copy makes of them, element by element.
struct Side {
  Side(const PageCopy& shape, uint32_t seed) {
    const int64_t head_elements = int64_t{shape.page_size} * shape.head_dim;
    before = random_bf16(static_cast<size_t>(kLayers * kPages * shape.num_kv_heads * head_elements), seed);
    after = before;
    for (int layer = 0; layer < kLayers; ++layer) {
      for (int head = 0; head < shape.num_kv_heads; ++head) {
        const auto of_page = [&](int page) {
          return ((int64_t{layer} * kPages + page) * shape.num_kv_heads + head) * head_elements;
        };
        std::copy_n(before.begin() + of_page(shape.source), shape.num_tokens * shape.head_dim,
                    after.begin() + of_page(shape.target));
      }
    }
    device = upload(before);
  }
  std::vector<uint16_t> before, after;
  DeviceMemory device;
};

TEST(PageCopy, CopiesTheFirstTokensInAllLayersAndNothingElse) {
  REQUIRE_GPU();
  for (const int head_dim : {64, 128, 256}) {
    for (const int num_kv_heads : {1, 2, 5}) {
      for (const int num_tokens : {0, 1, 17, 63, 64}) {
        PageCopy args;
        args.num_layers = kLayers;
        args.num_pages = kPages;
        args.num_kv_heads = num_kv_heads;
        args.page_size = 64;
        args.head_dim = head_dim;
        args.source = num_tokens % 2 == 0 ? 4 : 0;
        args.target = 2;
        args.num_tokens = num_tokens;
        const Side keys(args, 1);
        const Side values(args, 2);
        args.k = keys.device.as<uint16_t>();
        args.v = values.device.as<uint16_t>();
        ASSERT_TRUE(copy_page(args, {}).ok());
        ASSERT_EQ(cudaDeviceSynchronize(), cudaSuccess) << cudaGetErrorString(cudaGetLastError());
        EXPECT_EQ(download<uint16_t>(keys.device), keys.after) << num_tokens << " tokens, keys";
        EXPECT_EQ(download<uint16_t>(values.device), values.after) << num_tokens << " tokens, values";
      }
    }
  }
}

TEST(PageCopy, RefusesWhatItHasNoRoomFor) {
  PageCopy good;
  good.num_layers = good.num_kv_heads = 1;
  good.num_pages = 2;
  good.page_size = 64;
  good.head_dim = 64;
  good.target = 1;
  PageCopy bad = good;
  bad.target = bad.source;
  EXPECT_FALSE(copy_page(bad, {}).ok());
  bad = good;
  bad.num_tokens = 65;
  EXPECT_FALSE(copy_page(bad, {}).ok());
  bad = good;
  bad.head_dim = 60;
  EXPECT_FALSE(copy_page(bad, {}).ok());
}

}  // namespace
}  // namespace bifocal::kernels::cuda
