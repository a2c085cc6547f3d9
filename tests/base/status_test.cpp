#include "base/status.h"

#include <gtest/gtest.h>

#include <memory>

#include "base/hash.h"
#include "base/log.h"
#include "base/progress.h"

namespace bifocal {
namespace {

Expected<std::unique_ptr<int>> half(int v) {
  if (v % 2 != 0) return invalid_argument("odd");
  return std::make_unique<int>(v / 2);
}

Expected<int> quarter(int v) {
  BIFOCAL_ASSIGN_OR_RETURN(const auto first, half(v));
  BIFOCAL_ASSIGN_OR_RETURN(const auto second, half(*first));
  return *second;
}

TEST(Status, MacrosPassTheFailureOn) {
  EXPECT_EQ(*quarter(12), 3);
  EXPECT_EQ(quarter(6).status().message(), "odd");
  EXPECT_EQ(quarter(6).status().with_context("file").message(), "file: odd");
  EXPECT_EQ(quarter(6).status().with_context("file").code(), StatusCode::invalid_argument);
}

TEST(Bytes, ParseAndFormat) {
  EXPECT_EQ(parse_bytes("8GiB"), int64_t{8} << 30);
  EXPECT_EQ(parse_bytes("1.5 GB"), int64_t{3} << 29);
  EXPECT_EQ(parse_bytes("512m"), int64_t{512} << 20);
  EXPECT_EQ(parse_bytes("1048576"), int64_t{1} << 20);
  for (const char* bad : {"", "x", "-1", "8 parsecs", "1e30G", "nan"}) EXPECT_LT(parse_bytes(bad), 0) << bad;
  EXPECT_EQ(format_bytes(512), "512 B");
  EXPECT_EQ(format_bytes(uint64_t{3} << 29), "1.5 GiB");
}

TEST(Hash, UniformStaysInsideTheOpenInterval) {
  EXPECT_GT(unit_uniform(0), 0.0);
  EXPECT_LT(unit_uniform(UINT64_MAX), 1.0);
  double sum = 0;
  SplitMix64 rng(3);
  for (int i = 0; i < 100'000; ++i) sum += rng.uniform();
  EXPECT_NEAR(sum / 100'000, 0.5, 0.01);
}

TEST(Log, LevelsHaveNames) {
  EXPECT_TRUE(parse_log_level("warning").ok());
  EXPECT_FALSE(parse_log_level("loud").ok());
}

}  // namespace
}  // namespace bifocal
