#include "attention/report.h"

#include <fmt/format.h>

#include "attention/aliases.h"

namespace bifocal::attention {
namespace {

std::string join_aliases(const Capabilities& c) {
  std::string text;
  for (const Alias& alias : backend_aliases()) {
    if (alias.on(c.device) == c.name) text += fmt::format("{}{}", text.empty() ? "" : ", ", alias.name);
  }
  return text.empty() ? "-" : text;
}

template <class T>
std::string join(const std::vector<T>& values) {
  std::string text;
  for (const T& value : values) text += fmt::format("{}{}", text.empty() ? "" : ", ", to_string(value));
  return text;
}

// One column: its title and what it says of a backend.
struct Column {
  std::string_view title;
  std::string (*cell)(const Capabilities& c);
};

std::string yes_no(bool value) {
  return value ? "yes" : "no";
}

constexpr Column kColumns[] = {
    {"backend", [](const Capabilities& c) { return std::string(c.name); }},
    {"device", [](const Capabilities& c) { return std::string(to_string(c.device)); }},
    {"phases", [](const Capabilities& c) { return join(c.phases); }},
    {"head dims", [](const Capabilities& c) { return describe_head_dims(c); }},
    {"KV dtypes", [](const Capabilities& c) { return join(c.kv_dtypes); }},
    {"page sizes",
     [](const Capabilities& c) { return fmt::format("{}-{}", c.min_page_size, c.max_page_size); }},
    {"window", [](const Capabilities& c) { return yes_no(c.window); }},
    {"sinks", [](const Capabilities& c) { return yes_no(c.sinks); }},
    {"softcap", [](const Capabilities& c) { return yes_no(c.softcap); }},
    {"MLA", [](const Capabilities& c) { return yes_no(c.mla); }},
    {"log-sum-exp", [](const Capabilities& c) { return yes_no(c.lse_out); }},
    {"shared prefix once", [](const Capabilities& c) { return yes_no(c.shared_prefix); }},
    {"graph", [](const Capabilities& c) { return yes_no(c.graph); }},
    {"deterministic", [](const Capabilities& c) { return yes_no(c.deterministic); }},
    {"aliases", [](const Capabilities& c) { return join_aliases(c); }},
    {"summary", [](const Capabilities& c) { return std::string(c.summary); }},
};

}  // namespace

std::vector<std::vector<std::string>> capability_matrix() {
  std::vector<std::vector<std::string>> rows(1);
  for (const Column& column : kColumns) rows.front().emplace_back(column.title);
  for (const Backend* backend : all_backends()) {
    auto& row = rows.emplace_back();
    for (const Column& column : kColumns) row.push_back(column.cell(backend->capabilities()));
  }
  return rows;
}

std::vector<ExplainRow> explain(const Router& router, std::span<const AttentionDesc> classes) {
  std::vector<ExplainRow> rows;
  for (size_t c = 0; c < classes.size(); ++c) {
    for (int p = 0; p < kNumPhases; ++p) {
      const auto phase = static_cast<Phase>(p);
      if (phase != Phase::prefill && is_expansion(classes, c)) continue;
      const Decision& decision = router.decide(c, phase);
      rows.push_back({to_string(classes[c]), std::string(to_string(phase)),
                      std::string(decision.backend->name()), decision.reason,
                      fmt::format("{}", fmt::join(decision.rejected, "; "))});
    }
  }
  return rows;
}

std::string to_string(const ExplainRow& row) {
  return fmt::format("attention {} {}: {} ({})", row.attention_class, row.phase, row.backend, row.reason);
}

}  // namespace bifocal::attention
