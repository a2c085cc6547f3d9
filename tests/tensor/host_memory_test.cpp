#include "tensor/host_memory.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <cstring>
#include <limits>
#include <utility>

namespace bifocal {
namespace {

constexpr size_t kMiB = size_t{1} << 20;

TEST(HostMemory, IsZeroedAlignedAndWritableToItsEnd) {
  for (const size_t bytes :
       {size_t{0}, size_t{1}, size_t{100}, 2 * kMiB - 1, 2 * kMiB, 2 * kMiB + 1, 5 * kMiB + 4097}) {
    auto memory = HostMemory::allocate(bytes);
    ASSERT_TRUE(memory.ok()) << bytes;
    EXPECT_EQ(memory->num_bytes(), bytes);
    ASSERT_NE(memory->data(), nullptr);
    EXPECT_EQ(reinterpret_cast<uintptr_t>(memory->data()) % 64, 0U);
    auto* const begin = static_cast<unsigned char*>(memory->data());
    for (size_t i = 0; i < bytes; ++i) ASSERT_EQ(begin[i], 0) << i;
    std::memset(begin, 0xab, bytes);
  }
}

// Memory that the heap gives back keeps its small pages: a large block must not come from there.
TEST(HostMemory, LargeBlocksStartOnAHugePageAndAreFresh) {
  for (int i = 0; i < 3; ++i) {
    auto memory = HostMemory::allocate(3 * kMiB);
    ASSERT_TRUE(memory.ok());
    EXPECT_EQ(reinterpret_cast<uintptr_t>(memory->data()) % (2 * kMiB), 0U);
    auto* const begin = static_cast<unsigned char*>(memory->data());
    EXPECT_EQ(begin[0], 0);
    EXPECT_EQ(begin[3 * kMiB - 1], 0);
    std::memset(begin, 0xff, 3 * kMiB);
  }
}

TEST(HostMemory, MovesWithItsBytes) {
  auto memory = HostMemory::allocate(4 * kMiB);
  ASSERT_TRUE(memory.ok());
  static_cast<char*>(memory->data())[1] = 7;
  HostMemory moved = *std::move(memory);
  EXPECT_EQ(static_cast<char*>(moved.data())[1], 7);
  moved = HostMemory();
  EXPECT_EQ(moved.data(), nullptr);
}

TEST(HostMemory, WhatDoesNotFitIsAnError) {
  for (const size_t bytes : {size_t{1} << 60, std::numeric_limits<size_t>::max()}) {
    const auto memory = HostMemory::allocate(bytes);
    ASSERT_FALSE(memory.ok());
    EXPECT_EQ(memory.status().code(), StatusCode::resource_exhausted);
  }
}

}  // namespace
}  // namespace bifocal
