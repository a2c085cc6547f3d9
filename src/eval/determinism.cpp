#include "eval/determinism.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>

#include "base/hash.h"

namespace bifocal::eval {
namespace {

constexpr std::array kModes = {DeterminismMode::single, DeterminismMode::mixed, DeterminismMode::prefix,
                               DeterminismMode::radix_cache};
constexpr std::array<size_t, 4> kPrefixLengths = {1, 511, 2048, 4097};  // characters
constexpr std::string_view kShortPrompt = "Tell me about Richard Feynman: ";
constexpr std::string_view kOtherPrompt = "Tell me about the weather of the high plains in autumn: ";
// Of the radix cache's prompt: ids that every model has.
constexpr int kRadixPromptTokens = 64;
constexpr int32_t kFirstRadixId = 100;
constexpr int32_t kLastRadixId = 1000;

// Sentences of changing words: the same text each time, and no part of it twice.
std::string make_text(uint64_t seed, size_t num_characters) {
  constexpr std::array<std::string_view, 16> kWords = {
      "river",  "lantern", "seven",  "orchard", "quietly", "stone", "harbour", "paper",
      "winter", "eleven",  "copper", "meadow",  "signal",  "under", "morning", "thread"};
  SplitMix64 random(seed);
  std::string text;
  while (text.size() < num_characters) {
    text += fmt::format("Entry {}:", random.below(1000));
    for (int word = 0; word < 12; ++word) text += fmt::format(" {}", kWords[random.below(kWords.size())]);
    text += ". ";
  }
  text.resize(num_characters);
  return text;
}

// One batch after another: counted prompts by index, and mates.
class Trials {
 public:
  Trials(Generator& generator, const DeterminismOptions& options, std::vector<std::string> prompts,
         DeterminismReport* report)
      : generator_(generator),
        options_(options),
        prompts_(std::move(prompts)),
        random_(options.shuffle_seed),
        report_(report) {}

  SplitMix64& random() { return random_; }

  // `batch`: which prompt stands where. Mates are put in between at random.
  Status run(const std::vector<size_t>& batch) {
    std::vector<Query> queries;
    std::vector<size_t> prompt_of;  // kMate for mates
    for (const size_t prompt : batch) {
      Query query;
      query.text = prompts_[prompt];
      query.temperature = options_.temperature;
      query.seed = options_.sampling_seed;
      query.max_new_tokens = options_.max_new_tokens;
      query.frequency_penalty = options_.frequency_penalty;
      query.presence_penalty = options_.presence_penalty;
      queries.push_back(std::move(query));
      prompt_of.push_back(prompt);
    }
    for (int mate = 0; mate < options_.num_mates; ++mate) {
      const auto at = static_cast<ptrdiff_t>(random_.below(queries.size() + 1));
      queries.insert(queries.begin() + at, make_mate());
      prompt_of.insert(prompt_of.begin() + at, kMate);
    }
    BIFOCAL_ASSIGN_OR_RETURN(const auto answers, generator_.generate(queries));
    for (size_t i = 0; i < answers.size(); ++i) {
      if (prompt_of[i] != kMate) report_->prompts[prompt_of[i]].add(answers[i]);
    }
    return {};
  }

 private:
  static constexpr size_t kMate = SIZE_MAX;

  Query make_mate() {
    Query query;
    query.text = make_text(random_.next(), 1 + random_.below(1500));
    // Some begin as a counted prompt does, so that they share its cached pages.
    if (random_.below(3) == 0) query.text = prompts_[random_.below(prompts_.size())] + query.text;
    query.temperature = random_.below(2) == 0 ? 0.0 : 1.0;
    query.seed = random_.next() >> 1;
    query.max_new_tokens = 1 + static_cast<int64_t>(random_.below(100));
    return query;
  }

  Generator& generator_;
  const DeterminismOptions& options_;
  std::vector<std::string> prompts_;
  SplitMix64 random_;
  DeterminismReport* report_;
};

Status run_batches(Generator& generator, DeterminismMode mode, const DeterminismOptions& options,
                   DeterminismReport* report) {
  std::vector<std::string> prompts;
  const std::string text = make_text(1, kPrefixLengths.back());
  if (mode == DeterminismMode::single) {
    prompts = {std::string(kShortPrompt)};
    report->prompts = {PromptSamples("Prompt 0")};
  } else if (mode == DeterminismMode::mixed) {
    prompts = {std::string(kShortPrompt), std::string(kOtherPrompt), text};
    report->prompts = {PromptSamples("Prompt 1"), PromptSamples("Prompt 2"), PromptSamples("Long prompt")};
  } else {
    for (const size_t length : kPrefixLengths) {
      report->prompts.emplace_back(fmt::format("Prompt {} with prefix length {}", prompts.size(), length));
      prompts.push_back(text.substr(0, length));
    }
  }
  const size_t num_prompts = prompts.size();
  Trials trials(generator, options, std::move(prompts), report);
  for (int trial = 0; trial < options.num_trials; ++trial) {
    if (mode == DeterminismMode::prefix) BIFOCAL_RETURN_IF_ERROR(generator.flush_cache());
    const auto size = static_cast<size_t>(options.num_start + trial);
    std::vector<size_t> batch(size);
    for (size_t i = 0; i < size; ++i) {
      // A batch with room for each prompt has each.
      batch[i] = size >= num_prompts && i < num_prompts ? i : trials.random().below(num_prompts);
    }
    if (mode == DeterminismMode::mixed) {
      // No long one in small batches, at most ten in any.
      size_t longs = size <= 10 ? 0 : 1 + trials.random().below(10);
      for (size_t& prompt : batch) {
        prompt = longs > 0 ? 2 : trials.random().below(2);
        longs -= longs > 0 ? 1 : 0;
      }
    }
    for (size_t i = size; i > 1; --i) std::swap(batch[i - 1], batch[trials.random().below(i)]);
    BIFOCAL_RETURN_IF_ERROR(trials.run(batch));
    if (options.on_trial) options.on_trial(trial + 1, options.num_trials);
  }
  return {};
}

Status run_radix_cache(Generator& generator, const DeterminismOptions& options, DeterminismReport* report) {
  SplitMix64 random(options.shuffle_seed);
  Query prompt;
  for (int i = 0; i < kRadixPromptTokens; ++i) {
    prompt.token_ids.push_back(kFirstRadixId +
                               static_cast<int32_t>(random.below(kLastRadixId - kFirstRadixId)));
  }
  prompt.temperature = options.temperature;
  prompt.seed = options.sampling_seed;
  prompt.max_new_tokens = options.max_new_tokens;
  BIFOCAL_RETURN_IF_ERROR(generator.flush_cache());
  BIFOCAL_ASSIGN_OR_RETURN(const auto written, generator.generate({&prompt, 1}));
  const Answer& decoded = written.front();
  if (decoded.token_ids.empty()) return data_loss("the model wrote nothing; no output to score");

  // The prompt with all of its output but the last token, whose log-probability is compared.
  Query scored = prompt;
  scored.token_ids.insert(scored.token_ids.end(), decoded.token_ids.begin(), decoded.token_ids.end() - 1);
  scored.max_new_tokens = 1;
  report->prompts = {PromptSamples("Prefill with a warm cache and a cold one")};
  std::vector<Answer> prefills;
  for (const bool warm : {true, true, false}) {  // the second finds what the first left
    if (!warm) BIFOCAL_RETURN_IF_ERROR(generator.flush_cache());
    BIFOCAL_ASSIGN_OR_RETURN(const auto answers, generator.generate({&scored, 1}));
    report->prompts.front().add(answers.front());
    prefills.push_back(answers.front());
  }
  report->notes.push_back(fmt::format("cached prompt tokens: warm {}, {}; cold {}", prefills[0].cached_tokens,
                                      prefills[1].cached_tokens, prefills[2].cached_tokens));
  const Answer& cold = prefills.back();
  if (!cold.logprobs.empty() && decoded.logprobs.size() == decoded.token_ids.size()) {
    const bool same_token = cold.token_ids.front() == decoded.token_ids.back();
    report->notes.push_back(
        fmt::format("decode against prefill (not required): {} token, logprob {} and {}, {:.1e} apart",
                    same_token ? "the same" : "another", decoded.logprobs.back(), cold.logprobs.front(),
                    std::abs(decoded.logprobs.back() - cold.logprobs.front())));
  }
  return {};
}

}  // namespace

std::string_view to_string(DeterminismMode mode) {
  switch (mode) {
    case DeterminismMode::single:
      return "single";
    case DeterminismMode::mixed:
      return "mixed";
    case DeterminismMode::prefix:
      return "prefix";
    case DeterminismMode::radix_cache:
      return "radix_cache";
  }
  return "?";
}

Expected<DeterminismMode> parse_determinism_mode(std::string_view name) {
  std::string names;
  for (const DeterminismMode mode : kModes) {
    if (name == to_string(mode)) return mode;
    names += fmt::format("{}{}", names.empty() ? "" : ", ", to_string(mode));
  }
  return invalid_argument(fmt::format("mode \"{}\" is unknown; use {}", name, names));
}

void PromptSamples::add(const Answer& answer) {
  ++total;
  std::string fingerprint = answer.fingerprint();
  if (std::find(fingerprints.begin(), fingerprints.end(), fingerprint) == fingerprints.end()) {
    fingerprints.push_back(std::move(fingerprint));
  }
}

bool DeterminismReport::deterministic() const {
  return !prompts.empty() &&
         std::all_of(prompts.begin(), prompts.end(), [](const PromptSamples& p) { return p.unique() == 1; });
}

bool DeterminismReport::differs() const {
  return std::any_of(prompts.begin(), prompts.end(), [](const PromptSamples& p) { return p.unique() > 1; });
}

std::string DeterminismReport::text() const {
  std::string out;
  for (const PromptSamples& p : prompts) {
    out += fmt::format("{}: total samples: {}, Unique samples: {}\n", p.prompt, p.total, p.unique());
  }
  for (const std::string& note : notes) out += note + "\n";
  return out;
}

Expected<DeterminismReport> run_determinism(Generator& generator, DeterminismMode mode,
                                            const DeterminismOptions& options) {
  DeterminismReport report;
  report.mode = mode;
  if (mode == DeterminismMode::radix_cache) {
    BIFOCAL_RETURN_IF_ERROR(run_radix_cache(generator, options, &report));
  } else {
    BIFOCAL_RETURN_IF_ERROR(run_batches(generator, mode, options, &report));
  }
  return report;
}

}  // namespace bifocal::eval
