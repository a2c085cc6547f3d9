// (phase, class, batch) to backend. Order of say: per-phase flag, general flag, measured profile, built-in
// rule. Only eligible backends are offered, and every decision carries its reason.
#pragma once

#include <array>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "attention/backend.h"
#include "attention/mla_policy.h"

namespace bifocal::attention {

// Whose word a decision is, in the order of say.
enum class Say : uint8_t { phase_flag, general_flag, profile, built_in_rule };

// One line of a measured profile: what was fastest for a class and phase.
struct MeasuredChoice {
  std::string attention_class;  // to_string(desc)
  Phase phase = Phase::prefill;
  std::string backend;   // a name or alias
  std::string evidence;  // "780 us, tiled 1139 us": becomes part of the reason
};

struct RouterOptions {
  std::string backend = "auto";  // --attention-backend: a name, "auto" or "prefill,decode"
  std::array<std::optional<std::string>, kNumPhases> per_phase;  // --prefill-attention-backend, ...
  std::vector<MeasuredChoice> profile;                           // where no flag decides; lines that are
                                                                 // not eligible are passed over
  std::span<const Backend* const> backends;                      // to choose from; empty: all_backends()
  MlaOptions mla;
  bool deterministic = false;
  DeviceKind device = DeviceKind::cpu;
};

struct Decision {
  const Backend* backend = nullptr;
  Say say = Say::built_in_rule;
  std::string reason;                 // "--decode-attention-backend", "built-in rule: one query
                                      // row per sequence"
  std::vector<std::string> rejected;  // "fa3: ..." for the ones that were not eligible
};

class Router {
 public:
  // Validates the options against every class: an unknown or ineligible name is an error that lists the
  // eligible ones and why the asked one isn't. Prefill and decode share one pool of keys and values: where
  // its page size or dtype is what a backend objects to, the error says how the other one of the pair stands.
  static Expected<Router> create(RouterOptions options, std::span<const AttentionDesc> classes);

  const Decision& decide(size_t class_index, Phase phase) const;
  size_t num_classes() const { return decisions_.size(); }
  const MlaPolicy& mla_policy() const { return mla_policy_; }
  DeviceKind device() const { return device_; }

 private:
  std::vector<std::array<Decision, kNumPhases>> decisions_;  // [class][phase]
  MlaPolicy mla_policy_;
  DeviceKind device_ = DeviceKind::cpu;
};

}  // namespace bifocal::attention
