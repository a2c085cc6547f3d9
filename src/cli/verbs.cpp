#include "cli/bench_options.h"
#include "cli/command.h"

namespace bifocal::cli {
namespace {

std::vector<Option> for_serve(Settings& s) {
  return join({model_options(s.model), serve_options(s.serve), engine_options(s.engine),
               profile_options(s.common), common_options(s.common)});
}

std::vector<Option> for_generate(Settings& s) {
  std::vector<Option> prompt = {
      {"Prompt", "--prompt", "TEXT", "What to answer or continue", &s.prompt.prompt},
      {"Prompt", "--raw", "", "Continue the text as it is, without the chat template", &s.prompt.raw},
  };
  return join({std::move(prompt), model_options(s.model), sampling_options(s.prompt),
               engine_options(s.engine), profile_options(s.common), common_options(s.common)});
}

std::vector<Option> for_chat(Settings& s) {
  return join({model_options(s.model), sampling_options(s.prompt), engine_options(s.engine),
               profile_options(s.common), common_options(s.common)});
}

std::vector<Option> for_explain(Settings& s) {
  return join({model_options(s.model), engine_options(s.engine), common_options(s.common)});
}

std::vector<Option> for_tune(Settings& s) {
  std::vector<Option> tune = {
      {"Tune", "--output-file", "FILE", "Where the table goes, for --linear-table", &s.tune.output_file},
      {"Tune", "--rows", "LIST", "Rows of the steps whose products are timed", &s.tune.rows},
  };
  return join({std::move(tune), model_options(s.model), engine_options(s.engine), common_options(s.common)});
}

// An evaluation's own options, and where its answers come from: a server or a model.
std::vector<Option> with_source(Settings& s, std::vector<Option> test) {
  constexpr std::string_view kSource = "Source";
  std::vector<Option> source = {
      {kSource, "--base-url", "URL", "Server to ask, for example http://127.0.0.1:8080; or give --model-path",
       &s.eval.base_url},
      {kSource, "--api-key", "KEY", "Key that the server wants", &s.eval.api_key},
  };
  std::vector<Option> model = model_options(s.model);
  for (Option& option : model) {  // no positional: the model is one of two sources
    std::erase_if(option.aliases, [](std::string_view alias) { return !alias.starts_with("-"); });
  }
  return join({std::move(source), std::move(test), std::move(model), engine_options(s.engine),
               common_options(s.common)});
}

std::vector<Option> accuracy_options(EvalSettings& e) {
  constexpr std::string_view kTest = "Test";
  return {
      {kTest,
       "--num-shots",
       "N",
       "Solved questions in front of each",
       &e.num_shots,
       {"--ntrain"},
       {},
       0,
       100},
      {kTest, "--parallel", "N", "Questions asked at a time", &e.parallel, {}, {}, 1, 4096},
      {kTest, "--min-accuracy", "F", "Exit with 1 below this", &e.min_accuracy, {}, {}, 0, 1},
  };
}

std::vector<Option> for_eval_gsm8k(Settings& s) {
  constexpr std::string_view kTest = "Test";
  EvalSettings& e = s.eval;
  std::vector<Option> test = {
      {kTest, "--data-path", "PATH", "GSM8K's test.jsonl; default: the bundled word problems", &e.gsm8k_path},
      {kTest, "--shots-path", "PATH", "Where the shots come from; empty: the first lines of --data-path",
       &e.gsm8k_shots_path},
      {kTest, "--num-questions", "N", "The first so many lines", &e.num_questions, {}, {}, 1, 1e9},
  };
  return with_source(s, join({std::move(test), accuracy_options(e)}));
}

std::vector<Option> for_eval_mmlu(Settings& s) {
  constexpr std::string_view kTest = "Test";
  EvalSettings& e = s.eval;
  std::vector<Option> test = {
      {kTest, "--data-dir", "DIR", "MMLU's directory with dev and test; default: the bundled questions",
       &e.mmlu_directory},
      {kTest, "--nsub", "N", "Subjects, by name", &e.num_subjects, {}, {}, 1, 1e6},
      {kTest, "--num-questions", "N", "The first so many of each subject", &e.num_questions, {}, {}, 1, 1e9},
  };
  return with_source(s, join({std::move(test), accuracy_options(e)}));
}

std::vector<Option> for_eval_determinism(Settings& s) {
  constexpr std::string_view kTest = "Test";
  EvalSettings& e = s.eval;
  std::vector<Option> test = {
      {kTest, "--test-mode", "LIST", "single, mixed, prefix, radix_cache", &e.test_modes},
      {kTest, "--n-trials", "N", "Batches of a mode", &e.n_trials, {}, {}, 1, 100'000},
      {kTest,
       "--n-start",
       "N",
       "Prompts in the first batch; each further one has one more",
       &e.n_start,
       {},
       {},
       1,
       100'000},
      {kTest,
       "--batch-mates",
       "N",
       "Further random prompts in each batch, whose answers don't count",
       &e.batch_mates,
       {},
       {},
       0,
       100'000},
      {kTest, "--temperature", "T", "0 is greedy", &e.temperature, {}, {}, 0, 100},
      {kTest, "--sampling-seed", "N", "Seed of the counted prompts", &e.sampling_seed, {}, {}, 0, 9e15},
      {kTest, "--max-new-tokens", "N", "Longest answer", &e.max_new_tokens, {}, {}, 1, 1 << 24},
      {kTest, "--frequency-penalty", "F", "Of the counted prompts", &e.frequency_penalty, {}, {}, -2, 2},
      {kTest, "--presence-penalty", "F", "Of the counted prompts", &e.presence_penalty, {}, {}, -2, 2},
  };
  return with_source(s, std::move(test));
}

std::vector<Option> for_eval_perplexity(Settings& s) {
  constexpr std::string_view kTest = "Test";
  EvalSettings& e = s.eval;
  std::vector<Option> test = {
      {kTest, "--file", "PATH", "Text in UTF-8", &e.text_path},
      {kTest, "--ctx", "TOKENS", "Tokens of a window", &e.window_tokens, {}, {}, 2, 1 << 30},
      {kTest,
       "--stride",
       "TOKENS",
       "From a window's begin to the next one's: the less, the more is before each token",
       &e.window_stride,
       {},
       {},
       1,
       1 << 30},
      {kTest, "--parallel", "N", "Windows asked for at a time", &e.parallel, {}, {}, 1, 4096},
  };
  return with_source(s, std::move(test));
}

std::vector<Option> for_docs(Settings& s) {
  return {{"Docs", "--topic", "NAME", "Which page", &s.bench.topic, {"TOPIC"}, {"flags", "backends"}}};
}

std::vector<Option> none(Settings&) {
  return {};
}

constexpr Verb kVerbs[] = {
    {"serve", "Serves a model over HTTP (OpenAI's and SGLang's APIs).", for_serve, run_serve},
    {"generate", "Answers one prompt on the terminal.", for_generate, run_generate},
    {"chat", "Holds a conversation on the terminal.", for_chat, run_chat},
    {"backends", "Prints what each attention backend can do.", none, run_backends},
    {"explain", "Prints which backend would serve each attention class and phase of a model, and why.",
     for_explain, run_explain},
    {"tune", "Times the kernels for a model's matrix products on this GPU and writes which is fastest.",
     for_tune, run_tune},
    {"bench ceilings", "Measures this machine's limits: DRAM read rate, FMA peak.", for_bench_machine,
     run_bench_ceilings},
    {"bench gemm", "Times the matrix product beside its limit.", for_bench_machine, run_bench_gemm},
    {"bench serving", "Sends requests to a server, or to a model in this process, and prints what came when.",
     for_bench_serving, run_bench_serving},
    {"bench offline", "Throughput of a model in this process, without HTTP.", for_bench_offline,
     run_bench_offline},
    {"bench compare",
     "Runs several configurations in turns over the same requests and prints them side by side.",
     for_bench_compare, run_bench_compare},
    {"bench attention", "Times every eligible attention backend over a grid of shapes.", for_bench_attention,
     run_bench_attention},
    {"bench one-batch", "Times prefill and decode of a model without a server, beside this machine's limits.",
     for_bench_one_batch, run_bench_one_batch},
    {"bench conversations", "Times conversations in the default mode and with --deterministic.",
     for_bench_conversations, run_bench_conversations},
    {"bench mixed",
     "Times a long prompt that arrives among decoding requests: one backend for the batch, or one per phase.",
     for_bench_mixed, run_bench_mixed},
    {"eval determinism", "Asks a server or a model the same again and again: does it always answer the same?",
     for_eval_determinism, run_eval_determinism},
    {"eval gsm8k", "Accuracy on word problems, of a server or a model.", for_eval_gsm8k, run_eval_gsm8k},
    {"eval mmlu", "Accuracy on multiple choice, of a server or a model.", for_eval_mmlu, run_eval_mmlu},
    {"eval perplexity", "Perplexity of a text, of a server or a model.", for_eval_perplexity,
     run_eval_perplexity},
    {"docs", "Prints a generated page of the manual.", for_docs, run_docs},
    {"version", "Prints the version.", none, run_version},
};

}  // namespace

std::span<const Verb> verbs() {
  return kVerbs;
}

int exit_code(const Status& status) {
  switch (status.code()) {
    case StatusCode::ok:
      return 0;
    case StatusCode::invalid_argument:
    case StatusCode::not_found:
    case StatusCode::unsupported:
    case StatusCode::resource_exhausted:
    case StatusCode::data_loss:
      return 2;
    default:
      return 1;
  }
}

}  // namespace bifocal::cli
