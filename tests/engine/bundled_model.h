// Engines over the bundled models.
#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <string>

#include "base/log.h"
#include "base/progress.h"
#include "engine/engine.h"
#include "model/load.h"
#include "text/tokenizer.h"

namespace bifocal::engine {

inline std::string bundled_model_directory(const std::string& name = "tiny-qwen3") {
  return std::string(BIFOCAL_SOURCE_DIR) + "/models/" + name;
}

// For engines with these options: weights in bf16 as they come; keys and values in options.kv_dtype. Null,
// with a failure, when it can't be.
inline std::unique_ptr<model::Model> bundled_model(const EngineOptions& options,
                                                   const std::string& name = "tiny-qwen3") {
  Progress::set_enabled(false);
  set_log_level(LogLevel::warn);
  model::LoadOptions load;
  load.path = bundled_model_directory(name);
  load.page_size = options.page_size;
  load.kv_dtype = options.kv_dtype;
  load.pool = options.pool;
  auto loaded = model::load_model(load);
  EXPECT_TRUE(loaded.ok()) << loaded.status().message();
  return loaded.ok() ? std::move(loaded->model) : nullptr;
}

// Null, with a failure, when it can't be.
inline std::unique_ptr<Engine> bundled_engine(EngineOptions options, const std::string& name = "tiny-qwen3") {
  auto model = bundled_model(options, name);
  auto tokenizer = text::Tokenizer::load(bundled_model_directory(name) + "/tokenizer.json");
  EXPECT_TRUE(tokenizer.ok()) << tokenizer.status().message();
  if (model == nullptr || !tokenizer.ok()) return nullptr;
  auto engine = Engine::create(std::move(model), std::move(*tokenizer), options);
  EXPECT_TRUE(engine.ok()) << engine.status().message();
  return engine.ok() ? std::move(*engine) : nullptr;
}

}  // namespace bifocal::engine
