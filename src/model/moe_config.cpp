#include "model/moe_config.h"

#include <fmt/format.h>

#include <optional>

#include "kernels/cpu/moe.h"

namespace bifocal::model {
namespace {

constexpr int64_t kMaxWidth = int64_t{1} << 20;
constexpr int64_t kMaxLayers = 4096;

}  // namespace

Expected<int> MoeConfig::integer(std::string_view key, int64_t max) const {
  BIFOCAL_ASSIGN_OR_RETURN(const JsonReader reader, JsonReader::open(config_.document));
  const auto value = reader.get_int(key, 1, max);
  if (!value.ok()) return value.status().with_context(config_.path);
  if (!*value) return config_.error(fmt::format("{}: missing", key));
  return static_cast<int>(**value);
}

Expected<int> MoeConfig::num_experts() const {
  const JsonValue* own = config_.document.find("num_experts");
  const JsonValue* local = config_.document.find("num_local_experts");
  const bool has_own = own != nullptr && !own->is_null();
  const bool has_local = local != nullptr && !local->is_null();
  if (has_own && has_local && *own != *local) {
    return config_.error("num_experts and num_local_experts are both present and differ");
  }
  return integer(has_local && !has_own ? "num_local_experts" : "num_experts", kernels::cpu::kMaxExperts);
}

Expected<int> MoeConfig::experts_per_token(int num_experts) const {
  return integer("num_experts_per_tok", num_experts);
}

Expected<int> MoeConfig::width(std::string_view key) const {
  return integer(key, kMaxWidth);
}

Expected<bool> MoeConfig::flag(std::string_view key, bool fallback) const {
  BIFOCAL_ASSIGN_OR_RETURN(const JsonReader reader, JsonReader::open(config_.document));
  const auto value = reader.get_bool(key);
  if (!value.ok()) return value.status().with_context(config_.path);
  return value->value_or(fallback);
}

Expected<double> MoeConfig::number(std::string_view key, double min, double max, double fallback) const {
  BIFOCAL_ASSIGN_OR_RETURN(const JsonReader reader, JsonReader::open(config_.document));
  const auto value = reader.get_number(key, min, max);
  if (!value.ok()) return value.status().with_context(config_.path);
  return value->value_or(fallback);
}

Expected<std::vector<bool>> MoeConfig::sparse_layers() const {
  BIFOCAL_ASSIGN_OR_RETURN(const JsonReader reader, JsonReader::open(config_.document));
  const auto step = reader.get_int("decoder_sparse_step", 1, INT32_MAX);
  if (!step.ok()) return step.status().with_context(config_.path);
  const auto dense = reader.get_ints("mlp_only_layers", 0, INT32_MAX, static_cast<size_t>(kMaxLayers));
  if (!dense.ok()) return dense.status().with_context(config_.path);
  std::vector<bool> sparse;
  for (int64_t i = 0; i < config_.num_layers; ++i) sparse.push_back((i + 1) % step->value_or(1) == 0);
  if (*dense) {
    for (const int64_t i : **dense) {
      if (i < config_.num_layers) sparse[static_cast<size_t>(i)] = false;
    }
  }
  return sparse;
}

}  // namespace bifocal::model
