// Multi-head latent attention: every form against the equations in double, whatever the lengths, pages and
// chunks; and which form the policy picks.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "attention/planner.h"
#include "base/hash.h"
#include "kernels/cpu/elementwise.h"

namespace bifocal::attention {
namespace {

constexpr int kHeads = 3, kRank = 40, kNope = 24, kRope = 16, kValue = 32;
constexpr int kLatent = kRank + kRope, kHeadDim = kNope + kRope;

AttentionDesc latent_class(DType kv_dtype = DType::f32, int page_size = 4) {
  AttentionDesc desc;
  desc.kind = Kind::mla;
  desc.num_heads = kHeads;
  desc.num_kv_heads = 1;
  desc.head_dim_k = kLatent;
  desc.head_dim_v = kRank;
  desc.expanded_head_dim_k = kHeadDim;
  desc.expanded_head_dim_v = kValue;
  desc.scale = 0.2F;
  desc.kv_dtype = kv_dtype;
  desc.page_size = page_size;
  return desc;
}

struct Sequence {
  Phase phase = Phase::prefill;
  int q_len = 0;
  int kv_len = 0;
};

// A step over random latents, with pages in random order and NaN in every slot that holds none.
class Problem {
 public:
  Problem(const AttentionDesc& desc, std::vector<Sequence> sequences)
      : desc_(desc), sequences_(std::move(sequences)), pool_(2) {
    SplitMix64 random(7);
    const auto uniform = [&] { return static_cast<float>(random.uniform() * 2.0 - 1.0); };
    for (const Sequence& s : sequences_) {
      phases_.push_back(s.phase);
      q_begin_.push_back(num_rows_);
      q_len_.push_back(s.q_len);
      kv_len_.push_back(s.kv_len);
      num_rows_ += s.q_len;
      max_kv_len_ = std::max(max_kv_len_, s.kv_len);
    }
    q_.resize(static_cast<size_t>(num_rows_ * kHeads * kHeadDim));
    for (float& x : q_) x = 2.0F * uniform();
    kv_b_.resize(static_cast<size_t>(kHeads * (kNope + kValue) * kRank));
    for (float& x : kv_b_) x = uniform() / std::sqrt(static_cast<float>(kRank));
    pack();

    const int page_size = desc.page_size;
    stride_ = (max_kv_len_ + page_size - 1) / page_size;
    std::vector<int32_t> pages(sequences_.size() * static_cast<size_t>(stride_));
    for (size_t i = 0; i < pages.size(); ++i) pages[i] = static_cast<int32_t>(i);
    for (size_t i = pages.size(); i > 1; --i) std::swap(pages[i - 1], pages[random.below(i)]);
    page_table_ = pages;
    cache_ = *Tensor::allocate(desc.kv_dtype, {static_cast<int64_t>(pages.size()) * page_size, kLatent});
    std::fill_n(cache_.view().as<uint8_t>(), cache_.view().num_bytes(), 0xff);  // NaN in every type
    kv_.k = kv_.v = cache_.view().data;
    kv_.dtype = desc.kv_dtype;
    kv_.num_kv_heads = 1;
    kv_.head_dim_k = kLatent;
    kv_.head_dim_v = kRank;
    kv_.page_size = page_size;
    kv_.k_token_stride = kv_.v_token_stride = kLatent;
    kv_.k_head_stride = kv_.v_head_stride = kv_.k_page_stride = kv_.v_page_stride =
        int64_t{kLatent} * page_size;
    for (size_t s = 0; s < sequences_.size(); ++s) {
      auto& rows = latents_.emplace_back();
      for (int t = 0; t < sequences_[s].kv_len; ++t) {
        std::vector<float> row(kLatent);
        for (float& x : row) x = uniform();
        const int64_t slot =
            int64_t{page_table_[s * static_cast<size_t>(stride_) + static_cast<size_t>(t / page_size)]} *
                page_size +
            t % page_size;
        kernels::cpu::write_kv(row.data(), kLatent, nullptr, 0, &slot, 1, kv_, pool_);
        // What the cache's type left of it.
        const int32_t page = static_cast<int32_t>(slot / page_size);
        std::vector<float> back(static_cast<size_t>(page_size * kLatent));
        kernels::cpu::gather_keys(kv_, &page, slot % page_size, 1, back.data(), kLatent, pool_);
        rows.emplace_back(back.begin(), back.begin() + kLatent);
      }
    }
  }

  std::vector<float> run(const MlaOptions& mla, const std::string& backend = "auto",
                         std::vector<PhaseCounters>* counters = nullptr) {
    RouterOptions options;
    options.backend = backend;
    options.mla = mla;
    const AttentionDesc classes[] = {desc_, expanded_class(desc_)};
    auto router = Router::create(options, classes);
    EXPECT_TRUE(router.ok()) << router.status().message();
    PlanLimits limits;
    limits.max_tokens = std::max(1, num_rows_);
    limits.max_seqs = static_cast<int>(sequences_.size());
    limits.max_kv_len = max_kv_len_;
    limits.num_threads = 2;
    auto planner = Planner::create(*router, classes, limits);
    EXPECT_TRUE(planner.ok()) << planner.status().message();
    std::vector<float> out(static_cast<size_t>(num_rows_ * kHeads * kValue), 99.0F);
    MlaInputs inputs;
    inputs.q = q_.data();
    inputs.q_stride = kHeads * kHeadDim;
    inputs.kv = kv_;
    inputs.projections = {&expand_, absorb_, output_};
    inputs.out = out.data();
    inputs.out_stride = kHeads * kValue;
    for (uint64_t step = 1; step <= 2; ++step) {  // buffers are used anew
      (*planner)->plan({step, phases_, q_begin_, q_len_, kv_len_, page_table_, stride_});
      const Status status = (*planner)->run_mla(0, inputs, pool_);
      EXPECT_TRUE(status.ok()) << status.message();
    }
    if (counters != nullptr) {
      for (const size_t c : {0U, 1U}) counters->push_back((*planner)->counters(c, Phase::prefill));
    }
    return out;
  }

  // out_h = UV_h sum_t p_t c_t, p = softmax of scale (q_nope · UK_h c_t + q_rope · k_rope_t).
  std::vector<double> expected() const {
    std::vector<double> out;
    for (size_t s = 0; s < sequences_.size(); ++s) {
      std::vector<std::vector<double>> up;  // [token] of every head's key without position and value
      for (const auto& latent : latents_[s]) up.push_back(project_up(latent));
      for (int i = 0; i < q_len_[s]; ++i) {
        const auto visible = static_cast<size_t>(kv_len_[s] - q_len_[s] + i + 1);
        for (int h = 0; h < kHeads; ++h) {
          const float* q = q_.data() + ((q_begin_[s] + i) * kHeads + h) * kHeadDim;
          const auto head = static_cast<size_t>(h * (kNope + kValue));
          std::vector<double> weights;
          double largest = -std::numeric_limits<double>::infinity();
          for (size_t t = 0; t < visible; ++t) {
            double score = 0;
            for (size_t d = 0; d < kNope; ++d) score += q[d] * up[t][head + d];
            for (size_t d = 0; d < kRope; ++d) score += q[kNope + d] * latents_[s][t][kRank + d];
            weights.push_back(score * desc_.scale);
            largest = std::max(largest, weights.back());
          }
          double sum = 0;
          for (double& w : weights) sum += w = std::exp(w - largest);
          for (size_t d = 0; d < kValue; ++d) {
            double value = 0;
            for (size_t t = 0; t < visible; ++t) value += weights[t] / sum * up[t][head + kNope + d];
            out.push_back(value);
          }
        }
      }
    }
    return out;
  }

 private:
  std::vector<double> project_up(const std::vector<float>& latent) const {
    std::vector<double> out(kHeads * (kNope + kValue));
    for (size_t row = 0; row < out.size(); ++row) {
      for (size_t k = 0; k < kRank; ++k) {
        out[row] += static_cast<double>(kv_b_[row * kRank + k]) * static_cast<double>(latent[k]);
      }
    }
    return out;
  }

  kernels::cpu::PackedMatrix pack(const float* data, int64_t n, int64_t k) {
    const int64_t shape[] = {n, k};
    const TensorView view = TensorView::contiguous(const_cast<float*>(data), DType::f32, shape);
    return *kernels::cpu::PackedMatrix::pack({&view, 1}, DType::f32, pool_);
  }
  void pack() {
    expand_ = pack(kv_b_.data(), kHeads * (kNope + kValue), kRank);
    for (int h = 0; h < kHeads; ++h) {
      const float* uk = kv_b_.data() + h * (kNope + kValue) * kRank;
      std::vector<float> transposed;
      for (int r = 0; r < kRank; ++r) {
        for (int d = 0; d < kNope; ++d) transposed.push_back(uk[d * kRank + r]);
      }
      absorb_.push_back(pack(transposed.data(), kRank, kNope));
      output_.push_back(pack(uk + kNope * kRank, kValue, kRank));
    }
  }

  AttentionDesc desc_;
  std::vector<Sequence> sequences_;
  ThreadPool pool_;
  std::vector<Phase> phases_;
  std::vector<int32_t> q_begin_, q_len_, kv_len_, page_table_;
  int64_t stride_ = 0;
  int num_rows_ = 0, max_kv_len_ = 1;
  std::vector<float> q_, kv_b_;
  kernels::cpu::PackedMatrix expand_;
  std::vector<kernels::cpu::PackedMatrix> absorb_, output_;
  Tensor cache_;
  kernels::PagedKv kv_;
  std::vector<std::vector<std::vector<float>>> latents_;  // [sequence][token]
};

double worst(const std::vector<float>& got, const std::vector<double>& expected) {
  EXPECT_EQ(got.size(), expected.size());
  double largest = 0;
  for (size_t i = 0; i < got.size(); ++i) {
    const double error = std::abs(static_cast<double>(got[i]) - expected[i]);
    largest = std::isnan(error) ? std::numeric_limits<double>::infinity() : std::max(largest, error);
  }
  return largest;
}

// Prefixes of none, one token and several pages; a sequence without rows; decode rows beside them.
const std::vector<Sequence> kMixed = {
    {Phase::prefill, 5, 5},   {Phase::prefill, 7, 8}, {Phase::prefill, 0, 9}, {Phase::prefill, 66, 700},
    {Phase::prefill, 1, 130}, {Phase::verify, 3, 40}, {Phase::decode, 1, 1},  {Phase::decode, 1, 90},
};

TEST(Mla, EveryFormIsTheEquation) {
  for (const int page_size : {1, 4, 64}) {
    Problem problem(latent_class(DType::f32, page_size), kMixed);
    const std::vector<double> expected = problem.expected();
    for (const char* form : {"auto", "absorbed", "expanded", "chunked"}) {
      for (const char* backend : {"auto", "reference", "unified"}) {
        // 1: a round per token would be thousands of plans; 100 cuts prefixes and joins several.
        for (const int64_t chunk : {100, 131072}) {
          const auto out = problem.run({form, chunk}, backend);
          EXPECT_LE(worst(out, expected), 5e-6)
              << form << " by " << backend << ", pages of " << page_size << ", chunks of " << chunk;
        }
      }
    }
  }
}

TEST(Mla, LatentsInEveryCacheType) {
  for (const auto& [dtype, bound] :
       {std::pair{DType::f16, 2e-3}, std::pair{DType::bf16, 2e-2}, std::pair{DType::f8_e4m3, 2e-2}}) {
    Problem problem(latent_class(dtype), kMixed);
    const std::vector<double> expected = problem.expected();  // of the rounded latents
    EXPECT_LE(worst(problem.run({"absorbed", 131072}), expected), 5e-6) << to_string(dtype);
    // Expanded keys and values are rounded once more.
    EXPECT_LE(worst(problem.run({"expanded", 131072}), expected), bound) << to_string(dtype);
    EXPECT_LE(worst(problem.run({"chunked", 100}), expected), bound) << to_string(dtype);
  }
}

TEST(Mla, CountsTheClassThatServed) {
  Problem problem(latent_class(), {{Phase::prefill, 30, 40}});
  for (const auto& [form, expanded] : {std::pair{"absorbed", false}, std::pair{"expanded", true}}) {
    std::vector<PhaseCounters> counters;
    problem.run({form, 131072}, "auto", &counters);
    EXPECT_EQ(counters[0].plans, expanded ? 0U : 2U) << form;
    EXPECT_EQ(counters[1].plans, expanded ? 2U : 0U) << form;
    EXPECT_EQ(counters[expanded ? 1 : 0].rows, 60U);
  }
}

TEST(Mla, LatentsBelongToTheirClass) {
  Problem problem(latent_class(), {{Phase::prefill, 3, 3}});
  AttentionDesc wrong = latent_class();
  wrong.expanded_head_dim_k = kRope;
  EXPECT_FALSE(validate(wrong).ok());
  wrong = latent_class();
  wrong.window = 5;
  EXPECT_FALSE(validate(wrong).ok());
  EXPECT_TRUE(validate(latent_class()).ok());
  EXPECT_TRUE(validate(expanded_class(latent_class())).ok());
  EXPECT_NE(to_string(latent_class()), to_string(expanded_class(latent_class())));
  const AttentionDesc classes[] = {latent_class(), expanded_class(latent_class())};
  EXPECT_FALSE(is_expansion(classes, 0));
  EXPECT_TRUE(is_expansion(classes, 1));
  EXPECT_FALSE(is_expansion({classes + 1, 1}, 0));
}

struct Chosen {
  MlaForm form;
  std::string reason;
};
Chosen choose(const MlaOptions& options, bool deterministic, Phase phase, const std::vector<int32_t>& q_len,
              const std::vector<int32_t>& kv_len, int64_t capacity = 1 << 20) {
  AttentionDesc desc;  // DeepSeek-V3's
  desc.kind = Kind::mla;
  desc.num_heads = 128;
  desc.num_kv_heads = 1;
  desc.head_dim_k = 576;
  desc.head_dim_v = 512;
  desc.expanded_head_dim_k = 192;
  desc.expanded_head_dim_v = 128;
  AttentionBatch batch;
  batch.phase = phase;
  batch.q_len = q_len;
  batch.kv_len = kv_len;
  const auto choice = MlaPolicy::create(options, deterministic)->choose(desc, batch, capacity);
  return {choice.form, std::string(choice.reason)};
}

TEST(MlaPolicy, FewQueriesAreAbsorbedManyAreExpanded) {
  // 768 q s > 131072 s - 131072 q: from about 171 new tokens on with a long prefix.
  EXPECT_EQ(choose({}, false, Phase::prefill, {2048}, {2048}).form, MlaForm::expanded);
  EXPECT_EQ(choose({}, false, Phase::prefill, {100}, {8192}).form, MlaForm::absorbed);
  EXPECT_EQ(choose({}, false, Phase::prefill, {180}, {8192}).form, MlaForm::expanded);
  EXPECT_EQ(choose({}, false, Phase::prefill, {160}, {8192}).form, MlaForm::absorbed);
  EXPECT_EQ(choose({}, false, Phase::prefill, {180}, {8192}, 8191).form, MlaForm::chunked);
  EXPECT_EQ(choose({}, false, Phase::prefill, {180, 0}, {8192, 50}, 8192).form, MlaForm::expanded);
  EXPECT_EQ(choose({}, false, Phase::decode, {1}, {1}).form, MlaForm::absorbed);
  EXPECT_EQ(choose({}, false, Phase::verify, {8}, {8}).form, MlaForm::absorbed);
}

TEST(MlaPolicy, FlagsAndDeterminismHaveTheLastWord) {
  EXPECT_EQ(choose({"absorbed", 1000}, false, Phase::prefill, {2048}, {2048}).form, MlaForm::absorbed);
  EXPECT_EQ(choose({"expanded", 1000}, true, Phase::prefill, {1}, {9000}).form, MlaForm::expanded);
  EXPECT_EQ(choose({"expanded", 1000}, true, Phase::prefill, {1}, {9000}, 1000).form, MlaForm::chunked);
  EXPECT_EQ(choose({"chunked", 1000}, true, Phase::prefill, {1}, {1}).form, MlaForm::chunked);
  EXPECT_EQ(choose({"chunked", 1000}, false, Phase::decode, {1}, {9000}).form, MlaForm::absorbed);
  const Chosen deterministic = choose({}, true, Phase::prefill, {2048}, {2048});
  EXPECT_EQ(deterministic.form, MlaForm::absorbed);
  EXPECT_NE(deterministic.reason.find("--deterministic"), std::string::npos);
  const auto unknown = MlaPolicy::create({"unfolded", 1000}, false);
  ASSERT_FALSE(unknown.ok());
  EXPECT_NE(unknown.status().message().find("absorbed, expanded, chunked"), std::string::npos);
  EXPECT_FALSE(MlaPolicy::create({"auto", 0}, false).ok());
}

}  // namespace
}  // namespace bifocal::attention
