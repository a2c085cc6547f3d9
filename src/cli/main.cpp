#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <string>

#include "base/log.h"
#include "base/progress.h"
#include "cli/command.h"
#include "cli/profile.h"

namespace bifocal::cli {
namespace {

void print_usage(std::FILE* out) {
  fmt::print(out,
             "Bifocal {}: serves language models with an attention backend per phase.\n\nusage: bifocal "
             "COMMAND [...]\n\n",
             BIFOCAL_VERSION);
  for (const Verb& verb : verbs()) fmt::print(out, "  {:<18} {}\n", verb.name, verb.summary);
  fmt::print(out, "\nbifocal COMMAND --help lists a command's flags.\n");
}

// The verb whose words begin `words`; the longest name wins. Removes those words.
const Verb* take_verb(std::vector<std::string>& words) {
  const Verb* best = nullptr;
  size_t best_count = 0;
  for (const Verb& verb : verbs()) {
    const auto count = static_cast<size_t>(std::count(verb.name.begin(), verb.name.end(), ' ')) + 1;
    if (words.size() < count || count <= best_count) continue;
    const std::string joined =
        fmt::format("{}", fmt::join(words.begin(), words.begin() + static_cast<std::ptrdiff_t>(count), " "));
    if (joined == verb.name) {
      best = &verb;
      best_count = count;
    }
  }
  words.erase(words.begin(), words.begin() + static_cast<std::ptrdiff_t>(best_count));
  return best;
}

int run(std::vector<std::string> words) {
  if (words.empty() || words[0] == "--help" || words[0] == "-h" || words[0] == "help") {
    print_usage(words.empty() ? stderr : stdout);
    return words.empty() ? 2 : 0;
  }
  if (words[0] == "--version") words[0] = "version";
  const Verb* verb = take_verb(words);
  if (verb == nullptr) {
    fmt::print(stderr, "bifocal: unknown command \"{}\"\n\n", words[0]);
    print_usage(stderr);
    return 2;
  }
  Settings settings;
  const Command command{verb->name, verb->summary, verb->options(settings)};
  const auto parsed = parse_options(command, words);
  Status status = parsed.status();
  if (parsed.ok()) {
    if (parsed->done) return 0;
    if (const auto level = parse_log_level(settings.common.log_level); level.ok()) set_log_level(*level);
    Progress::set_enabled(!settings.common.no_progress);
    status = run_profiled(settings.common.profile, [&] { return verb->run(settings); });
  }
  if (!status.ok()) fmt::print(stderr, "bifocal: {}\n", status.message());
  return exit_code(status);
}

}  // namespace
}  // namespace bifocal::cli

int main(int argc, char** argv) {
  try {
    return bifocal::cli::run(std::vector<std::string>(argv + 1, argv + argc));
  } catch (const std::bad_alloc&) {
    std::fputs("bifocal: out of memory\n", stderr);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "bifocal: %s\n", error.what());
  }
  return 1;
}
