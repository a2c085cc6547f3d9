#include "bench/serving_bench.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <optional>
#include <thread>

#include "base/clock.h"
#include "base/descriptor_limit.h"
#include "base/json.h"
#include "base/log.h"
#include "base/progress.h"

namespace bifocal::bench {
namespace {

using server::http::ClientResponse;
using server::http::HttpClient;

constexpr auto kRequestTimeout = std::chrono::hours(6);
constexpr auto kReadyPoll = std::chrono::milliseconds(200);
constexpr int64_t kWarmupTokens = 32;
constexpr size_t kShownBytes = 300;  // of an error's body

// What the server answers to a GET, as JSON.
Expected<JsonValue> get_json(HttpClient& client, const std::string& path) {
  const std::string where = client.url() + path;
  const auto response = client.fetch({"GET", path, ""});
  if (!response.ok()) return response.status().with_context(where);
  if (response->status != 200) {
    return unavailable(
        fmt::format("{} answered {}: {}", where, response->status, response->body.substr(0, kShownBytes)));
  }
  auto json = parse_json(response->body);
  if (!json.ok()) return json.status().with_context(where);
  return json;
}

Status post(HttpClient& client, std::string_view path, std::string_view why) {
  const auto response = client.fetch({"POST", std::string(path), "{}"});
  if (!response.ok()) return response.status().with_context(why);
  if (response->status == 200) return {};
  return unavailable(fmt::format("{}: {}{} answered {}: {}", why, client.url(), path, response->status,
                                 response->body.substr(0, kShownBytes)));
}

// The answer to GET /v1/models, once there is one.
Expected<JsonValue> wait_until_ready(HttpClient& client, double timeout_s) {
  const Clock& clock = SteadyClock::instance();
  const double deadline_s = clock.now_s() + timeout_s;
  bool told = false;
  while (true) {
    auto models = get_json(client, "/v1/models");
    if (models.ok() || clock.now_s() >= deadline_s) return models;
    if (!told) log_info("waiting up to {} s for {}", timeout_s, client.url());
    told = true;
    std::this_thread::sleep_for(kReadyPoll);
  }
}

Expected<std::string> first_model(const JsonValue& models) {
  const JsonValue* data = models.find("data");
  const bool listed = data != nullptr && data->is_array() && !data->as_array().empty();
  const JsonValue* id = listed ? data->as_array().front().find("id") : nullptr;
  if (id == nullptr || !id->is_string()) {
    return invalid_argument("the server names no model: give --served-model-name");
  }
  return id->as_string();
}

Expected<std::string> find_tokenizer(HttpClient& client, const ServingBenchOptions& options) {
  if (!options.tokenizer.empty()) return options.tokenizer;
  const auto info = get_json(client, "/get_model_info");
  const JsonValue* path = info.ok() ? info->find("tokenizer_path") : nullptr;
  if (path != nullptr && path->is_string() && std::filesystem::exists(path->as_string())) {
    return path->as_string();
  }
  return invalid_argument(
      "where is the server's tokenizer? Give --tokenizer: a tokenizer.json, or a directory with one");
}

Expected<JsonValue::Object> parse_extra_body(const std::string& text) {
  if (text.empty()) return JsonValue::Object();
  auto json = parse_json(text);
  if (!json.ok()) return json.status().with_context("--extra-request-body");
  if (!json->is_object()) return type_error("--extra-request-body", "object", *json);
  return std::move(json->as_object());
}

Status warm_up(HttpClient& client, const ServingApi& api, const AskOptions& ask, const Workload& workload,
               const ServingBenchOptions& options) {
  if (options.num_warmups == 0) return {};
  WorkloadRequest first = workload.requests.front();
  first.output_len = std::min(first.output_len, kWarmupTokens);
  const std::vector<WorkloadRequest> requests(static_cast<size_t>(options.num_warmups), first);
  LoadOptions load;
  load.max_concurrency = options.max_concurrency;
  const LoadResult result = run_load(client, api, ask, requests, workload.arrivals, load);
  for (const RequestTimeline& timeline : result.timelines) {
    if (timeline.ok) return {};
  }
  return unavailable("the warm-up failed: " + result.timelines.front().error);
}

// Whether it was started with --skip-tokenizer-init.
bool has_no_tokenizer(HttpClient& client) {
  const auto info = get_json(client, "/get_server_info");
  const JsonValue* skips = info.ok() ? info->find("skip_tokenizer_init") : nullptr;
  return skips != nullptr && skips->is_bool() && skips->as_bool();
}

Status check_outcome(const std::vector<RequestTimeline>& timelines) {
  size_t failed = 0;
  const RequestTimeline* example = nullptr;
  for (const RequestTimeline& timeline : timelines) {
    if (timeline.ok) continue;
    ++failed;
    if (example == nullptr) example = &timeline;
  }
  if (failed == 0) return {};
  const auto text =
      fmt::format("{} of {} requests failed; the first: {}", failed, timelines.size(), example->error);
  if (failed == timelines.size()) return unavailable(text);
  log_warn("{}", text);
  return {};
}

void add_server_info(HttpClient& client, ServingReport& report) {
  auto info = get_json(client, "/get_server_info");
  if (!info.ok()) return log_warn("{}", info.status().message());
  const JsonValue* states = info->find("internal_states");
  if (states != nullptr && states->is_array() && !states->as_array().empty()) {
    const JsonValue* length = states->as_array().front().find("avg_spec_accept_length");
    if (length != nullptr && length->is_number()) report.accept_length = length->as_double();
  }
  report.server_info = std::move(*info);
}

}  // namespace

Expected<std::unique_ptr<text::Tokenizer>> load_tokenizer(const std::string& path) {
  return text::Tokenizer::load(std::filesystem::is_directory(path) ? path + "/tokenizer.json" : path);
}

Expected<ServingReport> run_serving_bench(const ServingBenchOptions& options) {
  BIFOCAL_ASSIGN_OR_RETURN(const ServingBackend backend, find_serving_backend(options.backend));
  const ServingApi& api = *backend.api;
  if (options.workload.as_ids && !api.takes_ids) {
    return invalid_argument(fmt::format("--tokenize-prompt: {} takes no token ids", api.path));
  }
  AskOptions ask{options.model, options.stream, options.ignore_eos, options.temperature, {}};
  BIFOCAL_ASSIGN_OR_RETURN(ask.extra_body, parse_extra_body(options.extra_body));

  server::http::ClientOptions client_options;
  client_options.timeout = kRequestTimeout;
  if (!options.api_key.empty()) {
    client_options.headers.push_back({"Authorization", "Bearer " + options.api_key});
  }
  BIFOCAL_ASSIGN_OR_RETURN(const auto client,
                           HttpClient::create(options.base_url, std::move(client_options)));
  BIFOCAL_ASSIGN_OR_RETURN(const JsonValue models, wait_until_ready(*client, options.ready_timeout_s));
  if (ask.model.empty()) {
    BIFOCAL_ASSIGN_OR_RETURN(ask.model, first_model(models));
  }
  BIFOCAL_ASSIGN_OR_RETURN(const std::string tokenizer_path, find_tokenizer(*client, options));
  BIFOCAL_ASSIGN_OR_RETURN(const auto tokenizer, load_tokenizer(tokenizer_path));
  BIFOCAL_ASSIGN_OR_RETURN(const Workload workload, make_workload(options.workload, *tokenizer));
  const size_t count = workload.requests.size();
  const size_t most =
      options.max_concurrency > 0 ? std::min(count, static_cast<size_t>(options.max_concurrency)) : count;
  raise_descriptor_limit(static_cast<int>(most));

  BIFOCAL_RETURN_IF_ERROR(warm_up(*client, api, ask, workload, options));
  if (options.flush_cache) {
    BIFOCAL_RETURN_IF_ERROR(post(*client, backend.flush_path, "--flush-cache"));
  }
  if (options.profile) {
    BIFOCAL_RETURN_IF_ERROR(post(*client, "/start_profile", "--profile"));
  }
  LoadResult result;
  {
    Progress progress("serving", count, "requests");
    const LoadOptions load{options.request_rate, options.max_concurrency, [&] { progress.advance(1); },
                           backend.has_server_info && has_no_tokenizer(*client)};
    result = run_load(*client, api, ask, workload.requests, workload.arrivals, load);
  }
  if (options.profile) {
    BIFOCAL_RETURN_IF_ERROR(post(*client, "/stop_profile", "--profile"));
  }
  BIFOCAL_RETURN_IF_ERROR(check_outcome(result.timelines));

  ServingReport report;
  report.backend = options.backend;
  report.request_rate = options.request_rate;
  report.max_concurrency = options.max_concurrency;
  report.workload = options.workload;
  if (backend.has_server_info) add_server_info(*client, report);
  BIFOCAL_ASSIGN_OR_RETURN(report.metrics,
                           serving_metrics(result.timelines, result.duration_s, tokenizer.get()));
  report.timelines = std::move(result.timelines);
  return report;
}

}  // namespace bifocal::bench
