#include "kernels/cuda/decode.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>

#include "kernels/cuda/attention_case.h"
#include "kernels/cuda/device_array.h"
#include "kernels/cuda/plan_on_host.h"

namespace bifocal::kernels::cuda {
namespace {

DecodeDesc describe(const GpuProblem& problem) {
  const AttentionCase& c = problem.description();
  DecodeDesc desc;
  desc.num_heads = c.num_heads;
  desc.num_kv_heads = c.num_kv_heads;
  desc.head_dim = c.head_dim;
  desc.page_size = c.page_size;
  desc.q_len = c.q_len[0];
  desc.window = c.window;
  desc.softcap = c.softcap;
  desc.scale = problem.scale();
  desc.spans = default_span_rule(c.num_kv_heads);
  return desc;
}

// Buffers for one problem and what runs on them.
class Decoder {
 public:
  explicit Decoder(const GpuProblem& problem) : problem_(problem), desc_(describe(problem)) {
    auto buffers = make_decode_buffers(desc_, {1024, 1 << 17});
    EXPECT_TRUE(buffers.ok()) << buffers.status().message();
    buffers_ = std::move(*buffers);
  }

  DecodePlan plan(int num_seqs, int first = 0, const LaunchOptions& launch = {}) {
    DecodeBatch batch;
    batch.num_seqs = num_seqs;
    batch.kv_len = problem_.kv_len() + first;
    batch.q_begin = problem_.q_begin() + first;
    batch.page_table = problem_.page_table() + first * problem_.page_table_stride();
    batch.page_table_stride = problem_.page_table_stride();
    auto plan = plan_decode(desc_, batch, buffers_, launch);
    EXPECT_TRUE(plan.ok()) << plan.status().message();
    return *plan;
  }
  DecodePlan plan() { return plan(static_cast<int>(problem_.description().kv_len.size())); }

  void run(const DecodePlan& plan, const LaunchOptions& launch = {}) {
    DecodeLayer layer;
    layer.q = problem_.q();
    layer.q_stride = int64_t{desc_.num_heads} * desc_.head_dim;
    layer.kv = &problem_.maps();
    layer.out = problem_.out();
    layer.out_stride = layer.q_stride;
    layer.sinks = problem_.sinks();
    layer.lse = problem_.lse();
    const Status status = run_decode(plan, layer, launch);
    EXPECT_TRUE(status.ok()) << status.message();
  }

  std::vector<uint16_t> bits() {
    problem_.poison_outputs();
    run(plan());
    EXPECT_EQ(cudaDeviceSynchronize(), cudaSuccess);
    return problem_.out_bits();
  }

  // Words of partial states that the last run has not left unwritten.
  int64_t written_words() const {
    std::vector<uint32_t> words(buffers_.partials.bytes() / sizeof(uint32_t));
    EXPECT_EQ(cudaMemcpy(words.data(), buffers_.partials.as<void>(), buffers_.partials.bytes(),
                         cudaMemcpyDeviceToHost),
              cudaSuccess);
    return static_cast<int64_t>(words.size()) - std::count(words.begin(), words.end(), ~0U);
  }

 private:
  const GpuProblem& problem_;
  DecodeDesc desc_;
  DecodeBuffers buffers_;
};

AttentionCase decode_case(std::string name, int heads, int kv_heads, int dim, std::vector<int> kv_len,
                          int q_len = 1) {
  AttentionCase c;
  c.name = std::move(name);
  c.num_heads = heads;
  c.num_kv_heads = kv_heads;
  c.head_dim = dim;
  c.q_len.assign(kv_len.size(), q_len);
  c.kv_len = std::move(kv_len);
  return c;
}

std::vector<AttentionCase> conformance_cases() {
  std::vector<AttentionCase> cases;
  const std::vector<int> ragged = {1, 0, 63, 64, 65, 127, 128, 129, 1000, 0, 2047, 300, 5};
  // One for each instantiation, little enough for a checker (tools/check_gpu_memory.sh).
  const std::vector<int> few = {1, 0, 64, 65, 200, 700};
  cases.push_back(decode_case("small_d64", 8, 2, 64, few));
  cases.push_back(decode_case("small_d64_group_16", 16, 1, 64, few));
  cases.push_back(decode_case("small_d128", 8, 2, 128, few));
  cases.push_back(decode_case("small_d128_group_16", 16, 1, 128, few));
  cases.push_back(decode_case("small_d256", 8, 1, 256, few));
  // Many sequences for each CTA, whose query rows are less than a warp fetches: warps drift apart.
  std::vector<int> rising(700);
  std::iota(rising.begin(), rising.end(), 1);
  cases.push_back(decode_case("rising_d64", 4, 2, 64, rising));
  cases.push_back(decode_case("one_token", 8, 1, 128, {1}));
  cases.push_back(decode_case("one_page", 8, 1, 128, {64}));
  cases.push_back(decode_case("one_short", 64, 8, 128, {512}));
  cases.push_back(decode_case("ragged_64_8", 64, 8, 128, ragged));
  cases.push_back(decode_case("ragged_32_8", 32, 8, 128, ragged));
  cases.push_back(decode_case("ragged_group_5", 10, 2, 128, ragged));
  cases.push_back(decode_case("ragged_mha", 3, 3, 128, ragged));
  cases.push_back(decode_case("ragged_d64", 64, 8, 64, ragged));
  cases.push_back(decode_case("ragged_d256", 16, 4, 256, ragged));
  cases.push_back(decode_case("long_8_1", 8, 1, 128, {40001}));
  cases.push_back(decode_case("long_among_short", 16, 2, 128, {12345, 512, 511, 0, 100, 513, 7, 512, 512}));
  // More than parts: most that are cut are continued by the next part.
  std::vector<int> many;
  for (int i = 0; i < 70; ++i) many.push_back(i * 397 % 700);
  cases.push_back(decode_case("many_32_4", 32, 4, 128, many));
  cases.push_back(decode_case("many_d64", 16, 8, 64, many));
  cases.push_back(decode_case("many_group_16", 64, 4, 128, many));
  cases.push_back(decode_case("group_16_d64", 32, 2, 64, ragged));
  cases.push_back(decode_case("group_16_d128", 32, 2, 128, ragged));
  cases.push_back(decode_case("verify_3_group_5", 10, 2, 128, {3, 7, 64, 65, 66, 1500, 129, 700}, 3));
  cases.push_back(decode_case("verify_2", 16, 4, 128, {2, 3, 64, 65, 66, 1500, 129}, 2));
  AttentionCase window = decode_case("window_128", 16, 2, 128, ragged);
  window.window = 128;
  cases.push_back(window);
  window.name = "window_1_softcap";
  window.window = 1;
  window.softcap = 20.0F;
  cases.push_back(window);
  AttentionCase all = decode_case("window_sinks_softcap_page_128", 64, 8, 128, {4000, 100, 0, 777, 1});
  all.window = 700;
  all.softcap = 30.0F;
  all.sinks = true;
  all.page_size = 128;
  cases.push_back(all);
  AttentionCase tokens_first = decode_case("heads_inside_tokens", 64, 8, 128, ragged);
  tokens_first.heads_inside_tokens = true;
  cases.push_back(tokens_first);
  AttentionCase sinks = decode_case("sinks", 64, 8, 64, ragged);
  sinks.sinks = true;
  cases.push_back(sinks);
  return cases;
}

class Decode : public testing::TestWithParam<AttentionCase> {};

TEST_P(Decode, AgreesWithTheReference) {
  REQUIRE_GPU();
  for (uint32_t seed = 1; seed <= 3; ++seed) {
    AttentionCase c = GetParam();
    c.seed = seed;
    const GpuProblem problem(c);
    Decoder decoder(problem);
    problem.poison_outputs();
    decoder.run(decoder.plan());
    ASSERT_EQ(cudaDeviceSynchronize(), cudaSuccess) << cudaGetErrorString(cudaGetLastError());
    const AttentionResult expected = problem.reference();
    const AttentionResult actual = problem.result();
    EXPECT_LT(relative_error(actual.out, expected.out), 4e-3);
    EXPECT_LT(largest_difference(actual.lse, expected.lse), 2e-3);
  }
}

TEST_P(Decode, HundredRunsGiveTheSameBits) {
  REQUIRE_GPU();
  const GpuProblem problem(GetParam());
  Decoder decoder(problem);
  const std::vector<uint16_t> first = decoder.bits();
  for (int i = 0; i < 100; ++i) {
    const std::vector<uint16_t> now = decoder.bits();
    size_t moved = 0;
    for (size_t e = 0; e < now.size(); ++e) moved += now[e] != first[e] ? 1U : 0U;
    const auto at = std::mismatch(now.begin(), now.end(), first.begin()).first - now.begin();
    ASSERT_EQ(moved, 0U) << "run " << i << ", first at element " << at;
  }
}

TEST_P(Decode, SequencesAloneGiveTheSameBits) {
  REQUIRE_GPU();
  const GpuProblem problem(GetParam());
  Decoder decoder(problem);
  const std::vector<uint16_t> together = decoder.bits();
  problem.poison_outputs();
  for (size_t i = 0; i < GetParam().kv_len.size(); ++i) decoder.run(decoder.plan(1, static_cast<int>(i)));
  ASSERT_EQ(cudaDeviceSynchronize(), cudaSuccess);
  EXPECT_EQ(problem.out_bits(), together);
}

// Every row as a sequence of its own, which shares its page-table row with others, a few at a time.
TEST_P(Decode, RowsOnSharedTableRowsGiveTheSameBits) {
  REQUIRE_GPU();
  const GpuProblem problem(GetParam());
  DecodeDesc desc = describe(problem);
  const AttentionCase& c = problem.description();
  std::vector<int32_t> kv_len;
  std::vector<int32_t> table_row;
  for (size_t seq = 0; seq < c.kv_len.size(); ++seq) {
    for (int i = 0; i < desc.q_len; ++i) {
      kv_len.push_back(std::max(0, c.kv_len[seq] - (desc.q_len - 1 - i)));
      table_row.push_back(static_cast<int32_t>(seq));
    }
  }
  const DeviceMemory device_kv_len = upload(kv_len);
  const DeviceMemory device_table_row = upload(table_row);
  desc.q_len = 1;
  const int num_rows = static_cast<int>(kv_len.size());
  constexpr int kPerRound = 5;
  auto buffers = make_decode_buffers(desc, {kPerRound, 1 << 17, (num_rows + kPerRound - 1) / kPerRound});
  ASSERT_TRUE(buffers.ok()) << buffers.status().message();
  std::vector<DecodePlan> plans;
  for (int row = 0; row < num_rows; row += kPerRound) {
    DecodeBatch batch;
    batch.num_seqs = std::min(kPerRound, num_rows - row);
    batch.kv_len = device_kv_len.as<int32_t>() + row;
    batch.first_row = row;
    batch.page_table = problem.page_table();
    batch.page_table_stride = problem.page_table_stride();
    batch.table_row = device_table_row.as<int32_t>() + row;
    batch.round = row / kPerRound;
    auto plan = plan_decode(desc, batch, *buffers, {});
    ASSERT_TRUE(plan.ok()) << plan.status().message();
    plans.push_back(*plan);
  }
  Decoder decoder(problem);
  const std::vector<uint16_t> expected = decoder.bits();
  problem.poison_outputs();
  for (const DecodePlan& plan : plans) decoder.run(plan);
  ASSERT_EQ(cudaDeviceSynchronize(), cudaSuccess) << cudaGetErrorString(cudaGetLastError());
  const AttentionResult result = problem.result();
  EXPECT_LT(relative_error(result.out, problem.reference().out), 4e-3);
  if (c.q_len[0] == 1) {
    EXPECT_EQ(problem.out_bits(), expected);
  }
}

// A mark that is left would end the next run before its states are there; one too few, never.
TEST_P(Decode, LeavesNoPartialStates) {
  REQUIRE_GPU();
  const GpuProblem problem(GetParam());
  Decoder decoder(problem);
  EXPECT_EQ(decoder.written_words(), 0);
  decoder.bits();
  EXPECT_EQ(decoder.written_words(), 0);
}

INSTANTIATE_TEST_SUITE_P(Conformance, Decode, testing::ValuesIn(conformance_cases()),
                         [](const auto& test) { return test.param.name; });

TEST(DecodeGraph, ReplayPlansAfresh) {
  REQUIRE_GPU();
  const GpuProblem problem(decode_case("replay", 64, 8, 128, {700, 70, 3000, 1}));
  Decoder decoder(problem);
  const std::vector<uint16_t> eager = decoder.bits();
  cudaStream_t stream = nullptr;
  ASSERT_EQ(cudaStreamCreate(&stream), cudaSuccess);
  LaunchOptions launch;
  launch.stream = stream;
  launch.programmatic = true;
  cudaGraph_t graph = nullptr;
  cudaGraphExec_t exec = nullptr;
  ASSERT_EQ(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal), cudaSuccess);
  const DecodePlan plan = decoder.plan(4, 0, launch);
  decoder.run(plan, launch);
  // From here on the plan is older than the kernel before.
  launch.early = true;
  for (int layer = 0; layer < 20; ++layer) decoder.run(plan, launch);
  ASSERT_EQ(cudaStreamEndCapture(stream, &graph), cudaSuccess);
  ASSERT_EQ(cudaGraphInstantiate(&exec, graph, 0), cudaSuccess);

  // Captured at other lengths than replayed: the plan kernel is part of the graph.
  auto* lengths = const_cast<int32_t*>(problem.kv_len());
  const std::vector<int32_t> shorter = {5, 70, 129, 0};
  const std::vector<int32_t> real(problem.description().kv_len.begin(), problem.description().kv_len.end());
  for (const auto& now : {shorter, real}) {
    ASSERT_EQ(cudaMemcpy(lengths, now.data(), now.size() * sizeof(int32_t), cudaMemcpyHostToDevice),
              cudaSuccess);
    for (int replay = 0; replay < 20; ++replay) {
      problem.poison_outputs();
      ASSERT_EQ(cudaDeviceSynchronize(), cudaSuccess);
      ASSERT_EQ(cudaGraphLaunch(exec, stream), cudaSuccess);
      ASSERT_EQ(cudaStreamSynchronize(stream), cudaSuccess);
      if (now == real) {
        ASSERT_EQ(problem.out_bits(), eager) << "replay " << replay;
      }
    }
  }
  EXPECT_EQ(problem.out_bits(), eager);
  cudaGraphExecDestroy(exec);
  cudaGraphDestroy(graph);
  cudaStreamDestroy(stream);
}

// A model whose numbers have run away: partial states that are NaN in every bit pattern still end the run.
TEST(DecodeNumbers, NansOfTheModelReachTheOutput) {
  REQUIRE_GPU();
  const GpuProblem problem(decode_case("nan", 64, 8, 128, {3000, 12}));
  Decoder decoder(problem);
  const AttentionCase& c = problem.description();
  const auto row = static_cast<size_t>(c.num_heads * c.head_dim);
  std::vector<uint16_t> q(row, 0xFFFF);
  ASSERT_EQ(cudaMemcpy(const_cast<uint16_t*>(problem.q()), q.data(), q.size() * sizeof(uint16_t),
                       cudaMemcpyHostToDevice),
            cudaSuccess);
  problem.poison_outputs();
  decoder.run(decoder.plan());
  ASSERT_EQ(cudaDeviceSynchronize(), cudaSuccess);
  const std::vector<float> out = problem.result().out;
  for (size_t i = 0; i < row; ++i) EXPECT_TRUE(std::isnan(out[i])) << i;
  for (size_t i = row; i < 2 * row; ++i) EXPECT_FALSE(std::isnan(out[i])) << i;
  EXPECT_EQ(decoder.written_words(), 0);
}

TEST(DecodeDesc, RefusesWhatItDoesNotServe) {
  REQUIRE_GPU();
  DecodeDesc good;
  good.num_heads = 64;
  good.num_kv_heads = 8;
  good.head_dim = 128;
  EXPECT_TRUE(make_decode_buffers(good, {4, 100}).ok());
  DecodeDesc bad = good;
  bad.num_heads = 63;
  EXPECT_FALSE(make_decode_buffers(bad, {4, 100}).ok());
  bad = good;
  bad.head_dim = 96;
  EXPECT_FALSE(make_decode_buffers(bad, {4, 100}).ok());
  bad = good;
  bad.page_size = 16;
  EXPECT_FALSE(make_decode_buffers(bad, {4, 100}).ok());
  bad = good;
  bad.q_len = 3;  // 24 rows per KV head
  EXPECT_FALSE(make_decode_buffers(bad, {4, 100}).ok());
  EXPECT_FALSE(make_decode_buffers(good, {0, 100}).ok());
}

TEST(DecodePlanKernel, WritesWhatTheHostComputes) {
  REQUIRE_GPU();
  const std::vector<std::vector<int>> batches = {
      {1}, {0}, {512}, {40000}, {2048, 0, 1, 9000}, std::vector<int>(128, 777), std::vector<int>(300, 65)};
  for (const auto& lengths : batches) {
    AttentionCase c = decode_case("plan", 8, 1, 64, {1});
    const GpuProblem small(c);
    DecodeDesc desc = describe(small);
    desc.num_heads = 64;
    desc.num_kv_heads = 8;
    auto buffers = make_decode_buffers(desc, {1024, 1 << 17});
    ASSERT_TRUE(buffers.ok());
    auto device_lengths = DeviceMemory::allocate(lengths.size() * sizeof(int32_t));
    ASSERT_TRUE(device_lengths.ok());
    cudaMemcpy(device_lengths->as<void>(), lengths.data(), device_lengths->bytes(), cudaMemcpyHostToDevice);
    DecodeBatch batch;
    batch.num_seqs = static_cast<int>(lengths.size());
    batch.kv_len = device_lengths->as<int32_t>();
    const int64_t stride = 700;
    std::vector<int32_t> table(lengths.size() * static_cast<size_t>(stride));
    for (size_t i = 0; i < table.size(); ++i) table[i] = static_cast<int32_t>(i * 7 % 1000);
    auto device_table = DeviceMemory::allocate(table.size() * sizeof(int32_t));
    ASSERT_TRUE(device_table.ok());
    cudaMemcpy(device_table->as<void>(), table.data(), device_table->bytes(), cudaMemcpyHostToDevice);
    batch.page_table = device_table->as<int32_t>();
    batch.page_table_stride = stride;
    ASSERT_TRUE(plan_decode(desc, batch, *buffers, {}).ok());
    std::vector<DecodePart> parts(static_cast<size_t>(buffers->num_parts));
    std::vector<DecodeSequence> seqs(lengths.size());
    ASSERT_EQ(cudaMemcpy(parts.data(), buffers->parts.as<void>(), parts.size() * sizeof(DecodePart),
                         cudaMemcpyDeviceToHost),
              cudaSuccess);
    cudaMemcpy(seqs.data(), buffers->seqs.as<void>(), seqs.size() * sizeof(DecodeSequence),
               cudaMemcpyDeviceToHost);
    const HostPlan host = plan_on_host(lengths, 1, 0, desc.spans, buffers->num_parts,
                                       buffers->max_slots_of_seq, table.data(), stride);
    EXPECT_EQ(std::memcmp(parts.data(), host.parts.data(), parts.size() * sizeof(DecodePart)), 0);
    EXPECT_EQ(std::memcmp(seqs.data(), host.seqs.data(), seqs.size() * sizeof(DecodeSequence)), 0);
  }
}

}  // namespace
}  // namespace bifocal::kernels::cuda
