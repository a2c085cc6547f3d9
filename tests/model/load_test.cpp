#include "model/load.h"

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cmath>

#include "base/progress.h"
#include "model/checkpoint_maker.h"
#include "model/step_runner.h"

namespace bifocal::model {
namespace {

using weights::TemporaryDirectory;

class Load : public ::testing::Test {
 protected:
  Load() {
    Progress::set_enabled(false);
    options.path = directory.path();
    options.pool = std::make_shared<ThreadPool>(1);
  }
  void write_config(std::string_view fields = "") {
    std::string config(kSmallConfig);
    if (!fields.empty()) config.insert(1, std::string(fields) + ",");
    weights::write_text(directory.file("config.json"), config);
  }
  std::unique_ptr<Model> load() {
    auto loaded = load_model(options);
    EXPECT_TRUE(loaded.ok()) << loaded.status().message();
    return loaded.ok() ? std::move(loaded->model) : nullptr;
  }
  static std::vector<float> logits(Model& model) {
    const std::vector<int32_t> prompt = {3, 1, 4, 1, 5, 9, 2, 6};
    return StepRunner(model, {}).prefill(0, prompt, 8).back();
  }
  TemporaryDirectory directory;
  LoadOptions options;
};

TEST_F(Load, MissingDirectoryAndMissingWeights) {
  options.path = directory.file("nowhere");
  EXPECT_EQ(load_model(options).status().code(), StatusCode::not_found);
  options.path = directory.path();
  write_config();
  const auto loaded = load_model(options);
  EXPECT_EQ(loaded.status().code(), StatusCode::not_found);
  EXPECT_NE(loaded.status().message().find("model.safetensors"), std::string::npos);
}

TEST_F(Load, PlanTellsWhatTheModelWillTake) {
  write_checkpoint(directory, kSmallConfig, small_tensors());
  const auto plan = plan_load(options);
  ASSERT_TRUE(plan.ok()) << plan.status().message();
  EXPECT_EQ(plan->dtype, DType::f32);
  EXPECT_EQ(plan->spec.architecture, "Qwen3ForCausalLM");
  const auto model = load();
  ASSERT_NE(model, nullptr);
  // Packing may pad, by less than it would take to change the plan.
  EXPECT_GE(model->weight_bytes(), plan->weight_bytes);
}

TEST_F(Load, ShardsGiveTheSameModel) {
  const auto tensors = small_tensors();
  write_checkpoint(directory, kSmallConfig, tensors);
  const auto whole = logits(*load());
  ASSERT_EQ(::unlink(directory.file("model.safetensors").c_str()), 0);
  std::vector<weights::FileTensor> halves[2];
  std::string map;
  for (size_t i = 0; i < tensors.size(); ++i) {
    halves[i % 2].push_back(tensors[i]);
    map += fmt::format("{}\"{}\":\"part{}.safetensors\"", map.empty() ? "" : ",", tensors[i].name, i % 2);
  }
  for (int i = 0; i < 2; ++i) {
    weights::write_text(directory.file(fmt::format("part{}.safetensors", i)),
                        weights::safetensors_bytes(halves[i], 3));
  }
  weights::write_text(directory.file("model.safetensors.index.json"),
                      fmt::format("{{\"weight_map\":{{{}}}}}", map));
  EXPECT_EQ(logits(*load()), whole);
}

TEST_F(Load, FileMayBeTruncatedOrReplacedAfterwards) {
  write_checkpoint(directory, kSmallConfig, small_tensors());
  const auto model = load();
  ASSERT_NE(model, nullptr);
  const auto before = logits(*model);
  ASSERT_EQ(::truncate(directory.file("model.safetensors").c_str(), 100), 0);
  EXPECT_EQ(logits(*model), before);
}

TEST_F(Load, DtypeComesFromFlagConfigOrFile) {
  write_checkpoint(directory, kSmallConfig, small_tensors());
  for (const auto& [name, dtype] : {std::pair("auto", DType::f32), std::pair("bfloat16", DType::bf16),
                                    std::pair("float16", DType::f16), std::pair("half", DType::f16)}) {
    options.dtype = name;
    const auto plan = plan_load(options);
    ASSERT_TRUE(plan.ok()) << plan.status().message();
    EXPECT_EQ(plan->dtype, dtype) << name;
  }
  for (const char* name : {"fp8_e4m3", "int8", ""}) {
    options.dtype = name;
    EXPECT_FALSE(plan_load(options).ok()) << name;
  }
  // Neither flag nor config: what the embedding has.
  options.dtype = "auto";
  options.override_args = R"({"dtype":null})";
  EXPECT_EQ(plan_load(options)->dtype, DType::f32);
  options.override_args = R"({"dtype":"bfloat16"})";
  EXPECT_EQ(plan_load(options)->dtype, DType::bf16);
}

TEST_F(Load, DummyNeedsTheConfigAlone) {
  write_config();
  options.dummy = true;
  options.override_args = R"({"dtype":null})";
  const auto plan = plan_load(options);
  ASSERT_TRUE(plan.ok()) << plan.status().message();
  EXPECT_EQ(plan->dtype, DType::bf16);
  options.dtype = "float32";
  const auto one = logits(*load());
  for (const float v : one) ASSERT_TRUE(std::isfinite(v));
  EXPECT_EQ(logits(*load()), one);
  options.dummy_seed = 1;
  EXPECT_NE(logits(*load()), one);
}

TEST_F(Load, HostileSizesAreRefusedBeforeAnythingIsAllocated) {
  write_config();
  options.dummy = true;
  options.override_args = R"({"num_hidden_layers":4096,"hidden_size":1048576,"vocab_size":16777216,
      "intermediate_size":1048576})";
  const auto loaded = load_model(options);
  ASSERT_FALSE(loaded.ok());
  EXPECT_EQ(loaded.status().code(), StatusCode::resource_exhausted);
  EXPECT_NE(loaded.status().message().find("TiB"), std::string::npos) << loaded.status().message();
}

TEST_F(Load, PageSizeAndKvDtypeReachTheAttentionClasses) {
  write_config();
  options.dummy = true;
  options.page_size = 32;
  options.kv_dtype = DType::bf16;
  const auto model = load();
  ASSERT_NE(model, nullptr);
  EXPECT_EQ(model->attention_classes()[0].page_size, 32);
  EXPECT_EQ(model->attention_classes()[0].kv_dtype, DType::bf16);
  const auto close = logits(*model);
  options.kv_dtype = DType::f32;
  EXPECT_LT(max_abs_difference(logits(*load()), close), 0.05F);
}

TEST_F(Load, MakesItsOwnPool) {
  write_config();
  options.dummy = true;
  options.pool.reset();
  EXPECT_NE(load(), nullptr);
}

}  // namespace
}  // namespace bifocal::model
