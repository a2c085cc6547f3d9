#include "kernels/cuda/prefill.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <numeric>

#include "kernels/cuda/attention_case.h"
#include "kernels/cuda/prefill_on_host.h"

namespace bifocal::kernels::cuda {
namespace {

#define REQUIRE_GPU() \
  if (const Status no_gpu = gpu_unavailable(); !no_gpu.ok()) GTEST_SKIP() << no_gpu.message()

DeviceMemory upload(const std::vector<int>& host) {
  auto memory = DeviceMemory::allocate(std::max<size_t>(host.size(), 1) * sizeof(int));
  EXPECT_TRUE(memory.ok());
  EXPECT_EQ(cudaMemcpy(memory->as<int>(), host.data(), host.size() * sizeof(int), cudaMemcpyHostToDevice),
            cudaSuccess);
  return std::move(*memory);
}

PrefillDesc describe(const GpuProblem& problem) {
  const AttentionCase& c = problem.description();
  PrefillDesc desc;
  desc.num_heads = c.num_heads;
  desc.num_kv_heads = c.num_kv_heads;
  desc.head_dim = c.head_dim;
  desc.page_size = c.page_size;
  desc.window = c.window;
  desc.softcap = c.softcap;
  desc.scale = problem.scale();
  return desc;
}

// Buffers for one problem and what runs on them.
class Prefiller {
 public:
  explicit Prefiller(const GpuProblem& problem) : problem_(problem), desc_(describe(problem)) {
    auto buffers = make_prefill_buffers(desc_, {1024, std::max(problem.num_rows(), 1)});
    EXPECT_TRUE(buffers.ok()) << buffers.status().message();
    buffers_ = std::move(*buffers);
  }

  PrefillPlan plan(const PrefillBatch& batch, const LaunchOptions& launch = {}) {
    auto plan = plan_prefill(desc_, batch, buffers_, launch);
    EXPECT_TRUE(plan.ok()) << plan.status().message();
    return *plan;
  }
  PrefillBatch batch(int num_seqs, int first = 0) const {
    PrefillBatch batch;
    batch.num_seqs = num_seqs;
    batch.q_begin = problem_.q_begin() + first;
    batch.q_len = problem_.q_len() + first;
    batch.kv_len = problem_.kv_len() + first;
    batch.page_table = problem_.page_table() + first * problem_.page_table_stride();
    batch.page_table_stride = problem_.page_table_stride();
    return batch;
  }
  PrefillBatch batch() const { return batch(static_cast<int>(problem_.description().kv_len.size())); }

  void run(const PrefillPlan& plan, const LaunchOptions& launch = {}) {
    PrefillLayer layer;
    layer.q = problem_.q();
    layer.q_stride = int64_t{desc_.num_heads} * desc_.head_dim;
    layer.num_tokens = problem_.num_rows();
    layer.kv = &problem_.maps();
    layer.out = problem_.out();
    layer.out_stride = layer.q_stride;
    layer.sinks = problem_.sinks();
    layer.lse = problem_.lse();
    const Status status = run_prefill(plan, layer, launch);
    EXPECT_TRUE(status.ok()) << status.message();
  }

  std::vector<uint16_t> bits() {
    problem_.poison_outputs();
    run(plan(batch()));
    EXPECT_EQ(cudaDeviceSynchronize(), cudaSuccess) << cudaGetErrorString(cudaGetLastError());
    return problem_.out_bits();
  }

 private:
  const GpuProblem& problem_;
  PrefillDesc desc_;
  PrefillBuffers buffers_;
};

AttentionCase prefill_case(std::string name, int heads, int kv_heads, int dim, std::vector<int> q_len,
                           std::vector<int> cached = {}) {
  AttentionCase c;
  c.name = std::move(name);
  c.num_heads = heads;
  c.num_kv_heads = kv_heads;
  c.head_dim = dim;
  c.kv_len = q_len;
  for (size_t i = 0; i < cached.size(); ++i) c.kv_len[i] += cached[i];
  c.q_len = std::move(q_len);
  return c;
}

std::vector<AttentionCase> conformance_cases() {
  std::vector<AttentionCase> cases;
  const std::vector<int> ragged = {1, 0, 63, 64, 65, 31, 128, 129, 500, 0, 2, 257};
  const std::vector<int> cached = {0, 5, 1, 64, 1000, 97, 0, 127, 300, 0, 2046, 63};
  // One for each instantiation, little enough for a checker (tools/check_gpu_memory.sh).
  const std::vector<int> few = {1, 0, 33, 70};
  const std::vector<int> few_cached = {0, 5, 64, 130};
  cases.push_back(prefill_case("small_d64", 4, 2, 64, few, few_cached));
  cases.push_back(prefill_case("small_d128", 4, 2, 128, few, few_cached));
  cases.push_back(prefill_case("small_d256", 2, 1, 256, few, few_cached));
  cases.push_back(prefill_case("one_token", 8, 1, 128, {1}));
  cases.push_back(prefill_case("one_tile", 4, 1, 128, {32}));
  cases.push_back(prefill_case("one_block", 4, 1, 128, {128}));
  cases.push_back(prefill_case("two_blocks", 4, 1, 128, {256}));
  cases.push_back(prefill_case("many_blocks", 4, 1, 128, {1000}));
  cases.push_back(prefill_case("ragged_32_8", 32, 8, 128, ragged));
  cases.push_back(prefill_case("cached_32_8", 32, 8, 128, ragged, cached));
  cases.push_back(prefill_case("cached_64_8", 64, 8, 128, ragged, cached));
  cases.push_back(prefill_case("cached_group_5", 10, 2, 128, ragged, cached));
  cases.push_back(prefill_case("cached_group_12", 12, 1, 128, ragged, cached));
  cases.push_back(prefill_case("cached_mha", 3, 3, 128, ragged, cached));
  cases.push_back(prefill_case("cached_d64", 16, 4, 64, ragged, cached));
  cases.push_back(prefill_case("cached_mha_d64", 2, 2, 64, ragged, cached));
  cases.push_back(prefill_case("cached_d256", 8, 2, 256, ragged, cached));
  cases.push_back(prefill_case("long_prefix", 8, 1, 128, {70}, {20001}));
  // More query rows than keys: the first rows see nothing.
  cases.push_back(prefill_case("rows_without_keys", 8, 2, 128, {3, 5, 40, 200}, {-3, -3, 260, -130}));
  cases.push_back(prefill_case("more_items_than_sms", 8, 8, 128, {900, 700, 800, 31, 450}));
  AttentionCase window = prefill_case("window_100", 8, 2, 128, ragged, cached);
  window.window = 100;
  cases.push_back(window);
  window.name = "window_1";
  window.window = 1;
  cases.push_back(window);
  AttentionCase wide = prefill_case("window_300_d256", 4, 1, 256, ragged, cached);
  wide.window = 300;
  cases.push_back(wide);
  AttentionCase softcap = prefill_case("softcap", 8, 2, 128, ragged, cached);
  softcap.softcap = 20.0F;
  cases.push_back(softcap);
  for (const int dim : {64, 128, 256}) {
    AttentionCase all = prefill_case("window_sinks_softcap_page_128_d" + std::to_string(dim), 16, 2, dim,
                                     {600, 100, 0, 77, 1}, {3000, 0, 9, 128, 1});
    all.window = 700;
    all.softcap = 30.0F;
    all.sinks = true;
    all.page_size = 128;
    cases.push_back(all);
  }
  AttentionCase tokens_first = prefill_case("heads_inside_tokens", 32, 8, 128, ragged, cached);
  tokens_first.heads_inside_tokens = true;
  cases.push_back(tokens_first);
  // What terms are relative to rises in every block, at once by more than a float holds, or starts far below
  // zero.
  for (const int dim : {64, 128, 256}) {
    const std::string suffix = "_d" + std::to_string(dim);
    AttentionCase rising = prefill_case("rising" + suffix, 8, 2, dim, ragged, cached);
    rising.rise = 1.0F;
    rising.sharpness = 16.0F;
    cases.push_back(rising);
    AttentionCase sharp = prefill_case("sharp" + suffix, 8, 2, dim, ragged, cached);
    sharp.sharpness = 60.0F;
    cases.push_back(sharp);
    AttentionCase below = prefill_case("far_below_zero" + suffix, 8, 2, dim, ragged, cached);
    below.offset = 4.0F;
    below.sinks = dim == 128;
    cases.push_back(below);
  }
  AttentionCase sinks = prefill_case("sinks", 64, 8, 64, ragged, cached);
  sinks.sinks = true;
  cases.push_back(sinks);
  return cases;
}

class Prefill : public testing::TestWithParam<AttentionCase> {};

TEST_P(Prefill, AgreesWithTheReference) {
  REQUIRE_GPU();
  for (uint32_t seed = 1; seed <= 2; ++seed) {
    AttentionCase c = GetParam();
    c.seed = seed;
    const GpuProblem problem(c);
    Prefiller prefiller(problem);
    problem.poison_outputs();
    prefiller.run(prefiller.plan(prefiller.batch()));
    ASSERT_EQ(cudaDeviceSynchronize(), cudaSuccess) << cudaGetErrorString(cudaGetLastError());
    const AttentionResult expected = problem.reference();
    const AttentionResult actual = problem.result();
    EXPECT_LT(relative_error(actual.out, expected.out), 4e-3);
    EXPECT_LT(largest_difference(actual.lse, expected.lse), 2e-3);
  }
}

TEST_P(Prefill, HundredRunsGiveTheSameBits) {
  REQUIRE_GPU();
  const GpuProblem problem(GetParam());
  Prefiller prefiller(problem);
  const std::vector<uint16_t> first = prefiller.bits();
  for (int i = 0; i < 100; ++i) {
    const std::vector<uint16_t> now = prefiller.bits();
    const auto at = std::mismatch(now.begin(), now.end(), first.begin()).first - now.begin();
    ASSERT_EQ(at, static_cast<std::ptrdiff_t>(now.size())) << "run " << i << " differs from the first there";
  }
}

TEST_P(Prefill, SequencesAloneGiveTheSameBits) {
  REQUIRE_GPU();
  const GpuProblem problem(GetParam());
  Prefiller prefiller(problem);
  const std::vector<uint16_t> together = prefiller.bits();
  problem.poison_outputs();
  for (size_t i = 0; i < GetParam().kv_len.size(); ++i) {
    prefiller.run(prefiller.plan(prefiller.batch(1, static_cast<int>(i))));
  }
  ASSERT_EQ(cudaDeviceSynchronize(), cudaSuccess);
  EXPECT_EQ(problem.out_bits(), together);
}

// Each sequence in chunks of uneven length, every chunk on what the ones before it cached.
TEST_P(Prefill, ChunksGiveTheSameBits) {
  REQUIRE_GPU();
  const GpuProblem problem(GetParam());
  Prefiller prefiller(problem);
  const std::vector<uint16_t> whole = prefiller.bits();
  problem.poison_outputs();
  const AttentionCase& c = GetParam();
  std::vector<int> done(c.q_len.size(), 0);
  for (int round = 0; done != c.q_len; ++round) {
    std::vector<int> q_len;
    std::vector<int> kv_len;
    std::vector<int> q_begin;
    int row = 0;
    for (size_t i = 0; i < done.size(); ++i) {
      const int size = std::min(c.q_len[i] - done[i], 17 + static_cast<int>(i) * 5 % 97 + 71 * (round % 3));
      q_begin.push_back(row + done[i]);
      q_len.push_back(size);
      done[i] += size;
      kv_len.push_back(c.kv_len[i] - c.q_len[i] + done[i]);
      row += c.q_len[i];
    }
    const DeviceMemory q_lens = upload(q_len);
    const DeviceMemory kv_lens = upload(kv_len);
    const DeviceMemory q_begins = upload(q_begin);
    PrefillBatch batch = prefiller.batch();
    batch.q_len = q_lens.as<int32_t>();
    batch.kv_len = kv_lens.as<int32_t>();
    batch.q_begin = q_begins.as<int32_t>();
    prefiller.run(prefiller.plan(batch));
    ASSERT_EQ(cudaDeviceSynchronize(), cudaSuccess);
  }
  EXPECT_EQ(problem.out_bits(), whole);
}

INSTANTIATE_TEST_SUITE_P(Conformance, Prefill, testing::ValuesIn(conformance_cases()),
                         [](const auto& test) { return test.param.name; });

TEST(PrefillGraph, ReplayPlansAfresh) {
  REQUIRE_GPU();
  const GpuProblem problem(prefill_case("replay", 32, 8, 128, {300, 70, 1000, 1}, {0, 100, 64, 700}));
  Prefiller prefiller(problem);
  const std::vector<uint16_t> eager = prefiller.bits();
  cudaStream_t stream = nullptr;
  ASSERT_EQ(cudaStreamCreate(&stream), cudaSuccess);
  LaunchOptions launch;
  launch.stream = stream;
  launch.programmatic = true;
  cudaGraph_t graph = nullptr;
  cudaGraphExec_t exec = nullptr;
  ASSERT_EQ(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal), cudaSuccess);
  const PrefillPlan plan = prefiller.plan(prefiller.batch(), launch);
  for (int layer = 0; layer < 20; ++layer) prefiller.run(plan, launch);
  ASSERT_EQ(cudaStreamEndCapture(stream, &graph), cudaSuccess);
  ASSERT_EQ(cudaGraphInstantiate(&exec, graph, 0), cudaSuccess);

  // Captured at other lengths than replayed: the plan kernel is part of the graph.
  auto* lengths = const_cast<int32_t*>(problem.q_len());
  const std::vector<int32_t> shorter = {5, 0, 129, 1};
  const std::vector<int32_t> real(problem.description().q_len.begin(), problem.description().q_len.end());
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
  cudaGraphExecDestroy(exec);
  cudaGraphDestroy(graph);
  cudaStreamDestroy(stream);
}

TEST(PrefillDesc, RefusesWhatItDoesNotServe) {
  REQUIRE_GPU();
  PrefillDesc good;
  good.num_heads = 64;
  good.num_kv_heads = 8;
  good.head_dim = 128;
  EXPECT_TRUE(make_prefill_buffers(good, {4, 100}).ok());
  const auto refused = [&](auto change, const char* why) {
    PrefillDesc bad = good;
    change(bad);
    const auto buffers = make_prefill_buffers(bad, {4, 100});
    ASSERT_FALSE(buffers.ok()) << why;
    EXPECT_NE(buffers.status().message().find(why), std::string::npos) << buffers.status().message();
  };
  refused([](PrefillDesc& d) { d.num_heads = 63; }, "multiple of KV heads");
  refused([](PrefillDesc& d) { d.head_dim = 96; }, "head dim");
  refused([](PrefillDesc& d) { d.page_size = 16; }, "page size");
  refused([](PrefillDesc& d) { d.page_size = 192; }, "page size");
  refused([](PrefillDesc& d) { d.num_heads = d.num_kv_heads = 1 << 15; }, "KV heads");
  refused([](PrefillDesc& d) { d.num_kv_heads = 1, d.num_heads = 129; }, "heads per KV head");
  refused([](PrefillDesc& d) { d.window = -1; }, "window");
  refused([](PrefillDesc& d) { d.scale = 0.0F; }, "scale");
  EXPECT_FALSE(make_prefill_buffers(good, {0, 100}).ok());
  EXPECT_FALSE(make_prefill_buffers(good, {4, 0}).ok());
  EXPECT_FALSE(make_prefill_buffers(good, {4, 1 << 30}).ok());
}

TEST(PrefillPlanKernel, WritesWhatTheHostComputes) {
  REQUIRE_GPU();
  const std::vector<std::pair<std::vector<int>, std::vector<int>>> batches = {
      {{1}, {1}},
      {{0}, {50}},
      {{16384, 16384}, {16384, 20000}},
      {std::vector<int>(128, 200), std::vector<int>(128, 777)},
      {{30, 0, 5000, 64, 1}, {3000, 7, 5001, 64, 40000}},
      {std::vector<int>(1000, 3), std::vector<int>(1000, 70)}};
  for (const auto& [q_len, kv_len] : batches) {
    PrefillDesc desc;
    desc.num_heads = 32;
    desc.num_kv_heads = 8;
    desc.head_dim = 128;
    desc.window = 1000;
    auto buffers = make_prefill_buffers(desc, {1024, 40000});
    ASSERT_TRUE(buffers.ok());
    std::vector<int> q_begin(q_len.size());
    std::exclusive_scan(q_len.begin(), q_len.end(), q_begin.begin(), 0);
    const DeviceMemory device[] = {upload(q_len), upload(kv_len), upload(q_begin)};
    PrefillBatch batch;
    batch.num_seqs = static_cast<int>(q_len.size());
    batch.q_len = device[0].as<int32_t>();
    batch.kv_len = device[1].as<int32_t>();
    batch.q_begin = device[2].as<int32_t>();
    ASSERT_TRUE(plan_prefill(desc, batch, *buffers, {}).ok());
    const PrefillRule rule = prefill_rule(desc.num_heads, desc.num_kv_heads, desc.head_dim, desc.window);
    const std::vector<PrefillRecord> host = prefill_records_on_host(rule, q_len, kv_len);
    PrefillQueue queue;
    ASSERT_EQ(cudaMemcpy(&queue, buffers->queue.as<void>(), sizeof(queue), cudaMemcpyDeviceToHost),
              cudaSuccess);
    ASSERT_EQ(queue.num_items, static_cast<int>(host.size()));
    EXPECT_EQ(queue.taken, 0);
    ASSERT_LE(queue.num_items, buffers->max_items);
    std::vector<PrefillRecord> records(host.size());
    ASSERT_EQ(cudaMemcpy(records.data(), buffers->records.as<void>(), records.size() * sizeof(PrefillRecord),
                         cudaMemcpyDeviceToHost),
              cudaSuccess);
    EXPECT_EQ(std::memcmp(records.data(), host.data(), records.size() * sizeof(PrefillRecord)), 0);
  }
}

}  // namespace
}  // namespace bifocal::kernels::cuda
