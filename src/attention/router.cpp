#include "attention/router.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "attention/aliases.h"

namespace bifocal::attention {
namespace {

constexpr std::string_view kAuto = "auto";

// What was asked for a phase, and by which flag.
struct Wish {
  Say say = Say::general_flag;
  std::string flag;
  std::string name;
};
using Wishes = std::array<Wish, kNumPhases>;

std::string phase_flag(Phase phase) {
  return fmt::format("--{}-attention-backend", to_string(phase));
}

// The built-in rule: the backend each phase prefers, best first.
struct Preference {
  std::array<std::string_view, 4> names;
  std::string_view why;
};
constexpr std::string_view kMany = "many query rows per key";
constexpr std::string_view kFew = "few query rows per key";
constexpr Preference kCpuPreferences[kNumPhases] = {
    {{"tiled", "unified", "streaming", "reference"}, kMany},
    {{"streaming", "unified", "tiled", "reference"}, kFew},
    {{"streaming", "unified", "tiled", "reference"}, kFew},
};
constexpr Preference kCudaPreferences[kNumPhases] = {
    {{"prefill_ws"}, kMany},
    {{"decode_mma", "prefill_ws"}, kFew},
    {{"decode_mma", "prefill_ws"}, kFew},
};
const Preference& preference(DeviceKind device, Phase phase) {
  return (device == DeviceKind::cuda ? kCudaPreferences : kCpuPreferences)[static_cast<size_t>(phase)];
}

// The order of say among flags: per-phase flag, then general flag; verify follows decode.
Expected<Wishes> read_wishes(const RouterOptions& options) {
  const std::string general = "--attention-backend";
  std::string prefill = options.backend;
  std::string decode = options.backend;
  if (const size_t comma = options.backend.find(','); comma != std::string::npos) {
    prefill = options.backend.substr(0, comma);
    decode = options.backend.substr(comma + 1);
    if (prefill.empty() || decode.empty() || decode.find(',') != std::string::npos) {
      return invalid_argument(
          fmt::format("{}: \"{}\" is not a pair; expected \"prefill,decode\", "
                      "for example \"tiled,streaming\"",
                      general, options.backend));
    }
  }
  Wishes wishes;
  const auto wish = [&](Phase phase, Wish fallback) {
    const auto& asked = options.per_phase[static_cast<size_t>(phase)];
    wishes[static_cast<size_t>(phase)] =
        asked ? Wish{Say::phase_flag, phase_flag(phase), *asked} : std::move(fallback);
  };
  wish(Phase::prefill, {Say::general_flag, general, prefill});
  wish(Phase::decode, {Say::general_flag, general, decode});
  wish(Phase::verify, wishes[static_cast<size_t>(Phase::decode)]);
  return wishes;
}

std::string asked_text(const Wish& wish, std::string_view resolved) {
  if (wish.name == resolved) return fmt::format("{} {}", wish.flag, wish.name);
  return fmt::format("{} {} (served by {})", wish.flag, wish.name, resolved);
}

const Backend* find_by_name(std::span<const Backend* const> backends, std::string_view name) {
  for (const Backend* backend : backends) {
    if (backend->name() == name) return backend;
  }
  return nullptr;
}

// One class in one phase.
class Choice {
 public:
  Choice(const RouterOptions& options, const Wishes& wishes, std::span<const Backend* const> backends,
         const AttentionDesc& desc, Phase phase)
      : options_(options), wishes_(wishes), backends_(backends), desc_(desc), phase_(phase) {
    for (const Backend* backend : backends) {
      if (backend->capabilities().device != options.device) continue;
      const auto reason =
          ineligible_reason(backend->capabilities(), desc, phase, options.deterministic, options.device);
      if (reason) {
        decision_.rejected.push_back(fmt::format("{}: {}", backend->name(), *reason));
      } else {
        eligible_.push_back(backend);
      }
    }
  }

  Expected<Decision> decide() {
    const Wish& wish = wishes_[static_cast<size_t>(phase_)];
    if (wish.name != kAuto) return take_wish(wish);
    if (take_profile() || take_rule()) return std::move(decision_);
    return invalid_argument(fmt::format("no attention backend can serve {} of {}: {}", to_string(phase_),
                                        to_string(desc_), fmt::join(decision_.rejected, "; ")));
  }

 private:
  // Our name for what a flag or profile says; empty when nobody has it.
  std::string_view resolve(std::string_view name) const {
    if (const Backend* backend = find_by_name(backends_, name)) return backend->name();
    return resolve_backend_name(name, options_.device);
  }

  bool take(const Backend* backend, Say say, std::string reason) {
    if (backend == nullptr) return false;
    decision_.backend = backend;
    decision_.say = say;
    decision_.reason = std::move(reason);
    return true;
  }

  Expected<Decision> take_wish(const Wish& wish) {
    const std::string_view name = resolve(wish.name);
    const std::string asked = asked_text(wish, name);
    if (take(find_by_name(eligible_, name), wish.say, asked)) return std::move(decision_);
    const std::string eligible = eligible_.empty() ? "none" : describe_backend_names(eligible_);
    const Backend* backend = find_by_name(backends_, name);
    if (backend == nullptr) {
      return invalid_argument(
          fmt::format("{}: attention backend \"{}\" is unknown; eligible for {} of {}: "
                      "auto, {}",
                      wish.flag, wish.name, to_string(phase_), to_string(desc_), eligible));
    }
    const auto why =
        ineligible_reason(backend->capabilities(), desc_, phase_, options_.deterministic, options_.device);
    return invalid_argument(fmt::format("{} can't serve {} of {}: {}{}; eligible: {}", asked,
                                        to_string(phase_), to_string(desc_), *why, pair_text(*backend),
                                        eligible));
  }

  // How the other one of the pair stands, where the pool that both share is what `backend` objects to.
  std::string pair_text(const Backend& backend) const {
    const Phase other_phase = phase_ == Phase::prefill ? Phase::decode : Phase::prefill;
    const Wish& other_wish = wishes_[static_cast<size_t>(other_phase)];
    const Backend* other = find_by_name(backends_, resolve(other_wish.name));
    if (!pool_objection(backend.capabilities(), desc_) || other == nullptr || other == &backend) return {};
    const auto objection = pool_objection(other->capabilities(), desc_);
    return fmt::format("; prefill and decode share one KV pool, and {}, asked for {}, {}", other->name(),
                       to_string(other_phase),
                       objection ? fmt::format("objects too: {}", *objection) : "does not object");
  }

  bool take_profile() {
    const std::string key = to_string(desc_);
    for (const MeasuredChoice& line : options_.profile) {
      if (line.attention_class != key || line.phase != phase_) continue;
      if (take(find_by_name(eligible_, resolve(line.backend)), Say::profile,
               fmt::format("profile: {}", line.evidence))) {
        return true;
      }
    }
    return false;
  }

  bool take_rule() {
    const Preference& preferred = preference(options_.device, phase_);
    for (const std::string_view name : preferred.names) {
      const bool first = name == preferred.names.front();
      if (take(find_by_name(eligible_, name), Say::built_in_rule,
               first ? fmt::format("built-in rule: {}", preferred.why)
                     : fmt::format("built-in rule: {} is not eligible", preferred.names.front()))) {
        return true;
      }
    }
    // Whatever else there is to choose from.
    return !eligible_.empty() && take(eligible_.front(), Say::built_in_rule, "built-in rule: eligible");
  }

  const RouterOptions& options_;
  const Wishes& wishes_;
  std::span<const Backend* const> backends_;
  const AttentionDesc& desc_;
  Phase phase_;
  std::vector<const Backend*> eligible_;
  Decision decision_;
};

}  // namespace

Expected<Router> Router::create(RouterOptions options, std::span<const AttentionDesc> classes) {
  BIFOCAL_ASSIGN_OR_RETURN(const Wishes wishes, read_wishes(options));
  const auto backends = options.backends.empty() ? all_backends() : options.backends;
  Router router;
  router.device_ = options.device;
  BIFOCAL_ASSIGN_OR_RETURN(router.mla_policy_, MlaPolicy::create(options.mla, options.deterministic));
  for (const AttentionDesc& desc : classes) {
    BIFOCAL_RETURN_IF_ERROR(validate(desc));
    auto& decisions = router.decisions_.emplace_back();
    for (size_t phase = 0; phase < kNumPhases; ++phase) {
      BIFOCAL_ASSIGN_OR_RETURN(decisions[phase],
                               Choice(options, wishes, backends, desc, static_cast<Phase>(phase)).decide());
    }
  }
  return router;
}

const Decision& Router::decide(size_t class_index, Phase phase) const {
  return decisions_.at(class_index)[static_cast<size_t>(phase)];
}

}  // namespace bifocal::attention
