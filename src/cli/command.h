// The commands of the binary: a table of verbs, each with its options and what it runs.
#pragma once

#include <span>
#include <string_view>
#include <vector>

#include "cli/option.h"
#include "cli/settings.h"

namespace bifocal::cli {

struct Verb {
  std::string_view name;     // "serve", "bench one-batch"
  std::string_view summary;  // one sentence
  std::vector<Option> (*options)(Settings& settings);
  Status (*run)(const Settings& settings);  // a failure is printed; exit code by exit_code()
};

std::span<const Verb> verbs();

// 0 ok, 2 the caller's mistake (flags, files), 1 anything else.
int exit_code(const Status& status);

Status run_serve(const Settings& settings);
Status run_generate(const Settings& settings);
Status run_chat(const Settings& settings);
Status run_backends(const Settings& settings);
Status run_explain(const Settings& settings);
Status run_tune(const Settings& settings);
Status run_bench_ceilings(const Settings& settings);
Status run_bench_gemm(const Settings& settings);
Status run_bench_attention(const Settings& settings);
Status run_bench_one_batch(const Settings& settings);
Status run_bench_conversations(const Settings& settings);
Status run_bench_mixed(const Settings& settings);
Status run_bench_serving(const Settings& settings);
Status run_bench_offline(const Settings& settings);
Status run_bench_compare(const Settings& settings);
Status run_eval_determinism(const Settings& settings);
Status run_eval_gsm8k(const Settings& settings);
Status run_eval_mmlu(const Settings& settings);
Status run_eval_perplexity(const Settings& settings);
Status run_docs(const Settings& settings);
Status run_version(const Settings& settings);

}  // namespace bifocal::cli
