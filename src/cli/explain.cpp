// bifocal backends, bifocal explain: what attention can do and what it would do.
#include <fmt/format.h>

#include <algorithm>
#include <memory>

#include "attention/report.h"
#include "bench/table.h"
#include "cli/command.h"
#include "cli/stack.h"
#include "kernels/cpu/isa.h"

namespace bifocal::cli {
namespace {

bench::Table capability_table() {
  const auto rows = attention::capability_matrix();
  return {rows.front(), {rows.begin() + 1, rows.end()}};
}

}  // namespace

Status run_backends(const Settings&) {
  BIFOCAL_ASSIGN_OR_RETURN(const std::string text, bench::render(capability_table(), "md"));
  fmt::print("{}", text);
  return {};
}

Status run_explain(const Settings& settings) {
  BIFOCAL_ASSIGN_OR_RETURN(auto pool, start_compute(settings.engine));
  BIFOCAL_ASSIGN_OR_RETURN(const ModelChoice choice, choose_model(settings, std::move(pool)));
  const DeviceKind device = choice.options.device;
  const model::AttentionClasses classes =
      model::attention_classes(choice.plan.spec, choice.options.kv_dtype, choice.options.page_size, device);
  BIFOCAL_ASSIGN_OR_RETURN(const auto router,
                           attention::Router::create(router_options(settings.engine, device), classes.descs));
  bench::Table table{{"class", "layers", "phase", "backend", "reason", "not eligible"}, {}};
  for (size_t c = 0; c < classes.descs.size(); ++c) {
    // An expansion stands behind the class whose layers use it.
    const size_t owner = attention::is_expansion(classes.descs, c) ? c - 1 : c;
    const auto layers = std::count(classes.of_layer.begin(), classes.of_layer.end(), owner);
    for (const auto& row : attention::explain(router, std::span(classes.descs))) {
      if (row.attention_class != to_string(classes.descs[c])) continue;
      table.rows.push_back(
          {row.attention_class, fmt::format("{}", layers), row.phase, row.backend, row.reason, row.rejected});
    }
  }
  fmt::print("{} ({}) on {}, weights {}, KV {}, page size {}, CPU kernels {}, {} threads, {}\n\n",
             choice.plan.spec.architecture, choice.options.path, to_string(device),
             to_string(choice.plan.dtype), to_string(choice.options.kv_dtype), choice.options.page_size,
             kernels::cpu::to_string(kernels::cpu::current_isa()), choice.options.pool->num_threads(),
             device == DeviceKind::cuda && !settings.engine.disable_overlap_schedule
                 ? "the next step is prepared while one runs"
                 : "one step after another");
  BIFOCAL_ASSIGN_OR_RETURN(const std::string text, bench::render(table, "md"));
  fmt::print("{}", text);
  const auto is_mla = [](const attention::AttentionDesc& desc) { return desc.kind == attention::Kind::mla; };
  if (std::any_of(classes.descs.begin(), classes.descs.end(), is_mla)) {
    fmt::print("\nLatent attention: {}.\n", router.mla_policy().describe());
  }
  return {};
}

Status run_docs(const Settings& settings) {
  if (settings.bench.topic == "backends") {
    BIFOCAL_ASSIGN_OR_RETURN(const std::string text, bench::render(capability_table(), "md"));
    fmt::print(
        "# Attention backends\n\nWhat each backend can do, from the data that the router reads. `bifocal "
        "explain MODEL` "
        "shows the choice for a model.\nThis page is generated: `build/release/bifocal docs backends > "
        "docs/backends.md`.\n\n{}",
        text);
    return {};
  }
  std::vector<Command> commands;
  std::vector<std::unique_ptr<Settings>> storage;  // targets of the options, with their defaults
  for (const Verb& verb : verbs()) {
    storage.push_back(std::make_unique<Settings>());
    Command command{verb.name, verb.summary, verb.options(*storage.back())};
    if (!command.options.empty()) commands.push_back(std::move(command));
  }
  fmt::print("{}", options_markdown(commands));
  return {};
}

Status run_version(const Settings&) {
  fmt::print("bifocal {}\n", BIFOCAL_VERSION);
  return {};
}

}  // namespace bifocal::cli
