#include "server/native/generate.h"

#include <fmt/format.h>

#include <algorithm>
#include <unordered_set>

#include "server/fields.h"
#include "server/generation.h"
#include "server/ids.h"
#include "server/native/generate_shaper.h"
#include "server/prompts.h"
#include "server/request_fields.h"
#include "server/sampling.h"

namespace bifocal::server::native {
namespace {

// A field that is one value for all prompts, or a list with one for each.
Expected<std::vector<const JsonValue*>> per_prompt(const JsonReader& body, std::string_view name,
                                                   size_t num_prompts) {
  const JsonValue* value = body.find(name);
  if (value == nullptr || !value->is_array()) return std::vector<const JsonValue*>(num_prompts, value);
  if (value->as_array().size() != num_prompts) {
    return invalid_argument(fmt::format("{}: {} entries, expected one for each of {} prompts", name,
                                        value->as_array().size(), num_prompts));
  }
  std::vector<const JsonValue*> out;
  for (const JsonValue& item : value->as_array()) out.push_back(item.is_null() ? nullptr : &item);
  return out;
}

std::string item_path(const JsonReader& body, std::string_view name, size_t i) {
  const JsonValue* value = body.find(name);
  return value != nullptr && value->is_array() ? fmt::format("{}[{}]", name, i) : std::string(name);
}

Expected<int64_t> read_int(const JsonReader& body, std::string_view name, size_t i, const JsonValue* value,
                           int64_t min, int64_t max, int64_t otherwise) {
  if (value == nullptr) return otherwise;
  const std::string path = item_path(body, name, i);
  if (!value->is_int()) return type_error(path, "integer", *value);
  if (value->as_int() < min || value->as_int() > max) {
    return invalid_argument(fmt::format("{}: got {}, expected {} to {}", path, value->as_int(), min, max));
  }
  return value->as_int();
}

Expected<PromptBatch> parse_input(const JsonReader& body, const Call& call) {
  const JsonValue* text = body.find("text");
  const JsonValue* ids = body.find("input_ids");
  if ((text == nullptr) == (ids == nullptr)) {
    return invalid_argument("exactly one of text and input_ids must be given");
  }
  const RequestLimits& limits = call.services->options.limits;
  if (text != nullptr) return parse_prompts(*text, "text", {true, false}, *call.context, limits);
  return parse_prompts(*ids, "input_ids", {false, true}, *call.context, limits);
}

// What to call the prompts: rid (a string, or one per prompt), or fresh ids. A batch with one rid also has
// that name.
struct PromptNames {
  std::vector<std::string> ids;  // [prompt]
  std::vector<LiveName> names;
};

Expected<PromptNames> parse_names(const JsonReader& body, const RequestLimits& limits, bool is_batch,
                                  size_t num_prompts) {
  PromptNames out;
  const JsonValue* rid = body.find("rid");
  if (rid == nullptr || !rid->is_array()) {
    BIFOCAL_ASSIGN_OR_RETURN(const std::string id, parse_request_id(body, limits, ""));
    for (size_t i = 0; i < num_prompts; ++i) out.ids.push_back(is_batch ? fmt::format("{}_{}", id, i) : id);
    if (is_batch) out.names.push_back({id});
  } else {
    BIFOCAL_ASSIGN_OR_RETURN(const auto values, per_prompt(body, "rid", num_prompts));
    for (size_t i = 0; i < num_prompts; ++i) {
      const std::string path = fmt::format("rid[{}]", i);
      if (values[i] == nullptr || !values[i]->is_string())
        return invalid_argument(path + ": expected string");
      BIFOCAL_RETURN_IF_ERROR(check_request_id(values[i]->as_string(), path, limits));
      out.ids.push_back(values[i]->as_string());
    }
    if (std::unordered_set<std::string>(out.ids.begin(), out.ids.end()).size() != out.ids.size()) {
      return invalid_argument("rid: the same id twice");
    }
  }
  for (size_t i = 0; i < num_prompts; ++i) out.names.push_back({out.ids[i], static_cast<int>(i)});
  return out;
}

struct LogprobWishes {
  std::vector<const JsonValue*> wanted, start, top;
};

Expected<LogprobWishes> read_logprob_wishes(const JsonReader& body, size_t num_prompts) {
  LogprobWishes wishes;
  BIFOCAL_ASSIGN_OR_RETURN(wishes.wanted, per_prompt(body, "return_logprob", num_prompts));
  BIFOCAL_ASSIGN_OR_RETURN(wishes.start, per_prompt(body, "logprob_start_len", num_prompts));
  BIFOCAL_ASSIGN_OR_RETURN(wishes.top, per_prompt(body, "top_logprobs_num", num_prompts));
  return wishes;
}

Status apply_logprob_wishes(const JsonReader& body, const LogprobWishes& wishes, size_t i,
                            const RequestLimits& limits, engine::GenerateRequest& request) {
  const JsonValue* wanted = wishes.wanted[i];
  if (wanted != nullptr && !wanted->is_bool()) {
    return type_error(item_path(body, "return_logprob", i), "boolean", *wanted);
  }
  request.return_logprob = wanted != nullptr && wanted->as_bool();
  const auto prompt_tokens = static_cast<int64_t>(request.prompt_ids.size());
  BIFOCAL_ASSIGN_OR_RETURN(const int64_t start, read_int(body, "logprob_start_len", i, wishes.start[i], -1,
                                                         std::max<int64_t>(0, prompt_tokens - 1), -1));
  BIFOCAL_ASSIGN_OR_RETURN(
      const int64_t top, read_int(body, "top_logprobs_num", i, wishes.top[i], 0, limits.max_top_logprobs, 0));
  if (!request.return_logprob) return {};
  request.logprob_start_len = start;
  request.top_logprobs_num = static_cast<int>(top);
  return {};
}

Expected<std::vector<ParsedSampling>> parse_all_sampling(const JsonReader& body, const Call& call,
                                                         size_t num_prompts) {
  BIFOCAL_ASSIGN_OR_RETURN(const auto values, per_prompt(body, "sampling_params", num_prompts));
  const JsonValue none = JsonValue::Object{};
  std::vector<ParsedSampling> out;
  for (size_t i = 0; i < num_prompts; ++i) {
    if (i > 0 && values[i] == values[0]) {
      out.push_back(out[0]);
      continue;
    }
    BIFOCAL_ASSIGN_OR_RETURN(
        const JsonReader reader,
        JsonReader::open(values[i] == nullptr ? none : *values[i], item_path(body, "sampling_params", i)));
    BIFOCAL_RETURN_IF_ERROR(check_fields(reader));
    BIFOCAL_ASSIGN_OR_RETURN(ParsedSampling sampling, parse_sampling(reader, SamplingDialect::native,
                                                                     call.services->options, *call.context));
    out.push_back(std::move(sampling));
  }
  return out;
}

Expected<GenerationPlan> plan_generate(const JsonReader& body, const Call& call) {
  const ServerOptions& options = call.services->options;
  BIFOCAL_RETURN_IF_ERROR(check_fields(body));
  BIFOCAL_ASSIGN_OR_RETURN(PromptBatch batch, parse_input(body, call));
  const size_t num_prompts = batch.prompts.size();
  GenerationPlan plan;
  GenerateSettings settings;
  BIFOCAL_ASSIGN_OR_RETURN(const auto stream, body.get_bool("stream"));
  BIFOCAL_ASSIGN_OR_RETURN(const auto text_in_logprobs, body.get_bool("return_text_in_logprobs"));
  BIFOCAL_ASSIGN_OR_RETURN(plan.timeout_s, parse_timeout_s(body, call));
  BIFOCAL_ASSIGN_OR_RETURN(const uint64_t cache_namespace, parse_cache_namespace(body, call));
  BIFOCAL_ASSIGN_OR_RETURN(PromptNames names, parse_names(body, options.limits, batch.is_batch, num_prompts));
  BIFOCAL_ASSIGN_OR_RETURN(const auto sampling, parse_all_sampling(body, call, num_prompts));
  BIFOCAL_ASSIGN_OR_RETURN(const LogprobWishes wishes, read_logprob_wishes(body, num_prompts));

  std::vector<int> choices;
  for (size_t i = 0; i < num_prompts; ++i) {
    engine::GenerateRequest request;
    request.prompt_ids = batch.prompts[i].ids;
    request.sampling = sampling[i].params;
    request.cache_namespace = cache_namespace;
    BIFOCAL_RETURN_IF_ERROR(apply_logprob_wishes(body, wishes, i, options.limits, request));
    settings.prompts.push_back({names.ids[i], request.return_logprob, request.logprob_start_len,
                                request.top_logprobs_num, sampling[i].score_only});
    choices.push_back(request.sampling.n);
    settings.as_list = settings.as_list || request.sampling.n > 1;
    plan.seed_given.push_back(sampling[i].seed_given);
    plan.stream_intervals.push_back(sampling[i].stream_interval);
    plan.requests.push_back(std::move(request));
  }
  settings.as_list = settings.as_list || batch.is_batch;
  settings.incremental = options.incremental_streaming_output;
  settings.text_in_logprobs = text_in_logprobs.value_or(false);
  plan.names = std::move(names.names);
  plan.stream = stream.value_or(false);
  plan.shaper = std::make_unique<GenerateShaper>(std::move(settings), std::move(batch.prompts), choices,
                                                 call.context->tokenizer);
  return plan;
}

}  // namespace

void handle_generate(const Call& call) {
  handle_generation(call, plan_generate);
}

}  // namespace bifocal::server::native
