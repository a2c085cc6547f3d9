// (phase, class, batch) to backend. Order of say: per-phase flag, general flag, measured profile, built-in
// rule. Only eligible backends are offered, and every decision carries its reason.
#pragma once

#include <array>
#include <optional>
#include <string>
#include <vector>

#include "attention/backend.h"

namespace bifocal::attention {

struct RouterOptions {
  std::string backend = "auto";  // --attention-backend: a name, "auto" or "prefill,decode"
  std::array<std::optional<std::string>, kNumPhases> per_phase;  // --prefill-attention-backend, ...
  bool deterministic = false;
  DeviceKind device = DeviceKind::cpu;
};

struct Decision {
  const Backend* backend = nullptr;
  std::string reason;  // "--decode-attention-backend", "built-in rule: one query row per sequence"
  std::vector<std::string> rejected;  // "fa3: ..." for the ones that were not eligible
};

class Router {
 public:
  // Validates the options against every class: an unknown or ineligible name is an error that lists the
  // eligible ones and why the asked one isn't.
  static Expected<Router> create(RouterOptions options, std::span<const AttentionDesc> classes);

  const Decision& decide(size_t class_index, Phase phase) const;
  size_t num_classes() const { return decisions_.size(); }

 private:
  std::vector<std::array<Decision, kNumPhases>> decisions_;  // [class][phase]
};

}  // namespace bifocal::attention
