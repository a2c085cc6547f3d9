#include "cli/option.h"

#include <fmt/format.h>

#include <cctype>

namespace bifocal::cli {

std::string environment_name(std::string_view flag) {
  std::string name = "BIFOCAL_";
  for (const char c : flag.substr(flag.starts_with("--") ? 2 : 0)) {
    name += c == '-' ? '_' : static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
  }
  return name;
}

std::string default_text(const Option& option) {
  struct Visitor {
    std::string operator()(const bool* v) const { return *v ? "on" : ""; }
    std::string operator()(const int64_t* v) const { return fmt::format("{}", *v); }
    std::string operator()(const double* v) const { return fmt::format("{}", *v); }
    std::string operator()(const std::string* v) const { return *v; }
    std::string operator()(const std::vector<std::string>* v) const {
      return fmt::format("{}", fmt::join(*v, ","));
    }
  };
  return std::visit(Visitor{}, option.target);
}

namespace {

std::string escape_cell(std::string_view text) {
  std::string out;
  for (const char c : text) {
    if (c == '|') out += '\\';
    out += c;
  }
  return out;
}

}  // namespace

std::string options_markdown(const std::vector<Command>& commands) {
  std::string out =
      "# Flags\n\n"
      "Every flag has an environment twin (`--max-running-requests` is `BIFOCAL_MAX_RUNNING_REQUESTS`); the "
      "flag wins. "
      "Switches have a `--no-` form.\n"
      "This page is generated: `build/release/bifocal docs flags > docs/flags.md`.\n";
  for (const Command& command : commands) {
    out += fmt::format("\n## bifocal {}\n\n{}\n", command.name, command.summary);
    std::string_view group;
    for (const Option& option : command.options) {
      if (option.group != group) {
        group = option.group;
        out += fmt::format("\n### {}\n\n| Flag | Default | Meaning |\n|---|---|---|\n", group);
      }
      std::string names = fmt::format("`{}{}{}`", option.flag, option.value.empty() ? "" : " ", option.value);
      for (const std::string_view alias : option.aliases) names += fmt::format(", `{}`", alias);
      const std::string standard = default_text(option);
      out += fmt::format("| {} | {} | {} |\n", escape_cell(names),
                         standard.empty() ? "" : fmt::format("`{}`", standard), escape_cell(option.help));
    }
  }
  return out;
}

}  // namespace bifocal::cli
