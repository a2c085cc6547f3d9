// From a directory to a model that can run: config, families, weights.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "base/thread_pool.h"
#include "model/cuda_model.h"
#include "model/model.h"
#include "weights/model_config.h"

namespace bifocal::model {

struct LoadOptions {
  std::string path;            // a Hugging Face directory: config.json and safetensors
  std::string dtype = "auto";  // of the weight matrices: auto (the checkpoint's), float32, float16, bfloat16
  bool dummy = false;          // random weights from config.json alone (--load-format dummy)
  uint64_t dummy_seed = 0;
  std::string override_args;  // JSON object merged over config.json (--json-model-override-args)
  DType kv_dtype = DType::f32;
  int page_size = 64;  // tokens
  DeviceKind device = DeviceKind::cpu;
  CudaGraphOptions cuda_graphs;
  kernels::cuda::LinearTable linear_table;  // measured choices of matrix products on a GPU (--linear-table)
  std::shared_ptr<ThreadPool> pool;         // the model computes on it; null: one of its own, of all cores
};

// What would be loaded, known before any weight is read or allocated.
struct LoadPlan {
  weights::ModelConfig config;
  ModelSpec spec;
  DType dtype = DType::f32;  // of the weight matrices in memory
  DeviceKind device = DeviceKind::cpu;
  uint64_t weight_bytes = 0;
  // What steps of up to max_tokens rows and max_logit_rows logits will need beside weights and pages.
  uint64_t workspace_bytes(int max_tokens, int max_logit_rows) const;
};

struct LoadedModel {
  std::unique_ptr<Model> model;
  LoadPlan plan;
};

// Reads config.json and generation_config.json, and the checkpoint's headers unless dummy. Errors name file
// and field.
Expected<LoadPlan> plan_load(const LoadOptions& options);

// plan_load, then weights with a progress bar. Errors: not_found, invalid_argument, unsupported, data_loss
// (the files, or what the device does not serve); resource_exhausted (its memory is smaller than the
// weights); unavailable (there is no such device).
Expected<LoadedModel> load_model(const LoadOptions& options);

}  // namespace bifocal::model
