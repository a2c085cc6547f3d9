// bifocal generate: one prompt, streamed to the terminal.
#include <fmt/format.h>

#include <cstdio>

#include "cli/command.h"
#include "cli/console.h"
#include "cli/conversation.h"
#include "cli/stack.h"

namespace bifocal::cli {

Status run_generate(const Settings& settings) {
  if (settings.model.skip_tokenizer_init)
    return invalid_argument("--skip-tokenizer-init: generate needs the tokenizer");
  BIFOCAL_ASSIGN_OR_RETURN(const Stack stack, load_stack(settings));
  engine::GenerateRequest request;
  if (settings.prompt.raw || stack.chat_template == nullptr) {
    BIFOCAL_ASSIGN_OR_RETURN(request.prompt_ids, stack.tokenizer->encode(settings.prompt.prompt));
  } else {
    Conversation conversation(settings.prompt.system, !settings.prompt.no_thinking);
    conversation.add("user", settings.prompt.prompt);
    BIFOCAL_ASSIGN_OR_RETURN(request.prompt_ids, conversation.encode(*stack.chat_template, *stack.tokenizer));
  }
  request.id = "generate";
  request.sampling = sampling_params(settings, stack.plan.config);
  const auto print = [](const std::string& text) {
    std::fwrite(text.data(), 1, text.size(), stdout);
    std::fflush(stdout);
  };
  BIFOCAL_ASSIGN_OR_RETURN(const Completion completion,
                           run_to_completion(*stack.engine, std::move(request), print));
  fmt::print("\n");
  if (settings.prompt.verbose) fmt::print(stderr, "{}\n", summary_line(completion, *stack.engine->stats()));
  return {};
}

}  // namespace bifocal::cli
