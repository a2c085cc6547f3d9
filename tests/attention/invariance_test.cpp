// A row's bits depend on its own request alone: not on its batch mates, the chunking, the cached prefix, the
// page size or the number of threads.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>

#include "attention/attention_case.h"
#include "kernels/cpu/isa.h"

namespace bifocal::attention {
namespace {

// Long enough for four spans of keys.
constexpr int kKeys = 1700;

CaseSpec one_sequence(std::string backend, std::string isa, int q_len) {
  CaseSpec spec;
  spec.backend = std::move(backend);
  spec.isa = std::move(isa);
  spec.desc.num_heads = 6;
  spec.desc.num_kv_heads = 2;
  spec.desc.head_dim_k = spec.desc.head_dim_v = 64;
  spec.desc.kv_dtype = DType::bf16;
  spec.desc.scale = 0.125F;
  spec.seed = 11;
  spec.sequences = {{7, q_len, kKeys}};
  return spec;
}

// Rows [begin, begin + count) of a result, out and lse together.
std::vector<float> rows_of(const CaseSpec& spec, const CaseResult& result, int64_t begin, int64_t count) {
  const auto out_width = static_cast<size_t>(spec.desc.num_heads * spec.desc.head_dim_v);
  const auto lse_width = static_cast<size_t>(spec.desc.num_heads);
  const auto b = static_cast<size_t>(begin);
  const auto n = static_cast<size_t>(count);
  std::vector<float> rows(result.out.begin() + static_cast<int64_t>(b * out_width),
                          result.out.begin() + static_cast<int64_t>((b + n) * out_width));
  rows.insert(rows.end(), result.lse.begin() + static_cast<int64_t>(b * lse_width),
              result.lse.begin() + static_cast<int64_t>((b + n) * lse_width));
  return rows;
}

bool same_bits(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

struct Way {
  std::string backend;
  std::string isa;
};

std::vector<Way> all_ways() {
  std::vector<Way> ways = {{"reference", "scalar"}};
  for (const auto isa : kernels::cpu::supported_isas()) {
    for (const char* backend : {"tiled", "streaming", "unified"})
      ways.push_back({backend, std::string(to_string(isa))});
  }
  return ways;
}

class Invariance : public testing::TestWithParam<Way> {
 protected:
  static constexpr int kRows = 30;
  CaseSpec base_ = one_sequence(GetParam().backend, GetParam().isa, kRows);
  std::vector<float> expected_ = rows_of(base_, run_case(base_), 0, kRows);
};

TEST_P(Invariance, Batch) {
  CaseSpec spec = base_;
  spec.sequences = {{1, 5, 40}, {2, 0, 0}, base_.sequences[0], {3, 1, 900}, {4, 64, 64}};
  EXPECT_TRUE(same_bits(rows_of(spec, run_case(spec), 5, kRows), expected_));
}

TEST_P(Invariance, Chunks) {
  for (const int chunk : {1, 7, 16}) {
    for (int begin = 0; begin < kRows; begin += chunk) {
      CaseSpec spec = base_;
      const int rows = std::min(chunk, kRows - begin);
      spec.sequences = {{7, rows, kKeys - kRows + begin + rows}};
      EXPECT_TRUE(
          same_bits(rows_of(spec, run_case(spec), 0, rows), rows_of(base_, run_case(base_), begin, rows)))
          << "rows " << begin << " to " << begin + rows;
    }
  }
}

TEST_P(Invariance, CachedPrefix) {
  // The whole prompt at once, none of it cached, against its last rows alone.
  CaseSpec spec = base_;
  spec.sequences = {{7, 400, 400}};
  const auto whole = run_case(spec);
  for (const int rows : {1, 33, 399}) {
    CaseSpec tail = base_;
    tail.sequences = {{7, rows, 400}};
    EXPECT_TRUE(same_bits(rows_of(tail, run_case(tail), 0, rows), rows_of(spec, whole, 400 - rows, rows)))
        << rows;
  }
}

TEST_P(Invariance, PageSize) {
  for (const int page_size : {1, 3, 64, 256}) {
    CaseSpec spec = base_;
    spec.desc.page_size = page_size;
    EXPECT_TRUE(same_bits(rows_of(spec, run_case(spec), 0, kRows), expected_)) << page_size;
  }
}

TEST_P(Invariance, Threads) {
  for (const int threads : {2, 3, 8}) {
    CaseSpec spec = base_;
    spec.num_threads = threads;
    EXPECT_TRUE(same_bits(rows_of(spec, run_case(spec), 0, kRows), expected_)) << threads;
  }
}

// A prefix that several sequences share is read once; nobody can tell from the result.
TEST_P(Invariance, SharedPrefix) {
  CaseSpec spec = base_;
  spec.desc.sinks = true;
  spec.sequences.clear();
  for (uint32_t i = 0; i < 9; ++i) {
    // Three spans and some keys in common, two of the sequences less of it; tails of up to two spans.
    const int prefix_len = i == 4 ? 1100 : i == 6 ? 300 : 1600;
    const int q_len = i == 2 ? 17 : i == 8 ? 400 : 1 + static_cast<int>(i) % 3;
    spec.sequences.push_back({i, q_len, prefix_len + q_len + static_cast<int>(i) * 100, 50, prefix_len});
  }
  const CaseResult apart = run_case(spec);
  spec.share_pages = true;
  for (const int threads : {1, 3}) {
    spec.num_threads = threads;
    const CaseResult together = run_case(spec);
    EXPECT_TRUE(same_bits(together.out, apart.out)) << threads;
    EXPECT_TRUE(same_bits(together.lse, apart.lse)) << threads;
  }
}

TEST_P(Invariance, WindowSinksSoftcap) {
  for (const int chunk : {1, 11}) {
    CaseSpec whole = base_;
    whole.desc.window = 77;
    whole.desc.sinks = true;
    whole.desc.softcap = 20;
    CaseSpec part = whole;
    part.num_threads = 3;
    part.sequences = {{3, 9, 30}, {7, chunk, kKeys}};
    EXPECT_TRUE(same_bits(rows_of(part, run_case(part), 9, chunk),
                          rows_of(whole, run_case(whole), kRows - chunk, chunk)));
  }
}

INSTANTIATE_TEST_SUITE_P(All, Invariance, testing::ValuesIn(all_ways()),
                         [](const auto& way) { return way.param.backend + "_" + way.param.isa; });

// `unified` computes few rows in another way than many, and the bits are those of `tiled`.
TEST(Unified, HasTheBitsOfTiled) {
  for (const auto isa : kernels::cpu::supported_isas()) {
    for (const int q_len : {1, 2, 5, 30}) {
      CaseSpec spec = one_sequence("tiled", std::string(to_string(isa)), q_len);
      spec.desc.head_dim_k = q_len == 5 ? 192 : 64;
      spec.desc.head_dim_v = q_len == 2 ? 128 : 72;
      spec.desc.softcap = 30;
      const CaseResult tiled = run_case(spec);
      spec.backend = "unified";
      const CaseResult unified = run_case(spec);
      EXPECT_TRUE(same_bits(tiled.out, unified.out)) << to_string(spec);
      EXPECT_TRUE(same_bits(tiled.lse, unified.lse)) << to_string(spec);
    }
  }
}

// The cases above must take the split path: with several threads this one sequence's keys are shared out.
TEST(InvarianceSetup, OneSequenceIsSplit) {
  for (const char* name : {"tiled", "streaming", "unified"}) {
    CaseSpec spec = one_sequence(name, "auto", 1);
    spec.num_threads = 8;
    const CaseData data(spec);
    const Backend* backend = find_backend(name);
    auto buffers = backend->make_buffers(spec.desc, spec.limits());
    ASSERT_TRUE(buffers.ok());
    const Plan plan = backend->plan(spec.desc, data.batch(), *buffers);
    EXPECT_GE(plan.num_splits, 1);
    EXPECT_GT(plan.num_parts, 4);
  }
}

TEST(InvarianceSetup, PrefixIsShared) {
  for (const char* name : {"tiled", "streaming", "unified"}) {
    CaseSpec spec = one_sequence(name, "auto", 1);
    spec.sequences = {{0, 1, 1700, 50, 1600}, {1, 1, 1700, 50, 1600}};
    for (const bool share : {false, true}) {
      spec.share_pages = share;
      const CaseData data(spec);
      const Backend* backend = find_backend(name);
      auto buffers = backend->make_buffers(spec.desc, spec.limits());
      ASSERT_TRUE(buffers.ok());
      EXPECT_EQ(backend->plan(spec.desc, data.batch(), *buffers).num_shared_parts > 0, share);
    }
  }
}

}  // namespace
}  // namespace bifocal::attention
