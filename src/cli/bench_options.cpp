#include "cli/bench_options.h"

#include "bench/serving_api.h"
#include "bench/workload.h"

namespace bifocal::cli {

std::vector<Option> for_bench_one_batch(Settings& s) {
  std::vector<Option> grid = {
      {"Grid", "--batch", "LIST", "Sequences computed together", &s.bench.batch, {"--batch-size"}},
      {"Grid", "--input-len", "LIST", "Prompt tokens per sequence", &s.bench.input_len},
      {"Grid", "--output-len", "LIST", "Decoded tokens per sequence", &s.bench.output_len},
      {"Grid", "--breakdown", "", "Print the time by operation instead, from the spans of a trace",
       &s.bench.breakdown},
      {"Grid",
       "--repeats",
       "N",
       "Traced runs of each phase for --breakdown, and as many untraced ones",
       &s.bench.repeats,
       {},
       {},
       1,
       1000},
      {"Grid", "--format", "FORMAT", "How the table is printed", &s.bench.format, {}, {"md", "csv", "json"}},
  };
  return join({std::move(grid), model_options(s.model), engine_options(s.engine), profile_options(s.common),
               common_options(s.common)});
}

std::vector<Option> for_bench_machine(Settings& s) {
  std::vector<Option> all = engine_options(s.engine);
  std::erase_if(all, [](const Option& option) { return option.group != "Compute"; });
  return join({std::move(all), common_options(s.common)});
}

std::vector<Option> for_bench_attention(Settings& s) {
  std::vector<Option> grid = {
      {"Grid", "--batch", "LIST", "Sequences", &s.bench.batch},
      {"Grid", "--heads", "LIST", "Query heads", &s.bench.heads},
      {"Grid", "--kv-heads", "LIST", "Key/value heads", &s.bench.kv_heads},
      {"Grid", "--head-dim", "LIST", "Head dimension, or K's and V's as in 192/128", &s.bench.head_dim},
      {"Grid", "--query-len", "LIST", "Query tokens per sequence", &s.bench.query_len},
      {"Grid", "--kv-len", "LIST", "Keys per sequence", &s.bench.kv_len},
      {"Grid", "--shared-prefix", "LIST", "Keys that all sequences have in common; 0: none",
       &s.bench.shared_prefix},
      {"Grid", "--window", "LIST", "Sliding window in keys; 0: none", &s.bench.window},
      {"Grid", "--kv-dtype", "LIST", "Type of keys and values", &s.bench.bench_dtype},
      {"Grid", "--page-size", "LIST", "Tokens per KV page", &s.bench.page_sizes},
      {"Grid",
       "--page-order",
       "ORDER",
       "Where the pages of a sequence lie: as the engine hands them out to sequences that grow side by side, "
       "or "
       "anywhere",
       &s.bench.page_order,
       {},
       {"engine", "random"}},
      {"Grid",
       "--plan",
       "N",
       "Time the planning of so many ragged sequences instead",
       &s.bench.plan_sequences,
       {},
       {},
       0,
       4096},
      {"Grid", "--plot", "PATH", "Also write an SVG with a line per backend over the query tokens",
       &s.bench.plot},
      {"Grid", "--format", "FORMAT", "How the table is printed", &s.bench.format, {}, {"md", "csv", "json"}},
      {"Grid", "--backends", "LIST", "Backends to time; default: all but reference", &s.bench.backends},
      {"Grid", "--check", "", "Compare every result with the reference backend", &s.bench.check},
  };
  return join({std::move(grid), for_bench_machine(s)});
}

std::vector<Option> for_bench_conversations(Settings& s) {
  constexpr std::string_view kGrid = "Grid";
  BenchSettings& b = s.bench;
  std::vector<Option> grid = {
      {kGrid, "--conversations", "LIST", "Conversations at the same time", &b.conversations},
      {kGrid, "--turns", "LIST", "Turns of each", &b.turns},
      {kGrid, "--user-len", "N", "Tokens that each turn adds to the prompt", &b.user_len, {}, {}, 1, 1 << 20},
      {kGrid, "--answer-len", "N", "Tokens that each turn writes", &b.answer_len, {}, {}, 1, 1 << 20},
      {kGrid, "--repeats", "N", "Runs of either mode, in turns", &b.mixed_repeats, {}, {}, 1, 1000},
      {kGrid, "--format", "FORMAT", "How the table is printed", &b.format, {}, {"md", "csv", "json"}},
  };
  return join({std::move(grid), model_options(s.model), engine_options(s.engine), profile_options(s.common),
               common_options(s.common)});
}

std::vector<Option> for_bench_mixed(Settings& s) {
  constexpr std::string_view kGrid = "Grid";
  BenchSettings& b = s.bench;
  std::vector<Option> grid = {
      {kGrid, "--decodes", "LIST", "Requests that are decoding when the prompt arrives", &b.decodes},
      {kGrid, "--context-len", "LIST", "Tokens that each of them has behind it", &b.context_len},
      {kGrid, "--prompt-len", "LIST", "Tokens of the prompt that arrives", &b.prompt_len},
      {kGrid, "--output-len", "N", "Tokens that its request writes", &b.mixed_output_len, {}, {}, 2, 1 << 20},
      {kGrid, "--repeats", "N", "Runs of each backend, in turns", &b.mixed_repeats, {}, {}, 1, 1000},
      {kGrid, "--backends", "LIST", "What to compare: a backend for both phases, or prefill+decode",
       &b.backend_pairs},
      {kGrid, "--format", "FORMAT", "How the table is printed", &b.format, {}, {"md", "csv", "json"}},
  };
  return join({std::move(grid), model_options(s.model), engine_options(s.engine), profile_options(s.common),
               common_options(s.common)});
}

namespace {

constexpr std::string_view kDataset = "Dataset";
constexpr double kMaxLen = 1 << 24;
constexpr double kMaxCount = 1e8;

Option count_option(std::string_view group, std::string_view flag, std::string help, int64_t& target,
                    double min, double max) {
  return {group, flag, "N", std::move(help), &target, {}, {}, min, max};
}

std::vector<Option> dataset_options(ServingBenchSettings& b) {
  return {
      {kDataset,
       "--dataset-name",
       "NAME",
       "random-ids needs no file; random and sharegpt need ShareGPT's, custom one of JSON lines",
       &b.dataset,
       {},
       bench::workload_datasets()},
      {kDataset, "--dataset-path", "FILE", "File of conversations", &b.dataset_path},
      count_option(kDataset, "--num-prompts", "Requests", b.num_prompts, 1, kMaxCount),
      {kDataset,
       "--random-input-len",
       "TOKENS",
       "Longest prompt of random and random-ids",
       &b.random_input_len,
       {"--random-input"},
       {},
       1,
       kMaxLen},
      {kDataset,
       "--random-output-len",
       "TOKENS",
       "Longest answer of random and random-ids",
       &b.random_output_len,
       {"--random-output"},
       {},
       1,
       kMaxLen},
      {kDataset,
       "--random-range-ratio",
       "F",
       "Lengths are uniform from this fraction of the longest on; 1: all are the longest",
       &b.random_range_ratio,
       {},
       {},
       0,
       1},
      count_option(kDataset, "--sharegpt-output-len",
                   "Length of the answers of sharegpt and custom; 0: the file's", b.sharegpt_output_len, 0,
                   kMaxLen),
      count_option(kDataset, "--sharegpt-context-len",
                   "Longer requests of sharegpt and custom are left out; 0: none", b.sharegpt_context_len, 0,
                   kMaxLen),
      count_option(kDataset, "--gsp-num-groups", "Groups of generated-shared-prefix", b.gsp_num_groups, 1,
                   1e6),
      count_option(kDataset, "--gsp-prompts-per-group", "Requests of each group", b.gsp_prompts_per_group, 1,
                   1e6),
      count_option(kDataset, "--gsp-system-prompt-len", "Tokens that a group shares", b.gsp_system_prompt_len,
                   1, kMaxLen),
      count_option(kDataset, "--gsp-question-len", "Tokens of a question", b.gsp_question_len, 1, kMaxLen),
      count_option(kDataset, "--gsp-output-len", "Tokens of an answer", b.gsp_output_len, 1, kMaxLen),
      {kDataset,
       "--gsp-range-ratio",
       "F",
       "As --random-range-ratio, of generated-shared-prefix",
       &b.gsp_range_ratio,
       {},
       {},
       0,
       1},
      {kDataset, "--gsp-ordered", "", "Group after group instead of shuffled", &b.gsp_ordered},
      count_option(kDataset, "--seed", "The same seed gives the same requests as in SGLang's tool", b.seed, 0,
                   UINT32_MAX),
  };
}

std::vector<Option> output_options(ServingBenchSettings& b) {
  constexpr std::string_view kResult = "Result";
  return {
      {kResult,
       "--output-file",
       "FILE",
       "Append the result as one line of JSON",
       &b.output_file,
       {"--result-filename"}},
  };
}

// The model that is served in this process, where no server is named.
std::vector<Option> local_model_options(ModelSettings& m) {
  std::vector<Option> options = model_options(m);
  for (Option& option : options) {
    if (option.flag == "--model-path") {
      option.help = "Model to serve in this process; beside --base-url the name that is sent";
      option.aliases = {"--model"};
    }
    if (option.flag == "--tokenizer-path") option.aliases = {"--tokenizer"};
  }
  return options;
}

}  // namespace

std::vector<Option> for_bench_serving(Settings& s) {
  constexpr std::string_view kServer = "Server";
  constexpr std::string_view kTraffic = "Traffic";
  ServingBenchSettings& b = s.serving;
  std::vector<Option> server = {
      {kServer, "--base-url", "URL", "Server to ask, for example http://127.0.0.1:8080; or give --model",
       &b.base_url},
      {kServer, "--host", "HOST", "Of the server at --port", &b.host},
      {kServer, "--port", "N", "Instead of --base-url", &b.port, {}, {}, 0, 65535},
      {kServer, "--backend", "NAME", "The API that it speaks", &b.backend, {}, bench::serving_backends()},
      {kServer, "--api-key", "KEY", "Key that it wants", &b.api_key},
      {kServer,
       "--ready-check-timeout-sec",
       "S",
       "How long to wait until it answers",
       &b.ready_timeout_s,
       {},
       {},
       0,
       1e6},
  };
  std::vector<Option> traffic = {
      {kTraffic,
       "--request-rate",
       "F",
       "Requests per second, Poisson; inf: all at once",
       &b.request_rate,
       {},
       {},
       1e-6,
       std::numeric_limits<double>::infinity()},
      count_option(kTraffic, "--max-concurrency", "Requests at a time; 0: no bound", b.max_concurrency, 0,
                   kMaxCount),
      count_option(kTraffic, "--warmup-requests", "Copies of the first request before anything is timed",
                   b.warmup_requests, 0, 1e6),
      {kTraffic, "--flush-cache", "", "Empty the server's prefix cache after the warm-up", &b.flush_cache},
      {kTraffic, "--tokenize-prompt", "", "Send token ids instead of text", &b.tokenize_prompt},
      {kTraffic, "--disable-stream", "", "Ask for whole answers", &b.disable_stream},
      {kTraffic, "--disable-ignore-eos", "", "Answers may end early", &b.disable_ignore_eos},
      {kTraffic, "--temperature", "F", "0 is greedy", &b.temperature, {}, {}, 0, 100},
      {kTraffic, "--extra-request-body", "JSON", "Object whose members are sent with each request",
       &b.extra_request_body},
      {kTraffic, "--profile", "", "Profile the server meanwhile (/start_profile, /stop_profile)", &b.profile},
  };
  std::vector<Option> result = output_options(b);
  result.push_back({"Result", "--output-details", "", "With what each request did", &b.output_details});
  return join({std::move(server), dataset_options(b), std::move(traffic), std::move(result),
               local_model_options(s.model), engine_options(s.engine), common_options(s.common)});
}

std::vector<Option> for_bench_offline(Settings& s) {
  constexpr std::string_view kRun = "Run";
  ServingBenchSettings& b = s.serving;
  std::vector<Option> run = {
      count_option(kRun, "--max-concurrency", "Requests at a time; 0: all, as far as the engine takes them",
                   b.max_concurrency, 0, kMaxCount),
      {kRun, "--disable-ignore-eos", "", "Answers may end early", &b.disable_ignore_eos},
      {kRun, "--skip-warmup", "", "Time the first requests as well", &b.skip_warmup},
  };
  return join({dataset_options(b), std::move(run), output_options(b), model_options(s.model),
               engine_options(s.engine), profile_options(s.common), common_options(s.common)});
}

std::vector<Option> for_bench_compare(Settings& s) {
  CompareSettings& c = s.compare;
  Option config = {
      "Grid", "--config", "KEY=VALUE,...",
      "Give once per column: engine flags without their dashes, or prefill, decode and backend "
      "for the attention backends; `default` for none. Page size and KV type are those of the model",
      &c.configs};
  config.whole_words = true;
  std::vector<Option> grid = {
      std::move(config),
      {"Grid", "--workload", "LIST", "Prompt tokens/output tokens/requests at a time", &c.workloads},
      count_option("Grid", "--num-prompts", "Requests of each run; 0: twice as many as at a time",
                   c.num_prompts, 0, 1e6),
      count_option("Grid", "--repeats", "Runs of each configuration, in turns", c.repeats, 1, 1000),
      {"Grid", "--format", "FORMAT", "How the table is printed", &c.format, {}, {"md", "csv", "json"}},
      {"Grid", "--plot", "FILE", "Also write an SVG with a line per configuration", &c.plot},
  };
  return join({std::move(grid), model_options(s.model), engine_options(s.engine), profile_options(s.common),
               common_options(s.common)});
}

}  // namespace bifocal::cli
