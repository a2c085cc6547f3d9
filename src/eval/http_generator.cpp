#include "eval/http_generator.h"

#include <fmt/format.h>

#include <algorithm>
#include <optional>

#include "base/json.h"

namespace bifocal::eval {
namespace {

constexpr size_t kShownBytes = 300;  // of an error's body
constexpr JsonLimits kAnswerLimits{64, uint64_t{1} << 30, uint64_t{1} << 26};

std::string request_body(std::span<const Query> queries) {
  const bool as_text = queries.front().token_ids.empty();
  JsonWriter json;
  json.begin_object().key(as_text ? "text" : "input_ids").begin_array();
  for (const Query& query : queries) {
    if (as_text) {
      json.value(query.text);
      continue;
    }
    json.begin_array();
    for (const int32_t id : query.token_ids) json.value(id);
    json.end_array();
  }
  json.end_array().key("sampling_params").begin_array();
  for (const Query& query : queries) {
    json.begin_object();
    json.member("temperature", query.temperature).member("sampling_seed", query.seed);
    json.member("max_new_tokens", query.max_new_tokens);
    json.member("frequency_penalty", query.frequency_penalty);
    json.member("presence_penalty", query.presence_penalty);
    if (!query.stop.empty()) {
      json.key("stop").begin_array();
      for (const std::string& stop : query.stop) json.value(stop);
      json.end_array();
    }
    json.end_object();
  }
  json.end_array();
  if (std::any_of(queries.begin(), queries.end(),
                  [](const Query& q) { return q.prompt_logprob_start >= 0; })) {
    json.key("logprob_start_len").begin_array();
    for (const Query& query : queries) json.value(query.prompt_logprob_start);
    json.end_array();
  }
  json.member("return_logprob", true).member("stream", false).end_object();
  return json.take();
}

struct TokenEntry {
  std::optional<float> logprob;
  int32_t id = 0;
};

// [[logprob or null, id, ...], ...]; none where the field is absent.
Expected<std::optional<std::vector<TokenEntry>>> parse_entries(const JsonReader& info,
                                                               std::string_view field) {
  BIFOCAL_ASSIGN_OR_RETURN(const auto* values, info.get_array(field));
  std::optional<std::vector<TokenEntry>> entries;
  if (values == nullptr) return entries;
  entries.emplace();
  for (const JsonValue& value : *values) {
    const bool sound = value.is_array() && value.as_array().size() >= 2 &&
                       (value.as_array()[0].is_number() || value.as_array()[0].is_null()) &&
                       value.as_array()[1].is_int();
    if (!sound) return data_loss(info.path_of(field) + ": expected [logprob, id, ...]");
    const JsonValue& logprob = value.as_array()[0];
    TokenEntry& entry = entries->emplace_back();
    if (logprob.is_number()) entry.logprob = static_cast<float>(logprob.as_double());
    entry.id = static_cast<int32_t>(value.as_array()[1].as_int());
  }
  return entries;
}

// {"text": ..., "meta_info": {"output_token_logprobs": [[logprob, id, text], ...], "input_token_logprobs":
// ...}}
Expected<Answer> parse_answer(const JsonValue& value, const std::string& path) {
  Answer answer;
  BIFOCAL_ASSIGN_OR_RETURN(const JsonReader reader, JsonReader::open(value, path));
  BIFOCAL_ASSIGN_OR_RETURN(const auto text, reader.get_string("text"));
  answer.text = text.value_or("");
  BIFOCAL_ASSIGN_OR_RETURN(const auto info, reader.get_object("meta_info"));
  if (!info) return data_loss(path + ": no meta_info");
  BIFOCAL_ASSIGN_OR_RETURN(const auto cached, info->get_int("cached_tokens", 0, INT64_MAX));
  answer.cached_tokens = cached.value_or(0);
  BIFOCAL_ASSIGN_OR_RETURN(const auto inputs, parse_entries(*info, "input_token_logprobs"));
  if (inputs) {
    for (const TokenEntry& entry : *inputs) answer.prompt_logprobs.push_back(entry.logprob);
  }
  BIFOCAL_ASSIGN_OR_RETURN(const auto outputs, parse_entries(*info, "output_token_logprobs"));
  if (!outputs) return data_loss(path + ": no output_token_logprobs");
  for (const TokenEntry& entry : *outputs) {
    if (!entry.logprob) return data_loss(info->path_of("output_token_logprobs") + ": a token has no logprob");
    answer.logprobs.push_back(*entry.logprob);
    answer.token_ids.push_back(entry.id);
  }
  return answer;
}

}  // namespace

Expected<std::unique_ptr<HttpGenerator>> HttpGenerator::create(std::string_view base_url,
                                                               server::http::ClientOptions options) {
  BIFOCAL_ASSIGN_OR_RETURN(auto client, server::http::HttpClient::create(base_url, std::move(options)));
  return std::unique_ptr<HttpGenerator>(new HttpGenerator(std::move(client)));
}

Expected<std::string> HttpGenerator::post(std::string path, std::string body) {
  const std::string where = client_->url() + path;
  auto response = client_->fetch({"POST", std::move(path), std::move(body)});
  if (!response.ok()) return response.status().with_context(where);
  if (response->status == 200) return std::move(response->body);
  return unavailable(
      fmt::format("{} answered {}: {}", where, response->status, response->body.substr(0, kShownBytes)));
}

Expected<std::vector<Answer>> HttpGenerator::generate(std::span<const Query> queries) {
  std::vector<Answer> answers;
  if (queries.empty()) return answers;
  BIFOCAL_ASSIGN_OR_RETURN(const std::string body, post("/generate", request_body(queries)));
  const auto json = parse_json(body, kAnswerLimits);
  if (!json.ok()) return data_loss("/generate: " + json.status().message());
  if (!json->is_array() || json->as_array().size() != queries.size()) {
    return data_loss(fmt::format("/generate: expected a list of {} answers", queries.size()));
  }
  for (size_t i = 0; i < queries.size(); ++i) {
    auto answer = parse_answer(json->as_array()[i], fmt::format("[{}]", i));
    if (!answer.ok()) return data_loss("/generate: " + answer.status().message());
    answers.push_back(std::move(*answer));
  }
  return answers;
}

Expected<std::vector<int32_t>> HttpGenerator::encode(const std::string& text) {
  JsonWriter json;
  json.begin_object().member("prompt", text).end_object();
  BIFOCAL_ASSIGN_OR_RETURN(const std::string body, post("/tokenize", json.take()));
  const auto value = parse_json(body, kAnswerLimits);
  if (!value.ok()) return data_loss("/tokenize: " + value.status().message());
  const JsonValue* tokens = value->find("tokens");
  if (tokens == nullptr || !tokens->is_array()) return data_loss("/tokenize: expected a list of tokens");
  std::vector<int32_t> ids;
  for (const JsonValue& token : tokens->as_array()) {
    if (!token.is_int()) return data_loss("/tokenize: tokens: expected integers");
    ids.push_back(static_cast<int32_t>(token.as_int()));
  }
  return ids;
}

Status HttpGenerator::flush_cache() {
  return post("/flush_cache", "").status();
}

}  // namespace bifocal::eval
