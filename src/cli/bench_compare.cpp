// bifocal bench compare: configurations of the engine side by side.
#include "bench/compare.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/file.h"
#include "base/progress.h"
#include "cli/bench_support.h"
#include "cli/command.h"
#include "cli/stack.h"
#include "kernels/cpu/isa.h"

namespace bifocal::cli {
namespace {

constexpr std::string_view kDefault = "default";

// "prefill" stands for "--prefill-attention-backend", any other key for the engine flag of its name.
std::string flag_of(std::string_view key) {
  if (key == "prefill" || key == "decode") return fmt::format("--{}-attention-backend", key);
  if (key == "backend") return "--attention-backend";
  return fmt::format("--{}", key);
}

// "prefill=tiled,decode=streaming" over the settings given besides.
Expected<Settings> with_config(const Settings& settings, const std::string& config) {
  Settings out = settings;
  if (config == kDefault) return out;
  std::vector<std::string> words;
  for (size_t at = 0; at <= config.size();) {
    const size_t end = std::min(config.find(',', at), config.size());
    const std::string part = config.substr(at, end - at);
    const size_t equals = part.find('=');
    if (equals == 0 || equals == std::string::npos) {
      return invalid_argument(fmt::format(
          "--config {}: expected KEY=VALUE,..., for example prefill=tiled,decode=streaming", config));
    }
    words.push_back(flag_of(part.substr(0, equals)) + part.substr(equals));
    at = end + 1;
  }
  const Command command{"bench compare", "", engine_options(out.engine)};
  const auto parsed = parse_options(command, words);
  if (!parsed.ok()) return parsed.status().with_context("--config " + config);
  return out;
}

}  // namespace

Status run_bench_compare(const Settings& settings) {
  const CompareSettings& s = settings.compare;
  if (s.configs.empty()) return invalid_argument("give --config at least once; `--config default` is one");
  bench::CompareOptions options;
  options.num_prompts = static_cast<int>(s.num_prompts);
  options.repeats = static_cast<int>(s.repeats);
  for (const std::string& text : s.workloads) {
    BIFOCAL_ASSIGN_OR_RETURN(const auto workload, bench::parse_compare_workload(text));
    options.workloads.push_back(workload);
  }
  BIFOCAL_ASSIGN_OR_RETURN(const auto pool, start_compute(settings.engine));
  BIFOCAL_ASSIGN_OR_RETURN(const ModelChoice choice, choose_model(settings, pool));
  for (const std::string& config : s.configs) {
    BIFOCAL_ASSIGN_OR_RETURN(const Settings changed, with_config(settings, config));
    BIFOCAL_ASSIGN_OR_RETURN(const ModelChoice changed_choice, choose_model(changed, pool));
    auto engine = engine_options_of(changed, changed_choice);
    if (!engine.ok()) return engine.status().with_context("--config " + config);
    options.configs.push_back({config, std::move(*engine)});
  }
  BIFOCAL_ASSIGN_OR_RETURN(const model::LoadedModel loaded, model::load_model(choice.options));
  Progress progress("compare",
                    options.configs.size() * options.workloads.size() * static_cast<size_t>(options.repeats),
                    "runs");
  options.on_run = [&progress] { progress.advance(1); };
  BIFOCAL_ASSIGN_OR_RETURN(const auto comparison, bench::run_compare(*loaded.model, options));
  progress.finish();
  if (!s.plot.empty()) {
    BIFOCAL_RETURN_IF_ERROR(
        write_file_atomically(s.plot, bench::render_svg(bench::compare_panels(comparison))));
  }
  if (s.format == "md") {
    fmt::print(
        "{} threads, {} kernels, medians of {} runs each, in turns; ±: half of what lies between the "
        "slowest and the fastest\n\n",
        pool->num_threads(), kernels::cpu::to_string(kernels::cpu::current_isa()), s.repeats);
    BIFOCAL_RETURN_IF_ERROR(print_table(bench::overview_table(comparison), s.format));
    fmt::print("\n");
  }
  return print_table(bench::details_table(comparison), s.format);
}

}  // namespace bifocal::cli
