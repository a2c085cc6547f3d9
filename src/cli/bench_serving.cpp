// bifocal bench serving: what a client of a server sees. bench offline: the engine alone.
#include "bench/serving_bench.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>

#include "base/descriptor_limit.h"
#include "bench/offline.h"
#include "cli/bench_support.h"
#include "cli/command.h"
#include "cli/local_server.h"

namespace bifocal::cli {
namespace {

bench::WorkloadOptions workload_options(const ServingBenchSettings& s) {
  bench::WorkloadOptions w;
  w.dataset = s.dataset;
  w.dataset_path = s.dataset_path;
  w.num_prompts = static_cast<int>(s.num_prompts);
  w.random_input_len = s.random_input_len;
  w.random_output_len = s.random_output_len;
  w.random_range_ratio = s.random_range_ratio;
  w.fixed_output_len = s.sharegpt_output_len;
  w.context_len = s.sharegpt_context_len;
  w.shared_prefix = {static_cast<int>(s.gsp_num_groups),
                     static_cast<int>(s.gsp_prompts_per_group),
                     s.gsp_system_prompt_len,
                     s.gsp_question_len,
                     s.gsp_output_len,
                     s.gsp_range_ratio,
                     s.gsp_ordered};
  w.as_ids = s.tokenize_prompt;
  w.seed = static_cast<uint32_t>(s.seed);
  return w;
}

bench::ServingBenchOptions serving_options(const Settings& settings) {
  const ServingBenchSettings& s = settings.serving;
  bench::ServingBenchOptions options;
  options.base_url = s.base_url;
  if (options.base_url.empty() && s.port > 0) options.base_url = fmt::format("http://{}:{}", s.host, s.port);
  options.backend = s.backend;
  options.api_key = s.api_key;
  options.tokenizer = settings.model.tokenizer_path;
  options.workload = workload_options(s);
  options.request_rate = s.request_rate;
  options.max_concurrency = static_cast<int>(s.max_concurrency);
  options.num_warmups = static_cast<int>(s.warmup_requests);
  options.stream = !s.disable_stream;
  options.ignore_eos = !s.disable_ignore_eos;
  options.temperature = s.temperature;
  options.extra_body = s.extra_request_body;
  options.flush_cache = s.flush_cache;
  options.profile = s.profile;
  options.ready_timeout_s = s.ready_timeout_s;
  return options;
}

// Requests that may be on their way at the same time.
int64_t most_requests(const bench::ServingBenchOptions& options) {
  if (options.max_concurrency > 0) return options.max_concurrency;
  const bench::SharedPrefixOptions& groups = options.workload.shared_prefix;
  return std::max<int64_t>(options.workload.num_prompts,
                           int64_t{groups.num_groups} * groups.prompts_per_group);
}

}  // namespace

Status run_bench_serving(const Settings& settings) {
  bench::ServingBenchOptions options = serving_options(settings);
  const std::string& model = settings.model.model_path;
  std::unique_ptr<LocalServer> local;
  if (!options.base_url.empty()) {
    options.model = model;
    if (options.tokenizer.empty() && std::filesystem::exists(model)) options.tokenizer = model;
  } else {
    if (model.empty()) {
      return invalid_argument("give --base-url (a server) or --model (served in this process)");
    }
    raise_descriptor_limit(static_cast<int>(2 * most_requests(options)));  // both ends are here
    BIFOCAL_ASSIGN_OR_RETURN(local, LocalServer::start(settings, most_requests(options)));
    options.base_url = local->url();
  }
  BIFOCAL_ASSIGN_OR_RETURN(const bench::ServingReport report, bench::run_serving_bench(options));
  fmt::print("{}", bench::serving_block(report));
  const ServingBenchSettings& s = settings.serving;
  if (s.output_file.empty()) return {};
  return append_line(s.output_file, bench::serving_json(report, s.output_details));
}

Status run_bench_offline(const Settings& settings) {
  const ServingBenchSettings& s = settings.serving;
  Settings here = settings;
  bench::WorkloadOptions workload_opts = workload_options(s);
  workload_opts.as_ids = true;
  BIFOCAL_ASSIGN_OR_RETURN(const auto tokenizer, bench::load_tokenizer(settings.model.tokenizer_path.empty()
                                                                           ? settings.model.model_path
                                                                           : settings.model.tokenizer_path));
  BIFOCAL_ASSIGN_OR_RETURN(const bench::Workload workload, bench::make_workload(workload_opts, *tokenizer));
  here.engine.max_queued_requests =
      std::max(here.engine.max_queued_requests, static_cast<int64_t>(workload.requests.size()));
  here.engine.time_device = true;
  BIFOCAL_ASSIGN_OR_RETURN(const Stack stack, load_stack(here));
  const bench::OfflineOptions options{static_cast<int>(s.max_concurrency), !s.disable_ignore_eos};
  if (!s.skip_warmup) {
    BIFOCAL_RETURN_IF_ERROR(
        bench::run_offline(*stack.engine, bench::warmup_requests(workload.requests), options).status());
    BIFOCAL_RETURN_IF_ERROR(stack.engine->flush_cache());
  }
  const auto before = stack.engine->stats();
  BIFOCAL_ASSIGN_OR_RETURN(const bench::LoadResult result,
                           bench::run_offline(*stack.engine, workload.requests, options));
  bench::OfflineReport report;
  report.backend = "engine";
  report.duration_s = result.duration_s;
  report.last_gen_throughput = bench::last_gen_throughput(result.timelines);
  for (const bench::RequestTimeline& timeline : result.timelines) {
    ++report.requests;
    report.input_tokens += timeline.prompt_len;
    report.output_tokens += timeline.output_len;
  }
  const auto after = stack.engine->stats();
  if (const uint64_t gaps = after->device_gaps - before->device_gaps; gaps > 0) {
    const int64_t idle_ns = after->device_idle_ns - before->device_idle_ns;
    report.mean_idle_s = static_cast<double>(idle_ns) * 1e-9 / static_cast<double>(gaps);
  }
  fmt::print("{}", bench::offline_block(report));
  if (s.output_file.empty()) return {};
  return append_line(s.output_file, bench::offline_json(report));
}

}  // namespace bifocal::cli
