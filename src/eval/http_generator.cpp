#include "eval/http_generator.h"

#include <fmt/format.h>

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
  json.end_array().member("return_logprob", true).member("stream", false).end_object();
  return json.take();
}

// {"text": ..., "output_ids": [...], "meta_info": {"output_token_logprobs": [[logprob, id, text], ...]}}
Expected<Answer> parse_answer(const JsonValue& value, const std::string& path) {
  Answer answer;
  BIFOCAL_ASSIGN_OR_RETURN(const JsonReader reader, JsonReader::open(value, path));
  BIFOCAL_ASSIGN_OR_RETURN(const auto text, reader.get_string("text"));
  answer.text = text.value_or("");
  BIFOCAL_ASSIGN_OR_RETURN(const auto info, reader.get_object("meta_info"));
  if (!info) return data_loss(path + ": no meta_info");
  BIFOCAL_ASSIGN_OR_RETURN(const auto cached, info->get_int("cached_tokens", 0, INT64_MAX));
  answer.cached_tokens = cached.value_or(0);
  BIFOCAL_ASSIGN_OR_RETURN(const auto* entries, info->get_array("output_token_logprobs"));
  if (entries == nullptr) return data_loss(path + ": no output_token_logprobs");
  for (const JsonValue& entry : *entries) {
    const bool sound = entry.is_array() && entry.as_array().size() >= 2 && entry.as_array()[0].is_number() &&
                       entry.as_array()[1].is_int();
    if (!sound) return data_loss(info->path_of("output_token_logprobs") + ": expected [logprob, id, ...]");
    answer.logprobs.push_back(static_cast<float>(entry.as_array()[0].as_double()));
    answer.token_ids.push_back(static_cast<int32_t>(entry.as_array()[1].as_int()));
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

Status HttpGenerator::flush_cache() {
  return post("/flush_cache", "").status();
}

}  // namespace bifocal::eval
