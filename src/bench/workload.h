// The requests of a serving benchmark: the datasets of SGLang's bench_serving, the same requests for the same
// seed.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "bench/seeded_random.h"
#include "text/tokenizer.h"

namespace bifocal::bench {

struct WorkloadRequest {
  std::string text;          // the prompt, or
  std::vector<int32_t> ids;  // its tokens: with WorkloadOptions::as_ids
  int64_t prompt_len = 0;    // tokens, as the dataset counts them
  int64_t output_len = 0;    // tokens to ask for
};

struct SharedPrefixOptions {
  int num_groups = 64;
  int prompts_per_group = 16;
  int64_t system_prompt_len = 2048;  // tokens that a group shares
  int64_t question_len = 128;
  int64_t output_len = 256;
  double range_ratio = 1.0;
  bool ordered = false;  // group after group instead of shuffled
};

struct WorkloadOptions {
  std::string dataset = "random-ids";  // see workload_datasets()
  std::string dataset_path;            // of random, sharegpt and custom
  int num_prompts = 1000;              // not of generated-shared-prefix
  int64_t random_input_len = 1024;
  int64_t random_output_len = 1024;
  // Lengths are uniform between this fraction and the whole.
  double random_range_ratio = 0.0;
  int64_t fixed_output_len = 0;  // of sharegpt and custom; 0: as long as the file's answer
  int64_t context_len = 0;       // longer requests of sharegpt and custom are left out; 0: none are
  SharedPrefixOptions shared_prefix;
  bool as_ids = false;
  uint32_t seed = 42;
};

// random: conversations cut or repeated to the wanted length; random-ids: consecutive ids; sharegpt: a JSON
// array of {"conversations": [{"value": ...}, ...]}; custom: such an object per line ("content" does as
// well); generated-shared-prefix: groups of prompts that begin alike.
std::vector<std::string_view> workload_datasets();

struct Workload {
  std::vector<WorkloadRequest> requests;  // not empty
  NumpyRandom arrivals;                   // goes on where the lengths ended: draws the gaps between requests
};

// Lengths and counts are at least 1, fractions from 0 to 1. Errors: invalid_argument for an unknown dataset,
// a file that gives no request or a tokenizer without tokens; those of reading the file.
Expected<Workload> make_workload(const WorkloadOptions& options, const text::Tokenizer& tokenizer);

int64_t total_prompt_tokens(const std::vector<WorkloadRequest>& requests);

}  // namespace bifocal::bench
