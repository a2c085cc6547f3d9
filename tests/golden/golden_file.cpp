#include "golden/golden_file.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <filesystem>

#include "base/file.h"
#include "base/json.h"

namespace bifocal::model {
namespace {

std::vector<float> floats(const JsonValue* value) {
  std::vector<float> out;
  if (value == nullptr) return out;
  for (const JsonValue& item : value->as_array()) out.push_back(static_cast<float>(item.as_double()));
  return out;
}

std::vector<int32_t> ints(const JsonValue* value) {
  std::vector<int32_t> out;
  if (value == nullptr) return out;
  for (const JsonValue& item : value->as_array()) out.push_back(static_cast<int32_t>(item.as_int()));
  return out;
}

GoldenCase read_case(const JsonValue& value) {
  GoldenCase out;
  out.prompt = ints(value.find("prompt"));
  for (const JsonValue& row : value.find("top_ids")->as_array()) out.top_ids.push_back(ints(&row));
  for (const JsonValue& row : value.find("top_logits")->as_array()) out.top_logits.push_back(floats(&row));
  out.last_logits = floats(value.find("last_logits"));
  out.last_logits_bf16 = floats(value.find("last_logits_bf16"));
  out.bf16_max_abs_err = static_cast<float>(value.find("bf16_max_abs_err")->as_double());
  out.greedy = ints(value.find("greedy"));
  out.greedy_margin = floats(value.find("greedy_margin"));
  return out;
}

}  // namespace

float GoldenCase::scale() const {
  float largest = 1.0F;
  for (const float logit : last_logits) largest = std::max(largest, std::abs(logit));
  return largest;
}

std::vector<std::string> golden_directories() {
  namespace fs = std::filesystem;
  std::vector<std::string> out;
  std::error_code ignored;
  const fs::path data = fs::path(BIFOCAL_SOURCE_DIR) / "tests/golden/data";
  for (const auto& entry : fs::recursive_directory_iterator(data, ignored)) {
    if (entry.path().filename() == "golden.json") out.push_back(entry.path().parent_path().string());
  }
  std::sort(out.begin(), out.end());
  const char* extra = std::getenv("BIFOCAL_GOLDENS");
  std::string_view rest = extra == nullptr ? "" : extra;
  while (!rest.empty()) {
    const size_t colon = std::min(rest.find(':'), rest.size());
    if (colon > 0) out.emplace_back(rest.substr(0, colon));
    rest.remove_prefix(std::min(rest.size(), colon + 1));
  }
  return out;
}

Golden load_golden(const std::string& directory) {
  Golden golden;
  golden.directory = directory;
  const auto text = read_file(directory + "/golden.json", uint64_t{64} << 20);
  if (!text.ok()) {
    ADD_FAILURE() << text.status().message();
    return golden;
  }
  JsonLimits limits;
  limits.max_bytes = uint64_t{64} << 20;
  const auto document = parse_json(*text, limits);
  if (!document.ok() || document->find("cases") == nullptr) {
    ADD_FAILURE() << directory << ": " << document.status().message();
    return golden;
  }
  for (const JsonValue& value : document->find("cases")->as_array()) golden.cases.push_back(read_case(value));
  return golden;
}

}  // namespace bifocal::model
