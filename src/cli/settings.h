// Every setting a person can give, grouped as the help is, and the option tables over them.
#pragma once

#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include "cli/option.h"

namespace bifocal::cli {

struct ModelSettings {
  std::string model_path;
  std::string tokenizer_path;
  bool skip_tokenizer_init = false;
  std::string load_format = "auto";
  std::string dtype = "auto";
  std::string override_args = "{}";
  std::string chat_template;
  int64_t context_length = 0;
};

struct EngineSettings {
  std::string device = "auto";
  int64_t threads = 0;
  std::string cpu_isa = "auto";
  int64_t page_size = 64;
  std::string kv_cache_dtype = "auto";
  std::string kv_cache_memory;
  double mem_fraction_static = 0;
  int64_t max_total_tokens = 0;
  double swa_full_tokens_ratio = 0;
  int64_t chunked_prefill_size = 2048;
  int64_t max_running_requests = 256;
  int64_t max_queued_requests = 256;
  bool disable_radix_cache = false;
  bool disable_overlap_schedule = false;
  bool time_device = false;  // no flag: benchmarks ask for it
  bool deterministic = false;
  int64_t random_seed = 42;
  std::string attention_backend = "auto";
  std::string prefill_attention_backend;
  std::string decode_attention_backend;
  std::string verify_attention_backend;
  std::string mla_prefill_form = "auto";
  int64_t max_kv_chunk_tokens = 131072;
  bool disable_cuda_graph = false;
  int64_t cuda_graph_max_bs = 160;
  std::string cuda_graph_bs;
  std::string linear_table;
};

// `tune`
struct TuneSettings {
  std::string output_file = "linear-table.json";
  std::string rows = "8,16,32,64,128,256,512,1024,2048,4096,8192";
};

struct ServeSettings {
  std::string host = "127.0.0.1";
  int64_t port = 8080;
  bool next_free_port = false;
  std::string served_model_name;
  std::vector<std::string> api_keys;
  std::string api_key_file;
  std::vector<std::string> allowed_hosts;
  std::vector<std::string> allowed_origins;
  bool insecure_no_auth = false;
  std::string reasoning_parser;
  std::string sampling_defaults = "model";
  bool enable_cache_report = false;
  bool incremental_streaming_output = false;
  int64_t stream_interval = 1;
  int64_t max_connections = 1024;
  std::string max_body = "8MiB";
  double request_timeout_s = 600;
  double drain_timeout_s = 30;
  bool log_requests = false;
  std::string profile_dir;
};

// `generate` and `chat`
struct PromptSettings {
  std::string prompt;
  std::string system;
  bool raw = false;
  bool no_thinking = false;
  int64_t max_tokens = 512;
  double temperature = -1;  // negative: the model's
  double top_p = -1;
  int64_t top_k = 0;
  bool verbose = false;
};

// `bench` and `docs`
struct BenchSettings {
  std::string batch = "1";
  std::string input_len = "512";
  std::string output_len = "32";
  int64_t repeats = 5;
  bool breakdown = false;
  std::string format = "md";
  std::string topic;
  std::string heads = "32";
  std::string kv_heads = "8";
  std::string head_dim = "128";
  std::string query_len = "1,512";
  std::string kv_len = "2048";
  std::string bench_dtype = "bfloat16";
  std::string page_sizes = "64";
  std::string window = "0";
  std::string shared_prefix = "0";
  std::string page_order = "engine";
  std::string plot;
  int64_t plan_sequences = 0;
  std::vector<std::string> backends;  // empty: the fast ones
  bool check = false;
  // `bench mixed`
  std::string decodes = "32";
  std::string context_len = "256";
  std::string prompt_len = "512,2048";
  int64_t mixed_output_len = 16;
  int64_t mixed_repeats = 3;
  std::string conversations = "1,8";  // `bench conversations`
  std::string turns = "1,3";
  int64_t user_len = 128;
  int64_t answer_len = 64;
  std::vector<std::string> backend_pairs = {"tiled", "streaming", "tiled+streaming"};
};

// `bench serving` and `bench offline`
struct ServingBenchSettings {
  std::string base_url;
  std::string host = "127.0.0.1";
  int64_t port = 0;
  std::string backend = "bifocal";
  std::string api_key;
  std::string served_model_name;
  std::string dataset = "random-ids";
  std::string dataset_path;
  int64_t num_prompts = 1000;
  int64_t random_input_len = 1024;
  int64_t random_output_len = 1024;
  double random_range_ratio = 0;
  int64_t sharegpt_output_len = 0;
  int64_t sharegpt_context_len = 0;
  int64_t gsp_num_groups = 64;
  int64_t gsp_prompts_per_group = 16;
  int64_t gsp_system_prompt_len = 2048;
  int64_t gsp_question_len = 128;
  int64_t gsp_output_len = 256;
  double gsp_range_ratio = 1;
  bool gsp_ordered = false;
  bool tokenize_prompt = false;
  int64_t seed = 42;
  double request_rate = std::numeric_limits<double>::infinity();
  int64_t max_concurrency = 0;
  int64_t warmup_requests = 1;
  bool flush_cache = false;
  bool disable_stream = false;
  bool disable_ignore_eos = false;
  double temperature = 0;
  std::string extra_request_body;
  bool profile = false;
  double ready_timeout_s = 60;
  std::string output_file;
  bool output_details = false;
  bool skip_warmup = false;  // `bench offline`
};

// `bench compare`
struct CompareSettings {
  std::vector<std::string> configs;
  std::vector<std::string> workloads = {"256/32/1", "256/32/8"};
  int64_t num_prompts = 0;
  int64_t repeats = 3;
  std::string format = "md";
  std::string plot;
};

// `eval`
struct EvalSettings {
  std::string base_url;
  std::string api_key;
  std::vector<std::string> test_modes = {"single", "mixed", "prefix", "radix_cache"};
  int64_t n_trials = 50;
  int64_t n_start = 1;
  int64_t batch_mates = 0;
  double temperature = 0;
  int64_t sampling_seed = 42;
  int64_t max_new_tokens = 100;
  double frequency_penalty = 0;
  double presence_penalty = 0;
  std::string gsm8k_path = "models/data/gsm.jsonl";
  std::string gsm8k_shots_path = "models/data/gsm_fewshot.jsonl";
  std::string mmlu_directory = "models/data/mmlu";
  int64_t num_questions = 200;
  int64_t num_subjects = 60;
  int64_t num_shots = 5;
  int64_t parallel = 64;
  double min_accuracy = 0;
  std::string text_path;
  int64_t window_tokens = 1024;
  int64_t window_stride = 512;
};

struct CommonSettings {
  std::string log_level = "info";
  bool no_progress = false;
  std::string profile;
};

struct Settings {
  CommonSettings common;
  ModelSettings model;
  EngineSettings engine;
  ServeSettings serve;
  PromptSettings prompt;
  TuneSettings tune;
  BenchSettings bench;
  ServingBenchSettings serving;
  CompareSettings compare;
  EvalSettings eval;
};

std::vector<Option> common_options(CommonSettings& settings);
std::vector<Option> profile_options(CommonSettings& settings);  // of commands that run a model
std::vector<Option> model_options(ModelSettings& settings);
std::vector<Option> engine_options(EngineSettings& settings);
std::vector<Option> serve_options(ServeSettings& settings);
std::vector<Option> sampling_options(PromptSettings& settings);

// Tables one after another.
std::vector<Option> join(std::vector<std::vector<Option>> tables);

}  // namespace bifocal::cli
