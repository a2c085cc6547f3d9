// The C interface on the CPU: its numbers against plain loops, its answers to mistakes.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <memory>
#include <numeric>
#include <random>
#include <string>
#include <vector>

#include "capi/bifocal_attention.h"
#include "capi/one_step.h"
#include "tensor/dtype.h"

namespace {

struct Destroy {
  void operator()(bifocal_attention* attention) const { bifocal_attention_destroy(attention); }
};
using Handle = std::unique_ptr<bifocal_attention, Destroy>;

struct Sequence {
  int q_len;
  int kv_len;
};

// A step over a cache of two layers, and what must come out of it.
struct Problem {
  bifocal_attention_options options{};
  std::vector<Sequence> prefill;
  std::vector<Sequence> decode;
  int num_layers = 2;

  int num_seqs() const { return static_cast<int>(prefill.size() + decode.size()); }
  Sequence sequence(int i) const {
    const auto at = static_cast<size_t>(i);
    return at < prefill.size() ? prefill[at] : decode[at - prefill.size()];
  }
};

Problem typical() {
  Problem problem;
  bifocal_attention_defaults(&problem.options);
  problem.options.num_heads = 4;
  problem.options.num_kv_heads = 2;
  problem.options.head_dim = 16;
  problem.options.page_size = 8;
  problem.options.cache_dtype = BIFOCAL_F32;
  problem.options.max_tokens = 64;
  problem.options.max_seqs = 8;
  problem.options.max_kv_len = 100;
  problem.options.num_threads = 2;
  problem.prefill = {{17, 17}, {5, 40}, {0, 0}};
  problem.decode = {{1, 1}, {1, 64}, {1, 99}};
  return problem;
}

// Random data for a problem, laid out as the interface wants it.
struct Data {
  explicit Data(const Problem& problem) : options(problem.options) {
    std::mt19937 random(11);
    std::normal_distribution<float> normal;
    const auto fill = [&](std::vector<float>* to, size_t count) {
      to->resize(count);
      for (float& x : *to) x = normal(random);
    };
    int num_pages = 0;
    for (int i = 0; i < problem.num_seqs(); ++i) {
      const Sequence sequence = problem.sequence(i);
      q_begin.push_back(num_tokens);
      q_len.push_back(sequence.q_len);
      kv_len.push_back(sequence.kv_len);
      num_tokens += sequence.q_len;
      num_pages += pages_of(sequence.kv_len);
      stride = std::max(stride, pages_of(sequence.kv_len));
    }
    std::vector<int32_t> order(static_cast<size_t>(num_pages));
    std::iota(order.begin(), order.end(), 0);
    std::shuffle(order.begin(), order.end(), random);
    table.assign(q_len.size() * static_cast<size_t>(stride), -1);
    auto next = order.begin();
    for (size_t i = 0; i < q_len.size(); ++i) {
      const int count = pages_of(kv_len[i]);
      std::copy_n(next, count, table.begin() + static_cast<int64_t>(i) * stride);
      next += count;
    }
    layer_pages = num_pages;
    total_pages = num_pages * problem.num_layers;
    const auto elements =
        static_cast<size_t>(total_pages * options.num_kv_heads * options.page_size * options.head_dim);
    fill(&k, elements);
    fill(&v, elements);
    fill(&q, static_cast<size_t>(num_tokens * options.num_heads * options.head_dim));
    fill(&sinks, static_cast<size_t>(options.num_heads));
    out.assign(q.size(), std::numeric_limits<float>::quiet_NaN());
    if (options.cache_dtype == BIFOCAL_F32) return;
    for (std::vector<float>* cache : {&k, &v}) {
      std::vector<uint16_t>& half = cache == &k ? k16 : v16;
      for (float& x : *cache) {
        half.push_back(bifocal::to_bfloat16(x).bits);
        x = bifocal::to_float(bifocal::to_bfloat16(x));
      }
    }
  }

  int pages_of(int keys) const { return (keys + options.page_size - 1) / options.page_size; }
  void* keys() { return k16.empty() ? static_cast<void*>(k.data()) : k16.data(); }
  void* values() { return v16.empty() ? static_cast<void*>(v.data()) : v16.data(); }

  // Of sequence i, layer and KV head: where key `at` begins in k and v.
  size_t key_at(int layer, size_t i, int head, int at) const {
    const int page = layer * layer_pages +
                     table[i * static_cast<size_t>(stride) + static_cast<size_t>(at / options.page_size)];
    return static_cast<size_t>(
        ((page * options.num_kv_heads + head) * options.page_size + at % options.page_size) *
        options.head_dim);
  }

  bifocal_attention_options options;
  int num_tokens = 0;
  int stride = 0;
  int layer_pages = 0;
  int total_pages = 0;
  std::vector<int32_t> q_begin, q_len, kv_len, table;
  std::vector<float> k, v, q, sinks, out;
  std::vector<uint16_t> k16, v16;
};

// out[row, h] by the definition, in double precision.
std::vector<double> expected(const Data& data, int layer) {
  const bifocal_attention_options& o = data.options;
  std::vector<double> out(data.q.size(), 0.0);
  for (size_t i = 0; i < data.q_len.size(); ++i) {
    for (int row = 0; row < data.q_len[i]; ++row) {
      const int position = data.kv_len[i] - data.q_len[i] + row;
      const int first = o.window > 0 ? std::max(0, position + 1 - o.window) : 0;
      for (int h = 0; h < o.num_heads; ++h) {
        const auto at = static_cast<size_t>(((data.q_begin[i] + row) * o.num_heads + h) * o.head_dim);
        const int kv_head = h / (o.num_heads / o.num_kv_heads);
        double sum = o.sinks != 0 ? std::exp(static_cast<double>(data.sinks[static_cast<size_t>(h)])) : 0.0;
        for (int key = first; key <= position; ++key) {
          const size_t kv = data.key_at(layer, i, kv_head, key);
          double logit = 0.0;
          for (size_t d = 0; d < static_cast<size_t>(o.head_dim); ++d)
            logit += static_cast<double>(data.q[at + d]) * data.k[kv + d];
          const double p = std::exp(logit / std::sqrt(static_cast<double>(o.head_dim)));
          sum += p;
          for (size_t d = 0; d < static_cast<size_t>(o.head_dim); ++d) out[at + d] += p * data.v[kv + d];
        }
        for (size_t d = 0; d < static_cast<size_t>(o.head_dim); ++d) out[at + d] /= sum;
      }
    }
  }
  return out;
}

Handle create(const bifocal_attention_options& options) {
  bifocal_attention* attention = nullptr;
  EXPECT_EQ(bifocal_attention_create(&options, &attention), BIFOCAL_OK) << bifocal_last_error();
  return Handle(attention);
}

bifocal_attention_batch batch_of(const Problem& problem, const Data& data) {
  bifocal_attention_batch batch{};
  batch.num_prefill = static_cast<int32_t>(problem.prefill.size());
  batch.num_decode = static_cast<int32_t>(problem.decode.size());
  batch.q_begin = data.q_begin.data();
  batch.q_len = data.q_len.data();
  batch.kv_len = data.kv_len.data();
  batch.page_table = data.table.data();
  batch.page_table_stride = data.stride;
  return batch;
}

bifocal_attention_layer layer_of(Data* data, int layer) {
  bifocal_attention_layer args{};
  args.q = data->q.data();
  args.out = data->out.data();
  args.num_tokens = data->num_tokens;
  args.first_page = layer * data->layer_pages;
  args.sinks = data->options.sinks != 0 ? data->sinks.data() : nullptr;
  return args;
}

void expect_right(const Problem& problem) {
  Data data(problem);
  const Handle attention = create(problem.options);
  ASSERT_NE(attention, nullptr);
  ASSERT_EQ(bifocal_attention_set_cache(attention.get(), data.keys(), data.values(), data.total_pages),
            BIFOCAL_OK)
      << bifocal_last_error();
  const bifocal_attention_batch batch = batch_of(problem, data);
  ASSERT_EQ(bifocal_attention_plan(attention.get(), &batch, nullptr), BIFOCAL_OK) << bifocal_last_error();
  for (int layer = 0; layer < problem.num_layers; ++layer) {
    const bifocal_attention_layer args = layer_of(&data, layer);
    ASSERT_EQ(bifocal_attention_run(attention.get(), &args, nullptr), BIFOCAL_OK) << bifocal_last_error();
    const std::vector<double> want = expected(data, layer);
    // Products of bf16 tiles, where a machine has them, round queries and probabilities too.
    const double bound = problem.options.cache_dtype == BIFOCAL_F32 ? 1e-5 : 2e-2;
    for (size_t i = 0; i < want.size(); ++i) {
      ASSERT_NEAR(static_cast<double>(data.out[i]), want[i], bound) << "layer " << layer << ", element " << i;
    }
  }
}

TEST(CAttention, PrefillAndDecodeInOneStepAreRight) {
  for (const char* backend : {"auto", "unified", "tiled,streaming", "reference"}) {
    SCOPED_TRACE(backend);
    Problem problem = typical();
    problem.options.backend = backend;
    expect_right(problem);
  }
}

TEST(CAttention, Bf16CachesWindowsAndSinksAreRight) {
  Problem problem = typical();
  problem.options.cache_dtype = BIFOCAL_BF16;
  expect_right(problem);
  problem.options.cache_dtype = BIFOCAL_F32;
  problem.options.window = 9;
  problem.options.sinks = 1;
  expect_right(problem);
}

TEST(CAttention, AnEmptyStepIsLegal) {
  const Problem problem = typical();
  Data data(problem);
  const Handle attention = create(problem.options);
  ASSERT_EQ(bifocal_attention_set_cache(attention.get(), data.keys(), data.values(), data.total_pages),
            BIFOCAL_OK);
  const bifocal_attention_batch batch{};
  EXPECT_EQ(bifocal_attention_plan(attention.get(), &batch, nullptr), BIFOCAL_OK) << bifocal_last_error();
  const bifocal_attention_layer layer{};
  EXPECT_EQ(bifocal_attention_run(attention.get(), &layer, nullptr), BIFOCAL_OK) << bifocal_last_error();
}

TEST(CAttention, TheHeaderServesC) {
  float out = 0.0F;
  EXPECT_EQ(attend_to_one_key(2.5F, &out), BIFOCAL_OK) << bifocal_last_error();
  EXPECT_EQ(out, 2.5F);
}

TEST(CAttention, SaysWhichBackendServesWhatAndWhy) {
  bifocal_attention_options options = typical().options;
  options.backend = "tiled,streaming";
  const Handle attention = create(options);
  EXPECT_EQ(bifocal_attention_explain(attention.get(), BIFOCAL_PREFILL),
            std::string("tiled (--attention-backend tiled)"));
  EXPECT_EQ(bifocal_attention_explain(attention.get(), BIFOCAL_DECODE),
            std::string("streaming (--attention-backend streaming)"));
}

struct Mistake {
  const char* name;
  std::function<void(bifocal_attention_options*)> make;
  bifocal_code code;
  const char* message;  // a part of it
};

TEST(CAttention, MistakesInOptionsHaveNames) {
  const Mistake mistakes[] = {
      {"device", [](auto* o) { o->device = "tpu"; }, BIFOCAL_INVALID_ARGUMENT, "\"cpu\" or \"cuda\""},
      {"backend", [](auto* o) { o->backend = "fastest"; }, BIFOCAL_INVALID_ARGUMENT, "fastest"},
      {"backend of a GPU", [](auto* o) { o->backend = "decode_mma"; }, BIFOCAL_INVALID_ARGUMENT,
       "decode_mma"},
      {"heads", [](auto* o) { o->num_heads = 3; }, BIFOCAL_INVALID_ARGUMENT, "3"},
      {"KV heads", [](auto* o) { o->num_kv_heads = 0; }, BIFOCAL_INVALID_ARGUMENT, "0"},
      {"head dim", [](auto* o) { o->head_dim = -8; }, BIFOCAL_INVALID_ARGUMENT, "head_dim is -8"},
      {"page size", [](auto* o) { o->page_size = 0; }, BIFOCAL_INVALID_ARGUMENT, "0"},
      {"window", [](auto* o) { o->window = -1; }, BIFOCAL_INVALID_ARGUMENT, "window"},
      {"dtype", [](auto* o) { o->cache_dtype = 9; }, BIFOCAL_INVALID_ARGUMENT, "cache_dtype 9"},
      {"tokens", [](auto* o) { o->max_tokens = 0; }, BIFOCAL_INVALID_ARGUMENT, "max_tokens is 0"},
      {"sequences", [](auto* o) { o->max_seqs = -1; }, BIFOCAL_INVALID_ARGUMENT, "max_seqs is -1"},
      {"keys", [](auto* o) { o->max_kv_len = 0; }, BIFOCAL_INVALID_ARGUMENT, "max_kv_len is 0"},
      {"threads", [](auto* o) { o->num_threads = -2; }, BIFOCAL_INVALID_ARGUMENT, "num_threads is -2"},
  };
  for (const Mistake& mistake : mistakes) {
    SCOPED_TRACE(mistake.name);
    bifocal_attention_options options = typical().options;
    mistake.make(&options);
    auto* attention = reinterpret_cast<bifocal_attention*>(1);
    EXPECT_EQ(bifocal_attention_create(&options, &attention), mistake.code) << bifocal_last_error();
    EXPECT_EQ(attention, nullptr);
    EXPECT_NE(std::string(bifocal_last_error()).find(mistake.message), std::string::npos)
        << bifocal_last_error();
  }
  EXPECT_EQ(bifocal_attention_create(nullptr, nullptr), BIFOCAL_INVALID_ARGUMENT);
}

bifocal_attention_options gpu_options() {
  bifocal_attention_options options = typical().options;
  options.device = "cuda";
  options.head_dim = 128;
  options.page_size = 64;
  options.cache_dtype = BIFOCAL_BF16;
  return options;
}

TEST(CAttention, AGpuThatIsNotThereIsUnavailable) {
  const bifocal_attention_options options = gpu_options();
  bifocal_attention* made = nullptr;
  const bifocal_code code = bifocal_attention_create(&options, &made);
  const Handle attention(made);
  if (code == BIFOCAL_OK) GTEST_SKIP() << "there is a GPU here";
  EXPECT_EQ(code, BIFOCAL_UNAVAILABLE) << bifocal_last_error();
}

// The host doesn't know how many rows a prompt has, and decode_mma takes them one by one.
TEST(CAttention, TheDecodeKernelOfAGpuRefusesPrompts) {
  const Problem problem = typical();
  const Data data(problem);
  bifocal_attention_options options = gpu_options();
  options.backend = "decode_mma";
  bifocal_attention* made = nullptr;
  const bifocal_code code = bifocal_attention_create(&options, &made);
  const Handle attention(made);
  if (code == BIFOCAL_UNAVAILABLE) GTEST_SKIP() << bifocal_last_error();
  ASSERT_EQ(code, BIFOCAL_OK) << bifocal_last_error();
  const bifocal_attention_batch batch = batch_of(problem, data);
  EXPECT_EQ(bifocal_attention_plan(attention.get(), &batch, nullptr), BIFOCAL_UNSUPPORTED);
  EXPECT_NE(std::string(bifocal_last_error()).find("prefill_ws"), std::string::npos) << bifocal_last_error();
}

struct BadStep {
  const char* name;
  std::function<void(Data*, bifocal_attention_batch*)> make;
  const char* message;
};

TEST(CAttention, MistakesInAStepHaveNamesAndLeaveTheHandleUsable) {
  const Problem problem = typical();
  Data data(problem);
  const Handle attention = create(problem.options);
  bifocal_attention_layer layer = layer_of(&data, 0);
  EXPECT_EQ(bifocal_attention_run(attention.get(), &layer, nullptr), BIFOCAL_INVALID_ARGUMENT);
  EXPECT_NE(std::string(bifocal_last_error()).find("bifocal_attention_set_cache"), std::string::npos);
  ASSERT_EQ(bifocal_attention_set_cache(attention.get(), data.keys(), data.values(), data.total_pages),
            BIFOCAL_OK);
  EXPECT_EQ(bifocal_attention_run(attention.get(), &layer, nullptr), BIFOCAL_INVALID_ARGUMENT);
  EXPECT_NE(std::string(bifocal_last_error()).find("bifocal_attention_plan"), std::string::npos);

  const BadStep steps[] = {
      {"too many sequences", [](Data*, auto* b) { b->num_decode = 7; }, "max_seqs"},
      {"a negative number", [](Data*, auto* b) { b->num_prefill = -1; }, "-1"},
      {"no lengths", [](Data*, auto* b) { b->kv_len = nullptr; }, "kv_len is null"},
      {"fewer keys than rows", [](Data* d, auto*) { d->kv_len[0] = 16; }, "sequence 0"},
      {"too many keys", [](Data* d, auto*) { d->kv_len[5] = 101; }, "max_kv_len"},
      {"two rows to decode", [](Data* d, auto*) { d->q_len[4] = 2; }, "one row to decode"},
      {"too many rows",
       [](Data* d, auto* b) {
         b->num_prefill = 6;
         b->num_decode = 0;
         d->q_len[4] = 60;
       },
       "max_tokens"},
      {"a short page table", [](Data*, auto* b) { b->page_table_stride = 2; }, "row of the page table"},
      {"a page that is none", [](Data* d, auto*) { d->table[0] = -1; }, "page 0 is -1"},
  };
  for (const BadStep& step : steps) {
    SCOPED_TRACE(step.name);
    Data bad(problem);
    bifocal_attention_batch batch = batch_of(problem, bad);
    step.make(&bad, &batch);
    EXPECT_EQ(bifocal_attention_plan(attention.get(), &batch, nullptr), BIFOCAL_INVALID_ARGUMENT);
    EXPECT_NE(std::string(bifocal_last_error()).find(step.message), std::string::npos)
        << bifocal_last_error();
  }

  const bifocal_attention_batch batch = batch_of(problem, data);
  ASSERT_EQ(bifocal_attention_plan(attention.get(), &batch, nullptr), BIFOCAL_OK) << bifocal_last_error();
  layer.first_page = data.total_pages;
  EXPECT_EQ(bifocal_attention_run(attention.get(), &layer, nullptr), BIFOCAL_INVALID_ARGUMENT);
  EXPECT_NE(std::string(bifocal_last_error()).find("the cache has"), std::string::npos)
      << bifocal_last_error();
  layer = layer_of(&data, 0);
  layer.num_tokens = 3;
  EXPECT_EQ(bifocal_attention_run(attention.get(), &layer, nullptr), BIFOCAL_INVALID_ARGUMENT);
  layer = layer_of(&data, 0);
  layer.sinks = data.sinks.data();
  EXPECT_EQ(bifocal_attention_run(attention.get(), &layer, nullptr), BIFOCAL_INVALID_ARGUMENT);
  layer = layer_of(&data, 0);
  EXPECT_EQ(bifocal_attention_run(attention.get(), &layer, nullptr), BIFOCAL_OK) << bifocal_last_error();
}

}  // namespace
