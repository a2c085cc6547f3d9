#include "model/expected_weights.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <set>

#include "model/checkpoint_maker.h"
#include "model/load.h"
#include "model/sample_specs.h"
#include "model/step_runner.h"

namespace bifocal::model {
namespace {

using weights::FileTensor;
using weights::TemporaryDirectory;

Expected<LoadPlan> plan(const std::vector<FileTensor>& tensors, std::string_view config = kSmallConfig) {
  const TemporaryDirectory directory;
  write_checkpoint(directory, config, tensors);
  LoadOptions options;
  options.path = directory.path();
  return plan_load(options);
}

void expect_error(const std::vector<FileTensor>& tensors, std::string_view part,
                  std::string_view config = kSmallConfig) {
  const auto result = plan(tensors, config);
  ASSERT_FALSE(result.ok()) << part;
  EXPECT_NE(result.status().message().find(part), std::string::npos)
      << part << ": " << result.status().message();
}

std::string replaced(std::string_view text, std::string_view from, std::string_view to) {
  std::string out(text);
  out.replace(out.find(from), from.size(), to);
  return out;
}

const FileTensor& named(const std::vector<FileTensor>& tensors, std::string_view name) {
  return *std::find_if(tensors.begin(), tensors.end(), [&](const FileTensor& t) { return t.name == name; });
}

TEST(ExpectedWeights, ListsEveryTensorOnce) {
  for (const ModelSpec& spec : sample_specs()) {
    std::set<std::string> names;
    for (const ExpectedWeight& weight : expected_weights(spec)) {
      EXPECT_TRUE(names.insert(weight.name).second) << weight.name;
    }
    if (spec.layers[0].moe || spec.layers[0].mla) continue;  // counted below
    const AttentionSpec& attention = spec.layers[0].attention;
    const size_t per_layer = 9 + (attention.qkv_bias ? 3U : 0U) + (attention.output_bias ? 1U : 0U) +
                             (attention.qk_norm ? 2U : 0U) + (spec.layers[0].mlp.bias ? 3U : 0U);
    EXPECT_EQ(names.size(), spec.layers.size() * per_layer + (spec.tied_output ? 2U : 3U)) << spec.family;
  }
}

TEST(ExpectedWeights, OfLatentAttention) {
  // Norms 2, mlp 3, output projection 1 or 2; q by way of a latent 4, directly 1; latents 2 or 3, up 1.
  EXPECT_EQ(expected_weights(latent_spec()).size(), 3 * (2 + 3 + 2 + 4 + 3 + 1) + 3U);
  EXPECT_EQ(expected_weights(direct_latent_spec()).size(), 3 * (2 + 3 + 1 + 1 + 2 + 1) + 3U);
}

// The feed-forward tensors of layer 0, with shapes.
std::set<std::string> feed_forward_tensors(const ModelSpec& spec) {
  std::set<std::string> out;
  for (const ExpectedWeight& weight : expected_weights(spec)) {
    if (!weight.name.starts_with("model.layers.0.mlp.")) continue;
    out.insert(weight.name.substr(19) + " " + shape_to_string(weight.shape));
  }
  return out;
}

TEST(ExpectedWeights, ListsExpertsInEachLayout) {
  using Names = std::set<std::string>;
  Names separate = {"gate.weight [7,40]"};
  for (int e = 0; e < 7; ++e) {
    separate.insert(fmt::format("experts.{}.gate_proj.weight [24,40]", e));
    separate.insert(fmt::format("experts.{}.up_proj.weight [24,40]", e));
    separate.insert(fmt::format("experts.{}.down_proj.weight [40,24]", e));
  }
  EXPECT_EQ(feed_forward_tensors(softmax_moe_spec()), separate);
  EXPECT_EQ(
      feed_forward_tensors(grouped_moe_spec()),
      (Names{"gate.weight [12,40]", "gate.e_score_correction_bias [12]", "experts.gate_up_proj [12,40,40]",
             "experts.down_proj [12,40,20]", "shared_experts.gate_proj.weight [33,40]",
             "shared_experts.up_proj.weight [33,40]", "shared_experts.down_proj.weight [40,33]"}));
  EXPECT_EQ(feed_forward_tensors(clamped_moe_spec()),
            (Names{"gate.weight [6,40]", "gate.bias [6]", "experts.gate_up_proj [6,40,56]",
                   "experts.down_proj [6,28,40]", "experts.gate_up_proj_bias [6,56]",
                   "experts.down_proj_bias [6,40]"}));
}

TEST(ExpectedWeights, PlansBytesByDtype) {
  ModelSpec spec = sliding_qk_norm_spec();
  const uint64_t f32 = planned_weight_bytes(spec, DType::f32);
  const uint64_t bf16 = planned_weight_bytes(spec, DType::bf16);
  const uint64_t vectors = (4U * (48 + 48 + 16 + 16) + 48) * 4;  // stay f32
  EXPECT_EQ(2 * (bf16 - vectors), f32 - vectors);
}

TEST(StrictLoad, AcceptsTheExactSet) {
  const auto result = plan(small_tensors());
  ASSERT_TRUE(result.ok()) << result.status().message();
  EXPECT_FALSE(result->spec.tied_output);
}

TEST(StrictLoad, NamesATensorThatIsDroppedRenamedReshapedOrOfAnotherType) {
  const auto tensors = small_tensors();
  for (size_t i = 0; i < tensors.size(); ++i) {
    const std::string quoted_name = fmt::format("tensor \"{}\"", tensors[i].name);
    auto dropped = tensors;
    dropped.erase(dropped.begin() + static_cast<int64_t>(i));
    expect_error(dropped, quoted_name + " is missing");

    auto renamed = tensors;
    renamed[i].name += "_";
    expect_error(renamed, quoted_name + " is missing");

    auto added = tensors;
    added.push_back(tensors[i]);
    added.back().name += "_";
    expect_error(added, fmt::format("tensor \"{}_\" is not part of", tensors[i].name));

    auto reshaped = tensors;
    if (reshaped[i].shape.size() == 2) {
      std::swap(reshaped[i].shape[0], reshaped[i].shape[1]);
    } else {
      reshaped[i].shape = {1, reshaped[i].shape[0]};
    }
    if (reshaped[i].shape != tensors[i].shape) expect_error(reshaped, quoted_name + " has shape");

    auto typed = tensors;
    typed[i].dtype = "I32";
    expect_error(typed, quoted_name + " is i32");
  }
}

// Both spellings of the same experts give the same model.
TEST(StrictLoad, ExpertsOneByOneOrFused) {
  constexpr std::string_view kConfig =
      R"({"architectures":["Qwen3MoeForCausalLM"],"vocab_size":40,"hidden_size":16,"intermediate_size":24,
      "num_hidden_layers":1,"num_attention_heads":4,"num_key_value_heads":2,"head_dim":8,"dtype":"float32",
      "max_position_embeddings":64,"num_experts":3,"num_experts_per_tok":2,"moe_intermediate_size":12})";
  const auto separate = small_tensors(kConfig);
  const std::string experts = "model.layers.0.mlp.experts";
  FileTensor gate_up{experts + ".gate_up_proj", "F32", {3, 24, 16}, ""};
  FileTensor down{experts + ".down_proj", "F32", {3, 16, 12}, ""};
  for (int e = 0; e < 3; ++e) {
    gate_up.bytes += named(separate, fmt::format("{}.{}.gate_proj.weight", experts, e)).bytes;
    gate_up.bytes += named(separate, fmt::format("{}.{}.up_proj.weight", experts, e)).bytes;
    down.bytes += named(separate, fmt::format("{}.{}.down_proj.weight", experts, e)).bytes;
  }
  std::vector<FileTensor> fused = {gate_up, down};
  for (const FileTensor& tensor : separate) {
    if (!tensor.name.starts_with(experts)) fused.push_back(tensor);
  }
  std::vector<std::vector<float>> logits;
  for (const auto& tensors : {separate, fused}) {
    const TemporaryDirectory directory;
    write_checkpoint(directory, kConfig, tensors);
    LoadOptions options;
    options.path = directory.path();
    options.pool = std::make_shared<ThreadPool>(1);
    auto loaded = load_model(options);
    ASSERT_TRUE(loaded.ok()) << loaded.status().message();
    StepRunner runner(*loaded->model, {});
    const std::vector<int32_t> prompt = {1, 2, 3, 4, 5, 6, 7};
    logits.push_back(runner.prefill(0, prompt, 7).back());
  }
  EXPECT_EQ(logits[0], logits[1]);
  // Strict in both: a fused tensor beside single ones is one too many.
  auto both = fused;
  both.push_back(named(separate, experts + ".1.up_proj.weight"));
  expect_error(both, "is not part of", kConfig);
  auto missing = fused;
  missing.erase(missing.begin() + 1);
  expect_error(missing, "mlp.experts.down_proj\" is missing", kConfig);
}

TEST(StrictLoad, ShapeErrorsTellBothShapes) {
  expect_error(small_tensors(),
               "tensor \"model.layers.0.self_attn.k_proj.weight\" has shape [16,16], expected [32,16]",
               replaced(kSmallConfig, "\"num_key_value_heads\":2", "\"num_key_value_heads\":4"));
}

TEST(StrictLoad, ConfigAndFileDisagreeOnLayers) {
  expect_error(small_tensors(), "model.layers.2.",
               replaced(kSmallConfig, "\"num_hidden_layers\":2", "\"num_hidden_layers\":3"));
}

TEST(StrictLoad, IgnoresOldBuffersAndLayersPastTheLast) {
  auto tensors = small_tensors();
  tensors.push_back(weights::f32_tensor("model.layers.0.self_attn.rotary_emb.inv_freq", {4}, {1, 2, 3, 4}));
  tensors.push_back(weights::f32_tensor("model.layers.2.eh_proj.weight", {1}, {1}));
  tensors.push_back(weights::f32_tensor("model.layers.61.anything", {1}, {1}));
  EXPECT_TRUE(plan(tensors).ok());
  for (const char* name : {"model.layers.1.anything", "model.layers.x", "model.layers.2", "model.layers.-1.a",
                           "model.layers.99999999999999999999.a", "model.extra.weight", ""}) {
    auto more = tensors;
    more.push_back(weights::f32_tensor(name, {1}, {1}));
    expect_error(more, "is not part of");
  }
}

TEST(TiedOutput, RulesOfTheOutputMatrix) {
  const std::string tied = replaced(kSmallConfig, "\"dtype\"", "\"tie_word_embeddings\":true,\"dtype\"");
  // Untied and missing.
  auto without = small_tensors();
  without.erase(std::find_if(without.begin(), without.end(),
                             [](const FileTensor& t) { return t.name == "lm_head.weight"; }));
  expect_error(without, "tensor \"lm_head.weight\" is missing, and tie_word_embeddings is not true");
  // Tied and missing.
  const auto missing = plan(without, tied);
  ASSERT_TRUE(missing.ok()) << missing.status().message();
  EXPECT_TRUE(missing->spec.tied_output);
  // Tied, with an equal copy.
  auto copy = without;
  copy.push_back(named(without, "model.embed_tokens.weight"));
  copy.back().name = "lm_head.weight";
  const auto equal = plan(copy, tied);
  ASSERT_TRUE(equal.ok()) << equal.status().message();
  EXPECT_TRUE(equal->spec.tied_output);
  EXPECT_EQ(equal->weight_bytes, missing->weight_bytes);
  // Tied, with another matrix: the file's is used.
  const auto different = plan(small_tensors(), tied);
  ASSERT_TRUE(different.ok()) << different.status().message();
  EXPECT_FALSE(different->spec.tied_output);
  EXPECT_GT(different->weight_bytes, missing->weight_bytes);
  // Tied, with a matrix of another shape.
  copy.back().shape = {16, 40};
  expect_error(copy, "tensor \"lm_head.weight\" has shape [16,40], expected [40,16]", tied);
}

}  // namespace
}  // namespace bifocal::model
