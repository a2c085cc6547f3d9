#include "bench/workload.h"

#include <fmt/format.h>

#include <algorithm>
#include <numeric>
#include <optional>

#include "bench/conversation_file.h"

namespace bifocal::bench {
namespace {

using text::Tokenizer;

struct Draws {
  NumpyRandom numpy;
  PythonRandom python;
};

using Requests = std::vector<WorkloadRequest>;
using Maker = Expected<Requests> (*)(const WorkloadOptions& options, const Tokenizer& tokenizer,
                                     Draws& draws);

std::vector<int64_t> random_lengths(NumpyRandom& random, int64_t full, double ratio, size_t count) {
  const auto low = std::max<int64_t>(static_cast<int64_t>(static_cast<double>(full) * ratio), 1);
  std::vector<int64_t> lengths(count);
  for (int64_t& length : lengths) length = random.randint(low, full + 1);
  return lengths;
}

// A prompt of these tokens, in the form that the options want.
WorkloadRequest make_request_of(std::vector<int32_t> ids, int64_t output_len, const WorkloadOptions& options,
                                const Tokenizer& tokenizer) {
  WorkloadRequest request;
  request.prompt_len = static_cast<int64_t>(ids.size());
  request.output_len = output_len;
  if (options.as_ids) {
    request.ids = std::move(ids);
  } else {
    request.text = tokenizer.decode(ids, false);
  }
  return request;
}

// The lengths of `random` and `random-ids`. A text gets its special tokens (BOS) from the server.
struct RandomLengths {
  std::vector<int64_t> input, output;
};
Expected<RandomLengths> draw_random_lengths(const WorkloadOptions& options, const Tokenizer& tokenizer,
                                            NumpyRandom& random) {
  const auto count = static_cast<size_t>(options.num_prompts);
  RandomLengths lengths;
  lengths.input = random_lengths(random, options.random_input_len, options.random_range_ratio, count);
  lengths.output = random_lengths(random, options.random_output_len, options.random_range_ratio, count);
  if (options.as_ids) return lengths;
  BIFOCAL_ASSIGN_OR_RETURN(const auto special, tokenizer.encode(""));
  for (int64_t& length : lengths.input) {
    length = std::max<int64_t>(1, length - static_cast<int64_t>(special.size()));
  }
  return lengths;
}

Expected<Requests> make_random_ids(const WorkloadOptions& options, const Tokenizer& tokenizer, Draws& draws) {
  BIFOCAL_ASSIGN_OR_RETURN(const RandomLengths lengths, draw_random_lengths(options, tokenizer, draws.numpy));
  const int64_t vocab = tokenizer.base_vocab_size();
  const size_t count = lengths.input.size();
  std::vector<int64_t> offsets(count);
  for (int64_t& offset : offsets) offset = draws.numpy.randint(0, vocab);
  Requests requests;
  for (size_t i = 0; i < count; ++i) {
    std::vector<int32_t> ids(static_cast<size_t>(lengths.input[i]));
    for (size_t j = 0; j < ids.size(); ++j) {
      ids[j] = static_cast<int32_t>((offsets[i] + static_cast<int64_t>(i + j)) % vocab);
    }
    requests.push_back(make_request_of(std::move(ids), lengths.output[i], options, tokenizer));
  }
  return requests;
}

Expected<std::vector<Conversation>> read_conversations(const WorkloadOptions& options, bool lines) {
  if (options.dataset_path.empty()) {
    return invalid_argument(
        fmt::format("dataset \"{}\" needs a file of conversations: give --dataset-path, or choose random-ids",
                    options.dataset));
  }
  return lines ? read_conversation_lines(options.dataset_path) : read_sharegpt(options.dataset_path);
}

Expected<Requests> make_random(const WorkloadOptions& options, const Tokenizer& tokenizer, Draws& draws) {
  BIFOCAL_ASSIGN_OR_RETURN(const RandomLengths lengths, draw_random_lengths(options, tokenizer, draws.numpy));
  BIFOCAL_ASSIGN_OR_RETURN(auto conversations, read_conversations(options, false));
  draws.python.shuffle(conversations);
  Requests requests;
  for (const Conversation& conversation : conversations) {
    const size_t i = requests.size();
    if (i == lengths.input.size()) break;
    BIFOCAL_ASSIGN_OR_RETURN(const auto source, tokenizer.encode(conversation.question));
    if (source.empty()) continue;
    std::vector<int32_t> ids(static_cast<size_t>(lengths.input[i]));
    for (size_t j = 0; j < ids.size(); ++j) ids[j] = source[j % source.size()];
    requests.push_back(make_request_of(std::move(ids), lengths.output[i], options, tokenizer));
  }
  return requests;
}

Expected<Requests> make_from_conversations(const WorkloadOptions& options, const Tokenizer& tokenizer,
                                           Draws& draws, bool lines) {
  BIFOCAL_ASSIGN_OR_RETURN(auto conversations, read_conversations(options, lines));
  draws.python.shuffle(conversations);
  Requests requests;
  for (Conversation& conversation : conversations) {
    if (requests.size() == static_cast<size_t>(options.num_prompts)) break;
    BIFOCAL_ASSIGN_OR_RETURN(auto ids, tokenizer.encode(conversation.question));
    BIFOCAL_ASSIGN_OR_RETURN(const auto answer, tokenizer.encode(conversation.answer));
    WorkloadRequest request;
    request.prompt_len = static_cast<int64_t>(ids.size());
    request.output_len =
        options.fixed_output_len > 0 ? options.fixed_output_len : static_cast<int64_t>(answer.size());
    const bool too_short = request.prompt_len < 2 || request.output_len < 2;
    const bool too_long =
        options.context_len > 0 && request.prompt_len + request.output_len > options.context_len;
    if (too_short || too_long) continue;
    if (options.as_ids) {
      request.ids = std::move(ids);
    } else {
      request.text = std::move(conversation.question);
    }
    requests.push_back(std::move(request));
  }
  return requests;
}

Expected<Requests> make_sharegpt(const WorkloadOptions& options, const Tokenizer& tokenizer, Draws& draws) {
  return make_from_conversations(options, tokenizer, draws, false);
}

Expected<Requests> make_custom(const WorkloadOptions& options, const Tokenizer& tokenizer, Draws& draws) {
  return make_from_conversations(options, tokenizer, draws, true);
}

Expected<Requests> make_shared_prefix(const WorkloadOptions& options, const Tokenizer& tokenizer,
                                      Draws& draws) {
  const SharedPrefixOptions& shape = options.shared_prefix;
  const auto groups = static_cast<size_t>(shape.num_groups);
  const size_t count = groups * static_cast<size_t>(shape.prompts_per_group);
  const auto system_lens = random_lengths(draws.numpy, shape.system_prompt_len, shape.range_ratio, groups);
  const auto question_lens = random_lengths(draws.numpy, shape.question_len, shape.range_ratio, count);
  const auto output_lens = random_lengths(draws.numpy, shape.output_len, shape.range_ratio, count);
  std::vector<int32_t> vocabulary;
  for (int32_t id = 0; id < tokenizer.vocab_size(); ++id) {
    if (!tokenizer.token_bytes(id).empty()) vocabulary.push_back(id);
  }
  if (vocabulary.empty()) return invalid_argument("the tokenizer's tokens stand for nothing");
  const auto random_ids = [&](int64_t length) {
    std::vector<int32_t> ids(static_cast<size_t>(length));
    for (int32_t& id : ids) id = vocabulary[draws.python.choice(static_cast<uint32_t>(vocabulary.size()))];
    return ids;
  };
  std::vector<std::vector<int32_t>> systems;
  for (const int64_t length : system_lens) systems.push_back(random_ids(length));
  Requests requests;
  for (size_t i = 0; i < count; ++i) {
    std::vector<int32_t> ids = systems[i / static_cast<size_t>(shape.prompts_per_group)];
    const auto question = random_ids(question_lens[i]);
    if (options.as_ids) {
      ids.insert(ids.end(), question.begin(), question.end());
      requests.push_back(make_request_of(std::move(ids), output_lens[i], options, tokenizer));
      continue;
    }
    WorkloadRequest request;
    request.text = tokenizer.decode(ids, false) + "\n\n" + tokenizer.decode(question, false);
    BIFOCAL_ASSIGN_OR_RETURN(const auto encoded, tokenizer.encode(request.text));
    request.prompt_len = static_cast<int64_t>(encoded.size());
    request.output_len = output_lens[i];
    requests.push_back(std::move(request));
  }
  if (!shape.ordered) draws.python.shuffle(requests);
  return requests;
}

struct Dataset {
  std::string_view name;
  Maker make;
};
constexpr Dataset kDatasets[] = {
    {"random", make_random},
    {"random-ids", make_random_ids},
    {"sharegpt", make_sharegpt},
    {"custom", make_custom},
    {"generated-shared-prefix", make_shared_prefix},
};

}  // namespace

std::vector<std::string_view> workload_datasets() {
  std::vector<std::string_view> names;
  for (const Dataset& dataset : kDatasets) names.push_back(dataset.name);
  return names;
}

Expected<Workload> make_workload(const WorkloadOptions& options, const Tokenizer& tokenizer) {
  const auto dataset =
      std::find_if(std::begin(kDatasets), std::end(kDatasets),
                   [&](const Dataset& candidate) { return candidate.name == options.dataset; });
  if (dataset == std::end(kDatasets)) {
    return invalid_argument(fmt::format("dataset \"{}\": expected one of {}", options.dataset,
                                        fmt::join(workload_datasets(), ", ")));
  }
  if (tokenizer.base_vocab_size() < 1) return invalid_argument("the tokenizer has no tokens of its own");
  Draws draws{NumpyRandom(options.seed), PythonRandom(options.seed)};
  BIFOCAL_ASSIGN_OR_RETURN(Requests requests, dataset->make(options, tokenizer, draws));
  if (requests.empty()) {
    return invalid_argument(
        fmt::format("{}: no conversation of two turns and the right length", options.dataset_path));
  }
  return Workload{std::move(requests), draws.numpy};
}

int64_t total_prompt_tokens(const std::vector<WorkloadRequest>& requests) {
  return std::accumulate(requests.begin(), requests.end(), int64_t{0},
                         [](int64_t sum, const WorkloadRequest& r) { return sum + r.prompt_len; });
}

}  // namespace bifocal::bench
