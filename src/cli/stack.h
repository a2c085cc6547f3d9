// From settings to a running engine: tokenizer, chat template, model, engine.
#pragma once

#include <memory>
#include <string>

#include "base/thread_pool.h"
#include "cli/settings.h"
#include "engine/engine.h"
#include "model/load.h"
#include "text/chat_template.h"
#include "text/tokenizer.h"

namespace bifocal::cli {

struct Stack {
  std::string served_name;  // --served-model-name, or the directory's name
  model::LoadPlan plan;
  std::shared_ptr<const text::Tokenizer> tokenizer;         // null with --skip-tokenizer-init
  std::shared_ptr<const text::ChatTemplate> chat_template;  // null when the model has none
  std::unique_ptr<engine::Engine> engine;
};

// Applies --cpu-isa and --threads. Once per process, before any model is loaded.
Expected<std::shared_ptr<ThreadPool>> start_compute(const EngineSettings& settings);

// Config and checkpoint headers only: what `explain` and the memory plan need. Device, page size and kv_dtype
// are resolved.
struct ModelChoice {
  model::LoadOptions options;
  model::LoadPlan plan;
};
Expected<ModelChoice> choose_model(const Settings& settings, std::shared_ptr<ThreadPool> pool);

attention::RouterOptions router_options(const EngineSettings& settings, DeviceKind device);
Expected<engine::EngineOptions> engine_options_of(const Settings& settings, const ModelChoice& choice);

// Everything. Prints the memory plan before weights or pages are allocated.
Expected<Stack> load_stack(const Settings& settings);

}  // namespace bifocal::cli
