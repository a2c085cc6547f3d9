// bifocal chat: a conversation at the terminal.
#include <fmt/format.h>
#include <unistd.h>

#include <cstdio>
#include <iostream>

#include "base/utf8.h"
#include "cli/command.h"
#include "cli/console.h"
#include "cli/conversation.h"
#include "cli/stack.h"

namespace bifocal::cli {
namespace {

constexpr std::string_view kHelp =
    "/clear starts over, /think and /nothink switch reasoning, /quit or Ctrl-D ends; Ctrl-C stops an "
    "answer.\n";

void print_text(const std::string& text) {
  std::fwrite(text.data(), 1, text.size(), stdout);
  std::fflush(stdout);
}

// Reasoning is not part of the history, as chat templates expect.
std::string without_reasoning(const std::string& text) {
  constexpr std::string_view kEnd = "</think>";
  const size_t end = text.find(kEnd);
  if (end == std::string::npos) return text;
  const size_t begin = text.find_first_not_of('\n', end + kEnd.size());
  return begin == std::string::npos ? "" : text.substr(begin);
}

}  // namespace

Status run_chat(const Settings& settings) {
  if (settings.model.skip_tokenizer_init)
    return invalid_argument("--skip-tokenizer-init: chat needs the tokenizer");
  BIFOCAL_ASSIGN_OR_RETURN(const Stack stack, load_stack(settings));
  if (stack.chat_template == nullptr) {
    return invalid_argument(
        "the model has no chat template; give one with --chat-template, or use bifocal generate --raw");
  }
  const bool terminal = ::isatty(STDIN_FILENO) == 1;
  if (terminal) fmt::print("{}", kHelp);
  Conversation conversation(settings.prompt.system, !settings.prompt.no_thinking);
  int turn = 0;
  for (std::string line;;) {
    if (terminal) print_text("\n> ");
    if (!std::getline(std::cin, line)) break;
    if (line.empty()) continue;
    if (line == "/quit" || line == "/exit") break;
    if (line == "/help") {
      fmt::print("{}", kHelp);
    } else if (line == "/clear") {
      conversation.clear();
    } else if (line == "/think" || line == "/nothink") {
      conversation.set_thinking(line == "/think");
    } else {
      conversation.add("user", replace_invalid_utf8(line));
      engine::GenerateRequest request;
      request.id = fmt::format("chat-{}", turn++);
      request.sampling = sampling_params(settings, stack.plan.config);
      auto completion = conversation.encode(*stack.chat_template, *stack.tokenizer);
      Status status = completion.status();
      if (completion.ok()) {
        request.prompt_ids = std::move(completion).value();
        const auto answer = run_to_completion(*stack.engine, std::move(request), print_text);
        status = answer.status();
        if (answer.ok()) {
          conversation.add("assistant", without_reasoning(answer->text));
          if (settings.prompt.verbose)
            fmt::print(stderr, "\n{}", summary_line(*answer, *stack.engine->stats()));
        }
      }
      fmt::print("\n");
      if (!status.ok()) {  // one message that failed ends neither the conversation nor the process
        fmt::print(stderr, "{}\n", status.message());
        conversation.undo();
      }
    }
  }
  return {};
}

}  // namespace bifocal::cli
