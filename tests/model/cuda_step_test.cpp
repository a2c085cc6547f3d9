// What a step sends to a GPU, and which models and batches go there: plain arithmetic, without one.
#include "model/cuda_step.h"

#include <gtest/gtest.h>

#include <cstring>

#include "model/cuda_model.h"

namespace bifocal::model {
namespace {

using attention::Phase;
using Ints = std::vector<int32_t>;

// A prefill chunk of 3 rows, 2 verified rows, a decode row.
struct MixedStep {
  Ints ids{11, 12, 13, 21, 22, 31}, positions{4, 5, 6, 8, 9, 70}, wanted{2, 4, 5};
  std::vector<int64_t> slots{260, 261, 262, 72, 73, 198};
  std::vector<Phase> phases{Phase::prefill, Phase::verify, Phase::decode};
  Ints q_begin{0, 3, 5}, q_len{3, 2, 1}, kv_len{7, 10, 71}, table{4, -1, 1, -1, 2, 3};

  StepRows rows() const { return {ids, positions, slots, wanted}; }
  attention::StepBatch batch() const { return {1, phases, q_begin, q_len, kv_len, table, 2}; }
};

struct Sent {
  Sent(const StepRows& rows, const attention::StepBatch& batch, const CudaStepShape& step)
      : shape(step), layout(step), bytes(static_cast<size_t>(layout.num_bytes), std::byte{0xAB}) {
    write_step(rows, batch, shape, layout, bytes.data());
  }
  template <class T>
  std::vector<T> read(int64_t offset, int64_t count) const {
    std::vector<T> out(static_cast<size_t>(count));
    std::memcpy(out.data(), bytes.data() + offset, out.size() * sizeof(T));
    return out;
  }
  CudaStepShape shape;
  CudaStepLayout layout;
  std::vector<std::byte> bytes;
};

TEST(CudaStep, EveryRowKnowsItsKeysAndItsSequence) {
  const MixedStep step;
  const Sent sent(step.rows(), step.batch(), shape_of(step.rows(), step.batch()));
  EXPECT_EQ(sent.shape.num_rows, 6);
  EXPECT_EQ(sent.shape.num_logit_rows, 3);
  EXPECT_EQ(sent.shape.total_seqs(), 3);
  EXPECT_EQ(sent.shape.num_seqs, (std::array<int, attention::kNumPhases>{1, 1, 1}));
  EXPECT_EQ(sent.shape.phase_rows, (std::array<int, attention::kNumPhases>{3, 1, 2}));
  EXPECT_EQ(sent.read<int32_t>(sent.layout.token_ids, 6), step.ids);
  EXPECT_EQ(sent.read<int32_t>(sent.layout.positions, 6), step.positions);
  EXPECT_EQ(sent.read<int64_t>(sent.layout.kv_slots, 6), step.slots);
  EXPECT_EQ(sent.read<int32_t>(sent.layout.logit_rows, 3), step.wanted);
  EXPECT_EQ(sent.read<int32_t>(sent.layout.q_begin, 3), step.q_begin);
  EXPECT_EQ(sent.read<int32_t>(sent.layout.q_len, 3), step.q_len);
  EXPECT_EQ(sent.read<int32_t>(sent.layout.kv_len, 3), step.kv_len);
  EXPECT_EQ(sent.read<int32_t>(sent.layout.page_table, 6), step.table);
  EXPECT_EQ(sent.read<int32_t>(sent.layout.row_kv_len, 6), (Ints{5, 6, 7, 9, 10, 71}));
  EXPECT_EQ(sent.read<int32_t>(sent.layout.row_seq, 6), (Ints{0, 0, 0, 1, 1, 2}));
}

TEST(CudaStep, PaddingWritesNothingAndReadsNothing) {
  const Ints ids{5, 6}, positions{64, 3}, wanted{0, 1}, q_begin{0, 1}, q_len{1, 1}, kv_len{65, 4},
      table{7, 8, 9, 0};
  const std::vector<int64_t> slots{512, 579};
  const std::vector<Phase> phases{Phase::decode, Phase::decode};
  const attention::StepBatch batch{1, phases, q_begin, q_len, kv_len, table, 2};
  const std::vector<kernels::SampleParams> sampling = {{7, 0.5, 0.9, 0.1, 40, 65}, {8, 1.0, 1.0, 0.0, -1, 4}};
  const Sent sent({ids, positions, slots, wanted, {}, {}, sampling}, batch, decode_shape(4, 3));
  EXPECT_EQ(sent.read<int32_t>(sent.layout.token_ids, 4), (Ints{5, 6, -1, -1}));
  EXPECT_EQ(sent.read<int64_t>(sent.layout.kv_slots, 4), (std::vector<int64_t>{512, 579, -1, -1}));
  EXPECT_EQ(sent.read<int32_t>(sent.layout.logit_rows, 4), (Ints{0, 1, -1, -1}));
  const std::vector<kernels::SampleParams> greedy(2);
  EXPECT_EQ(sent.read<kernels::SampleParams>(sent.layout.sampling, 4),
            (std::vector<kernels::SampleParams>{sampling[0], sampling[1], greedy[0], greedy[1]}));
  EXPECT_EQ(sent.read<int32_t>(sent.layout.q_begin, 4), (Ints{0, 1, 2, 3}));
  EXPECT_EQ(sent.read<int32_t>(sent.layout.q_len, 4), (Ints{1, 1, 0, 0}));
  EXPECT_EQ(sent.read<int32_t>(sent.layout.kv_len, 4), (Ints{65, 4, 0, 0}));
  EXPECT_EQ(sent.read<int32_t>(sent.layout.page_table, 12), (Ints{7, 8, 0, 9, 0, 0, 0, 0, 0, 0, 0, 0}));
  EXPECT_EQ(sent.read<int32_t>(sent.layout.row_kv_len, 4), (Ints{65, 4, 0, 0}));
  EXPECT_EQ(sent.read<int32_t>(sent.layout.row_seq, 4), (Ints{0, 1, 0, 0}));
}

TEST(CudaStep, StepsOfOneShapeShareAddressesAndArraysNeverOverlap) {
  const CudaStepLayout layout(decode_shape(13, 5));
  const int64_t ends[] = {layout.token_ids + 13 * 4,  layout.positions + 13 * 4, layout.kv_slots + 13 * 8,
                          layout.logit_rows + 13 * 4, layout.sampling + 13 * 40, layout.q_begin + 13 * 4,
                          layout.q_len + 13 * 4,      layout.kv_len + 13 * 4,    layout.page_table + 13 * 20,
                          layout.row_kv_len + 13 * 4, layout.row_seq + 13 * 4};
  const int64_t begins[] = {layout.positions,  layout.kv_slots, layout.logit_rows, layout.sampling,
                            layout.q_begin,    layout.q_len,    layout.kv_len,     layout.page_table,
                            layout.row_kv_len, layout.row_seq,  layout.num_bytes};
  for (size_t i = 0; i < std::size(ends); ++i) {
    EXPECT_LE(ends[i], begins[i]) << i;
    EXPECT_EQ(begins[i] % 16, 0) << i;
  }
}

TEST(CudaGraphs, BatchesCoverWhatIsAskedFor) {
  CudaGraphOptions options;
  EXPECT_EQ(cuda_graph_batches(options, 1), (std::vector<int>{1}));
  EXPECT_EQ(cuda_graph_batches(options, 20), (std::vector<int>{1, 2, 4, 8, 16, 20}));
  EXPECT_EQ(cuda_graph_batches(options, 256).back(), 160);
  options.max_batch = 12;
  EXPECT_EQ(cuda_graph_batches(options, 256), (std::vector<int>{1, 2, 4, 8, 12}));
  options.batches = {3, 64, 500};
  EXPECT_EQ(cuda_graph_batches(options, 256), (std::vector<int>{3, 64}));
  options.enabled = false;
  EXPECT_TRUE(cuda_graph_batches(options, 256).empty());
}

TEST(CudaSupport, RefusalsNameTheLayerAndWhy) {
  ModelSpec spec;
  spec.architecture = "TestForCausalLM";
  spec.hidden_size = 4096;
  LayerSpec layer;
  layer.attention.head_dim = 128;
  layer.mlp.intermediate_size = 12288;
  spec.layers.assign(3, layer);
  EXPECT_TRUE(check_cuda_support(spec).ok());
  const auto refusal = [&](auto change) {
    ModelSpec changed = spec;
    change(changed);
    const Status status = check_cuda_support(changed);
    EXPECT_EQ(status.code(), StatusCode::unsupported);
    return status.message();
  };
  EXPECT_NE(refusal([](ModelSpec& s) { s.layers[1].moe.emplace(); }).find("layer 1 is not served: experts"),
            std::string::npos);
  EXPECT_NE(refusal([](ModelSpec& s) { s.layers[2].mla.emplace(); }).find("latent attention"),
            std::string::npos);
  EXPECT_NE(refusal([](ModelSpec& s) { s.layers[0].attention.head_dim = 80; }).find("head dim 80"),
            std::string::npos);
  EXPECT_NE(refusal([](ModelSpec& s) { s.layers[0].mlp.intermediate_size = 100; }).find("100"),
            std::string::npos);
  EXPECT_NE(refusal([](ModelSpec& s) { s.hidden_size = 20480; }).find("hidden size 20480"),
            std::string::npos);
}

}  // namespace
}  // namespace bifocal::model
