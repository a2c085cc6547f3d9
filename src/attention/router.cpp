#include "attention/router.h"

#include <fmt/format.h>

#include <utility>

#include "attention/aliases.h"

namespace bifocal::attention {
namespace {

constexpr std::string_view kAuto = "auto";

// What was asked for a phase, and by which flag.
struct Wish {
  std::string flag;
  std::string name;
};

std::string phase_flag(Phase phase) {
  return fmt::format("--{}-attention-backend", to_string(phase));
}

// The built-in rule: the backend each phase prefers, best first.
struct Preference {
  std::array<std::string_view, 3> names;
  std::string_view why;
};
constexpr Preference kPreferences[kNumPhases] = {
    {{"tiled", "streaming", "reference"}, "many query rows per key"},
    {{"streaming", "tiled", "reference"}, "few query rows per key"},
    {{"streaming", "tiled", "reference"}, "few query rows per key"},
};

Status check_name(const Wish& wish) {
  if (wish.name == kAuto || !resolve_backend_name(wish.name).empty()) return {};
  return invalid_argument(fmt::format("{}: attention backend \"{}\" is unknown; use auto or one of {}",
                                      wish.flag, wish.name, describe_backend_names()));
}

// The order of say, without the backends: per-phase flag, then general flag; verify follows decode.
Expected<std::array<Wish, kNumPhases>> read_wishes(const RouterOptions& options) {
  const std::string general = "--attention-backend";
  std::string prefill = options.backend;
  std::string decode = options.backend;
  if (const size_t comma = options.backend.find(','); comma != std::string::npos) {
    prefill = options.backend.substr(0, comma);
    decode = options.backend.substr(comma + 1);
    if (prefill.empty() || decode.empty() || decode.find(',') != std::string::npos) {
      return invalid_argument(fmt::format(
          "{}: \"{}\" is not a pair; expected \"prefill,decode\", for example \"tiled,streaming\"", general,
          options.backend));
    }
  }
  std::array<Wish, kNumPhases> wishes;
  const auto wish = [&](Phase phase, Wish fallback) {
    const auto& asked = options.per_phase[static_cast<size_t>(phase)];
    wishes[static_cast<size_t>(phase)] = asked ? Wish{phase_flag(phase), *asked} : std::move(fallback);
  };
  wish(Phase::prefill, {general, prefill});
  wish(Phase::decode, {general, decode});
  wish(Phase::verify, wishes[static_cast<size_t>(Phase::decode)]);
  for (const Wish& w : wishes) BIFOCAL_RETURN_IF_ERROR(check_name(w));
  return wishes;
}

std::string asked_text(const Wish& wish, std::string_view resolved) {
  if (wish.name == resolved) return fmt::format("{} {}", wish.flag, wish.name);
  return fmt::format("{} {} (served by {})", wish.flag, wish.name, resolved);
}

Expected<Decision> decide_phase(const Wish& wish, const RouterOptions& options, const AttentionDesc& desc,
                                Phase phase) {
  Decision decision;
  std::vector<const Backend*> eligible;
  std::string eligible_names;
  for (const Backend* backend : cpu_backends()) {
    const auto reason =
        ineligible_reason(backend->capabilities(), desc, phase, options.deterministic, options.device);
    if (reason) {
      decision.rejected.push_back(fmt::format("{}: {}", backend->name(), *reason));
    } else {
      eligible.push_back(backend);
      eligible_names += fmt::format("{}{}", eligible_names.empty() ? "" : ", ", backend->name());
    }
  }
  const auto find_eligible = [&](std::string_view name) -> const Backend* {
    for (const Backend* backend : eligible) {
      if (backend->name() == name) return backend;
    }
    return nullptr;
  };

  if (wish.name != kAuto) {
    const std::string_view name = resolve_backend_name(wish.name);
    decision.backend = find_eligible(name);
    decision.reason = asked_text(wish, name);
    if (decision.backend != nullptr) return decision;
    std::string why;
    for (const std::string& rejected : decision.rejected) {
      if (rejected.starts_with(fmt::format("{}:", name))) why = rejected;
    }
    return invalid_argument(fmt::format("{} can't serve {} of {}: {}; eligible: {}", decision.reason,
                                        to_string(phase), to_string(desc), why,
                                        eligible_names.empty() ? "none" : eligible_names));
  }

  const Preference& preference = kPreferences[static_cast<size_t>(phase)];
  for (const std::string_view name : preference.names) {
    decision.backend = find_eligible(name);
    if (decision.backend == nullptr) continue;
    decision.reason = name == preference.names.front()
                          ? fmt::format("built-in rule: {}", preference.why)
                          : fmt::format("built-in rule: {} is not eligible", preference.names.front());
    return decision;
  }
  return invalid_argument(fmt::format("no attention backend can serve {} of {}: {}", to_string(phase),
                                      to_string(desc), fmt::join(decision.rejected, "; ")));
}

}  // namespace

Expected<Router> Router::create(RouterOptions options, std::span<const AttentionDesc> classes) {
  BIFOCAL_ASSIGN_OR_RETURN(const auto wishes, read_wishes(options));
  Router router;
  for (const AttentionDesc& desc : classes) {
    BIFOCAL_RETURN_IF_ERROR(validate(desc));
    auto& decisions = router.decisions_.emplace_back();
    for (size_t phase = 0; phase < kNumPhases; ++phase) {
      BIFOCAL_ASSIGN_OR_RETURN(decisions[phase],
                               decide_phase(wishes[phase], options, desc, static_cast<Phase>(phase)));
    }
  }
  return router;
}

const Decision& Router::decide(size_t class_index, Phase phase) const {
  return decisions_.at(class_index)[static_cast<size_t>(phase)];
}

}  // namespace bifocal::attention
