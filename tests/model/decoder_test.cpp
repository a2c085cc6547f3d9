#include "model/decoder_cpu.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "base/hash.h"
#include "model/allocation_counter.h"
#include "model/reference_decoder.h"
#include "model/sample_specs.h"
#include "model/step_runner.h"
#include "model/workspace.h"
#include "weights/dummy.h"

namespace bifocal::model {
namespace {

constexpr float kTolerance = 2e-5F;

std::unique_ptr<DecoderCpu> make_decoder(const ModelSpec& spec, int page_size = 4, DType dtype = DType::f32,
                                         int num_threads = 1, DType kv_dtype = DType::f32) {
  DecoderOptions options;
  options.kv_dtype = kv_dtype;
  options.page_size = page_size;
  options.pool = std::make_shared<ThreadPool>(num_threads);
  weights::DummyWeights source(5, dtype, *options.pool);
  auto weights = load_weights(spec, source, dtype, *options.pool, nullptr);
  EXPECT_TRUE(weights.ok()) << weights.status().message();
  return std::make_unique<DecoderCpu>(spec, std::move(*weights), options);
}

std::vector<int32_t> random_tokens(const ModelSpec& spec, size_t count, uint64_t seed = 1) {
  SplitMix64 random(seed);
  std::vector<int32_t> out;
  for (size_t i = 0; i < count; ++i)
    out.push_back(static_cast<int32_t>(random.below(static_cast<uint64_t>(spec.vocab_size))));
  return out;
}

float largest(const std::vector<std::vector<float>>& rows) {
  float out = 1.0F;
  for (const auto& row : rows) {
    for (const float v : row) out = std::max(out, std::abs(v));
  }
  return out;
}

float difference(const std::vector<std::vector<float>>& a, const std::vector<std::vector<float>>& b) {
  float out = 0;
  EXPECT_EQ(a.size(), b.size());
  for (size_t i = 0; i < a.size(); ++i) out = std::max(out, max_abs_difference(a[i], b[i]));
  return out;
}

std::vector<std::vector<float>> reference(const ModelSpec& spec, std::span<const int32_t> tokens,
                                          Mistake mistake = Mistake::none) {
  ThreadPool pool(1);
  weights::DummyWeights source(5, DType::f32, pool);
  return ReferenceDecoder(spec, source).forward(tokens, mistake);
}

// One form of latent attention at a time: forms differ in bits, and which one is cheaper depends on the
// batch.
std::vector<attention::MlaOptions> forms_of(const ModelSpec& spec) {
  if (!spec.layers.front().mla) return {{}};
  return {{"absorbed", 4096}, {"expanded", 4096}};
}

TEST(DecoderCpu, MatchesTheReferenceHoweverThePromptIsCut) {
  for (const ModelSpec& spec : sample_specs()) {
    const auto tokens = random_tokens(spec, 41);
    const auto expected = reference(spec, tokens);
    const float tolerance = kTolerance * largest(expected);
    for (const char* backend : {"reference", "auto"}) {
      for (const int page_size : {1, 3, 16}) {
        const auto decoder = make_decoder(spec, page_size);
        RunnerOptions options;
        options.backend = backend;
        options.max_kv_len = 64;
        options.max_tokens = 64;
        StepRunner runner(*decoder, options);
        for (const int chunk : {1, 5, 16, 41}) {
          runner.reset();
          EXPECT_LE(difference(runner.prefill(0, tokens, chunk), expected), tolerance)
              << spec.family << " " << backend << " page size " << page_size << " chunk " << chunk;
        }
        runner.reset();
        std::vector<std::vector<float>> decoded;
        for (const int32_t token : tokens) decoded.push_back(runner.decode(0, token));
        EXPECT_LE(difference(decoded, expected), tolerance) << spec.family << " " << backend << " decode";
      }
    }
  }
}

// The comparison above would see each of these.
TEST(DecoderCpu, DiffersFromEveryMistake) {
  const auto specs = sample_specs();
  std::vector<std::vector<std::vector<float>>> computed;
  for (const ModelSpec& spec : specs) {
    const auto decoder = make_decoder(spec);
    computed.push_back(StepRunner(*decoder, {}).prefill(0, random_tokens(spec, 41), 41));
  }
  for (int m = 1; m < kNumMistakes; ++m) {
    const auto mistake = static_cast<Mistake>(m);
    bool covered = false;
    for (size_t i = 0; i < specs.size(); ++i) {
      if (!applies(mistake, specs[i])) continue;
      covered = true;
      const auto wrong = reference(specs[i], random_tokens(specs[i], 41), mistake);
      EXPECT_GT(difference(computed[i], wrong), 2 * kTolerance * largest(wrong))
          << to_string(mistake) << " in " << specs[i].family;
    }
    EXPECT_TRUE(covered) << to_string(mistake);
  }
}

// Rows that are further off than `part` of the largest logit; some may be where there are experts: where two
// score nearly the same, a rounding decides between them.
void expect_close(const ModelSpec& spec, const std::vector<std::vector<float>>& got,
                  const std::vector<std::vector<float>>& expected, float part, const std::string& what) {
  const bool has_experts = std::any_of(spec.layers.begin(), spec.layers.end(),
                                       [](const LayerSpec& layer) { return layer.moe.has_value(); });
  size_t far = 0;
  for (size_t t = 0; t < got.size(); ++t) {
    if (max_abs_difference(got[t], expected[t]) > part * largest(expected)) ++far;
  }
  EXPECT_LE(far, has_experts ? got.size() / 2 : 0) << what << " " << spec.family;
}

TEST(DecoderCpu, NarrowCachesStayClose) {
  for (const auto& [kv_dtype, part] :
       {std::pair{DType::f16, 0.005F}, std::pair{DType::bf16, 0.03F}, std::pair{DType::f8_e4m3, 0.25F}}) {
    for (const ModelSpec& spec : sample_specs()) {
      const auto tokens = random_tokens(spec, 24);
      const auto expected = reference(spec, tokens);
      const auto decoder = make_decoder(spec, 4, DType::f32, 1, kv_dtype);
      StepRunner runner(*decoder, {});
      const auto got = runner.prefill(0, tokens, 10);
      expect_close(spec, got, expected, part, std::string(to_string(kv_dtype)));
      EXPECT_GT(difference(got, expected), kTolerance * largest(expected)) << "the cache was not narrow";
    }
  }
}

TEST(DecoderCpu, ReducedPrecisionStaysClose) {
  for (const DType dtype : {DType::f16, DType::bf16}) {
    for (const ModelSpec& spec : sample_specs()) {
      const auto tokens = random_tokens(spec, 20);
      // The oracle reads the same rounded weights.
      ThreadPool pool(1);
      weights::DummyWeights source(5, dtype, pool);
      const auto expected = ReferenceDecoder(spec, source).forward(tokens);
      const auto decoder = make_decoder(spec, 4, dtype);
      const auto got = StepRunner(*decoder, {}).prefill(0, tokens, 20);
      expect_close(spec, got, expected, 0.03F, std::string(to_string(dtype)));
    }
  }
}

// The same request gives the same bits alone and among others, in whatever row it lands.
void expect_rows_alone_and_together(const ModelSpec& spec, const attention::MlaOptions& mla) {
  const auto decoder = make_decoder(spec);
  RunnerOptions options;
  options.mla = mla;
  options.num_seqs = 5;
  options.max_kv_len = 64;
  options.max_tokens = 128;
  StepRunner runner(*decoder, options);
  const size_t lengths[] = {1, 7, 8, 23, 33};
  std::vector<std::vector<int32_t>> prompts;
  std::vector<std::vector<float>> alone_last, alone_next;
  for (size_t i = 0; i < 5; ++i) {
    prompts.push_back(random_tokens(spec, lengths[i], 100 + i));
    runner.reset();
    alone_last.push_back(runner.prefill(static_cast<int>(i), prompts[i], 64).back());
    alone_next.push_back(runner.decode(static_cast<int>(i), argmax(alone_last[i])));
  }
  runner.reset();
  std::vector<StepRunner::Part> parts(5);
  for (size_t i = 0; i < 5; ++i) {
    parts[i].seq = static_cast<int>(4 - i);
    parts[i].tokens = prompts[4 - i];
  }
  const auto last = runner.step(parts);
  for (size_t i = 0; i < 5; ++i) EXPECT_EQ(last[i], alone_last[4 - i]) << spec.family;
  for (size_t i = 0; i < 5; ++i) {
    parts[i].seq = static_cast<int>(i);
    parts[i].tokens = {argmax(alone_last[i])};
    parts[i].phase = attention::Phase::decode;
  }
  const auto next = runner.step(parts);
  for (size_t i = 0; i < 5; ++i) EXPECT_EQ(next[i], alone_next[i]) << spec.family;
}

TEST(DecoderCpu, RowsDoNotDependOnTheirNeighbours) {
  for (const ModelSpec& spec : sample_specs()) {
    for (const auto& mla : forms_of(spec)) expect_rows_alone_and_together(spec, mla);
  }
}

// Nor does the way a prompt is cut into chunks, nor the page size.
TEST(DecoderCpu, ChunksAndPagesDoNotChangeBits) {
  for (const ModelSpec& spec : sample_specs()) {
    const auto tokens = random_tokens(spec, 45);
    for (const auto& mla : forms_of(spec)) {
      std::vector<std::vector<float>> first;
      for (const int page_size : {1, 3, 16}) {
        const auto decoder = make_decoder(spec, page_size);
        RunnerOptions options;
        options.mla = mla;
        StepRunner runner(*decoder, options);
        for (const int chunk : {45, 1, 5, 16}) {
          runner.reset();
          const auto rows = runner.prefill(0, tokens, chunk);
          if (first.empty()) first = rows;
          EXPECT_EQ(rows, first) << spec.family << " " << mla.prefill_form << " page size " << page_size
                                 << " chunk " << chunk;
        }
      }
    }
  }
}

TEST(DecoderCpu, ThreadsDoNotChangeBits) {
  const ModelSpec spec = sliding_qk_norm_spec();
  const auto tokens = random_tokens(spec, 33);
  const auto one = make_decoder(spec, 4, DType::f32, 1);
  const auto three = make_decoder(spec, 4, DType::f32, 3);
  EXPECT_EQ(StepRunner(*one, {}).prefill(0, tokens, 10), StepRunner(*three, {}).prefill(0, tokens, 10));
}

TEST(DecoderCpu, LogitsOfChosenRowsOnly) {
  const ModelSpec spec = sliding_qk_norm_spec();
  const auto decoder = make_decoder(spec);
  const auto tokens = random_tokens(spec, 30);
  StepRunner runner(*decoder, {});
  const auto all = runner.prefill(0, tokens, 30);
  runner.reset();
  StepRunner::Part part;
  part.tokens.assign(tokens.begin(), tokens.begin() + 20);
  part.no_logits = true;
  EXPECT_TRUE(runner.step({&part, 1}).empty());
  part.tokens.assign(tokens.begin() + 20, tokens.end());
  part.no_logits = false;
  const auto last = runner.step({&part, 1});
  ASSERT_EQ(last.size(), 1U);
  EXPECT_LE(max_abs_difference(last[0], all.back()), kTolerance * largest(all));
}

TEST(DecoderCpu, EqualLayersShareAnAttentionClass) {
  const auto decoder = make_decoder(sliding_qk_norm_spec(), 16);
  const auto classes = decoder->attention_classes();
  ASSERT_EQ(classes.size(), 2U);
  EXPECT_EQ(classes[0].window, 5);
  EXPECT_EQ(classes[1].window, 0);
  EXPECT_EQ(classes[0].page_size, 16);
  EXPECT_EQ(make_decoder(all_biases_spec())->attention_classes().size(), 1U);
}

// The steps' room for rows by expert is shared out anew each time: many tokens, experts by turns.
TEST(DecoderCpu, ExpertsInSeveralRoundsGiveTheSameBits) {
  const ModelSpec spec = grouped_moe_spec();
  const auto decoder = make_decoder(spec);
  const auto tokens = random_tokens(spec, 64);
  std::vector<std::vector<float>> first;
  for (const int max_tokens : {64, 100, 300}) {
    RunnerOptions options;
    options.max_tokens = max_tokens;
    options.max_kv_len = 64;
    StepRunner runner(*decoder, options);
    const auto rows = runner.prefill(0, tokens, 64);
    if (first.empty()) first = rows;
    EXPECT_EQ(rows, first) << max_tokens;
  }
}

TEST(DecoderCpu, CountsItsMemory) {
  for (const ModelSpec& with_experts : {softmax_moe_spec(), clamped_moe_spec()}) {
    const auto decoder = make_decoder(with_experts);
    EXPECT_EQ(decoder->workspace_bytes(64, 8), workspace_bytes(with_experts, DType::f32, 64, 8));
    EXPECT_GE(decoder->workspace_bytes(64, 8),
              64U * 4 *
                  (3 * 40 + 2 * 28 + 28 +
                   4 * static_cast<unsigned>(with_experts.layers[0].moe->experts_per_token)));
  }
  const ModelSpec spec = sliding_qk_norm_spec();
  const auto decoder = make_decoder(spec);
  EXPECT_GT(decoder->workspace_bytes(64, 8), decoder->workspace_bytes(32, 8));
  EXPECT_GE(decoder->workspace_bytes(64, 8), 64U * 4 * (2 * 48 + 160 + 96));
  EXPECT_GT(decoder->weight_bytes(), 0U);
  EXPECT_EQ(decoder->workspace_bytes(64, 8), workspace_bytes(spec, DType::f32, 64, 8));
}

void expect_no_allocation(const ModelSpec& spec) {
  const auto decoder = make_decoder(spec);
  const auto classes = decoder->attention_classes();
  const auto router = attention::Router::create({}, classes);
  ASSERT_TRUE(router.ok());
  attention::PlanLimits limits{16, 2, 32, 1};
  auto planner = attention::Planner::create(*router, classes, limits);
  auto cache = kv::KvCache::allocate(kv_layer_shapes(spec), DType::f32, 4, 8);
  ASSERT_TRUE(planner.ok() && cache.ok() && decoder->prepare(16, 16).ok());
  const std::vector<int32_t> ids = {1, 2, 3, 4, 5}, positions = {0, 1, 2, 3, 4}, wanted = {4}, table = {3, 6};
  const std::vector<int64_t> slots = {12, 13, 14, 15, 24};
  const attention::Phase phase = attention::Phase::prefill;
  const int32_t begin = 0, length = 5;
  attention::StepBatch batch{1, {&phase, 1}, {&begin, 1}, {&length, 1}, {&length, 1}, table, 2};
  (*planner)->plan(batch);
  std::vector<float> logits(static_cast<size_t>(spec.vocab_size));
  const int64_t before = num_allocations();
  const Status status = decoder->forward({ids, positions, slots, wanted}, **planner, *cache, logits.data());
  EXPECT_EQ(num_allocations(), before) << spec.family;
  EXPECT_TRUE(status.ok()) << status.message();
}

TEST(DecoderCpu, ForwardAllocatesNothing) {
  for (const ModelSpec& spec : sample_specs()) expect_no_allocation(spec);
}

TEST(DecoderCpu, RefusesStepsThatDoNotFit) {
  const ModelSpec spec = all_biases_spec();
  const auto decoder = make_decoder(spec);
  const auto router = attention::Router::create({}, decoder->attention_classes());
  ASSERT_TRUE(router.ok());
  auto planner = attention::Planner::create(*router, decoder->attention_classes(), {4, 1, 16, 1});
  auto cache = kv::KvCache::allocate(kv_layer_shapes(spec), DType::f32, 4, 2);
  ASSERT_TRUE(planner.ok() && cache.ok() && decoder->prepare(2, 2).ok());
  std::vector<float> logits(static_cast<size_t>(spec.vocab_size) * 4);
  using Ints = std::vector<int32_t>;
  using Slots = std::vector<int64_t>;
  struct Case {
    const char* what;
    Ints ids, positions;
    Slots slots;
    Ints wanted;
  };
  const Case cases[] = {
      {"too many rows", {1, 2, 3}, {0, 1, 2}, {0, 1, 2}, {2}},
      {"no position", {1}, {}, {0}, {0}},
      {"no slot", {1}, {0}, {}, {0}},
      {"token negative", {-1}, {0}, {0}, {0}},
      {"token past the vocabulary", {spec.vocab_size}, {0}, {0}, {0}},
      {"position negative", {1}, {-1}, {0}, {0}},
      {"slot negative", {1}, {0}, {-1}, {0}},
      {"slot past the cache", {1}, {0}, {8}, {0}},
      {"logits of a row past the end", {1}, {0}, {0}, {1}},
      {"logits of a negative row", {1}, {0}, {0}, {-1}},
      {"more logits than rows", {1}, {0}, {0}, {0, 0}},
  };
  for (const Case& bad : cases) {
    const Status status =
        decoder->forward({bad.ids, bad.positions, bad.slots, bad.wanted}, **planner, *cache, logits.data());
    EXPECT_EQ(status.code(), StatusCode::internal) << bad.what;
  }
}

}  // namespace
}  // namespace bifocal::model
