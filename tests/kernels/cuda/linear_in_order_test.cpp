// Deterministic mode: the bits of a row, whatever stands beside it.
#include <gtest/gtest.h>

#include <cmath>

#include "kernels/cuda/device_array.h"
#include "kernels/cuda/linear.h"
#include "kernels/cuda/order_check.h"
#include "kernels/cuda/skinny_gemm.h"
#include "kernels/cuda/skinny_link.h"
#include "kernels/cuda/unwritten_byte.h"

namespace bifocal::kernels::cuda {
namespace {

size_t count(int rows, int columns) {
  return static_cast<size_t>(rows) * static_cast<size_t>(columns);
}

DeviceMemory filled(int64_t bytes, uint8_t byte) {
  return upload(std::vector<uint8_t>(static_cast<size_t>(bytes), byte));
}

// Rows of [all; n] columns as bytes, beginning with `first`.
std::vector<uint8_t> rows_of(const std::vector<uint8_t>& all, int first, int rows, size_t row_bytes) {
  const auto begin = all.begin() + static_cast<std::ptrdiff_t>(static_cast<size_t>(first) * row_bytes);
  return {begin, begin + static_cast<std::ptrdiff_t>(static_cast<size_t>(rows) * row_bytes)};
}

TEST(OrderCheck, ALinkPassesAndAProductCutAlongKDoesNot) {
  REQUIRE_GPU();
  const int num_sms = current_device()->num_sms;
  const auto check = OrderCheck::create({64, 5120, 8192, true, false}, num_sms);
  ASSERT_TRUE(check.ok()) << check.status().message();
  const auto link = [&](const LinearArgs& args) { return run_skinny_link(args, num_sms, {}); };
  for (const int m : {1, 3, 8}) EXPECT_TRUE(*check->passes(m, link)) << m << " rows";
  EXPECT_FALSE(*check->passes(9, link)) << "a run that fails";
  const DeviceMemory skinny = filled(skinny_workspace_bytes(num_sms), kUnwrittenByte);
  const auto cut = [&](const LinearArgs& args) { return run_skinny(args, skinny.as<void>(), num_sms, {}); };
  EXPECT_FALSE(*check->passes(8, cut));
  EXPECT_FALSE(*check->passes(64, cut));
  const auto nothing = [](const LinearArgs&) { return Status(); };
  EXPECT_FALSE(*check->passes(8, nothing));
}

TEST(OrderCheck, OfFloatsSeesWhatRoundingHides) {
  REQUIRE_GPU();
  const int num_sms = current_device()->num_sms;
  const auto check = OrderCheck::create({8, 512, 4096, false, true}, num_sms);
  ASSERT_TRUE(check.ok()) << check.status().message();
  const DeviceMemory skinny = filled(skinny_workspace_bytes(num_sms), kUnwrittenByte);
  EXPECT_FALSE(*check->passes(
      8, [&](const LinearArgs& args) { return run_skinny(args, skinny.as<void>(), num_sms, {}); }));
}

struct Shape {
  int n;
  int k;
  bool bias;
  DType out;
};

class InOrder : public testing::Test {
 protected:
  static constexpr int kMostRows = 2048;

  static Expected<Linear> create(const LinearTable& table = {}) {
    LinearOptions options;
    options.deterministic = true;
    options.table = table;
    return Linear::create(options);
  }

  // All results of the first m rows of x from row `first` on.
  std::vector<uint8_t> run(Linear& linear, LinearArgs args, int first, int m) {
    const bool f32 = args.out_dtype == DType::f32;
    const DeviceMemory out = poisoned<uint16_t>((f32 ? 2 : 1) * count(m, args.n));
    args.m = m;
    args.x += count(first, args.k);
    if (args.residual != nullptr) args.residual += count(first, args.n);
    args.out = out.as<void>();
    const Status status = linear.run(args, {});
    EXPECT_TRUE(status.ok()) << status.message();
    EXPECT_EQ(cudaDeviceSynchronize(), cudaSuccess);
    return download<uint8_t>(out);
  }

  void expect_same_bits(Linear& linear, const Shape& shape, int most) {
    const auto size = [](int n) { return static_cast<size_t>(n); };
    const DeviceMemory x = upload(random_bf16(count(most, shape.k), 1));
    const double scale = 3.0 / std::sqrt(static_cast<double>(shape.k));
    const DeviceMemory w = upload(random_bf16(count(shape.n, shape.k), 2, scale));
    const DeviceMemory bias = upload(random_bf16(size(shape.n), 3));
    const DeviceMemory residual = upload(random_bf16(count(most, shape.n), 4));
    for (const bool with_residual : {false, true}) {
      if (with_residual && shape.out == DType::f32) continue;
      LinearArgs args;
      args.x = x.as<uint16_t>();
      args.w = w.as<uint16_t>();
      args.n = shape.n;
      args.k = shape.k;
      args.bias = shape.bias ? bias.as<uint16_t>() : nullptr;
      args.residual = with_residual ? residual.as<uint16_t>() : nullptr;
      args.out_dtype = shape.out;
      const size_t row_bytes = size(shape.n) * size_of(shape.out);
      const auto all = run(linear, args, 0, most);
      for (const int m : {1, 3, 8, 9, 16, 31, 64, 100, 512}) {
        for (const int first : {0, (most - m) / 2, most - m}) {
          if (m > most) continue;
          ASSERT_EQ(run(linear, args, first, m), rows_of(all, first, m, row_bytes))
              << m << " rows from " << first << " of " << shape.n << " x " << shape.k << ", residual "
              << with_residual << ": " << linear.describe(m, shape.n, shape.k) << ", beside "
              << linear.describe(most, shape.n, shape.k);
        }
      }
    }
  }
};

TEST_F(InOrder, RowsHaveTheSameBitsInEveryBatch) {
  REQUIRE_GPU();
  auto linear = create();
  REQUIRE_CUBLASLT(linear);
  for (const Shape& shape : {Shape{6144, 4096, false, DType::bf16},
                             {4096, 12288, false, DType::bf16},
                             {5120, 8192, false, DType::bf16},
                             {192, 64, false, DType::bf16},
                             {1024, 1024, true, DType::bf16},
                             {40, 72, false, DType::bf16},  // no tile of ours: one algorithm for every M
                             {20008, 1024, false, DType::f32}}) {
    const int most = shape.out == DType::f32 ? 200 : kMostRows;
    linear->prepare({most, shape.n, shape.k, false, shape.bias, shape.out});
    ASSERT_NO_FATAL_FAILURE(expect_same_bits(*linear, shape, most));
  }
}

TEST_F(InOrder, AMeasuredChoiceIsTakenIfItPasses) {
  REQUIRE_GPU();
  auto first = create();
  REQUIRE_CUBLASLT(first);
  const LinearProduct product{32, 1024, 2048};
  ASSERT_TRUE(first->measure(16, product.n, product.k, false).ok());
  const auto measured = first->measure(32, product.n, product.k, false);
  ASSERT_TRUE(measured.ok()) << measured.status().message();
  LinearTable table = first->table();
  ASSERT_EQ(table.choices.size(), 2U);
  table.choices[0].algorithm.fill(0);  // none that runs: another is found
  auto second = create(table);
  ASSERT_TRUE(second.ok());
  second->prepare(product);
  EXPECT_EQ(second->describe(32, product.n, product.k), measured->best);
  EXPECT_EQ(second->describe(8, product.n, product.k), "one link");
  ASSERT_NO_FATAL_FAILURE(expect_same_bits(*second, {product.n, product.k, false, DType::bf16}, 32));
}

TEST_F(InOrder, RefusesMoreRowsThanPreparedAndSumsInPlace) {
  REQUIRE_GPU();
  auto linear = create();
  REQUIRE_CUBLASLT(linear);
  linear->prepare({16, 256, 128});
  LinearArgs args;
  args.m = 17;
  args.n = 256;
  args.k = 128;
  EXPECT_EQ(linear->run(args, {}).code(), StatusCode::unsupported);
  const DeviceMemory rows = poisoned<uint16_t>(count(4, 256));
  args.m = 4;
  args.residual = rows.as<uint16_t>();
  args.out = rows.as<void>();
  EXPECT_EQ(linear->run(args, {}).code(), StatusCode::invalid_argument);
}

TEST_F(InOrder, GatedRowsAndChainsHaveTheSameBitsInEveryBatch) {
  REQUIRE_GPU();
  auto linear = create();
  REQUIRE_CUBLASLT(linear);
  const int hidden = 1024;
  const int inner = 3072;
  const int most = 300;
  linear->prepare({most, 2 * inner, hidden, true});
  linear->prepare({most, hidden, inner});
  const double scale = 1.7 / std::sqrt(static_cast<double>(hidden));
  const DeviceMemory x = upload(random_bf16(count(most, hidden), 1));
  const DeviceMemory gate_up = upload(random_bf16(count(2 * inner, hidden), 2, scale));
  const DeviceMemory down = upload(random_bf16(count(hidden, inner), 3, scale));
  const DeviceMemory weights = upload(random_bf16(count(1, hidden), 4));
  const auto run = [&](int m) {
    const DeviceMemory wide = poisoned<uint16_t>(count(m, 2 * inner));
    const DeviceMemory middle = poisoned<uint16_t>(count(m, inner));
    const DeviceMemory out = poisoned<uint16_t>(count(m, hidden));
    const DeviceMemory normed = poisoned<uint16_t>(count(m, hidden));
    LinearChain chain;
    chain.m = m;
    chain.norm_eps = 1e-5F;
    LinearLink& gated = chain.add();
    gated.x = x.as<uint16_t>();
    gated.w = gate_up.as<uint16_t>();
    gated.n = inner;
    gated.k = hidden;
    gated.gated = true;
    gated.wide = wide.as<uint16_t>();
    gated.out = middle.as<uint16_t>();
    LinearLink& last = chain.add();
    last.x = middle.as<uint16_t>();
    last.w = down.as<uint16_t>();
    last.n = hidden;
    last.k = inner;
    last.residual = x.as<uint16_t>();
    last.out = out.as<uint16_t>();
    last.norm = weights.as<uint16_t>();
    last.normed = normed.as<uint16_t>();
    const Status status = linear->run_chain(chain, {});
    EXPECT_TRUE(status.ok()) << status.message();
    EXPECT_EQ(cudaDeviceSynchronize(), cudaSuccess);
    return download<uint16_t>(normed);
  };
  const auto all = run(most);
  for (const int m : {1, 3, 8, 9, 16, 31, 64, 100}) {
    ASSERT_EQ(run(m), std::vector<uint16_t>(all.begin(), all.begin() + std::ptrdiff_t{m} * hidden)) << m;
  }
}

}  // namespace
}  // namespace bifocal::kernels::cuda
