#include "kernels/cuda/linear.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "kernels/cuda/cublaslt.h"
#include "kernels/cuda/device_array.h"
#include "kernels/cuda/reference_linear.h"
#include "kernels/cuda/skinny_gemm.h"
#include "kernels/cuda/unwritten_byte.h"

namespace bifocal::kernels::cuda {
namespace {

struct LinearCase {
  int m;
  int n;
  int k;
};

// Random operands whose products are near 1, on the device.
class Operands {
 public:
  explicit Operands(const LinearCase& c, uint64_t seed = 1)
      : c_(c),
        x_(upload(random_bf16(count(c.m, c.k), seed))),
        w_(upload(random_bf16(count(c.n, c.k), seed + 1, 3.0 / std::sqrt(static_cast<double>(c.k))))),
        bias_(upload(random_bf16(static_cast<size_t>(c.n), seed + 2))),
        residual_(upload(random_bf16(count(c.m, c.n), seed + 3))) {}

  LinearArgs args(bool bias, bool residual) const {
    LinearArgs args;
    args.x = x_.as<uint16_t>();
    args.w = w_.as<uint16_t>();
    args.m = c_.m;
    args.n = c_.n;
    args.k = c_.k;
    args.bias = bias ? bias_.as<uint16_t>() : nullptr;
    args.residual = residual ? residual_.as<uint16_t>() : nullptr;
    return args;
  }

  std::vector<float> reference(LinearArgs args) const {
    const DeviceMemory out = poisoned<float>(count(c_.m, c_.n));
    args.out = out.as<void>();
    EXPECT_TRUE(run_reference_linear(args, nullptr).ok());
    EXPECT_EQ(cudaDeviceSynchronize(), cudaSuccess);
    return download<float>(out);
  }

  static size_t count(int rows, int columns) {
    return static_cast<size_t>(rows) * static_cast<size_t>(columns);
  }

 private:
  LinearCase c_;
  DeviceMemory x_, w_, bias_, residual_;
};

// The largest error beyond one rounding to bf16 (or f32) that f32 sums of these operands may have.
constexpr double kSlack = 2e-4;

// Some of cuBLASLt's algorithms round a product, here up to 8, before they add the residual.
constexpr double kTwoRoundings = 0x1p-6;

void expect_rounded(const std::vector<uint16_t>& actual, const std::vector<float>& expected,
                    double slack = kSlack) {
  ASSERT_EQ(actual.size(), expected.size());
  for (size_t i = 0; i < actual.size(); ++i) {
    ASSERT_TRUE(is_rounded(actual[i], static_cast<double>(expected[i]), slack)) << "element " << i;
  }
}

class Skinny {
 public:
  Skinny() {
    const auto device = current_device();
    num_sms_ = device->num_sms;
    workspace_ =
        upload(std::vector<uint8_t>(static_cast<size_t>(skinny_workspace_bytes(num_sms_)), kUnwrittenByte));
  }

  std::vector<uint16_t> run(LinearArgs args, const LaunchOptions& launch = {}) {
    const DeviceMemory out = poisoned<uint16_t>(Operands::count(args.m, args.n));
    args.out = out.as<void>();
    const Status status = run_skinny(args, workspace_.as<void>(), num_sms_, launch);
    EXPECT_TRUE(status.ok()) << status.message();
    EXPECT_EQ(cudaDeviceSynchronize(), cudaSuccess);
    return download<uint16_t>(out);
  }

  void* workspace() const { return workspace_.as<void>(); }
  int num_sms() const { return num_sms_; }

 private:
  int num_sms_ = 0;
  DeviceMemory workspace_;
};

const std::vector<LinearCase> kSkinnyCases = {
    {1, 8, 64},       {1, 10240, 5120}, {4, 5120, 8192},  {5, 304, 128},    {8, 136, 192},   {9, 1000, 1024},
    {16, 120, 320},   {17, 6144, 4096}, {33, 128, 4096},  {64, 5120, 2560}, {64, 8192, 512}, {3, 20008, 64},
    {32, 20008, 448}, {40, 3000, 960},  {50, 51200, 320}, {24, 151936, 128}};

TEST(SkinnyGemm, AgreesWithTheReference) {
  REQUIRE_GPU();
  Skinny skinny;
  for (const LinearCase& c : kSkinnyCases) {
    SCOPED_TRACE(testing::Message() << c.m << " x " << c.n << " x " << c.k);
    const Operands operands(c);
    for (const bool bias : {false, true}) {
      for (const bool residual : {false, true}) {
        const LinearArgs args = operands.args(bias, residual);
        ASSERT_NO_FATAL_FAILURE(expect_rounded(skinny.run(args), operands.reference(args)));
      }
    }
  }
}

TEST(SkinnyGemm, GivesFloatsWithoutRounding) {
  REQUIRE_GPU();
  Skinny skinny;
  for (const LinearCase& c : kSkinnyCases) {
    const Operands operands(c);
    LinearArgs args = operands.args(false, false);
    const auto expected = operands.reference(args);
    const DeviceMemory out = poisoned<float>(expected.size());
    args.out = out.as<void>();
    args.out_dtype = DType::f32;
    ASSERT_TRUE(run_skinny(args, skinny.workspace(), skinny.num_sms(), {}).ok());
    ASSERT_EQ(cudaDeviceSynchronize(), cudaSuccess);
    const auto actual = download<float>(out);
    for (size_t i = 0; i < actual.size(); ++i) {
      ASSERT_LT(std::abs(actual[i] - expected[i]), kSlack) << "element " << i;
    }
  }
}

TEST(SkinnyGemm, GatesInTheEpilogue) {
  REQUIRE_GPU();
  Skinny skinny;
  for (const LinearCase& c : {LinearCase{1, 2 * 3072, 1024},
                              {7, 2 * 8, 64},
                              {16, 2 * 200, 512},
                              {40, 2 * 5120, 640},
                              {64, 2 * 1000, 128},
                              {64, 2 * 25600, 320}}) {
    for (const bool bias : {false, true}) {
      const Operands operands(c);
      const LinearArgs both = operands.args(bias, false);
      const auto wide = operands.reference(both);
      const int inner = c.n / 2;
      const DeviceMemory out = poisoned<uint16_t>(Operands::count(c.m, inner));
      GatedLinearArgs args;
      args.x = both.x;
      args.w = both.w;
      args.m = c.m;
      args.inner = inner;
      args.k = c.k;
      args.bias = both.bias;
      args.out = out.as<uint16_t>();
      ASSERT_TRUE(run_skinny_gated(args, skinny.workspace(), skinny.num_sms(), {}).ok());
      ASSERT_EQ(cudaDeviceSynchronize(), cudaSuccess);
      const auto actual = download<uint16_t>(out);
      for (size_t t = 0; t < static_cast<size_t>(c.m); ++t) {
        for (size_t i = 0; i < static_cast<size_t>(inner); ++i) {
          const auto row = wide.begin() + static_cast<std::ptrdiff_t>(t * static_cast<size_t>(c.n) + i);
          const auto gate = static_cast<double>(*row);
          const auto up = static_cast<double>(row[inner]);
          ASSERT_TRUE(is_rounded(actual[t * static_cast<size_t>(inner) + i],
                                 gate / (1.0 + std::exp(-gate)) * up, 5 * kSlack))
              << "token " << t << ", element " << i;
        }
      }
    }
  }
}

// The rows of a product with `m` rows, each rounded alone.
std::vector<uint16_t> first_rows(const std::vector<uint16_t>& all, int m, int n) {
  return {all.begin(), all.begin() + std::ptrdiff_t{m} * n};
}

TEST(SkinnyGemm, ARowHasTheSameBitsWhateverStandsBesideIt) {
  REQUIRE_GPU();
  Skinny skinny;
  const LinearCase c{64, 5120, 8192};
  const Operands operands(c);
  LinearArgs args = operands.args(false, true);
  const auto all = skinny.run(args);
  for (const int m : {1, 2, 8, 9, 16, 17, 32, 33, 63}) {
    args.m = m;
    ASSERT_EQ(skinny.run(args), first_rows(all, m, c.n)) << m << " rows";
  }
}

// A hundred products, each of what the one before has written: with pauses, without, and from a graph.
void expect_same_bits_in_a_chain(const LinearCase& c) {
  Skinny skinny;
  const Operands operands(c);
  LaunchOptions launch;
  ASSERT_EQ(cudaStreamCreate(&launch.stream), cudaSuccess);
  launch.programmatic = true;
  // Each product reads what the one before has written: x -> a -> b -> a -> ...
  const DeviceMemory a = poisoned<uint16_t>(Operands::count(c.m, c.n));
  const DeviceMemory b = poisoned<uint16_t>(Operands::count(c.m, c.n));
  const auto chain = [&](const LaunchOptions& options) {
    LinearArgs args = operands.args(true, false);
    for (int i = 0; i < 100; ++i) {
      args.out = (i % 2 == 0 ? a : b).as<void>();
      EXPECT_TRUE(run_skinny(args, skinny.workspace(), skinny.num_sms(), options).ok());
      args.x = static_cast<const uint16_t*>(args.out);
      if (!options.programmatic) {
        EXPECT_EQ(cudaStreamSynchronize(options.stream), cudaSuccess);
      }
    }
    EXPECT_EQ(cudaStreamSynchronize(options.stream), cudaSuccess);
    return download<uint16_t>(b);
  };
  LaunchOptions alone = launch;
  alone.programmatic = false;
  const auto expected = chain(alone);
  for (int repeat = 0; repeat < 3; ++repeat) ASSERT_EQ(chain(launch), expected) << "repeat " << repeat;

  cudaGraph_t graph = nullptr;
  cudaGraphExec_t exec = nullptr;
  ASSERT_EQ(cudaStreamBeginCapture(launch.stream, cudaStreamCaptureModeThreadLocal), cudaSuccess);
  LinearArgs args = operands.args(true, false);
  for (int i = 0; i < 100; ++i) {
    args.out = (i % 2 == 0 ? a : b).as<void>();
    EXPECT_TRUE(run_skinny(args, skinny.workspace(), skinny.num_sms(), launch).ok());
    args.x = static_cast<const uint16_t*>(args.out);
  }
  ASSERT_EQ(cudaStreamEndCapture(launch.stream, &graph), cudaSuccess);
  ASSERT_EQ(cudaGraphInstantiate(&exec, graph, 0), cudaSuccess);
  for (int replay = 0; replay < 5; ++replay) {
    ASSERT_EQ(cudaGraphLaunch(exec, launch.stream), cudaSuccess);
    ASSERT_EQ(cudaStreamSynchronize(launch.stream), cudaSuccess);
    ASSERT_EQ(download<uint16_t>(b), expected) << "replay " << replay;
  }
  cudaGraphExecDestroy(exec);
  cudaGraphDestroy(graph);
  cudaStreamDestroy(launch.stream);
}

TEST(SkinnyGemm, HundredRunsInAChainGiveTheSameBits) {
  REQUIRE_GPU();
  for (const int m : {8, 64}) {
    SCOPED_TRACE(testing::Message() << m << " rows");
    ASSERT_NO_FATAL_FAILURE(expect_same_bits_in_a_chain({m, 5120, 5120}));
  }
}

// Blocks of several tiles and whole columns of K, one kernel's copies ahead of the other's end.
TEST(SkinnyGemm, HundredRunsOneBehindAnotherGiveTheSameBits) {
  REQUIRE_GPU();
  Skinny skinny;
  const LinearCase c{64, 24576, 1024};
  const Operands operands(c);
  LinearArgs args = operands.args(true, true);
  const auto expected = skinny.run(args);
  const DeviceMemory out = poisoned<uint16_t>(expected.size());
  args.out = out.as<void>();
  LaunchOptions launch;
  ASSERT_EQ(cudaStreamCreate(&launch.stream), cudaSuccess);
  launch.programmatic = true;
  for (int i = 0; i < 100; ++i) {
    ASSERT_TRUE(run_skinny(args, skinny.workspace(), skinny.num_sms(), launch).ok());
  }
  ASSERT_EQ(cudaStreamSynchronize(launch.stream), cudaSuccess);
  EXPECT_EQ(download<uint16_t>(out), expected);
  cudaStreamDestroy(launch.stream);
}

TEST(SkinnyGemm, SaysWhatItServes) {
  EXPECT_TRUE(skinny_serves(64, 151936, 5120));
  EXPECT_FALSE(skinny_serves(65, 128, 64));
  EXPECT_FALSE(skinny_serves(0, 128, 64));
  EXPECT_FALSE(skinny_serves(1, 128, 96));
  EXPECT_FALSE(skinny_serves(1, 132, 64));
  EXPECT_FALSE(skinny_serves_gated(1, 12, 64));
  LinearArgs args;
  args.m = 65;
  args.n = 128;
  args.k = 64;
  EXPECT_FALSE(run_skinny(args, nullptr, 132, {}).ok());
}

std::vector<uint16_t> run(Linear& linear, LinearArgs args) {
  const DeviceMemory out = poisoned<uint16_t>(Operands::count(args.m, args.n));
  args.out = out.as<void>();
  const Status status = linear.run(args, {});
  EXPECT_TRUE(status.ok()) << status.message();
  EXPECT_EQ(cudaDeviceSynchronize(), cudaSuccess);
  return download<uint16_t>(out);
}

TEST(Linear, AgreesWithTheReference) {
  REQUIRE_GPU();
  for (const bool deterministic : {false, true}) {
    auto linear = Linear::create({deterministic, {}});
    REQUIRE_CUBLASLT(linear);
    for (const LinearCase& c :
         {LinearCase{1, 5120, 1024}, {7, 96, 64}, {65, 640, 512}, {300, 1280, 1032}, {3, 40, 72}}) {
      SCOPED_TRACE(linear->describe(c.m, c.n, c.k));
      const Operands operands(c);
      for (const bool bias : {false, true}) {
        for (const bool residual : {false, true}) {
          const LinearArgs args = operands.args(bias, residual);
          ASSERT_NO_FATAL_FAILURE(expect_rounded(run(*linear, args), operands.reference(args),
                                                 residual ? kTwoRoundings : kSlack));
        }
      }
    }
  }
}

TEST(Linear, AddsIntoTheResidualInPlace) {
  REQUIRE_GPU();
  auto linear = Linear::create({});
  REQUIRE_CUBLASLT(linear);
  for (const int m : {5, 100}) {
    const LinearCase c{m, 1024, 512};
    const Operands operands(c);
    LinearArgs args = operands.args(false, true);
    SCOPED_TRACE(std::to_string(m) + " rows, " + linear->describe(m, c.n, c.k));
    const auto expected = operands.reference(args);
    args.out = const_cast<uint16_t*>(args.residual);
    ASSERT_TRUE(linear->run(args, {}).ok());
    ASSERT_EQ(cudaDeviceSynchronize(), cudaSuccess);
    std::vector<uint16_t> actual(expected.size());
    cudaMemcpy(actual.data(), args.out, actual.size() * sizeof(uint16_t), cudaMemcpyDeviceToHost);
    ASSERT_NO_FATAL_FAILURE(expect_rounded(actual, expected, kTwoRoundings));
  }
}

TEST(Linear, GatedFormsAgree) {
  REQUIRE_GPU();
  auto fused = Linear::create({});
  REQUIRE_CUBLASLT(fused);
  auto apart = Linear::create({true, {}});
  ASSERT_TRUE(apart.ok());
  const LinearCase c{24, 2 * 1536, 1024};
  const Operands operands(c);
  const LinearArgs both = operands.args(false, false);
  const DeviceMemory wide = poisoned<uint16_t>(Operands::count(c.m, c.n));
  std::vector<std::vector<uint16_t>> results;
  for (Linear* linear : {&*fused, &*apart}) {
    const DeviceMemory out = poisoned<uint16_t>(Operands::count(c.m, c.n / 2));
    GatedLinearArgs args;
    args.x = both.x;
    args.w = both.w;
    args.m = c.m;
    args.inner = c.n / 2;
    args.k = c.k;
    args.wide = wide.as<uint16_t>();
    args.out = out.as<uint16_t>();
    ASSERT_TRUE(linear->run_gated(args, {}).ok());
    ASSERT_EQ(cudaDeviceSynchronize(), cudaSuccess);
    results.push_back(download<uint16_t>(out));
  }
  // Two roundings more on one side.
  for (size_t i = 0; i < results[0].size(); ++i) {
    const double a = bf16_value(results[0][i]);
    const double b = bf16_value(results[1][i]);
    ASSERT_LT(std::abs(a - b), 0.02 * std::abs(a) + 1e-3) << "element " << i;
  }
}

TEST(Linear, DeterministicRowsHaveTheSameBitsInEveryBatch) {
  REQUIRE_GPU();
  auto linear = Linear::create({true, {}});
  REQUIRE_CUBLASLT(linear);
  for (const auto& [n, k] : {std::pair{5120, 1024}, {1536, 4096}}) {
    const LinearCase c{700, n, k};
    const Operands operands(c);
    LinearArgs args = operands.args(false, false);
    const auto all = run(*linear, args);
    for (const int m : {1, 2, 7, 16, 63, 64, 65, 129, 300}) {
      args.m = m;
      ASSERT_EQ(run(*linear, args), first_rows(all, m, n)) << m << " rows, " << linear->describe(m, n, k);
    }
  }
}

TEST(Linear, MeasuresAndReadsItsTableBack) {
  REQUIRE_GPU();
  auto linear = Linear::create({});
  REQUIRE_CUBLASLT(linear);
  ASSERT_TRUE(linear->measure(16, 1024, 512, false).ok());
  ASSERT_TRUE(linear->measure(100, 1024, 512, false).ok());
  const std::string text = to_json(linear->table());
  const auto table = parse_linear_table(text);
  ASSERT_TRUE(table.ok()) << table.status().message();
  EXPECT_EQ(to_json(*table), text);
  ASSERT_NE(table->find({128, 1024, 512}), nullptr);
  EXPECT_GT(table->find({16, 1024, 512})->us, 0.0);
  auto again = Linear::create({false, *table});
  ASSERT_TRUE(again.ok());
  for (const int m : {16, 100}) {
    EXPECT_EQ(again->describe(m, 1024, 512), linear->describe(m, 1024, 512));
    const Operands operands({m, 1024, 512});
    const LinearArgs args = operands.args(false, false);
    ASSERT_NO_FATAL_FAILURE(expect_rounded(run(*again, args), operands.reference(args)));
  }
}

}  // namespace
}  // namespace bifocal::kernels::cuda
