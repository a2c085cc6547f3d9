// The only file that includes CLI11.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>

#include "cli/option.h"

namespace bifocal::cli {
namespace {

// Adds one row of the table to the parser.
struct Binder {
  CLI::App& app;
  const Option& option;
  std::string names;

  CLI::Option* operator()(bool* target) const {
    std::string all = names;
    // Each switch can be turned off again, which matters when the environment turned it on.
    std::string negative = "--no-" + std::string(option.flag.substr(2));
    return app.add_flag(all + ",!" + negative, *target, option.help);
  }
  CLI::Option* operator()(int64_t* target) const {
    return app.add_option(names, *target, option.help)
        ->check(CLI::Range(static_cast<int64_t>(std::max(option.min, -9.0e18)),
                           static_cast<int64_t>(std::min(option.max, 9.0e18))));
  }
  CLI::Option* operator()(double* target) const {
    return app.add_option(names, *target, option.help)->check(CLI::Range(option.min, option.max));
  }
  CLI::Option* operator()(std::string* target) const { return app.add_option(names, *target, option.help); }
  CLI::Option* operator()(std::vector<std::string>* target) const {
    CLI::Option* list = app.add_option(names, *target, option.help);
    return option.whole_words ? list->allow_extra_args(false) : list->delimiter(',');
  }
};

void bind(CLI::App& app, const Option& option) {
  std::string names(option.flag);
  for (const std::string_view alias : option.aliases) names += "," + std::string(alias);
  const std::string standard = default_text(option);
  CLI::Option* bound = std::visit(Binder{app, option, names}, option.target);
  bound->group(std::string(option.group));
  if (!option.value.empty()) bound->type_name(std::string(option.value));
  if (!standard.empty()) bound->default_str(standard);
  bound->envname(environment_name(option.flag));
  const bool positional = std::any_of(option.aliases.begin(), option.aliases.end(),
                                      [](std::string_view alias) { return !alias.starts_with("-"); });
  if (positional) bound->required();
  if (!option.choices.empty()) {
    bound->check(CLI::IsMember(std::vector<std::string>(option.choices.begin(), option.choices.end())));
  }
}

}  // namespace

Expected<ParseResult> parse_options(const Command& command, const std::vector<std::string>& words) {
  CLI::App app(std::string(command.summary), fmt::format("bifocal {}", command.name));
  app.get_formatter()->column_width(44);
  for (const Option& option : command.options) bind(app, option);
  std::vector<std::string> reversed(words.rbegin(), words.rend());  // CLI11 takes them from the back
  try {
    app.parse(reversed);
  } catch (const CLI::CallForHelp&) {
    fmt::print("{}", app.help());
    return ParseResult{true};
  } catch (const CLI::ParseError& error) {
    return invalid_argument(
        fmt::format("bifocal {}: {} (see bifocal {} --help)", command.name, error.what(), command.name));
  }
  return ParseResult{};
}

}  // namespace bifocal::cli
