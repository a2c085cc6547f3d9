#include "server/metrics.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "base/check.h"

namespace bifocal::server {
namespace {

constexpr std::string_view kPrefix = "bifocal_";

// The suffixes are SGLang's where it has the metric.
constexpr MetricName kNames[] = {
    {"build_info", "gauge", "Always 1; the version is a label."},
    {"ready", "gauge", "1 while requests are accepted."},
    {"num_running_reqs", "gauge", "Requests in the running batch."},
    {"num_queue_reqs", "gauge", "Requests waiting for admission."},
    {"gen_throughput", "gauge", "Generated tokens per second, lately."},
    {"cache_hit_rate", "gauge", "Share of all prompt tokens that came from the prefix cache."},
    {"token_usage", "gauge", "Share of the KV pages that are not free to take, in the fuller of both pools."},
    {"full_token_usage", "gauge", "The same of the pool that keeps all tokens."},
    {"swa_token_usage", "gauge",
     "The same of the pool of layers with a sliding window; 0 without such layers."},
    {"num_used_tokens", "gauge", "Tokens held by running requests."},
    {"num_pages", "gauge", "KV pages."},
    {"kv_free_pages", "gauge", "KV pages that hold nothing."},
    {"kv_cached_pages", "gauge", "KV pages that only the prefix cache holds."},
    {"swa_num_pages", "gauge", "KV pages of layers with a sliding window."},
    {"swa_free_pages", "gauge", "Of these, pages that hold nothing."},
    {"swa_cached_pages", "gauge", "Of these, pages that only the prefix cache holds."},
    {"kv_available_tokens", "gauge", "Tokens that free pages hold room for."},
    {"kv_evictable_tokens", "gauge", "Tokens that only the prefix cache holds room for."},
    {"max_total_num_tokens", "gauge", "Tokens that the KV pool holds."},
    {"context_len", "gauge", "Longest prompt and output together."},
    {"page_size", "gauge", "Tokens per KV page."},
    {"last_step_age_seconds", "gauge", "Time since the engine's loop last came round."},
    {"http_open_connections", "gauge", "Open client connections."},
    {"prompt_tokens_total", "counter", "Prompt tokens processed, cached ones included."},
    {"cached_tokens_total", "counter", "Prompt tokens that came from the prefix cache."},
    {"generation_tokens_total", "counter", "Tokens generated."},
    {"num_requests_total", "counter", "Generation requests accepted."},
    {"num_finished_requests_total", "counter", "Engine requests that ran to their end."},
    {"num_aborted_requests_total", "counter", "Engine requests that were aborted."},
    {"num_failed_requests_total", "counter", "Engine requests that failed."},
    {"num_retracted_requests_total", "counter", "Times a running request was put back for lack of memory."},
    {"numeric_faults_total", "counter", "Rows whose logits were not finite."},
    {"engine_steps_total", "counter", "Steps of the engine."},
    {"attention_steps_total", "counter", "Steps that had this class and phase."},
    {"attention_plans_total", "counter", "Plans made for this class and phase."},
    {"attention_rows_total", "counter", "Query tokens of this class and phase."},
    {"attention_seconds_total", "counter", "Time spent in attention of this class and phase."},
    {"http_requests_total", "counter", "Answers by route and status."},
    {"rejected_requests_total", "counter", "Requests turned away, by reason."},
    {"aborts_total", "counter", "Generations cut short, by reason."},
    {"time_to_first_token_seconds", "histogram", "From the request's arrival to its first token."},
    {"inter_token_latency_seconds", "histogram", "Between tokens of one output."},
    {"e2e_request_latency_seconds", "histogram", "From the request's arrival to its last token."},
    {"prompt_tokens_histogram", "histogram", "Prompt tokens per request."},
    {"uncached_prompt_tokens_histogram", "histogram", "Prompt tokens per request that were not cached."},
    {"generation_tokens_histogram", "histogram", "Generated tokens per request."},
};

constexpr double kFirstTokenBounds[] = {.001, .002, .005, .01, .02, .05, 0.1, 0.2, 0.4, 0.6, 0.8, 1,
                                        2,    4,    6,    8,   10,  20,  40,  60,  80,  100, 200, 400};
constexpr double kInterTokenBounds[] = {.0001, .0002, .0005, .001, .002, .004, .006, .008, .010,
                                        .015,  .020,  .025,  .030, .035, .040, .060, .080, .1,
                                        .2,    .4,    .6,    .8,   1,    2,    4,    6,    8};
constexpr double kEndToEndBounds[] = {0.1, 0.2, 0.4, 0.6, 0.8, 1,   2,   4,   6,    8,    10,
                                      20,  40,  60,  80,  100, 200, 400, 600, 1200, 1800, 2400};
constexpr double kTokenCountBounds[] = {1,    10,   20,    50,    100,   200,    500,    1000,
                                        2000, 5000, 10000, 20000, 50000, 100000, 200000, 500000};

const MetricName& find_name(std::string_view name) {
  const auto* found =
      std::find_if(std::begin(kNames), std::end(kNames), [&](const MetricName& m) { return m.name == name; });
  BIFOCAL_CHECK(found != std::end(kNames));
  return *found;
}

void append_header(std::string& out, std::string_view name) {
  const MetricName& metric = find_name(name);
  fmt::format_to(std::back_inserter(out), "# HELP {0}{1} {2}\n# TYPE {0}{1} {3}\n", kPrefix, metric.name,
                 metric.help, metric.type);
}

template <class T>
void append_sample(std::string& out, std::string_view name, std::string_view labels, T value) {
  fmt::format_to(std::back_inserter(out), "{}{}{{{}}} {}\n", kPrefix, name, labels, value);
}

template <class T>
void append_metric(std::string& out, std::string_view name, std::string_view labels, T value) {
  append_header(out, name);
  append_sample(out, name, labels, value);
}

std::string escape_label(std::string_view text) {
  std::string out;
  for (char c : text) {
    if (c == '\\' || c == '"') out += '\\';
    if (c == '\n') {
      out += "\\n";
    } else {
      out += c;
    }
  }
  return out;
}

double share(uint64_t part, uint64_t whole) {
  return whole == 0 ? 0.0 : static_cast<double>(part) / static_cast<double>(whole);
}

}  // namespace

std::span<const MetricName> metric_names() {
  return kNames;
}

std::string_view to_string(RejectReason reason) {
  static constexpr std::string_view kText[kNumRejectReasons] = {
      "malformed", "unauthorized", "forbidden_host", "invalid", "queue_full", "not_ready", "limit"};
  return kText[static_cast<size_t>(reason)];
}

std::string_view to_string(AbortReason reason) {
  static constexpr std::string_view kText[kNumAbortReasons] = {"client_gone", "client_stalled", "deadline",
                                                               "requested", "shutdown"};
  return kText[static_cast<size_t>(reason)];
}

void Histogram::observe(double value, uint64_t times) {
  const auto bucket = std::lower_bound(bounds_.begin(), bounds_.end(), value) - bounds_.begin();
  counts_[static_cast<size_t>(bucket)] += times;
  sum_ += value * static_cast<double>(times);
  count_ += times;
}

void Histogram::append(std::string& out, std::string_view name, std::string_view labels) const {
  append_header(out, name);
  uint64_t cumulative = 0;
  for (size_t i = 0; i < counts_.size(); ++i) {
    cumulative += counts_[i];
    const std::string bound = i < bounds_.size() ? fmt::format("{}", bounds_[i]) : "+Inf";
    append_sample(out, fmt::format("{}_bucket", name), fmt::format("{},le=\"{}\"", labels, bound),
                  cumulative);
  }
  append_sample(out, fmt::format("{}_sum", name), labels, sum_);
  append_sample(out, fmt::format("{}_count", name), labels, count_);
}

void Histogram::write(JsonWriter& json) const {
  json.begin_object().key("bounds").begin_array();
  for (const double bound : bounds_) json.value(bound);
  json.end_array().key("counts").begin_array();
  for (const uint64_t count : counts_) json.value(count);
  json.end_array().end_object();
}

Metrics::Metrics()
    : time_to_first_token_(kFirstTokenBounds),
      inter_token_(kInterTokenBounds),
      end_to_end_(kEndToEndBounds),
      prompt_tokens_(kTokenCountBounds),
      uncached_prompt_tokens_(kTokenCountBounds),
      generation_tokens_(kTokenCountBounds) {}

void Metrics::request_started(bool streaming) {
  std::lock_guard lock(mutex_);
  ++requests_[streaming ? 1 : 0];
}

void Metrics::first_token(double seconds) {
  std::lock_guard lock(mutex_);
  time_to_first_token_.observe(seconds);
}

void Metrics::more_tokens(double seconds, int64_t tokens) {
  if (tokens <= 0) return;
  std::lock_guard lock(mutex_);
  inter_token_.observe(seconds / static_cast<double>(tokens), static_cast<uint64_t>(tokens));
}

void Metrics::request_finished(double seconds, int64_t prompt_tokens, int64_t cached_tokens,
                               int64_t completion_tokens) {
  std::lock_guard lock(mutex_);
  end_to_end_.observe(seconds);
  prompt_tokens_.observe(static_cast<double>(prompt_tokens));
  uncached_prompt_tokens_.observe(static_cast<double>(prompt_tokens - cached_tokens));
  generation_tokens_.observe(static_cast<double>(completion_tokens));
}

void Metrics::rejected(RejectReason reason) {
  std::lock_guard lock(mutex_);
  ++rejected_[static_cast<size_t>(reason)];
}

void Metrics::aborted(AbortReason reason) {
  std::lock_guard lock(mutex_);
  ++aborted_[static_cast<size_t>(reason)];
}

void Metrics::answered(std::string_view route, int status) {
  std::lock_guard lock(mutex_);
  ++answered_[{std::string(route), status}];
}

int Metrics::retry_after_s(int queued_requests, int running_requests) const {
  std::lock_guard lock(mutex_);
  if (end_to_end_.count() == 0) return 1;
  const double mean = end_to_end_.sum() / static_cast<double>(end_to_end_.count());
  const double wait = mean * queued_requests / std::max(1, running_requests);
  return static_cast<int>(std::clamp(std::ceil(wait), 1.0, 60.0));
}

void Metrics::render_engine(std::string& out, const MetricsSnapshot& s) const {
  const engine::EngineStats& stats = *s.stats;
  const std::string model = fmt::format("model_name=\"{}\"", escape_label(s.model_name));
  const int64_t page = s.page_size;
  append_metric(out, "num_running_reqs", model, stats.running_requests);
  append_metric(out, "num_queue_reqs", model, stats.queued_requests);
  append_metric(out, "gen_throughput", model, stats.last_gen_throughput);
  append_metric(out, "cache_hit_rate", model, share(stats.cached_prompt_tokens, stats.prompt_tokens));
  const auto usage = [](int64_t total, int64_t free, int64_t cached) {
    return share(static_cast<uint64_t>(std::max<int64_t>(0, total - free - cached)),
                 static_cast<uint64_t>(total));
  };
  const double full_usage = usage(stats.total_pages, stats.free_pages, stats.cached_pages);
  const double swa_usage = usage(stats.window_pages, stats.free_window_pages, stats.cached_window_pages);
  append_metric(out, "token_usage", model, std::max(full_usage, swa_usage));
  append_metric(out, "full_token_usage", model, full_usage);
  append_metric(out, "swa_token_usage", model, swa_usage);
  append_metric(out, "num_used_tokens", model, stats.used_tokens);
  append_metric(out, "num_pages", model, stats.total_pages);
  append_metric(out, "kv_free_pages", model, stats.free_pages);
  append_metric(out, "kv_cached_pages", model, stats.cached_pages);
  append_metric(out, "swa_num_pages", model, stats.window_pages);
  append_metric(out, "swa_free_pages", model, stats.free_window_pages);
  append_metric(out, "swa_cached_pages", model, stats.cached_window_pages);
  append_metric(out, "kv_available_tokens", model, stats.free_pages * page);
  append_metric(out, "kv_evictable_tokens", model, stats.cached_pages * page);
  append_metric(out, "max_total_num_tokens", model, s.max_total_tokens);
  append_metric(out, "context_len", model, s.context_length);
  append_metric(out, "page_size", model, page);
  append_metric(out, "last_step_age_seconds", model,
                static_cast<double>(s.now_ns - stats.last_step_ns) * 1e-9);
  append_metric(out, "prompt_tokens_total", model, stats.prompt_tokens);
  append_metric(out, "cached_tokens_total", model, stats.cached_prompt_tokens);
  append_metric(out, "generation_tokens_total", model, stats.generated_tokens);
  append_metric(out, "num_finished_requests_total", model, stats.finished_requests);
  append_metric(out, "num_aborted_requests_total", model, stats.aborted_requests);
  append_metric(out, "num_failed_requests_total", model, stats.failed_requests);
  append_metric(out, "num_retracted_requests_total", model, stats.retracted_requests);
  append_metric(out, "numeric_faults_total", model, stats.numeric_faults);
  append_metric(out, "engine_steps_total", model, stats.steps);
  for (const std::string_view name : {"attention_steps_total", "attention_plans_total",
                                      "attention_rows_total", "attention_seconds_total"}) {
    append_header(out, name);
    for (const auto& use : stats.attention) {
      const std::string labels = fmt::format("{},attention_class=\"{}\",phase=\"{}\",backend=\"{}\"", model,
                                             use.attention_class, use.phase, use.backend);
      if (name == "attention_steps_total") append_sample(out, name, labels, use.steps);
      if (name == "attention_plans_total") append_sample(out, name, labels, use.plans);
      if (name == "attention_rows_total") append_sample(out, name, labels, use.rows);
      if (name == "attention_seconds_total") append_sample(out, name, labels, use.seconds);
    }
  }
}

void Metrics::write_latencies(JsonWriter& json) const {
  std::lock_guard lock(mutex_);
  json.key("ttft");
  time_to_first_token_.write(json);
  json.key("itl");
  inter_token_.write(json);
}

std::string Metrics::render(const MetricsSnapshot& snapshot) const {
  std::string out;
  append_metric(out, "build_info", fmt::format("version=\"{}\"", BIFOCAL_VERSION), 1);
  append_metric(out, "ready", "", snapshot.ready ? 1 : 0);
  append_metric(out, "http_open_connections", "", snapshot.open_connections);
  if (snapshot.stats != nullptr) render_engine(out, snapshot);

  const std::string model = fmt::format("model_name=\"{}\"", escape_label(snapshot.model_name));
  std::lock_guard lock(mutex_);
  append_header(out, "num_requests_total");
  append_sample(out, "num_requests_total", model + ",is_streaming=\"false\"", requests_[0]);
  append_sample(out, "num_requests_total", model + ",is_streaming=\"true\"", requests_[1]);
  append_header(out, "rejected_requests_total");
  for (int i = 0; i < kNumRejectReasons; ++i) {
    const auto reason = static_cast<RejectReason>(i);
    append_sample(out, "rejected_requests_total", fmt::format("reason=\"{}\"", to_string(reason)),
                  rejected_[static_cast<size_t>(i)]);
  }
  append_header(out, "aborts_total");
  for (int i = 0; i < kNumAbortReasons; ++i) {
    const auto reason = static_cast<AbortReason>(i);
    append_sample(out, "aborts_total", fmt::format("reason=\"{}\"", to_string(reason)),
                  aborted_[static_cast<size_t>(i)]);
  }
  append_header(out, "http_requests_total");
  for (const auto& [key, count] : answered_) {
    append_sample(out, "http_requests_total",
                  fmt::format("route=\"{}\",status=\"{}\"", key.first, key.second), count);
  }
  time_to_first_token_.append(out, "time_to_first_token_seconds", model);
  inter_token_.append(out, "inter_token_latency_seconds", model);
  end_to_end_.append(out, "e2e_request_latency_seconds", model);
  prompt_tokens_.append(out, "prompt_tokens_histogram", model);
  uncached_prompt_tokens_.append(out, "uncached_prompt_tokens_histogram", model);
  generation_tokens_.append(out, "generation_tokens_histogram", model);
  return out;
}

}  // namespace bifocal::server
