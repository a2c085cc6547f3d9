#include "kernels/cuda/sample.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "base/thread_pool.h"
#include "engine/sampler.h"
#include "kernels/cuda/device_array.h"

namespace bifocal::kernels::cuda {
namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();

struct Problem {
  int vocab_size = 0;
  std::vector<float> logits;  // [R, V]
  std::vector<SampleParams> params;

  size_t rows() const { return params.size(); }
  void add(const std::vector<float>& row, SampleParams p, int32_t position) {
    p.position = position;
    logits.insert(logits.end(), row.begin(), row.end());
    params.push_back(p);
  }
};

std::vector<int32_t> on_gpu(const Problem& problem) {
  const DeviceMemory logits = upload(problem.logits);
  const DeviceMemory params = upload(problem.params);
  const DeviceMemory tokens = poisoned<int32_t>(problem.rows());
  const int rows = static_cast<int>(problem.rows());
  const DeviceMemory workspace =
      poisoned<uint8_t>(static_cast<size_t>(sample_workspace_bytes(rows, problem.vocab_size)));
  SampleArgs args;
  args.logits = logits.as<float>();
  args.num_rows = rows;
  args.vocab_size = problem.vocab_size;
  args.params = params.as<SampleParams>();
  args.tokens = tokens.as<int32_t>();
  args.workspace = workspace.as<void>();
  const Status status = sample(args, {});
  EXPECT_TRUE(status.ok()) << status.message();
  EXPECT_EQ(cudaDeviceSynchronize(), cudaSuccess);
  return download<int32_t>(tokens);
}

std::vector<int32_t> on_cpu(const Problem& problem) {
  ThreadPool pool(1);
  engine::Sampler sampler(problem.vocab_size, 1);
  std::vector<engine::SamplingParams> params(problem.rows());
  std::vector<engine::SampleTask> tasks(problem.rows());
  std::vector<engine::SampleOutcome> outcomes(problem.rows());
  for (size_t i = 0; i < tasks.size(); ++i) {
    params[i].temperature = problem.params[i].temperature;
    params[i].top_p = problem.params[i].top_p;
    params[i].top_k = problem.params[i].top_k;
    params[i].min_p = problem.params[i].min_p;
    tasks[i].logits = problem.logits.data() + i * static_cast<size_t>(problem.vocab_size);
    tasks[i].params = &params[i];
    tasks[i].seed = problem.params[i].seed;
    tasks[i].position = problem.params[i].position;
  }
  sampler.run(tasks, outcomes, pool);
  std::vector<int32_t> tokens;
  for (const auto& outcome : outcomes) tokens.push_back(outcome.valid ? outcome.token.id : -1);
  return tokens;
}

// Logits of which few stand out (spread 8) or none does (spread 0.1), some of them equal.
std::vector<float> random_row(int vocab_size, SplitMix64& random, double spread) {
  std::vector<float> row(static_cast<size_t>(vocab_size));
  for (float& x : row) {
    double sum = 0.0;
    for (int i = 0; i < 4; ++i) sum += random.uniform() - 0.5;
    x = static_cast<float>(std::round(sum * spread * 1.7 * 1024.0) / 1024.0);
  }
  return row;
}

SampleParams params_of(double temperature, double top_p = 1.0, int top_k = -1, double min_p = 0.0) {
  SampleParams params;
  params.temperature = temperature;
  params.top_p = top_p;
  params.top_k = top_k;
  params.min_p = min_p;
  return params;
}

TEST(Sample, ChoosesAsTheCpuDoes) {
  REQUIRE_GPU();
  const std::vector<SampleParams> kinds = {params_of(0.0),           params_of(1.0),
                                           params_of(0.3),           params_of(1.0, 1.0, 1),
                                           params_of(0.7, 0.8, 20),  params_of(0.6, 0.95),
                                           params_of(1.0, 1.0, 50),  params_of(1.0, 1.0, -1, 0.05),
                                           params_of(2.0, 0.9, 300), params_of(1.0, 0.5, 1000, 0.01),
                                           params_of(1.0, 1e-9),     params_of(1.0, 1.0, -1, 1.0)};
  for (const int vocab : {1, 2, 127, 128, 129, 1000, 32000, 151936}) {
    SplitMix64 random(static_cast<uint64_t>(vocab));
    Problem problem;
    problem.vocab_size = vocab;
    for (const double spread : {4.0, 8.0}) {
      for (SampleParams params : kinds) {
        params.seed = random.next();
        problem.add(random_row(vocab, random, spread), params, static_cast<int32_t>(random.below(100000)));
      }
    }
    EXPECT_EQ(on_gpu(problem), on_cpu(problem)) << "vocabulary of " << vocab;
  }
}

TEST(Sample, WideNucleiAgreeToo) {
  REQUIRE_GPU();
  SplitMix64 random(5);
  Problem problem;
  problem.vocab_size = 50000;
  for (int i = 0; i < 8; ++i) {
    for (SampleParams params : {params_of(1.0, 0.9), params_of(1.5, 0.99, 5000), params_of(1.0, 1.0, 2000),
                                params_of(1.0, 1.0, -1, 0.3), params_of(3.0, 0.7, 30000, 0.2)}) {
      params.seed = random.next();
      problem.add(random_row(problem.vocab_size, random, 1.0), params, i);
    }
  }
  EXPECT_EQ(on_gpu(problem), on_cpu(problem));
}

TEST(Sample, EqualLogitsGoToTheLowestId) {
  REQUIRE_GPU();
  Problem problem;
  problem.vocab_size = 3000;
  std::vector<float> row(3000, -1.0F);
  row[2999] = row[700] = row[130] = 2.0F;
  problem.add(row, params_of(0.0), 0);
  row.assign(3000, -0.0F);
  row[17] = 0.0F;
  problem.add(row, params_of(0.0), 0);
  problem.add(row, params_of(1.0, 1.0, 40), 3);  // more equals than there is room for
  problem.add(row, params_of(1.0, 0.25), 4);
  const auto tokens = on_gpu(problem);
  EXPECT_EQ(tokens[0], 130);
  EXPECT_EQ(tokens[1], 0);
  EXPECT_EQ(tokens, on_cpu(problem));
}

TEST(Sample, ForbiddenAndBrokenLogits) {
  REQUIRE_GPU();
  SplitMix64 random(9);
  Problem problem;
  problem.vocab_size = 1000;
  for (SampleParams params : {params_of(0.0), params_of(1.0), params_of(1.0, 0.9), params_of(1.0, 1.0, 5),
                              params_of(1.0, 1.0, -1, 0.001)}) {
    params.seed = random.next();
    std::vector<float> row(1000, -kInf);
    problem.add(row, params, 1);  // nothing is allowed
    row[999] = -5.0F;
    problem.add(row, params, 1);
    row[3] = -5.5F;
    problem.add(row, params, 1);
    row[500] = std::nanf("");
    problem.add(row, params, 1);
    row[500] = -std::nanf("");
    problem.add(row, params, 1);
    row[500] = kInf;
    problem.add(row, params, 1);
  }
  const auto tokens = on_gpu(problem);
  EXPECT_EQ(tokens, on_cpu(problem));
  EXPECT_EQ(tokens[0], -1);
  EXPECT_EQ(tokens[1], 999);
  EXPECT_EQ(tokens[3], -1);
}

TEST(Sample, RowsDoNotDependOnOneAnother) {
  REQUIRE_GPU();
  SplitMix64 random(11);
  Problem together;
  together.vocab_size = 4000;
  std::vector<int32_t> alone;
  for (int i = 0; i < 33; ++i) {
    SampleParams params = params_of(1.0, i % 2 == 0 ? 0.9 : 1.0, i % 3 == 0 ? 40 : -1);
    params.seed = random.next();
    const auto row = random_row(4000, random, 6.0);
    together.add(row, params, i);
    Problem one;
    one.vocab_size = 4000;
    one.add(row, params, i);
    alone.push_back(on_gpu(one)[0]);
  }
  EXPECT_EQ(on_gpu(together), alone);
}

TEST(Sample, RefusesVocabulariesItHasNoRoomFor) {
  SampleArgs args;
  args.num_rows = 1;
  args.vocab_size = kMaxSampleVocab + 1;
  EXPECT_FALSE(sample(args, {}).ok());
  args.vocab_size = 0;
  EXPECT_FALSE(sample(args, {}).ok());
}

}  // namespace
}  // namespace bifocal::kernels::cuda
