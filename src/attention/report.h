// The attention room's data as rows of text, for `bifocal backends`, `bifocal explain`, the log and the docs.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "attention/router.h"

namespace bifocal::attention {

// Header first, then one row per backend, built from Capabilities alone.
std::vector<std::vector<std::string>> capability_matrix();

struct ExplainRow {
  std::string attention_class;  // to_string(desc)
  std::string phase;
  std::string backend;
  std::string reason;
  std::string rejected;  // the ineligible ones with their reasons, separated by "; "
};

// What the router chose, one row per class and phase.
std::vector<ExplainRow> explain(const Router& router, std::span<const AttentionDesc> classes);

// "attention gqa_h32_kv8_d128_bf16_p16 decode: streaming (built-in rule: few query rows per key)"
std::string to_string(const ExplainRow& row);

}  // namespace bifocal::attention
