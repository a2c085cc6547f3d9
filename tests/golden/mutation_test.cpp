// Whether the goldens are strong enough: every deliberate error must move some golden's logits past the
// tolerance. What no golden exercises is skipped here; model/decoder_test.cpp checks the decoder against all
// of them.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <optional>

#include "golden/golden_file.h"
#include "model/expected_weights.h"
#include "model/families.h"
#include "model/reference_decoder.h"
#include "model/rope.h"
#include "model/step_runner.h"
#include "weights/checkpoint.h"

namespace bifocal::model {
namespace {

using weights::ModelConfig;
using weights::RopeType;

constexpr float kTolerance = 2e-5F;

struct Subject {
  Golden golden;
  ModelConfig config;
  ModelSpec spec;
};

// Read once for all tests; sharded and respelled copies repeat another golden and are left out.
const std::vector<Subject>& subjects() {
  static const std::vector<Subject> all = [] {
    std::vector<Subject> out;
    for (const std::string& directory : golden_directories()) {
      if (directory.ends_with("-sharded") || directory.ends_with("-old-keys")) continue;
      auto config = weights::load_model_config(directory, {});
      EXPECT_TRUE(config.ok()) << config.status().message();
      if (!config.ok()) continue;
      auto spec = make_spec(*config);
      EXPECT_TRUE(spec.ok()) << spec.status().message();
      if (spec.ok()) out.push_back({load_golden(directory), std::move(*config), std::move(*spec)});
    }
    return out;
  }();
  return all;
}

// A checkpoint whose quantised tensors are misread: `spoil` gets their values as they lie in memory.
class Misread final : public weights::WeightSource {
 public:
  using Spoil = std::function<void(std::vector<float>& values)>;
  Misread(weights::Checkpoint& checkpoint, Spoil spoil) : checkpoint_(checkpoint), spoil_(std::move(spoil)) {}

  bool has(std::string_view name) const override { return checkpoint_.has(name); }
  Expected<TensorView> read(const std::string& name, std::span<const int64_t> shape,
                            Tensor& staging) override {
    auto view = checkpoint_.read(name, shape, staging);
    if (!view.ok() || !spoil_ || !checkpoint_.entries().at(name).quantised) return view;
    values_.clear();
    for (int64_t i = 0; i < view->num_elements(); ++i) {
      values_.push_back(view->dtype == DType::bf16 ? to_float(view->as<BFloat16>()[i])
                                                   : view->as<float>()[i]);
    }
    spoil_(values_);
    view->data = values_.data();
    view->dtype = DType::f32;
    return view;
  }

 private:
  weights::Checkpoint& checkpoint_;
  Spoil spoil_;
  std::vector<float> values_;
};

// The largest error over the golden's cases, in tolerances; stops at the first that fails.
float error_in_tolerances(const Subject& subject, const ModelSpec& spec, Mistake mistake,
                          const Misread::Spoil& spoil = {}) {
  auto checkpoint = weights::Checkpoint::open(subject.golden.directory, subject.config.quantisation);
  EXPECT_TRUE(checkpoint.ok()) << checkpoint.status().message();
  ModelSpec resolved = spec;
  resolve_expert_layout(resolved, *checkpoint);
  Misread source(*checkpoint, spoil);
  const ReferenceDecoder decoder(resolved, source);
  float worst = 0;
  for (const GoldenCase& golden : subject.golden.cases) {
    const auto logits = decoder.forward(golden.prompt, mistake).back();
    worst = std::max(worst, max_abs_difference(logits, golden.last_logits) / (kTolerance * golden.scale()));
    if (worst > 1) break;
  }
  return worst;
}

void expect_some_golden_fails(const std::string& what,
                              const std::function<std::optional<ModelSpec>(const Subject&)>& spec_of,
                              Mistake mistake, const Misread::Spoil& spoil = {}) {
  bool exercised = false;
  float worst = 0;
  for (const Subject& subject : subjects()) {
    const auto spec = spec_of(subject);
    if (!spec) continue;
    exercised = true;
    worst = std::max(worst, error_in_tolerances(subject, *spec, mistake, spoil));
    if (worst > 1) return;
  }
  if (!exercised) GTEST_SKIP() << "no golden exercises " << what;
  ADD_FAILURE() << what << " survives every golden; its largest error is " << worst << " tolerances";
}

TEST(Mutation, TheUnchangedReferencePasses) {
  for (const Subject& subject : subjects()) {
    EXPECT_LE(error_in_tolerances(subject, subject.spec, Mistake::none), 1.0F) << subject.golden.directory;
  }
}

// Errors in how a layer computes.
class MistakeTest : public ::testing::TestWithParam<int> {};

TEST_P(MistakeTest, FailsAGolden) {
  const auto mistake = static_cast<Mistake>(GetParam());
  expect_some_golden_fails(
      to_string(mistake),
      [&](const Subject& subject) {
        return applies(mistake, subject.spec) ? std::optional(subject.spec) : std::nullopt;
      },
      mistake);
}

std::string mistake_name(const ::testing::TestParamInfo<int>& tested) {
  return to_string(static_cast<Mistake>(tested.param));
}

INSTANTIATE_TEST_SUITE_P(Layers, MistakeTest, ::testing::Range(1, kNumMistakes), mistake_name);

// Errors in how config.json is read: the model is built from a changed config or spec.
struct Misreading {
  const char* name;
  std::function<bool(const Subject&)> applies;
  std::function<void(ModelConfig&)> change;
};

bool is_yarn(const Subject& subject) {
  return subject.config.rope.type == RopeType::yarn;
}
bool is_llama3(const Subject& subject) {
  return subject.config.rope.type == RopeType::llama3;
}
bool is_scaled(const Subject& subject) {
  return subject.config.rope.type != RopeType::plain;
}

const Misreading kMisreadings[] = {
    {"theta_default", [](const Subject& s) { return s.config.rope.theta != 10000.0; },
     [](ModelConfig& c) { c.rope.theta = 10000.0; }},
    {"theta_of_qwen3", [](const Subject& s) { return s.config.rope.theta != 1e6; },
     [](ModelConfig& c) { c.rope.theta = 1e6; }},
    {"rope_scaling_ignored", is_scaled, [](ModelConfig& c) { c.rope.type = RopeType::plain; }},
    {"factor_ignored", is_scaled, [](ModelConfig& c) { c.rope.factor = 1.0; }},
    {"factor_from_positions", is_yarn,
     [](ModelConfig& c) {
       c.rope.factor =
           1.0 * c.max_positions.value_or(1) / static_cast<double>(c.rope.original_max_positions.value_or(1));
     }},
    {"linear_for_yarn", is_yarn, [](ModelConfig& c) { c.rope.type = RopeType::linear; }},
    {"original_positions_ignored", is_yarn, [](ModelConfig& c) { c.rope.original_max_positions.reset(); }},
    {"truncate_flipped", is_yarn, [](ModelConfig& c) { c.rope.truncate = !c.rope.truncate; }},
    {"betas_swapped", is_yarn, [](ModelConfig& c) { std::swap(c.rope.beta_fast, c.rope.beta_slow); }},
    {"linear_for_llama3", is_llama3, [](ModelConfig& c) { c.rope.type = RopeType::linear; }},
    {"low_freq_factor_ignored", is_llama3,
     [](ModelConfig& c) { c.rope.low_freq_factor = c.rope.high_freq_factor / 2; }},
    {"high_freq_factor_ignored", is_llama3, [](ModelConfig& c) { c.rope.high_freq_factor *= 2; }},
    {"original_positions_halved", is_llama3,
     [](ModelConfig& c) { c.rope.original_max_positions = *c.rope.original_max_positions / 2; }},
    {"eps_swapped", [](const Subject&) { return true; },
     [](ModelConfig& c) { c.rms_norm_eps = c.rms_norm_eps < 3e-6 ? 1e-5 : 1e-6; }},
    {"swiglu_limit_ignored",
     [](const Subject& s) { return s.config.document.find("swiglu_limit") != nullptr; },
     [](ModelConfig& c) { weights::merge_json(c.document, *parse_json(R"({"swiglu_limit":7.0})", {})); }},
    {"attention_factor_given_as_one", is_yarn, [](ModelConfig& c) { c.rope.attention_factor = 1.0; }},
    {"norm_topk_prob_from_the_class", [](const Subject& s) { return s.spec.family == "qwen3_moe"; },
     [](ModelConfig& c) { weights::merge_json(c.document, *parse_json(R"({"norm_topk_prob":null})", {})); }},
    {"sliding_window_ignored", [](const Subject& s) { return s.config.use_sliding_window; },
     [](ModelConfig& c) {
       c.use_sliding_window = false;
       c.layer_types.clear();
     }},
};

class MisreadingTest : public ::testing::TestWithParam<Misreading> {};

TEST_P(MisreadingTest, FailsAGolden) {
  const Misreading& misreading = GetParam();
  expect_some_golden_fails(
      misreading.name,
      [&](const Subject& subject) -> std::optional<ModelSpec> {
        if (!misreading.applies(subject)) return std::nullopt;
        ModelConfig config = subject.config;
        misreading.change(config);
        auto spec = make_spec(config);
        EXPECT_TRUE(spec.ok()) << spec.status().message();
        return spec.ok() ? std::optional(std::move(*spec)) : std::nullopt;
      },
      Mistake::none);
}

INSTANTIATE_TEST_SUITE_P(Config, MisreadingTest, ::testing::ValuesIn(kMisreadings),
                         [](const auto& tested) { return std::string(tested.param.name); });

// Errors in which tensor goes where.
struct Swap {
  const char* name;
  std::function<void(WeightNames&)> change;
  std::function<bool(const Subject&)> applies;
};

bool always(const Subject&) {
  return true;
}
bool has_qk_norm(const Subject& subject) {
  return subject.spec.layers.front().attention.qk_norm;
}

const Swap kSwaps[] = {
    {"k_and_v", [](WeightNames& n) { std::swap(n.k_proj, n.v_proj); }, always},
    {"gate_and_up", [](WeightNames& n) { std::swap(n.gate_proj, n.up_proj); }, always},
    {"attention_norm_and_mlp_norm", [](WeightNames& n) { std::swap(n.attention_norm, n.mlp_norm); }, always},
    {"q_norm_and_k_norm", [](WeightNames& n) { std::swap(n.q_norm, n.k_norm); }, has_qk_norm},
};

class SwapTest : public ::testing::TestWithParam<Swap> {};

TEST_P(SwapTest, FailsAGolden) {
  expect_some_golden_fails(
      GetParam().name,
      [&](const Subject& subject) -> std::optional<ModelSpec> {
        if (!GetParam().applies(subject)) return std::nullopt;
        ModelSpec spec = subject.spec;
        GetParam().change(spec.names);
        return spec;
      },
      Mistake::none);
}

INSTANTIATE_TEST_SUITE_P(Tensors, SwapTest, ::testing::ValuesIn(kSwaps),
                         [](const auto& tested) { return std::string(tested.param.name); });

// Errors in what quantised weights stand for.
struct Dequantisation {
  const char* name;
  weights::QuantMethod method;
  Misread::Spoil spoil;
};

void halve(std::vector<float>& values) {
  for (float& v : values) v /= 2;
}
void swap_neighbours(std::vector<float>& values) {
  for (size_t i = 0; i + 1 < values.size(); i += 2) std::swap(values[i], values[i + 1]);
}

const Dequantisation kDequantisations[] = {
    {"mxfp4_high_nibble_first", weights::QuantMethod::mxfp4, swap_neighbours},
    {"mxfp4_scale_bias_128", weights::QuantMethod::mxfp4, halve},
    {"fp8_exponent_bias_8", weights::QuantMethod::fp8, halve},
};

class DequantisationTest : public ::testing::TestWithParam<Dequantisation> {};

TEST_P(DequantisationTest, FailsAGolden) {
  expect_some_golden_fails(
      GetParam().name,
      [&](const Subject& subject) {
        return subject.config.quantisation.method == GetParam().method ? std::optional(subject.spec)
                                                                       : std::nullopt;
      },
      Mistake::none, GetParam().spoil);
}

INSTANTIATE_TEST_SUITE_P(Quantised, DequantisationTest, ::testing::ValuesIn(kDequantisations),
                         [](const auto& tested) { return std::string(tested.param.name); });

TEST(Mutation, QkNormRemoved) {
  expect_some_golden_fails(
      "qk norm",
      [](const Subject& subject) -> std::optional<ModelSpec> {
        if (!has_qk_norm(subject)) return std::nullopt;
        ModelSpec spec = subject.spec;
        for (LayerSpec& layer : spec.layers) layer.attention.qk_norm = false;
        return spec;
      },
      Mistake::none);
}

}  // namespace
}  // namespace bifocal::model
