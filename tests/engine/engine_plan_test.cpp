#include "engine/engine_plan.h"

#include <gtest/gtest.h>

#include "base/progress.h"
#include "engine/engine_harness.h"

namespace bifocal::engine {
namespace {

class EnginePlanOfFiles : public testing::Test {
 protected:
  EnginePlanOfFiles() {
    Progress::set_enabled(false);
    options.max_total_tokens = 0;
    load.path = std::string(BIFOCAL_SOURCE_DIR) + "/models/tiny-qwen3";
    load.page_size = options.page_size;
    load.kv_dtype = options.kv_dtype;
    load.pool = options.pool;
  }
  EngineOptions options = small_options();
  model::LoadOptions load;
};

TEST_F(EnginePlanOfFiles, IsWhatTheLoadedModelTakes) {
  for (const char* dtype : {"bfloat16", "float32"}) {
    load.dtype = dtype;
    const auto files = model::plan_load(load);
    ASSERT_TRUE(files.ok()) << files.status().message();
    auto before = plan_engine(outline_of(*files), options);
    ASSERT_TRUE(before.ok()) << before.status().message();

    auto loaded = model::load_model(load);
    ASSERT_TRUE(loaded.ok()) << loaded.status().message();
    const auto after = plan_engine(outline_of(*loaded->model), options);
    ASSERT_TRUE(after.ok()) << after.status().message();
    EXPECT_EQ(before->memory.table(), after->memory.table());
    EXPECT_EQ(before->memory.needs.weight_bytes, loaded->model->weight_bytes());

    const std::string table = before->memory.table();
    const auto engine = Engine::create(std::move(loaded->model), nullptr, std::move(*before));
    ASSERT_TRUE(engine.ok()) << engine.status().message();
    EXPECT_EQ((*engine)->memory_plan(), table);
    EXPECT_EQ((*engine)->max_total_tokens(), 16 * 8192);  // all running requests at full length
    EXPECT_EQ((*engine)->options().max_total_tokens, 16 * 8192);
  }
}

TEST_F(EnginePlanOfFiles, RefusesBeforeAnythingIsLoaded) {
  const auto files = model::plan_load(load);
  ASSERT_TRUE(files.ok());
  options.kv_cache_bytes = int64_t{1} << 60;
  options.max_running_requests = 1 << 16;
  options.max_total_tokens = int64_t{1} << 31;
  EXPECT_EQ(plan_engine(outline_of(*files), options).status().code(), StatusCode::resource_exhausted);
  options = small_options();
  options.attention.backend = "nonsense";
  EXPECT_EQ(plan_engine(outline_of(*files), options).status().code(), StatusCode::invalid_argument);
}

TEST_F(EnginePlanOfFiles, IsOfOneModel) {
  const auto files = model::plan_load(load);
  ASSERT_TRUE(files.ok());
  auto plan = plan_engine(outline_of(*files), options);
  ASSERT_TRUE(plan.ok());
  load.page_size = 2 * options.page_size;
  auto loaded = model::load_model(load);
  ASSERT_TRUE(loaded.ok());
  const auto engine = Engine::create(std::move(loaded->model), nullptr, std::move(*plan));
  EXPECT_EQ(engine.status().code(), StatusCode::internal);
}

}  // namespace
}  // namespace bifocal::engine
