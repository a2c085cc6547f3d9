// Every documented field against missing, null, wrong types, and values at and beyond its bounds: the answer
// is the one in the table, and the engine never sees a value out of range.
#include <gtest/gtest.h>

#include <algorithm>
#include <cctype>
#include <functional>

#include "server/fields.h"
#include "server/server_fixture.h"

namespace bifocal::server {
namespace {

// What is accepted, besides null.
using Rule = std::function<bool(const JsonValue&)>;

Rule int_in(int64_t min, int64_t max) {
  return [=](const JsonValue& v) { return v.is_int() && v.as_int() >= min && v.as_int() <= max; };
}
Rule number_in(double min, double max, bool above_min = false) {
  return [=](const JsonValue& v) {
    return v.is_number() && v.as_double() >= min && v.as_double() <= max &&
           !(above_min && v.as_double() <= min);
  };
}
bool is_bool(const JsonValue& v) {
  return v.is_bool();
}
bool anything(const JsonValue&) {
  return true;
}
bool nothing(const JsonValue&) {
  return false;
}
bool not_given(const JsonValue& v) {
  return !is_given(&v);
}
Rule string_up_to(size_t bytes) {
  return [=](const JsonValue& v) { return v.is_string() && v.as_string().size() <= bytes; };
}
bool is_top_k(const JsonValue& v) {
  return v.is_int() && v.as_int() != 0 && v.as_int() >= -1 && v.as_int() <= INT32_MAX;
}
bool is_stop(const JsonValue& v) {
  const auto fine = [](const JsonValue& s) {
    return s.is_string() && !s.as_string().empty() && s.as_string().size() <= 256;
  };
  if (!v.is_array()) return fine(v);
  return v.as_array().size() <= 16 && std::all_of(v.as_array().begin(), v.as_array().end(), fine);
}
bool is_token_list(const JsonValue& v) {
  return v.is_array() && v.as_array().size() <= 256 &&
         std::all_of(v.as_array().begin(), v.as_array().end(), [](const JsonValue& id) {
           return id.is_int() && id.as_int() >= 0 && id.as_int() < FakeTokenizer::kVocab;
         });
}
bool is_logit_bias(const JsonValue& v) {
  if (!v.is_object() || v.as_object().size() > 1024) return false;
  for (const auto& [key, bias] : v.as_object()) {
    const bool canonical = !key.empty() && key.find_first_not_of("0123456789") == std::string::npos &&
                           (key == "0" || key[0] != '0') && key.size() < 6;
    if (!canonical || std::stoi(key) >= FakeTokenizer::kVocab) return false;
    if (!bias.is_number() || !(bias.as_double() >= -100 && bias.as_double() <= 100)) return false;
  }
  return true;
}
bool is_request_id(const JsonValue& v) {
  constexpr std::string_view kSigns = "-_.:";
  return v.is_string() && !v.as_string().empty() && v.as_string().size() <= 128 &&
         std::all_of(v.as_string().begin(), v.as_string().end(), [&](char c) {
           return std::isalnum(static_cast<unsigned char>(c)) != 0 ||
                  kSigns.find(c) != std::string_view::npos;
         });
}
bool is_string(const JsonValue& v) {
  return v.is_string();
}
bool is_object(const JsonValue& v) {
  return v.is_object();
}
bool is_text_modality(const JsonValue& v) {
  return v.is_array() && std::all_of(v.as_array().begin(), v.as_array().end(),
                                     [](const JsonValue& m) { return m == JsonValue("text"); });
}
// In /generate: one value, or a list with one for each prompt (here: one prompt), null for the default.
Rule each(Rule rule) {
  return [rule = std::move(rule)](const JsonValue& v) {
    if (!v.is_array()) return rule(v);
    return v.as_array().size() == 1 && (v.as_array()[0].is_null() || rule(v.as_array()[0]));
  };
}
bool is_text_format(const JsonValue& v) {
  return text_of(at(v, "type")) == "text";
}
bool is_effort(const JsonValue& v) {
  return v == JsonValue("none") || v == JsonValue("high");
}
bool is_tool_choice(const JsonValue& v) {
  return v == JsonValue("none") || v == JsonValue("auto");
}
bool is_kwargs(const JsonValue& v) {
  if (!v.is_object()) return false;
  for (const auto& [name, value] : v.as_object()) {
    if (name == "messages" || value.is_array() || value.is_object()) return false;
  }
  return true;
}
bool is_tools(const JsonValue& v) {
  return v.is_array() && std::all_of(v.as_array().begin(), v.as_array().end(), [](const JsonValue& tool) {
           return at(tool, "function", "name") == JsonValue("f");
         });
}

struct Field {
  std::string name;
  Rule accepts;
  std::vector<std::string> values;  // further ones, as JSON
};

// Values that every field is tried with. Those that are no JSON at all must be refused everywhere.
const std::vector<std::string>& common_values() {
  static const std::vector<std::string> values = {"null",
                                                  "true",
                                                  "false",
                                                  "\"\"",
                                                  "\"x\"",
                                                  "\"3\"",
                                                  "\"NaN\"",
                                                  "[]",
                                                  "{}",
                                                  "[1]",
                                                  "[null]",
                                                  "[[1]]",
                                                  "{\"a\":1}",
                                                  "[\"x\"]",
                                                  "-1",
                                                  "0",
                                                  "1",
                                                  "2",
                                                  "1.0",
                                                  "0.5",
                                                  "-0.5",
                                                  "1e2",
                                                  "16",
                                                  "17",
                                                  "2147483647",
                                                  "2147483648",
                                                  "-2147483648",
                                                  "9223372036854775807",
                                                  "-9223372036854775808",
                                                  "9223372036854775808",
                                                  "1e308",
                                                  "1e309",
                                                  "-1e309",
                                                  "NaN",
                                                  "Infinity",
                                                  "-",
                                                  "01",
                                                  "+1",
                                                  "'x'",
                                                  "\"\\ud800\"",
                                                  "\"\xff\"",
                                                  "\"\\u0000\"",
                                                  "tru",
                                                  "[1,]",
                                                  "{\"a\":1,\"a\":2}"};
  return values;
}

std::vector<Field> sampling_fields(bool native) {
  std::string names;
  for (int i = 0; i < 17; ++i)
    names += (i > 0 ? ",\"" : "\"") + std::string(1, static_cast<char>('a' + i)) + "\"";
  std::string many = "{";
  for (int i = 0; i < 1025; ++i) many += (i > 0 ? ",\"" : "\"") + std::to_string(i) + "\":0";
  return {
      {"temperature", number_in(0, 100), {"100", "100.5", "0.0000001"}},
      {"top_p", number_in(0, 1, true), {"1e-300", "1.0000001"}},
      {"min_p", number_in(0, 1), {}},
      {"top_k", is_top_k, {"0.01"}},
      {"repetition_penalty", number_in(0, 2, true), {"2.5"}},
      {"frequency_penalty", number_in(-2, 2), {"-2", "-2.5", "2.5"}},
      {"presence_penalty", number_in(-2, 2), {"-2", "-2.5", "2.5"}},
      {"n", int_in(1, 16), {"1000000000000000000"}},
      {"best_of", int_in(1, 1), {}},
      {"ignore_eos", is_bool, {}},
      {"skip_special_tokens", is_bool, {}},
      {"no_stop_trim", is_bool, {}},
      {"stop",
       is_stop,
       {"[\"a\",\"\"]", "[" + names + "]", "\"" + std::string(256, 'a') + "\"",
        "\"" + std::string(257, 'a') + "\""}},
      {"stop_token_ids", is_token_list, {"[0,299]", "[300]", "[-1]", "[1.0]", "[\"1\"]"}},
      {"logit_bias",
       is_logit_bias,
       {"{\"0\":1}", "{\"299\":-100}", "{\"300\":1}", "{\"-1\":1}", "{\"9223372036854775808\":1}",
        "{\"AI\":1}", "{\"1e3\":1}", "{\"007\":1}", "{\"1\":100.5}", "{\"1\":\"1\"}", "{\"\":1}",
        "{\"1\":null}", many + "}"}},
      {"stream_interval", int_in(1, INT32_MAX), {}},
      {native ? "sampling_seed" : "seed", int_in(INT64_MIN, INT64_MAX), {}},
  };
}

std::vector<Field> refused_fields() {
  std::vector<Field> fields;
  for (const FieldRule& rule : unsupported_fields())
    fields.push_back({std::string(rule.name), not_given, {}});
  for (const std::string_view name : internal_fields()) fields.push_back({std::string(name), nothing, {}});
  fields.push_back({"cache_policy", nothing, {}});
  fields.push_back({"moe_backend", nothing, {}});
  return fields;
}

std::vector<Field> request_fields() {
  std::vector<Field> fields = {
      {"stream", is_bool, {}},
      {"timeout_ms", int_in(1, INT32_MAX), {}},
      {"made_up", anything, {}},
      {"rid", is_request_id, {"\"a-b_c.d:0\"", "\"a b\"", "\"\\n\"", "\"" + std::string(129, 'a') + "\""}},
      {"cache_salt", string_up_to(256), {"\"" + std::string(257, 'a') + "\""}},
      {"extra_key", string_up_to(256), {}},
  };
  for (const IdleField& field : idle_fields()) {
    constexpr bool (*kRules[])(const JsonValue&) = {is_bool, is_string, is_object};
    fields.push_back({std::string(field.name), kRules[static_cast<size_t>(field.type)], {}});
  }
  return fields;
}

std::vector<Field> openai_fields() {
  return {{"model", is_string, {}},
          {"min_tokens", int_in(0, 16), {}},
          {"stream_options", nothing, {}},  // without stream
          {"response_format",
           is_text_format,
           {"{\"type\":\"text\"}", "{\"type\":\"json_object\"}", "{\"type\":7}"}}};
}

std::vector<Field> join(std::vector<std::vector<Field>> lists) {
  std::vector<Field> all;
  for (auto& list : lists) all.insert(all.end(), list.begin(), list.end());
  return all;
}

struct Endpoint {
  std::string path;
  std::string before, after;  // of the tried member, "," included
  std::vector<Field> fields;
};

void try_all(const Endpoint& endpoint) {
  FakeEngineOptions engine;
  engine.script = "ok";
  TestServer server(test_options(), engine);
  Client client(server.port());
  int cases = 0;
  for (const Field& field : endpoint.fields) {
    std::vector<std::string> values = common_values();
    values.insert(values.end(), field.values.begin(), field.values.end());
    for (const std::string& value : values) {
      const auto parsed = parse_json(value);
      const bool expected = parsed.ok() && (parsed->is_null() || field.accepts(*parsed));
      client.send(make_request("POST", endpoint.path,
                               endpoint.before + "\"" + field.name + "\":" + value + endpoint.after));
      const auto reply = client.receive_reply();
      ASSERT_TRUE(reply.has_value()) << field.name << ": " << value;
      // A short deadline is accepted and may pass.
      const int status = field.name == "timeout_ms" && reply->status == 504 ? 200 : reply->status;
      EXPECT_EQ(status, expected ? 200 : 400) << field.name << ": " << value << "\n" << reply->body;
      ++cases;
      if (reply->status == 200) continue;
      EXPECT_TRUE(at(reply->json(), "error", "message").is_string()) << reply->body;
      // Errors never repeat a client's bytes.
      EXPECT_EQ(reply->body.find("\\u0000"), std::string::npos);
      const JsonValue param = at(reply->json(), "error", "param");
      if (parsed.ok() && param.is_string()) {
        EXPECT_NE(param.as_string().find(field.name), std::string::npos) << reply->body;
      }
    }
  }
  EXPECT_GT(cases, 500);
  EXPECT_TRUE(eventually([&] { return server.engine.idle(); }));
  EXPECT_EQ(server.get("/health").status, 200);
}

TEST(FieldTable, Completions) {
  try_all({"/v1/completions", R"({"prompt":"a",)", "}",
           join({sampling_fields(false),
                 openai_fields(),
                 request_fields(),
                 refused_fields(),
                 {{"max_tokens", int_in(1, INT32_MAX), {}},
                  {"echo", is_bool, {}},
                  {"logprobs", int_in(0, 20), {"20", "21"}}}})});
}

TEST(FieldTable, Chat) {
  auto fields =
      join({sampling_fields(false),
            openai_fields(),
            request_fields(),
            refused_fields(),
            {{"max_tokens", int_in(1, INT32_MAX), {}},
             {"max_completion_tokens", int_in(1, INT32_MAX), {}},
             {"top_logprobs", int_in(0, 20), {"20", "21"}},
             {"modalities", is_text_modality, {"[\"text\"]", "[\"text\",\"audio\"]"}},
             {"separate_reasoning", is_bool, {}},
             {"stream_reasoning", is_bool, {}},
             {"add_generation_prompt", is_bool, {}},
             {"continue_final_message", [](const JsonValue& v) { return v == JsonValue(false); }, {}},
             {"reasoning_effort", is_effort, {"\"none\"", "\"high\"", "\"most\""}},
             {"tool_choice", is_tool_choice, {"\"none\"", "\"auto\"", "\"required\""}},
             {"tools",
              is_tools,
              {R"([{"type":"function","function":{"name":"f"}}])",
               R"([{"type":"function","function":{"name":7}}])", R"([{"function":{"name":""}}])",
               R"([{"function":{"name":"a b"}}])", R"([{"function":{}}])"}},
             {"chat_template_kwargs",
              is_kwargs,
              {R"({"messages":[]})", R"({"messages":1})", R"({"x":[]})", R"({"x":true,"y":"z"})"}}}});
  for (Field& field : fields) {
    // Without a maximum, the smallest number of tokens may be any.
    if (field.name == "min_tokens") field.accepts = int_in(0, 4096);
  }
  try_all({"/v1/chat/completions", R"({"messages":[{"role":"user","content":"a"}],"logprobs":true,)", "}",
           fields});
}

TEST(FieldTable, Generate) {
  auto fields = join({request_fields(),
                      refused_fields(),
                      {{"return_logprob", each(is_bool), {}},
                       {"return_text_in_logprobs", is_bool, {}},
                       {"logprob_start_len", each(int_in(-1, 0)), {}},
                       {"top_logprobs_num", each(int_in(0, 20)), {"20", "21", "[20]", "[1,2]"}},
                       {"sampling_params", each(is_object), {"[{}]", "[{},{}]"}}}});
  for (Field& field : fields) {
    if (field.name != "rid") continue;
    field.accepts = [](const JsonValue& v) {
      return v.is_array() ? v.as_array().size() == 1 && is_request_id(v.as_array()[0]) : is_request_id(v);
    };
  }
  try_all({"/generate", R"({"text":"a",)", "}", fields});
}

TEST(FieldTable, GenerateSamplingParams) {
  try_all({"/generate", R"({"text":"a","sampling_params":{)", "}}",
           join({sampling_fields(true),
                 refused_fields(),
                 {{"max_new_tokens", int_in(0, INT32_MAX), {}},
                  {"min_new_tokens", int_in(0, 128), {"128", "129"}}}})});
}

}  // namespace
}  // namespace bifocal::server
