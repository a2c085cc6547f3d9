// Command-line options as data: one table gives the parser, --help, the environment twins and docs/flags.md.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "base/status.h"

namespace bifocal::cli {

// Where an option's value goes. What is already there when the table is made is the default.
using OptionTarget = std::variant<bool*, int64_t*, double*, std::string*, std::vector<std::string>*>;

struct Option {
  std::string_view group;  // heading in --help and the manual
  std::string_view flag;   // "--port"
  std::string_view value;  // "N", "PATH"; "" for switches
  std::string help;
  OptionTarget target;
  std::vector<std::string_view> aliases =
      {};  // other spellings; one without dashes also makes it a required positional
  std::vector<std::string_view> choices = {};  // legal values; empty: any
  double min = -1e18;                          // bounds of numbers
  double max = 1e18;
  bool whole_words = false;  // of lists: one value per flag, commas and all
};

// "--max-running-requests" has the environment twin BIFOCAL_MAX_RUNNING_REQUESTS; the flag wins.
std::string environment_name(std::string_view flag);
std::string default_text(const Option& option);  // as printed in help; "" for none

struct Command {
  std::string_view name;     // "serve", "bench one-batch"
  std::string_view summary;  // one sentence
  std::vector<Option> options;
};

struct ParseResult {
  bool done = false;  // help was asked for and printed
};

// Parses the words after the command's name into the options' targets. Errors name the flag, what was given
// and what is legal.
Expected<ParseResult> parse_options(const Command& command, const std::vector<std::string>& words);

// A Markdown table per group.
std::string options_markdown(const std::vector<Command>& commands);

}  // namespace bifocal::cli
