#include "model/expected_weights.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <set>

#include "model/checkpoint_maker.h"
#include "model/load.h"
#include "model/sample_specs.h"

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
    const AttentionSpec& attention = spec.layers[0].attention;
    const size_t per_layer = 9 + (attention.qkv_bias ? 3U : 0U) + (attention.output_bias ? 1U : 0U) +
                             (attention.qk_norm ? 2U : 0U) + (spec.layers[0].mlp.bias ? 3U : 0U);
    EXPECT_EQ(names.size(), spec.layers.size() * per_layer + (spec.tied_output ? 2U : 3U)) << spec.family;
  }
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
